//! How much one call of the host's may lead to.
//!
//! A crowd may wait for one event: the end of an execution, a moment, an answer of the store. What the event brings
//! about for each of them is done in turns, a limited number in a call, and a tick that comes soon goes on with the rest.

use super::{ExchangeId, Host, Report, Root, Worker};
use crate::{
    exchange::{CallFailure, Event},
    store::{Answer, Claimed, pool::Pool, remote::Heard},
    time::{Now, Timestamp},
};

/// The turns that are left until the host calls again from its event loop.
#[derive(Clone, Debug)]
pub struct Turns {
    per_call: u32,
    left: u32,
}

/// How many replies, resumes and calls to clusters are asked of the host at a time.
///
/// Envoy carries out all replies and resumes of a call into the VM when the call is over, each nested in the one before;
/// so it does with the answers to calls that fail at once, and each may lead to a reply. Too many of them overflow
/// the stack of V8 ("Uncaught RangeError: Maximum call stack size exceeded"), which ends the VM. Found with requests that
/// wait for one execution, or whose time to wait is over, in one worker: Envoy 1.36.2 and 1.40.0 carry out 305 replies
/// at a time, and die of 307. That is with no filter behind this one; each has a share of the stack.
pub(super) const PER_CALL: u32 = 32;

impl Default for Turns {
    fn default() -> Self {
        Self::new(PER_CALL)
    }
}

impl Turns {
    pub(super) const fn new(per_call: u32) -> Self {
        Self { per_call, left: 0 }
    }

    /// Notes that the host calls from its event loop, in a tick or for a queue, and nothing is nested in anything.
    pub fn begin(&mut self) {
        self.left = self.per_call;
    }

    /// Whether one more may be taken.
    #[must_use]
    pub const fn are_left(&self) -> bool {
        self.left > 0
    }

    /// Takes one.
    pub fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

impl Worker {
    /// Whether anything waits for its turn. Then a tick is to come soon.
    #[must_use]
    pub fn has_turns_to_take(&self) -> bool {
        self.waiting_room.has_called()
            || self.inquiries.have_next()
            || self.pool.as_ref().is_some_and(Pool::has_answers)
            || !self.calls.queue.is_empty()
            || !self.overdue.is_empty()
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
        let Some(mut errand) = self.inquiries.next_to_ask() else { return false };
        let exchange = errand.guest;
        if errand.inquiry.is_new_claim() && self.exchange(exchange).is_some_and(|exchange| exchange.is_abandoned()) {
            // The client has gone while it waited. Nothing was claimed, and nobody is to be told why.
            self.inquiries.withdraw(&errand);
            self.drive_from_root(host, exchange, Event::Answered(Answer::Claimed(Claimed::Full)), now);
            return true;
        }
        let (question, timeout) = errand.inquiry.ask(now);
        let token = match &mut self.pool {
            Some(pool) => Some(pool.ask(host, question, timeout, now)),
            None => host.call_store(exchange, question, timeout),
        };
        match token {
            Some(token) => self.inquiries.sent(token, errand),
            None => {
                let progress = errand.inquiry.hear(Heard::NotMade, now);
                self.go_on(host, errand, progress, now);
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
