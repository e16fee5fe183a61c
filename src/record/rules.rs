//! What a store keeps for one operation, and by which rules that may change.
//!
//! Every store applies these rules inside its own atomic step: the shared-data store within a
//! compare-and-swap, a remote store within its script. The rules themselves know no store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{owner::Owner, response::StoredResponse};
use crate::{
    config::Share,
    request::{Caller, Fingerprint, OperationId},
    time::Timestamp,
};

/// How often a lease is renewed in its time: two renewals may come late before it runs out.
pub(crate) const RENEWALS_PER_LEASE: u32 = 3;

/// Where a worker is told that an operation it has waiting requests for has ended.
///
/// The number means something to the host layer alone: on Envoy it is the token of a shared queue.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Mailbox(pub u32);

/// A request for the right to run an operation.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Claim {
    /// What is to be run at most once.
    pub operation: OperationId,
    /// Whose operation it is.
    pub caller: Caller,
    /// What the caller may have of a store that all share.
    pub share: Share,
    /// What this request asks for.
    pub fingerprint: Fingerprint,
    /// Who asks.
    pub owner: Owner,
    /// How long the claim outlives a dead owner.
    pub lease: Duration,
    /// How long the record is kept once the claim has ended.
    pub ttl: Duration,
    /// Whether an operation whose outcome is unknown may be run again once its lease has run out
    /// (`outcome.on_unknown: retry`).
    pub retry_unknown: bool,
    /// Who is to be told when an execution that is under way ends, if this request would wait for it
    /// (`duplicates.in_flight: wait`).
    pub watcher: Option<Mailbox>,
}

impl Claim {
    /// The record of a claim that is granted at `now`.
    #[must_use]
    pub fn granted(&self, now: Timestamp) -> Record {
        let lease_until = now.after(self.lease);
        Record {
            fingerprint: self.fingerprint,
            owner: self.owner,
            phase: Phase::InFlight { at: now, lease_until, expires: lease_until.after(self.ttl), watchers: Vec::new() },
        }
    }
}

/// What is known of an operation.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Record {
    /// What the first request asked for.
    pub fingerprint: Fingerprint,
    /// Whose execution it is.
    pub owner: Owner,
    /// How far the execution got.
    pub phase: Phase,
}

/// How far an execution got.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Phase {
    /// Claimed and running, for all that is known.
    InFlight {
        /// When it was claimed.
        at: Timestamp,
        /// When the owner counts as dead unless it renews.
        lease_until: Timestamp,
        /// When the record ends if nobody ever says how the execution ended.
        expires: Timestamp,
        /// The workers that have requests waiting for the end of it, each once.
        watchers: Vec<Mailbox>,
    },
    /// It may have run; no answer was seen.
    Unknown {
        /// When its owner said so.
        at: Timestamp,
        /// When a new execution may start, if the policy allows one.
        lease_until: Timestamp,
        /// When the record ends.
        expires: Timestamp,
    },
    /// It ran, and its response is kept.
    Completed {
        /// The status of the response.
        status: u16,
        /// When it completed.
        at: Timestamp,
        /// When the record ends.
        expires: Timestamp,
        /// Bytes that the stored response takes.
        size: u32,
    },
    /// It ran; its response is not kept ("tombstone").
    NotKept {
        /// The status of the response.
        status: u16,
        /// When it completed.
        at: Timestamp,
        /// When the record ends.
        expires: Timestamp,
    },
}

/// What a record decides on a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The claimant takes the operation; what was there is void.
    Take,
    /// Another execution has the operation.
    Refuse(Standing),
    /// The fingerprint is another one: the key is reused for something else.
    KeyReused,
    /// An execution is under way, and the claimant's worker is to be told of its end: the record is to
    /// become this one.
    Watch {
        /// With the worker among the watchers.
        record: Record,
        /// What is left of the execution's lease.
        lease_left: Duration,
    },
}

/// How far an execution got, as it counts now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Standing {
    /// It ran, and its response is kept.
    Completed {
        /// The status of the response.
        status: u16,
    },
    /// Its owner is alive.
    InFlight {
        /// What is left of its lease.
        lease_left: Duration,
    },
    /// Its owner's lease ran out without a word: it counts as unknown.
    Lapsed,
    /// It ran; its response is not kept.
    NotKept {
        /// The status of the response.
        status: u16,
    },
    /// Its owner said that it may have run.
    Unknown {
        /// How long until its lease has run out; zero if it has.
        lease_left: Duration,
    },
}

/// How an execution ended, with what there is of its response.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ending<Response = StoredResponse> {
    /// The upstream answered, and its answer is to be replayed.
    Completed(Response),
    /// The upstream answered with this status, and the answer is not to be kept.
    NotKept(u16),
    /// It certainly or declaredly did not happen.
    Released,
    /// It may have happened.
    Unknown,
}

impl Ending {
    /// The end of an execution with this answer, which is kept if it can be sent again.
    #[must_use]
    pub fn answered(response: StoredResponse) -> Self {
        if response.is_well_formed() { Self::Completed(response) } else { Self::NotKept(response.status) }
    }
}

/// A response that is kept apart from its record.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeptResponse {
    /// Its status.
    pub status: u16,
    /// Bytes that it takes.
    pub size: u32,
}

/// A write was refused because the claim belongs to another owner, or to nobody any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the claim is no longer this owner's")]
pub struct Fenced;

impl Record {
    /// Whether the record has ended, so that the operation counts as never seen.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.phase.expires() <= now
    }

    /// Whether its owner may be running it still: such a record is never evicted.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        matches!(self.phase, Phase::InFlight { lease_until, .. } if lease_until > now)
    }

    /// How far the execution got, as it counts at `now`.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.phase {
            Phase::InFlight { lease_until, .. } if lease_until <= now => Standing::Lapsed,
            Phase::InFlight { lease_until, .. } => Standing::InFlight { lease_left: lease_until.since(now) },
            Phase::Unknown { lease_until, .. } => Standing::Unknown { lease_left: lease_until.since(now) },
            Phase::Completed { status, .. } => Standing::Completed { status },
            Phase::NotKept { status, .. } => Standing::NotKept { status },
        }
    }

    /// The decision on `claim` at `now`.
    #[must_use]
    pub fn admit(&self, claim: &Claim, now: Timestamp) -> Decision {
        if self.is_expired(now) {
            return Decision::Take;
        }
        if self.fingerprint != claim.fingerprint {
            return Decision::KeyReused;
        }
        match self.standing(now) {
            Standing::InFlight { lease_left } => match claim.watcher.and_then(|watcher| self.watched_by(watcher)) {
                Some(record) => Decision::Watch { record, lease_left },
                None => Decision::Refuse(Standing::InFlight { lease_left }),
            },
            // An owner takes over from another one. Its own claim comes again only as a late copy.
            Standing::Lapsed | Standing::Unknown { lease_left: Duration::ZERO }
                if claim.retry_unknown && self.owner != claim.owner =>
            {
                Decision::Take
            }
            standing => Decision::Refuse(standing),
        }
    }

    /// The record with the owner's lease extended to `lease` from `now`.
    ///
    /// # Errors
    /// [`Fenced`] if `owner` does not hold a running claim on it.
    pub fn renew(&self, owner: Owner, lease: Duration, ttl: Duration, now: Timestamp) -> Result<Self, Fenced> {
        self.check_owner(owner)?;
        let Phase::InFlight { at, .. } = self.phase else { return Err(Fenced) };
        let lease_until = now.after(lease);
        let watchers = self.watchers().to_vec();
        Ok(self.at_phase(Phase::InFlight { at, lease_until, expires: lease_until.after(ttl), watchers }))
    }

    /// What is left of the record after `owner` said how its execution ended; `None` if nothing is.
    ///
    /// # Errors
    /// [`Fenced`] if `owner` does not hold a running claim on it.
    pub fn settle(
        &self,
        owner: Owner,
        ending: Ending<KeptResponse>,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Option<Self>, Fenced> {
        self.check_owner(owner)?;
        let Phase::InFlight { lease_until, .. } = self.phase else { return Err(Fenced) };
        let expires = now.after(ttl);
        let phase = match ending {
            Ending::Released => return Ok(None),
            Ending::Completed(KeptResponse { status, size }) => Phase::Completed { status, at: now, expires, size },
            Ending::NotKept(status) => Phase::NotKept { status, at: now, expires },
            Ending::Unknown => Phase::Unknown { at: now, lease_until, expires: expires.max(lease_until) },
        };
        Ok(Some(self.at_phase(phase)))
    }

    /// The record without its response, if it has one: what byte pressure leaves of it.
    #[must_use]
    pub fn without_response(&self) -> Option<Self> {
        match self.phase {
            Phase::Completed { status, at, expires, .. } => Some(self.at_phase(Phase::NotKept { status, at, expires })),
            Phase::InFlight { .. } | Phase::NotKept { .. } | Phase::Unknown { .. } => None,
        }
    }

    /// How long ago an execution that is in flight was claimed, however often its lease was renewed since; zero for any
    /// other record.
    #[must_use]
    pub fn running_for(&self, now: Timestamp) -> Duration {
        match self.phase {
            Phase::InFlight { at, .. } => now.since(at),
            Phase::Completed { .. } | Phase::NotKept { .. } | Phase::Unknown { .. } => Duration::ZERO,
        }
    }

    /// The workers to be told when the execution ends.
    #[must_use]
    pub fn watchers(&self) -> &[Mailbox] {
        match &self.phase {
            Phase::InFlight { watchers, .. } => watchers,
            Phase::Completed { .. } | Phase::NotKept { .. } | Phase::Unknown { .. } => &[],
        }
    }

    /// The record of the same execution that got so far.
    pub(super) fn at_phase(&self, phase: Phase) -> Self {
        Self { fingerprint: self.fingerprint, owner: self.owner, phase }
    }

    /// The record with one more watcher; `None` if it is one already.
    fn watched_by(&self, watcher: Mailbox) -> Option<Self> {
        let mut record = self.clone();
        match &mut record.phase {
            Phase::InFlight { watchers, .. } if !watchers.contains(&watcher) => watchers.push(watcher),
            _ => return None,
        }
        Some(record)
    }

    /// Refuses every owner but the one whose running claim this is.
    pub(crate) fn check_owner(&self, owner: Owner) -> Result<(), Fenced> {
        // A lapsed lease alone fences nobody: as long as no other owner took over, the late owner
        // knows more than anyone else, and its word makes an unknown outcome certain.
        match self.phase {
            Phase::InFlight { .. } if self.owner == owner => Ok(()),
            _ => Err(Fenced),
        }
    }
}

impl Phase {
    /// When the record ends.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        match *self {
            Self::Completed { expires, .. }
            | Self::InFlight { expires, .. }
            | Self::NotKept { expires, .. }
            | Self::Unknown { expires, .. } => expires,
        }
    }

    /// Since when the record has stood as it is; the order in which a full table evicts.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        match *self {
            Self::Completed { at, .. } | Self::NotKept { at, .. } => at,
            Self::InFlight { lease_until, .. } | Self::Unknown { lease_until, .. } => lease_until,
        }
    }

    /// Bytes of the stored response.
    #[must_use]
    pub fn response_size(&self) -> u32 {
        match *self {
            Self::Completed { size, .. } => size,
            Self::InFlight { .. } | Self::NotKept { .. } | Self::Unknown { .. } => 0,
        }
    }
}
