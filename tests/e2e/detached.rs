//! Detached execution (contract, section 5): the call outlives its client, and is judged as an inline one is.
//!
//! That everything else of section 4 holds as well is what the files of the other scenarios show: each runs in both
//! modes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bench::{
    Answer, Bench, Gate, PATIENCE, Protocol, Request, Response, Setup, assert_executed, assert_in_flight,
    assert_problem, assert_released, assert_replay_of, assert_unknown, is_since, patiently,
};

const CLIENTS: usize = 50;

const DETACHED: &str = "wasmcustom.idemgate.detached";

fn detached(mut configuration: Value) -> Value {
    configuration["execution"]["mode"] = json!("detached");
    configuration
}

async fn bench() -> Bench {
    Bench::new(detached(json!({}))).await
}

fn order() -> Request {
    Request::post("/orders").key("k")
}

/// A replay that has no first response to be compared with: nobody got it.
#[track_caller]
fn assert_replayed(response: &Response, status: u16, body: &[u8]) {
    assert_replay_of(response, response);
    assert_eq!((response.status, response.body.as_slice()), (status, body), "{response:?}");
}

// === clients that hang up ===

#[tokio::test]
async fn fifty_clients_that_hang_up_find_their_answers_when_they_come_back() {
    for setup in [Setup::new(&detached(json!({}))), Setup::new(&detached(json!({}))).http2_upstream()] {
        let bench = Bench::start(setup).await;
        for (round, protocol) in Protocol::BOTH.into_iter().enumerate() {
            let gate = Gate::closed();
            bench.upstream.script("/orders", [Answer::new(201).json("{\"made\":true}").held_by(&gate)]);
            let orders: Vec<Request> =
                (0..CLIENTS).map(|number| order().key(format!("{protocol:?}-{number}"))).collect();
            let clients: Vec<_> = orders.iter().map(|order| bench.send_aside(protocol, order)).collect();
            bench.upstream.reached((round + 1) * CLIENTS).await;
            bench.envoy.reaches_stat(DETACHED, CLIENTS as u64).await;
            for client in clients {
                client.abort();
            }
            bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 0).await;
            bench.envoy.reaches_stat(DETACHED, CLIENTS as u64).await;
            assert_in_flight(&bench.send(&orders[0]).await, 30);

            gate.open();
            bench.envoy.reaches_stat(DETACHED, 0).await;
            // A store that is asked over the network knows of it after the call has ended.
            let stored = ((round + 1) * CLIENTS) as u64;
            bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.stored", stored).await;
            for order in &orders {
                assert_replayed(&bench.send_over(protocol, order).await, 201, b"{\"made\":true}");
            }
            bench.assert_executions((round + 1) * CLIENTS);
        }
    }
}

#[tokio::test]
async fn what_became_of_a_call_is_judged_alike_with_and_without_its_client() {
    let bench = bench().await;
    let mut executions = 0;
    for (path, answer, status) in [
        ("/released", Answer::new(503), 503),
        ("/unknown", Answer::new(502), 502),
        ("/reset", Answer::hang_up(), 502),
        ("/stored", Answer::new(422).json("{}"), 422),
    ] {
        for leaves in [false, true] {
            let gate = Gate::closed();
            bench.upstream.script(path, [answer.clone().held_by(&gate), Answer::new(201).json("{}")]);
            let request = Request::post(path).key(format!("{leaves}"));
            let client = bench.send_aside(Protocol::Http1, &request);
            executions += 1;
            bench.upstream.reached(executions).await;
            if leaves {
                client.abort();
                bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 0).await;
                gate.open();
            } else {
                gate.open();
                let response = client.await.unwrap();
                // Envoy's own word on a reset that it did not see as an answer is a 503.
                assert!(response.status == status || path == "/reset", "{path}: {response:?}");
            }
            bench.envoy.reaches_stat(DETACHED, 0).await;
            match path {
                "/released" => {
                    assert_released(&bench, &request, executions).await;
                    executions += 1;
                }
                "/stored" => assert_replayed(&bench.send_once_settled(&request).await, 422, b"{}"),
                _ => assert_unknown(&bench, &request, executions).await,
            }
        }
    }
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_call_goes_on_without_its_client() {
    let bench = Bench::new(detached(json!({ "lease": "1s", "outcome": { "on_unknown": "retry" } }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let client = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(1).await;
    client.abort();
    bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 0).await;
    // Three and a half leases long.
    let answered = Instant::now() + Duration::from_millis(3_500);
    while Instant::now() < answered {
        assert_in_flight(&bench.send(&order()).await, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gate.open();
    assert_replayed(&bench.send_once_settled(&order()).await, 201, b"{}");
    bench.assert_executions(1);
}

// === what became of the call ===

#[tokio::test]
async fn a_call_that_takes_too_long_leaves_the_outcome_unknown() {
    let bench = Bench::new(detached(json!({ "execution": { "timeout": "300ms" } }))).await;
    let gate = Gate::closed();
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
        let request = order().key(format!("{protocol:?}"));
        let first = bench.send_over(protocol, &request).await;
        assert_eq!((first.status, first.text("idempotency-status")), (504, "unknown".to_owned()), "{first:?}");
        assert_unknown(&bench, &request, number + 1).await;
    }
    gate.open();
}

#[tokio::test]
async fn a_body_that_takes_too_long_leaves_the_outcome_unknown() {
    let bench = Bench::new(detached(json!({ "execution": { "timeout": "300ms" } }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).chunk("early;").then_held_by(&gate).chunk("late")]);
    let first = bench.send(&order()).await;
    assert!(first.status >= 500, "half an answer is none: {first:?}");
    assert_eq!(first.text("idempotency-status"), "unknown", "{first:?}");
    assert_unknown(&bench, &order(), 1).await;
    gate.open();
}

#[tokio::test]
async fn a_call_that_never_left_releases_the_key() {
    let bench = bench().await;
    for path in ["/hostless", "/unknown-cluster", "/no-room-to-wait", "/no-room-to-run"] {
        for protocol in Protocol::BOTH {
            let request = Request::post(path).key(format!("{protocol:?}"));
            for _ in 0..3 {
                let answer = bench.send_over(protocol, &request).await;
                assert_eq!(
                    (answer.status, answer.text("idempotency-status")),
                    (503, "rejected".to_owned()),
                    "{answer:?}"
                );
                assert_eq!(answer.header("idempotency-replayed"), None, "{answer:?}");
            }
        }
    }
    bench.assert_executions(0);
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.released", 24).await;
    bench.envoy.reaches_stat(DETACHED, 0).await;
}

#[tokio::test]
async fn a_cluster_that_nobody_knows_releases_the_key() {
    let bench = Bench::new(detached(json!({ "execution": { "cluster": "nobody-knows" } }))).await;
    for _ in 0..3 {
        let answer = bench.send(&order()).await;
        assert_eq!((answer.status, answer.text("idempotency-status")), (503, "rejected".to_owned()), "{answer:?}");
    }
    bench.assert_executions(0);
}

#[tokio::test]
async fn the_cluster_that_executes_can_be_another_than_the_routes() {
    let bench = Bench::new(detached(json!({ "execution": { "cluster": "upstream" } }))).await;
    let request = Request::post("/hostless").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn an_upstream_that_speaks_like_envoy_is_taken_for_an_upstream() {
    let bench = bench().await;
    let refused = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, \
                   transport failure reason: delayed connect error: Connection refused";
    for (number, (status, text)) in
        [(502, refused), (404, refused), (504, "no healthy upstream")].into_iter().enumerate()
    {
        let path = format!("/{number}");
        let answer = Answer::new(status).header("x-envoy-upstream-service-time", "7").body(text);
        bench.upstream.script(&path, [answer, Answer::new(299)]);
        let request = Request::post(&path).key("k");
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.body.as_slice()), (status, text.as_bytes()), "{first:?}");
        // Were it believed, the key would be released, and the retry would run what has run.
        match status {
            404 => assert_replay_of(&first, &bench.send(&request).await),
            _ => assert_unknown(&bench, &request, number + 1).await,
        }
        bench.assert_executions(number + 1);
    }
}

#[tokio::test]
async fn a_client_cannot_make_envoy_try_the_call_again() {
    let bench = bench().await;
    bench.upstream.script("/orders", [Answer::hang_up(), Answer::new(299)]);
    let request = order()
        .header("x-envoy-retry-on", "5xx,reset,connect-failure")
        .header("x-envoy-max-retries", "5")
        .header("x-envoy-retriable-status-codes", "503")
        .header("x-envoy-hedge-on-per-try-timeout", "true")
        .header("x-envoy-upstream-rq-per-try-timeout-ms", "10");
    let first = bench.send(&request).await;
    assert_eq!(first.text("idempotency-status"), "unknown", "{first:?}");
    assert_unknown(&bench, &request, 1).await;
}

#[tokio::test]
async fn a_clusters_own_retries_do_not_apply_to_the_call() {
    if !is_since(37) {
        // Clusters have no retry policy of their own before Envoy 1.37.
        return;
    }
    let setup = Setup::new(&detached(json!({ "execution": { "cluster": "retrying" } })));
    let bench = Bench::start(setup.retrying_cluster()).await;
    bench.upstream.script("/orders", [Answer::hang_up(), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_eq!(first.text("idempotency-status"), "unknown", "{first:?}");
    assert_unknown(&bench, &order(), 1).await;
}

#[tokio::test]
async fn a_client_cannot_make_envoy_give_the_call_up() {
    let bench = bench().await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let request = order().header("x-envoy-upstream-rq-timeout-ms", "1");
    let client = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;
    // Long past what the client has asked for; a duplicate shows that the call is still alive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_in_flight(&bench.send(&request).await, 30);
    gate.open();
    assert_executed(&client.await.unwrap(), 201);
    bench.assert_executions(1);
}

// === what the upstream gets ===

#[tokio::test]
async fn the_upstream_gets_the_same_fields_as_inline() {
    for upstream in [Protocol::Http1, Protocol::Http2] {
        let mut seen = Vec::new();
        for mode in ["inline", "detached"] {
            let setup = Setup::new(&json!({ "execution": { "mode": mode } }));
            let setup = if upstream == Protocol::Http2 { setup.http2_upstream() } else { setup };
            let bench = Bench::start(setup).await;
            let request = order()
                .header("x-request-id", "7d5f8d6e-0f3c-4d59-8f2b-1d8f2c3b4a59")
                .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                .header("tracestate", "a=b")
                .header("x-forwarded-for", "203.0.113.7, 198.51.100.2")
                .header("x-forwarded-host", "shop.example")
                .header("authorization", "Bearer alice")
                .header("cookie", "session=1")
                .header("x-repeated", "one")
                .header("x-repeated", "two")
                .header("x-empty", "")
                .header("user-agent", "test/1")
                .header("accept-encoding", "gzip, br");
            for protocol in Protocol::BOTH {
                assert_executed(&bench.send_over(protocol, &request.clone().key(format!("{protocol:?}"))).await, 201);
            }
            // Neither crosses the hop: the connection is not the client's.
            let hop = order().key("hop").header("connection", "x-private").header("x-private", "1");
            assert_executed(&bench.send(&hop).await, 201);
            assert_eq!(bench.upstream.seen()[2].header("connection"), None);
            seen.push(bench.upstream.seen()[..2].iter().map(fields).collect::<Vec<_>>());
        }
        // Envoy says of each call that it makes for a filter that it comes from inside.
        let internal = ("x-envoy-internal".to_owned(), "true".to_owned());
        for fields in &mut seen[1] {
            assert!(fields.contains(&internal), "Envoy has become more discreet: {fields:?}");
            fields.retain(|field| *field != internal);
        }
        assert_eq!(seen[0], seen[1], "inline on the left, detached on the right");
    }
}

/// What the file which users are told to copy has for a cluster of detached calls.
fn shipped_options() -> Value {
    let file = include_str!("../../envoy.yaml");
    let block = file.split("# With `detached`: Envoy adds").nth(1).expect("envoy.yaml speaks of detached calls");
    let lines = block.lines().skip_while(|line| !line.contains("# typed_extension_protocol_options"));
    let yaml: Vec<&str> = lines.map_while(|line| line.strip_prefix("    # ")).collect();
    let options: Value = serde_norway::from_str(&yaml.join("\n")).expect("the block is YAML");
    let options =
        &options["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    json!({ "http_filters": options["http_filters"] })
}

#[tokio::test]
async fn what_a_route_takes_off_is_taken_off_by_name_and_what_envoy_adds_by_the_cluster() {
    for (names, is_user_seen) in [(json!(["x-user"]), false), (json!([]), true)] {
        let configuration = detached(json!({ "execution": { "drop_headers": names } }));
        let setup = Setup::new(&configuration).virtual_host(json!({ "request_headers_to_remove": ["x-user"] }));
        for (setup, is_internal_seen) in [(setup.clone(), true), (setup.upstream_options(shipped_options()), false)] {
            let bench = Bench::start(setup).await;
            for (key, internal) in [("k1", "true"), ("k2", "")] {
                let request = order().key(key).header("x-user", "root").header("x-envoy-internal", internal);
                for protocol in Protocol::BOTH {
                    let request = request.clone().key(format!("{key}-{protocol:?}"));
                    let first = bench.send_over(protocol, &request).await;
                    assert_executed(&first, 201);
                    assert_replay_of(&first, &bench.send_over(protocol, &request).await);
                }
            }
            for seen in bench.upstream.seen() {
                assert_eq!(seen.header("x-user").is_some(), is_user_seen, "{seen:?}");
                assert_eq!(seen.header("x-envoy-internal").is_some(), is_internal_seen, "{seen:?}");
            }
            bench.assert_executions(4);
        }
    }
}

/// All fields that the upstream got, but for how long Envoy is going to wait.
fn fields(seen: &crate::bench::Seen) -> Vec<(String, String)> {
    let mut fields: Vec<_> = seen
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().escape_ascii().to_string()))
        .filter(|(name, _)| name != "x-envoy-expected-rq-timeout-ms")
        .collect();
    fields.sort();
    fields
}

#[tokio::test]
async fn the_upstream_gets_the_bytes_of_the_body() {
    let bench = bench().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(500_000).collect();
    let bodies = [Vec::new(), b"x".to_vec(), b"\r\n0\r\n\r\n\0".to_vec(), every_byte];
    for (number, body) in bodies.iter().enumerate() {
        let request = order().content_type("application/octet-stream").body(body.clone());
        for (framing, protocol, request) in [
            ("length", Protocol::Http1, request.clone()),
            ("chunked", Protocol::Http1, request.clone().chunked()),
            ("frames", Protocol::Http2, request),
        ] {
            let before = bench.upstream.executions();
            let request = request.key(format!("{number}-{framing}"));
            let first = bench.send_over(protocol, &request).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send_over(protocol, &request).await);
            let seen = bench.upstream.seen();
            assert_eq!(seen.len(), before + 1);
            assert!(seen[before].body.as_ref() == Some(body), "another body of {} bytes, {framing}", body.len());
            // Framing is for one hop (RFC 9112, section 6); the whole is known, so it is a length.
            assert_eq!(seen[before].header("content-length"), Some(body.len().to_string().as_bytes()), "{framing}");
            assert_eq!(seen[before].header("transfer-encoding"), None, "{framing}");
        }
    }
}

#[tokio::test]
async fn a_field_that_no_call_can_carry_makes_the_request_run_inline() {
    let bench = bench().await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let request = order().header("x-latin1", b"na\xefve".as_slice());
    let first = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;
    assert_eq!(bench.envoy.stat(DETACHED).await.unwrap_or_default(), 0);
    assert_eq!(bench.upstream.seen()[0].header("x-latin1"), Some(b"na\xefve".as_slice()));
    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_body_that_is_no_part_of_the_fingerprint_reaches_the_upstream_all_the_same() {
    let bench =
        Bench::new(detached(json!({ "fingerprint": { "body": "none" }, "limits": { "request_body": "64KiB" } }))).await;
    for protocol in Protocol::BOTH {
        let request = order().key(format!("{protocol:?}")).body(vec![b'x'; 60_000]);
        let first = bench.send_over(protocol, &request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send_over(protocol, &request.clone().body("another")).await);
        // A body that is held has a limit.
        let large = bench.send_over(protocol, &request.key("large").body(vec![b'x'; 70_000])).await;
        assert_problem(&large, 413, "request-too-large");
    }
    bench.assert_executions(2);
    assert!(bench.upstream.seen().iter().all(|seen| seen.body == Some(vec![b'x'; 60_000])));
}

// === what the client gets ===

#[tokio::test]
async fn the_client_gets_the_same_answer_as_inline() {
    let answers = [
        ("/no-content", Answer::new(204).header("etag", "\"v1\"")),
        ("/not-modified", Answer::new(304).header("etag", "\"v1\"")),
        ("/empty", Answer::new(201).header("location", "/orders/1")),
        ("/no-type", Answer::new(200).body("no content-type")),
        ("/chunked", Answer::new(200).chunk("one,").chunk("two,").chunk("three")),
        ("/trailers", Answer::new(200).chunk("summed").trailer("x-sum", "42")),
        ("/latin1", Answer::new(200).header("x-name", b"Ren\xe9e \x80\xff".as_slice()).body("x")),
        (
            "/repeated",
            Answer::new(201)
                .header("link", "</a>; rel=\"next\"")
                .header("set-cookie", "a=1")
                .header("link", "</b>; rel=\"prev\"")
                .header("set-cookie", "b=2")
                .body("x"),
        ),
        ("/own-server", Answer::new(200).header("server", "orders/1").header("www-authenticate", "Basic").body("x")),
        ("/busy", Answer::new(503).header("retry-after", "7").body("busy")),
        ("/gateway", Answer::new(502).body("gateway")),
        ("/large", Answer::new(200).body((0..=255).cycle().take(900_000).collect::<Vec<u8>>())),
    ];
    let mut responses = Vec::new();
    for mode in ["inline", "detached"] {
        let bench = Bench::new(json!({ "execution": { "mode": mode } })).await;
        let mut of_mode = Vec::new();
        for (path, answer) in &answers {
            bench.upstream.script(path, [answer.clone()]);
            for protocol in Protocol::BOTH {
                let response = bench.send_over(protocol, &Request::post(path).key(format!("{protocol:?}"))).await;
                assert!(response.complete, "{path}: {response:?}");
                of_mode.push((*path, protocol, response.status, end_to_end(&response), response.body));
            }
        }
        responses.push(of_mode);
    }
    let detached = responses.pop().unwrap();
    for (inline, detached) in responses.pop().unwrap().into_iter().zip(detached) {
        assert!(inline == detached, "inline {inline:?}\ndetached {detached:?}");
    }
}

/// The fields of a response that are not of one hop or one moment.
fn end_to_end(response: &Response) -> Vec<(String, String)> {
    let mut fields: Vec<_> = response
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.escape_ascii().to_string()))
        .filter(|(name, _)| {
            !["date", "transfer-encoding", "content-length", "x-envoy-upstream-service-time"].contains(&name.as_str())
        })
        .collect();
    fields.sort_by(|left, right| left.0.cmp(&right.0));
    fields
}

// === changes of the configuration ===

#[tokio::test]
async fn calls_under_way_survive_a_change_of_the_configuration() {
    let before = Setup::new(&detached(json!({}))).discovered();
    let after = Setup::new(&detached(json!({ "replay": { "header": "idempotent-replayed" } }))).discovered();
    let bench = Bench::start(before).await;
    let mut idle = bench.http1().await;
    idle.send(&Request::post("/orders")).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let orders: Vec<Request> = (0..10).map(|number| order().key(format!("k{number}"))).collect();
    let clients: Vec<_> = orders.iter().map(|order| bench.send_aside(Protocol::Http1, order)).collect();
    bench.upstream.reached(11).await;
    for client in clients {
        client.abort();
    }
    bench.envoy.reconfigure(&after).await;
    // Until nothing is left of the old listener but its calls.
    idle.is_closed().await;
    bench.envoy.reaches_stat("listener_manager.total_listeners_draining", 0).await;
    bench.envoy.reaches_stat("listener_manager.total_filter_chains_draining", 0).await;
    bench.envoy.reaches_stat(DETACHED, 10).await;
    assert_in_flight(&bench.send(&orders[0]).await, 30);

    gate.open();
    bench.envoy.reaches_stat(DETACHED, 0).await;
    for order in &orders {
        let replay = bench.send_once_settled(order).await;
        assert_eq!((replay.status, replay.body.as_slice()), (201, b"{}".as_slice()), "{replay:?}");
        assert_eq!(replay.text("idempotent-replayed"), "true", "{replay:?}");
    }
    bench.assert_executions(11);
}

#[tokio::test]
async fn clients_that_stay_through_a_change_of_the_configuration_get_their_answers() {
    let before = Setup::new(&detached(json!({}))).discovered();
    let after = Setup::new(&detached(json!({ "replay": { "header": "idempotent-replayed" } }))).discovered();
    let bench = Bench::start(before).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let clients: Vec<_> = (0..10)
        .map(|number| bench.send_aside(Protocol::BOTH[number % 2], &order().key(format!("k{number}"))))
        .collect();
    bench.upstream.reached(10).await;
    bench.envoy.reconfigure(&after).await;
    gate.open();
    for client in clients {
        assert_executed(&patiently("an answer", client).await.unwrap(), 201);
    }
    bench.assert_executions(10);
}

// === a worker that dies ===

#[tokio::test]
async fn the_call_of_a_dead_worker_blocks_once_its_lease_is_over() {
    let bench = Bench::start(Setup::new(&detached(json!({ "lease": "2s" }))).that_can_crash()).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let (mut owner, mut culprit) = (bench.http1_to_worker(0).await, bench.http1_to_worker(0).await);
    let mut other = bench.http1_to_worker(1).await;
    let before = bench.upstream.executions();
    owner.begin(&order()).await;
    bench.upstream.reached(before + 1).await;
    assert_eq!(culprit.send(&Request::get("/").header("x-crash-test", "request-headers")).await.status, 503);
    gate.open();

    let deadline = Instant::now() + PATIENCE;
    let mut response = other.send(&order()).await;
    while response.text("idempotency-status") == "in-flight" {
        assert!(Instant::now() < deadline, "the lease does not end: {response:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        response = other.send(&order()).await;
    }
    assert_problem(&response, 409, "outcome-unknown");
    assert_eq!(bench.upstream.executions_of("k"), 1);
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_call_that_never_left_releases_the_key,
        a_lease_is_renewed_while_the_call_goes_on_without_its_client,
        calls_under_way_survive_a_change_of_the_configuration,
        fifty_clients_that_hang_up_find_their_answers_when_they_come_back,
        the_call_of_a_dead_worker_blocks_once_its_lease_is_over,
        what_became_of_a_call_is_judged_alike_with_and_without_its_client,
    }
    pooled: {
        fifty_clients_that_hang_up_find_their_answers_when_they_come_back,
    }
}
