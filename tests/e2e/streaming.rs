//! Responses without an end in sight: no delay, no memory (contract, section 4, first row, and `limits.response_body`).

use serde_json::json;

use crate::bench::{Answer, Bench, Gate, Protocol, Request, Setup, assert_problem, assert_unknown};

/// What is streamed before Envoy's memory is looked at, what after, and what it may grow by meanwhile.
const WARM_UP: usize = 16 << 20;
const STREAMED: usize = 128 << 20;
const GROWTH: u64 = 8 << 20;

#[tokio::test]
async fn an_endless_response_is_delivered_without_delay_and_without_memory() {
    let bench = Bench::start(Setup::new(&json!({})).alone()).await;
    let gate = Gate::closed();
    let events = Answer::new(200).chunk("early;").then_held_by(&gate).then_endlessly(vec![b'x'; 1 << 16]);
    bench.upstream.script("/events", [events]);
    let request = Request::post("/events").key("k");
    let mut client = bench.http1().await;
    client.begin(&request).await;

    client.sees(b"early;").await;
    gate.open();
    client.skips(WARM_UP).await;
    let early = bench.envoy.resident_bytes();
    client.skips(STREAMED).await;
    let late = bench.envoy.resident_bytes();
    assert!(late.saturating_sub(early) < GROWTH, "Envoy grew from {early} to {late} bytes over {STREAMED} streamed");

    client.hang_up();
    assert_unknown(&bench, &request, 1).await;
}

#[tokio::test]
async fn a_response_that_outgrows_its_limit_goes_on_without_delay() {
    let bench = Bench::new(json!({ "limits": { "response_body": "1KiB" } })).await;
    let (limit, end) = (Gate::closed(), Gate::closed());
    let answer = Answer::new(200)
        .chunk(vec![b'x'; 1_024])
        .then_held_by(&limit)
        .chunk("over;")
        .then_held_by(&end)
        .chunk("the end");
    bench.upstream.script("/export", [answer]);
    let request = Request::post("/export").key("k");
    let mut client = bench.http1().await;
    client.begin(&request).await;

    // Each piece is there while what follows it is not even sent.
    client.sees(&[b'x'; 1_024]).await;
    limit.open();
    client.sees(b"over;").await;
    end.open();
    let first = client.response_to("POST").await;
    assert_eq!((first.complete, first.body.len()), (true, 1_024 + 5 + 7), "{first:?}");

    for protocol in Protocol::BOTH {
        let retry = bench.send_over(protocol, &request).await;
        assert_eq!(assert_problem(&retry, 409, "response-not-kept")["original_status"], 200);
    }
    bench.assert_executions(1);
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_response_that_outgrows_its_limit_goes_on_without_delay,
    }
}
