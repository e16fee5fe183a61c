//! Exchanges whose stream has ended because Envoy follows a redirect of the upstream itself.
//!
//! That ends the stream, not the exchange: Envoy makes another stream of the same request, and its
//! response is the first one's answer. Were the claim let go in between, a retry could run what the
//! upstream did before it redirected; were it kept by the old stream, the new one would meet it.
//!
//! The new stream begins in the same call, but it may be long on its way here: filters in front of this
//! one are asked about it again, and one of them may answer it in the upstream's place.

use super::host::{self, MapType};
use crate::{config::Policy, time::Timestamp, worker::ExchangeId};

/// The exchanges that wait for their next stream.
#[derive(Debug, Default)]
pub(super) struct Redirects {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    exchange: ExchangeId,
    request: Request,
    /// The header that most keys come in.
    key_header: String,
    key: Option<Vec<u8>>,
    /// When it has waited for longer than its claim may last.
    until: Timestamp,
}

impl Waiting {
    fn is_for(&self, stream: &Request) -> bool {
        self.request == *stream && self.key == host::header(MapType::HttpRequestHeaders, &self.key_header)
    }
}

/// What all streams of one request have in common besides its key.
#[derive(Debug, Eq, PartialEq)]
struct Request {
    connection: Option<Vec<u8>>,
    /// `x-request-id`, which Envoy keeps over a redirect. Not every Envoy is told to make one.
    id: Option<Vec<u8>>,
}

impl Request {
    /// The request of the stream that is in effect.
    fn of_stream() -> Self {
        Self { connection: host::property("connection\0id"), id: host::property("request\0id") }
    }
}

impl Redirects {
    /// Keeps the exchange of the stream in effect for the stream to come.
    pub(super) fn leave(&mut self, exchange: ExchangeId, policy: &Policy, now: Timestamp) {
        let key_header = policy.key.headers.first().map_or("idempotency-key", String::as_str).to_owned();
        let key = host::header(MapType::HttpRequestHeaders, &key_header);
        let (request, until) = (Request::of_stream(), now.after(policy.lease));
        self.waiting.push(Waiting { exchange, request, key_header, key, until });
    }

    /// The exchange that the stream in effect goes on with, if it is such a one.
    pub(super) fn take(&mut self) -> Option<ExchangeId> {
        if self.waiting.is_empty() {
            return None;
        }
        let request = Request::of_stream();
        let index = self.waiting.iter().position(|waiting| waiting.is_for(&request))?;
        Some(self.waiting.swap_remove(index).exchange)
    }

    /// Takes out the exchanges that have waited for longer than their claims may last.
    pub(super) fn take_overdue(&mut self, now: Timestamp) -> Vec<ExchangeId> {
        self.waiting.extract_if(.., |waiting| now > waiting.until).map(|waiting| waiting.exchange).collect()
    }
}
