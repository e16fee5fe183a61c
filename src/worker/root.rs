//! What the root context brings: ticks, messages of other workers, and turns for all that waits for one.

use std::collections::BTreeMap;

use super::{
    host::{ExchangeId, Host, Report},
    state::{Root, Worker},
    waiting_room::POLL,
};
use crate::{
    exchange::{CallFailure, Event, Exchange},
    request::OperationId,
    store::{Answer, Claimed, dialect::Heard},
    time::{Now, Timestamp},
};

impl Worker {
    /// Takes in that executions of these operations may have ended, and goes on with what streams have left.
    pub fn on_messages(&mut self, host: &mut impl Host, ended: &[OperationId], now: Timestamp) {
        self.turns.begin();
        self.work(host, now, |worker, _| ended.iter().for_each(|operation| worker.waiting_room.call(operation)));
    }

    /// The same for whatever is waited for: messages may have been lost.
    pub fn call_all(&mut self) {
        self.waiting_room.call_all();
    }

    /// Goes on with what waits for its turn; and with everything that time alone brings about, if a period `is_over`.
    pub fn on_tick(&mut self, host: &mut impl Host, is_over: bool, now: Timestamp) {
        self.turns.begin();
        self.work(host, now, |worker, host| {
            if is_over {
                worker.look_after_all(host, now);
            }
        });
    }

    /// Closes the connections to the store. To be called when no call is ordered or under way.
    pub fn close_connections(&mut self, host: &mut impl Host) {
        if let Some(pool) = &mut self.pool {
            pool.close(host);
        }
    }

    /// Does a piece of work, and then all that it and the streams have left to do.
    pub(super) fn work<H: Host>(&mut self, host: &mut H, now: Timestamp, work: impl FnOnce(&mut Self, &mut H)) {
        self.root = Root::IsAtWork;
        work(self, host);
        self.take_turns(host, now);
        self.root = Root::Idle;
        self.show_waiting(host, &now.into());
    }

    fn look_after_all(&mut self, host: &mut impl Host, now: Timestamp) {
        let due: Vec<_> = self.exchanges.iter().filter(|(_, active)| active.is_due(now)).map(|(id, _)| *id).collect();
        let mut overdue = Vec::new();
        for id in due {
            let awaits_turn = self.exchange(id).is_some_and(Exchange::awaits_turn);
            if awaits_turn || self.body_is_withheld(host, id, now) {
                overdue.push(id);
            } else {
                self.drive_from_root(host, id, Event::Tick, now);
            }
        }
        self.note_overdue(&overdue);
        // Dead owners wake nobody, nor do those of other Envoys.
        for operation in self.waiting_room.due(now).collect::<Vec<_>>() {
            if self.is_store_remote {
                self.waiting_room.postpone(&operation, now.after(POLL));
            }
            self.waiting_room.call(&operation);
        }
        if let Some(pool) = &mut self.pool {
            pool.on_tick(host, now);
        }
        self.inquiries.tick(now);
    }

    /// Lets these have their turns, in place of those who were to have them: each of them is due as before, or was
    /// answered. Of each operation one after the other, so that a crowd of one does not keep the others waiting.
    fn note_overdue(&mut self, overdue: &[ExchangeId]) {
        let mut ranks = BTreeMap::<_, usize>::new();
        let mut ranked: Vec<_> = overdue
            .iter()
            .map(|id| {
                let operation = self.exchanges.get(id).and_then(|active| active.operation);
                let rank = ranks.entry(operation).or_default();
                *rank += 1;
                (*rank, *id)
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        self.overdue = ranked.into_iter().map(|(_, id)| id).collect();
    }

    /// Whether the body that an exchange waits for will never be handed over.
    fn body_is_withheld(&mut self, host: &mut impl Host, id: ExchangeId, now: Timestamp) -> bool {
        let Some(active) = self.exchanges.get_mut(&id).filter(|active| active.exchange.awaits_first_body()) else {
            return false;
        };
        if !active.enter_stream(host) {
            return false;
        }
        let Some(wait) = &mut active.body_wait else { return false };
        self.body_watch.is_hopeless(wait, now, || host.bytes_received())
    }

    /// Gives turns to what waits for them, as many as are left: one of each kind after the other, so that no crowd keeps
    /// the others waiting.
    pub(super) fn take_turns(&mut self, host: &mut impl Host, now: Timestamp) {
        let kinds =
            [Self::hear_next, Self::ask_next, Self::call_next, Self::wake_next, Self::tell_next, Self::look_after_next];
        let mut had_nothing = 0;
        for give_turn in kinds.iter().cycle() {
            if had_nothing == kinds.len() || !self.turns.are_left() {
                break;
            }
            if give_turn(self, host, now) {
                self.turns.take();
                had_nothing = 0;
            } else {
                had_nothing += 1;
            }
        }
    }

    /// Has the question asked that an exchange has just ordered: over a connection that is ready from its stream's own
    /// callback, unless others wait; else by the root context, for which the host has to call back. The root context
    /// alone opens connections: the SDK hands what comes on one to the context in whose callback it was opened.
    pub(super) fn ask_soon(&mut self, host: &mut impl Host, id: ExchangeId, now: &Now) {
        let is_ready = self.pool.as_ref().is_some_and(|pool| pool.is_ready(now.get()));
        if is_ready && self.root == Root::Idle && self.inquiries.have_one() {
            self.ask_next(host, now.get());
            // The connection belongs to the root context.
            if let Some(active) = self.exchanges.get_mut(&id) {
                active.enter_stream(host);
            }
        }
        if self.has_turns_to_take() {
            self.leave_to_root(host);
        }
    }

    /// Asks the remote store the next question that was ordered; `false` if there is none.
    fn ask_next(&mut self, host: &mut impl Host, now: Timestamp) -> bool {
        let Some(mut pending) = self.inquiries.next_to_ask() else { return false };
        let exchange = pending.asker;
        if pending.inquiry.is_new_claim() && self.exchange(exchange).is_some_and(|exchange| exchange.is_abandoned()) {
            // The client has gone while it waited. Nothing was claimed, and nobody is to be told why.
            self.inquiries.withdraw(&pending);
            self.drive_from_root(host, exchange, Event::Answered(Answer::Claimed(Claimed::Full)), now);
            return true;
        }
        let (question, timeout) = pending.inquiry.ask(now);
        let token = match &mut self.pool {
            Some(pool) => Some(pool.ask(host, question, timeout, now)),
            None => host.call_store(exchange, question, timeout),
        };
        match token {
            Some(token) => self.inquiries.sent(token, pending),
            None => {
                let progress = pending.inquiry.hear(Heard::NotMade, now);
                self.go_on(host, pending, progress, now);
            }
        }
        true
    }

    /// Makes the next detached call that was ordered; `false` if there is none.
    fn call_next(&mut self, host: &mut impl Host, now: Timestamp) -> bool {
        let Some((exchange, job, ordered)) = self.calls.queue.pop_front() else { return false };
        let Some(active) = self.exchanges.get(&exchange) else { return true };
        if now.since(ordered) >= active.policy().lease / 2 {
            self.drive_from_root(host, exchange, Event::CallFailed(CallFailure::TooLate), now);
            return true;
        }
        match host.call_upstream(exchange, &job, active.policy().execution.timeout) {
            Some(token) => {
                self.calls.sent(token, exchange);
                host.report(Report::Calls(1), now);
            }
            None => {
                host.report(Report::CallRefused(&job.cluster), now);
                self.drive_from_root(host, exchange, Event::CallFailed(CallFailure::NotMade), now);
            }
        }
        true
    }

    /// Lets the next of those who wait for an execution ask for it again, and those behind it when all other operations
    /// have had a turn, until one has to wait on: it has seen an execution under way, of whose end this worker will be
    /// told, and the others would see nothing else. `false` if nobody is to ask.
    fn wake_next(&mut self, host: &mut impl Host, now: Timestamp) -> bool {
        let Some((operation, exchange)) = self.waiting_room.next_called() else { return false };
        self.drive_from_root(host, exchange, Event::Woken, now);
        // Either it has to wait on, or the store has yet to say.
        let awaits_claim = self.exchange(exchange).is_some_and(|exchange| exchange.awaits_claim());
        if !self.waiting_room.has(&operation, exchange) && !awaits_claim {
            self.waiting_room.call(&operation);
        }
        true
    }

    /// Tells the next one of an answer that no call of its own has brought; `false` if there is none.
    fn tell_next(&mut self, host: &mut impl Host, now: Timestamp) -> bool {
        let Some((exchange, answer)) = self.inquiries.next_to_tell() else { return false };
        self.drive_from_root(host, exchange, Event::Answered(answer), now);
        true
    }

    /// Looks after the next one who is to be answered because of the time; `false` if there is none.
    fn look_after_next(&mut self, host: &mut impl Host, now: Timestamp) -> bool {
        let Some(exchange) = self.overdue.pop_front() else { return false };
        if self.body_is_withheld(host, exchange, now) {
            host.report(Report::BodyWithheld, now);
            self.drive_from_root(host, exchange, Event::BodyWithheld, now);
        }
        self.drive_from_root(host, exchange, Event::Tick, now);
        true
    }
}
