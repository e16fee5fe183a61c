//! Carries out what an exchange asks for.

use proxy_wasm::types::Action;

use super::{
    filter::Filter,
    host::{self, Map},
};
use crate::{
    exchange::{Counter, Effect, Event, Exchange, Reply},
    time::Timestamp,
};

/// Hands `event` to the exchange and does what it says, until nothing is left to do.
///
/// `None` if neither the request nor the response is to be stopped or let go by this.
pub(super) fn drive(filter: &Filter, exchange: &mut Exchange, event: Event<'_>, now: Timestamp) -> Option<Action> {
    let mut effects = Vec::new();
    exchange.handle(event, now, &mut effects);
    let mut action = None;
    let mut pending = effects.into_iter().collect::<std::collections::VecDeque<_>>();
    while let Some(effect) = pending.pop_front() {
        match effect {
            Effect::Call(call) => {
                let answer = filter.store.call(call, now);
                let mut more = Vec::new();
                exchange.handle(Event::Answered(answer), now, &mut more);
                pending.extend(more);
                let tally = filter.store.take_tally();
                filter.metrics.count(Counter::StoreEvicted, tally.evicted);
                filter.metrics.count(Counter::StoreExpired, tally.expired);
            }
            Effect::Count(counter) => filter.metrics.count(counter, 1),
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
            Effect::Tell(status) => {
                let _ = host::set_filter_state("idemgate.status", status.as_str().as_bytes());
            }
            Effect::WarnStore(error) => log::warn!("idemgate: the store failed: {error}"),
        }
    }
    action
}

fn send(reply: &Reply) {
    if let Err(refused) = host::send_local_response(reply.status, reply.details, &reply.headers, &reply.body) {
        log::error!("idemgate: the host refused a local reply of status {} ({refused:?})", reply.status);
    }
}
