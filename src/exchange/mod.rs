//! One HTTP exchange: what the filter does from the request's headers to the end of the stream.
//!
//! A state machine without input or output, clock or randomness: the host layer (or a test, or a
//! simulator) hands it an [`Event`] with the time, and carries out the [`Effect`]s that come back.
//!
//! ```text
//! Idle ── headers ──> AwaitBody ── end ──> AwaitClaim ── granted ──> AwaitResponse ── headers ──> AwaitEnd ── end ──> Settling ──> Finished
//!   │                     │                    │                          │                          │
//!   └─ not guarded,       └─ too large         └─ replay, 409, 422, 503   └─ released, unknown       └─ stream gone: unknown
//!      refused
//! ```
//!
//! Each state is a type that holds just what is known then, and a transition consumes it.

mod capture;
mod opening;
pub mod outcome;
mod problem;
mod reply;
mod vocabulary;

use std::{sync::Arc, time::Duration};

use self::{
    capture::Capture,
    opening::Guarded,
    outcome::{Delivery, Verdict},
};
pub use self::{
    outcome::Evidence,
    problem::Problem,
    reply::{Reply, replayable},
    vocabulary::{Counter, Status},
};
use crate::{
    config::{OnStoreError, OnUnknown, Policy},
    headers::Headers,
    record::{Claim, Owner, StoredResponse},
    request::{Fingerprint, FingerprintBuilder, OperationId},
    store::{Answer, Call, Claimed, Ending, Renewed, Settled, StoreError},
    time::Timestamp,
};

/// Says on every response to a guarded request what was done.
pub const STATUS_HEADER: &str = "idempotency-status";
/// Says on a replay until when there will be one.
pub const EXPIRES_HEADER: &str = "idempotency-expires";
/// By which an upstream steers what becomes of one response; never leaves the proxy.
pub const POLICY_HEADER: &str = "idempotency-policy";

/// The exchange of one stream.
#[derive(Debug)]
pub struct Exchange {
    policy: Arc<Policy>,
    state: State,
}

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

/// Reads attributes of the host.
pub trait Attributes: std::fmt::Debug {
    /// The attribute at `path`, if there is one.
    fn get(&self, path: &[String]) -> Option<Vec<u8>>;
}

/// What is to be done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Ask the store, and hand its answer back as [`Event::Answered`].
    Call(Call),
    /// Add one to a counter.
    Count(Counter),
    /// Let the request go on.
    Forward,
    /// Keep the request (headers and body) back.
    Hold,
    /// Take a field out of the response.
    RemoveResponseHeader(&'static str),
    /// Answer the client, and drop the request.
    Reply(Reply),
    /// Set a field of the response.
    SetResponseHeader(&'static str, &'static str),
    /// Tell access logs what became of the request.
    Tell(Status),
    /// Tell the operator that the store failed.
    WarnStore(StoreError),
}

#[derive(Debug)]
enum State {
    /// Waits for the request's headers.
    Idle,
    AwaitBody(AwaitBody),
    AwaitClaim(AwaitClaim),
    /// Waits for the same answer, with the stream answered or over: a grant is given back.
    AwaitMootClaim(AwaitClaim),
    AwaitResponse(AwaitResponse),
    AwaitEnd(AwaitEnd),
    /// Waits for the store's word on how the execution was settled.
    Settling,
    /// Runs unprotected, because the store failed and the policy allows it.
    Bypassed,
    /// Answered by the filter itself; its own reply may still pass by.
    Replied {
        content_type_absent: bool,
    },
    /// Nothing more is to be done: not guarded, or settled.
    Finished,
}

/// Waits for the rest of the request's body, which the fingerprint needs.
#[derive(Debug)]
struct AwaitBody {
    guarded: Guarded,
    fingerprint: FingerprintBuilder,
    received: u64,
}

/// Waits for the store's answer to the claim.
#[derive(Debug)]
struct AwaitClaim {
    operation: OperationId,
    owner: Owner,
}

/// Runs the operation, and waits for the response.
#[derive(Debug)]
struct AwaitResponse {
    execution: Execution,
}

/// Copies the response while it passes, and waits for its end.
#[derive(Debug)]
struct AwaitEnd {
    execution: Execution,
    status: u16,
    headers: Headers,
    capture: Capture,
}

/// A claim that this exchange holds.
#[derive(Debug)]
struct Execution {
    operation: OperationId,
    owner: Owner,
    renew_at: Timestamp,
}

impl Exchange {
    /// An exchange under `policy` whose request has not arrived yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, state: State::Idle }
    }

    /// Takes `event` in, and appends what is to be done to `effects`.
    ///
    /// An event that means nothing in the present state changes nothing: hosts differ in what they
    /// report at the end of a stream, and in which order.
    pub fn handle(&mut self, event: Event<'_>, now: Timestamp, effects: &mut Vec<Effect>) {
        let state = std::mem::replace(&mut self.state, State::Finished);
        let mut step = Step { policy: &self.policy, now, effects };
        self.state = match (state, event) {
            (State::Idle, Event::RequestHeaders { headers, attribute, owner, end_of_stream }) => {
                step.open(headers, attribute, owner, end_of_stream)
            }
            (State::AwaitBody(state), Event::RequestBody { chunk, end_of_stream }) => {
                state.on_body(chunk, end_of_stream, &mut step)
            }
            (State::AwaitBody(state), Event::RequestTrailers) => state.on_end(&mut step),
            (State::AwaitBody(_), Event::BodyWithheld) => step.refuse(&Problem::HostUnsupported),
            (State::AwaitBody(_), Event::Gone { .. }) => {
                step.tell(Status::Rejected);
                State::Finished
            }
            (State::AwaitClaim(state), Event::Answered(Answer::Claimed(claimed))) => {
                state.on_claimed(claimed, &mut step)
            }
            // Envoy itself answers, by a limit or a timeout of its own: nothing was sent or will be.
            (State::AwaitBody(_), Event::ResponseHeaders { headers, .. }) => {
                step.mark(Status::Rejected, headers);
                State::Finished
            }
            (State::AwaitClaim(state), Event::ResponseHeaders { headers, .. }) => {
                step.mark(Status::Rejected, headers);
                State::AwaitMootClaim(state)
            }
            (State::AwaitClaim(state), Event::Gone { .. }) => {
                step.tell(Status::Rejected);
                State::AwaitMootClaim(state)
            }
            (State::AwaitMootClaim(state), Event::Answered(Answer::Claimed(claimed))) => {
                state.on_claimed_in_vain(claimed, &mut step)
            }
            (State::AwaitResponse(state), Event::ResponseHeaders { status, headers, evidence, end_of_stream }) => {
                state.on_headers(status, headers, evidence, end_of_stream, &mut step)
            }
            (State::AwaitResponse(state), Event::Gone { evidence }) => state.on_gone(evidence, &mut step),
            (State::AwaitResponse(mut state), Event::Tick) => {
                state.execution.renew_if_due(&mut step);
                State::AwaitResponse(state)
            }
            (State::AwaitEnd(state), Event::ResponseBody { chunk, end_of_stream }) => {
                state.on_body(chunk, end_of_stream, &mut step)
            }
            (State::AwaitEnd(state), Event::ResponseTrailers) => state.on_end(&mut step),
            // A second response on one stream is one in place of the first, which never got to its end.
            (State::AwaitEnd(state), Event::Gone { .. } | Event::ResponseHeaders { .. }) => state.on_cut(&mut step),
            (State::AwaitEnd(mut state), Event::Tick) => {
                state.execution.renew_if_due(&mut step);
                State::AwaitEnd(state)
            }
            (state, Event::Answered(Answer::Renewed(renewed))) => {
                if let Renewed::Failed(error) = renewed {
                    step.warn(error);
                }
                state
            }
            (State::Settling, Event::Answered(Answer::Settled(settled))) => step.settled(settled),
            (State::Bypassed, Event::ResponseHeaders { headers, .. }) => {
                step.mark(Status::Bypassed, headers);
                State::Finished
            }
            (State::Replied { content_type_absent }, Event::ResponseHeaders { .. }) => {
                if content_type_absent {
                    step.effects.push(Effect::RemoveResponseHeader("content-type"));
                }
                State::Finished
            }
            (State::Idle | State::Bypassed | State::Replied { .. }, Event::Gone { .. }) => State::Finished,
            (state, _) => state,
        };
    }

    /// Whether the exchange waits for the request's body, and has seen none of it yet.
    #[must_use]
    pub fn awaits_first_body(&self) -> bool {
        matches!(&self.state, State::AwaitBody(state) if state.received == 0)
    }

    /// Whether the exchange waits for more of the request's body.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(self.state, State::AwaitBody(_))
    }

    /// Whether the exchange copies the response's body.
    #[must_use]
    pub fn captures(&self) -> bool {
        matches!(self.state, State::AwaitEnd(_))
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }
}

impl AwaitBody {
    fn on_body(mut self, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) -> State {
        self.received = self.received.saturating_add(chunk.len() as u64);
        let limit = step.policy.limits.request_body;
        if self.received > limit {
            return step.refuse(&Problem::RequestTooLarge { limit });
        }
        self.fingerprint.body(chunk);
        if end_of_stream {
            return self.on_end(step);
        }
        step.effects.push(Effect::Hold);
        State::AwaitBody(self)
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        step.claim(&self.guarded, self.fingerprint.finish())
    }
}

impl AwaitClaim {
    fn on_claimed(self, claimed: Claimed, step: &mut Step<'_>) -> State {
        match claimed {
            Claimed::Granted => {
                step.count(Counter::RequestsExecuted);
                step.tell(Status::Executed);
                step.effects.push(Effect::Forward);
                State::AwaitResponse(AwaitResponse { execution: self.granted(step) })
            }
            Claimed::Completed { response, expires } => {
                step.count(Counter::RequestsReplayed);
                step.tell(Status::Replayed);
                step.reply(Reply::replay(response, expires, step.policy))
            }
            Claimed::KeyReused => step.refuse(&Problem::KeyReused),
            Claimed::InFlight { lease_left } => step.refuse(&Problem::RequestInFlight { lease_left }),
            Claimed::Unknown { lease_left } => {
                let may_retry = step.policy.outcome.on_unknown == OnUnknown::Retry;
                step.refuse(&Problem::OutcomeUnknown { retry_after: may_retry.then_some(lease_left) })
            }
            Claimed::NotKept { status } => step.refuse(&Problem::ResponseNotKept { status }),
            Claimed::Full => step.refuse(&Problem::StoreFull),
            Claimed::Failed(error) => {
                step.effects.push(Effect::WarnStore(error));
                match step.policy.on_store_error {
                    OnStoreError::Reject => step.refuse(&Problem::StoreUnavailable),
                    OnStoreError::Bypass => {
                        step.count(Counter::StoreErrors);
                        step.count(Counter::RequestsBypassed);
                        step.tell(Status::Bypassed);
                        step.effects.push(Effect::Forward);
                        State::Bypassed
                    }
                }
            }
        }
    }

    /// Nothing was forwarded, and nobody is left to answer.
    fn on_claimed_in_vain(self, claimed: Claimed, step: &mut Step<'_>) -> State {
        match claimed {
            Claimed::Granted => self.granted(step).settle(Ending::Released, step),
            Claimed::Failed(error) => {
                step.warn(error);
                State::Finished
            }
            Claimed::Completed { .. }
            | Claimed::Full
            | Claimed::InFlight { .. }
            | Claimed::KeyReused
            | Claimed::NotKept { .. }
            | Claimed::Unknown { .. } => State::Finished,
        }
    }

    fn granted(self, step: &Step<'_>) -> Execution {
        Execution { operation: self.operation, owner: self.owner, renew_at: step.next_renewal() }
    }
}

impl AwaitResponse {
    fn on_headers(
        self,
        status: u16,
        headers: &Headers,
        evidence: &Evidence,
        end_of_stream: bool,
        step: &mut Step<'_>,
    ) -> State {
        let verdict = match evidence.delivery() {
            Delivery::NeverSent => {
                step.mark(Status::Rejected, headers);
                return self.execution.settle(Ending::Released, step);
            }
            Delivery::Uncertain => Verdict::Unknown,
            Delivery::Answered => outcome::judge(status, headers, evidence, &step.policy.outcome),
        };
        step.mark(if verdict == Verdict::Unknown { Status::Unknown } else { Status::Executed }, headers);
        match verdict {
            Verdict::Release => self.execution.settle(Ending::Released, step),
            Verdict::Unknown => self.execution.settle(Ending::Unknown, step),
            Verdict::Tombstone => self.execution.settle(Ending::NotKept(status), step),
            Verdict::Store => {
                let state = AwaitEnd {
                    execution: self.execution,
                    status,
                    headers: replayable(headers, step.policy),
                    capture: Capture::new(step.policy.limits.response_body),
                };
                if end_of_stream { state.on_end(step) } else { State::AwaitEnd(state) }
            }
        }
    }

    fn on_gone(self, evidence: &Evidence, step: &mut Step<'_>) -> State {
        match evidence.delivery_without_response() {
            Delivery::NeverSent => {
                step.tell(Status::Rejected);
                self.execution.settle(Ending::Released, step)
            }
            Delivery::Answered | Delivery::Uncertain => {
                step.tell(Status::Unknown);
                self.execution.settle(Ending::Unknown, step)
            }
        }
    }
}

impl AwaitEnd {
    fn on_body(mut self, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) -> State {
        self.capture.push(chunk);
        if end_of_stream { self.on_end(step) } else { State::AwaitEnd(self) }
    }

    fn on_cut(self, step: &mut Step<'_>) -> State {
        step.tell(Status::Unknown);
        self.execution.settle(Ending::Unknown, step)
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        let ending = match self.capture {
            Capture::Whole { body, .. } => {
                Ending::Completed(StoredResponse { status: self.status, headers: self.headers, body })
            }
            Capture::Overflown => Ending::NotKept(self.status),
        };
        self.execution.settle(ending, step)
    }
}

impl Execution {
    fn settle(self, ending: Ending, step: &mut Step<'_>) -> State {
        let (operation, owner, ttl) = (self.operation, self.owner, step.policy.ttl);
        step.effects.push(Effect::Call(Call::Settle { operation, owner, ending, ttl }));
        State::Settling
    }

    /// Extends the lease well before it runs out, so that a slow upstream does not look like a dead owner.
    fn renew_if_due(&mut self, step: &mut Step<'_>) {
        if step.now >= self.renew_at {
            let (lease, ttl) = (step.policy.lease, step.policy.ttl);
            step.effects.push(Effect::Call(Call::Renew { operation: self.operation, owner: self.owner, lease, ttl }));
            self.renew_at = step.next_renewal();
        }
    }
}

/// What a transition needs besides its state.
#[derive(Debug)]
struct Step<'a> {
    policy: &'a Policy,
    now: Timestamp,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// Asks the store for the right to run the operation.
    fn claim(&mut self, guarded: &Guarded, fingerprint: Fingerprint) -> State {
        let (operation, owner) = (guarded.operation, guarded.owner);
        self.effects.push(Effect::Hold);
        self.effects.push(Effect::Call(Call::Claim(Claim {
            operation,
            fingerprint,
            owner,
            lease: self.policy.lease,
            ttl: self.policy.ttl,
            retry_unknown: self.policy.outcome.on_unknown == OnUnknown::Retry,
        })));
        State::AwaitClaim(AwaitClaim { operation, owner })
    }

    fn settled(&mut self, settled: Settled) -> State {
        match settled {
            Settled::Stored => self.count(Counter::OutcomesStored),
            Settled::Tombstoned => self.count(Counter::OutcomesTombstoned),
            Settled::Released => self.count(Counter::OutcomesReleased),
            Settled::Unknown => self.count(Counter::OutcomesUnknown),
            Settled::Fenced => self.count(Counter::OutcomesFenced),
            // The claim stays until its lease is over, and is of unknown outcome then.
            Settled::Failed(error) => self.warn(error),
        }
        State::Finished
    }

    fn refuse(&mut self, problem: &Problem) -> State {
        self.count(problem.counter());
        self.tell(problem.status());
        self.reply(problem.reply(self.policy.docs_uri.as_deref(), self.policy.status_header))
    }

    fn reply(&mut self, reply: Reply) -> State {
        let content_type_absent = reply.content_type_absent;
        self.effects.push(Effect::Reply(reply));
        State::Replied { content_type_absent }
    }

    /// Puts `status` on the upstream's response, and takes off what is meant for the filter alone.
    fn mark(&mut self, status: Status, headers: &Headers) {
        self.tell(status);
        if headers.get(POLICY_HEADER).is_some() {
            self.effects.push(Effect::RemoveResponseHeader(POLICY_HEADER));
        }
        if self.policy.status_header {
            self.effects.push(Effect::SetResponseHeader(STATUS_HEADER, status.as_str()));
        }
    }

    fn warn(&mut self, error: StoreError) {
        self.count(Counter::StoreErrors);
        self.effects.push(Effect::WarnStore(error));
    }

    fn tell(&mut self, status: Status) {
        self.effects.push(Effect::Tell(status));
    }

    fn count(&mut self, counter: Counter) {
        self.effects.push(Effect::Count(counter));
    }

    fn next_renewal(&self) -> Timestamp {
        self.now.after(self.policy.lease / RENEWALS_PER_LEASE)
    }
}

/// How often a lease is renewed in its time: two ticks may come late before it runs out.
pub const RENEWALS_PER_LEASE: u32 = 3;

/// The shortest time between two renewals under `policy`, which is how often [`Event::Tick`] is due.
#[must_use]
pub fn renewal_interval(policy: &Policy) -> Duration {
    policy.lease / RENEWALS_PER_LEASE
}

#[cfg(test)]
mod tests;
