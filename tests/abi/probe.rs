//! A filter whose path says what it does: the guest that the bench is checked with.
//!
//! It is written on the SDK's traits, so that the SDK's own host calls run against this host. Each callback leaves a
//! log line, in the order in which they came.

#![allow(clippy::disallowed_methods, reason = "it is to try the SDK as it is; a panic fails the test")]

use std::{cell::RefCell, time::Duration};

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType, LogLevel, MetricType},
};

use crate::{
    exports::Guest,
    host::{Host, LogLine, Settings},
};

/// An Envoy with the probe in it.
pub(crate) fn host() -> Host {
    Host::with(settings())
}

/// The probe's settings, to change some.
pub(crate) fn settings() -> Settings {
    Settings { guest: Guest::Probe, ..Settings::idemgate() }
}

/// What the probe logged, in order.
pub(crate) fn trace(host: &Host) -> Vec<String> {
    host.log().into_iter().map(|LogLine { message, .. }| message).collect()
}

pub(crate) fn initialize() {
    proxy_wasm::set_root_context(|_| Box::new(Root));
}

thread_local! {
    /// The streams that wait for a tick or a queue; a wasm VM has it to itself as this thread has.
    static WAITING: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

fn note(text: impl Into<String>) {
    hostcalls::log(LogLevel::Info, &text.into()).unwrap();
}

/// The root context: its tick resumes what waits, its queue answers it.
struct Root;

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        let status = self.get_http_call_response_header(":status");
        let text = self.get_http_call_response_body(0, body).unwrap_or_default();
        note(format!("root call {token}: {headers} headers, {status:?}, {}", String::from_utf8_lossy(&text)));
    }

    fn on_done(&mut self) -> bool {
        note("root done");
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        if configuration == b"refuse" {
            note("refused");
            return false;
        }
        if configuration != b"no tick" {
            self.set_tick_period(Duration::from_secs(1));
        }
        let queue = self.register_shared_queue(&String::from_utf8_lossy(&configuration));
        queue > 0
    }

    fn on_tick(&mut self) {
        for stream in WAITING.take() {
            match hostcalls::set_effective_context(stream) {
                Ok(()) => hostcalls::resume_http_request().unwrap(),
                Err(status) => note(format!("gone: {status:?}")),
            }
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(message)) = self.dequeue_shared_queue(queue) {
            note(format!("queue {}", String::from_utf8_lossy(&message)));
            if message == b"call" {
                let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "a")];
                note(format!(
                    "{:?}",
                    self.dispatch_http_call("backend", headers, Some(b"ask"), vec![], Duration::from_secs(2))
                ));
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Probe { id, path: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Probe {
    id: u32,
    path: String,
}

impl Probe {
    fn body(&self, body: Option<Vec<u8>>) -> String {
        String::from_utf8_lossy(&body.unwrap_or_default()).into_owned()
    }

    fn claim(&self, cas: Option<u32>) -> Action {
        if self.get_shared_data("claim") == (None, None)
            && self.set_shared_data("claim", Some(&self.id.to_le_bytes()), cas).is_ok()
        {
            return Action::Continue;
        }
        self.send_http_response(409, vec![], None);
        Action::Pause
    }
}

impl Context for Probe {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        note(format!("stream call {token}"));
        self.resume_http_request();
    }

    fn on_done(&mut self) -> bool {
        note("done");
        true
    }
}

impl HttpContext for Probe {
    fn on_http_request_headers(&mut self, count: usize, end: bool) -> Action {
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        note(format!("request headers {count} {end}"));
        match self.path.as_str() {
            "/hold" => return Action::Pause,
            "/wait" => {
                WAITING.with_borrow_mut(|waiting| waiting.push(self.id));
                return Action::Pause;
            }
            "/reply" => {
                let headers = vec![("x-probe", "1"), ("x-probe", "2"), ("content-length", "999")];
                self.send_http_response(403, headers, Some(b"no"));
                return Action::Pause;
            }
            "/reply-empty" => self.send_http_response(204, vec![], None),
            "/reply-twice" => {
                self.send_http_response(403, vec![], None);
                self.send_http_response(404, vec![], None);
            }
            "/reply-and-resume" => {
                self.send_http_response(403, vec![], None);
                self.resume_http_request();
            }
            "/resume-and-pause" => {
                self.resume_http_request();
                return Action::Pause;
            }
            "/edit" => {
                self.set_http_request_header("x-old", Some("new"));
                self.add_http_request_header("x-added", "1");
                self.set_http_request_header("x-gone", None);
            }
            "/claim-without-cas" => return self.claim(None),
            "/claim-never-issued-cas" => return self.claim(Some(u32::MAX)),
            "/metrics" | "/shrink" => {
                let by = if self.path == "/shrink" { -1 } else { 2 };
                for _ in 0..2 {
                    let counter = hostcalls::define_metric(MetricType::Counter, "probe.count").unwrap();
                    note(format!("{:?}", hostcalls::increment_metric(counter, by)));
                }
                let gauge = hostcalls::define_metric(MetricType::Gauge, "probe.level").unwrap();
                hostcalls::record_metric(gauge, 7).unwrap();
                hostcalls::increment_metric(gauge, -3).unwrap();
                let histogram = hostcalls::define_metric(MetricType::Histogram, "probe.times").unwrap();
                hostcalls::record_metric(histogram, 5).unwrap();
            }
            "/enqueue" => {
                let queue = self.resolve_shared_queue("", "other").unwrap();
                self.enqueue_shared_queue(queue, Some(b"hello")).unwrap();
                self.enqueue_shared_queue(queue, Some(b"call")).unwrap();
                note(format!("{:?}", self.resolve_shared_queue("", "nobody")));
            }
            "/call" => {
                let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "a")];
                note(format!("{:?}", self.dispatch_http_call("backend", headers, None, vec![], Duration::ZERO)));
                note(format!("{:?}", self.dispatch_http_call("backend", vec![], None, vec![], Duration::ZERO)));
                return Action::Pause;
            }
            "/properties" => {
                note(format!("{:?}", self.get_property(vec!["xds", "cluster_name"])));
                note(format!("{:?}", self.get_property(vec!["connection", "id"])));
                note(format!("{:?}", self.get_property(vec!["response", "code_details"])));
                self.set_property(vec!["probe.word"], Some(b"set"));
                note(format!("{:?}", self.get_property(vec!["probe.word"])));
            }
            "/time" => note(format!("{:?}", self.get_current_time())),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        note(format!("request body {size} {end} {}", self.body(self.get_http_request_body(0, size))));
        match self.path.as_str() {
            "/hold" | "/wait" if !end => return Action::Pause,
            "/reply-to-body" => self.send_http_response(422, vec![], Some(b"no")),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        note(format!("request trailers {count}"));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, count: usize, end: bool) -> Action {
        let details = self.body(self.get_property(vec!["response", "code_details"]));
        note(format!("response headers {count} {end} {details}"));
        match self.path.as_str() {
            "/replace" => self.send_http_response(502, vec![], Some(b"replaced")),
            "/late-read" => drop(self.get_http_request_headers()),
            "/edit" => {
                self.set_http_response_header("x-old", None);
                self.add_http_response_header("x-added", "2");
            }
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        note(format!("response body {size} {end} {}", self.body(self.get_http_response_body(0, size))));
        match self.path.as_str() {
            "/pause-response-body" => return Action::Pause,
            "/reply-to-response-body" => self.send_http_response(500, vec![], None),
            "/edit" if size > 0 => self.set_http_response_body(0, size, b"edited"),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        note(format!("response trailers {count}"));
        Action::Continue
    }

    fn on_log(&mut self) {
        let requested = self.get_http_request_headers_bytes().len();
        let responded = self.get_http_response_headers_bytes().len();
        let details = self.body(self.get_property(vec!["response", "code_details"]));
        note(format!("log {requested} {responded} {details}"));
        if self.path == "/connection" {
            let attempts = self.get_property(vec!["upstream", "request_attempt_count"]);
            let connected = self.get_property(vec!["upstream", "local_address"]).is_some();
            note(format!("attempts {:?}, connected {connected}", attempts.map(|count| count[0])));
        }
        if self.path == "/reply-in-log" {
            self.send_http_response(500, vec![], None);
        }
    }
}
