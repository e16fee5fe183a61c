//! The test bench: a real Envoy with the built module between scripted clients and a scripted upstream.

mod answer;
mod bootstrap;
mod discovery;
mod envoy;
mod expect;
mod gate;
mod http1;
mod http2;
mod message;
mod mode;
mod temp_dir;
mod upstream;

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use answer::Answer;
pub(crate) use bootstrap::{Setup, compressor, delay, deny_header, location, lua, one_request_a_day};
pub(crate) use envoy::{Envoy, refusal};
pub(crate) use expect::{
    assert_executed, assert_in_flight, assert_problem, assert_released, assert_replay_of, assert_retry_after,
    assert_unguarded, assert_unknown, idempotency_fields,
};
pub(crate) use gate::Gate;
pub(crate) use http1::{Http1, encode};
pub(crate) use http2::Http2;
pub(crate) use message::{Request, Response};
pub(crate) use mode::{Mode, also_detached};
pub(crate) use temp_dir::TempDir;
pub(crate) use upstream::Upstream;

use upstream::Door;

/// How long anything may take on a busy machine before it counts as hung. No test waits that long to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The authority of every request that does not say otherwise.
pub(crate) const AUTHORITY: &str = "orders.example";

/// How a client or an upstream speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::Http1, Self::Http2];
}

/// An Envoy with two workers, and its upstream.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Upstream,
}

impl Bench {
    /// The filter with this configuration, and everything else as users are told to have it.
    pub(crate) async fn new(configuration: Value) -> Self {
        Self::start(Setup::new(&configuration)).await
    }

    pub(crate) async fn start(setup: Setup) -> Self {
        let upstream = Upstream::with_door(setup.upstream_protocol, setup.upstream_door);
        if let Some(path) = &setup.pipe {
            upstream.open_pipe(path);
        }
        let envoy = Envoy::start(&setup, upstream.address()).await;
        Self { envoy, upstream }
    }

    /// The `envoy.yaml` that users are told to copy.
    pub(crate) async fn shipped() -> Self {
        let upstream = Upstream::with_door(Protocol::Http1, Door::Open);
        let envoy = Envoy::shipped(upstream.address()).await;
        Self { envoy, upstream }
    }

    /// One request over a new HTTP/1.1 connection, so that each may meet another worker.
    pub(crate) async fn send(&self, request: &Request) -> Response {
        self.send_over(Protocol::Http1, request).await
    }

    /// One request over a new connection.
    pub(crate) async fn send_over(&self, protocol: Protocol, request: &Request) -> Response {
        match protocol {
            Protocol::Http1 => self.http1().await.send(request).await,
            Protocol::Http2 => self.http2().await.send(request).await,
        }
    }

    /// One request over a new connection, while the test goes on. Aborting the task is hanging up.
    pub(crate) fn send_aside(&self, protocol: Protocol, request: &Request) -> JoinHandle<Response> {
        let (address, request) = (self.envoy.address(), request.clone());
        tokio::spawn(async move {
            match protocol {
                Protocol::Http1 => Http1::connect(address).await.send(&request).await,
                Protocol::Http2 => Http2::connect(address).await.send(&request).await,
            }
        })
    }

    /// The request, again as long as it is told that the operation is still in flight.
    ///
    /// The end of a stream without a complete answer reaches the filter after the client.
    pub(crate) async fn send_once_settled(&self, request: &Request) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.send(request).await;
            if response.text("idempotency-status") != "in-flight" {
                return response;
            }
            assert!(Instant::now() < deadline, "still in flight after {PATIENCE:?}: {response:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A connection to this worker, 0 or 1. Finding it takes GETs that the upstream counts, too.
    pub(crate) async fn http1_to_worker(&self, worker: usize) -> Http1 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.envoy.connections_by_worker().await;
            let mut client = self.http1().await;
            // The kernel accepts before the worker does.
            client.send(&Request::get("/which-worker")).await;
            if self.envoy.connections_by_worker().await[worker] > before[worker] {
                return client;
            }
            assert!(Instant::now() < deadline, "no connection to worker {worker} in {PATIENCE:?}");
        }
    }

    pub(crate) async fn http1(&self) -> Http1 {
        Http1::connect(self.envoy.address()).await
    }

    pub(crate) async fn http2(&self) -> Http2 {
        Http2::connect(self.envoy.address()).await
    }

    /// Fails unless the upstream has seen exactly this many requests.
    #[track_caller]
    pub(crate) fn assert_executions(&self, expected: usize) {
        let seen = self.upstream.seen();
        let last = seen.get(seen.len().saturating_sub(20)..).unwrap_or_default();
        assert_eq!(seen.len(), expected, "executions at the upstream; the last that it saw: {last:#?}");
    }
}

/// Waits for `future`, and fails the test with the name of what did not come.
pub(crate) async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come in {PATIENCE:?}"))
}
