//! An exchange as the worker keeps it: its stream acts on it, and so do ticks, wake-ups and the answers
//! to detached calls.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt::Write as _,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    body_watch::{BodyWatch, Waiting},
    driver::drive,
    filter::Filter,
    host,
    memory::{Memory, Share},
    route::Route,
};
use crate::{
    config::Mode,
    exchange::{Event, Evidence, Exchange, Status, outcome},
    headers::Headers,
    request::{Caller, OperationId},
    store::{Call, redis::Inquiry},
    time::Timestamp,
};

/// An exchange under way in this worker.
#[derive(Debug)]
pub(super) struct Guest {
    /// Unlike context ids, never used twice.
    pub(super) number: u64,
    pub(super) exchange: RefCell<Exchange>,
    /// What its request falls under.
    pub(super) route: Rc<Route>,
    /// The context of the client's stream, as long as there is one.
    pub(super) stream: Cell<Option<u32>>,
    /// Whether an earlier stream of the same request had an answer of the upstream: a redirect.
    pub(super) redirected: Cell<bool>,
    /// What the store was asked about last.
    operation: Cell<Option<OperationId>>,
    /// Whose request it is, once its claim was asked for.
    caller: Cell<Option<Caller>>,
    /// What it takes of the worker's memory.
    share: Share,
    /// Bytes of the last word that a remote store was asked to take.
    last_word: Cell<u64>,
    /// When the store was asked for the claim, if it has not answered yet; in microseconds.
    claim_asked: Cell<Option<u64>>,
    body_wait: OnceCell<Waiting>,
    told: Cell<Option<Status>>,
}

impl Guest {
    pub(super) fn new(number: u64, route: Rc<Route>, stream: u32, memory: &Rc<Memory>) -> Self {
        Self {
            number,
            exchange: RefCell::new(Exchange::new(Arc::clone(&route.policy))),
            route,
            stream: Cell::new(Some(stream)),
            redirected: Cell::default(),
            operation: Cell::default(),
            caller: Cell::default(),
            share: Share::new(memory),
            last_word: Cell::default(),
            claim_asked: Cell::default(),
            body_wait: OnceCell::new(),
            told: Cell::default(),
        }
    }

    /// Notes that the store is asked; at what time, if it is for a claim.
    pub(super) fn asks(&self, call: &Call) -> Option<Timestamp> {
        self.operation.set(Some(*call.operation()));
        let Call::Claim(claim) = call else { return None };
        self.caller.set(Some(claim.caller));
        Some({
            let micros = host::micros();
            // A table in this process answers at once: so few are measured that it costs nothing.
            let is_measured = self.number % MEASURED == 1 || self.route.realm.store.is_remote();
            self.claim_asked.set(is_measured.then_some(micros));
            Timestamp::from_millis(micros / 1000)
        })
    }

    /// Notes what a remote store is asked.
    pub(super) fn inquires(&self, inquiry: &Inquiry) {
        self.last_word.set(inquiry.size() as u64);
    }

    /// Takes as much of the worker's memory as the exchange takes now.
    pub(super) fn take_memory(&self) {
        let exchange = self.exchange.borrow();
        let last_word = if exchange.is_settling() { self.last_word.get() } else { 0 };
        self.share.set(exchange.footprint().saturating_add(last_word));
    }

    /// Notes that the store has answered a claim; how long it took.
    pub(super) fn hears_of_claim(&self) -> Option<Duration> {
        self.claim_asked.take().map(|asked| Duration::from_micros(host::micros().saturating_sub(asked)))
    }

    /// The operation, once the store was asked about it.
    pub(super) fn operation(&self) -> Option<OperationId> {
        self.operation.get()
    }

    /// Whose request it is, once its claim was asked for.
    pub(super) fn caller(&self) -> Option<Caller> {
        self.caller.get()
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

    /// Goes on in the stream with this context, which has an access log of its own.
    pub(super) fn move_to_stream(&self, context_id: u32) {
        if self.stream.replace(Some(context_id)) != Some(context_id) {
            self.told.set(None);
        }
    }

    /// Makes the stream's context the effective one; `false` if the stream is over.
    pub(super) fn enter_stream(&self) -> bool {
        self.stream.get().is_some_and(|context_id| host::set_effective_context(context_id).is_ok())
    }

    /// Whether what it decides is not carried out.
    pub(super) fn is_shadow(&self) -> bool {
        self.route.policy.mode == Mode::Shadow
    }

    pub(super) fn is_finished(&self) -> bool {
        self.exchange.borrow().is_finished()
    }

    /// Tells the stream's access log what became of the request, unless it was told so before.
    pub(super) fn tell(&self, status: Status) {
        // An exchange that has outlived its stream has no access log to tell.
        if self.stream.get().is_none() {
            return;
        }
        if self.told.replace(Some(status)) == Some(status) {
            return;
        }
        let name = if self.is_shadow() { "idemgate.shadow.status" } else { "idemgate.status" };
        let _ = host::set_filter_state(name, status.as_str().as_bytes());
        // Whom nothing ails is not looked up, and each of these is a call of the host.
        if (self.is_shadow() || !matches!(status, Status::Executed | Status::Replayed))
            && let Some(operation) = self.operation()
        {
            let mut digits = String::with_capacity(16);
            let _ = write!(digits, "{}", operation.short());
            let _ = host::set_filter_state("idemgate.operation", digits.as_bytes());
        }
    }

    /// What the host knows of the upstream call now. Ask it with the stream's context in effect.
    pub(super) fn evidence(&self) -> Evidence {
        self.evidence_with(details(), attempts())
    }

    /// The same as far as it matters for a response that begins: each attribute costs the host about as much as all
    /// fields of a message.
    pub(super) fn evidence_of_response(&self, status: u16, headers: &Headers) -> Evidence {
        let details = details();
        let asks_for_attempts = !outcome::is_answer(details.as_deref())
            || outcome::may_release(status, headers, &self.route.policy.outcome);
        self.evidence_with(details, asks_for_attempts.then(attempts).flatten())
    }

    fn evidence_with(&self, details: Option<Vec<u8>>, attempts: Option<u64>) -> Evidence {
        Evidence {
            // An answer came over a connection; asking the host about it would cost as much as the rest.
            connected: outcome::is_answer(details.as_deref()) || has_connection(),
            details,
            attempts,
            redirected: self.redirected.get(),
        }
    }

    /// Ends an exchange whose next stream did not come.
    pub(super) fn abandon(self: &Rc<Self>, filter: &Filter) {
        let evidence = Evidence { redirected: true, ..Evidence::default() };
        let _ = drive(filter, self, Event::Gone { evidence: &evidence }, host::now());
        filter.dismiss(self);
    }
}

/// Of how many claims in shared data one is measured.
const MEASURED: u64 = 16;

/// Where a response comes from, or why there is none.
fn details() -> Option<Vec<u8>> {
    host::property("response\0code_details")
}

/// How often the proxy has tried to send the request.
fn attempts() -> Option<u64> {
    host::integer_property("upstream\0request_attempt_count")
}

/// Whether the request has got a connection to the upstream.
///
/// Over a Unix domain socket there is no local address. The other attribute is as old as the attempt
/// count (Envoy 1.33), without which nothing counts as never sent.
fn has_connection() -> bool {
    host::property("upstream\0cx_pool_ready_duration").is_some() || host::property("upstream\0local_address").is_some()
}
