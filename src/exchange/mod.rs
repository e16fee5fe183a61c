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
//! Each state is a type that holds just what is known then (`state`), and a transition consumes it: from the request's
//! headers in `opening`, to its name in `naming`, up to the claim in `claiming`, in the client's stream in `inline`,
//! outside of it in `detached`, to its record in `settling`, and in the shadow of a request that goes its own way in
//! `shadow`.

mod call;
mod capture;
mod claiming;
mod detached;
mod effect;
mod event;
mod execution;
mod footprint;
mod inline;
mod machine;
mod naming;
mod opening;
pub mod outcome;
mod outgoing;
mod problem;
mod reply;
mod settling;
mod shadow;
mod state;
mod step;
mod vocabulary;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    call::DetachedCall,
    effect::{Effect, Notice},
    event::{Attributes, CallFailure, Event, NoRoom},
    footprint::{CALL_ANSWER, HELD_REQUEST},
    outcome::Evidence,
    outgoing::{CONTENT_LENGTH, Outgoing},
    problem::Problem,
    reply::{Reply, ReplyBody, replayable},
    vocabulary::{Counter, EXPIRES_HEADER, POLICY_HEADER, STATUS_HEADER, Status},
};
use self::{machine::Machine, shadow::Shadow, state::State};
use crate::{
    config::{ExecutionMode, InFlight, Mode, Policy},
    time::{Now, Timestamp},
};

/// The exchange of one stream.
#[derive(Clone)]
pub struct Exchange {
    machine: Machine,
    /// Present in shadow mode.
    shadow: Option<Box<Shadow>>,
}

impl fmt::Debug for Exchange {
    /// Without the policy, which all exchanges of a route have in common, and the room, which is told before each event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, shadow) = (&self.machine.state, &self.shadow);
        f.debug_struct("Exchange").field("state", state).field("shadow", shadow).finish_non_exhaustive()
    }
}

impl Exchange {
    /// An exchange under `policy` whose request has not arrived yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let shadow = (policy.mode == Mode::Shadow).then(Box::default);
        Self { machine: Machine { policy, state: State::Idle, room: u64::MAX }, shadow }
    }

    /// What its request falls under.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.machine.policy
    }

    /// Takes `event` in, and appends what is to be done to `effects`.
    ///
    /// An event that means nothing in the present state changes nothing: hosts differ in what they
    /// report at the end of a stream, and in which order.
    pub fn handle(&mut self, event: Event<'_>, now: &Now, effects: &mut Vec<Effect>) {
        match &mut self.shadow {
            Some(shadow) => shadow.observe(&mut self.machine, event, now, effects),
            None => self.machine.advance(event, now, effects),
        }
    }

    /// Says how much more memory may be taken than is taken now; as much as there is, if nobody says.
    pub fn set_room(&mut self, room: u64) {
        self.machine.room = room;
    }

    /// How many bytes it takes now, in the filter and in Envoy because of it.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        match &self.shadow {
            // Nothing is held, and nothing is answered.
            Some(shadow) => shadow.footprint() + self.machine.state.captured(),
            None => self.machine.state.footprint(),
        }
    }

    /// Whether the exchange leaves the messages alone.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    /// Whether the exchange waits for the request's body with its headers kept back, and has seen none of it yet.
    #[must_use]
    pub fn awaits_first_body(&self) -> bool {
        !self.is_shadow() && matches!(&self.machine.state, State::AwaitBody(state) if state.request.body == 0)
    }

    /// Whether the exchange waits for more of the request's body.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        matches!(self.machine.state, State::AwaitBody(_))
    }

    /// Whether the request is kept back and nothing more of it is of interest.
    #[must_use]
    pub fn holds_whole_request(&self) -> bool {
        self.holds_request() && !self.awaits_body()
    }

    /// Whether the request is kept back, whatever more of it arrives.
    #[must_use]
    pub fn holds_request(&self) -> bool {
        !self.is_shadow() && self.machine.state.holds_request()
    }

    /// Whether [`Event::Tick`] would do anything at `now`.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.machine.state.is_due(now)
    }

    /// Whether the filter has answered by itself, and nothing is under way besides.
    #[must_use]
    pub fn has_replied(&self) -> bool {
        matches!(self.machine.state, State::Replied(_)) && !self.is_shadow()
    }

    /// The reply of the filter's own that passes by, if the response is that.
    pub fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.machine.state {
            State::Replied(reply) if self.shadow.is_none() => Some(reply),
            State::Settling(state) => state.outgoing(),
            _ => None,
        }
    }

    /// Whether the exchange copies the response's body.
    #[must_use]
    pub fn captures(&self) -> bool {
        matches!(self.machine.state, State::AwaitEnd(_) | State::AwaitText(_))
            || self.shadow.as_ref().is_some_and(|shadow| shadow.captures())
    }

    /// Whether the exchange wants to know of the response's end, to keep it back until the store knows
    /// how the execution ended.
    #[must_use]
    pub fn awaits_response_end(&self) -> bool {
        !self.is_shadow() && matches!(&self.machine.state, State::Settling(state) if state.holds_response())
    }

    /// Whether the store is to record the end of an execution.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        matches!(self.machine.state, State::Settling(_))
    }

    /// Whether the request waits for the end of an execution that another one has under way.
    #[must_use]
    pub fn awaits_turn(&self) -> bool {
        matches!(self.machine.state, State::AwaitTurn(_))
    }

    /// Whether the store's answer to a claim is awaited.
    #[must_use]
    pub fn awaits_claim(&self) -> bool {
        matches!(self.machine.state, State::AwaitClaim(_) | State::AwaitAbandonedClaim(_))
    }

    /// Whether a detached call is to be made as soon as the claim that is awaited is granted.
    #[must_use]
    pub fn wants_call(&self) -> bool {
        matches!(&self.machine.state, State::AwaitClaim(state) if state.request.call.is_some())
    }

    /// Whether the store's answer to a claim is awaited, and nobody is left to answer.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        matches!(self.machine.state, State::AwaitAbandonedClaim(_))
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.machine.state, State::Finished)
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

/// A waiting request is answered at most this part of its time too late.
const DEADLINE_CHECKS: u32 = 8;

#[cfg(test)]
mod tests;
