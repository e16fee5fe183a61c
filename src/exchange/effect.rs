//! What an exchange wants to be done.

use std::{sync::Arc, time::Duration};

#[cfg(doc)]
use super::event::Event;
use super::{
    call::DetachedCall,
    reply::Reply,
    vocabulary::{Counter, Status},
};
use crate::{
    record::Mailbox,
    request::{Doubt, OperationId},
    store::{Call, Scarce, StoreError},
    time::Timestamp,
};

/// What is to be done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Add a field to the response, which has none of this name. To replace one would cost the host almost twice as much,
    /// whether it is there or not.
    AddResponseHeader(&'static str, &'static str),
    /// Ask the store, and hand its answer back as [`Event::Answered`].
    Call(Call),
    /// Add one to a counter.
    Count(Counter),
    /// Call the upstream apart from the stream, and hand in [`Event::CallAnswered`] or
    /// [`Event::CallFailed`].
    Execute(DetachedCall),
    /// Let the request go on.
    Forward,
    /// Let the response go on.
    ForwardResponse,
    /// Keep the request (headers and body) back.
    Hold,
    /// Keep what arrived of the response just now back.
    HoldResponse,
    /// Tell the operator, once, of something that is not as it should be.
    Notice(Notice),
    /// Take a field out of the request.
    RemoveRequestHeader(String),
    /// Take a field out of the response.
    RemoveResponseHeader(String),
    /// Answer the client, and drop the request.
    Reply(Arc<Reply>),
    /// The request no longer waits for the operation.
    StopWaiting(OperationId),
    /// Tell access logs what became of the request.
    Tell(Status),
    /// Hand in [`Event::Woken`] when the operation's execution may have ended: when another worker or
    /// exchange says so, or at `recheck` by the worker itself, because its owner may be dead. If there is
    /// no room, hand in [`Event::NoRoomToWait`].
    Wait {
        /// What the request waits for.
        operation: OperationId,
        /// When the owner's lease runs out.
        recheck: Timestamp,
    },
    /// A request has waited this long, with or without an answer.
    Waited(Duration),
    /// Tell these workers that an execution of the operation has ended.
    Wake {
        /// Which operation.
        operation: OperationId,
        /// Whom to tell.
        watchers: Vec<Mailbox>,
    },
    /// Tell the operator that the store failed.
    WarnStore(StoreError),
}

/// What an operator should know of once, however often it happens.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Notice {
    /// The upstream steers its response by a word that nobody knows.
    #[error(
        "the upstream sent idempotency-policy: {0:?}, which is none of store, release, unknown and no-store; it is ignored"
    )]
    UnknownPolicyWord(String),
    /// A request has this precondition, and a retry with another one is the same request.
    #[error(
        "a guarded request has the header {0}, which fingerprint.headers does not name: under its key a request with another \
         value there gets the first answer. Name it where clients send it"
    )]
    Precondition(&'static str),
    /// A request of a method that is not guarded has a key.
    #[error(
        "a {0} request carries an idempotency key, and passed unprotected: methods does not name {0}. Add it if such requests \
         are to be protected, or let clients send no key with them; idemgate.requests.key_unguarded counts them"
    )]
    KeyUnguarded(String),
    /// Callers may not be told apart as expected.
    #[error("{0}")]
    Caller(Doubt),
    /// A caller has its share of something.
    #[error(
        "one caller has its share (limits.caller_share) of {}, and half of them is taken; its requests that need more are \
         refused, those of others are not; idemgate.requests.over_share counts them. Requests without an identity are one \
         caller",
        match .0 {
            Scarce::Calls => "the detached calls of a worker (execution.max_calls)",
            Scarce::Places => "the requests that wait in a worker (duplicates.max_waiting)",
            Scarce::Questions => "the claims that wait in a worker for the store",
            Scarce::Records => "the records (store.shared_data.max_entries)",
        }
    )]
    OverShare(Scarce),
}

impl Notice {
    /// Whether it says nothing new after `other`.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && !matches!(self, Self::Caller(_) | Self::OverShare(_) | Self::Precondition(_))
            || self == other
    }
}
