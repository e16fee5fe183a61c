//! What a worker holds besides its records stays within `limits.memory`: what would be too much is refused before it runs, or
//! delivered and not kept, and all of it is given back.

use serde_json::{Value, json};

use crate::{
    bench::{Answer, Bench, Gate, Request, Response, Upload, Way, assert_executed, assert_problem, assert_retry_after},
    crowds::Crowd,
};

const MEMORY: &str = "wasmcustom.idemgate.memory_bytes";
const REFUSED: &str = "wasmcustom.idemgate.requests.memory_full";

/// What two workers hold at most.
const LIMIT: u64 = 2 * (4 << 20);

/// A filter whose workers have as little memory as they may.
async fn bench(mut configuration: Value) -> Bench {
    configuration["limits"] = json!({ "memory": "4MiB" });
    Bench::new(configuration).await
}

fn order(key: usize) -> Request {
    Request::post("/orders").key(format!("key-{key}"))
}

/// Fails unless what was refused was refused for want of memory, and some was.
async fn refused(bench: &Bench, responses: &[&Response]) {
    for response in responses {
        assert_problem(response, 503, "overloaded");
        assert_retry_after(response, 1);
    }
    assert!(!responses.is_empty(), "nothing was refused");
    bench.envoy.reaches_stat(REFUSED, responses.len() as u64).await;
}

/// Fails unless all is given back, and there is room again.
async fn is_given_back(bench: &Bench) {
    bench.envoy.reaches_stat(MEMORY, 0).await;
    let response = bench.send(&Request::post("/after").key("after").body(vec![b'x'; 100_000])).await;
    assert_executed(&response, 201);
    bench.envoy.reaches_stat(MEMORY, 0).await;
}

async fn uploads(configuration: Value) {
    const UPLOADS: usize = 24;

    let bench = bench(configuration).await;
    let mut held = Vec::new();
    for number in 0..UPLOADS {
        let request = order(number).body(vec![b'x'; 1_000_000]);
        let mut upload = Upload::begin(&bench.envoy, Way::Http1Chunked, &request).await;
        upload.send(&vec![b'x'; 900_000]).await;
        held.push(upload);
    }
    bench.envoy.has_received(UPLOADS as u64 * 900_000).await;
    let refusals = bench.envoy.stat(REFUSED).await.unwrap_or_default();
    assert!(refusals >= UPLOADS as u64 / 2, "{refusals}");
    let taken = bench.envoy.stat(MEMORY).await.unwrap_or_default();
    assert!(taken <= LIMIT, "{taken}");
    // One that says how long it is need not be sent.
    assert_problem(&bench.send(&order(99).body(vec![b'x'; 1_000_000])).await, 503, "overloaded");
    bench.assert_executions(0);
    drop(held);
    is_given_back(&bench).await;
}

#[tokio::test]
async fn uploads_are_held_as_far_as_there_is_memory() {
    uploads(json!({})).await;
}

#[tokio::test]
async fn uploads_of_detached_requests_are_held_as_far_as_there_is_memory() {
    uploads(json!({ "execution": { "mode": "detached" } })).await;
}

#[tokio::test]
async fn duplicates_wait_as_far_as_there_is_memory() {
    const DUPLICATES: usize = 600;

    let bench = bench(json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } })).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).body("done").held_by(&gate)]);
    let first = Crowd::send(bench.envoy.address(), 1, order).await;
    bench.upstream.reached(1).await;
    let crowd = Crowd::send(bench.envoy.address(), DUPLICATES, |_| order(0)).await;
    let waiting = async || bench.envoy.stat("wasmcustom.idemgate.waiting").await.unwrap_or_default();
    let refused_so_far = async || bench.envoy.stat(REFUSED).await.unwrap_or_default();
    while waiting().await + refused_so_far().await < DUPLICATES as u64 {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_executed(&first.responses().await[0].1, 201);
    let responses = crowd.responses().await;
    let (replayed, others): (Vec<_>, Vec<_>) =
        responses.iter().map(|(_, response)| response).partition(|response| response.status == 201);
    assert!(replayed.len() >= 100, "{} replayed", replayed.len());
    refused(&bench, &others).await;
    bench.assert_executions(1);
    is_given_back(&bench).await;
}

#[tokio::test]
async fn detached_calls_are_made_as_far_as_there_is_memory() {
    const CALLS: usize = 200;

    let bench = bench(json!({ "execution": { "mode": "detached" } })).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).body("done").held_by(&gate)]);
    let crowd = Crowd::send(bench.envoy.address(), CALLS, order).await;
    let refused_so_far = async || bench.envoy.stat(REFUSED).await.unwrap_or_default();
    while bench.upstream.executions() as u64 + refused_so_far().await < CALLS as u64 {
        tokio::task::yield_now().await;
    }
    gate.open();
    let responses = crowd.responses().await;
    let (executed, others): (Vec<_>, Vec<_>) =
        responses.iter().map(|(_, response)| response).partition(|response| response.status == 201);
    bench.assert_executions(executed.len());
    assert!(executed.len() >= 40, "{} executed", executed.len());
    refused(&bench, &others).await;
    is_given_back(&bench).await;
}

#[tokio::test]
async fn responses_are_copied_as_far_as_there_is_memory_and_delivered_whole() {
    const RESPONSES: usize = 24;

    let bench = bench(json!({})).await;
    let gate = Gate::closed();
    let answer = Answer::new(201).chunk(vec![b'x'; 900_000]).then_held_by(&gate).chunk(b"the end".to_vec());
    bench.upstream.script("/orders", [answer]);
    let crowd = Crowd::send(bench.envoy.address(), RESPONSES, order).await;
    bench.upstream.reached(RESPONSES).await;
    while bench.envoy.stat(MEMORY).await.unwrap_or_default() < 2 << 20 {
        tokio::task::yield_now().await;
    }
    gate.open();
    let mut responses = crowd.responses().await;
    responses.sort_by_key(|(number, _)| *number);
    let mut kept = 0;
    for (number, response) in &responses {
        assert_executed(response, 201);
        assert!(response.complete && response.body.len() == 900_007, "{} bytes", response.body.len());
        let retry = bench.send(&order(*number)).await;
        match retry.status {
            201 => kept += 1,
            _ => {
                assert_problem(&retry, 409, "response-not-kept");
            }
        }
    }
    assert!((2..RESPONSES).contains(&kept), "{kept} kept");
    bench.assert_executions(RESPONSES);
    is_given_back(&bench).await;
}
