//! The root context: configuration, time, wake-ups and the answers to detached calls.

use std::{rc::Rc, time::Duration};

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use super::{
    bridge::{Bridge, ReplyWatch},
    driver::drive_from_root,
    filter::Filter,
    guest::Guest,
    host::{self, Buffer, Map},
    stream::Stream,
};
use crate::{
    config::Plugin,
    exchange::{CallFailure, Counter, Event, tick_interval},
    request::OperationId,
    store::shared_data::Sweep,
    time::Timestamp,
};

/// The root context of one configuration in one worker.
#[derive(Debug)]
pub(super) struct Root {
    context_id: u32,
    filter: Option<Rc<Filter>>,
    /// Its streams are calls to Redis.
    bridge: Option<Rc<ReplyWatch>>,
    /// The configuration is no longer used, and detached calls are still under way.
    is_draining: bool,
}

impl Root {
    pub(super) fn new(context_id: u32) -> Self {
        Self { context_id, filter: None, bridge: None, is_draining: false }
    }

    /// Makes the calls that streams have ordered.
    fn make_calls(&self, filter: &Filter) {
        while let Some((guest, job)) = filter.calls.next_ordered() {
            // A guest that was woken just now left its own context in effect.
            let _ = host::set_effective_context(self.context_id);
            if filter.calls.make(Rc::clone(&guest), &job, filter.policy.execution.timeout) {
                filter.metrics.add_detached(1);
            } else {
                self.end_call(filter, &guest, Event::CallFailed(CallFailure::NotMade));
            }
        }
    }

    fn end_call(&self, filter: &Filter, guest: &Rc<Guest>, event: Event<'_>) {
        drive_from_root(filter, guest, event, host::now());
        if guest.is_finished() {
            filter.dismiss(guest);
        }
    }

    /// Lets the host drop a configuration that was kept for its calls alone.
    fn finish_draining(&mut self) {
        if self.is_draining && self.has_no_calls() {
            self.is_draining = false;
            // The client of the last call has left its own context in effect.
            let _ = host::set_effective_context(self.context_id);
            host::done();
        }
    }

    fn has_no_calls(&self) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.calls.are_over())
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _: usize) {
        let Some(filter) = self.filter.clone() else { return };
        let Some(guest) = filter.calls.answered(token) else { return };
        filter.metrics.add_detached(-1);
        if num_headers == 0 {
            self.end_call(&filter, &guest, Event::CallFailed(CallFailure::Reset));
        } else {
            let headers = host::headers(Map::CallResponseHeaders);
            let body = host::buffer(Buffer::CallResponseBody, 0, body_size);
            let status = host::status(&headers);
            self.end_call(&filter, &guest, Event::CallAnswered { status, headers: &headers, body });
        }
        self.finish_draining();
    }

    /// The configuration is no longer used. Calls under way keep it alive, so that their responses are stored.
    fn on_done(&mut self) -> bool {
        self.is_draining = !self.has_no_calls();
        !self.is_draining
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = host::buffer(Buffer::PluginConfiguration, 0, size);
        let config = match Plugin::parse(&text) {
            Ok(Plugin::Filter(config)) => *config,
            Ok(Plugin::RedisBridge) => {
                self.bridge = Some(Rc::default());
                return true;
            }
            Err(error) => {
                log::error!("idemgate: configuration refused: {error}");
                return false;
            }
        };
        match Filter::start(config) {
            Ok(filter) => {
                if !filter.store.has_capacity() {
                    log::warn!(
                        "idemgate: store.shared_data.max_entries was raised beyond what the table in use was laid out \
                         for; it takes effect in full after a restart of Envoy or with a new vm_id"
                    );
                }
                let period = tick_interval(&filter.policy).clamp(SHORTEST_TICK, LONGEST_TICK).as_millis();
                let _ = host::set_tick_period(u32::try_from(period).unwrap_or(1000));
                log::debug!("idemgate {}: configured", env!("CARGO_PKG_VERSION"));
                self.filter = Some(Rc::new(filter));
                true
            }
            Err(error) => {
                log::error!("idemgate: cannot start: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(filter) = self.filter.clone() else { return };
        let now = host::now();
        for guest in filter.due_guests(now) {
            if guest.body_is_hopeless(&filter.body_watch, now) {
                log::error!(
                    "idemgate: the host does not hand over request bodies while headers are held; set \
                     allow_on_headers_stop_iteration: true in the Wasm filter's config (Envoy 1.35 or newer), or \
                     fingerprint.body: \"none\" with execution.mode: \"inline\" in idemgate's"
                );
                drive_from_root(&filter, &guest, Event::BodyWithheld, now);
            }
            drive_from_root(&filter, &guest, Event::Tick, now);
            if guest.is_finished() {
                filter.dismiss(&guest);
            }
        }
        for guest in filter.redirects.take_overdue(filter.policy.lease, now) {
            guest.abandon(&filter);
        }
        // Dead owners wake nobody.
        for operation in filter.waiting_room.due(now) {
            wake(&filter, &operation, now);
        }
        // Rung for already, unless this worker's mailbox went to another one in a long standstill.
        self.make_calls(&filter);
        let _ = host::set_effective_context(self.context_id);
        filter.keep_post(now);
        match filter.store.sweep(filter.worker, now) {
            Ok(Sweep::Swept(totals)) => filter.metrics.show(totals),
            Ok(Sweep::NotElected) => {}
            Err(error) => {
                filter.metrics.count(Counter::StoreErrors, 1);
                log::warn!("idemgate: the sweep failed: {error}");
            }
        }
        filter.count_tally();
        self.finish_draining();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let Some(filter) = self.filter.clone() else { return };
        while let Some(message) = host::dequeue(queue) {
            if let Ok(operation) = <[u8; 32]>::try_from(message) {
                wake(&filter, &OperationId::from_bytes(operation), host::now());
            }
        }
        self.make_calls(&filter);
        self.finish_draining();
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        if let Some(watch) = &self.bridge {
            return Some(Box::new(Bridge::new(Rc::clone(watch))));
        }
        Some(Box::new(Stream::new(context_id, self.filter.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Lets those who wait for an operation ask for it again, in the order in which they came, until one of
/// them has to wait on. It has seen an execution under way, of whose end this worker will be told, and
/// the others would see nothing else.
fn wake(filter: &Filter, operation: &OperationId, now: Timestamp) {
    while let Some(guest) = filter.waiting_room.call_first(operation) {
        drive_from_root(filter, &guest, Event::Woken, now);
        if filter.waiting_room.has(operation, &guest) {
            break;
        }
    }
    filter.show_waiting();
}

/// The sweep wants to come by now and then, however long the leases are.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// However short the leases and waits are, a tick is not to be the worker's main work.
const SHORTEST_TICK: Duration = Duration::from_millis(50);
