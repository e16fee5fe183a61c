//! What all stores have in common that are asked through the host, and answer later.
//!
//! Which questions are asked when is in [`admission`](super::admission), how often and what may have come of an attempt
//! in [`inquiry`](super::inquiry) and [`review`](super::review): the same for all of them. A store has a [`Dialect`], the
//! bytes of its questions and answers, and says as a [`RemoteStore`] where it is and how it does.

use std::{fmt, time::Duration};

use super::{
    Answer, Call, Ending, StoreError,
    inquiry::{Inquiry, Question},
    pool::Pool,
    review::{Review, Seen},
};
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

    /// Whether its replies are to be heard with the time that they bear.
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
    /// What asks for at most so many of them, the oldest lease first.
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

/// The questions to a store, and its answers, in its own bytes.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// Why there is no reply at all, in the store's own words.
    fn silent(&self, silence: Silence) -> StoreError;

    /// The same, and whether the store may have done what it was asked: not if nobody asked it.
    fn silence(&self, silence: Silence) -> Failure {
        Failure { error: self.silent(silence), is_doubtful: silence != Silence::NotMade }
    }

    /// What a reply to a question says.
    ///
    /// # Errors
    /// [`Failure`] if it is no answer.
    fn answer(&self, asked: &Asked<'_>, reply: Reply<'_>, now: Timestamp) -> Result<Said, Failure>;

    /// What asks for an operation's record.
    fn look(&self, operation: &OperationId) -> Vec<u8>;

    /// The record that a reply to [`look`](Self::look) shows; `None` if there is none.
    ///
    /// # Errors
    /// [`Failure`] if it shows nothing that can be read.
    fn seen(&self, operation: &OperationId, reply: Reply<'_>, now: Timestamp) -> Result<Option<Seen>, Failure>;

    /// What makes this of a record, if it is still the one that was seen. Repeated, it changes nothing more.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be asked for.
    fn amend(
        &self,
        operation: &OperationId,
        seen: &Seen,
        ending: &Ending,
        force: bool,
        now: Timestamp,
    ) -> Result<Vec<u8>, StoreError>;

    /// Whether the record is as [`amend`](Self::amend) was to make it.
    ///
    /// # Errors
    /// [`Failure`] if the reply does not say.
    fn amended(&self, reply: Reply<'_>) -> Result<bool, Failure>;
}

/// What a reply is to.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What is to be known.
    pub question: &'a Question,
    /// About which operation.
    pub operation: &'a OperationId,
    /// How long a claim for it outlives its owner.
    pub lease: Duration,
    /// What was sent.
    pub bytes: &'a [u8],
}

/// What a reply says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// All that is to be known.
    Answer(Answer),
    /// That something else is to be asked for that.
    AskNext {
        /// What to send.
        bytes: Vec<u8>,
        /// Whether the store may have done already what it was asked.
        may_have_worked: bool,
    },
}

/// What passes over a persistent connection.
pub trait Wire: Dialect {
    /// How a connection begins: what is sent first, and what hears the server until it is welcome. `random` is another
    /// number for each connection, which nobody can guess.
    fn login(&self, random: u128) -> (Vec<u8>, Box<dyn Login>);

    /// How many bytes the first reply takes.
    ///
    /// # Errors
    /// [`WireError`] if it is not all there, or cannot be one.
    fn reply_length(&self, bytes: &[u8]) -> Result<usize, WireError>;

    /// Whether this reply says that another server is to be asked.
    fn is_farewell(&self, reply: &[u8]) -> bool;

    /// Why there is no connection, by what the host says.
    fn unreachable(&self, text: &[u8]) -> StoreError;
}

/// What a server and a new connection say to each other before anything is asked.
pub trait Login: fmt::Debug + Send + Sync {
    /// Takes in the bytes that have come and were not taken yet; says how many of them it takes, and how it goes on.
    ///
    /// # Errors
    /// [`Unwelcome`] if the server does not let it in.
    fn hear(&mut self, bytes: &[u8]) -> Result<(usize, LoginStep), Unwelcome>;

    /// A copy.
    fn boxed(&self) -> Box<dyn Login>;
}

impl Clone for Box<dyn Login> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// How a login goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LoginStep {
    /// It hears on: what is left, or more if it took nothing of that.
    Listen,
    /// This is to be sent.
    Say(Vec<u8>),
    /// Questions may be asked.
    Welcome,
}

/// The server does not let a connection in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unwelcome {
    /// Why.
    pub error: StoreError,
    /// Whether another one of the cluster may at this moment.
    pub others_may_welcome: bool,
}

impl From<StoreError> for Unwelcome {
    /// Nor would others.
    fn from(error: StoreError) -> Self {
        Self { error, others_may_welcome: false }
    }
}

/// Why bytes are not what they are to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WireError {
    /// The rest is missing.
    Incomplete,
    /// They are something else.
    Failed(StoreError),
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard<'a> {
    /// The host did not make the call.
    NotMade,
    /// It ended without anything: too late, or reset.
    Nothing,
    /// A persistent connection has brought no answer.
    Failed(Failure),
    /// The store answered, or the host in its place.
    Reply {
        /// 200 if it is the store's.
        status: u16,
        /// All bytes.
        body: &'a [u8],
        /// By how many milliseconds the clock of the store is ahead, if that is known.
        ahead: Option<i64>,
    },
}

/// What came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply<'a> {
    /// 200 if it is the store's.
    pub status: u16,
    /// All bytes.
    pub body: &'a [u8],
    /// By how many milliseconds the clock of the store is ahead, if that is known.
    pub ahead: Option<i64>,
}

/// How there came to be no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Silence {
    /// The host did not make the call.
    NotMade,
    /// The connection broke.
    Reset,
    /// It has taken all the time that it had.
    TimedOut,
}

impl<'a> Heard<'a> {
    /// The reply, if there is one. `is_late` says whether the call has taken all the time that it had, by which alone the
    /// host tells a time-out from a reset.
    pub(super) fn reply(self, is_late: bool, dialect: &dyn Dialect) -> Result<Reply<'a>, Failure> {
        Err(dialect.silence(match self {
            Self::Reply { status, body, ahead } => return Ok(Reply { status, body, ahead }),
            Self::Failed(failure) => return Err(failure),
            Self::NotMade => Silence::NotMade,
            Self::Nothing if is_late => Silence::TimedOut,
            Self::Nothing => Silence::Reset,
        }))
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Why.
    pub error: StoreError,
    /// Whether the store may have done what it was asked.
    pub is_doubtful: bool,
}

impl Failure {
    /// The store did nothing.
    pub(super) fn certain(error: impl Into<StoreError>) -> Self {
        Self { error: error.into(), is_doubtful: false }
    }

    /// The store may have done it.
    pub(super) fn doubtful(error: impl Into<StoreError>) -> Self {
        Self { error: error.into(), is_doubtful: true }
    }
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
