//! Crowds: whatever makes the filter act on many requests at once, each gets its answer, no VM dies, and requests for
//! other keys notice nothing.
//!
//! Envoy carries out all replies of one call into a VM at the end of that call, each nested in the one before. Some
//! hundreds of them overflow the stack of V8, so every scenario here has more than that.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinSet};

use crate::bench::{
    AdminListener, Answer, Bench, Gate, Http2, Request, Response, Setup, assert_executed, assert_problem,
    assert_replay_of, patiently,
};

/// Requests on one connection: what Envoy allows, and what both workers get some of.
const STREAMS: usize = 250;

const WAITING: &str = "wasmcustom.idemgate.waiting";

fn waiting(mut configuration: Value) -> Value {
    configuration["duplicates"]["in_flight"] = json!("wait");
    configuration["duplicates"]["max_waiting"] = json!(20_000);
    // All are one caller, and may all be with one worker.
    configuration["limits"]["caller_share"] = json!("100%");
    if configuration["duplicates"].get("wait_timeout").is_none() {
        configuration["duplicates"]["wait_timeout"] = json!("60s");
    }
    configuration
}

fn order(key: usize) -> Request {
    Request::post("/orders").key(format!("key-{key}"))
}

/// Requests under way, and their responses in any order.
pub(crate) struct Crowd(JoinSet<(usize, Response)>);

impl Crowd {
    /// Sends this number of requests, each made from its number, over as many connections as it takes.
    pub(crate) async fn send(address: SocketAddr, count: usize, request: impl Fn(usize) -> Request) -> Self {
        let mut crowd = JoinSet::new();
        let mut client = Http2::connect(address).await;
        for number in 0..count {
            if number % STREAMS == STREAMS - 1 {
                client = Http2::connect(address).await;
            }
            let (mut client, request) = (client.clone(), request(number));
            crowd.spawn(async move { (number, client.send(&request).await) });
        }
        Self(crowd)
    }

    pub(crate) async fn responses(mut self) -> Vec<(usize, Response)> {
        let mut responses = Vec::new();
        while let Some(response) = patiently("the next response", self.0.join_next()).await {
            responses.push(response.unwrap());
        }
        responses
    }
}

/// Sends requests for keys of their own, each twice, until it is told to stop: all are executed, and then replayed.
async fn pass_by(bench: Arc<Bench>, mut stop: oneshot::Receiver<()>) -> usize {
    let mut client = bench.http2().await;
    let mut passed = 0;
    while stop.try_recv().is_err() {
        let request = Request::post("/bystanders").key(format!("bystander-{passed}"));
        let first = client.send(&request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &client.send(&request).await);
        passed += 1;
    }
    passed
}

/// Crowds wait for several keys; their answers come while other requests pass by.
async fn all_who_wait_are_answered(bench: Bench, keys: usize, crowd: usize) {
    let bench = Arc::new(bench);
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{\"order\":1}").held_by(&gate)]);
    let first = Crowd::send(bench.envoy.address(), keys, order).await;
    bench.upstream.reached(keys).await;
    let crowd = Crowd::send(bench.envoy.address(), crowd, |number| order(number % keys)).await;
    bench.envoy.reaches_stat(WAITING, crowd.0.len() as u64).await;
    bench.assert_executions(keys);

    let (stop, stopped) = oneshot::channel();
    let bystanders = tokio::spawn(pass_by(Arc::clone(&bench), stopped));
    gate.open();
    let first = first.responses().await;
    let (_, first) = first.iter().inspect(|(_, first)| assert_executed(first, 201)).next().unwrap();
    for (_, response) in crowd.responses().await {
        assert_replay_of(first, &response);
    }
    stop.send(()).unwrap();
    let bystanders = bystanders.await.unwrap();
    println!("{bystanders} passed by");
    assert!(bystanders > 0, "nobody passed by");
    bench.assert_executions(keys + bystanders);
    bench.envoy.reaches_stat(WAITING, 0).await;
}

#[tokio::test]
async fn ten_thousand_who_wait_for_one_key_are_answered() {
    all_who_wait_are_answered(Bench::new(waiting(json!({}))).await, 1, 10_000).await;
}

#[tokio::test]
async fn ten_thousand_who_wait_for_two_hundred_keys_are_answered() {
    all_who_wait_are_answered(Bench::new(waiting(json!({}))).await, 200, 10_000).await;
}

#[tokio::test]
async fn a_crowd_learns_that_the_outcome_is_unknown() {
    let bench = Bench::new(waiting(json!({}))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(502).held_by(&gate)]);
    let first = Crowd::send(bench.envoy.address(), 1, order).await;
    bench.upstream.reached(1).await;
    let crowd = Crowd::send(bench.envoy.address(), 2_000, |_| order(0)).await;
    bench.envoy.reaches_stat(WAITING, 2_000).await;
    gate.open();
    first.responses().await;
    for (_, response) in crowd.responses().await {
        assert_problem(&response, 409, "outcome-unknown");
    }
    bench.assert_executions(1);
    bench.envoy.reaches_stat(WAITING, 0).await;
}

#[tokio::test]
async fn a_crowd_on_many_keys_has_waited_long_enough_at_once() {
    let bench = Bench::new(waiting(json!({ "duplicates": { "wait_timeout": "4s" } }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let first = Crowd::send(bench.envoy.address(), 400, order).await;
    bench.upstream.reached(400).await;
    let crowd = Crowd::send(bench.envoy.address(), 2_000, |number| order(number % 400)).await;
    for (_, response) in crowd.responses().await {
        assert_problem(&response, 409, "request-in-flight");
    }
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.wait_timeouts", 2_000).await;
    gate.open();
    for (_, response) in first.responses().await {
        assert_executed(&response, 201);
    }
    bench.assert_executions(400);
    bench.envoy.reaches_stat(WAITING, 0).await;
}

#[tokio::test]
async fn a_crowd_whose_bodies_are_withheld_is_told_so() {
    let bench = Bench::start(Setup::new(&json!({})).without_stop_iteration()).await;
    let crowd = Crowd::send(bench.envoy.address(), 1_500, order).await;
    for (_, response) in crowd.responses().await {
        assert_problem(&response, 500, "host-unsupported");
    }
    bench.assert_executions(0);
}

#[tokio::test]
async fn a_crowd_whose_detached_calls_cannot_be_made_is_answered() {
    let bench = Bench::new(json!({ "execution": { "mode": "detached", "cluster": "hostless" } })).await;
    let crowd = Crowd::send(bench.envoy.address(), 2_000, order).await;
    for (_, response) in crowd.responses().await {
        assert_eq!(response.status, 503, "{response:?}");
    }
    bench.assert_executions(0);
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.released", 2_000).await;
}

#[tokio::test]
async fn a_crowd_of_operators_is_answered() {
    // Small enough to be walked through in one turn.
    let table = json!({ "store": { "shared_data": { "max_entries": 100 } } });
    let bench = Bench::start(Setup::new(&table).admin(AdminListener::new("loopback", &table))).await;
    let address = bench.envoy.admin_listener().await;
    let crowd = Crowd::send(address, 2_000, |_| Request::get("/operations").header("host", "localhost:9902")).await;
    for (_, response) in crowd.responses().await {
        assert_eq!(response.status, 200, "{response:?}");
    }
}

crate::bench::also_detached! {
    a_crowd_on_many_keys_has_waited_long_enough_at_once,
    ten_thousand_who_wait_for_one_key_are_answered,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_crowd_on_many_keys_has_waited_long_enough_at_once,
        a_crowd_learns_that_the_outcome_is_unknown,
    }
}
