//! Hosts that do less than Envoy with everything switched on (contract, section 4, last row).

use std::time::Duration;

use serde_json::json;

use crate::bench::{
    Bench, Protocol, Request, Setup, assert_executed, assert_problem, assert_replay_of, assert_unguarded,
};

#[tokio::test]
async fn a_host_that_withholds_the_body_is_reported_within_five_seconds() {
    let bench = Bench::start(Setup::new(&json!({})).without_stop_iteration()).await;
    for protocol in Protocol::BOTH {
        for size in [10, 100_000] {
            let request = Request::post("/orders").key("k").body(vec![b'x'; size]);
            // The one time that the contract names: the request must not hang.
            let response = tokio::time::timeout(Duration::from_secs(5), bench.send_over(protocol, &request)).await;
            let response = response.unwrap_or_else(|_| panic!("{size} bytes over {protocol:?} hang"));
            assert_problem(&response, 500, "host-unsupported");
        }
    }
    bench.assert_executions(0);
    let log = bench.envoy.log();
    assert!(log.contains("allow_on_headers_stop_iteration"), "the log does not name the option:\n{log}");

    assert_unguarded(&bench.send(&Request::post("/orders")).await, 201);
    assert_unguarded(&bench.send(&Request::get("/orders").key("k")).await, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn without_a_body_fingerprint_a_host_need_not_hand_over_the_body() {
    let bench = Bench::start(Setup::new(&json!({ "fingerprint": { "body": "none" } })).without_stop_iteration()).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = Request::post("/orders").key(format!("{protocol:?}")).body(vec![b'x'; 100_000]);
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
        let other = bench.send_over(protocol, &request.content_type("text/plain")).await;
        assert_problem(&other, 422, "key-reused");
        bench.assert_executions(number + 1);
        assert_eq!(bench.upstream.seen()[number].body.as_ref().map(Vec::len), Some(100_000));
    }
}

#[tokio::test]
async fn a_host_that_sets_no_vm_id_is_fine() {
    let bench = Bench::start(Setup::new(&json!({})).vm_id("")).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    for _ in 0..6 {
        assert_replay_of(&first, &bench.send(&request).await);
    }
    bench.assert_executions(1);
}
