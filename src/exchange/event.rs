//! What an exchange is told.

use super::outcome::Evidence;
use crate::{
    headers::Headers,
    record::{Mailbox, Owner},
    store::Answer,
};

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The request's headers arrived.
    RequestHeaders {
        /// All of them.
        headers: &'a Headers,
        /// Reads an attribute of the host (`caller.identity[].property`).
        attribute: &'a dyn Attributes,
        /// The token of this execution, should it become one.
        owner: Owner,
        /// Where this worker is told of the ends of executions; without one nothing waits here, and
        /// nothing is executed apart from its stream.
        mailbox: Option<Mailbox>,
        /// Whether the store answers later, so that the request is held for its claim.
        is_store_remote: bool,
        /// Whether there is no body and there are no trailers.
        end_of_stream: bool,
    },
    /// A piece of the request's body arrived.
    RequestBody {
        /// The bytes that were not handed over before.
        chunk: &'a [u8],
        /// Whether the request ends here.
        end_of_stream: bool,
    },
    /// The request ended with trailers.
    RequestTrailers,
    /// The host withholds the body while it holds the headers, and always will.
    BodyWithheld,
    /// The store answered the call that the exchange made last.
    Answered(Answer),
    /// The execution that the request waits for may have ended.
    Woken,
    /// The worker has as many waiting requests as it may.
    NoRoomToWait(NoRoom),
    /// The store has granted the claim, and the worker has as many calls under way as it may. In place of the store's
    /// answer, where the exchange [wants a call](super::Exchange::wants_call).
    NoRoomToRun(NoRoom),
    /// The upstream, or Envoy in its place, answered a detached call.
    CallAnswered {
        /// The status code.
        status: u16,
        /// All fields.
        headers: &'a Headers,
        /// The whole body.
        body: Vec<u8>,
    },
    /// A detached call ended without any answer.
    CallFailed(CallFailure),
    /// The response's headers arrived, from the upstream or from Envoy itself.
    ResponseHeaders {
        /// The status code; 0 if the host does not say.
        status: u16,
        /// All of them.
        headers: &'a Headers,
        /// Where the response comes from.
        evidence: &'a Evidence,
        /// Whether there is no body and there are no trailers.
        end_of_stream: bool,
    },
    /// A piece of the response's body passed by.
    ResponseBody {
        /// The bytes of this piece.
        chunk: &'a [u8],
        /// Whether the response ends here.
        end_of_stream: bool,
    },
    /// The response ended with trailers.
    ResponseTrailers,
    /// Time has passed.
    Tick,
    /// The stream is over; nothing can be sent any more.
    Gone {
        /// What became of the upstream call.
        evidence: &'a Evidence,
    },
}

/// Why there is no room for one more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoRoom {
    /// All places are taken.
    AllTaken,
    /// The caller has its share of them.
    OverShare,
}

/// Why a detached call has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallFailure {
    /// It was not made: the cluster is unknown, has no host, or is at its limits.
    NotMade,
    /// It was not made, because the worker stood still for half of the lease or longer, and others may run the operation.
    TooLate,
    /// It was made, and was reset.
    Reset,
}

/// Reads attributes of the host.
pub trait Attributes: std::fmt::Debug {
    /// The attribute at `path`, if there is one.
    fn get(&self, path: &[String]) -> Option<Vec<u8>>;
}
