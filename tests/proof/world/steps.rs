//! What happens then.

use std::sync::Arc;

use idemgate::{
    exchange::{Counter, Reply},
    request::OperationId,
};

use super::{Action, Callback, Client, Message, Seat, Service, Transit, World, laid_out};
use crate::proof::{
    history::{AttemptId, Breach, Promise, Told, breach},
    law::{self, Deed, Entry, Lawful},
    memory::{self, Access, BUCKET, Session, TABLE, TOTALS},
    postgres,
    redis::LOADING,
    scenario::{Conduct, Mutation, Place, Scenario, ServerKind, StoreKind},
    server::Command,
    worker::{Occasion, Output, QuestionId, Said, Worker, mailbox_of},
};

impl World {
    /// Takes a step that can be taken.
    pub(crate) fn take(&mut self, action: Action) {
        if let Err(breach) = self.try_to_take(action) {
            self.breach = Some(breach);
        }
    }

    pub(super) fn try_to_take(&mut self, action: Action) -> Result<(), Breach> {
        match action {
            Action::Begin(attempt, place) => {
                let progress = &mut self.attempts[attempt];
                (progress.place, progress.client) = (Some(place), Client::Waits);
                self.history.began(attempt, self.operation(attempt, place));
                self.call(place, Occasion::Request(attempt))
            }
            Action::Step(place) => self.step(place),
            Action::StepAndDie(place) => {
                self.faults.deaths -= 1;
                self.carry_out(place)?;
                self.die(place);
                Ok(())
            }
            Action::Die(place) => {
                self.faults.deaths -= 1;
                self.die(place);
                Ok(())
            }
            Action::Restart(envoy) => {
                self.faults.restarts -= 1;
                self.restart(envoy);
                Ok(())
            }
            Action::Tick(place) => self.call(place, Occasion::Tick),
            Action::Sweep(place) => {
                self.faults.sweeps -= 1;
                self.call(place, Occasion::Sweep)
            }
            Action::Wake(place) => match self.seat_mut(place).mailbox.pop_front() {
                Some(operation) => self.call(place, Occasion::Woken(operation)),
                None => Ok(()),
            },
            Action::Answer(attempt, conduct) => self.answer(attempt, conduct),
            Action::Finish(attempt) => self.finish(attempt),
            Action::Cut(attempt) => {
                // What has been judged by its headers stays what it is.
                if self.attempts[attempt].service == Service::Answers(Conduct::Answers) {
                    self.history.conducted(attempt, Conduct::Breaks);
                }
                self.leave(attempt)
            }
            Action::HangUp(attempt) => {
                self.faults.hangups -= 1;
                self.leave(attempt)
            }
            Action::Arrive(question) => self.arrive(question),
            Action::Reply(question) => match self.messages.remove(&question) {
                Some(Message { place, on: Some((stream, _)), state: Transit::Replied(reply), .. }) => {
                    self.call(place, Occasion::Received(stream, reply.body))
                }
                Some(Message { place, state: Transit::Replied(reply), .. }) => {
                    self.call(place, Occasion::Replied(question, Said::Reply(reply)))
                }
                _ => Ok(()),
            },
            Action::Lose(question) => {
                self.faults.losses -= 1;
                if let Some((place, stream)) = self.stream_of(question) {
                    self.stall(place, stream);
                } else if let Some(message) = self.messages.get_mut(&question) {
                    message.state = Transit::Lost;
                }
                Ok(())
            }
            Action::Reset(question) => {
                self.faults.losses -= 1;
                match self.stream_of(question) {
                    Some((place, stream)) => self.reset(place, stream),
                    None => self.give_up(question, Said::Nothing),
                }
            }
            Action::Refuse(question) => match self.stream_of(question) {
                Some((place, stream)) => {
                    self.faults.refusals -= 1;
                    self.abandon(place, stream);
                    self.call(place, Occasion::StreamEnded(stream, REFUSED))
                }
                None => self.decline(question, Said::Refused),
            },
            Action::Decline(question) => match self.stream_of(question) {
                Some((place, stream)) => {
                    self.faults.refusals -= 1;
                    let message = self.messages.remove(&question);
                    let says = match message.is_some_and(|message| message.command.is_some()) {
                        _ if self.scenario.server != ServerKind::Postgres => LOADING.to_vec(),
                        true => postgres::read_only(),
                        false => postgres::starting(),
                    };
                    self.call(place, Occasion::Received(stream, says.into()))
                }
                None => self.decline(question, Said::Reply(self.server.unable(self.server_clock()))),
            },
            Action::TimeOut(question) => {
                if self.messages.get(&question).is_some_and(|message| message.state != Transit::Lost) {
                    self.faults.losses = self.faults.losses.saturating_sub(1);
                }
                self.give_up(question, Said::Nothing)
            }
            Action::Flush => {
                self.faults.flushes -= 1;
                self.server.flush();
                self.history.lost_data(0, self.now);
                Ok(())
            }
            Action::Advance(time) => {
                if self.is_at_work() {
                    self.faults.stalls -= 1;
                }
                self.now += time;
                Ok(())
            }
        }
    }

    /// The host calls a worker.
    pub(super) fn call(&mut self, place: Place, occasion: Occasion) -> Result<(), Breach> {
        let began = self.now;
        self.run(place, Callback { occasion, began, tape: Vec::new(), next: (Access::Get { key: TABLE.into() }, None) })
    }

    /// The worker's callback goes on by one host call.
    pub(super) fn step(&mut self, place: Place) -> Result<(), Breach> {
        self.carry_out(place)?;
        match self.seat_mut(place).callback.take() {
            Some(callback) => self.run(place, callback),
            None => Ok(()),
        }
    }

    /// Carries out the host call to which the callback has come.
    pub(super) fn carry_out(&mut self, place: Place) -> Result<(), Breach> {
        let Some(mut callback) = self.seat_mut(place).callback.take() else { return Ok(()) };
        let (access, deed) = &callback.next;
        let now = self.clock(place.envoy, self.now).as_millis();
        let memory = &mut self.envoys[usize::from(place.envoy)].shared_data;
        let before = memory.value(access.key()).cloned();
        let said = memory.carry_out(access);
        if access.key().starts_with(BUCKET) && said == (memory::Said::Wrote { done: true }) {
            let after = memory.value(access.key());
            let after = after.map(|value| &**value);
            for attempt in evicted(&self.scenario, before.as_deref(), after, deed.as_ref(), now)? {
                self.history.evicted(attempt);
            }
        }
        callback.tape.push(said);
        self.seat_mut(place).callback = Some(callback);
        Ok(())
    }

    /// Runs a callback as far as the answers of the host go.
    pub(super) fn run(&mut self, place: Place, mut callback: Callback) -> Result<(), Breach> {
        let scenario = Arc::clone(&self.scenario);
        let table = Arc::clone(&self.envoys[usize::from(place.envoy)].table);
        let now = self.clock(place.envoy, callback.began);
        loop {
            let mut worker = Worker::clone(&self.seat(place).worker);
            let session = Session::new(&callback.tape, &table, scenario.mutation == Some(Mutation::BlindSet));
            let outputs = worker.call(&scenario, &*self.remote_store, place, &callback.occasion, now, &session);
            let Some(next) = session.into_next() else {
                worker.end_callback(&scenario);
                self.seat_mut(place).worker = Arc::new(worker);
                return outputs.into_iter().try_for_each(|output| self.put_out(place, output, callback.began));
            };
            let is_a_stop = scenario.stops_at_totals || next.0.key() != TOTALS;
            callback.next = next;
            self.seat_mut(place).callback = Some(callback);
            if is_a_stop {
                return Ok(());
            }
            self.carry_out(place)?;
            let Some(on) = self.seat_mut(place).callback.take() else { return Ok(()) };
            callback = on;
        }
    }

    pub(super) fn put_out(&mut self, place: Place, output: Output, began: u64) -> Result<(), Breach> {
        let scenario = Arc::clone(&self.scenario);
        match output {
            Output::Claims(attempt) => self.attempts[attempt].claimed = began,
            Output::LetThrough { attempt, protected } => {
                // A detached call is made, too, if the client has gone since it was granted.
                let may_have_gone = scenario.is_detached() && protected;
                let progress = &mut self.attempts[attempt];
                let has_client = progress.client == Client::Waits || may_have_gone && progress.client == Client::Over;
                if !has_client || progress.service != Service::Idle {
                    return breach(Promise::AtMostOnce, format!("attempt {attempt} is passed on for nobody, or twice"));
                }
                progress.service = Service::Asked;
                let claimed = progress.claimed;
                let operation = self.operation(attempt, place);
                self.history.let_through(&*scenario, attempt, operation, (claimed, self.now), protected)?;
            }
            Output::Replied(attempt, reply) => {
                let was_waiting = self.attempts[attempt].client == Client::Waits;
                self.attempts[attempt].client = Client::Over;
                if !was_waiting {
                    return breach(Promise::Answer, format!("attempt {attempt} is answered twice"));
                }
                let operation = self.operation(attempt, place);
                self.attempts[attempt].answer = Some(reply.details);
                let Some(told) = told(reply) else {
                    return breach(Promise::Answer, format!("attempt {attempt} is not told what became of it"));
                };
                let attempts = self.attempts.iter().enumerate();
                let begun = attempts.filter(|(_, other)| other.client != Client::ToCome).map(|(other, _)| other);
                self.history.answered(&*scenario, attempt, operation, &told, self.now, begun)?;
            }
            Output::Passed(attempt) => {
                self.attempts[attempt].client = Client::Over;
                self.history.passed(&*scenario, attempt, self.now)?;
            }
            Output::Asks { question, bytes, timeout } => {
                let message = Message {
                    place,
                    on: None,
                    command: Some(Arc::new(self.read(&bytes))),
                    deadline: self.now + timeout,
                    state: Transit::Sent,
                };
                self.messages.insert(question, message);
            }
            Output::Sends { stream, question, bytes } => self.send(place, stream, question, &bytes),
            Output::Closes(stream) => self.abandon(place, stream),
            Output::Wakes(mailbox, operation) => {
                for worker in 0..scenario.workers {
                    let other = Place { worker, ..place };
                    if mailbox_of(other) == mailbox {
                        self.seat_mut(other).mailbox.push_back(operation);
                    }
                }
            }
            Output::StoreFailed(error) => {
                if IMPOSSIBLE.contains(&error.kind()) {
                    return breach(Promise::Record, format!("nobody damages a record or forges a reply, and {error}"));
                }
            }
            Output::Counts(attempt, counter) => {
                self.counts[counter as usize] += 1;
                if matches!(counter, Counter::OutcomesStored | Counter::OutcomesTombstoned) {
                    self.history.recorded(attempt);
                }
            }
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, attempt: AttemptId, conduct: Conduct) -> Result<(), Breach> {
        let Some(place) = self.place_of(attempt) else { return Ok(()) };
        if self.scenario.is_detached() && self.history.is_protected(attempt) {
            self.history.conducted(attempt, conduct);
            self.attempts[attempt].service = Service::Done;
            return self.call(place, Occasion::CallEnded(attempt, conduct));
        }
        if matches!(conduct, Conduct::Answers | Conduct::Refuses) {
            self.attempts[attempt].service = Service::Answers(conduct);
            // An answer is one when it is whole; a refusal counts at once.
            if conduct == Conduct::Refuses {
                self.history.conducted(attempt, conduct);
            }
        } else {
            self.history.conducted(attempt, conduct);
            self.attempts[attempt].service = Service::Done;
        }
        self.call(place, Occasion::Response(attempt, conduct))
    }

    pub(super) fn finish(&mut self, attempt: AttemptId) -> Result<(), Breach> {
        let progress = &mut self.attempts[attempt];
        let (Some(place), Service::Answers(conduct)) = (progress.place, progress.service) else { return Ok(()) };
        progress.service = Service::Done;
        self.history.conducted(attempt, conduct);
        self.call(place, Occasion::ResponseEnd(attempt, conduct))
    }

    /// The client's stream is over before its time. With it goes the request, unless the call is apart.
    pub(super) fn leave(&mut self, attempt: AttemptId) -> Result<(), Breach> {
        let progress = &mut self.attempts[attempt];
        let Some(place) = progress.place else { return Ok(()) };
        let occasion = Occasion::Gone {
            attempt,
            was_sent: progress.service != Service::Idle,
            was_answered: matches!(progress.service, Service::Answers(_)),
        };
        progress.client = Client::Over;
        if !self.scenario.is_detached() && progress.service != Service::Idle {
            progress.service = Service::Done;
        }
        self.call(place, occasion)
    }

    pub(super) fn die(&mut self, place: Place) {
        let worker = self.seat(place).worker.successor(&self.scenario);
        *self.seat_mut(place) = Seat { worker: Arc::new(worker), ..Seat::new(&self.scenario) };
        for progress in &mut self.attempts {
            if progress.place == Some(place) && progress.client != Client::ToCome {
                progress.client = Client::Over;
                progress.service = Service::Done;
            }
        }
        self.messages.retain(|_, message| {
            let is_its_own = message.place == place;
            if is_its_own && message.state == Transit::Sent {
                message.state = Transit::Abandoned;
            }
            !is_its_own || message.state == Transit::Abandoned
        });
    }

    pub(super) fn restart(&mut self, envoy: u8) {
        for worker in 0..self.scenario.workers {
            self.die(Place { envoy, worker });
        }
        if !self.scenario.is_remote() {
            let (shared_data, table) = laid_out(&self.scenario);
            let envoy_now = &mut self.envoys[usize::from(envoy)];
            (envoy_now.shared_data, envoy_now.table) = (shared_data, table);
            self.history.lost_data(envoy, self.now);
        }
    }

    /// What the store sends.
    fn read(&self, question: &[u8]) -> Command {
        Command::read(&*self.remote_store, self.scenario.server, question)
    }

    /// The server carries a message out.
    pub(super) fn arrive(&mut self, question: QuestionId) -> Result<(), Breach> {
        let now = self.server_clock();
        let Some(message) = self.messages.get_mut(&question) else { return Ok(()) };
        let Some(command) = message.command.clone() else {
            let is_on_postgres = self.scenario.server == ServerKind::Postgres;
            let welcome = if is_on_postgres { postgres::welcome() } else { b"+PONG\r\n".to_vec() };
            message.state = Transit::Replied(welcome.into());
            return Ok(());
        };
        let before = self.server.entry(&command, now);
        let reply = self.server.carry_out(&command, now, self.scenario.omissions());
        let after = self.server.entry(&command, now);
        match message.state {
            Transit::Sent => message.state = Transit::Replied(reply),
            _ => drop(self.messages.remove(&question)),
        }
        let deed = command.deed(now);
        law::judge(&self.scenario, before.as_ref(), after.as_ref(), deed.as_ref(), now).map(drop).or_else(unlawful)
    }

    fn stream_of(&self, question: QuestionId) -> Option<(Place, u32)> {
        let message = self.messages.get(&question)?;
        message.on.map(|(stream, _)| (message.place, stream))
    }

    /// The worker sends something on a stream. On one that stands still it may arrive, and no reply comes.
    fn send(&mut self, place: Place, stream: u32, question: QuestionId, bytes: &[u8]) {
        let is_greeting = question.attempt == usize::MAX;
        let stands_still = self.on_stream(place, stream).any(|(_, _, message)| message.state == Transit::Lost);
        let order = self.on_stream(place, stream).map(|(_, order, _)| order + 1).max().unwrap_or_default();
        let StoreKind::Remote { timeout } = self.scenario.store else { return };
        let message = Message {
            place,
            on: Some((stream, order)),
            command: (!is_greeting).then(|| Arc::new(self.read(bytes))),
            deadline: self.now + timeout,
            state: if stands_still { Transit::Abandoned } else { Transit::Sent },
        };
        self.messages.insert(question, message);
    }

    /// Nothing comes back on a stream any more. What is on its way may still arrive.
    fn stall(&mut self, place: Place, stream: u32) {
        let questions: Vec<_> = self.on_stream(place, stream).map(|(question, ..)| question).collect();
        for (number, question) in questions.into_iter().enumerate() {
            let Some(message) = self.messages.get_mut(&question) else { continue };
            let may_arrive = message.state == Transit::Sent && message.command.is_some();
            if may_arrive {
                message.state = Transit::Abandoned;
            }
            if !may_arrive || number == 0 {
                // One of them keeps in mind that it stands still.
                let mark = Message { state: Transit::Lost, command: None, ..message.clone() };
                if may_arrive {
                    self.messages.insert(QuestionId { attempt: usize::MAX - 1, ..question }, mark);
                } else {
                    *message = mark;
                }
            }
        }
    }

    /// A stream has ended. What is on its way may still arrive.
    fn abandon(&mut self, place: Place, stream: u32) {
        self.messages.retain(|_, message| {
            let is_on_it = message.place == place && message.on.is_some_and(|(other, _)| other == stream);
            let may_arrive = message.command.is_some() && matches!(message.state, Transit::Sent | Transit::Abandoned);
            if is_on_it && may_arrive {
                message.state = Transit::Abandoned;
            }
            !is_on_it || may_arrive
        });
    }

    /// A stream breaks.
    fn reset(&mut self, place: Place, stream: u32) -> Result<(), Breach> {
        let asked = self.on_stream(place, stream).filter(|(_, _, message)| message.command.is_some()).count();
        self.abandon(place, stream);
        if self.scenario.mutation == Some(Mutation::CertainLoss) && asked > 0 {
            return self.call(place, Occasion::Received(stream, LOADING.repeat(asked).into()));
        }
        self.call(place, Occasion::StreamEnded(stream, ""))
    }

    pub(super) fn decline(&mut self, question: QuestionId, said: Said) -> Result<(), Breach> {
        self.faults.refusals -= 1;
        match self.messages.remove(&question) {
            Some(message) => self.call(message.place, Occasion::Replied(question, said)),
            None => Ok(()),
        }
    }

    /// Envoy waits for a reply no longer. What is on its way may still arrive.
    pub(super) fn give_up(&mut self, question: QuestionId, said: Said) -> Result<(), Breach> {
        let Some(message) = self.messages.get_mut(&question) else { return Ok(()) };
        let place = message.place;
        if message.state == Transit::Sent {
            message.state = Transit::Abandoned;
        } else {
            self.messages.remove(&question);
        }
        self.call(place, Occasion::Replied(question, said))
    }
}

const REFUSED: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection failure";

/// Errors of which there is no cause in any world.
const IMPOSSIBLE: [&str; 6] = ["authentication", "foreign", "malformed", "rejected_request", "schema", "unreadable"];

/// A reply as a client has it.
fn told(reply: Reply) -> Option<Told> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields: Vec<_> = reply.headers.iter().map(|(name, value)| (text(name), text(value))).collect();
    Told::read(reply.status, fields, reply.body.to_vec())
}

/// Whose records a write to a bucket gives up before their time; an error if it does what it may not.
fn evicted(
    scenario: &Scenario,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    deed: Option<&Deed>,
    now: u64,
) -> Result<Vec<AttemptId>, Breach> {
    let (before, after) = (law::entries_of(before), law::entries_of(after));
    let find = |entries: &[(OperationId, Entry)], operation: OperationId| {
        entries.iter().find(|(other, _)| *other == operation).map(|(_, entry)| *entry)
    };
    let mut evicted = Vec::new();
    for (operation, _) in before.iter().chain(&after) {
        let (before, after) = (find(&before, *operation), find(&after, *operation));
        match law::judge(scenario, before.as_ref(), after.as_ref(), deed, now) {
            Ok(Lawful::Eviction) => evicted.extend(before.map(|entry| Scenario::attempt_of(entry.owner))),
            Ok(Lawful::Change) => {}
            Err(how) => unlawful(how)?,
        }
    }
    Ok(evicted)
}

fn unlawful(how: String) -> Result<(), Breach> {
    breach(Promise::Record, how)
}
