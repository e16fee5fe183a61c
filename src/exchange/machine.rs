//! The state of an exchange, and the way from one to the next.

use std::sync::Arc;

use super::{effect::Effect, event::Event, state::State, step::Step, vocabulary::Status};
use crate::{
    config::Policy,
    store::{Answer, Renewed},
    time::Now,
};

/// An exchange that acts on the wire.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) policy: Arc<Policy>,
    pub(super) state: State,
    /// How much more memory it may take.
    pub(super) room: u64,
}

impl Machine {
    pub(super) fn advance(&mut self, event: Event<'_>, now: &Now, effects: &mut Vec<Effect>) {
        let mut step = Step { policy: &self.policy, now, room: self.room, effects };
        if let Event::Answered(Answer::Renewed(renewed)) = event {
            if let Renewed::Failed(error) = renewed {
                step.warn(error);
            }
            return;
        }
        if let (Event::Tick, Some(execution)) = (&event, self.state.execution_mut()) {
            return execution.renew_if_due(&mut step);
        }
        self.state = match std::mem::replace(&mut self.state, State::Finished) {
            State::Idle => step.on_idle(event),
            State::AwaitBody(state) => state.on(event, &mut step),
            State::AwaitClaim(state) => state.on(event, &mut step),
            State::AwaitAbandonedClaim(state) => state.on_abandoned(event, &mut step),
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
}

impl Step<'_> {
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
}
