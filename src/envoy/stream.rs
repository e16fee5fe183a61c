//! The stream context: one HTTP exchange as the host reports it.

use std::{ops::Range, rc::Rc};

use proxy_wasm::traits::{Context, HttpContext};

use super::{
    crash_test::{Faults, Moment},
    evidence,
    filter::Filter,
    host::{self, Action, BufferType, MapType},
};
use crate::{
    exchange::{Attributes, CONTENT_LENGTH, Event, Exchange, Outgoing},
    headers::Headers,
    time::Now,
    worker::{Actions, ActiveExchange, ExchangeId, Passage},
};

/// A stream. Until its request turns out to be of a guarded method it is nothing but this.
#[derive(Debug)]
pub(super) struct Stream {
    context_id: u32,
    faults: Faults,
    filter: Rc<Filter>,
    exchange: Option<ExchangeId>,
    /// How much of the request's body was handed to the exchange.
    body_read: usize,
    response_end: ResponseEnd,
}

impl Stream {
    pub(super) fn new(context_id: u32, filter: Rc<Filter>) -> Self {
        Self {
            context_id,
            faults: Faults::none(),
            filter,
            exchange: None,
            body_read: 0,
            response_end: ResponseEnd::default(),
        }
    }

    /// Hands an event to the exchange, if there is one.
    fn on(&self, event: Event<'_>) -> Actions {
        self.with_exchange(|filter, id| {
            filter.with_worker(|worker, surroundings| worker.drive(surroundings, id, event, &Now::of(host::now)))
        })
        .unwrap_or_default()
    }

    /// Asks the exchange something, if there is one that is not over.
    fn ask<R>(&self, question: impl FnOnce(&ActiveExchange) -> R) -> Option<R> {
        self.with_exchange(|filter, id| filter.with_worker(|worker, _| worker.active(id).map(question)).flatten())
    }

    fn with_exchange<R>(&self, work: impl FnOnce(&Filter, ExchangeId) -> Option<R>) -> Option<R> {
        work(&self.filter, self.exchange?)
    }

    fn open(&mut self, filter: &Filter, route: usize, headers: &Headers, end_of_stream: bool) -> Action {
        let (exchange, actions) = filter.open(route, self.context_id, headers, &HostAttributes, end_of_stream);
        self.exchange = Some(exchange);
        let action = actions.request.map_or(Action::Continue, action_of);
        // The store's answer or another's end lets it go on, and not its own body. Envoys before 1.40.0 (and 1.39.1,
        // 1.38.4, 1.37.6, 1.36.10; envoy#46841) lose a piece of a request whose body has begun to be held in callbacks and
        // that goes on from elsewhere before its end.
        if action == Action::Pause && self.ask(|active| active.exchange().holds_whole_request()) == Some(true) {
            return host::hold_what_follows();
        }
        action
    }

    /// What to do with more of a request: it is held as long as the exchange says so.
    fn hold_or_continue(&self) -> Action {
        match self.ask(|active| active.exchange().holds_request()) {
            Some(true) => Action::Pause,
            _ => Action::Continue,
        }
    }

    /// Hands the reply of the filter's own that passes by to `put_back`; `None` if the response is none.
    fn with_outgoing(&self, put_back: impl FnOnce(&mut Outgoing)) -> Option<()> {
        self.with_exchange(|filter, id| filter.with_worker(|worker, _| worker.outgoing(id).map(put_back)).flatten())
    }
}

fn action_of(passage: Passage) -> Action {
    match passage {
        Passage::Continues => Action::Continue,
        Passage::Held => Action::Pause,
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.faults = Faults::of_request();
        self.faults.strike(Moment::RequestHeaders);
        let filter = Rc::clone(&self.filter);
        self.exchange = filter.take_redirected(self.context_id);
        if self.exchange.is_some() {
            return Action::Continue;
        }
        // What has a body is likely to be guarded, and then all fields are looked at: one call in place of two.
        let mut headers = (!end_of_stream).then(|| host::headers(MapType::HttpRequestHeaders));
        match filter.find_route(&mut headers) {
            Some(route) => {
                let headers = headers.unwrap_or_else(|| host::headers(MapType::HttpRequestHeaders));
                self.open(&filter, route, &headers, end_of_stream)
            }
            None => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let (awaits_body, is_shadow) =
            self.ask(|active| (active.exchange().awaits_body(), active.is_shadow())).unwrap_or_default();
        if !awaits_body {
            return self.hold_or_continue();
        }
        // While the request is held, `size` counts the whole body so far; in shadow mode nothing is.
        let start = if is_shadow { 0 } else { self.body_read };
        let chunk = host::buffer(BufferType::HttpRequestBody, start, size.saturating_sub(start));
        if !is_shadow {
            self.body_read = self.body_read.saturating_add(chunk.len());
        }
        self.on(Event::RequestBody { chunk: &chunk, end_of_stream }).request.map_or(Action::Continue, action_of)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        // With trailers, no body callback says that the stream ends.
        self.on(Event::RequestTrailers).request.map_or_else(|| self.hold_or_continue(), action_of)
    }

    fn on_http_response_headers(&mut self, fields: usize, end_of_stream: bool) -> Action {
        self.faults.strike(Moment::ResponseHeaders);
        if self.with_outgoing(|reply| put_back_fields(reply, fields, end_of_stream)).is_some() {
            return Action::Continue;
        }
        let Some(is_shadow) = self.ask(ActiveExchange::is_shadow) else { return Action::Continue };
        let headers = host::headers(MapType::HttpResponseHeaders);
        let status = host::status(&headers);
        if !is_shadow && self.filter.is_remote() {
            self.response_end = ResponseEnd::announced_by(&headers);
        }
        let evidence = self.ask(|active| evidence::of_response(active, status, &headers)).unwrap_or_default();
        let event = Event::ResponseHeaders { status, headers: &headers, evidence: &evidence, end_of_stream };
        self.on(event).response.map_or(Action::Continue, action_of)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let put_back = |reply: &mut Outgoing| {
            let put_back = reply.put_back_body(size, end_of_stream);
            let _ = put_back.map(|bytes| host::set_buffer(BufferType::HttpResponseBody, size, bytes));
        };
        if self.with_outgoing(put_back).is_some() {
            return Action::Continue;
        }
        let asks = |exchange: &Exchange| (exchange.captures(), exchange.awaits_response_end());
        let Some((captures, awaits_end)) = self.ask(|active| asks(active.exchange())) else { return Action::Continue };
        let piece = self.response_end.advance(size);
        if !captures && !awaits_end {
            return Action::Continue;
        }
        let chunk =
            if captures { host::buffer(BufferType::HttpResponseBody, piece.start, piece.len()) } else { Vec::new() };
        let response = self.on(Event::ResponseBody { chunk: &chunk, end_of_stream }).response;
        if end_of_stream {
            return response.filter(|_| piece.len() <= LARGEST_HELD).map_or(Action::Continue, action_of);
        }
        if self.response_end.is_announced_end() && piece.len() <= LARGEST_HELD {
            self.response_end.hold(size);
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.on(Event::ResponseTrailers).response.map_or(Action::Continue, action_of)
    }

    /// The end of every stream, by any side: the host calls it once.
    fn on_log(&mut self) {
        self.faults.strike(Moment::Log);
        let filter = &self.filter;
        let Some(exchange) = self.exchange else { return filter.abandon_redirected() };
        // Of one that was answered there is nothing to ask the host about, not even the time.
        if filter.with_worker(|worker, _| worker.close_answered(exchange)) == Some(true) {
            return;
        }
        let Some(evidence) = self.ask(evidence::of_stream) else { return };
        let now = Now::of(host::now);
        if evidence.is_internal_redirect() {
            return filter.await_redirected(exchange, now.get());
        }
        filter.with_worker(|worker, surroundings| worker.close(surroundings, exchange, &evidence, &now));
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
            let mut digits = itoa::Buffer::new();
            let _ = host::set_header(MapType::HttpResponseHeaders, CONTENT_LENGTH, digits.format(length).as_bytes());
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
