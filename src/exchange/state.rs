//! The states of an exchange: each is a type that holds just what is known then, and a transition consumes it.

use std::{fmt, time::Duration};

use super::{call::DetachedCall, capture::Capture, outcome::Evidence, outgoing::Outgoing, reply::Reply};
use crate::{
    headers::Headers,
    record::{Mailbox, Owner},
    request::{Caller, Fingerprint, FingerprintBuilder, Identified, OperationId, UnnamedOperation},
    time::Timestamp,
};

#[derive(Clone, Debug)]
pub(super) enum State {
    /// Waits for the request's headers.
    Idle,
    AwaitBody(AwaitBody),
    AwaitClaim(AwaitClaim),
    /// Waits for the same answer, with the stream answered or over: a grant is given back.
    AwaitAbandonedClaim(AwaitClaim),
    AwaitTurn(AwaitTurn),
    AwaitResponse(AwaitResponse),
    AwaitEnd(AwaitEnd),
    AwaitText(AwaitText),
    AwaitCall(AwaitCall),
    Settling(Settling),
    /// Runs unprotected, because the store failed and the policy allows it.
    Bypassed,
    /// Answered by the filter itself; its reply is still to pass by.
    Replied(Outgoing),
    /// Nothing more is to be done: not guarded, or settled.
    Finished,
}

impl State {
    /// Whether the request is kept back, whatever more of it arrives.
    pub(super) fn holds_request(&self) -> bool {
        match self {
            Self::AwaitBody(_)
            | Self::AwaitClaim(_)
            | Self::AwaitAbandonedClaim(_)
            | Self::AwaitTurn(_)
            | Self::AwaitCall(_) => true,
            Self::Settling(state) => state.holds_request(),
            Self::Idle
            | Self::AwaitResponse(_)
            | Self::AwaitEnd(_)
            | Self::AwaitText(_)
            | Self::Bypassed
            | Self::Replied(_)
            | Self::Finished => false,
        }
    }

    /// Whether time has something to change in it at `now`.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        match self {
            Self::AwaitTurn(state) => state.waiting.until <= now,
            _ => self.execution().is_some_and(|execution| execution.is_due(now)),
        }
    }

    /// The right to run the operation, as long as it runs.
    fn execution(&self) -> Option<&Execution> {
        match self {
            Self::AwaitResponse(AwaitResponse { execution })
            | Self::AwaitEnd(AwaitEnd { execution, .. })
            | Self::AwaitText(AwaitText { execution, .. })
            | Self::AwaitCall(AwaitCall { execution, .. }) => Some(execution),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn execution_mut(&mut self) -> Option<&mut Execution> {
        match self {
            Self::AwaitResponse(AwaitResponse { execution })
            | Self::AwaitEnd(AwaitEnd { execution, .. })
            | Self::AwaitText(AwaitText { execution, .. })
            | Self::AwaitCall(AwaitCall { execution, .. }) => Some(execution),
            _ => None,
        }
    }
}

/// Waits for the rest of the request's body.
#[derive(Clone, Debug)]
pub(super) struct AwaitBody {
    pub(super) request: GuardedRequest<Name>,
    pub(super) fingerprint: FingerprintBuilder,
    /// How often what arrives is in memory.
    pub(super) copies: u64,
}

/// Waits for the store's answer to the claim.
#[derive(Clone, Debug)]
pub(super) struct AwaitClaim {
    pub(super) request: GuardedRequest,
    pub(super) fingerprint: Fingerprint,
    /// Set once it has begun to wait for its turn.
    pub(super) waiting: Option<WaitPeriod>,
}

/// Waits for the end of an execution that another request has under way.
#[derive(Clone, Debug)]
pub(super) struct AwaitTurn {
    pub(super) request: GuardedRequest,
    pub(super) fingerprint: Fingerprint,
    pub(super) waiting: WaitPeriod,
    /// When the owner was granted its claim.
    pub(super) began: Timestamp,
    /// When the owner's lease runs out.
    pub(super) lease_until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct WaitPeriod {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

/// Runs the operation, and waits for the response.
#[derive(Clone, Debug)]
pub(super) struct AwaitResponse {
    pub(super) execution: Execution,
}

/// Copies the response while it passes, and waits for its end.
#[derive(Clone, Debug)]
pub(super) struct AwaitEnd {
    pub(super) execution: Execution,
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) capture: Capture,
}

/// Copies what the body begins with, and waits for the end of the response: the text decides on the outcome.
#[derive(Clone, Debug)]
pub(super) struct AwaitText {
    pub(super) execution: Execution,
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) evidence: Evidence,
    pub(super) text: Vec<u8>,
}

/// Runs the operation, and waits for the whole answer.
#[derive(Clone, Debug)]
pub(super) struct AwaitCall {
    pub(super) execution: Execution,
    /// How much the request takes besides its body.
    pub(super) held: u64,
    /// Bytes of the request's body.
    pub(super) body: u64,
    pub(super) client: Client,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Client {
    Waits,
    IsGone,
}

/// Waits for the store's word on how the execution was settled.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    pub(super) operation: OperationId,
    pub(super) answer: Answering,
}

impl Settling {
    /// Whether the client's request is kept back.
    pub(super) fn holds_request(&self) -> bool {
        matches!(self.answer, Answering::Owed(_))
    }

    /// Whether the end of the response is to be kept back, or is.
    pub(super) fn holds_response(&self) -> bool {
        matches!(self.answer, Answering::Passing | Answering::Held)
    }

    /// The reply of the filter's own that passes by.
    pub(super) fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.answer {
            Answering::Sent(reply) => Some(reply),
            _ => None,
        }
    }
}

/// What the client still lacks of its answer.
#[derive(Clone, Debug)]
pub(super) enum Answering {
    /// All of it: the answer to a detached call.
    Owed(Reply),
    /// The end of a response that passes by.
    Passing,
    /// The end of a response, which is held back.
    Held,
    /// Nothing, or there is no client.
    Done,
    /// Nothing; the reply is still to pass by.
    Sent(Outgoing),
}

impl Answering {
    /// The response that passes by, at its end or before.
    pub(super) fn response(end_of_stream: bool) -> Self {
        if end_of_stream { Self::Held } else { Self::Passing }
    }
}

/// A request that has a key, or may have one, and is to be run at most once.
#[derive(Clone, Debug)]
pub(super) struct GuardedRequest<N = Named> {
    pub(super) name: N,
    pub(super) owner: Owner,
    pub(super) mailbox: Option<Mailbox>,
    /// The call that executes it, if that is to be apart from the stream.
    pub(super) call: Option<DetachedCall>,
    /// How much it takes as long as it is held, besides its body.
    pub(super) held: u64,
    /// How much of its body has arrived.
    pub(super) body: u64,
    /// Its client sends no body before somebody asks for it, which the filter cannot.
    pub(super) expects_continue: bool,
}

/// What a key and a caller make of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) operation: OperationId,
    pub(super) caller: Caller,
    /// Whether its caller is one with all others that have no identity.
    pub(super) is_anonymous: bool,
    /// How long its record is kept.
    pub(super) ttl: Duration,
}

/// What is known of a request's name before its body is.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Known(Named),
    Open(Box<Unnamed>),
}

/// A request that has no key in its headers, and may have one in its body, or be one with others that ask for the same.
#[derive(Clone)]
pub(super) struct Unnamed {
    /// Who sends it, and what it names but for the key; `None` if the policy asks for a caller and there is none.
    pub(super) origin: Option<(Identified, UnnamedOperation)>,
    /// The fields that no request takes to the service, if it is guarded.
    pub(super) own_fields: Vec<String>,
    /// Its body, if a pointer may lead into it and no call has it.
    pub(super) text: Vec<u8>,
}

impl fmt::Debug for Unnamed {
    /// Without the body, which clients trust the upstream with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unnamed").field("origin", &self.origin).field("text", &self.text.len()).finish_non_exhaustive()
    }
}

impl<N> GuardedRequest<N> {
    /// The same request by this name.
    pub(super) fn renamed<M>(self, name: M) -> GuardedRequest<M> {
        let Self { owner, mailbox, call, held, body, expects_continue, .. } = self;
        GuardedRequest { name, owner, mailbox, call, held, body, expects_continue }
    }
}

/// The right to run an operation; it ends with `settle`, or with its lease.
#[derive(Clone, Debug)]
pub(super) struct Execution {
    pub(super) operation: OperationId,
    pub(super) fingerprint: Fingerprint,
    pub(super) owner: Owner,
    /// Whether its caller is one with all others that have no identity.
    pub(super) is_anonymous: bool,
    /// How long its record is kept.
    pub(super) ttl: Duration,
    pub(super) renew_at: Timestamp,
    pub(super) interval: Duration,
}

impl Execution {
    /// Whether the lease is to be extended at `now`.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was set back must not keep a lease from being renewed that another clock judges.
        self.renew_at.has_come(now, self.interval)
    }
}
