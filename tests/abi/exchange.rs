//! One HTTP exchange on its worker: what Envoy's wasm filter keeps of it, and what it does with each answer.
//!
//! The functions take the stream's id and find its state through [`vm::with`], because the guest may come back into
//! that state from inside each callback.

use std::collections::BTreeMap;

use crate::{
    exports::{self, Action},
    fields::Fields,
    messages::{Answer, Forwarded, Outcome, Response},
    vm::{self, Callback, LocalReply, Rule},
};

/// The state of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    request: Half,
    response: Half,
    /// What has gone to the upstream.
    upstream: Option<Forwarded>,
    /// The response whose headers have not gone out yet.
    coming: Option<Answer>,
    /// What has gone to the client.
    answer: Option<Answer>,
    /// The filter has answered: what else comes for this stream is dropped.
    replied: bool,
    /// Attributes, by path joined with NUL.
    properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the filter set, by name with Envoy's `wasm.` in front.
    filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One direction of an exchange.
#[derive(Debug, Default)]
struct Half {
    headers: Option<Fields>,
    trailers: Option<Fields>,
    /// Whether the guest can touch the headers: in their callback, and as long as they are held.
    headers_open: bool,
    trailers_open: bool,
    /// What the body callback sees: a chunk, or everything since the body is held.
    body: Vec<u8>,
    held: Held,
    /// Whether the headers were all.
    ended_with_headers: bool,
    ended: bool,
    /// Whether a callback of this direction runs, its answer still to come.
    in_callback: bool,
    resumed_in_callback: bool,
}

/// How far a direction has got where the filter paused it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Held {
    #[default]
    Nothing,
    Headers,
    /// The headers, with no callback for anything behind them.
    All,
    Body,
    Trailers,
}

/// Which header map, as the ABI numbers them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MapKind {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    CallHeaders,
    CallTrailers,
}

/// Why a map cannot be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Closed {
    /// There never was one, which a filter may find out in `on_log`.
    Absent,
    /// Envoy has let go of it.
    Outside,
}

/// What is left when the exchange is over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Record {
    pub(crate) answer: Option<Answer>,
    pub(crate) upstream: Option<Forwarded>,
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Exchange {
    pub(crate) fn is_replied(&self) -> bool {
        self.replied
    }

    pub(crate) fn is_response_under_way(&self) -> bool {
        self.answer.is_some()
    }

    /// Sets an attribute.
    pub(crate) fn set_property(&mut self, path: &[&str], value: impl AsRef<[u8]>) {
        self.properties.insert(path.join("\0").into_bytes(), value.as_ref().to_vec());
    }

    /// `proxy_get_property`: attributes, then what the filter set.
    pub(crate) fn property(&self, path: &[u8]) -> Option<&[u8]> {
        let state = || self.filter_state.get([b"wasm.", path].concat().as_slice());
        self.properties.get(path).or_else(state).map(Vec::as_slice)
    }

    /// `proxy_set_property`.
    pub(crate) fn set_filter_state(&mut self, path: &[u8], value: &[u8]) {
        self.filter_state.insert([b"wasm.", path].concat(), value.to_vec());
    }

    /// A map for reading.
    pub(crate) fn map(&self, kind: MapKind, callback: Option<Callback>) -> Result<&Fields, Closed> {
        let (map, open) = match kind {
            MapKind::RequestHeaders => (&self.request.headers, self.request.headers_open),
            MapKind::RequestTrailers => (&self.request.trailers, self.request.trailers_open),
            MapKind::ResponseHeaders => (&self.response.headers, self.response.headers_open),
            MapKind::ResponseTrailers => (&self.response.trailers, self.response.trailers_open),
            MapKind::CallHeaders | MapKind::CallTrailers => return Err(Closed::Outside),
        };
        match callback {
            Some(Callback::Log) if kind != MapKind::RequestTrailers => map.as_ref().ok_or(Closed::Absent),
            Some(Callback::Log) => Err(Closed::Absent),
            _ => map.as_ref().filter(|_| open).ok_or(Closed::Outside),
        }
    }

    /// A map for writing; the caller has read it before.
    pub(crate) fn map_mut(&mut self, kind: MapKind) -> Option<&mut Fields> {
        match kind {
            MapKind::RequestHeaders => self.request.headers.as_mut(),
            MapKind::RequestTrailers => self.request.trailers.as_mut(),
            MapKind::ResponseHeaders => self.response.headers.as_mut(),
            MapKind::ResponseTrailers => self.response.trailers.as_mut(),
            MapKind::CallHeaders | MapKind::CallTrailers => None,
        }
    }

    /// The request body as the guest may see it now.
    pub(crate) fn request_body(&mut self, callback: Option<Callback>) -> Option<&mut Vec<u8>> {
        let seen = callback == Some(Callback::RequestBody) || matches!(self.request.held, Held::Body | Held::Trailers);
        seen.then_some(&mut self.request.body)
    }

    /// The response body as the guest may see it now.
    pub(crate) fn response_body(&mut self, callback: Option<Callback>) -> Option<&mut Vec<u8>> {
        (callback == Some(Callback::ResponseBody)).then_some(&mut self.response.body)
    }

    /// What has come of the exchange so far.
    pub(crate) fn record(&self) -> Record {
        Record { answer: self.answer.clone(), upstream: self.upstream.clone(), filter_state: self.filter_state.clone() }
    }

    /// The filter lets the request go on: everything that was held moves to the upstream.
    fn forward_request(&mut self) {
        let half = &mut self.request;
        let upstream = self.upstream.get_or_insert_with(|| Forwarded {
            headers: half.headers.clone().unwrap_or_default(),
            body: Vec::new(),
            trailers: None,
            complete: false,
        });
        upstream.body.append(&mut half.body);
        upstream.trailers = half.trailers.clone();
        upstream.complete = half.ended;
        half.let_go();
    }

    /// The filter lets the response go on: everything that was held moves to the client.
    fn forward_response(&mut self) {
        let half = &mut self.response;
        if let Some(mut coming) = self.coming.take() {
            coming.take_headers(half.headers.as_ref().expect("response headers"));
            self.answer = Some(coming);
        }
        let answer = self.answer.as_mut().expect("a response");
        answer.body.append(&mut half.body);
        answer.trailers = half.trailers.clone();
        answer.complete = half.ended;
        half.let_go();
    }

    fn set_code(&mut self, status: u16, details: Option<&str>, flags: i64) {
        self.set_property(&["response", "code"], i64::from(status).to_le_bytes());
        self.set_property(&["response", "flags"], flags.to_le_bytes());
        match details {
            Some(details) => self.set_property(&["response", "code_details"], details),
            None => {
                self.properties.remove(&b"response\0code_details"[..]);
            }
        }
    }

    fn set_upstream(&mut self, attempts: u64, connected: bool) {
        self.set_property(&["upstream", "request_attempt_count"], attempts.to_le_bytes());
        if attempts > 0 {
            self.set_property(&["upstream", "address"], "10.0.0.1:8080");
        }
        if connected {
            self.set_property(&["upstream", "local_address"], "10.0.0.2:40000");
        }
    }
}

impl Half {
    fn let_go(&mut self) {
        self.held = Held::Nothing;
        self.headers_open = false;
        self.trailers_open = false;
    }

    /// Whether Envoy stops everything behind held headers.
    fn is_stopped(&self, body_while_headers_held: bool) -> bool {
        self.held == Held::All || self.held == Held::Headers && !body_while_headers_held
    }

    fn begin_callback(&mut self) {
        self.in_callback = true;
        self.resumed_in_callback = false;
    }

    fn end_callback(&mut self, action: Action) {
        self.in_callback = false;
        assert!(!(self.resumed_in_callback && action == Action::Pause), "{}", Rule::ResumeThenPause);
    }

    /// Keeps what comes behind stopped headers.
    fn withhold(&mut self, chunk: &[u8], ended: bool) -> Outcome {
        self.body.extend(chunk);
        self.ended = ended;
        Outcome::Withheld
    }
}

/// Request headers arrive: the context is created, and the filter sees them.
pub(crate) fn request_headers(id: u32, headers: Fields, properties: Vec<(Vec<String>, Vec<u8>)>, end: bool) -> Outcome {
    create(id);
    let count = headers.len();
    change(id, |exchange| {
        for (name, path) in [(":method", "method"), (":path", "path"), (":authority", "host")] {
            if let Some(value) = headers.get(name) {
                exchange.set_property(&["request", path], value);
            }
        }
        exchange.set_upstream(0, false);
        for (path, value) in properties {
            exchange.properties.insert(path.join("\0").into_bytes(), value);
        }
        let half = &mut exchange.request;
        half.headers = Some(headers);
        half.headers_open = true;
        half.ended_with_headers = end;
        half.ended = end;
        half.begin_callback();
    });
    let action = vm::call(id, Callback::RequestHeaders, || exports::request_headers(id, count, end));
    after_request_callback(id, action, Held::Headers)
}

/// A chunk of the request body arrives.
pub(crate) fn request_body(id: u32, chunk: &[u8], end: bool) -> Outcome {
    let body_while_headers_held = settings(|settings| settings.body_while_headers_held);
    let seen = change(id, |exchange| {
        if exchange.replied {
            return Err(Outcome::Ignored);
        }
        let half = &mut exchange.request;
        if half.is_stopped(body_while_headers_held) {
            return Err(half.withhold(chunk, end));
        }
        half.body.extend(chunk);
        half.ended = end;
        half.begin_callback();
        Ok(half.body.len())
    });
    let size = match seen {
        Ok(size) => size,
        Err(outcome) => return outcome,
    };
    let action = vm::call(id, Callback::RequestBody, || exports::request_body(id, size, end));
    let outcome = after_request_callback(id, action, Held::Body);
    if outcome == Outcome::Paused && size > settings(|settings| settings.buffer_limit) {
        return too_large(id);
    }
    outcome
}

/// Request trailers arrive: the end of the request.
pub(crate) fn request_trailers(id: u32, trailers: Fields) -> Outcome {
    let body_while_headers_held = settings(|settings| settings.body_while_headers_held);
    let count = trailers.len();
    let outcome = change(id, |exchange| {
        if exchange.replied {
            return Some(Outcome::Ignored);
        }
        let half = &mut exchange.request;
        half.trailers = Some(trailers);
        if half.is_stopped(body_while_headers_held) {
            return Some(half.withhold(b"", true));
        }
        half.trailers_open = true;
        half.ended = true;
        half.begin_callback();
        None
    });
    if let Some(outcome) = outcome {
        return outcome;
    }
    let action = vm::call(id, Callback::RequestTrailers, || exports::request_trailers(id, count));
    after_request_callback(id, action, Held::Trailers)
}

/// `continue_stream` on the request, when its callback is over.
pub(crate) fn resume_request(id: u32) {
    let body_while_headers_held = settings(|settings| settings.body_while_headers_held);
    let stopped = try_change(id, |exchange| {
        let half = &mut exchange.request;
        if half.in_callback {
            half.resumed_in_callback = true;
            return None;
        }
        if half.held == Held::Nothing || exchange.replied {
            return None;
        }
        if !half.is_stopped(body_while_headers_held) {
            assert!(half.held != Held::Body || half.ended, "{}", Rule::ResumePartOfBody);
            exchange.forward_request();
            return None;
        }
        let (body, trailers) = (std::mem::take(&mut half.body), half.trailers.take());
        let (ended, headers_only) = (half.ended, half.ended_with_headers);
        half.ended = headers_only;
        exchange.forward_request();
        Some((body, trailers, ended, headers_only))
    })
    .flatten();
    // Behind headers that were stopped the filter has seen nothing yet: now everything comes.
    if let Some((body, trailers, ended, headers_only)) = stopped {
        let body_ended = ended && trailers.is_none();
        if !body.is_empty() || (body_ended && !headers_only) {
            request_body(id, &body, body_ended);
        }
        if let Some(trailers) = trailers {
            request_trailers(id, trailers);
        }
    }
}

/// Response headers arrive from the router: the upstream's, or a local reply of Envoy's.
pub(crate) fn response_headers(id: u32, response: &Response, end: bool) -> Outcome {
    change(id, |exchange| {
        assert!(exchange.upstream.is_some(), "the request is held, so that nobody can answer it: {exchange:?}");
        assert!(exchange.answer.is_none() && exchange.response.headers.is_none(), "a second response: {exchange:?}");
        exchange.set_upstream(response.attempts, response.connected);
    });
    begin_response(id, response, end)
}

/// A chunk of the response body arrives.
pub(crate) fn response_body(id: u32, chunk: &[u8], end: bool) -> Outcome {
    if change(id, |exchange| exchange.replied) {
        return Outcome::Ignored;
    }
    response_chunk(id, chunk, end)
}

/// Response trailers arrive: the end of the response.
pub(crate) fn response_trailers(id: u32, trailers: Fields) -> Outcome {
    let body_while_headers_held = settings(|settings| settings.body_while_headers_held);
    let count = trailers.len();
    let outcome = change(id, |exchange| {
        if exchange.replied {
            return Some(Outcome::Ignored);
        }
        let half = &mut exchange.response;
        half.trailers = Some(trailers);
        if half.is_stopped(body_while_headers_held) {
            return Some(half.withhold(b"", true));
        }
        half.trailers_open = true;
        half.ended = true;
        half.begin_callback();
        None
    });
    if let Some(outcome) = outcome {
        return outcome;
    }
    let action = vm::call(id, Callback::ResponseTrailers, || exports::response_trailers(id, count));
    after_response_callback(id, action, Held::Trailers)
}

/// `continue_stream` on the response, when its callback is over.
pub(crate) fn resume_response(id: u32) {
    let body_while_headers_held = settings(|settings| settings.body_while_headers_held);
    let stopped = try_change(id, |exchange| {
        let half = &mut exchange.response;
        if half.in_callback {
            half.resumed_in_callback = true;
            return None;
        }
        if half.held == Held::Nothing {
            return None;
        }
        if !half.is_stopped(body_while_headers_held) {
            exchange.forward_response();
            return None;
        }
        let (body, trailers) = (std::mem::take(&mut half.body), half.trailers.take());
        let (ended, headers_only) = (half.ended, half.ended_with_headers);
        half.ended = headers_only;
        exchange.forward_response();
        Some((body, trailers, ended, headers_only))
    })
    .flatten();
    if let Some((body, trailers, ended, headers_only)) = stopped {
        let body_ended = ended && trailers.is_none();
        if !body.is_empty() || (body_ended && !headers_only) {
            response_chunk(id, &body, body_ended);
        }
        if let Some(trailers) = trailers {
            response_trailers(id, trailers);
        }
    }
}

/// The filter's own reply, when its callback is over. Like any other response it passes the filter's response
/// callbacks; from `on_response_headers` it takes the response's place without them.
pub(crate) fn local_reply(id: u32, reply: LocalReply) {
    let response = Response::filter(reply);
    let replaces = change(id, |exchange| {
        exchange.replied = true;
        let replaces = exchange.response.headers.is_some();
        if replaces {
            let status = response.status();
            exchange.set_code(status, response.details.as_deref(), 0);
            exchange.coming = None;
            let mut answer = Answer::new(&response);
            let headers = response.fields();
            answer.take_headers(&headers);
            answer.body.clone_from(&response.body);
            answer.complete = true;
            exchange.response = Half { headers: Some(headers), ..Half::default() };
            exchange.answer = Some(answer);
        }
        replaces
    });
    if !replaces {
        whole_response(id, &response);
    }
}

/// How an exchange ends whose answer is not whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cut {
    /// `response.code_details`.
    pub(crate) details: &'static str,
    /// `response.flags`.
    pub(crate) flags: i64,
    /// Whether the router still waited for its connection to the upstream.
    pub(crate) connecting: bool,
}

/// The end: `on_log`, `on_done`, delete, in Envoy's order.
pub(crate) fn end(id: u32, cut: Option<Cut>) -> Record {
    // Where another filter answered first, the context is only created to be logged.
    if !vm::with(|vm| vm.streams.contains_key(&id)) {
        create(id);
    }
    change(id, |exchange| {
        if let Some(Cut { details, flags, connecting }) = cut {
            if exchange.coming.is_none() && exchange.answer.is_none() {
                let sent = exchange.upstream.is_some();
                exchange.set_upstream(u64::from(sent), sent && !connecting);
            }
            let status = exchange.answer.as_ref().map_or(0, |answer| answer.status);
            exchange.set_code(status, Some(details), flags);
        }
    });
    vm::call(id, Callback::Log, || exports::log(id));
    assert!(vm::call(id, Callback::Done, || exports::done(id)), "{}", Rule::DoneRefused);
    vm::call(id, Callback::Delete, || exports::delete(id));
    vm::with(|vm| vm.streams.remove(&id)).expect("the stream").record()
}

/// Looks at or changes the state of a stream that lives.
pub(crate) fn change<R>(id: u32, work: impl FnOnce(&mut Exchange) -> R) -> R {
    try_change(id, work).unwrap_or_else(|| panic!("stream {id} has not begun, or is over"))
}

fn try_change<R>(id: u32, work: impl FnOnce(&mut Exchange) -> R) -> Option<R> {
    vm::with(|vm| vm.streams.get_mut(&id).map(work))
}

fn settings<R>(read: impl FnOnce(&crate::host::Settings) -> R) -> R {
    vm::with(|vm| read(&vm.process.settings))
}

fn create(id: u32) {
    let root = vm::with(|vm| {
        assert!(vm.streams.insert(id, Exchange::default()).is_none(), "stream {id} has begun already");
        vm.root
    });
    change(id, |exchange| {
        exchange.set_property(&["xds", "cluster_name"], "upstream");
        exchange.set_property(&["xds", "route_name"], "route");
    });
    vm::call(id, Callback::CreateStream, || exports::context_create(id, root));
}

fn after_request_callback(id: u32, action: Action, held: Held) -> Outcome {
    change(id, |exchange| {
        exchange.request.end_callback(action);
        if exchange.replied {
            exchange.request.let_go();
            return Outcome::Replied(exchange.answer.clone());
        }
        match action {
            Action::Continue => {
                exchange.forward_request();
                Outcome::Continued
            }
            Action::Pause => {
                exchange.request.held = held;
                Outcome::Paused
            }
            Action::PauseAll => {
                assert_eq!(held, Held::Headers, "only headers stop what follows them");
                exchange.request.held = Held::All;
                Outcome::Paused
            }
        }
    })
}

fn begin_response(id: u32, response: &Response, end: bool) -> Outcome {
    let headers = response.fields();
    let count = headers.len();
    change(id, |exchange| {
        exchange.set_code(response.status(), response.details.as_deref(), response.flags);
        exchange.coming = Some(Answer::new(response));
        let half = &mut exchange.response;
        half.headers = Some(headers);
        half.headers_open = true;
        half.ended_with_headers = end;
        half.ended = end;
        half.begin_callback();
    });
    let action = vm::call(id, Callback::ResponseHeaders, || exports::response_headers(id, count, end));
    // Still nothing has gone out, unless the filter's own reply has taken this response's place.
    match change(id, |exchange| exchange.answer.clone()) {
        Some(reply) => Outcome::Replied(Some(reply)),
        None => after_response_callback(id, action, Held::Headers),
    }
}

fn response_chunk(id: u32, chunk: &[u8], end: bool) -> Outcome {
    let body_while_headers_held = settings(|settings| settings.body_while_headers_held);
    let seen = change(id, |exchange| {
        let half = &mut exchange.response;
        if half.is_stopped(body_while_headers_held) {
            return Err(half.withhold(chunk, end));
        }
        if half.held != Held::Body {
            half.body.clear();
        }
        half.body.extend(chunk);
        half.ended = end;
        half.begin_callback();
        Ok((half.body.len(), exchange.coming.is_some()))
    });
    let (size, headers_held) = match seen {
        Ok(seen) => seen,
        Err(outcome) => return outcome,
    };
    let action = vm::call(id, Callback::ResponseBody, || exports::response_body(id, size, end));
    if headers_held && let Some(reply) = change(id, |exchange| exchange.answer.clone()) {
        return Outcome::Replied(Some(reply));
    }
    let outcome = after_response_callback(id, action, Held::Body);
    let kept = change(id, |exchange| exchange.response.body.len());
    if outcome == Outcome::Paused && kept > settings(|settings| settings.buffer_limit) {
        assert!(headers_held, "{}", Rule::PauseInResponseBody);
        return response_too_large(id);
    }
    outcome
}

fn after_response_callback(id: u32, action: Action, held: Held) -> Outcome {
    change(id, |exchange| {
        exchange.response.end_callback(action);
        match action {
            Action::Continue => {
                exchange.forward_response();
                Outcome::Continued
            }
            Action::Pause => {
                exchange.response.held = held;
                Outcome::Paused
            }
            Action::PauseAll => panic!("the filter stops no response with all that follows"),
        }
    })
}

/// Envoy's answer to a held body that does not fit its buffer.
fn too_large(id: u32) -> Outcome {
    let response = Response::envoy(413, "request_payload_too_large").body("Payload Too Large");
    change(id, |exchange| exchange.replied = true);
    whole_response(id, &response);
    change(id, |exchange| Outcome::Replied(exchange.answer.clone()))
}

/// Envoy's answer in place of a held response that does not fit its buffer.
fn response_too_large(id: u32) -> Outcome {
    let reply = LocalReply {
        status: 500,
        details: Some("response_payload_too_large".to_owned()),
        headers: Fields::default(),
        body: b"Internal Server Error".to_vec(),
    };
    local_reply(id, reply);
    change(id, |exchange| Outcome::Replied(exchange.answer.clone()))
}

/// A local reply passes the response callbacks: headers, then the body as one chunk.
fn whole_response(id: u32, response: &Response) {
    let head = change(id, |exchange| {
        exchange.request.headers.as_ref().is_some_and(|headers| headers.get(":method") == Some(b"HEAD"))
    });
    let headers_only = head || response.body.is_empty();
    begin_response(id, response, headers_only);
    if !headers_only {
        response_chunk(id, &response.body, true);
    }
}
