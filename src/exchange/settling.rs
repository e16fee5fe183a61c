//! The time between the end of an execution and the store's word that it knows of it.
//!
//! The client does not get the end of its answer before: a client that has an answer can rely on it that a retry
//! gets the same. A store that answers at once makes nobody wait; one that takes too long makes the client
//! wait for a bounded time, and goes on trying.

use super::{
    effect::Effect,
    event::Event,
    state::{Answering, Settling, State},
    step::Step,
    vocabulary::{Counter, Status},
};
use crate::store::{Answer, Settled, Settlement};

impl Settling {
    pub(super) fn on(mut self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match (event, &self.answer) {
            (Event::Answered(Answer::Settled(ended)), _) => return self.settled(ended, step),
            (Event::Answered(Answer::Delayed), _) => self.give_answer(step),
            (Event::ResponseBody { end_of_stream: true, .. } | Event::ResponseTrailers, Answering::Passing) => {
                step.effects.push(Effect::HoldResponse);
                self.answer = Answering::Held;
            }
            // Envoy itself answers, by a timeout of its own.
            (Event::ResponseHeaders { headers, .. }, Answering::Owed(_)) => {
                step.mark(Status::Unknown, headers);
                self.answer = Answering::Done;
            }
            (Event::Gone { .. } | Event::ResponseHeaders { .. }, _) => self.answer = Answering::Done,
            _ => {}
        }
        State::Settling(self)
    }

    fn settled(mut self, ended: Settlement, step: &mut Step<'_>) -> State {
        match ended.settled {
            Settled::Completed => step.count(Counter::OutcomesStored),
            Settled::NotKept => step.count(Counter::OutcomesTombstoned),
            Settled::Released => step.count(Counter::OutcomesReleased),
            Settled::Unknown => step.count(Counter::OutcomesUnknown),
            Settled::Fenced => step.count(Counter::OutcomesFenced),
            // The claim stays, and is of unknown outcome when its lease is over.
            Settled::Failed(error) => {
                step.warn(error);
                step.count(Counter::OutcomesUnrecorded);
            }
        }
        if !ended.watchers.is_empty() {
            step.effects.push(Effect::Wake { operation: self.operation, watchers: ended.watchers });
        }
        self.give_answer(step);
        match self.answer {
            Answering::Sent(reply) => State::Replied(reply),
            _ => State::Finished,
        }
    }

    /// Lets the client have the rest of its answer.
    fn give_answer(&mut self, step: &mut Step<'_>) {
        self.answer = match std::mem::replace(&mut self.answer, Answering::Done) {
            Answering::Owed(reply) => Answering::Sent(step.send(reply)),
            Answering::Held => {
                step.effects.push(Effect::ForwardResponse);
                Answering::Done
            }
            Answering::Sent(reply) => Answering::Sent(reply),
            Answering::Passing | Answering::Done => Answering::Done,
        };
    }
}
