//! First requests, and what the filter leaves alone (contract, sections 3 and 4).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, Setup, assert_executed, assert_unguarded, idempotency_fields,
};

#[tokio::test]
async fn a_first_request_and_its_response_pass_byte_for_byte() {
    let bench = Bench::new(json!({})).await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let answer = Answer::new(201)
        .header("content-type", "application/octet-stream")
        .header("content-encoding", "br")
        .header("warning", "199 - \"first\"")
        .header("warning", "199 - \"second\"")
        .header("x-latin1", b"caf\xe9 \xff".as_slice())
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .body(every_byte.clone());
    bench.upstream.script("/files", [answer]);
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = Request::post("/files?part=1&part=2")
            .key(format!("first-{number}"))
            .content_type("application/octet-stream")
            .header("x-latin1", b"na\xefve".as_slice())
            .body(every_byte.clone());
        let response = bench.send_over(protocol, &request).await;

        assert_executed(&response, 201);
        assert!(response.body == every_byte, "{protocol:?}: another body than the upstream sent: {response:?}");
        assert_eq!(response.text("content-encoding"), "br");
        assert_eq!(response.all("warning"), [b"199 - \"first\"".as_slice(), b"199 - \"second\""]);
        assert_eq!(response.header("x-latin1"), Some(b"caf\xe9 \xff".as_slice()));
        assert_eq!(response.all("set-cookie"), [b"a=1", b"b=2"]);
        assert_eq!(idempotency_fields(&response), ["idempotency-status"]);

        let seen = bench.upstream.seen()[number].clone();
        assert!(seen.body.as_ref() == Some(&every_byte), "{protocol:?}: the upstream got another body");
        assert_eq!(seen.header("idempotency-key"), Some(format!("first-{number}").as_bytes()));
        assert_eq!(seen.header("x-latin1"), Some(b"na\xefve".as_slice()));
    }
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_response_reaches_the_client_while_the_upstream_is_still_sending() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/export", [Answer::new(200).chunk("early;").then_held_by(&gate).chunk("late")]);
    let mut client = bench.http1().await;
    client.begin(&Request::post("/export").key("stream")).await;

    client.sees(b"early;").await;
    gate.open();
    let response = client.response_to("POST").await;

    assert_executed(&response, 200);
    assert_eq!(response.body, b"early;late");
    bench.assert_executions(1);
}

#[tokio::test]
async fn requests_that_are_not_guarded_are_left_alone() {
    let bench = Bench::start(Setup::unconfigured()).await;
    let requests = [
        ("a POST without a key", Request::post("/orders")),
        ("a GET", Request::get("/orders").key("k")),
        ("a HEAD", Request::new("HEAD", "/orders").key("k")),
        ("an OPTIONS", Request::new("OPTIONS", "/orders").key("k")),
        ("a method that is not configured", Request::new("PUT", "/orders").key("k").body("1")),
        ("a GET with a key that would be malformed", Request::get("/orders").key("\"")),
        ("gRPC", Request::post("/orders").key("k").content_type("application/grpc")),
        ("gRPC with a suffix", Request::post("/orders").key("k").content_type("application/grpc+proto")),
    ];
    for (what, request) in requests {
        for protocol in Protocol::BOTH {
            for turn in ["first", "second"] {
                let before = bench.upstream.executions();
                let response = bench.send_over(protocol, &request).await;
                assert_unguarded(&response, 201);
                let executions = bench.upstream.executions() - before;
                assert_eq!(
                    executions, 1,
                    "{what} over {protocol:?}, sent for the {turn} time, must reach the upstream"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_filter_that_is_off_leaves_everything_alone() {
    let bench = Bench::new(json!({ "mode": "off", "key": { "required": true } })).await;
    for request in [Request::post("/orders"), Request::post("/orders").key("k"), Request::post("/orders").key("\"")] {
        assert_unguarded(&bench.send(&request).await, 201);
        assert_unguarded(&bench.send(&request).await, 201);
    }
    bench.assert_executions(6);
}

#[tokio::test]
async fn the_status_header_can_be_switched_off() {
    let bench = Bench::new(json!({ "status_header": false })).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    let retry = bench.send(&request).await;
    assert_eq!(first.header("idempotency-status"), None, "{first:?}");
    assert_eq!(retry.header("idempotency-status"), None, "{retry:?}");
    assert_eq!(retry.text("idempotency-replayed"), "true", "{retry:?}");
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_filter_in_front_that_answers_by_itself_does_no_harm() {
    let bench = Bench::start(Setup::new(&json!({})).filter_before(crate::bench::deny_header("x-deny"))).await;
    let request = Request::post("/orders").key("k");
    let denied = bench.send(&request.clone().header("x-deny", "1")).await;
    assert_eq!(denied.status, 403, "{denied:?}");
    assert_executed(&bench.send(&request).await, 201);
    bench.assert_executions(1);
}

crate::bench::also_detached! {
    a_filter_in_front_that_answers_by_itself_does_no_harm,
    a_filter_that_is_off_leaves_everything_alone,
    a_first_request_and_its_response_pass_byte_for_byte,
    the_status_header_can_be_switched_off,
}
