//! What an operator may see of a record, and make of it.
//!
//! These are the rules of the admin role; a store applies them as it applies those of owners, in one atomic step. An
//! owner whose record was amended is fenced: whatever it says afterwards changes nothing.

use std::time::Duration;

use super::rules::{Ending, Mailbox, Phase, Record, Standing};
use crate::time::Timestamp;

/// What an operator sees of a record: never what a caller sent or got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// How far the execution got.
    pub standing: Standing,
    /// For how long it has stood so; of an execution under way, since its claim.
    pub age: Duration,
    /// When the record ends.
    pub expires: Timestamp,
    /// Bytes that the stored response takes, fields and body.
    pub response_bytes: u64,
}

/// What an operator wants of one record.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Amendment {
    /// What it is to become.
    pub verb: Verb,
    /// Also if its owner may still be at work, so that the operation may run twice.
    pub force: bool,
}

/// What a record is to become.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// It ran, with this status; its response is not kept.
    NotKept {
        /// The status that a retry is told.
        status: u16,
    },
    /// Nothing of it is to be known, whatever it was: a retry runs.
    Purge,
    /// It did not run: a retry runs.
    Release,
}

/// Why a record is not amended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Conflict {
    /// Its lease has not run out: its owner, or the service, may still be at work.
    Alive {
        /// What is left of the lease.
        lease_left: Duration,
    },
    /// Its response is not kept as it is.
    AlreadyNotKept,
    /// It ran, so that it cannot be released.
    Ran,
    /// It ran with another status.
    OtherStatus {
        /// The status that is known.
        status: u16,
    },
}

/// What became of an amendment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Amended {
    /// The record is what it was to become.
    Done {
        /// What it was before.
        before: View,
        /// The workers that have requests waiting for its end.
        watchers: Vec<Mailbox>,
    },
    /// There is no record.
    NoRecord,
    /// The rules are against it; nothing was changed.
    Refused(Conflict),
}

impl View {
    /// What is left of the owner's lease.
    #[must_use]
    pub fn lease_left(&self) -> Duration {
        match self.standing {
            Standing::InFlight { lease_left } | Standing::Unknown { lease_left } => lease_left,
            Standing::Completed { .. } | Standing::Lapsed | Standing::NotKept { .. } => Duration::ZERO,
        }
    }

    /// How the execution ends by `amendment`.
    ///
    /// # Errors
    /// [`Conflict`] if the rules are against it.
    pub(crate) fn amend<Response>(&self, amendment: Amendment) -> Result<Ending<Response>, Conflict> {
        let lease_left = self.lease_left();
        let is_alive = !lease_left.is_zero() && !amendment.force;
        match (amendment.verb, self.standing) {
            (Verb::Release, Standing::Completed { .. } | Standing::NotKept { .. }) => Err(Conflict::Ran),
            // Nobody renews the lease of an unknown outcome, but as long as it lasts the service may be at work.
            (Verb::Release | Verb::Purge, Standing::InFlight { .. } | Standing::Unknown { .. })
            | (Verb::NotKept { .. }, Standing::InFlight { .. })
                if is_alive =>
            {
                Err(Conflict::Alive { lease_left })
            }
            (Verb::Release | Verb::Purge, _) => Ok(Ending::Released),
            (Verb::NotKept { .. }, Standing::NotKept { .. }) => Err(Conflict::AlreadyNotKept),
            (Verb::NotKept { status }, Standing::Completed { status: known }) if status != known => {
                Err(Conflict::OtherStatus { status: known })
            }
            (Verb::NotKept { status }, _) => Ok(Ending::NotKept(status)),
        }
    }
}

impl Record {
    /// What an operator sees of it at `now`.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> View {
        let standing = self.standing(now);
        let since = match self.phase {
            // Since the moment at which nobody knew any more.
            Phase::InFlight { lease_until, .. } if standing == Standing::Lapsed => lease_until,
            Phase::Completed { at, .. }
            | Phase::InFlight { at, .. }
            | Phase::NotKept { at, .. }
            | Phase::Unknown { at, .. } => at,
        };
        View {
            standing,
            age: now.since(since),
            expires: self.phase.expires(),
            response_bytes: u64::from(self.phase.response_size()),
        }
    }

    /// What is left of it after `amendment`; `None` if nothing is. It ends when it would have ended.
    ///
    /// # Errors
    /// [`Conflict`] if the rules are against it.
    pub fn amended(&self, amendment: Amendment, now: Timestamp) -> Result<Option<Self>, Conflict> {
        let expires = self.phase.expires();
        Ok(match self.view(now).amend::<()>(amendment)? {
            Ending::NotKept(status) => Some(self.at_phase(Phase::NotKept { status, at: now, expires })),
            Ending::Completed(()) | Ending::Released | Ending::Unknown => None,
        })
    }
}
