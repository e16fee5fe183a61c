//! `examples/route-features`: detached calls that go through a listener with the routes of their own.

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, assert_executed, assert_replay_of, assert_unguarded, assert_unknown,
};

const EXAMPLE: &str = "route-features";

fn order() -> Request {
    Request::post("/v1/orders").key("k")
}

#[tokio::test]
async fn the_path_is_rewritten_and_the_call_tried_again_without_a_client() {
    let bench = Bench::example(EXAMPLE).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let gate = Gate::closed();
        let answers = [Answer::new(503), Answer::new(201).json("{}").held_by(&gate), Answer::new(299)];
        bench.upstream.script("/orders", answers);
        let request = order().key(format!("{protocol:?}"));
        let client = bench.send_aside(protocol, &request);
        bench.upstream.reached(2 * number + 2).await;
        client.abort();
        bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 0).await;
        gate.open();
        bench.envoy.reaches_stat("wasmcustom.idemgate.detached", 0).await;
        let replay = bench.send_over(protocol, &request).await;
        assert_eq!((replay.status, replay.body.as_slice()), (201, b"{}".as_slice()), "{replay:?}");
        assert_replay_of(&replay, &bench.send(&request).await);
        bench.assert_executions(2 * number + 2);
    }
    for seen in bench.upstream.seen() {
        assert_eq!(seen.path, "/orders");
    }
}

#[tokio::test]
async fn the_upstream_gets_what_it_gets_without_a_key() {
    let bench = Bench::example(EXAMPLE).await;
    let request = Request::post("/v1/orders")
        .header("x-request-id", "7d5f8d6e-0f3c-4d59-8f2b-1d8f2c3b4a59")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-user-id", "4711");
    assert_unguarded(&bench.send(&request).await, 201);
    assert_executed(&bench.send(&request.key("k")).await, 201);
    let seen = bench.upstream.seen();
    let mut detached = seen[1].headers.clone();
    detached.remove("idempotency-key");
    assert_eq!(seen[0].headers, detached, "without a key on the left, detached on the right");
    assert_eq!(seen[1].header("x-envoy-original-path"), Some(b"/v1/orders".as_slice()));
}

#[tokio::test]
async fn a_lost_connection_behind_the_routes_leaves_the_outcome_unknown() {
    let bench = Bench::example(EXAMPLE).await;
    // Both end in a 503 that the listener makes itself and Idemgate gets as an answer.
    for (path, request) in [("/orders", order()), ("/others", Request::post("/others").key("k"))] {
        let before = bench.upstream.executions();
        bench.upstream.script(path, [Answer::hang_up(), Answer::new(299)]);
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.text("idempotency-status")), (503, "unknown".to_owned()), "{first:?}");
        assert_eq!(first.header("idempotency-policy"), None, "{first:?}");
        assert_unknown(&bench, &request, before + 1).await;
    }
}

#[tokio::test]
async fn a_timeout_of_the_route_leaves_the_outcome_unknown() {
    let bench = Bench::example(EXAMPLE).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).held_by(&gate), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_eq!((first.status, first.text("idempotency-status")), (504, "unknown".to_owned()), "{first:?}");
    assert_unknown(&bench, &order(), 1).await;
    gate.open();
}

#[tokio::test]
async fn a_refused_connection_behind_the_routes_releases_the_key() {
    let mut bench = Bench::example_with_upstream_shut(EXAMPLE).await;
    // Without retries. With them, Envoy does not say what became of each attempt.
    let request = Request::post("/others").key("k");
    for _ in 0..3 {
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (503, None), "{first:?}");
        assert_eq!(first.text("idempotency-status"), "executed", "an answer of the upstream's, to Idemgate: {first:?}");
    }
    bench.upstream.open();
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_service_that_says_not_now_releases_the_key_unless_another_attempt_was_made() {
    let bench = Bench::example(EXAMPLE).await;
    let request = Request::post("/others").key("k");
    bench.upstream.script("/others", [Answer::new(503), Answer::new(201).json("{}")]);
    assert_eq!(bench.send(&request).await.status, 503);
    let second = bench.send(&request).await;
    assert_executed(&second, 201);
    assert_replay_of(&second, &bench.send(&request).await);
    bench.assert_executions(2);

    bench.upstream.script("/orders", [Answer::new(503)]);
    let first = bench.send(&order()).await;
    assert_eq!((first.status, first.text("idempotency-status")), (503, "unknown".to_owned()), "{first:?}");
    assert_unknown(&bench, &order(), 5).await;
}

#[tokio::test]
async fn an_attempt_after_one_that_failed_is_stored_like_any_other() {
    let bench = Bench::example(EXAMPLE).await;
    bench.upstream.script("/orders", [Answer::new(503), Answer::new(201).json("{}"), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(2);
}
