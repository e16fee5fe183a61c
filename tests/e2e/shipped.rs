//! The `envoy.yaml` that users are told to copy.

use crate::bench::{Bench, Protocol, Request, assert_executed, assert_problem, assert_replay_of, assert_unguarded};

#[tokio::test]
async fn the_shipped_envoy_yaml_guards_the_service_behind_it() {
    let bench = Bench::shipped().await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = Request::post("/orders").key(format!("{protocol:?}")).caller("alice");
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
        assert_problem(&bench.send_over(protocol, &request.clone().body("another")).await, 422, "key-reused");
        assert_executed(&bench.send_over(protocol, &request.caller("bob")).await, 201);
        bench.assert_executions(2 * (number + 1));
    }
    assert_unguarded(&bench.send(&Request::get("/orders").key("k")).await, 201);
}

#[tokio::test]
async fn the_shipped_envoy_yaml_lets_the_filter_answer_a_body_over_the_limit() {
    let bench = Bench::shipped().await;
    let request = Request::post("/orders").key("k").body(vec![b'x'; (1 << 20) + 1]);
    for request in [request.clone(), request.chunked()] {
        assert_problem(&bench.send(&request).await, 413, "request-too-large");
    }
    bench.assert_executions(0);
}

#[tokio::test]
async fn the_shipped_envoy_yaml_sees_one_path_behind_its_spellings() {
    let bench = Bench::shipped().await;
    let first = bench.send(&Request::post("/orders").key("k")).await;
    assert_executed(&first, 201);
    for spelling in ["/a/../orders", "//orders", "/./orders"] {
        assert_replay_of(&first, &bench.send(&Request::post(spelling).key("k")).await);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn the_shipped_envoy_yaml_sees_one_host_behind_its_spellings() {
    let bench = Bench::shipped().await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request.clone().header("host", "shop.example")).await;
    assert_executed(&first, 201);
    for host in ["shop.example:80", "shop.example.", "shop.example:10000", "SHOP.example"] {
        assert_replay_of(&first, &bench.send(&request.clone().header("host", host)).await);
    }
    assert_executed(&bench.send(&request.header("host", "other.example")).await, 201);
    bench.assert_executions(2);
}
