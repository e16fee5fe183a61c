//! The time between the end of an execution and the store's word that it knows of it.
//!
//! The client does not get the end of its answer before: whoever has an answer can rely on it that a retry
//! gets the same. A store that answers at once makes nobody wait; one that takes too long makes the client
//! wait for a bounded time, and goes on trying.

use super::{Counter, Effect, Event, State, Status, Step, footprint::HELD_REQUEST, outgoing::Outgoing, reply::Reply};
use crate::{
    request::OperationId,
    store::{Answer, Ended, Settled},
};

/// Waits for the store's word on how the execution was settled.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    pub(super) operation: OperationId,
    pub(super) answer: Answering,
}

impl Answering {
    /// The response that passes by, at its end or before.
    pub(super) fn response(end_of_stream: bool) -> Self {
        if end_of_stream { Self::Held } else { Self::Passing }
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

impl Settling {
    /// Whether the client's request is kept back.
    pub(super) fn holds_request(&self) -> bool {
        matches!(self.answer, Answering::Owed(_))
    }

    /// Whether the end of the response is to be kept back, or is.
    pub(super) fn holds_response(&self) -> bool {
        matches!(self.answer, Answering::Passing | Answering::Held)
    }

    pub(super) fn footprint(&self) -> u64 {
        match &self.answer {
            Answering::Owed(reply) => HELD_REQUEST + reply.footprint(),
            Answering::Sent(reply) => reply.footprint(),
            Answering::Passing | Answering::Held | Answering::Done => 0,
        }
    }

    /// The reply of the filter's own that passes by.
    pub(super) fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.answer {
            Answering::Sent(reply) => Some(reply),
            _ => None,
        }
    }

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

    fn settled(mut self, ended: Ended, step: &mut Step<'_>) -> State {
        match ended.settled {
            Settled::Stored => step.count(Counter::OutcomesStored),
            Settled::Tombstoned => step.count(Counter::OutcomesTombstoned),
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
