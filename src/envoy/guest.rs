//! An exchange as the worker keeps it: its stream acts on it, and so do ticks, wake-ups and the answers
//! to detached calls.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
};

use super::{
    body_watch::{BodyWatch, Waiting},
    driver::drive,
    filter::Filter,
    host,
};
use crate::{
    exchange::{Event, Evidence, Exchange},
    time::Timestamp,
};

/// An exchange under way in this worker.
#[derive(Debug)]
pub(super) struct Guest {
    /// Unlike context ids, never used twice.
    pub(super) number: u64,
    pub(super) exchange: RefCell<Exchange>,
    /// The context of the client's stream, as long as there is one.
    pub(super) stream: Cell<Option<u32>>,
    body_wait: OnceCell<Waiting>,
}

impl Guest {
    pub(super) fn new(number: u64, exchange: Exchange, stream: u32) -> Self {
        Self { number, exchange: RefCell::new(exchange), stream: Cell::new(Some(stream)), body_wait: OnceCell::new() }
    }

    /// Notes that the request's body has begun to be waited for.
    pub(super) fn wait_for_body(&self, waiting: Waiting) {
        // A request begins to wait once.
        let _ = self.body_wait.set(waiting);
    }

    /// Whether a tick at `now` may find something to do. Asked of all exchanges at each tick, so it calls no host.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let exchange = self.exchange.borrow();
        exchange.is_due(now) || exchange.awaits_first_body() || exchange.is_finished()
    }

    /// Whether the body will never come.
    pub(super) fn body_is_hopeless(&self, watch: &BodyWatch, now: Timestamp) -> bool {
        self.exchange.borrow().awaits_first_body()
            && self.enter_stream()
            && self.body_wait.get().is_some_and(|waiting| watch.is_hopeless(waiting, now))
    }

    /// Makes the stream's context the effective one; `false` if the stream is over.
    pub(super) fn enter_stream(&self) -> bool {
        self.stream.get().is_some_and(|context_id| host::set_effective_context(context_id).is_ok())
    }

    pub(super) fn is_finished(&self) -> bool {
        self.exchange.borrow().is_finished()
    }
}

/// An exchange whose stream ended because Envoy follows a redirect of the upstream itself.
///
/// That ends the stream, not the exchange: Envoy starts another stream with the same request, in the
/// same call, and its response is the first one's answer. Were the claim let go in between, a retry
/// could run what the upstream did before it redirected; were it kept by the old stream, the new one
/// would meet it.
#[derive(Debug)]
pub(super) struct Redirected {
    pub(super) connection: Option<Vec<u8>>,
    pub(super) guest: Rc<Guest>,
}

impl Redirected {
    /// Gives the exchange up: the stream that was to take it over did not come.
    pub(super) fn abandon(self, filter: &Filter) {
        let _ = drive(filter, &self.guest, Event::Gone { evidence: &Evidence::default() }, host::now());
    }
}
