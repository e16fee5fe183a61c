//! The stream context: one HTTP exchange as the host reports it.

use std::{cell::RefCell, rc::Rc};

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::{
    body_watch::{BodyWatch, Waiting},
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
    filter: Option<Rc<Filter>>,
    guest: Option<Rc<Guest>>,
    /// How much of the request's body was handed to the exchange.
    body_read: usize,
}

/// What ticks may act on, besides the stream itself.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) exchange: RefCell<Exchange>,
    waiting: Option<Waiting>,
}

/// An exchange whose stream ended because Envoy follows a redirect of the upstream itself.
///
/// That ends the stream, not the exchange: Envoy starts another stream with the same request, in the
/// same call, and its response is the first one's answer. Were the claim let go in between, a retry
/// could run what the upstream did before it redirected; were it kept by the old stream, the new one
/// would meet it.
#[derive(Debug)]
pub(super) struct Redirected {
    connection: Option<Vec<u8>>,
    guest: Rc<Guest>,
}

impl Redirected {
    /// Gives the exchange up: the stream that was to take it over did not come.
    pub(super) fn abandon(self, filter: &Filter) {
        self.guest.abandon(filter);
    }
}

impl Guest {
    fn abandon(&self, filter: &Filter) {
        let evidence = Evidence::default();
        drive(filter, &mut self.exchange.borrow_mut(), Event::Gone { evidence: &evidence }, host::now());
    }

    pub(super) fn body_is_hopeless(&self, watch: &BodyWatch, now: Timestamp) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| watch.is_hopeless(waiting, now))
    }
}

impl Stream {
    pub(super) fn new(context_id: u32, filter: Option<Rc<Filter>>) -> Self {
        Self { context_id, filter, guest: None, body_read: 0 }
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
        self.join(filter, Rc::new(Guest { exchange: RefCell::new(exchange), waiting }));
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
        let Some(filter) = self.filter.clone() else { return Action::Continue };
        if let Some(redirected) = filter.redirected.take() {
            if redirected.connection == connection() {
                self.join(&filter, redirected.guest);
                return Action::Continue;
            }
            redirected.abandon(&filter);
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
        let Some(guest) = &self.guest else { return Action::Continue };
        if guest.exchange.borrow().is_finished() {
            return Action::Continue;
        }
        let headers = host::headers(Map::ResponseHeaders);
        let status = headers.get(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let evidence = evidence();
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
        let (Some(filter), Some(guest)) = (&self.filter, self.guest.take()) else { return };
        filter.dismiss(self.context_id);
        if guest.exchange.borrow().is_finished() {
            return;
        }
        let evidence = evidence();
        if evidence.is_internal_redirect() {
            filter.redirected.replace(Some(Redirected { connection: connection(), guest }));
        } else {
            drive(filter, &mut guest.exchange.borrow_mut(), Event::Gone { evidence: &evidence }, host::now());
        }
    }
}

/// What the host knows of the upstream call now.
fn evidence() -> Evidence {
    Evidence {
        details: host::property(&["response", "code_details"]),
        attempts: host::integer_property(&["upstream", "request_attempt_count"]),
        connected: host::property(&["upstream", "local_address"]).is_some(),
    }
}

/// Which downstream connection the stream is on.
fn connection() -> Option<Vec<u8>> {
    host::property(&["connection", "id"])
}

#[derive(Debug)]
struct HostAttributes;

impl Attributes for HostAttributes {
    fn get(&self, path: &[String]) -> Option<Vec<u8>> {
        host::property(path)
    }
}
