//! What an operator may see of a record, and make of it.
//!
//! These are the rules of the admin role; a store applies them as it applies those of owners, in one atomic step. An
//! owner whose record was amended is fenced: whatever it says afterwards changes nothing.

use std::time::Duration;

use super::{Mailbox, Phase, Record};
use crate::time::Timestamp;

/// What an operator sees of a record: never what a caller sent or got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// How far the execution got.
    pub state: State,
    /// For how long it has stood so; of an execution under way, since its claim.
    pub age: Duration,
    /// What is left of the owner's lease.
    pub lease_left: Duration,
    /// When the record ends.
    pub expires: Timestamp,
    /// Bytes that the stored response takes, fields and body.
    pub response_bytes: u64,
}

/// How far an execution got, as it counts now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// It ran, and its response is kept.
    Completed {
        /// The status of the response.
        status: u16,
    },
    /// Its owner is alive.
    InFlight,
    /// Its owner's lease ran out without a word: it counts as unknown.
    Lapsed,
    /// It ran; its response is not kept.
    NotKept {
        /// The status of the response.
        status: u16,
    },
    /// Its owner said that it may have run.
    Unknown,
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
pub enum Objection {
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
    Refused(Objection),
}

/// What an amendment leaves of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Remains {
    Nothing,
    Tombstone { status: u16 },
}

impl View {
    /// What `amendment` leaves of the record.
    ///
    /// # Errors
    /// [`Objection`] if the rules are against it.
    pub(crate) fn amend(&self, amendment: Amendment) -> Result<Remains, Objection> {
        let is_alive = !self.lease_left.is_zero() && !amendment.force;
        let alive = Err(Objection::Alive { lease_left: self.lease_left });
        match (amendment.verb, self.state) {
            (Verb::Release, State::Completed { .. } | State::NotKept { .. }) => Err(Objection::Ran),
            // Nobody renews the lease of an unknown outcome, but as long as it lasts the service may be at work.
            (Verb::Release | Verb::Purge, State::InFlight | State::Unknown)
            | (Verb::NotKept { .. }, State::InFlight)
                if is_alive =>
            {
                alive
            }
            (Verb::Release | Verb::Purge, _) => Ok(Remains::Nothing),
            (Verb::NotKept { .. }, State::NotKept { .. }) => Err(Objection::AlreadyNotKept),
            (Verb::NotKept { status }, State::Completed { status: known }) if status != known => {
                Err(Objection::OtherStatus { status: known })
            }
            (Verb::NotKept { status }, _) => Ok(Remains::Tombstone { status }),
        }
    }
}

impl Record {
    /// What an operator sees of it at `now`.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> View {
        let (state, at, lease_left) = match self.phase {
            Phase::InFlight { at, lease_until, .. } if lease_until > now => {
                (State::InFlight, at, lease_until.since(now))
            }
            // Since the moment at which nobody knew any more.
            Phase::InFlight { lease_until, .. } => (State::Lapsed, lease_until, Duration::ZERO),
            Phase::Unknown { at, lease_until, .. } => (State::Unknown, at, lease_until.since(now)),
            Phase::Completed { status, at, .. } => (State::Completed { status }, at, Duration::ZERO),
            Phase::NotKept { status, at, .. } => (State::NotKept { status }, at, Duration::ZERO),
        };
        View {
            state,
            age: now.since(at),
            lease_left,
            expires: self.phase.expires(),
            response_bytes: u64::from(self.phase.response_size()),
        }
    }

    /// What is left of it after `amendment`; `None` if nothing is. It ends when it would have ended.
    ///
    /// # Errors
    /// [`Objection`] if the rules are against it.
    pub fn amended(&self, amendment: Amendment, now: Timestamp) -> Result<Option<Self>, Objection> {
        Ok(match self.view(now).amend(amendment)? {
            Remains::Nothing => None,
            Remains::Tombstone { status } => {
                let phase = Phase::NotKept { status, at: now, expires: self.phase.expires() };
                Some(Self { phase, ..self.clone() })
            }
        })
    }
}
