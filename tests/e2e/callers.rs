//! Whom a key belongs to (contract, sections 2 and 3).

use serde_json::json;

use crate::bench::{Bench, Protocol, Request, assert_executed, assert_problem, assert_replay_of};

#[tokio::test]
async fn a_caller_can_be_required() {
    let bench = Bench::new(json!({ "caller": { "required": true } })).await;
    let request = Request::post("/orders").key("k");
    for protocol in Protocol::BOTH {
        assert_problem(&bench.send_over(protocol, &request).await, 403, "caller-unknown");
    }
    bench.assert_executions(0);
    let first = bench.send(&request.clone().caller("alice")).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request.caller("alice")).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn all_identities_that_are_present_count_each_in_its_place() {
    let bench =
        Bench::new(json!({ "caller": { "identity": [{ "header": "x-tenant" }, { "header": "x-user" }] } })).await;
    let request = Request::post("/orders").key("k");
    let callers = [
        request.clone().header("x-tenant", "a").header("x-user", "b"),
        request.clone().header("x-tenant", "b").header("x-user", "a"),
        request.clone().header("x-tenant", "ab").header("x-user", ""),
        request.clone().header("x-tenant", "a"),
        request.clone().header("x-user", "a"),
        request.clone().header("x-user", b"\xff\xfe".as_slice()),
        request.clone(),
    ];
    for (number, caller) in callers.iter().enumerate() {
        let first = bench.send(caller).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(caller).await);
        assert_eq!(bench.upstream.executions(), number + 1, "{caller:?} was taken for another caller");
    }
    // Authorization is not asked here.
    let alice = request.header("x-tenant", "a").header("x-user", "b").caller("alice");
    assert_eq!(bench.send(&alice).await.text("idempotency-status"), "replayed");
}

#[tokio::test]
async fn a_caller_can_be_known_by_an_attribute_of_envoy() {
    let bench = Bench::new(json!({ "caller": { "identity": [{ "property": ["source", "address"] }] } })).await;
    let request = Request::post("/orders").key("k");
    // Address and port: each connection is a caller of its own.
    let (mut alice, mut bob) = (bench.http1().await, bench.http1().await);
    let first = alice.send(&request).await;
    assert_executed(&first, 201);
    assert_executed(&bob.send(&request).await, 201);
    assert_replay_of(&first, &alice.send(&request).await);
    bench.assert_executions(2);
}

crate::bench::also_detached! {
    a_caller_can_be_known_by_an_attribute_of_envoy,
    a_caller_can_be_required,
    all_identities_that_are_present_count_each_in_its_place,
}
