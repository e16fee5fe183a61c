//! What makes two requests the same operation, and a retry the same request (contract, sections 2 to 4).

use serde_json::json;

use crate::bench::{Answer, Bench, Gate, Protocol, Request, assert_executed, assert_problem, assert_replay_of};

#[tokio::test]
async fn a_key_cannot_be_reused_for_another_request() {
    let bench = Bench::new(json!({})).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let request = Request::post("/orders?region=eu").key(format!("{protocol:?}"));
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 201);

        let mut other_query = request.clone();
        other_query.target = "/orders?region=us".to_owned();
        let mut no_query = request.clone();
        no_query.target = "/orders".to_owned();
        let others = [
            ("another body", request.clone().body(r#"{"amount":1201}"#)),
            ("no body", request.clone().body("")),
            ("a longer body", request.clone().body(r#"{"amount":1200} "#)),
            ("another content type", request.clone().content_type("text/plain")),
            ("no content type", request.clone().without("content-type")),
            ("another query", other_query),
            ("no query", no_query),
        ];
        for (what, other) in others {
            let response = bench.send_over(protocol, &other).await;
            assert_problem(&response, 422, "key-reused");
            assert_eq!(bench.upstream.executions(), number + 1, "{what} reached the upstream");
        }
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
    }
}

#[tokio::test]
async fn a_retry_may_spell_its_media_type_in_another_way() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("k").content_type("application/json");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    for same in ["Application/JSON", "application/json; charset=utf-8", "application/json;charset=\"UTF-8\""] {
        assert_replay_of(&first, &bench.send(&request.clone().content_type(same)).await);
    }
    let other = bench.send(&request.content_type("application/json; charset=latin1")).await;
    assert_problem(&other, 422, "key-reused");
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_form_is_the_same_request_with_another_boundary() {
    // A client makes up a boundary for each attempt, whatever is said of bodies.
    for body in ["raw", "json"] {
        let bench = Bench::new(json!({"fingerprint": {"body": body}})).await;
        let form = |boundary: &str, file: &str| {
            let part = format!("Content-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n{file}");
            Request::post("/orders")
                .key("k")
                .content_type(&format!("multipart/form-data; boundary=\"{boundary}\""))
                .body(format!("--{boundary}\r\n{part}\r\n--{boundary}--\r\n"))
        };
        let file = "0123456789\r\n".repeat(5_000);
        let first = bench.send(&form("first", &file)).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&form("another: one", &file)).await);
        assert_problem(&bench.send(&form("first", &format!("{file} "))).await, 422, "key-reused");
        // What is no form counts with its boundary.
        let cut = |boundary: &str| form(boundary, &file).body(format!("--{boundary}\r\n\r\n1")).key("cut");
        assert_executed(&bench.send(&cut("first")).await, 201);
        assert_problem(&bench.send(&cut("other")).await, 422, "key-reused");
        bench.assert_executions(2);
    }
}

#[tokio::test]
async fn a_key_cannot_be_reused_while_its_request_is_in_flight() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = Request::post("/orders").key("k");
    let first = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;

    for protocol in Protocol::BOTH {
        let other = bench.send_over(protocol, &request.clone().body("another body")).await;
        assert_problem(&other, 422, "key-reused");
    }

    gate.open();
    assert_executed(&first.await.unwrap(), 201);
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_is_no_part_of_the_fingerprint_does_not_matter() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("k").body(vec![b'x'; 5_000]);
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    let others = [
        request.clone().header("user-agent", "another/2"),
        request.clone().header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        // The same content in another framing.
        request.clone().chunked(),
    ];
    for other in others {
        assert_replay_of(&first, &bench.send(&other).await);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn one_callers_response_is_never_served_to_another() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("k");
    let callers = [request.clone().caller("alice"), request.clone().caller("bob"), request.clone()];
    let mut firsts = Vec::new();
    for caller in &callers {
        let first = bench.send(caller).await;
        assert_executed(&first, 201);
        firsts.push(first);
    }
    bench.assert_executions(3);
    for (caller, first) in callers.iter().zip(&firsts) {
        assert_replay_of(first, &bench.send(caller).await);
    }
    bench.assert_executions(3);
}

#[tokio::test]
async fn equal_keys_for_other_resources_are_other_operations() {
    let bench = Bench::new(json!({})).await;
    let requests = [
        Request::post("/orders").key("k"),
        Request::post("/payments").key("k"),
        Request::post("/orders/").key("k"),
        Request::new("PATCH", "/orders").key("k").header("content-type", "application/json").body(r#"{"amount":1200}"#),
    ];
    for (number, request) in requests.iter().enumerate() {
        let first = bench.send(request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(request).await);
        bench.assert_executions(number + 1);
    }
}

#[tokio::test]
async fn equal_keys_for_other_authorities_are_other_operations() {
    let bench = Bench::new(json!({})).await;
    let message = |authority: &str| {
        format!("POST /orders HTTP/1.1\r\nhost: {authority}\r\nidempotency-key: k\r\ncontent-length: 2\r\n\r\n{{}}")
    };
    for authority in ["a.example", "b.example"] {
        let mut client = bench.http1().await;
        client.write(message(authority).as_bytes()).await;
        let first = client.response_to("POST").await;
        assert_executed(&first, 201);
        client.write(message(authority).as_bytes()).await;
        assert_replay_of(&first, &client.response_to("POST").await);
    }
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_narrower_resource_finds_the_reuse_of_a_key_across_paths() {
    let bench = Bench::new(json!({ "resource": ["authority"] })).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);

    assert_problem(&bench.send(&Request::post("/payments").key("k")).await, 422, "key-reused");
    let mut other_method = request.clone();
    other_method.method = "PATCH";
    assert_problem(&bench.send(&other_method).await, 422, "key-reused");
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_json_fingerprint_ignores_order_space_and_what_it_is_told_to() {
    let bench = Bench::new(json!({ "fingerprint": { "body": "json", "ignore": ["/sent_at", "/meta/try"] } })).await;
    let request = Request::post("/orders").key("k");
    let written = |body: &str| request.clone().body(body);
    let first =
        bench.send(&written(r#"{"amount":12,"sent_at":"10:00","meta":{"try":1,"app":"ios"},"lines":[1,2]}"#)).await;
    assert_executed(&first, 201);

    let same = [
        r#"{"lines":[1,2],"meta":{"app":"ios","try":1},"sent_at":"10:00","amount":12}"#,
        "{ \"amount\" : 12.0,\n\"sent_at\":\"10:00\", \"meta\":{\"try\":1,\"app\":\"\\u0069os\"}, \"lines\":[1, 2] }",
        r#"{"amount":12,"sent_at":"10:07","meta":{"try":2,"app":"ios"},"lines":[1,2]}"#,
        r#"{"amount":12,"meta":{"app":"ios"},"lines":[1,2]}"#,
    ];
    for body in same {
        assert_replay_of(&first, &bench.send(&written(body)).await);
    }
    let others = [
        r#"{"amount":13,"sent_at":"10:00","meta":{"try":1,"app":"ios"},"lines":[1,2]}"#,
        r#"{"amount":12,"sent_at":"10:00","meta":{"try":1,"app":"ios"},"lines":[2,1]}"#,
        r#"{"amount":"12","sent_at":"10:00","meta":{"try":1,"app":"ios"},"lines":[1,2]}"#,
        "not JSON at all",
    ];
    for body in others {
        assert_problem(&bench.send(&written(body)).await, 422, "key-reused");
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_json_fingerprint_knows_numbers_by_their_exact_value() {
    let bench = Bench::new(json!({ "fingerprint": { "body": "json" } })).await;
    let written = |body: &str| Request::post("/orders").key("k").body(body);
    let first = bench.send(&written(r#"{"id":9007199254740993,"sum":1.50}"#)).await;
    assert_executed(&first, 201);
    for body in [r#"{ "id" : 9007199254740993, "sum" : 1.5 }"#, r#"{"sum":15e-1,"id":9007199254740993.0}"#] {
        assert_replay_of(&first, &bench.send(&written(body)).await);
    }
    assert_problem(&bench.send(&written(r#"{"id":9007199254740992,"sum":1.50}"#)).await, 422, "key-reused");
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_body_that_is_not_json_counts_by_its_bytes() {
    let bench = Bench::new(json!({ "fingerprint": { "body": "json" } })).await;
    for (number, body) in ["{\"open\":", "\u{feff}{}", "plain text", ""].into_iter().enumerate() {
        let request = Request::post("/orders").key(format!("k{number}")).body(body);
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request).await);
        let other = format!("{body} ");
        assert_problem(&bench.send(&request.body(other)).await, 422, "key-reused");
        bench.assert_executions(number + 1);
    }
}

#[tokio::test]
async fn a_fingerprint_can_leave_out_body_query_and_headers() {
    let bench = Bench::new(json!({ "fingerprint": { "body": "none", "query": false, "headers": [] } })).await;
    let request = Request::post("/orders?attempt=1").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);

    let mut retry = request.body("another body").content_type("text/plain");
    retry.target = "/orders?attempt=2".to_owned();
    for protocol in Protocol::BOTH {
        assert_replay_of(&first, &bench.send_over(protocol, &retry).await);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_fingerprint_can_take_in_more_headers() {
    let bench = Bench::new(json!({ "fingerprint": { "headers": ["x-tenant"] } })).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request.clone().header("x-tenant", b"\xe9-1".as_slice())).await;
    assert_executed(&first, 201);
    assert_problem(&bench.send(&request.clone().header("x-tenant", "2")).await, 422, "key-reused");
    assert_problem(&bench.send(&request.clone()).await, 422, "key-reused");
    // The list replaces the default, so the content type no longer counts.
    let retry = request.header("x-tenant", b"\xe9-1".as_slice()).content_type("text/plain");
    assert_replay_of(&first, &bench.send(&retry).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_precondition_that_is_not_compared_is_told_of_once() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders/1").key("k");
    let first = bench.send(&request.clone().header("if-match", "\"v1\"")).await;
    assert_executed(&first, 201);
    // What the line is about.
    for _ in 0..3 {
        assert_replay_of(&first, &bench.send(&request.clone().header("if-match", "\"v2\"")).await);
    }
    bench.envoy.logs("a guarded request has the header if-match, which fingerprint.headers does not name").await;
    let told = bench.envoy.log().matches("has the header if-match").count();
    assert!((1..=2).contains(&told), "told {told} times by two workers");
    bench.assert_executions(1);

    let bench = Bench::new(json!({ "fingerprint": { "headers": ["content-type", "if-match"] } })).await;
    assert_executed(&bench.send(&request.clone().header("if-match", "\"v1\"")).await, 201);
    assert_problem(&bench.send(&request.clone().header("if-match", "\"v2\"")).await, 422, "key-reused");
    bench.assert_executions(1);
    assert!(!bench.envoy.log().contains("has the header if-match"), "{}", bench.envoy.log());
}

crate::bench::also_detached! {
    a_body_that_is_not_json_counts_by_its_bytes,
    a_fingerprint_can_leave_out_body_query_and_headers,
    a_fingerprint_can_take_in_more_headers,
    a_json_fingerprint_ignores_order_space_and_what_it_is_told_to,
    a_key_cannot_be_reused_for_another_request,
    a_key_cannot_be_reused_while_its_request_is_in_flight,
    a_narrower_resource_finds_the_reuse_of_a_key_across_paths,
    equal_keys_for_other_authorities_are_other_operations,
    equal_keys_for_other_resources_are_other_operations,
    one_callers_response_is_never_served_to_another,
    what_is_no_part_of_the_fingerprint_does_not_matter,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_key_cannot_be_reused_for_another_request,
        a_key_cannot_be_reused_while_its_request_is_in_flight,
        one_callers_response_is_never_served_to_another,
    }
    pooled: {
        a_key_cannot_be_reused_while_its_request_is_in_flight,
    }
}
