//! A worker's VM that dies, and `failure_policy: FAIL_RELOAD` (contract, section 4, second table).
//!
//! The module that these tests run has the feature `crash-test`, by which a request's header makes it panic.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bench::{
    Answer, Bench, Gate, Http1, PATIENCE, Protocol, Request, Response, Setup, assert_executed, assert_problem,
    assert_replay_of, assert_retry_after, assert_unguarded,
};

/// Long enough to be seen alive on a busy machine after its owner has died.
const LEASE: Duration = Duration::from_secs(4);

fn order() -> Request {
    Request::post("/orders").key("k")
}

async fn bench_that_can_crash(configuration: &Value) -> Bench {
    Bench::start(Setup::new(configuration).that_can_crash()).await
}

/// Makes the VM of the client's worker panic.
async fn crash(client: &mut Http1) {
    let response = client.send(&Request::get("/").header("x-crash-test", "request-headers")).await;
    assert_eq!(response.status, 503, "the VM did not die: {response:?}");
}

/// The response to `request` from the new VM of the client's worker.
async fn once_reloaded(client: &mut Http1, request: &Request) -> Response {
    let deadline = Instant::now() + PATIENCE;
    // Without a body, because Envoy closes the connection of one that it refuses to read.
    while client.send(&Request::get("/")).await.status == 503 {
        assert!(Instant::now() < deadline, "the VM does not come back in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.send(request).await
}

/// The first answer to `order` that is not 409 `request-in-flight`, given that its owner died at `death` or before.
async fn once_the_lease_is_over(bench: &Bench, client: &mut Http1, death: Instant) -> Response {
    let mut in_flight = 0;
    loop {
        let lease_left = LEASE.saturating_sub(death.elapsed());
        let response = client.send(&order()).await;
        if response.text("idempotency-status") != "in-flight" {
            assert!(in_flight > 0, "the claim ended with its owner, not with its lease: {response:?}");
            return response;
        }
        assert_problem(&response, 409, "request-in-flight");
        assert_retry_after(&response, lease_left.as_secs().max(1));
        assert_eq!(bench.upstream.executions_of("k"), 1, "executed while the lease ran");
        assert!(death.elapsed() < PATIENCE, "the lease does not end: {response:?}");
        in_flight += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_claim_of_a_dead_worker_blocks_from_the_end_of_its_lease_on() {
    let bench = bench_that_can_crash(&json!({ "lease": "4s" })).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let (mut owner, mut culprit) = (bench.http1_to_worker(0).await, bench.http1_to_worker(0).await);
    let mut other = bench.http1_to_worker(1).await;
    let before = bench.upstream.executions();
    owner.begin(&order()).await;
    bench.upstream.reached(before + 1).await;
    crash(&mut culprit).await;

    let blocked = once_the_lease_is_over(&bench, &mut other, Instant::now()).await;
    assert_problem(&blocked, 409, "outcome-unknown");
    gate.open();
    let lost = owner.response_to("POST").await;
    assert_eq!(lost.status, 503, "{lost:?}");
    // The dead worker's new VM knows of it as well.
    assert_problem(&once_reloaded(&mut culprit, &order()).await, 409, "outcome-unknown");
    assert_eq!(bench.upstream.executions_of("k"), 1);
}

#[tokio::test]
async fn the_claim_of_a_dead_worker_can_be_retried_once_its_lease_is_over() {
    let bench = bench_that_can_crash(&json!({ "lease": "4s", "outcome": { "on_unknown": "retry" } })).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).held_by(&gate), Answer::new(201).json("{\"second\":true}")]);
    let (mut owner, mut culprit) = (bench.http1_to_worker(0).await, bench.http1_to_worker(0).await);
    let mut other = bench.http1_to_worker(1).await;
    let before = bench.upstream.executions();
    owner.begin(&order()).await;
    bench.upstream.reached(before + 1).await;
    crash(&mut culprit).await;

    let second = once_the_lease_is_over(&bench, &mut other, Instant::now()).await;
    assert_executed(&second, 201);
    gate.open();
    assert_eq!(owner.response_to("POST").await.status, 503);
    assert_replay_of(&second, &other.send(&order()).await);
    assert_replay_of(&second, &once_reloaded(&mut culprit, &order()).await);
    assert_eq!(bench.upstream.executions_of("k"), 2);
}

#[tokio::test]
async fn a_worker_that_dies_of_an_answer_has_executed_once() {
    let bench = bench_that_can_crash(&json!({ "lease": "4s" })).await;
    let mut owner = bench.http1_to_worker(0).await;
    let mut other = bench.http1_to_worker(1).await;
    let lost = owner.send(&order().header("x-crash-test", "response-headers")).await;
    assert_eq!(lost.status, 503, "{lost:?}");
    let blocked = once_the_lease_is_over(&bench, &mut other, Instant::now()).await;
    assert_problem(&blocked, 409, "outcome-unknown");
    assert_eq!(bench.upstream.executions_of("k"), 1);
}

#[tokio::test]
async fn records_survive_the_worker_that_made_them() {
    let bench = bench_that_can_crash(&json!({})).await;
    let mut dying = bench.http1_to_worker(0).await;
    let mut other = bench.http1_to_worker(1).await;
    let first = dying.send(&order()).await;
    assert_executed(&first, 201);
    for moment in ["request-headers", "log"] {
        dying.send(&Request::get("/").header("x-crash-test", moment)).await;
        assert_replay_of(&first, &other.send(&order()).await);
        assert_replay_of(&first, &once_reloaded(&mut dying, &order()).await);
    }
    assert_eq!(bench.upstream.executions_of("k"), 1);

    // Both go on with new keys.
    for (client, key) in [(&mut dying, "reloaded"), (&mut other, "untouched")] {
        let first = client.send(&order().key(key)).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &client.send(&order().key(key)).await);
        assert_eq!(bench.upstream.executions_of(key), 1);
    }
}

#[tokio::test]
async fn a_worker_that_dies_after_the_answer_has_stored_it() {
    let bench = bench_that_can_crash(&json!({})).await;
    let mut dying = bench.http1_to_worker(0).await;
    let first = dying.send(&order().header("x-crash-test", "log")).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.http1_to_worker(1).await.send(&order()).await);
    assert_eq!(bench.upstream.executions_of("k"), 1);
}

/// The VM that held the waiter and knew its deadline is gone, and no other VM can answer a stream of that one.
#[tokio::test]
async fn who_waits_in_a_worker_that_dies_is_answered_when_envoy_finds_it_idle() {
    let configuration = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "1s" } });
    let setup = Setup::new(&configuration).that_can_crash();
    let bench =
        Bench::start(setup.connection_manager(json!({ "stream_idle_timeout": "4s", "request_timeout": "1s" }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let mut owner = bench.http1_to_worker(1).await;
    let (mut waiter, mut culprit) = (bench.http1_to_worker(0).await, bench.http1_to_worker(0).await);
    let before = bench.upstream.executions();
    owner.begin(&order()).await;
    bench.upstream.reached(before + 1).await;
    waiter.begin(&order()).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
    crash(&mut culprit).await;
    gate.open();
    let first = owner.response_to("POST").await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &once_reloaded(&mut culprit, &order()).await);

    // Neither the end of what it waits for nor its own deadline nor the new VM reaches it.
    let told = waiter.response_to("POST").await;
    assert_eq!((told.status, told.text("idempotency-status")), (503, String::new()), "{told:?}");
    assert_eq!(bench.envoy.stat("http.ingress.downstream_rq_idle_timeout").await, Some(1));
    assert_replay_of(&first, &bench.http1_to_worker(0).await.send(&order()).await);
    assert_eq!(bench.upstream.executions_of("k"), 1);
}

#[tokio::test]
async fn the_released_module_cannot_be_made_to_crash() {
    let bench = Bench::new(json!({})).await;
    for moment in ["log", "request-headers", "response-headers", "resume", "stall"] {
        for protocol in Protocol::BOTH {
            let request = Request::post("/orders").key(format!("{moment}-{protocol:?}")).header("x-crash-test", moment);
            let first = bench.send_over(protocol, &request).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send_over(protocol, &request).await);
            assert_unguarded(&bench.send_over(protocol, &Request::get("/").header("x-crash-test", moment)).await, 201);
        }
    }
    bench.assert_executions(20);
}

crate::bench::also_detached! {
    a_worker_that_dies_after_the_answer_has_stored_it,
    records_survive_the_worker_that_made_them,
    who_waits_in_a_worker_that_dies_is_answered_when_envoy_finds_it_idle,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_worker_that_dies_of_an_answer_has_executed_once,
        records_survive_the_worker_that_made_them,
        the_claim_of_a_dead_worker_blocks_from_the_end_of_its_lease_on,
        the_claim_of_a_dead_worker_can_be_retried_once_its_lease_is_over,
        who_waits_in_a_worker_that_dies_is_answered_when_envoy_finds_it_idle,
    }
    pooled: {
        records_survive_the_worker_that_made_them,
    }
}
