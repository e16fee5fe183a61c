//! Envoy as a worker sees it: carries out what the worker asks of its host.

use std::{fmt::Write as _, rc::Rc, time::Duration};

use super::{
    host::{self, MapType},
    mailbox::OwnMailbox,
    realm::{Realm, Route},
    store::StoreStreams,
};
use crate::{
    config::NEVER_GUARDED,
    exchange::{Counter, DetachedCall, Notice, Reply, Status},
    record::Mailbox,
    request::OperationId,
    store::{Call, StoreError, pool::Streams},
    time::Timestamp,
    worker::{ExchangeId, Host, Report, StoreReply},
};

/// What a worker has around it under one configuration.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// Its root context.
    root: u32,
    /// The entries of the configuration's `routes`, in their order, and what all other requests fall under.
    routes: Vec<Route>,
    pub(super) enforced: Rc<Realm>,
    /// Present if a route is in shadow mode.
    shadow: Option<Rc<Realm>>,
    pub(super) mailbox: OwnMailbox,
    /// What was noted so far.
    noted: Vec<Notice>,
    /// When each kind of trouble, such as of store errors, was last logged.
    logged: Vec<(&'static str, Timestamp)>,
}

impl Surroundings {
    pub(super) fn new(
        root: u32,
        routes: Vec<Route>,
        enforced: Rc<Realm>,
        shadow: Option<Rc<Realm>>,
        mailbox: OwnMailbox,
    ) -> Self {
        Self { root, routes, enforced, shadow, mailbox, noted: Vec::new(), logged: Vec::new() }
    }

    pub(super) fn realms(&self) -> impl Iterator<Item = &Rc<Realm>> {
        self.shadow.iter().chain([&self.enforced])
    }

    /// The host's streams to the store.
    pub(super) fn streams(&self) -> StoreStreams<'_> {
        self.enforced.store.streams(self.root)
    }

    /// Makes the root context the effective one.
    pub(super) fn enter_root(&self) {
        let _ = host::set_effective_context(self.root);
    }

    /// Tells of a key that protects nothing, because the method is not guarded: a client or an SDK expects that it is. The
    /// methods that are never guarded are not looked at.
    pub(super) fn note_unguarded(&mut self, method: &[u8], has_key: impl FnOnce() -> bool) {
        if !NEVER_GUARDED.iter().any(|never| method.eq_ignore_ascii_case(never.as_bytes())) && has_key() {
            self.count(self.routes.len().saturating_sub(1), Counter::RequestsKeyUnguarded);
            self.note(Notice::KeyUnguarded(String::from_utf8_lossy(method).into_owned()));
        }
    }

    fn count(&self, route: usize, counter: Counter) {
        if let Some(route) = self.routes.get(route) {
            route.count(counter);
        }
    }

    fn realm(&self, is_shadow: bool) -> &Rc<Realm> {
        self.shadow.as_ref().filter(|_| is_shadow).unwrap_or(&self.enforced)
    }

    /// Tells the operator of each kind of thing once.
    fn note(&mut self, notice: Notice) {
        if !self.noted.iter().any(|known| known.is_like(&notice)) {
            log::warn!("idemgate: {notice}");
            self.noted.push(notice);
        }
    }

    /// Counts what is wrong with a store, and tells the operator now and then.
    fn report_store(&mut self, error: StoreError, is_shadow: bool, now: Timestamp) {
        self.realm(is_shadow).count_store_error(error);
        let kind = error.kind();
        if self.may_log(kind, now) {
            log::warn!("idemgate: the store failed ({kind}): {error}");
        }
    }

    /// Tells the operator why a connection to the store has ended, which the host alone knows: a certificate that does not
    /// fit, for one.
    pub(super) fn note_closed(&mut self, text: &[u8], now: Timestamp) {
        if !text.is_empty() && self.may_log("connection", now) {
            log::info!("idemgate: a connection to the store has ended: {}", String::from_utf8_lossy(text));
        }
    }

    /// Whether a line about this kind of trouble may be logged; it counts as logged then.
    fn may_log(&mut self, kind: &'static str, now: Timestamp) -> bool {
        self.logged.retain(|(_, last)| now.since(*last) < LOG_PERIOD);
        let may = self.logged.iter().all(|(known, _)| *known != kind);
        if may {
            self.logged.push((kind, now));
        }
        may
    }
}

impl Streams for Surroundings {
    fn open_stream(&mut self) -> Option<u32> {
        self.streams().open_stream()
    }

    fn send(&mut self, stream: u32, bytes: &[u8]) -> bool {
        self.streams().send(stream, bytes)
    }

    fn close_stream(&mut self, stream: u32) {
        self.streams().close_stream(stream);
    }
}

impl Host for Surroundings {
    fn enter_stream(&mut self, stream: u32) -> bool {
        host::set_effective_context(stream).is_ok()
    }

    fn reply(&mut self, reply: &Reply) {
        host::reply(reply);
    }

    fn resume_request(&mut self) {
        let _ = host::resume_request();
    }

    fn resume_response(&mut self) {
        let _ = host::resume_response();
    }

    fn remove_request_header(&mut self, name: &str) {
        let _ = host::remove_header(MapType::HttpRequestHeaders, name);
    }

    fn remove_response_header(&mut self, name: &str) {
        let _ = host::remove_header(MapType::HttpResponseHeaders, name);
    }

    fn add_response_header(&mut self, name: &str, value: &str) {
        let _ = host::add_header(MapType::HttpResponseHeaders, name, value.as_bytes());
    }

    fn bytes_received(&mut self) -> u64 {
        host::integer_property("request\0total_size").unwrap_or(0)
    }

    fn log_status(&mut self, status: Status, operation: Option<OperationId>, is_shadow: bool) {
        let name = if is_shadow { "idemgate.shadow.status" } else { "idemgate.status" };
        let _ = host::set_filter_state(name, status.as_str().as_bytes());
        // Whom nothing ails is not looked up, and each of these is a call of the host.
        if (is_shadow || !matches!(status, Status::Executed | Status::Replayed))
            && let Some(operation) = operation
        {
            let mut digits = String::with_capacity(16);
            let _ = write!(digits, "{}", operation.short());
            let _ = host::set_filter_state("idemgate.operation", digits.as_bytes());
        }
    }

    fn ask_store(&mut self, call: Call, is_shadow: bool, now: Timestamp) -> StoreReply {
        let realm = self.realm(is_shadow);
        let reply = realm.store.call(call, now);
        realm.count_tally();
        reply
    }

    fn call_store(&mut self, _: ExchangeId, question: &[u8], timeout: Duration) -> Option<u32> {
        self.enter_root();
        self.enforced.store.send(question, timeout)
    }

    fn call_upstream(&mut self, _: ExchangeId, job: &DetachedCall, timeout: Duration) -> Option<u32> {
        self.enter_root();
        let length = job.body.len().to_string();
        let fields = job.headers.iter().chain([("content-length".as_bytes(), length.as_bytes())]);
        host::http_call(&job.cluster, fields, &job.body, timeout).ok()
    }

    fn wake(&mut self, worker: Mailbox, operation: &OperationId) {
        host::enqueue(worker.0, operation.as_bytes());
    }

    fn call_back(&mut self) {
        self.mailbox.call();
    }

    fn micros(&mut self) -> u64 {
        host::micros()
    }

    fn report(&mut self, report: Report<'_>, now: Timestamp) {
        match report {
            Report::Counted(counter, subject) => {
                self.count(subject.route, counter);
                let journal = &self.realm(subject.is_shadow).journal;
                journal.note(counter, subject.operation.as_ref(), subject.is_shadow, now);
            }
            Report::ClaimTook(time, subject) => self.realm(subject.is_shadow).metrics.record_claim(time),
            Report::WaitTook(time, subject) => self.realm(subject.is_shadow).metrics.record_wait(time),
            Report::Waiting(change) => self.enforced.metrics.add_waiting(change),
            Report::Calls(change) => self.enforced.metrics.add_detached(change),
            Report::Notice(notice) => self.note(notice),
            Report::StoreFailed { error, is_shadow } => self.report_store(error, is_shadow, now),
            Report::AttemptFailed { error, is_shadow } => {
                self.realm(is_shadow).metrics.count(Counter::StoreErrors, 1);
                self.report_store(error, is_shadow, now);
            }
            Report::CallRefused(cluster) => {
                if self.may_log("detached", now) {
                    log::warn!(
                        "idemgate: a detached call to the cluster {cluster:?} cannot be made, and nothing ran: Envoy has no \
                         such cluster, or it has no healthy host, or its circuit breaker is open; compare \
                         execution.cluster with Envoy's /clusters"
                    );
                }
            }
            Report::BodyWithheld => log::error!(
                "idemgate: the host does not hand over request bodies while headers are held; set \
                 allow_on_headers_stop_iteration: true in the Wasm filter's config (Envoy 1.36 or newer), or \
                 fingerprint.body: \"none\" with execution.mode: \"inline\" in idemgate's"
            ),
        }
    }
}

/// The time between two log lines about the same kind of error: a store that is down fails each request.
const LOG_PERIOD: Duration = Duration::from_secs(10);
