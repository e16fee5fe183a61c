//! The test's handle to one HTTP exchange.

use crate::{
    exchange::{self, Cut, Record},
    fields::Fields,
    messages::{Answer, Forwarded, Outcome, Request, Response},
    vm,
    worker::Worker,
};

/// One exchange on one worker, driven callback by callback. It must be ended: [`Stream::finish`],
/// [`Stream::disconnect`] or [`Stream::reset`].
#[derive(Debug)]
pub(crate) struct Stream {
    worker: Worker,
    id: u32,
    over: Option<Record>,
    properties: Vec<(Vec<String>, Vec<u8>)>,
}

impl Stream {
    /// A stream that `worker` has not heard of yet.
    pub(crate) fn new(worker: &Worker) -> Self {
        let id = worker.run(|| vm::with(vm::Vm::next_context));
        Self { worker: worker.clone(), id, over: None, properties: Vec::new() }
    }

    /// Sets an Envoy attribute; it lasts from the next callback on.
    pub(crate) fn set_property(&mut self, path: &[&str], value: impl AsRef<[u8]>) {
        self.properties.push((path.iter().map(|&part| part.to_owned()).collect(), value.as_ref().to_vec()));
    }

    /// The whole request: headers, and the body if there is one as a chunk with the end of stream.
    pub(crate) fn send(&self, request: &Request) -> Outcome {
        if request.body.is_empty() {
            return self.request_headers(request.headers.clone(), true);
        }
        let outcome = self.request_headers(request.headers.clone(), false);
        if outcome.is_replied() { outcome } else { self.request_body(&request.body, true) }
    }

    /// Request headers.
    pub(crate) fn request_headers(&self, headers: impl Into<Fields>, end: bool) -> Outcome {
        let (id, headers, properties) = (self.id, headers.into(), self.properties.clone());
        self.worker.run(move || exchange::request_headers(id, headers, properties, end))
    }

    /// A chunk of the request body.
    pub(crate) fn request_body(&self, chunk: impl AsRef<[u8]>, end: bool) -> Outcome {
        let (id, chunk) = (self.id, chunk.as_ref().to_vec());
        self.worker.run(move || exchange::request_body(id, &chunk, end))
    }

    /// Request trailers, which end the request.
    pub(crate) fn request_trailers(&self, trailers: impl Into<Fields>) -> Outcome {
        let (id, trailers) = (self.id, trailers.into());
        self.worker.run(move || exchange::request_trailers(id, trailers))
    }

    /// The whole response: headers, and the body if there is one as a chunk and an empty one at the end.
    pub(crate) fn respond(&self, response: &Response) -> Outcome {
        let outcome = self.response_headers(response, response.body.is_empty());
        if response.body.is_empty() || outcome.is_replied() {
            return outcome;
        }
        self.response_body(&response.body, false);
        self.response_body("", true)
    }

    /// Response headers.
    pub(crate) fn response_headers(&self, response: &Response, end: bool) -> Outcome {
        let (id, response) = (self.id, response.clone());
        self.worker.run(move || exchange::response_headers(id, &response, end))
    }

    /// A chunk of the response body.
    pub(crate) fn response_body(&self, chunk: impl AsRef<[u8]>, end: bool) -> Outcome {
        let (id, chunk) = (self.id, chunk.as_ref().to_vec());
        self.worker.run(move || exchange::response_body(id, &chunk, end))
    }

    /// Response trailers, which end the response.
    pub(crate) fn response_trailers(&self, trailers: impl Into<Fields>) -> Outcome {
        let (id, trailers) = (self.id, trailers.into());
        self.worker.run(move || exchange::response_trailers(id, trailers))
    }

    /// The end of an exchange whose client has its whole answer; what it got.
    pub(crate) fn finish(mut self) -> Answer {
        let answer = self.answer().filter(|answer| answer.complete);
        let answer = answer.unwrap_or_else(|| panic!("the client still waits for its answer: {:?}", self.record()));
        self.end(None);
        answer
    }

    /// The client goes away (HTTP/1).
    pub(crate) fn disconnect(&mut self) -> Record {
        self.end(Some(Cut { connecting: false, ..DISCONNECTED }))
    }

    /// The client goes away while Envoy still connects to the upstream: the request was let through, and not sent.
    pub(crate) fn disconnect_while_connecting(&mut self) -> Record {
        self.end(Some(DISCONNECTED))
    }

    /// The stream ends in the middle with `details`, such as an upstream's reset after its headers.
    pub(crate) fn reset(&mut self, details: &'static str, flags: i64) -> Record {
        self.end(Some(Cut { details, flags, connecting: false }))
    }

    /// A stream that a filter in front has answered: only its end reaches the filter, in an empty context.
    pub(crate) fn answered_in_front(&mut self) -> Record {
        self.reset("rbac_access_denied_matched_policy[none]", 0)
    }

    /// The context is gone without a callback, as no host should let it go.
    pub(crate) fn vanish(mut self) {
        let id = self.id;
        self.over = Some(self.record());
        self.worker.run(move || vm::with(|vm| vm.streams.remove(&id)));
    }

    /// Whether the end was told to the filter.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// What the client has got so far.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.record().answer
    }

    /// What the upstream has got so far.
    pub(crate) fn upstream(&self) -> Option<Forwarded> {
        self.record().upstream
    }

    /// What the filter has set, by its full name in the access log (`wasm.` in front).
    pub(crate) fn filter_state(&self, name: &str) -> Option<Vec<u8>> {
        self.record().filter_state.get(name.as_bytes()).cloned()
    }

    fn record(&self) -> Record {
        let id = self.id;
        let live = || self.worker.run(move || exchange::change(id, |exchange| exchange.record()));
        self.over.clone().unwrap_or_else(live)
    }

    fn end(&mut self, cut: Option<Cut>) -> Record {
        let id = self.id;
        assert!(self.over.is_none(), "stream {id} is over already");
        let record = self.worker.run(move || exchange::end(id, cut));
        self.over.insert(record).clone()
    }
}

const DISCONNECTED: Cut = Cut { details: "downstream_remote_disconnect", flags: 16_384, connecting: true };
