//! What the contract promises, played on the bench with the shared-data store.
//!
//! Each test knows the contract and Envoy's ways only, nothing of the filter's inside.

mod answers;
mod claims;
mod crowds;
mod detached;
mod ends;
mod outcomes;
mod refusals;
mod shares;
mod start;
mod waiting;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    host::Host,
    messages::{Answer, Request, Response},
    worker::Worker,
};

/// After which time the timer fires while turns are left to take.
const SOON: Duration = Duration::from_millis(1);

/// One worker of an Envoy of its own.
fn worker(configuration: &str) -> (Host, Worker) {
    let host = Host::new();
    let worker = host.worker(configuration);
    (host, worker)
}

/// Two workers of one Envoy.
fn workers(configuration: &str) -> (Host, Worker, Worker) {
    let host = Host::new();
    let (one, two) = (host.worker(configuration), host.worker(configuration));
    (host, one, two)
}

/// Lets all mail arrive, the mail that it leads to, and the turns of those for whom one call of the host's was too short:
/// how much mail a worker finds in a call depends on the threads.
fn deliver(workers: &[&Worker]) {
    for _ in 0..4 {
        for worker in workers {
            worker.rest();
            while worker.tick_period() == SOON {
                worker.tick();
            }
        }
    }
}

/// A guarded request. The same key gives the same request.
fn order(key: &str) -> Request {
    Request::post("/orders").key(key).body(r#"{"item":1}"#)
}

/// The orders service: it counts what it runs.
#[derive(Clone, Debug, Default)]
struct Orders(Arc<AtomicUsize>);

impl Orders {
    /// Runs an order; the answer tells which one it was.
    fn run(&self) -> Response {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Response::new(201).header("content-type", "application/json").body(format!(r#"{{"order":{number}}}"#))
    }

    /// How often it ran.
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// One exchange with this service behind it.
    fn serve(&self, worker: &Worker, request: &Request) -> Answer {
        worker.exchange(request, || self.run())
    }

    /// One exchange that ends with `response` instead of an order, although the service may count it.
    fn answer(&self, worker: &Worker, request: &Request, response: Response) -> Answer {
        worker.exchange(request, || {
            self.run();
            response
        })
    }
}

/// The `idempotency-status` of an answer.
fn word(answer: &Answer) -> String {
    answer.header("idempotency-status").unwrap_or_else(|| panic!("no idempotency-status: {answer:?}"))
}

/// Asserts that `answer` is the RFC 9457 problem called `name` with `status`.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"), "{answer:?}");
    let problem = problem(answer);
    assert_eq!(problem["type"], format!("urn:idemgate:{name}"), "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {problem}");
    }
}

/// The members of a problem.
fn problem(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// The `Retry-After` of an answer, in seconds.
#[track_caller]
fn retry_after(answer: &Answer) -> u64 {
    let value = answer.header("retry-after").unwrap_or_else(|| panic!("no retry-after: {answer:?}"));
    value.parse().unwrap_or_else(|_| panic!("retry-after: {value}"))
}
