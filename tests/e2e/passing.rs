//! What the filter lets pass, and what it leaves alone.

use serde_json::json;

use crate::bench::{Bench, Protocol, Request, assert_unguarded};

#[tokio::test]
async fn a_request_without_a_key_is_left_alone() {
    let bench = Bench::new(json!({})).await;
    for protocol in Protocol::BOTH {
        let response = bench.send_over(protocol, &Request::post("/orders")).await;
        assert_unguarded(&response, 201);
    }
    bench.assert_executions(2);
    let body = bench.upstream.seen()[0].body.clone();
    assert_eq!(body.as_deref(), Some(br#"{"amount":1200}"#.as_slice()), "body at the upstream");
}
