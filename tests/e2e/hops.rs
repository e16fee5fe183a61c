//! Another proxy, or another Idemgate, between the filter and the service (contract, section 4).

use serde_json::{Value, json};

use crate::bench::{
    Answer, Bench, Envoy, Gate, Hop, Protocol, Request, Setup, Upload, Upstream, Way, also_detached, assert_executed,
    assert_problem, assert_replay_of, compressor, lua_on_response,
};

fn order() -> Request {
    Request::post("/orders").key("k").caller("ann").header("accept-encoding", "gzip")
}

/// Its own answers have the form of an API.
fn formatting() -> Value {
    json!({ "local_reply_config": { "body_format": {
        "json_format": { "error": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%" },
    } } })
}

/// The proxies whose own answers can be told from a service's.
fn hops() -> [(&'static str, Hop); 6] {
    let format = formatting();
    [
        ("plain", Hop::plain()),
        ("compressing", Hop::plain().filter(compressor())),
        ("formatting", Hop::plain().connection_manager(format.clone())),
        ("formatting and compressing", Hop::plain().connection_manager(format).filter(compressor())),
        ("named otherwise", Hop::plain().connection_manager(json!({ "server_name": "edge", "via": "edge" }))),
        ("unnamed", Hop::plain().connection_manager(json!({ "server_header_transformation": "PASS_THROUGH" }))),
    ]
}

async fn bench(hop: &Hop, configuration: Value) -> (Envoy, Bench) {
    let mut upstream = Upstream::shut(Protocol::Http1);
    upstream.open();
    let hop = hop.start(&upstream).await;
    let bench = Bench::through(&hop, upstream, Setup::new(&configuration)).await;
    (hop, bench)
}

/// The `"For money"` block of the file that users are told to copy.
fn for_money() -> Value {
    let file = include_str!("../../envoy.yaml");
    let block = file.split("# For money").nth(1).and_then(|rest| rest.split("# value: |").nth(1));
    let lines = block.expect("envoy.yaml has a block for money").lines().skip(1);
    let json: String = lines.map_while(|line| line.trim().strip_prefix("#   ")).collect();
    serde_json::from_str(&json).expect("the block for money is JSON")
}

#[tokio::test]
async fn an_answer_that_another_proxy_lost_leaves_the_outcome_unknown() {
    for (name, hop) in hops() {
        let (_hop, bench) = bench(&hop, json!({})).await;
        bench.upstream.script("/orders", [Answer::hang_up(), Answer::new(201)]);
        let first = bench.send(&order()).await;
        assert_eq!(first.status, 503, "{name}: {first:?}");
        assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
        bench.assert_executions(1);
    }
}

#[tokio::test]
async fn what_is_for_money_holds_behind_any_proxy() {
    // One of them cannot be told from the service.
    let disguised = json!({
        "server_header_transformation": "PASS_THROUGH", "local_reply_config": formatting()["local_reply_config"],
    });
    let disguised = ("disguised", Hop::plain().connection_manager(disguised));
    for (name, hop) in hops().into_iter().chain([disguised]) {
        let (_hop, bench) = bench(&hop, for_money()).await;
        bench.upstream.script("/orders", [Answer::hang_up(), Answer::new(201)]);
        let first = bench.send(&order()).await;
        assert_eq!((first.status, first.text("idempotency-status")), (503, "unknown".to_owned()), "{name}: {first:?}");
        assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
        bench.assert_executions(1);
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_connect_is_believed_if_its_word_can_be_read() {
    for (name, hop) in hops() {
        let upstream = Upstream::shut(Protocol::Http1);
        let hop = hop.start(&upstream).await;
        let address = hop.address();
        let is_readable = !(name.contains("formatting") || name.contains("compressing"));
        upstream.script("/orders", [Answer::new(201).json("{}"), Answer::new(299)]);
        let mut bench = Bench::through(&hop, upstream, Setup::new(&json!({}))).await;
        let first = bench.send(&order()).await;
        assert_eq!(first.status, 503, "{name} at {address}: {first:?}");
        bench.upstream.open();
        let retry = bench.send_once_settled(&order()).await;
        if is_readable {
            assert_executed(&retry, 201);
            assert_replay_of(&retry, &bench.send(&order()).await);
            bench.assert_executions(1);
        } else {
            assert_problem(&retry, 409, "outcome-unknown");
            bench.assert_executions(0);
        }
    }
}

#[tokio::test]
async fn a_timeout_of_another_proxy_leaves_the_outcome_unknown_whatever_the_policy_says() {
    for configuration in [json!({}), json!({ "outcome": { "release": [504] } })] {
        for hop in [Hop::plain(), Hop::plain().connection_manager(formatting())] {
            let (_hop, bench) = bench(&hop.route(json!({ "timeout": "0.3s" })), configuration.clone()).await;
            let never = Gate::closed();
            bench.upstream.script("/orders", [Answer::new(201).held_by(&never), Answer::new(299)]);
            let first = bench.send(&order()).await;
            assert_eq!((first.status, first.text("idempotency-status")), (504, "unknown".to_owned()), "{first:?}");
            assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
            bench.assert_executions(1);
        }
    }
}

#[tokio::test]
async fn retries_of_another_proxy_are_no_proof_that_nothing_ran() {
    let retries = json!({ "retry_policy": {
        "retry_on": "reset,5xx", "num_retries": 1, "retry_back_off": { "base_interval": "0.01s" },
    } });
    // All attempts fail: its text says so. Or the last one is answered: then only the count tells.
    let counting = json!({ "include_attempt_count_in_response": true });
    for (answers, virtual_host, status) in [
        ([Answer::hang_up(), Answer::hang_up(), Answer::new(201)], json!({}), 503),
        ([Answer::hang_up(), Answer::new(500), Answer::new(201)], counting.clone(), 500),
        ([Answer::hang_up(), Answer::new(503).header("retry-after", "1"), Answer::new(201)], counting, 503),
    ] {
        let hop = Hop::plain().route(retries.clone()).virtual_host(virtual_host);
        let (_hop, bench) = bench(&hop, json!({})).await;
        bench.upstream.script("/orders", answers);
        let first = bench.send(&order()).await;
        assert_eq!((first.status, first.text("idempotency-status")), (status, "unknown".to_owned()), "{first:?}");
        assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
        bench.assert_executions(2);
    }
}

#[tokio::test]
async fn those_who_wait_behind_another_proxy_run_only_after_a_proof() {
    let waiting = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } });
    for (name, hop) in hops() {
        let (_hop, bench) = bench(&hop, waiting.clone()).await;
        let (refused, died) = (Gate::closed(), Gate::closed());
        let busy = Answer::new(503).header("retry-after", "1").json("{}").held_by(&refused);
        bench.upstream.script("/orders", [busy, Answer::hang_up().held_by(&died), Answer::new(299)]);
        let first = bench.send_aside(Protocol::Http1, &order());
        bench.upstream.reached(1).await;
        let waiters = [Protocol::Http1, Protocol::Http2].map(|protocol| bench.send_aside(protocol, &order()));
        bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 2).await;
        refused.open();
        assert_executed(&first.await.expect("the first client"), 503);
        // One of them runs, and the proxy loses its answer.
        bench.upstream.reached(2).await;
        died.open();
        let mut told = Vec::new();
        for waiter in waiters {
            told.push(waiter.await.expect("a client that waits").status);
        }
        told.sort_unstable();
        assert_eq!(told, [409, 503], "{name}");
        assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
        bench.assert_executions(2);
    }
}

#[tokio::test]
async fn an_answer_that_another_proxy_could_not_hold_leaves_the_outcome_unknown() {
    // The service has answered with more than the proxy's filter has room for, which says 500 in its place.
    let hop = Hop::plain().filter(lua_on_response("response:body()"));
    let (_hop, bench) = bench(&hop, json!({})).await;
    bench.upstream.script("/orders", [Answer::new(201).body(vec![b'x'; 2 << 20]), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_eq!((first.status, first.text("idempotency-status")), (500, "unknown".to_owned()), "{first:?}");
    assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
    bench.assert_executions(1);
}

/// Inline, and without its body in the fingerprint, a request goes on as it comes.
#[tokio::test]
async fn an_upload_that_stalls_in_another_proxy_leaves_the_outcome_unknown() {
    for timeout in ["stream_idle_timeout", "request_timeout"] {
        let hop = Hop::plain().connection_manager(json!({ timeout: "0.3s" }));
        let (_hop, bench) = bench(&hop, json!({ "fingerprint": { "body": "none" } })).await;
        bench.upstream.script("/orders", [Answer::new(201), Answer::new(299)]);
        for (number, way) in [Way::Http1Chunked, Way::Http1Length, Way::Http2].into_iter().enumerate() {
            let request = order().key(format!("{way:?}")).body(vec![b'x'; 20_000]);
            let mut upload = Upload::begin(&bench.envoy, way, &request).await;
            upload.send(&request.body[..10_000]).await;
            bench.upstream.reached(number + 1).await;
            let first = upload.response_so_far().await;
            assert_eq!((first.status, first.text("idempotency-status")), (408, "unknown".to_owned()), "{first:?}");
            assert_problem(&bench.send_once_settled(&request).await, 409, "outcome-unknown");
            bench.assert_executions(number + 1);
        }
    }
}

#[tokio::test]
async fn a_services_own_refusal_releases_the_key_through_a_proxy_too() {
    let busy = || Answer::new(503).json("{\"error\":\"busy\"}");
    for refusal in [
        Answer::new(500).json("{}"),
        Answer::new(500).header("content-type", "text/plain").body("broken"),
        // Envoy's text as frameworks send it.
        Answer::new(500).header("content-type", "text/plain; charset=utf-8").body("Internal Server Error"),
        Answer::new(408).header("content-type", "text/plain").body("slow"),
        busy().header("retry-after", "1"),
        busy().header("idempotency-policy", "release"),
        Answer::new(429).json("{}"),
    ] {
        let (_hop, bench) = bench(&Hop::plain(), json!({})).await;
        bench.upstream.script("/orders", [refusal, Answer::new(201).json("{}")]);
        let first = bench.send(&order()).await;
        assert_executed(&first, first.status);
        assert_executed(&bench.send_once_settled(&order()).await, 201);
        bench.assert_executions(2);
    }
    // A bare 503 could be the proxy's own; without a proxy it is the service's.
    let (_hop, bench) = bench(&Hop::plain(), json!({})).await;
    bench.upstream.script("/orders", [busy(), Answer::new(201)]);
    assert_eq!(bench.send(&order()).await.text("idempotency-status"), "unknown");
    assert_problem(&bench.send_once_settled(&order()).await, 409, "outcome-unknown");
    bench.assert_executions(1);
    for direct in [busy(), Answer::new(503).header("content-type", "text/plain").body("upstream busy")] {
        let bench = Bench::new(json!({})).await;
        bench.upstream.script("/orders", [direct, Answer::new(201)]);
        assert_executed(&bench.send(&order()).await, 503);
        assert_executed(&bench.send_once_settled(&order()).await, 201);
        bench.assert_executions(2);
    }
}

/// Its fields have gone out with `unknown` before its text tells it from the proxy's.
#[tokio::test]
async fn a_services_refusal_that_is_as_long_as_a_proxys_releases_the_key() {
    let (_hop, bench) = bench(&Hop::plain(), json!({})).await;
    let refusal = Answer::new(500).header("content-type", "text/plain").body("something has broken!");
    bench.upstream.script("/orders", [refusal, Answer::new(201).json("{}")]);
    assert_eq!(bench.send(&order()).await.status, 500);
    assert_executed(&bench.send_once_settled(&order()).await, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_service_can_send_nothing_back_that_speaks_for_the_filter() {
    let (_hop, bench) = bench(&Hop::plain(), json!({})).await;
    let spoofed = [
        ("idempotency-status", "rejected"),
        ("idempotency-policy", "release"),
        ("idempotency-expires", "2036-01-01T00:00:00Z"),
        ("idempotency-replayed", "true"),
    ];
    bench.upstream.directed_by(|seen| {
        let answer = Answer::new(201).header("idempotency-expires", "never").header("idempotency-replayed", "true");
        let echo = seen.headers.iter().filter(|(name, _)| name.as_str().starts_with("idempotency-"));
        Some(echo.fold(answer, |answer, (name, value)| answer.header(name.as_str(), value.as_bytes())).json("{}"))
    });
    let order = spoofed.into_iter().fold(order(), |order, (name, value)| order.header(name, value));
    let first = bench.send(&order).await;
    assert_executed(&first, 201);
    let seen = bench.upstream.seen();
    for (name, _) in spoofed {
        assert_eq!(seen[0].header(name), None, "{name}");
    }
    assert_eq!(seen[0].header("idempotency-key"), Some(b"k".as_slice()));
    assert_replay_of(&first, &bench.send_once_settled(&order).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn an_unknown_policy_word_is_ignored_counted_and_told_once() {
    let bench = Bench::new(json!({})).await;
    let answer = || Answer::new(201).header("idempotency-policy", "no-stroe").json("{}");
    bench.upstream.script("/orders", [answer(), answer()]);
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send_once_settled(&order()).await);
    assert_executed(&bench.send(&order().key("k2")).await, 201);
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.policy_ignored", 2).await;
    bench.envoy.logs("idempotency-policy: \"no-stroe\"").await;
    // By this one, whatever case it has.
    bench.upstream.script("/kept", [Answer::new(201).header("idempotency-policy", "No-Store").json("{}")]);
    let kept = Request::post("/kept").key("k");
    assert_executed(&bench.send(&kept).await, 201);
    assert_problem(&bench.send_once_settled(&kept).await, 409, "response-not-kept");
}

// === Idemgate behind Idemgate ===

struct Chain {
    inner: Envoy,
    outer: Bench,
}

/// Two Idemgates in a row, each with records of its own.
async fn chain(inner: Value, outer: Value) -> Chain {
    let mut upstream = Upstream::shut(Protocol::Http1);
    upstream.open();
    chain_to(upstream, Setup::new(&inner), outer).await
}

async fn chain_to(upstream: Upstream, inner: Setup, outer: Value) -> Chain {
    let inner = Envoy::in_front_of(&upstream, &inner, Vec::new()).await;
    let outer = Bench::through(&inner, upstream, Setup::new(&outer)).await;
    Chain { inner, outer }
}

/// Envoys around the inner Idemgate whose answers are not as they were made.
fn surroundings() -> [Setup; 4] {
    let setup = || Setup::new(&json!({}));
    [
        setup(),
        setup().filter_before(compressor()),
        setup().connection_manager(formatting()),
        setup().connection_manager(formatting()).filter_before(compressor()),
    ]
}

#[tokio::test]
async fn a_refusal_of_another_idemgate_is_passed_on_and_not_kept() {
    let Chain { inner, outer } = chain(json!({}), json!({})).await;
    let gate = Gate::closed();
    outer.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let first = inner.send_aside(Protocol::Http1, &order());
    outer.upstream.reached(1).await;
    for _ in 0..2 {
        assert_problem(&outer.send(&order()).await, 409, "request-in-flight");
    }
    assert_problem(&outer.send(&order().body("other")).await, 422, "key-reused");
    gate.open();
    let first = first.await.expect("the first request is answered");
    let through = outer.send_once_settled(&order()).await;
    assert_eq!((through.status, &through.body), (201, &first.body), "{through:?}");
    assert_eq!(through.text("idempotency-status"), "executed", "{through:?}");
    assert_replay_of(&through, &outer.send_once_settled(&order()).await);
    outer.assert_executions(1);
}

#[tokio::test]
async fn an_outcome_that_another_idemgate_does_not_know_is_unknown() {
    for inner in surroundings() {
        let mut upstream = Upstream::shut(Protocol::Http1);
        upstream.open();
        let Chain { inner: _inner, outer } = chain_to(upstream, inner, json!({})).await;
        outer.upstream.script("/orders", [Answer::hang_up(), Answer::new(201)]);
        let first = outer.send(&order()).await;
        assert_eq!((first.status, first.text("idempotency-status")), (503, "unknown".to_owned()), "{first:?}");
        assert_problem(&outer.send_once_settled(&order()).await, 409, "outcome-unknown");
        outer.assert_executions(1);
    }
}

#[tokio::test]
async fn what_another_idemgate_could_not_send_is_released() {
    for inner in surroundings() {
        let Chain { inner: _inner, mut outer } = chain_to(Upstream::shut(Protocol::Http1), inner, json!({})).await;
        let first = outer.send(&order()).await;
        assert_eq!((first.status, first.text("idempotency-status")), (503, "rejected".to_owned()), "{first:?}");
        outer.upstream.open();
        outer.upstream.script("/orders", [Answer::new(201).json("{}"), Answer::new(299)]);
        let retry = outer.send_once_settled(&order()).await;
        assert_executed(&retry, 201);
        assert_replay_of(&retry, &outer.send_once_settled(&order()).await);
        outer.assert_executions(1);
    }
}

#[tokio::test]
async fn a_timeout_or_retries_behind_another_idemgate_leave_the_outcome_unknown() {
    let inline = || Setup::new(&json!({ "execution": { "mode": "inline" } }));
    let route = json!({ "cluster": "upstream", "timeout": "0.3s" });
    let impatient = json!({ "routes": [{ "match": { "prefix": "/" }, "route": route }] });
    let retries = json!({ "retry_policy": {
        "retry_on": "reset", "num_retries": 2, "retry_back_off": { "base_interval": "0.01s" },
    } });
    let never = Gate::closed();
    let late = || Answer::new(201).held_by(&never);
    for (inner, answers, executions) in [
        (inline().virtual_host(impatient), vec![late()], 1),
        (Setup::new(&json!({ "execution": { "mode": "detached", "timeout": "300ms" } })), vec![late()], 1),
        (inline().virtual_host(retries), vec![Answer::hang_up(), Answer::hang_up(), Answer::hang_up()], 3),
    ] {
        let mut upstream = Upstream::shut(Protocol::Http1);
        upstream.open();
        let Chain { inner: _inner, outer } = chain_to(upstream, inner, json!({})).await;
        outer.upstream.script("/orders", answers.into_iter().chain([Answer::new(299)]));
        let first = outer.send(&order()).await;
        assert!(matches!(first.status, 503 | 504), "{first:?}");
        assert_eq!(first.text("idempotency-status"), "unknown", "{first:?}");
        assert_problem(&outer.send_once_settled(&order()).await, 409, "outcome-unknown");
        outer.assert_executions(executions);
    }
}

#[tokio::test]
async fn a_response_that_another_idemgate_did_not_keep_is_a_tombstone_of_its_status() {
    let limit = json!({ "limits": { "response_body": 10 } });
    let Chain { inner, outer } = chain(limit, json!({})).await;
    outer.upstream.script("/orders", [Answer::new(202).json("{\"a\":\"more than ten bytes\"}"), Answer::new(299)]);
    assert_executed(&inner.send(&order()).await, 202);
    for _ in 0..2 {
        let problem = assert_problem(&outer.send_once_settled(&order()).await, 409, "response-not-kept");
        assert_eq!(problem["original_status"], 202);
    }
    outer.assert_executions(1);
}

also_detached! {
    an_answer_that_another_proxy_lost_leaves_the_outcome_unknown,
    a_proxy_that_cannot_connect_is_believed_if_its_word_can_be_read,
    a_timeout_of_another_proxy_leaves_the_outcome_unknown_whatever_the_policy_says,
    retries_of_another_proxy_are_no_proof_that_nothing_ran,
    a_services_own_refusal_releases_the_key_through_a_proxy_too,
    a_services_refusal_that_is_as_long_as_a_proxys_releases_the_key,
    a_service_can_send_nothing_back_that_speaks_for_the_filter,
    an_unknown_policy_word_is_ignored_counted_and_told_once,
    a_refusal_of_another_idemgate_is_passed_on_and_not_kept,
    an_outcome_that_another_idemgate_does_not_know_is_unknown,
    those_who_wait_behind_another_proxy_run_only_after_a_proof,
    an_answer_that_another_proxy_could_not_hold_leaves_the_outcome_unknown,
    what_another_idemgate_could_not_send_is_released,
    a_timeout_or_retries_behind_another_idemgate_leave_the_outcome_unknown,
    a_response_that_another_idemgate_did_not_keep_is_a_tombstone_of_its_status,
}
