//! A listener that is replaced while requests run for longer than Envoy's drain time (contract, section 4, second table).
//!
//! The Envoys of these tests drain for one second.

use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Gate, Protocol, Request, Response, Setup, assert_problem, patiently, try_send};

const DETACHED: &str = "wasmcustom.idemgate.detached";
const WAITING: &str = "wasmcustom.idemgate.waiting";

fn order() -> Request {
    Request::post("/orders").key("k")
}

/// What became of a request and of those that waited for it when their listener was replaced and has drained: the service
/// goes on to work.
struct Drained {
    bench: Bench,
    gate: Gate,
    /// None if the connection was cut.
    first: Option<Response>,
    waiting: Vec<Option<Response>>,
}

async fn drained(configuration: &Value) -> Drained {
    let mut changed = configuration.clone();
    changed["replay"] = json!({ "header": "idempotent-replayed" });
    let bench = Bench::start(Setup::new(configuration).discovered()).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let address = bench.envoy.address();
    let ask = |protocol| tokio::spawn(async move { try_send(address, protocol, &order()).await });
    let first = ask(Protocol::Http1);
    bench.upstream.reached(1).await;
    let clients = Protocol::BOTH.map(ask);
    bench.envoy.reaches_stat(WAITING, 2).await;
    bench.envoy.reconfigure(&Setup::new(&changed).discovered()).await;

    let what = "the end of a request whose listener is gone";
    let first = patiently(what, first).await.unwrap();
    let mut waiting = Vec::new();
    for client in clients {
        waiting.push(patiently(what, client).await.unwrap());
    }
    Drained { bench, gate, first, waiting }
}

#[tokio::test]
async fn what_outlasts_the_drain_of_its_listener_inline_is_cut_and_its_outcome_unknown() {
    let configuration = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "1m" } });
    let Drained { bench, gate, first, waiting } = drained(&configuration).await;
    assert!(first.is_none(), "{first:?}");
    // Connections are cut one after the other, so that one that waits can learn of the first's end before its own.
    for answer in waiting.iter().flatten() {
        assert_problem(answer, 409, "outcome-unknown");
    }
    bench.envoy.reaches_stat(WAITING, 0).await;
    assert_problem(&bench.send(&order()).await, 409, "outcome-unknown");
    gate.open();
    assert_problem(&bench.send(&order()).await, 409, "outcome-unknown");
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_outlasts_the_drain_of_its_listener_detached_is_cut_and_replayed_in_the_end() {
    let configuration = json!({
        "execution": { "mode": "detached" },
        "duplicates": { "in_flight": "wait", "wait_timeout": "1m" },
    });
    let Drained { bench, gate, first, waiting } = drained(&configuration).await;
    for answer in waiting.iter().chain([&first]) {
        assert!(answer.is_none(), "{answer:?}");
    }
    bench.envoy.reaches_stat(DETACHED, 1).await;
    gate.open();
    bench.envoy.reaches_stat(DETACHED, 0).await;
    let replay = bench.send_once_settled(&order()).await;
    assert_eq!((replay.status, replay.body.as_slice()), (201, b"{}".as_slice()), "{replay:?}");
    assert_eq!(replay.text("idempotent-replayed"), "true", "{replay:?}");
    bench.assert_executions(1);
}
