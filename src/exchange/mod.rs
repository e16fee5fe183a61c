//! One HTTP exchange: what the filter does from the request's headers to the end of the stream.
//!
//! A state machine without input or output, clock or randomness: the host layer (or a test, or a
//! simulator) hands it an [`Event`] with the time, and carries out the [`Effect`]s that come back.
//!
//! ```text
//! Idle ── headers ──> AwaitBody ── end ──> AwaitClaim ── granted ──> AwaitResponse ── headers ──> AwaitEnd ── end ──> Settling
//!   │                     │                 │   ^  │                      │                          │
//!   └─ not guarded,       └─ too large      │   │  └─ granted, detached ──│──> AwaitCall ── answer ──│──────────────> Settling
//!      refused                     in flight│   │woken                    └─ released, unknown       └─ cut: unknown
//!                                           v   │
//!                                         AwaitTurn ── too long: 409
//! ```
//!
//! Each state is a type that holds just what is known then, and a transition consumes it: up to the
//! claim in `claiming`, in the client's stream in `inline`, outside of it in `detached`, and in
//! the shadow of a request that goes its own way in `shadow`.

mod capture;
mod claiming;
mod detached;
mod execution;
mod footprint;
mod inline;
mod opening;
pub mod outcome;
mod outgoing;
mod problem;
mod reply;
mod settling;
mod shadow;
mod vocabulary;

use std::{sync::Arc, time::Duration};

use self::{
    claiming::{AwaitBody, AwaitClaim, AwaitTurn},
    detached::AwaitCall,
    inline::{AwaitEnd, AwaitResponse, AwaitText},
    settling::Settling,
    shadow::Shadow,
};
pub use self::{
    detached::Job,
    footprint::{CALL_ANSWER, HELD_REQUEST},
    outcome::Evidence,
    outgoing::{CONTENT_LENGTH, Outgoing},
    problem::Problem,
    reply::{Body, Reply, replayable},
    vocabulary::{Counter, Status},
};
use crate::{
    config::{ExecutionMode, InFlight, Mode, Policy},
    headers::Headers,
    record::{Mailbox, Owner},
    request::{Doubt, OperationId},
    store::{Answer, Call, Renewed, Scarce, StoreError},
    time::Timestamp,
};

/// Says on every response to a guarded request what was done.
pub const STATUS_HEADER: &str = "idempotency-status";
/// Says on a replay until when there will be one.
pub const EXPIRES_HEADER: &str = "idempotency-expires";
/// By which an upstream steers what becomes of one response; never leaves the proxy.
pub const POLICY_HEADER: &str = "idempotency-policy";

/// The exchange of one stream.
#[derive(Clone, Debug)]
pub struct Exchange {
    policy: Arc<Policy>,
    state: State,
    /// Present in shadow mode.
    shadow: Option<Box<Shadow>>,
    /// How much more memory it may take.
    room: u64,
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
    /// answer, where the exchange [wants a call](Exchange::wants_call).
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
    /// It was made, and was reset.
    Reset,
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
    /// Call the upstream apart from the stream, and hand in [`Event::CallAnswered`] or
    /// [`Event::CallFailed`].
    Execute(Job),
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
    /// Set a field of the response.
    SetResponseHeader(&'static str, &'static str),
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
    /// A request has waited this long, in vain or not.
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
    /// A request of a method that is not guarded bears a key.
    #[error(
        "a {0} request bears an idempotency key, and passed unprotected: methods does not name {0}. Add it if such requests \
         are to be protected, or let clients send no key with them; idemgate.requests.key_unguarded counts them"
    )]
    KeyUnguarded(String),
    /// Callers may not be told apart as expected.
    #[error("{0}")]
    Caller(Doubt),
    /// A caller has its share of something.
    #[error(
        "one caller has its share (limits.caller_share) of {}, half of which is taken; its requests that need more are \
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
            && !matches!(self, Self::Caller(_) | Self::OverShare(_))
            || self == other
    }
}

#[derive(Clone, Debug)]
enum State {
    /// Waits for the request's headers.
    Idle,
    AwaitBody(AwaitBody),
    AwaitClaim(AwaitClaim),
    /// Waits for the same answer, with the stream answered or over: a grant is given back.
    AwaitMootClaim(AwaitClaim),
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

impl Exchange {
    /// An exchange under `policy` whose request has not arrived yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let shadow = (policy.mode == Mode::Shadow).then(Box::default);
        Self { policy, state: State::Idle, shadow, room: u64::MAX }
    }

    /// Takes `event` in, and appends what is to be done to `effects`.
    ///
    /// An event that means nothing in the present state changes nothing: hosts differ in what they
    /// report at the end of a stream, and in which order.
    pub fn handle(&mut self, event: Event<'_>, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.shadow.take() {
            Some(shadow) => self.observe(shadow, event, now, effects),
            None => self.advance(event, now, effects),
        }
    }

    fn advance(&mut self, event: Event<'_>, now: Timestamp, effects: &mut Vec<Effect>) {
        let mut step = Step { policy: &self.policy, now, room: self.room, effects };
        if let Event::Answered(Answer::Renewed(renewed)) = event {
            if let Renewed::Failed(error) = renewed {
                step.warn(error);
            }
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Finished) {
            State::Idle => step.on_idle(event),
            State::AwaitBody(state) => state.on(event, &mut step),
            State::AwaitClaim(state) => state.on(event, &mut step),
            State::AwaitMootClaim(state) => state.on_moot(event, &mut step),
            State::AwaitTurn(state) => state.on(event, &mut step),
            State::AwaitResponse(state) => state.on(event, &mut step),
            State::AwaitEnd(state) => state.on(event, &mut step),
            State::AwaitText(state) => state.on(event, &mut step),
            State::AwaitCall(state) => state.on(event, &mut step),
            State::Settling(state) => state.on(event, &mut step),
            State::Bypassed => step.on_bypassed(event),
            State::Replied(_) if matches!(event, Event::Gone { .. }) => State::Finished,
            State::Replied(reply) => State::Replied(reply),
            State::Finished => State::Finished,
        };
    }

    /// Whether the exchange leaves the messages alone.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    /// Whether the exchange waits for the request's body with its headers kept back, and has seen none of it yet.
    #[must_use]
    pub fn awaits_first_body(&self) -> bool {
        !self.is_shadow() && matches!(&self.state, State::AwaitBody(state) if state.has_seen_nothing())
    }

    /// Whether the exchange waits for more of the request's body.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(self.state, State::AwaitBody(_))
    }

    /// Whether the request is kept back and nothing more of it is of interest.
    #[must_use]
    pub fn holds_whole_request(&self) -> bool {
        self.holds_request() && !self.awaits_body()
    }

    /// Whether the request is kept back, whatever more of it arrives.
    #[must_use]
    pub fn holds_request(&self) -> bool {
        if self.is_shadow() {
            return false;
        }
        match self.state {
            State::AwaitBody(_)
            | State::AwaitClaim(_)
            | State::AwaitMootClaim(_)
            | State::AwaitTurn(_)
            | State::AwaitCall(_) => true,
            State::Settling(ref state) => state.holds_request(),
            State::Idle
            | State::AwaitResponse(_)
            | State::AwaitEnd(_)
            | State::AwaitText(_)
            | State::Bypassed
            | State::Replied(_)
            | State::Finished => false,
        }
    }

    /// Whether [`Event::Tick`] would do anything at `now`.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        match &self.state {
            State::AwaitTurn(state) => state.is_due(now),
            State::AwaitResponse(state) => state.is_due(now),
            State::AwaitEnd(state) => state.is_due(now),
            State::AwaitText(state) => state.is_due(now),
            State::AwaitCall(state) => state.is_due(now),
            State::Idle
            | State::AwaitBody(_)
            | State::AwaitClaim(_)
            | State::AwaitMootClaim(_)
            | State::Settling(_)
            | State::Bypassed
            | State::Replied(_)
            | State::Finished => false,
        }
    }

    /// Whether the filter has answered by itself, and nothing is under way besides.
    #[must_use]
    pub fn has_replied(&self) -> bool {
        matches!(self.state, State::Replied(_)) && !self.is_shadow()
    }

    /// The reply of the filter's own that passes by, if the response is that.
    pub fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.state {
            State::Replied(reply) if self.shadow.is_none() => Some(reply),
            State::Settling(state) => state.outgoing(),
            _ => None,
        }
    }

    /// Whether the exchange copies the response's body.
    #[must_use]
    pub fn captures(&self) -> bool {
        matches!(self.state, State::AwaitEnd(_) | State::AwaitText(_))
            || self.shadow.as_ref().is_some_and(|shadow| shadow.captures())
    }

    /// Whether the exchange wants to know of the response's end, to keep it back until the store knows
    /// how the execution ended.
    #[must_use]
    pub fn awaits_response_end(&self) -> bool {
        !self.is_shadow() && matches!(&self.state, State::Settling(state) if state.holds_response())
    }

    /// Whether the store is to take the last word on an execution.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        matches!(self.state, State::Settling(_))
    }

    /// Whether the request waits for the end of an execution that another one has under way.
    #[must_use]
    pub fn awaits_turn(&self) -> bool {
        matches!(self.state, State::AwaitTurn(_))
    }

    /// Whether the store's answer to a claim is awaited.
    #[must_use]
    pub fn awaits_claim(&self) -> bool {
        matches!(self.state, State::AwaitClaim(_) | State::AwaitMootClaim(_))
    }

    /// Whether a detached call is to be made as soon as the claim that is awaited is granted.
    #[must_use]
    pub fn wants_call(&self) -> bool {
        matches!(&self.state, State::AwaitClaim(state) if state.wants_call())
    }

    /// Whether the store's answer to a claim is awaited, and nobody is left to answer.
    #[must_use]
    pub fn is_moot(&self) -> bool {
        matches!(self.state, State::AwaitMootClaim(_))
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }
}

/// What a transition needs besides its state.
#[derive(Debug)]
struct Step<'a> {
    policy: &'a Policy,
    now: Timestamp,
    room: u64,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    fn on_idle(&mut self, event: Event<'_>) -> State {
        match event {
            Event::RequestHeaders { headers, attribute, owner, mailbox, is_store_remote, end_of_stream } => {
                self.open(headers, attribute, owner, mailbox, is_store_remote, end_of_stream)
            }
            Event::Gone { .. } => State::Finished,
            _ => State::Idle,
        }
    }

    fn on_bypassed(&mut self, event: Event<'_>) -> State {
        match event {
            Event::ResponseHeaders { headers, .. } => {
                self.mark(Status::Bypassed, headers);
                State::Finished
            }
            Event::Gone { .. } => State::Finished,
            _ => State::Bypassed,
        }
    }

    fn refuse(&mut self, problem: &Problem) -> State {
        self.count(problem.counter());
        self.tell(problem.status());
        self.reply(problem.reply(self.policy.docs_uri.as_deref(), self.policy.status_header))
    }

    /// Tells the operator that a caller has its share; the problem for its request.
    fn over_share(&mut self, scarce: Scarce) -> Problem {
        self.effects.push(Effect::Notice(Notice::OverShare(scarce)));
        Problem::OverShare(scarce)
    }

    fn reply(&mut self, reply: Reply) -> State {
        State::Replied(self.send(reply))
    }

    /// Answers the client; the reply as it is on its way.
    fn send(&mut self, reply: Reply) -> Outgoing {
        let reply = Arc::new(reply);
        self.effects.push(Effect::Reply(Arc::clone(&reply)));
        Outgoing::new(reply)
    }

    /// Puts `status` on the upstream's response, and takes off what is meant for the filter alone, or only it may say.
    fn mark(&mut self, status: Status, headers: &Headers) {
        self.tell(status);
        self.note_policy_word(headers);
        for name in [POLICY_HEADER, EXPIRES_HEADER, &self.policy.replay.header] {
            if headers.get(name).is_some() {
                self.effects.push(Effect::RemoveResponseHeader(name.to_owned()));
            }
        }
        if self.policy.status_header {
            self.effects.push(Effect::SetResponseHeader(STATUS_HEADER, status.as_str()));
        }
    }

    /// Tells of a word by which the upstream means to steer its response, and does not.
    fn note_policy_word(&mut self, headers: &Headers) {
        if let Some(word) = outcome::unknown_policy_word(headers) {
            let word = String::from_utf8_lossy(word).chars().take(LONGEST_WORD_SHOWN).collect();
            self.count(Counter::OutcomesPolicyIgnored);
            self.effects.push(Effect::Notice(Notice::UnknownPolicyWord(word)));
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
}

/// How often [`Event::Tick`] is due under `policy`: often enough for leases and for waiting requests.
#[must_use]
pub fn tick_interval(policy: &Policy) -> Duration {
    let renewal = execution::renewal_interval(policy);
    match policy.duplicates.in_flight {
        InFlight::Reject => renewal,
        InFlight::Wait => renewal.min(policy.duplicates.wait_timeout / DEADLINE_CHECKS),
    }
}

/// Whether requests under `policy` may have to be woken or executed apart from their streams, so that
/// workers need mailboxes.
#[must_use]
pub fn needs_mailbox(policy: &Policy) -> bool {
    policy.duplicates.in_flight == InFlight::Wait || policy.execution.mode == ExecutionMode::Detached
}

/// How many characters of a word of the upstream's a log line has.
const LONGEST_WORD_SHOWN: usize = 40;

/// A waiting request is answered at most this part of its time too late.
const DEADLINE_CHECKS: u32 = 8;

#[cfg(test)]
mod tests;
