//! Carries out what an exchange asks for.

use std::rc::Rc;

use super::{
    filter::Filter,
    guest::Guest,
    host::{self, Action, MapType},
    store::Reaction,
    watch_board::POLL,
};
use crate::{
    exchange::{Effect, Event, Evidence, Reply},
    store::{Answer, Claimed},
    time::Timestamp,
};

/// What becomes of the messages of a stream; `None` for one that is neither to be stopped nor let go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Actions {
    pub(super) request: Option<Action>,
    pub(super) response: Option<Action>,
}

/// Hands `event` to the guest's exchange and does what it says, until nothing is left to do.
///
/// To be called in the stream's own callbacks. A claim is made by the clock as it is read then, to measure how long the
/// store takes: `now` may have gone by while a body was looked at.
pub(super) fn drive(filter: &Filter, guest: &Rc<Guest>, event: Event<'_>, mut now: Timestamp) -> Actions {
    let realm = &guest.route.realm;
    // The exchange is not borrowed while the host is called: a host may call back at once.
    let handle = |event: Event<'_>, now: Timestamp, effects: &mut Vec<Effect>| {
        if matches!(event, Event::Answered(Answer::Claimed(_)))
            && let Some(time) = guest.hears_of_claim()
        {
            realm.metrics.record_claim(time);
        }
        let event = match event {
            // Found out before anything runs, and after the store has said that nothing is there to be replayed.
            Event::Answered(Answer::Claimed(Claimed::Granted)) if guest.exchange.borrow().wants_call() => {
                filter.calls.refusal(guest).map_or(event, Event::NoRoomToRun)
            }
            event => event,
        };
        let mut exchange = guest.exchange.borrow_mut();
        exchange.set_room(filter.memory.room());
        exchange.handle(event, now, effects);
    };
    let mut actions = Actions::default();
    let Worklist { mut round, mut next } = filter.worklist.take();
    handle(event, now, &mut round);
    while !round.is_empty() {
        for effect in round.drain(..) {
            match effect {
                Effect::Call(call) => {
                    now = guest.asks(&call).unwrap_or(now);
                    match realm.store.call(call, now) {
                        Reaction::Answered(answer) => {
                            handle(Event::Answered(answer), now, &mut next);
                            realm.count_tally();
                        }
                        Reaction::Asks(inquiry) => {
                            guest.inquires(&inquiry);
                            match filter.inquiries.order(guest, inquiry) {
                                Ok(()) => filter.ring(),
                                Err(refused) => handle(Event::Answered(Answer::Claimed(refused)), now, &mut next),
                            }
                        }
                    }
                }
                Effect::Count(counter) => {
                    guest.route.count(counter);
                    realm.journal.note(counter, guest.operation().as_ref(), guest.is_shadow(), now);
                }
                Effect::Execute(job) => {
                    filter.calls.order(guest, job);
                    filter.ring();
                }
                Effect::Forward => actions.request = Some(Action::Continue),
                Effect::ForwardResponse => actions.response = Some(Action::Continue),
                Effect::Hold => actions.request = Some(Action::Pause),
                Effect::HoldResponse => actions.response = Some(Action::Pause),
                Effect::Notice(notice) => filter.note(notice),
                Effect::RemoveRequestHeader(name) => {
                    let _ = host::remove_header(MapType::HttpRequestHeaders, &name);
                }
                Effect::RemoveResponseHeader(name) => {
                    let _ = host::remove_header(MapType::HttpResponseHeaders, &name);
                }
                Effect::Reply(reply) => {
                    send(&reply);
                    actions.request = Some(Action::Pause);
                }
                Effect::SetResponseHeader(name, value) => {
                    let _ = host::set_header(MapType::HttpResponseHeaders, name, value.as_bytes());
                }
                Effect::StopWaiting(operation) => {
                    filter.waiting_room.leave(&operation, guest);
                    filter.show_waiting();
                }
                Effect::Tell(status) => guest.tell(status),
                Effect::Wait { operation, mut recheck } => {
                    if filter.is_remote() {
                        // Another Envoy may run it, which cannot wake anybody here.
                        recheck = recheck.min(now.after(POLL));
                    }
                    match filter.waiting_room.enter(operation, guest, recheck) {
                        Ok(()) => {
                            filter.show_waiting();
                            if let Some(mailbox) = filter.mailbox().filter(|_| filter.is_remote()) {
                                filter.watch_board.watch(&operation, mailbox, now);
                            }
                        }
                        Err(no_room) => handle(Event::NoRoomToWait(no_room), now, &mut next),
                    }
                }
                Effect::Waited(time) => realm.metrics.record_wait(time),
                Effect::Wake { operation, watchers } => {
                    for mailbox in watchers {
                        host::enqueue(mailbox.0, operation.as_bytes());
                    }
                }
                Effect::WarnStore(error) => filter.report(realm, error, now),
            }
        }
        std::mem::swap(&mut round, &mut next);
    }
    guest.take_memory();
    filter.worklist.replace(Worklist { round, next });
    actions
}

/// What is to be done, and what comes of it. It is kept from one event to the next for the memory that it has.
#[derive(Debug, Default)]
pub(super) struct Worklist {
    round: Vec<Effect>,
    next: Vec<Effect>,
}

/// The same from elsewhere: a tick, a wake-up, or the answer to a call. Lets the request or the response
/// go on if the exchange says so. Does nothing to a stream that is gone.
pub(super) fn drive_from_root(filter: &Filter, guest: &Rc<Guest>, event: Event<'_>, now: Timestamp) {
    let reachable = guest.enter_stream();
    if !reachable && guest.stream.take().is_some() {
        // It ended without a word. What is meant for it would go to whichever stream is in effect.
        let _ = drive(filter, guest, Event::Gone { evidence: &Evidence::default() }, now);
    }
    let actions = drive(filter, guest, event, now);
    // Either none of its body was handed over, or all of it: see `Stream::open`.
    if reachable && actions.request == Some(Action::Continue) {
        let _ = host::resume_request();
    }
    if reachable && actions.response == Some(Action::Continue) {
        let _ = host::resume_response();
    }
}

fn send(reply: &Reply) {
    if let Err(refused) = host::send_local_response(reply.status, reply.details, &reply.headers, &reply.body) {
        log::error!("idemgate: the host refused a local reply of status {} ({refused:?})", reply.status);
    }
}
