//! What can happen next.

use super::{Client, Message, Service, Transit, World};
use crate::proof::{
    history::AttemptId,
    scenario::{Conduct, Mutation, Place},
    worker::QuestionId,
};

/// One step of somebody.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Action {
    /// A client sends a request, and a worker gets it.
    Begin(AttemptId, Place),
    /// The worker's callback goes on by one host call.
    Step(Place),
    /// The same, and then the VM dies.
    StepAndDie(Place),
    Die(Place),
    /// The Envoy is killed, and starts anew.
    Restart(u8),
    Tick(Place),
    Sweep(Place),
    /// The worker reads its mailbox.
    Wake(Place),
    /// The service, or Envoy in its place, answers.
    Answer(AttemptId, Conduct),
    /// The rest of the answer comes.
    Finish(AttemptId),
    /// The rest of the answer never comes.
    Cut(AttemptId),
    HangUp(AttemptId),
    /// Redis gets a message, and carries it out.
    Arrive(QuestionId),
    /// The reply comes back.
    Reply(QuestionId),
    /// A message or the reply to it is lost.
    Lose(QuestionId),
    /// The connection breaks.
    Reset(QuestionId),
    /// There is no connection.
    Refuse(QuestionId),
    /// Redis cannot.
    Decline(QuestionId),
    /// Envoy gives up on a reply.
    TimeOut(QuestionId),
    /// Redis loses its data.
    Flush,
    /// Time passes, in milliseconds.
    Advance(u64),
}

impl World {
    /// Every step that can be taken, but for the passing of time.
    pub(crate) fn actions(&self, actions: &mut Vec<Action>) {
        if self.breach.is_some() {
            return;
        }
        self.client_actions(actions);
        self.worker_actions(actions);
        for (question, message) in &self.messages {
            self.message_actions(*question, message, actions);
        }
        if self.faults.flushes > 0 {
            actions.push(Action::Flush);
        }
    }

    fn client_actions(&self, actions: &mut Vec<Action>) {
        for (attempt, progress) in self.attempts.iter().enumerate() {
            match progress.client {
                Client::ToCome if self.may_begin(attempt) => {
                    let wanted = self.scenario.attempts[attempt].worker;
                    let places = self.seats().filter(|(place, seat)| {
                        seat.callback.is_none() && wanted.is_none_or(|wanted| wanted == *place)
                    });
                    actions.extend(places.map(|(place, _)| Action::Begin(attempt, place)));
                }
                Client::Waits if self.faults.hangups > 0 && self.is_reachable(attempt) => {
                    actions.push(Action::HangUp(attempt));
                }
                _ => {}
            }
            if self.is_reachable(attempt) {
                match progress.service {
                    Service::Asked => {
                        actions.extend(self.scenario.deeds.iter().map(|conduct| Action::Answer(attempt, *conduct)));
                    }
                    Service::Answers(_) => {
                        actions.push(Action::Finish(attempt));
                        if self.scenario.deeds.contains(&Conduct::Breaks) {
                            actions.push(Action::Cut(attempt));
                        }
                    }
                    Service::Idle | Service::Done => {}
                }
            }
        }
    }

    /// A client makes one attempt after the other.
    fn may_begin(&self, attempt: AttemptId) -> bool {
        let client = self.scenario.attempts[attempt].client;
        let earlier = self.scenario.attempts[..attempt].iter().zip(&self.attempts);
        let mut own = earlier.filter(|(other, _)| other.client == client);
        own.all(|(_, progress)| progress.client == Client::Over)
    }

    fn worker_actions(&self, actions: &mut Vec<Action>) {
        for (place, seat) in self.seats() {
            if seat.callback.is_some() {
                actions.push(Action::Step(place));
                if self.faults.deaths > 0 {
                    actions.push(Action::StepAndDie(place));
                }
                continue;
            }
            if self.faults.deaths > 0 && !seat.worker.is_empty() {
                actions.push(Action::Die(place));
            }
            if !seat.mailbox.is_empty() {
                actions.push(Action::Wake(place));
            }
            if seat.worker.is_due(&self.scenario, self.clock(place.envoy, self.now)) {
                actions.push(Action::Tick(place));
            }
            if self.faults.sweeps > 0 {
                actions.push(Action::Sweep(place));
            }
        }
        if self.faults.restarts > 0 {
            actions.extend((0..self.scenario.envoys).map(Action::Restart));
        }
    }

    /// What is sent on a stream arrives in its order, and so do the replies.
    fn stream_actions(
        &self,
        question: QuestionId,
        message: &Message,
        (stream, order): (u32, u16),
        actions: &mut Vec<Action>,
    ) {
        let earlier = || self.on_stream(message.place, stream).filter(|(_, other, _)| *other < order);
        let is_heard = self.is_idle(message.place);
        let is_first = earlier().next().is_none();
        match message.state {
            Transit::Sent | Transit::Abandoned => {
                if earlier().all(|(_, _, other)| !matches!(other.state, Transit::Sent | Transit::Abandoned)) {
                    actions.push(Action::Arrive(question));
                }
            }
            Transit::Replied(_)
                if is_heard && (is_first || self.scenario.mutation == Some(Mutation::WrongQuestion)) =>
            {
                actions.push(Action::Reply(question));
            }
            Transit::Replied(_) | Transit::Lost => {}
        }
        if is_first && matches!(message.state, Transit::Sent | Transit::Replied(_)) && self.faults.losses > 0 {
            actions.push(Action::Lose(question));
            if is_heard {
                actions.push(Action::Reset(question));
            }
        }
        if message.command.is_none() && message.state == Transit::Sent && self.faults.refusals > 0 && is_heard {
            actions.extend([Action::Refuse(question), Action::Decline(question)]);
        }
    }

    fn message_actions(&self, question: QuestionId, message: &Message, actions: &mut Vec<Action>) {
        if let Some(on) = message.on {
            return self.stream_actions(question, message, on, actions);
        }
        let is_heard = self.is_idle(message.place);
        let is_open = matches!(message.state, Transit::Sent | Transit::Replied(_));
        match message.state {
            Transit::Sent | Transit::Abandoned => actions.push(Action::Arrive(question)),
            Transit::Replied(_) if is_heard => actions.push(Action::Reply(question)),
            Transit::Replied(_) | Transit::Lost => {}
        }
        if is_open && self.faults.losses > 0 {
            actions.push(Action::Lose(question));
            if is_heard {
                actions.push(Action::Reset(question));
            }
        }
        if message.state == Transit::Sent && self.faults.refusals > 0 && is_heard {
            actions.extend([Action::Refuse(question), Action::Decline(question)]);
        }
        if message.state != Transit::Abandoned && self.now >= message.deadline && is_heard {
            actions.push(Action::TimeOut(question));
        }
    }

    /// Whether so much time may pass: no more replies may be given up on than may come late, and while a
    /// worker is at work one more has to be allowed to stand still.
    pub(crate) fn may_advance(&self, by: u64) -> bool {
        let mut late = 0;
        for message in self.messages.values() {
            match message.state {
                Transit::Abandoned => {}
                // The worker itself looks at the time of what is on a stream.
                Transit::Lost if message.on.is_some() => {}
                _ if message.on.is_none() && self.now >= message.deadline => return false,
                Transit::Lost => {}
                _ => late += u8::from(self.now + by >= message.deadline),
            }
        }
        self.breach.is_none() && late <= self.faults.losses && (self.faults.stalls > 0 || !self.is_at_work())
    }

    /// Whether a worker is between two host calls.
    pub(crate) fn is_at_work(&self) -> bool {
        self.seats().any(|(_, seat)| seat.callback.is_some())
    }

    /// When the next reply is given up on.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let awaited = self.messages.values().filter(|message| message.state != Transit::Abandoned);
        let awaited = awaited.filter(|message| message.on.is_none() || message.deadline > self.now);
        awaited.map(|message| message.deadline.saturating_sub(self.now)).min()
    }

    /// Whether a step can be taken now.
    pub(crate) fn can(&self, action: Action) -> bool {
        if let Action::Advance(by) = action {
            return self.may_advance(by);
        }
        let mut actions = Vec::new();
        self.actions(&mut actions);
        actions.contains(&action)
    }
}
