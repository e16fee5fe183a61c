//! What the streams of requests bring: exchanges begin, move to another stream, and end with theirs.

use std::sync::Arc;

use super::{
    active::ActiveExchange,
    drive::Actions,
    host::{ExchangeId, Host},
    state::Worker,
};
use crate::{
    config::Policy,
    exchange::{Attributes, Event, Evidence, Exchange, Outgoing},
    headers::Headers,
    record::{Mailbox, Owner},
    time::Now,
};

/// A request whose headers have arrived.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The number of its exchange.
    pub exchange: ExchangeId,
    /// What it falls under.
    pub policy: &'a Arc<Policy>,
    /// The number of its route, for reports.
    pub route: usize,
    /// Its stream.
    pub stream: u32,
    /// All headers.
    pub headers: &'a Headers,
    /// Reads an attribute of the host.
    pub attribute: &'a dyn Attributes,
    /// The token of its execution, should it become one.
    pub owner: Owner,
    /// Where this worker is told of the ends of executions.
    pub mailbox: Option<Mailbox>,
    /// Whether there is no body and there are no trailers.
    pub end_of_stream: bool,
}

impl Worker {
    /// Begins an exchange.
    pub fn open(&mut self, host: &mut impl Host, opening: Opening<'_>, now: &Now) -> Actions {
        let Opening { exchange: id, policy, route, stream, headers, attribute, owner, mailbox, end_of_stream } =
            opening;
        self.exchanges.insert(id, ActiveExchange::new(policy, route, stream));
        let is_store_remote = self.is_store_remote;
        let event = Event::RequestHeaders { headers, attribute, owner, mailbox, is_store_remote, end_of_stream };
        let mut actions = self.drive(host, id, event, now);
        if let Some(active) = self.exchanges.get_mut(&id).filter(|active| active.exchange.awaits_first_body()) {
            if self.body_watch.is_withheld() {
                let withheld = self.drive(host, id, Event::BodyWithheld, now);
                actions.request = withheld.request.or(actions.request);
            } else {
                active.body_wait = Some(self.body_watch.begin(headers, || host.bytes_received()));
            }
        }
        actions
    }

    /// The reply of the filter's own that passes by in this exchange, if its response is that.
    pub fn outgoing(&mut self, id: ExchangeId) -> Option<&mut Outgoing> {
        self.exchanges.get_mut(&id)?.exchange.outgoing()
    }

    /// The stream of an exchange has ended because the host follows a redirect of the upstream itself: another stream is
    /// to go on with it.
    pub fn redirect(&mut self, id: ExchangeId) {
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.stream = None;
            active.redirected = true;
        }
    }

    /// Goes on with an exchange in this stream.
    pub fn move_to_stream(&mut self, id: ExchangeId, stream: u32) {
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.move_to_stream(stream);
        }
    }

    /// The stream of an exchange is over. A detached call goes on; its answer, or a tick, sees the exchange to its end.
    pub fn close(&mut self, host: &mut impl Host, id: ExchangeId, evidence: &Evidence, now: &Now) {
        if self.close_answered(id) {
            return;
        }
        self.drive(host, id, Event::Gone { evidence }, now);
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.stream = None;
        }
    }

    /// The stream of an exchange is over that was answered by the filter itself: nothing more can come of it. `false` if it
    /// was not.
    pub fn close_answered(&mut self, id: ExchangeId) -> bool {
        let is_answered = self.exchange(id).is_some_and(Exchange::has_replied);
        if is_answered {
            self.let_go(id);
        }
        is_answered
    }
}
