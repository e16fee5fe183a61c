//! Clients that go away, at each moment of an exchange (contract, section 4, second table).

use serde_json::json;
use tokio::task::JoinHandle;

use crate::bench::{
    Answer, Bench, Gate, Http2, Protocol, Request, Response, Setup, TempDir, assert_released, assert_unknown,
};

/// A client whose connection outlives its requests, so that what reaches Envoy is `RST_STREAM`.
struct Resetting {
    connection: Http2,
    request: JoinHandle<Response>,
}

impl Resetting {
    async fn send(bench: &Bench, request: &Request) -> Self {
        let connection = bench.http2().await;
        let (mut sender, request) = (connection.clone(), request.clone());
        Self { connection, request: tokio::spawn(async move { sender.send(&request).await }) }
    }
}

/// A client in the middle of its request, and the way it will leave.
enum Client {
    /// Closes its HTTP/1.1 connection.
    Closing(JoinHandle<Response>),
    /// Resets its HTTP/2 stream.
    Resetting(Resetting),
}

impl Client {
    async fn send(bench: &Bench, protocol: Protocol, request: &Request) -> Self {
        match protocol {
            Protocol::Http1 => Self::Closing(bench.send_aside(protocol, request)),
            Protocol::Http2 => Self::Resetting(Resetting::send(bench, request).await),
        }
    }

    /// Leaves, and waits until Envoy has noticed it in the way that was meant.
    async fn leave(self, bench: &Bench, tag: &str) -> String {
        let (request, connection, details) = match self {
            Self::Closing(request) => (request, None, "downstream_remote_disconnect"),
            Self::Resetting(Resetting { connection, request }) => (request, Some(connection), "http2.remote_reset"),
        };
        request.abort();
        let line = bench.envoy.access_log_line(tag).await;
        assert!(line.ends_with(&format!(" details={details}")), "the client's departure is logged as {line:?}");
        drop(connection);
        line
    }
}

fn tag(protocol: Protocol) -> String {
    format!("{protocol:?}")
}

fn order(path: &str, protocol: Protocol) -> Request {
    Request::post(path).key(tag(protocol)).header("x-tag", tag(protocol))
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_blocks_nothing() {
    let bench = Bench::new(json!({})).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = order("/orders", protocol);
        let client = Client::send(&bench, protocol, &request.clone().unfinished()).await;
        bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 1).await;
        client.leave(&bench, &tag(protocol)).await;
        bench.assert_executions(number);
        assert_released(&bench, &request, number).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_an_upload_that_is_passed_on_leaves_the_outcome_unknown() {
    let bench = Bench::new(json!({ "fingerprint": { "body": "none" } })).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = order("/orders", protocol);
        let client = Client::send(&bench, protocol, &request.clone().unfinished()).await;
        bench.upstream.reached(number + 1).await;
        client.leave(&bench, &tag(protocol)).await;
        assert_unknown(&bench, &request, number + 1).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_envoy_still_connects_blocks_nothing() {
    for protocol in Protocol::BOTH {
        let mut bench = Bench::start(Setup::new(&json!({})).upstream_deaf()).await;
        let request = order("/orders", protocol);
        let client = Client::send(&bench, protocol, &request).await;
        bench.envoy.reaches_stat("cluster.upstream.upstream_rq_pending_active", 1).await;
        let line = client.leave(&bench, &tag(protocol)).await;
        assert!(line.contains(" sent_from=- "), "it was to leave before the connection was made: {line:?}");
        bench.assert_executions(0);
        bench.upstream.open();
        assert_released(&bench, &request, 0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_leaves_the_outcome_unknown() {
    for setup in [Setup::new(&json!({})), Setup::new(&json!({})).http2_upstream()] {
        let bench = Bench::start(setup).await;
        let gate = Gate::closed();
        bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
        for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
            let request = order("/orders", protocol);
            let client = Client::send(&bench, protocol, &request).await;
            bench.upstream.reached(number + 1).await;
            client.leave(&bench, &tag(protocol)).await;
            assert_unknown(&bench, &request, number + 1).await;
        }
        gate.open();
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_of_an_upstream_behind_a_pipe_leaves_the_outcome_unknown() {
    let directory = TempDir::new();
    let socket = directory.join("upstream");
    let bench = Bench::start(Setup::new(&json!({})).upstream_pipe(socket.clone())).await;
    let gate = Gate::closed();
    bench.upstream.script("/piped", [Answer::new(201).json("{}").held_by(&gate)]);
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = order("/piped", protocol);
        let client = Client::send(&bench, protocol, &request).await;
        bench.upstream.reached(number + 1).await;
        let line = client.leave(&bench, &tag(protocol)).await;
        assert!(line.contains(&format!(" sent_to={} ", socket.display())), "not sent over the pipe: {line:?}");
        assert_unknown(&bench, &request, number + 1).await;
    }
    gate.open();
}

#[tokio::test]
async fn a_client_that_leaves_during_the_response_leaves_the_outcome_unknown() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/export", [Answer::new(200).chunk("early;").then_held_by(&gate).chunk("late")]);
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = order("/export", protocol);
        match protocol {
            Protocol::Http1 => {
                let mut client = bench.http1().await;
                client.begin(&request).await;
                client.sees(b"early;").await;
                client.hang_up();
            }
            Protocol::Http2 => {
                let mut connection = bench.http2().await;
                let mut arriving = connection.begin(&request).await;
                arriving.sees(b"early;").await;
                drop(arriving);
                let line = bench.envoy.access_log_line(&tag(protocol)).await;
                assert!(line.ends_with("details=http2.remote_reset"), "not a reset of the stream alone: {line:?}");
            }
        }
        assert_unknown(&bench, &request, number + 1).await;
    }
    gate.open();
}

crate::bench::also_detached! {
    a_client_that_leaves_during_its_upload_blocks_nothing,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_client_that_leaves_before_the_answer_leaves_the_outcome_unknown,
        a_client_that_leaves_during_an_upload_that_is_passed_on_leaves_the_outcome_unknown,
        a_client_that_leaves_during_its_upload_blocks_nothing,
        a_client_that_leaves_during_the_response_leaves_the_outcome_unknown,
    }
    pooled: {
        a_client_that_leaves_during_the_response_leaves_the_outcome_unknown,
    }
}
