//! Retries after completion (contract, section 4): the first response again, and nothing else.

use serde_json::json;

use crate::bench::{Answer, Bench, Protocol, Request, Store, assert_executed, assert_replay_of};

#[tokio::test]
async fn a_retry_gets_the_first_response_and_executes_nothing() {
    let bench = Bench::new(json!({})).await;
    for first_over in Protocol::BOTH {
        for retry_over in Protocol::BOTH {
            let before = bench.upstream.executions();
            let request = Request::post("/orders?region=eu").key(format!("{first_over:?}-{retry_over:?}"));
            let first = bench.send_over(first_over, &request).await;
            assert_executed(&first, 201);
            for _ in 0..4 {
                assert_replay_of(&first, &bench.send_over(retry_over, &request).await);
            }
            bench.assert_executions(before + 1);
        }
    }
}

#[tokio::test]
async fn every_kind_of_stored_response_is_replayed_as_it_was() {
    let bench = Bench::new(json!({})).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    // An item of DynamoDB has 400 KB at most.
    let largest = if Store::current() == Store::DynamoDb { 300_000 } else { 900_000 };
    let answers = [
        ("/empty-200", Answer::new(200)),
        ("/empty-201", Answer::new(201).header("location", "/orders/1")),
        ("/accepted", Answer::new(202).json("{\"queued\":true}")),
        ("/no-content", Answer::new(204).header("etag", "\"v1\"")),
        ("/see-other", Answer::new(303).header("location", "/orders/1")),
        ("/not-modified", Answer::new(304).header("etag", "\"v1\"")),
        ("/moved", Answer::new(308).header("location", "/v2/orders").body("moved")),
        ("/bad-request", Answer::new(400).json("{\"error\":\"amount\"}")),
        ("/not-found", Answer::new(404).json("{\"error\":\"account\"}")),
        ("/conflict", Answer::new(409).json("{\"error\":\"state\"}")),
        ("/unprocessable", Answer::new(422).json("{\"error\":\"funds\"}")),
        ("/chunked", Answer::new(200).chunk("one,").chunk("two,").chunk("three")),
        ("/trailers", Answer::new(200).header("trailer", "x-sum").chunk("summed").trailer("x-sum", "42")),
        ("/binary", Answer::new(200).header("content-type", "application/octet-stream").body(all_bytes)),
        (
            "/compressed",
            Answer::new(200).header("content-encoding", "gzip").body(b"\x1f\x8b\x08\0not really".as_slice()),
        ),
        ("/no-type", Answer::new(200).body("no content-type")),
        ("/latin1", Answer::new(200).header("x-name", b"Ren\xe9e \x80\xff".as_slice()).body("x")),
        (
            "/repeated",
            Answer::new(201)
                .header("link", "</a>; rel=\"next\"")
                .header("vary", "accept")
                .header("link", "</b>; rel=\"prev\"")
                .header("vary", "origin")
                .header("link", "</a>; rel=\"next\"")
                .body("x"),
        ),
        ("/empty-value", Answer::new(200).header("x-empty", "").body("x")),
        ("/large", Answer::new(200).body(vec![b'y'; largest])),
    ];
    for (path, answer) in answers {
        bench.upstream.script(path, [answer, Answer::new(299).body("executed a second time")]);
        // `te` is what an HTTP/1.1 upstream needs to be sent to send trailers.
        let request = Request::post(path).key("one").header("te", "trailers");
        let first = bench.send(&request).await;
        assert_executed(&first, first.status);
        // A store that is asked over the network may know of a large one after the client.
        assert_replay_of(&first, &bench.send_once_settled(&request).await);
        for protocol in Protocol::BOTH {
            assert_replay_of(&first, &bench.send_over(protocol, &request).await);
        }
        assert_eq!(bench.upstream.seen().iter().filter(|seen| seen.path == path).count(), 1, "executions of {path}");
    }
}

#[tokio::test]
async fn what_belongs_to_one_connection_or_one_client_is_not_replayed() {
    let bench = Bench::new(json!({})).await;
    let long_ago = "Mon, 01 Jan 2001 00:00:00 GMT";
    let answer = Answer::new(201)
        .header("date", long_ago)
        .header("server", "orders/1")
        .header("set-cookie", "session=1")
        .header("set-cookie", "theme=dark")
        .header("www-authenticate", "Basic")
        .header("proxy-authenticate", "Basic")
        .header("keep-alive", "timeout=5")
        .header("x-envoy-upstream-service-time", "7")
        .header("x-kept", "yes")
        .body("done");
    bench.upstream.script("/orders", [answer]);
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_eq!(first.all("set-cookie").len(), 2, "the first client gets its cookies: {first:?}");

    let replay = bench.send(&request).await;
    assert_eq!((replay.status, replay.body.as_slice()), (201, b"done".as_slice()), "{replay:?}");
    assert_eq!(replay.text("x-kept"), "yes", "{replay:?}");
    for name in ["set-cookie", "www-authenticate", "proxy-authenticate", "keep-alive", "x-envoy-upstream-service-time"]
    {
        assert_eq!(replay.header(name), None, "{name} is replayed: {replay:?}");
    }
    assert_ne!(replay.text("date"), long_ago, "the first response's date is replayed: {replay:?}");
    bench.assert_executions(1);
}

#[tokio::test]
async fn the_replay_marker_and_the_fields_left_out_are_configured() {
    let bench =
        Bench::new(json!({ "replay": { "header": "idempotent-replayed", "drop_headers": ["x-secret"] } })).await;
    let answer =
        Answer::new(201).header("x-secret", "s").header("x-open", "o").header("set-cookie", "sid=1").body("done");
    bench.upstream.script("/orders", [answer]);
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    assert_eq!(first.text("x-secret"), "s", "{first:?}");

    let replay = bench.send(&request).await;
    assert_eq!(replay.text("idempotent-replayed"), "true", "{replay:?}");
    assert_eq!(replay.header("idempotency-replayed"), None, "{replay:?}");
    assert_eq!(replay.header("x-secret"), None, "{replay:?}");
    assert_eq!(replay.header("set-cookie"), None, "{replay:?}");
    assert_eq!(replay.text("x-open"), "o", "{replay:?}");
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_is_true_of_one_message_is_replayed_unless_it_is_left_out() {
    let fields = [("x-request-id", "r1"), ("traceparent", "t1"), ("x-ratelimit-remaining", "7"), ("age", "3")];
    let names = fields.map(|(name, _)| name);
    for (left_out, is_there) in [(json!([]), true), (json!(names), false)] {
        let bench = Bench::new(json!({ "replay": { "drop_headers": left_out } })).await;
        let answer = fields.iter().fold(Answer::new(201), |answer, (name, value)| answer.header(*name, *value));
        bench.upstream.script("/orders", [answer.body("done"), Answer::new(299)]);
        let request = Request::post("/orders").key("k");
        assert_executed(&bench.send(&request).await, 201);
        let replay = bench.send(&request).await;
        assert_eq!((replay.status, replay.text("idempotency-replayed")), (201, "true".to_owned()), "{replay:?}");
        for (name, value) in fields {
            assert_eq!(replay.header(name), is_there.then_some(value.as_bytes()), "{name}: {replay:?}");
        }
        bench.assert_executions(1);
    }
}

#[tokio::test]
async fn what_belongs_to_one_client_is_replayed_only_if_it_is_named() {
    let names = ["set-cookie", "set-cookie2", "mcp-session-id", "authentication-info", "clear-site-data"];
    let names = names.into_iter().chain(["dpop-nonce", "replay-nonce", "sec-session-registration"]);
    let bench = Bench::new(json!({ "replay": { "keep_headers": ["Set-Cookie", "dpop-nonce"] } })).await;
    let answer = names.clone().fold(Answer::new(201), |answer, name| answer.header(name, "1"));
    bench.upstream.script("/orders", [answer]);
    let request = Request::post("/orders").key("k");
    let (first, replay) = (bench.send(&request).await, bench.send(&request).await);
    for name in names {
        assert_eq!(first.text(name), "1", "{first:?}");
        let is_kept = name == "set-cookie" || name == "dpop-nonce";
        assert_eq!(replay.header(name).is_some(), is_kept, "{name}: {replay:?}");
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn requests_without_a_body_are_guarded_too() {
    let bench = Bench::new(json!({})).await;
    let requests = [
        ("no body, HTTP/1.1", Protocol::Http1, Request::new("POST", "/ping").key("a")),
        ("an empty chunked body", Protocol::Http1, Request::new("POST", "/ping").key("b").chunked()),
        ("no body, HTTP/2", Protocol::Http2, Request::new("POST", "/ping").key("c")),
        ("a PATCH", Protocol::Http1, Request::new("PATCH", "/orders/1").key("d").body("{}")),
    ];
    for (number, (what, protocol, request)) in requests.into_iter().enumerate() {
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
        assert_eq!(bench.upstream.executions(), number + 1, "executions of {what}");
    }
}

#[tokio::test]
async fn a_response_of_eight_mebibytes_is_replayed_where_the_limit_allows_it() {
    let bench = Bench::new(json!({ "limits": { "response_body": "8MiB" } })).await;
    let body: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    bench.upstream.script("/exports", [Answer::new(201).body(body.clone()), Answer::new(299)]);
    let request = Request::post("/exports").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert!(first.body == body, "another body than the upstream sent: {first:?}");
    // A store that is asked over the network may know of a large one after the client.
    assert_replay_of(&first, &bench.send_once_settled(&request).await);
    for protocol in Protocol::BOTH {
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn replays_leave_the_client_its_connection() {
    let bench = Bench::new(json!({})).await;
    let mut client = bench.http1().await;
    let request = Request::post("/orders").key("k");
    let first = client.send(&request).await;
    for _ in 0..3 {
        assert_replay_of(&first, &client.send(&request).await);
    }
    // The same connection serves something else as well.
    assert_executed(&client.send(&request.key("other")).await, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn an_upstream_that_speaks_http2_is_replayed_too() {
    let bench = Bench::start(crate::bench::Setup::new(&json!({})).http2_upstream()).await;
    let answer = Answer::new(200).header("x-latin1", b"\xe9".as_slice()).chunk("a").chunk("b").trailer("x-sum", "2");
    bench.upstream.script("/sums", [answer]);
    for protocol in Protocol::BOTH {
        let request = Request::post("/sums").key(format!("{protocol:?}")).header("te", "trailers");
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 200);
        assert_eq!(first.body, b"ab");
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
    }
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_replay_does_not_extend_the_time_it_expires() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    let replay = bench.send(&request).await;
    assert_replay_of(&first, &replay);
    let expires = replay.text("idempotency-expires");
    // Past the next second, in which an extended retention would show.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let later = bench.send(&request).await;
    assert_eq!(later.text("idempotency-expires"), expires, "{later:?}");
}

crate::bench::also_detached! {
    a_response_of_eight_mebibytes_is_replayed_where_the_limit_allows_it,
    a_replay_does_not_extend_the_time_it_expires,
    a_retry_gets_the_first_response_and_executes_nothing,
    an_upstream_that_speaks_http2_is_replayed_too,
    every_kind_of_stored_response_is_replayed_as_it_was,
    replays_leave_the_client_its_connection,
    requests_without_a_body_are_guarded_too,
    the_replay_marker_and_the_fields_left_out_are_configured,
    what_belongs_to_one_connection_or_one_client_is_not_replayed,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_replay_does_not_extend_the_time_it_expires,
        a_retry_gets_the_first_response_and_executes_nothing,
        an_upstream_that_speaks_http2_is_replayed_too,
        every_kind_of_stored_response_is_replayed_as_it_was,
        replays_leave_the_client_its_connection,
        requests_without_a_body_are_guarded_too,
    }
    pooled: {
        a_response_of_eight_mebibytes_is_replayed_where_the_limit_allows_it,
        every_kind_of_stored_response_is_replayed_as_it_was,
    }
}
