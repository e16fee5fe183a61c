//! Carries out what an exchange asks for.

use std::{collections::VecDeque, rc::Rc};

use proxy_wasm::types::Action;

use super::{
    filter::Filter,
    guest::Guest,
    host::{self, Map},
};
use crate::{
    exchange::{Effect, Event, Evidence, Reply},
    time::Timestamp,
};

/// Hands `event` to the guest's exchange and does what it says, until nothing is left to do.
///
/// To be called in the stream's own callbacks. `None` if neither the request nor the response is to be
/// stopped or let go by this.
pub(super) fn drive(filter: &Filter, guest: &Rc<Guest>, event: Event<'_>, now: Timestamp) -> Option<Action> {
    // The exchange is not borrowed while the host is called: a host may call back at once.
    let handle = |event: Event<'_>| {
        let mut effects = Vec::new();
        guest.exchange.borrow_mut().handle(event, now, &mut effects);
        effects
    };
    let mut action = None;
    let mut pending = VecDeque::from(handle(event));
    while let Some(effect) = pending.pop_front() {
        match effect {
            Effect::Call(call) => {
                let answer = filter.store.call(call, now);
                pending.extend(handle(Event::Answered(answer)));
                filter.count_tally();
            }
            Effect::Count(counter) => filter.metrics.count(counter, 1),
            Effect::Execute(job) => {
                filter.calls.order(guest, job);
                if let Some(mailbox) = filter.mailbox() {
                    host::enqueue(mailbox.0, CALLS_ORDERED);
                }
            }
            Effect::Forward => action = Some(Action::Continue),
            Effect::Hold => action = Some(Action::Pause),
            Effect::RemoveResponseHeader(name) => {
                let _ = host::remove_header(Map::ResponseHeaders, name);
            }
            Effect::Reply(reply) => {
                send(&reply);
                action = Some(Action::Pause);
            }
            Effect::SetResponseHeader(name, value) => {
                let _ = host::set_header(Map::ResponseHeaders, name, value.as_bytes());
            }
            Effect::StopWaiting(operation) => {
                filter.waiting_room.leave(&operation, guest);
                filter.show_waiting();
            }
            Effect::Tell(status) => guest.tell(status),
            Effect::Wait { operation, recheck } => {
                if filter.waiting_room.enter(operation, guest, recheck, filter.policy.duplicates.max_waiting) {
                    filter.show_waiting();
                } else {
                    pending.extend(handle(Event::NoRoomToWait));
                }
            }
            Effect::Waited(time) => filter.metrics.record_wait(time),
            Effect::Wake { operation, watchers } => {
                for mailbox in watchers {
                    host::enqueue(mailbox.0, operation.as_bytes());
                }
            }
            Effect::WarnStore(error) => log::warn!("idemgate: the store failed: {error}"),
        }
    }
    action
}

/// The same from elsewhere: a tick, a wake-up, or the answer to a call. Lets the request go on if the
/// exchange says so. Does nothing to a stream that is gone.
pub(super) fn drive_from_root(filter: &Filter, guest: &Rc<Guest>, event: Event<'_>, now: Timestamp) {
    let reachable = guest.enter_stream();
    if !reachable && guest.stream.take().is_some() {
        // It ended without a word. What is meant for it would go to whichever stream is in effect.
        let _ = drive(filter, guest, Event::Gone { evidence: &Evidence::default() }, now);
    }
    let action = drive(filter, guest, event, now);
    if reachable && action == Some(Action::Continue) {
        let _ = host::resume_request();
    }
}

/// What a worker puts into its own mailbox; all other messages are the hashes of operations.
const CALLS_ORDERED: &[u8] = b"calls";

fn send(reply: &Reply) {
    if let Err(refused) = host::send_local_response(reply.status, reply.details, &reply.headers, &reply.body) {
        log::error!("idemgate: the host refused a local reply of status {} ({refused:?})", reply.status);
    }
}
