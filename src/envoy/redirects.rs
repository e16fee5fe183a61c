//! Exchanges whose stream has ended because Envoy follows a redirect of the upstream itself.
//!
//! That ends the stream, not the exchange: Envoy makes another stream of the same request, and its
//! response is the first one's answer. Were the claim let go in between, a retry could run what the
//! upstream did before it redirected; were it kept by the old stream, the new one would meet it.
//!
//! The new stream begins in the same call, but it may be long on its way here: filters in front of this
//! one are asked about it again, and one of them may answer it in the upstream's place.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{
    guest::Guest,
    host::{self, Map},
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
    guest: Rc<Guest>,
    since: Timestamp,
}

/// What all streams of one request have in common.
#[derive(Debug, Eq, PartialEq)]
struct Request {
    connection: Option<Vec<u8>>,
    /// `x-request-id`, which Envoy keeps over a redirect. Not every Envoy is told to make one.
    id: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Request {
    /// The request of the stream that is in effect.
    fn of_stream(key_header: &str) -> Self {
        Self {
            connection: host::property(&["connection", "id"]),
            id: host::property(&["request", "id"]),
            key: host::header(Map::RequestHeaders, key_header),
        }
    }
}

impl Redirects {
    /// Keeps the exchange of the stream in effect for the stream to come.
    pub(super) fn leave(&self, key_header: &str, guest: Rc<Guest>, now: Timestamp) {
        let request = Request::of_stream(key_header);
        self.waiting.borrow_mut().push(Waiting { request, guest, since: now });
    }

    /// The exchange that the stream in effect goes on with, if it is such a one.
    pub(super) fn take(&self, key_header: &str) -> Option<Rc<Guest>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return None;
        }
        let request = Request::of_stream(key_header);
        let index = waiting.iter().position(|waiting| waiting.request == request)?;
        Some(waiting.swap_remove(index).guest)
    }

    /// Takes out the exchanges that have waited for longer than `patience`.
    pub(super) fn take_overdue(&self, patience: Duration, now: Timestamp) -> Vec<Rc<Guest>> {
        let is_overdue = |waiting: &mut Waiting| now.since(waiting.since) > patience;
        self.waiting.borrow_mut().extract_if(.., is_overdue).map(|waiting| waiting.guest).collect()
    }
}
