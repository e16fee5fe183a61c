//! Envoy's compressor on either side of the filter: whose encoding a retry gets (`docs/guarantees.md`).

use serde_json::json;

use crate::bench::{Answer, Bench, Request, Response, Setup, assert_executed, assert_replay_of, compressor};

fn order() -> Request {
    Request::post("/orders").key("k")
}

/// An answer that is worth compressing.
fn answer() -> Answer {
    Answer::new(201).json(&order_document())
}

fn order_document() -> String {
    format!("{{\"order\":\"{}\"}}", "o".repeat(2_000))
}

fn is_gzip(response: &Response) -> bool {
    response.text("content-encoding") == "gzip" && response.body.starts_with(b"\x1f\x8b") && response.body.len() < 200
}

#[tokio::test]
async fn a_compressor_in_front_compresses_each_replay_for_its_own_client() {
    let bench = Bench::start(Setup::new(&json!({})).filter_before(compressor())).await;
    bench.upstream.script("/orders", [answer(), Answer::new(299)]);
    let first = bench.send(&order().header("accept-encoding", "gzip")).await;
    assert_executed(&first, 201);
    assert!(is_gzip(&first), "{first:?}");

    // Compressed anew, so not to the byte.
    let again = bench.send(&order().header("accept-encoding", "gzip")).await;
    assert_eq!((again.status, again.text("idempotency-status")), (201, "replayed".to_owned()), "{again:?}");
    assert!(is_gzip(&again), "{again:?}");
    let plain = bench.send(&order()).await;
    assert_eq!((plain.status, plain.text("idempotency-status")), (201, "replayed".to_owned()), "{plain:?}");
    assert_eq!(plain.header("content-encoding"), None, "{plain:?}");
    assert_eq!(plain.body, order_document().into_bytes(), "{plain:?}");
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_compressor_behind_the_filter_leaves_replays_in_the_first_clients_encoding() {
    let bench = Bench::start(Setup::new(&json!({})).filter_after(compressor())).await;
    bench.upstream.script("/orders", [answer(), Answer::new(299)]);
    let first = bench.send(&order().header("accept-encoding", "gzip")).await;
    assert_executed(&first, 201);
    assert!(is_gzip(&first) && first.text("vary") == "Accept-Encoding", "{first:?}");

    // The bytes and what they are called belong together, whatever the retry says that it accepts.
    for request in [order().header("accept-encoding", "gzip"), order().header("accept-encoding", "br"), order()] {
        assert_replay_of(&first, &bench.send(&request).await);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_was_first_asked_for_without_compression_is_replayed_without_it() {
    let bench = Bench::start(Setup::new(&json!({})).filter_after(compressor())).await;
    bench.upstream.script("/orders", [answer(), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    assert_eq!(first.header("content-encoding"), None, "{first:?}");
    assert_replay_of(&first, &bench.send(&order().header("accept-encoding", "gzip")).await);
    bench.assert_executions(1);
}

crate::bench::also_detached! {
    a_compressor_in_front_compresses_each_replay_for_its_own_client,
}
