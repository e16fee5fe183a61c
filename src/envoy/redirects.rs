//! Exchanges whose stream has ended because Envoy follows a redirect of the upstream itself.
//!
//! That ends the stream, not the exchange: Envoy makes another stream of the same request, and its
//! response is the first one's answer. Were the claim let go in between, a retry could run what the
//! upstream did before it redirected; were it kept by the old stream, the new one would meet it.
//!
//! The new stream begins in the same call, but it may be long on its way here: filters in front of this
//! one are asked about it again, and one of them may answer it in the upstream's place.

use std::{cell::RefCell, rc::Rc};

use super::{
    guest::Guest,
    host::{self, MapType},
};
use crate::time::Timestamp;

/// The exchanges that wait for their next stream.
#[derive(Debug, Default)]
pub(super) struct Redirects {
    waiting: RefCell<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    key: Option<Vec<u8>>,
    guest: Rc<Guest>,
    since: Timestamp,
}

impl Waiting {
    fn is_for(&self, stream: &Request) -> bool {
        self.request == *stream && self.key == key_of_stream(&self.guest)
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        now.since(self.since) > self.guest.route.policy.lease
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

/// The header that most keys come in, of the stream in effect; enough to tell one request from another.
fn key_of_stream(guest: &Guest) -> Option<Vec<u8>> {
    let header = guest.route.policy.key.headers.first().map_or("idempotency-key", String::as_str);
    host::header(MapType::HttpRequestHeaders, header)
}

impl Redirects {
    /// Keeps the exchange of the stream in effect for the stream to come.
    pub(super) fn leave(&self, guest: Rc<Guest>, now: Timestamp) {
        let (request, key) = (Request::of_stream(), key_of_stream(&guest));
        self.waiting.borrow_mut().push(Waiting { request, key, guest, since: now });
    }

    /// The exchange that the stream in effect goes on with, if it is such a one.
    pub(super) fn take(&self) -> Option<Rc<Guest>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return None;
        }
        let request = Request::of_stream();
        let index = waiting.iter().position(|waiting| waiting.is_for(&request))?;
        Some(waiting.swap_remove(index).guest)
    }

    /// Takes out the exchanges that have waited for longer than their claims may last.
    pub(super) fn take_overdue(&self, now: Timestamp) -> Vec<Rc<Guest>> {
        self.waiting
            .borrow_mut()
            .extract_if(.., |waiting| waiting.is_overdue(now))
            .map(|waiting| waiting.guest)
            .collect()
    }
}
