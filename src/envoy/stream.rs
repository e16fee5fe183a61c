//! The stream context: one HTTP exchange as the host reports it.

use std::{ops::Range, rc::Rc};

use proxy_wasm::traits::{Context, HttpContext};

use super::{
    crash_test::{Faults, Moment},
    driver::{Actions, drive},
    filter::Filter,
    guest::Guest,
    host::{self, Action, BufferType, MapType},
    route::Route,
};
use crate::{
    exchange::{Attributes, CONTENT_LENGTH, Event, Outgoing},
    headers::Headers,
    time::Timestamp,
};

/// A stream. Until its request turns out to be of a guarded method it is nothing but this.
#[derive(Debug)]
pub(super) struct Stream {
    context_id: u32,
    faults: Faults,
    filter: Option<Rc<Filter>>,
    guest: Option<Rc<Guest>>,
    /// When the exchange was last told of something that depends on the time.
    told_at: Timestamp,
    /// How much of the request's body was handed to the exchange.
    body_read: usize,
    response_end: ResponseEnd,
}

impl Stream {
    pub(super) fn new(context_id: u32, filter: Option<Rc<Filter>>) -> Self {
        Self {
            context_id,
            faults: Faults::none(),
            filter,
            guest: None,
            told_at: Timestamp::default(),
            body_read: 0,
            response_end: ResponseEnd::default(),
        }
    }

    /// Hands an event to the exchange, if there is one.
    fn on(&mut self, event: Event<'_>) -> Actions {
        if self.guest.is_some() {
            self.told_at = host::now();
        }
        self.on_timeless(event)
    }

    /// Like `on`, without reading the clock, which is a host call: for events that do not depend on time, such as pieces of
    /// a body. The claim that the end of a request's body leads to reads it.
    fn on_timeless(&self, event: Event<'_>) -> Actions {
        match (&self.filter, &self.guest) {
            (Some(filter), Some(guest)) => drive(filter, guest, event, self.told_at),
            _ => Actions::default(),
        }
    }

    fn open(&mut self, filter: &Filter, route: &Rc<Route>, headers: &Headers, end_of_stream: bool) -> Action {
        // Nothing depends on the time before the store is asked, and then the clock is looked at.
        let now = filter.ticked_at.get();
        self.told_at = now;
        let guest = filter.receive(route, self.context_id);
        let event = Event::RequestHeaders {
            headers,
            attribute: &HostAttributes,
            owner: filter.next_owner(),
            mailbox: filter.mailbox(),
            is_store_remote: filter.is_remote(),
            end_of_stream,
        };
        let mut action = drive(filter, &guest, event, now).request.unwrap_or(Action::Continue);
        if guest.exchange.borrow().awaits_first_body() {
            if filter.body_watch.is_withheld() {
                action = drive(filter, &guest, Event::BodyWithheld, now).request.unwrap_or(action);
            } else {
                guest.wait_for_body(filter.body_watch.begin(headers));
            }
        }
        // The store's answer or another's end lets it go on, and not its own body. Envoys before 1.40.0 (and 1.39.1,
        // 1.38.4, 1.37.6, 1.36.10; envoy#46841) lose a piece of a request whose body has begun to be held in callbacks and
        // that goes on from elsewhere before its end.
        if action == Action::Pause && guest.exchange.borrow().holds_whole_request() {
            action = host::hold_what_follows();
        }
        if !guest.is_finished() {
            self.join(filter, guest);
        }
        action
    }

    fn join(&mut self, filter: &Filter, guest: Rc<Guest>) {
        guest.move_to_stream(self.context_id);
        filter.admit(&guest);
        self.guest = Some(guest);
    }

    /// What becomes of more of a request: it is kept back as long as the exchange says so.
    fn hold_or_continue(&self) -> Action {
        match &self.guest {
            Some(guest) if guest.exchange.borrow().holds_request() => Action::Pause,
            _ => Action::Continue,
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.faults = Faults::of_request();
        self.faults.strike(Moment::RequestHeaders);
        let Some(filter) = self.filter.clone() else { return Action::Continue };
        if let Some(guest) = filter.redirects.take() {
            self.join(&filter, guest);
            return Action::Continue;
        }
        // What has a body is likely to be guarded, and then all fields are looked at: one call in place of two.
        let headers = (!end_of_stream).then(|| host::headers(MapType::HttpRequestHeaders));
        match filter.find_route(headers.as_ref()) {
            Some(route) => {
                let headers = headers.unwrap_or_else(|| host::headers(MapType::HttpRequestHeaders));
                self.open(&filter, route, &headers, end_of_stream)
            }
            None => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let (Some(filter), Some(guest)) = (&self.filter, &self.guest) else { return Action::Continue };
        if !guest.exchange.borrow().awaits_body() {
            return self.hold_or_continue();
        }
        // While the request is held, `size` counts the whole body so far; in shadow mode nothing is.
        let start = if guest.is_shadow() { 0 } else { self.body_read };
        let chunk = host::buffer(BufferType::HttpRequestBody, start, size.saturating_sub(start));
        if !guest.is_shadow() {
            filter.body_watch.handed_over();
            self.body_read = self.body_read.saturating_add(chunk.len());
        }
        let event = Event::RequestBody { chunk: &chunk, end_of_stream };
        self.on_timeless(event).request.unwrap_or(Action::Continue)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        // With trailers, no body callback says that the stream ends.
        self.on_timeless(Event::RequestTrailers).request.unwrap_or_else(|| self.hold_or_continue())
    }

    fn on_http_response_headers(&mut self, fields: usize, end_of_stream: bool) -> Action {
        self.faults.strike(Moment::ResponseHeaders);
        let Some(guest) = &self.guest else { return Action::Continue };
        if guest.is_finished() {
            return Action::Continue;
        }
        if let Some(reply) = guest.exchange.borrow_mut().outgoing() {
            put_back_fields(reply, fields, end_of_stream);
            return Action::Continue;
        }
        let headers = host::headers(MapType::HttpResponseHeaders);
        let status = host::status(&headers);
        if !guest.is_shadow() && self.filter.as_ref().is_some_and(|filter| filter.is_remote()) {
            self.response_end = ResponseEnd::announced_by(&headers);
        }
        let evidence = guest.evidence_of_response(status, &headers);
        let event = Event::ResponseHeaders { status, headers: &headers, evidence: &evidence, end_of_stream };
        self.on(event).response.unwrap_or(Action::Continue)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let Some(guest) = &self.guest else { return Action::Continue };
        let (captures, awaits_end) = {
            let mut exchange = guest.exchange.borrow_mut();
            if let Some(reply) = exchange.outgoing() {
                let put_back = reply.put_back_body(size, end_of_stream);
                let _ = put_back.map(|bytes| host::set_buffer(BufferType::HttpResponseBody, size, bytes));
                return Action::Continue;
            }
            (exchange.captures(), exchange.awaits_response_end())
        };
        let piece = self.response_end.advance(size);
        if !captures && !awaits_end {
            return Action::Continue;
        }
        let chunk =
            if captures { host::buffer(BufferType::HttpResponseBody, piece.start, piece.len()) } else { Vec::new() };
        let event = Event::ResponseBody { chunk: &chunk, end_of_stream };
        if end_of_stream {
            return self.on(event).response.filter(|_| piece.len() <= LARGEST_HELD).unwrap_or(Action::Continue);
        }
        self.on_timeless(event);
        if self.response_end.is_announced_end() && piece.len() <= LARGEST_HELD {
            self.response_end.hold(size);
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.on(Event::ResponseTrailers).response.unwrap_or(Action::Continue)
    }

    /// The last word on every stream, whoever ended it: the host calls it once.
    fn on_log(&mut self) {
        self.faults.strike(Moment::Log);
        let Some(filter) = &self.filter else { return };
        let Some(guest) = self.guest.take() else {
            // A filter in front has answered the stream that was to go on with an exchange.
            if let Some(guest) = filter.redirects.take() {
                guest.abandon(filter);
            }
            return;
        };
        if guest.exchange.borrow().has_replied() {
            // Nothing more can come of it, and there is nothing to ask the host about.
            return filter.dismiss(&guest);
        }
        if !guest.is_finished() {
            let evidence = guest.evidence();
            if evidence.is_internal_redirect() {
                guest.stream.set(None);
                guest.redirected.set(true);
                filter.redirects.leave(guest, host::now());
                return;
            }
            let _ = drive(filter, &guest, Event::Gone { evidence: &evidence }, host::now());
        }
        guest.stream.set(None);
        // A detached call goes on; its answer, or a tick, sees the exchange to its end.
        if guest.is_finished() {
            filter.dismiss(&guest);
        }
    }
}

/// Where the response's body ends, by its `content-length`.
///
/// Envoy hands the last bytes of such a body over before it says that they are the last ones (HTTP/1). A
/// client that counts has its whole answer then, so these bytes are what has to be kept back until the
/// store knows of it. A store that answers at once knows of it before Envoy sends them.
#[derive(Debug, Default)]
struct ResponseEnd {
    /// How much is still to come; `None` if that is not known or of no interest.
    left: Option<u64>,
    /// How much of the body is held in the host's buffer; the host counts it again with the next piece.
    held: usize,
}

impl ResponseEnd {
    fn announced_by(headers: &Headers) -> Self {
        let length = headers.get("content-length").and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        Self { left: length, held: 0 }
    }

    /// Takes in what the host says of the buffer's size; where the new piece is in it.
    fn advance(&mut self, size: usize) -> Range<usize> {
        let piece = self.held.min(size)..size;
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        piece
    }

    fn is_announced_end(&self) -> bool {
        self.left == Some(0)
    }

    fn hold(&mut self, size: usize) {
        self.held = size;
    }
}

/// The largest piece of a response that is held back, in bytes. Envoy resets a response whose held part
/// outgrows the listener's `per_connection_buffer_limit_bytes` (1 MiB, or 32 KiB at the edge); only part
/// of a piece cannot be held, because trailers may be all that follows it.
const LARGEST_HELD: usize = 32 << 10;

/// Makes sure that the fields of a reply of the filter's own are those that were sent.
fn put_back_fields(reply: &mut Outgoing, fields: usize, end_of_stream: bool) {
    if host::header_bytes(MapType::HttpResponseHeaders).is_some_and(|bytes| reply.is_as_sent(fields, bytes)) {
        if let Some(length) = reply.content_length().filter(|_| !end_of_stream) {
            let _ = host::set_header(MapType::HttpResponseHeaders, CONTENT_LENGTH, length.as_bytes());
        }
    } else if let Some(fields) = reply.put_back_fields(&host::headers(MapType::HttpResponseHeaders), end_of_stream) {
        let _ = host::set_headers(MapType::HttpResponseHeaders, &fields);
    }
}

#[derive(Debug)]
struct HostAttributes;

impl Attributes for HostAttributes {
    fn get(&self, path: &[String]) -> Option<Vec<u8>> {
        host::property(&path.join("\0"))
    }
}
