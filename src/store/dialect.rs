//! How a remote store is spoken to: the questions and answers in its own bytes, and the connections that carry them.

use std::{fmt, time::Duration};

use super::{Answer, Ending, Settled, StoreError};
use crate::{
    config::Share,
    record::{Claim, Owner, View},
    request::{Caller, Fingerprint, OperationId},
    time::Timestamp,
};

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

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Whether this may run the operation.
    Claim(Terms),
    /// That its lease starts anew.
    Renew,
    /// That it has ended.
    Settle {
        /// What the answer is if the store takes it.
        settled: Settled,
    },
}

/// What a claim is for, besides the operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// What the request asks for.
    pub fingerprint: Fingerprint,
    /// Whether an unknown outcome may be run again.
    pub retry_unknown: bool,
    /// Whose it is.
    pub caller: Caller,
    /// How much of what is scarce one caller may have.
    pub share: Share,
}

impl Terms {
    /// Those of a claim.
    pub(super) fn of(claim: &Claim) -> Self {
        let Claim { fingerprint, retry_unknown, caller, share, .. } = *claim;
        Self { fingerprint, retry_unknown, caller, share }
    }
}

/// A record that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// What an operator is told.
    pub view: View,
    /// Whose it is.
    pub owner: Owner,
    /// What its owner asked for.
    pub fingerprint: Fingerprint,
    /// When its lease ends, by the store's clock.
    pub lease_until: Timestamp,
    /// What that clock said when it was seen.
    pub clock: Timestamp,
}
