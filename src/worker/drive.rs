//! Carries out what an exchange asks for.

use super::{
    active::ActiveExchange,
    host::{ExchangeId, Host, Report, StoreReply},
    state::{Worker, Worklist},
    waiting_room::POLL,
};
use crate::{
    exchange::{Effect, Event, Evidence, NoRoom},
    store::{Answer, Claimed},
    time::{Now, Timestamp},
};

/// What to do with the messages of a stream; `None` for one that is neither to be stopped nor let go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actions {
    /// Of the request.
    pub request: Option<Passage>,
    /// Of the response.
    pub response: Option<Passage>,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Passage {
    /// It goes on.
    Continues,
    /// It is held.
    Held,
}

impl Worker {
    /// Hands `event` to an exchange and does what it says, until nothing is left to do. Does nothing if the exchange is
    /// over.
    ///
    /// To be called in the stream's own callbacks.
    pub fn drive(&mut self, host: &mut impl Host, id: ExchangeId, event: Event<'_>, now: &Now) -> Actions {
        let mut actions = Actions::default();
        let Worklist { mut round, mut next } = std::mem::take(&mut self.worklist);
        self.hand_in(host, id, event, now, &mut round);
        while !round.is_empty() {
            for effect in round.drain(..) {
                self.carry_out(host, id, effect, now, &mut actions, &mut next);
            }
            std::mem::swap(&mut round, &mut next);
        }
        self.worklist = Worklist { round, next };
        self.take_stock(id);
        self.show_waiting(host, now);
        actions
    }

    /// The same from elsewhere: a tick, a wake-up, or the answer to a call. Lets the request or the response
    /// go on if the exchange says so.
    pub(super) fn drive_from_root(&mut self, host: &mut impl Host, id: ExchangeId, event: Event<'_>, now: Timestamp) {
        let Some(active) = self.exchanges.get_mut(&id) else { return };
        let now = &now.into();
        let is_reachable = active.enter_stream(host);
        if !is_reachable && active.stream.take().is_some() {
            // It ended without a word. What is meant for it would go to whichever stream is in effect.
            self.drive(host, id, Event::Gone { evidence: &Evidence::default() }, now);
        }
        let actions = self.drive(host, id, event, now);
        // Either none of its body was handed over, or all of it: see `Exchange::holds_whole_request`.
        if is_reachable && actions.request == Some(Passage::Continues) {
            host.resume_request();
        }
        if is_reachable && actions.response == Some(Passage::Continues) {
            host.resume_response();
        }
    }

    fn hand_in(
        &mut self,
        host: &mut impl Host,
        id: ExchangeId,
        event: Event<'_>,
        now: &Now,
        effects: &mut Vec<Effect>,
    ) {
        let no_room_to_run = self.no_room_to_run(id, &event);
        let Some(active) = self.exchanges.get_mut(&id) else { return };
        if matches!(event, Event::Answered(Answer::Claimed(_)))
            && let Some(time) = active.has_claim_answer(host)
        {
            host.report(Report::ClaimTook(time, active.subject(id)), now.get());
        }
        // In shadow mode no headers are held, so its bodies say nothing of those that are.
        if matches!(event, Event::RequestBody { .. }) && !active.is_shadow() {
            active.body_wait = None;
            self.body_watch.handed_over();
        }
        active.exchange.set_room(self.memory.room());
        active.exchange.handle(no_room_to_run.map_or(event, Event::NoRoomToRun), now, effects);
    }

    /// Why the detached call cannot be made that would follow from this event, if so. That is found out before anything
    /// runs, and after the store has said that nothing is there to be replayed.
    fn no_room_to_run(&self, id: ExchangeId, event: &Event<'_>) -> Option<NoRoom> {
        let Event::Answered(Answer::Claimed(Claimed::Granted)) = event else { return None };
        let active = self.exchanges.get(&id).filter(|active| active.exchange.wants_call())?;
        let (queue, under_way) = (&self.calls.queue, self.calls.under_way());
        let taken = (queue.len() + under_way.len()) as u64;
        let (places, share) = (active.policy().execution.max_calls.into(), active.policy().limits.caller_share);
        if taken >= places {
            return Some(NoRoom::AllTaken);
        }
        let is_its_callers = |other: &&ExchangeId| {
            self.exchanges.get(other).is_some_and(|other: &ActiveExchange| other.caller == active.caller)
        };
        let all = queue.iter().map(|(other, ..)| other).chain(under_way.map(|(_, other)| other));
        // They are counted only where that matters.
        let may = share.allows(u64::MAX, taken, places)
            || share.allows(all.filter(is_its_callers).count() as u64, taken, places);
        (!may).then_some(NoRoom::OverShare)
    }

    fn carry_out(
        &mut self,
        host: &mut impl Host,
        id: ExchangeId,
        effect: Effect,
        now: &Now,
        actions: &mut Actions,
        next: &mut Vec<Effect>,
    ) {
        let Some(active) = self.exchanges.get_mut(&id) else { return };
        match effect {
            Effect::Call(call) => {
                active.asks(id, &call, host);
                let is_shadow = active.is_shadow();
                let answer = match host.ask_store(call, is_shadow, now.get()) {
                    StoreReply::Answered(answer) => answer,
                    StoreReply::Asks(inquiry) => {
                        active.question_size = inquiry.size() as u64;
                        match self.inquiries.order(id, inquiry, is_shadow) {
                            Ok(()) => return self.ask_soon(host, id, now),
                            Err(refused) => Answer::Claimed(refused),
                        }
                    }
                };
                self.hand_in(host, id, Event::Answered(answer), now, next);
            }
            Effect::Count(counter) => host.report(Report::Counted(counter, active.subject(id)), now.get()),
            Effect::Execute(job) => {
                self.calls.queue.push_back((id, job, now.get()));
                self.leave_to_root(host);
            }
            Effect::Forward => actions.request = Some(Passage::Continues),
            Effect::ForwardResponse => actions.response = Some(Passage::Continues),
            Effect::Hold => actions.request = Some(Passage::Held),
            Effect::HoldResponse => actions.response = Some(Passage::Held),
            Effect::AddResponseHeader(name, value) => host.add_response_header(name, value),
            Effect::Notice(notice) => host.report(Report::Notice(notice), now.get()),
            Effect::RemoveRequestHeader(name) => host.remove_request_header(&name),
            Effect::RemoveResponseHeader(name) => host.remove_response_header(&name),
            Effect::Reply(reply) => {
                host.reply(&reply);
                actions.request = Some(Passage::Held);
            }
            Effect::StopWaiting(operation) => self.waiting_room.leave(&operation, id),
            Effect::Tell(status) => active.tell(status, host),
            Effect::Wait { operation, recheck } => {
                // Another Envoy may run it, which cannot wake anybody here.
                let recheck = if self.is_store_remote { recheck.min(now.get().after(POLL)) } else { recheck };
                let entered = self.waiting_room.enter(operation, (id, active.caller), active.policy(), recheck);
                if let Err(no_room) = entered {
                    self.hand_in(host, id, Event::NoRoomToWait(no_room), now, next);
                }
            }
            Effect::Waited(time) => host.report(Report::WaitTook(time, active.subject(id)), now.get()),
            Effect::Wake { operation, watchers } => {
                for worker in watchers {
                    host.wake(worker, &operation);
                }
            }
            Effect::WarnStore(error) => {
                host.report(Report::StoreFailed { error, is_shadow: active.is_shadow() }, now.get());
            }
        }
    }
}
