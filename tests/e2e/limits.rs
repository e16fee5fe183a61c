//! Bodies over the limits (contract, sections 2 and 4).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Protocol, Request, Setup, assert_executed, assert_problem, assert_replay_of, assert_unguarded,
};

#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_it_executes() {
    let bench = Bench::new(json!({ "limits": { "request_body": "1KiB" } })).await;
    let request = Request::post("/orders").key("k");
    for size in [1_025, 5_000, 60_000] {
        let large = request.clone().body(vec![b'x'; size]);
        assert_problem(&bench.send(&large).await, 413, "request-too-large");
        assert_problem(&bench.send(&large.clone().chunked()).await, 413, "request-too-large");
        assert_problem(&bench.send_over(Protocol::Http2, &large).await, 413, "request-too-large");
    }
    bench.assert_executions(0);

    // Neither is the key taken, nor is the limit itself too large, nor are others concerned.
    let first = bench.send(&request.clone().body(vec![b'x'; 1_024])).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request.clone().body(vec![b'x'; 1_024]).chunked()).await);
    assert_unguarded(&bench.send(&Request::post("/orders").body(vec![b'x'; 5_000])).await, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_body_that_is_not_held_has_no_limit() {
    let bench = Bench::new(json!({ "limits": { "request_body": "1KiB" }, "fingerprint": { "body": "none" } })).await;
    for protocol in Protocol::BOTH {
        let request = Request::post("/orders").key(format!("{protocol:?}")).body(vec![b'x'; 500_000]);
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
    }
    bench.assert_executions(2);
    assert_eq!(bench.upstream.seen()[0].body.as_ref().map(Vec::len), Some(500_000));
}

#[tokio::test]
async fn a_body_over_envoys_own_buffer_limit_is_never_passed_unprotected() {
    let bench = Bench::start(Setup::new(&json!({})).buffer_limit(16_384)).await;
    let request = Request::post("/orders").key("k").body(vec![b'x'; 200_000]);
    // Over HTTP/1.1: what an HTTP/2 stream may hold is its window, whatever the connection's limit.
    for request in [request.clone(), request.clone().chunked()] {
        let response = bench.send(&request).await;
        assert_eq!(response.status, 413, "{response:?}");
    }
    bench.assert_executions(0);
    assert_executed(&bench.send_once_settled(&request.body("small")).await, 201);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_response_over_the_limit_is_delivered_whole_and_not_kept() {
    let bench = Bench::new(json!({ "limits": { "response_body": "1KiB" } })).await;
    let large: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    for (path, answer) in [
        ("/just-over", Answer::new(201).body(vec![b'x'; 1_025])),
        ("/large", Answer::new(201).body(large.clone())),
        ("/chunked", Answer::new(201).chunk(vec![b'x'; 700]).chunk(vec![b'y'; 700])),
        ("/large-404", Answer::new(404).body(large)),
    ] {
        bench.upstream.script(path, [answer.clone()]);
        for protocol in Protocol::BOTH {
            let before = bench.upstream.executions();
            let request = Request::post(path).key(format!("{protocol:?}"));
            let first = bench.send_over(protocol, &request).await;
            assert_executed(&first, first.status);
            assert!(first.body.len() > 1_024, "{path}: {first:?}");
            if path.starts_with("/large") {
                assert_eq!(first.body.len(), 3_000_000, "{path}: {first:?}");
            }
            // A last piece of more than 32 KiB is not kept back until Redis knows that it was the last.
            let retry = bench.send_once_settled(&request).await;
            let problem = assert_problem(&retry, 409, "response-not-kept");
            assert_eq!(problem["original_status"], first.status, "{retry:?}");
            let other = bench.send_over(protocol, &request.body("another body")).await;
            assert_problem(&other, 422, "key-reused");
            bench.assert_executions(before + 1);
        }
    }
}

#[tokio::test]
async fn a_response_as_large_as_the_limit_is_kept() {
    let bench = Bench::new(json!({ "limits": { "response_body": "1KiB" } })).await;
    bench.upstream.script("/fits", [Answer::new(201).body(vec![b'x'; 1_024])]);
    let request = Request::post("/fits").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_response_is_delivered_whole_whatever_envoy_may_buffer_of_it() {
    // The least that is recommended for an Envoy at the edge.
    let buffer = 32_768;
    for http2_upstream in [false, true] {
        let setup = Setup::new(&json!({})).buffer_limit(buffer);
        let bench = Bench::start(if http2_upstream { setup.http2_upstream() } else { setup }).await;
        for size in [1, 4_000, 16_384, 16_385, 32_768, 32_769, 65_536, 300_000] {
            let body: Vec<u8> = (0..=255).cycle().take(size).collect();
            for (kind, answer) in [
                ("length", Answer::new(201).header("content-length", size.to_string()).chunk(body.clone())),
                ("chunks", Answer::new(201).chunk(body.clone())),
                ("released", Answer::new(503).header("content-length", size.to_string()).chunk(body.clone())),
            ] {
                let path = format!("/{kind}/{size}");
                bench.upstream.script(&path, [answer]);
                for protocol in Protocol::BOTH {
                    let request = Request::post(&path).key(format!("{path}-{protocol:?}"));
                    let response = bench.send_over(protocol, &request).await;
                    assert!(response.complete, "{size} bytes by {kind}: {response:?}");
                    assert_eq!(response.body, body, "{size} bytes by {kind}");
                }
            }
        }
    }
}

crate::bench::also_detached! {
    a_body_over_envoys_own_buffer_limit_is_never_passed_unprotected,
    a_request_over_the_limit_is_refused_before_it_executes,
    a_response_as_large_as_the_limit_is_kept,
    a_response_over_the_limit_is_delivered_whole_and_not_kept,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_response_is_delivered_whole_whatever_envoy_may_buffer_of_it,
        a_response_over_the_limit_is_delivered_whole_and_not_kept,
    }
    pooled: {
        a_response_over_the_limit_is_delivered_whole_and_not_kept,
    }
}
