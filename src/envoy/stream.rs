//! The stream context: one HTTP exchange as the host reports it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::{
    body_watch::{BodyWatch, Waiting},
    crash_test::{Faults, Moment},
    driver::drive,
    filter::Filter,
    host::{self, Buffer, Map},
};
use crate::{
    config::Mode,
    exchange::{Attributes, Event, Evidence, Exchange},
    time::Timestamp,
};

/// A stream. Until its request turns out to be of a guarded method it is nothing but this.
#[derive(Debug)]
pub(super) struct Stream {
    context_id: u32,
    faults: Faults,
    filter: Option<Rc<Filter>>,
    guest: Option<Rc<Guest>>,
    /// How much of the request's body was handed to the exchange.
    body_read: usize,
}

/// What ticks may act on, besides the stream itself.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) exchange: RefCell<Exchange>,
    /// Whether an earlier stream of the same request had an answer of the upstream, a redirect.
    redirected: Cell<bool>,
    waiting: Option<Waiting>,
}

impl Guest {
    /// Ends an exchange whose next stream did not come.
    pub(super) fn abandon(&self, filter: &Filter) {
        let evidence = Evidence { redirected: true, ..Evidence::default() };
        drive(filter, &mut self.exchange.borrow_mut(), Event::Gone { evidence: &evidence }, host::now());
    }

    /// What the host knows of the upstream call now.
    fn evidence(&self) -> Evidence {
        Evidence {
            details: host::property(&["response", "code_details"]),
            attempts: host::integer_property(&["upstream", "request_attempt_count"]),
            connected: has_connection(),
            redirected: self.redirected.get(),
        }
    }

    pub(super) fn body_is_hopeless(&self, watch: &BodyWatch, now: Timestamp) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| watch.is_hopeless(waiting, now))
    }
}

impl Stream {
    pub(super) fn new(context_id: u32, filter: Option<Rc<Filter>>) -> Self {
        Self { context_id, faults: Faults::default(), filter, guest: None, body_read: 0 }
    }

    /// Hands an event to the exchange, if there is one.
    fn on(&self, event: Event<'_>) -> Option<Action> {
        let (filter, guest) = (self.filter.as_ref()?, self.guest.as_ref()?);
        drive(filter, &mut guest.exchange.borrow_mut(), event, host::now())
    }

    fn open(&mut self, filter: &Rc<Filter>, end_of_stream: bool) -> Action {
        let now = host::now();
        let headers = host::headers(Map::RequestHeaders);
        let mut exchange = Exchange::new(filter.policy.clone());
        let event = Event::RequestHeaders {
            headers: &headers,
            attribute: &HostAttributes,
            owner: filter.next_owner(),
            end_of_stream,
        };
        let mut action = drive(filter, &mut exchange, event, now).unwrap_or(Action::Continue);
        if exchange.is_finished() {
            return action;
        }
        let mut waiting = None;
        if exchange.awaits_first_body() {
            if filter.body_watch.is_withheld() {
                action = drive(filter, &mut exchange, Event::BodyWithheld, now).unwrap_or(action);
            } else {
                waiting = Some(filter.body_watch.begin(&headers, now));
            }
        }
        self.join(filter, Rc::new(Guest { exchange: RefCell::new(exchange), redirected: Cell::default(), waiting }));
        action
    }

    fn join(&mut self, filter: &Filter, guest: Rc<Guest>) {
        filter.admit(self.context_id, Rc::clone(&guest));
        self.guest = Some(guest);
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.faults = Faults::of_request();
        self.faults.strike(Moment::RequestHeaders);
        let Some(filter) = self.filter.clone() else { return Action::Continue };
        if let Some(guest) = filter.redirects.take(filter.key_header()) {
            self.join(&filter, guest);
            return Action::Continue;
        }
        if filter.policy.mode == Mode::Off {
            return Action::Continue;
        }
        // One look-up decides for most requests; the whole map is fetched only for the others.
        let method = host::header(Map::RequestHeaders, ":method").unwrap_or_default();
        if !filter.policy.methods.iter().any(|guarded| guarded.as_bytes() == method) {
            return Action::Continue;
        }
        self.open(&filter, end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let (Some(filter), Some(guest)) = (&self.filter, &self.guest) else { return Action::Continue };
        if !guest.exchange.borrow().awaits_body() {
            return Action::Continue;
        }
        filter.body_watch.handed_over();
        // While the request is held, `size` counts the whole body so far.
        let chunk = host::buffer(Buffer::RequestBody, self.body_read, size.saturating_sub(self.body_read));
        self.body_read = self.body_read.saturating_add(chunk.len());
        self.on(Event::RequestBody { chunk: &chunk, end_of_stream }).unwrap_or(Action::Continue)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        // With trailers, no body callback says that the stream ends.
        self.on(Event::RequestTrailers).unwrap_or(Action::Continue)
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.faults.strike(Moment::ResponseHeaders);
        let Some(guest) = &self.guest else { return Action::Continue };
        if guest.exchange.borrow().is_finished() {
            return Action::Continue;
        }
        let headers = host::headers(Map::ResponseHeaders);
        let status = headers.get(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let evidence = guest.evidence();
        let status = status.unwrap_or_default();
        self.on(Event::ResponseHeaders { status, headers: &headers, evidence: &evidence, end_of_stream });
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Some(guest) = &self.guest else { return Action::Continue };
        if guest.exchange.borrow().captures() {
            // Never held back: Envoy cuts a response that outgrows its buffer after the headers are out.
            // Not held, `size` counts this chunk alone.
            let chunk = host::buffer(Buffer::ResponseBody, 0, size);
            self.on(Event::ResponseBody { chunk: &chunk, end_of_stream });
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.on(Event::ResponseTrailers);
        Action::Continue
    }

    /// The last word on every stream, whoever ended it. On Envoy it comes before `on_done`.
    fn on_log(&mut self) {
        self.faults.strike(Moment::Log);
        let Some(filter) = &self.filter else { return };
        let Some(guest) = self.guest.take() else {
            // A filter in front has answered the stream that was to go on with an exchange.
            if let Some(guest) = filter.redirects.take(filter.key_header()) {
                guest.abandon(filter);
            }
            return;
        };
        filter.dismiss(self.context_id);
        if guest.exchange.borrow().is_finished() {
            return;
        }
        let evidence = guest.evidence();
        if evidence.is_internal_redirect() {
            guest.redirected.set(true);
            filter.redirects.leave(filter.key_header(), guest, host::now());
        } else {
            drive(filter, &mut guest.exchange.borrow_mut(), Event::Gone { evidence: &evidence }, host::now());
        }
    }
}

/// Whether the request has got a connection to the upstream.
///
/// Over a Unix domain socket there is no local address. The other attribute is as old as the attempt
/// count (Envoy 1.33), without which nothing counts as never sent.
fn has_connection() -> bool {
    host::property(&["upstream", "cx_pool_ready_duration"]).is_some()
        || host::property(&["upstream", "local_address"]).is_some()
}

#[derive(Debug)]
struct HostAttributes;

impl Attributes for HostAttributes {
    fn get(&self, path: &[String]) -> Option<Vec<u8>> {
        host::property(path)
    }
}
