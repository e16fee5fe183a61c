//! What all stores have in common that are asked through the host, and answer later.
//!
//! Which questions are asked when is in [`admission`](super::admission), how often and what may have come of an attempt
//! in [`inquiry`](super::inquiry) and [`review`](super::review): the same for all of them. A store has a [`Dialect`](super::dialect::Dialect), the
//! bytes of its questions and answers, and says as a [`RemoteStore`] where it is and how it does.

use std::{fmt, time::Duration};

use super::{Answer, Call, StoreError, dialect::Heard, inquiry::Inquiry, pool::Pool, review::Review};
use crate::{record::Amendment, request::OperationId, time::Timestamp};

/// A store behind a cluster of the host's.
pub trait RemoteStore: fmt::Debug {
    /// The host's name of the cluster to call.
    fn cluster(&self) -> &str;

    /// How long a request waits for the store at most.
    fn timeout(&self) -> Duration;

    /// The way to the answer to `call`; or the answer, if it cannot be asked.
    ///
    /// # Errors
    /// The answer that says why there is no way.
    fn inquire(&self, call: &Call, now: Timestamp) -> Result<Inquiry, Answer>;

    /// The way for an operator to see an operation's record, or to change it.
    fn review(&self, operation: OperationId, amendment: Option<Amendment>) -> Review;

    /// What asks for all there is to know of the server.
    fn checkup(&self) -> Vec<u8>;

    /// What the reply to [`checkup`](Self::checkup) says that operators should know; nothing, if all is well.
    fn findings(&self, heard: Heard<'_>) -> Vec<Finding>;

    /// What is to be known if nothing was found.
    fn all_is_well(&self) -> String;

    /// What the same reply says of how much the store holds.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be asked.
    fn holdings(&self, heard: Heard<'_>) -> Result<Holdings, StoreError>;

    /// The persistent connections of a worker with this random number of its own; `None` if each call has a connection to itself.
    fn pool(&self, seed: u128) -> Option<Pool>;

    /// How operators find an operation by the beginning of its hash, which this filter cannot.
    fn how_to_find(&self) -> String;

    /// What is sent over a connection of its own to ask this question: the fields and the body.
    fn call<'a>(&self, question: &'a [u8]) -> (&'static [(&'static str, &'static str)], &'a [u8]) {
        // A raw cluster sends none of the fields. None asks Envoy for retries: for those it keeps a copy of each call,
        // which costs a twentieth of the throughput.
        (&[(":method", "POST"), (":path", "/"), (":authority", "store")], question)
    }

    /// Whether its replies say what time it is there.
    fn has_clock(&self) -> bool {
        false
    }

    /// Present if the store can tell which operations have not come to their end.
    fn lists(&self) -> Option<&dyn Lists> {
        None
    }

    /// Present if somebody has to remove what has expired.
    fn sweeps(&self) -> Option<&dyn Sweeps> {
        None
    }
}

/// A store that can tell which operations have not come to their end.
pub trait Lists {
    /// What asks for at most `most` of them, the oldest lease first.
    fn list(&self, most: u16) -> Vec<u8>;

    /// Those that a reply to [`list`](Self::list) names.
    ///
    /// # Errors
    /// [`StoreError`] if it names none.
    fn listed(&self, heard: Heard<'_>) -> Result<Vec<Listed>, StoreError>;
}

/// An operation that has not come to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Which.
    pub operation: OperationId,
    /// Whether its owner is at work. If not, nobody knows whether it ran.
    pub is_running: bool,
    /// What is left of its lease.
    pub lease_left: Duration,
    /// How long its record lives.
    pub lives: Duration,
}

/// A store in which somebody has to remove what has expired.
pub trait Sweeps {
    /// What removes a part of it.
    fn sweep(&self) -> Vec<u8>;

    /// Whether more is left, by the reply to [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// [`StoreError`] if it was not removed.
    fn is_more_left(&self, heard: Heard<'_>) -> Result<bool, StoreError>;
}

/// What an operator should know of a store. None of it keeps the filter from its work.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Finding {
    /// Something is to be set right.
    #[error("{0}")]
    Warning(String),
    /// The server does not say, which is no reason for an alarm.
    #[error("{0}")]
    Note(&'static str),
    /// It cannot be asked.
    #[error("{0}")]
    Failed(StoreError),
}

/// How much a store holds: all that it tells at a price that does not depend on how much it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holdings {
    /// Its name in the configuration.
    pub store: &'static str,
    /// Where in the server it is, and what that is called in the configuration.
    pub place: (&'static str, String),
    /// What the server says, each with its name.
    pub figures: Vec<(&'static str, u64)>,
    /// How operators count the records by their states, which takes a walk through all of them.
    pub count_by_state: String,
}
