//! What operators and clients can see of it (contract, sections 4 and 7).

use serde_json::json;

use crate::bench::{Answer, Bench, Gate, Protocol, Request, Setup, assert_problem, deny_header, patiently};

#[tokio::test]
async fn every_kind_of_answer_is_counted() {
    let bench = Bench::new(json!({ "limits": { "request_body": "1KiB", "response_body": "1KiB" } })).await;
    let gate = Gate::closed();
    bench.upstream.script("/held", [Answer::new(201).json("{}").held_by(&gate)]);
    bench.upstream.script("/large", [Answer::new(201).body(vec![b'x'; 2_000])]);
    bench.upstream.script("/gateway", [Answer::new(502)]);
    bench.upstream.script("/busy", [Answer::new(503)]);

    let order = Request::post("/orders").key("k");
    bench.send(&order).await;
    bench.send(&order).await;
    bench.send(&order).await;
    bench.send(&order.clone().body("another")).await;
    let held = bench.send_aside(Protocol::Http1, &Request::post("/held").key("k"));
    bench.upstream.reached(2).await;
    bench.send(&Request::post("/held").key("k")).await;
    gate.open();
    held.await.unwrap();
    bench.send(&Request::post("/large").key("k")).await;
    bench.send(&Request::post("/large").key("k")).await;
    bench.send(&Request::post("/gateway").key("k")).await;
    bench.send_once_settled(&Request::post("/gateway").key("k")).await;
    bench.send(&Request::post("/busy").key("k")).await;
    bench.send(&order.clone().key("not a key")).await;
    bench.send(&Request::post("/orders").key("big").body(vec![b'x'; 2_000])).await;
    bench.send(&Request::post("/orders")).await;
    bench.send(&Request::get("/orders")).await;

    let expected = [
        ("requests.executed", 5),
        ("requests.replayed", 2),
        ("requests.key_reused", 1),
        ("requests.in_flight", 1),
        ("requests.not_kept", 1),
        ("requests.unknown", 1),
        ("requests.key_invalid", 1),
        ("requests.too_large", 1),
        ("outcomes.stored", 2),
        ("outcomes.tombstoned", 1),
        ("outcomes.released", 1),
        ("outcomes.unknown", 1),
    ];
    for (name, count) in expected {
        bench.envoy.reaches_stat(&format!("wasmcustom.idemgate.{name}"), count).await;
    }
    let unguarded = bench.envoy.stat("wasmcustom.idemgate.requests.unguarded").await;
    assert!(unguarded.is_some_and(|unguarded| unguarded >= 1), "{unguarded:?} unguarded requests counted");
}

#[tokio::test]
async fn refusals_for_want_of_a_key_or_a_caller_are_counted() {
    let bench = Bench::new(json!({ "key": { "required": true }, "caller": { "required": true } })).await;
    bench.send(&Request::post("/orders").caller("alice")).await;
    bench.send(&Request::post("/orders").key("k")).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.key_missing", 1).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.caller_unknown", 1).await;
    bench.assert_executions(0);
}

#[tokio::test]
async fn the_table_shows_how_full_it_is() {
    let bench = Bench::new(json!({})).await;
    for number in 0..10 {
        bench.send(&Request::post("/orders").key(format!("k{number}"))).await;
    }
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.entries", 10).await;
    let bytes = bench.envoy.stat("wasmcustom.idemgate.store.bytes").await;
    assert!(bytes.is_some_and(|bytes| bytes > 0), "{bytes:?} bytes for ten responses");
}

#[tokio::test]
async fn the_access_log_tells_what_became_of_each_request() {
    let bench = Bench::start(Setup::new(&json!({})).filter_before(deny_header("x-deny"))).await;
    let request = Request::post("/orders").key("k");
    bench.send(&request.clone().header("x-tag", "first")).await;
    bench.send(&request.clone().header("x-tag", "retry")).await;
    bench.send(&request.clone().body("another").header("x-tag", "reused")).await;
    bench.send(&request.clone().key("\"").header("x-tag", "invalid")).await;
    bench.send(&Request::post("/orders").header("x-tag", "unguarded")).await;

    let words = [("first", "executed"), ("retry", "replayed"), ("reused", "key-reused"), ("invalid", "rejected")];
    for (tag, word) in words {
        let line = bench.envoy.access_log_line(tag).await;
        assert!(line.contains(&format!(" status={word} ")), "the {tag} request is logged as {line:?}");
    }
    let line = bench.envoy.access_log_line("unguarded").await;
    assert!(line.contains(" status=- "), "an unguarded request is logged as {line:?}");
    // Replies of the filter carry details of their own, so that logs tell them from Envoy's.
    for tag in ["retry", "reused", "invalid"] {
        let line = bench.envoy.access_log_line(tag).await;
        let details = line.split_once("details=").map(|(_, details)| details).unwrap_or_default();
        assert!(!["", "-", "via_upstream"].contains(&details), "the {tag} request is logged as {line:?}");
    }
}

#[tokio::test]
async fn the_access_log_ties_a_retry_to_the_request_whose_outcome_is_unknown() {
    let bench = Bench::new(json!({})).await;
    bench.upstream.directed_by(|_| Some(Answer::new(502)));
    let request = Request::post("/orders").key("k");
    bench.send(&request.clone().header("x-tag", "first")).await;
    assert_problem(&bench.send_once_settled(&request.clone().header("x-tag", "retry")).await, 409, "outcome-unknown");
    bench.send(&request.clone().key("another").header("x-tag", "other")).await;
    bench.upstream.directed_by(|_| Some(Answer::new(201)));
    bench.send(&request.clone().key("well").header("x-tag", "well")).await;
    bench.send(&Request::post("/orders").header("x-tag", "unguarded")).await;
    let mut named = Vec::new();
    for tag in ["first", "retry", "other", "well", "unguarded"] {
        let line = bench.envoy.access_log_line(tag).await;
        let name = line.split_once(" operation=").and_then(|(_, rest)| rest.split(' ').next());
        named.push(name.unwrap_or_default().to_owned());
    }
    let [first, retry, other, well, unguarded] = <[String; 5]>::try_from(named).unwrap();
    assert!(first.len() == 12 && first.bytes().all(|digit| digit.is_ascii_hexdigit()), "{first}");
    assert_eq!(retry, first);
    assert_ne!(other, first);
    assert_eq!((well.as_str(), unguarded.as_str()), ("-", "-"));
}

#[tokio::test]
async fn the_log_says_what_is_on_at_the_start_and_after_a_change() {
    let bench = Bench::start(Setup::new(&json!({})).discovered()).await;
    let on = |what: &str| format!("idemgate {} is on: {what}", env!("CARGO_PKG_VERSION"));
    bench.envoy.logs(&on("mode enforce, store shared_data, no routes, callers by header authorization")).await;
    let changed = json!({
        "mode": "shadow",
        "caller": { "identity": [{ "header": "x-user" }] },
        "routes": [{ "match": { "path": "/orders" }, "policy": { "mode": "enforce" } }],
    });
    bench.envoy.reconfigure(&Setup::new(&changed).discovered()).await;
    bench.envoy.logs(&on("mode shadow, store shared_data, 1 route (1 enforce), callers by header x-user")).await;
}

#[tokio::test]
async fn keys_and_callers_are_not_logged() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("secret-key-4711").caller("secret-token-4712");
    bench.send(&request).await;
    bench.send(&request).await;
    bench.send(&request.clone().body("another")).await;
    bench.send(&request.key("secret-key-4711 malformed")).await;
    let (log, stats) = (bench.envoy.log(), bench.envoy.stats_like("idemgate").await);
    for secret in ["secret-key-4711", "secret-token-4712"] {
        assert!(
            !log.contains(secret) && !stats.contains(secret),
            "{secret} is in the log or the stats:\n{log}\n{stats}"
        );
    }
}

#[tokio::test]
async fn the_log_names_the_operations_to_look_at_and_no_more_of_them_than_anybody_reads() {
    let bench = Bench::new(json!({})).await;
    bench.upstream.script("/lost", [Answer::hang_up()]);
    for number in 0..100 {
        bench.send(&Request::post("/lost").key(format!("secret-{number}"))).await;
    }
    bench.envoy.logs("outcomes.unknown (may have run: no conclusive answer was seen)").await;
    bench.envoy.logs("more operations are told of at level debug only").await;
    let log = bench.envoy.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("outcomes.unknown")).collect();
    // A limited number at a time, by each worker; on a slow machine another period may begin.
    assert!((20..100).contains(&told.len()), "{} lines for 100 operations:\n{log}", told.len());
    for line in told {
        let hash = line.split_once("operation ").and_then(|(_, rest)| rest.split(':').next()).unwrap_or_default();
        assert!(hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    }
    assert!(!log.contains("secret-") && !log.contains("requests.executed"), "{log}");
}

#[tokio::test]
async fn every_decision_is_logged_while_the_operator_asks_for_it() {
    let bench = Bench::new(json!({})).await;
    let order = Request::post("/orders").key("k");
    bench.send(&order).await;
    bench.envoy.log_plugins_from("debug").await;
    // Each worker asks the host for its level now and then.
    let expected = [
        "requests.executed (runs)",
        "outcomes.stored (ran; its response is kept)",
        "requests.replayed (answered with the stored response)",
        "idemgate: a request: requests.unguarded (passed on: it has no key)",
    ];
    let all_are_logged = async {
        let mut key = 0;
        while !expected.iter().all(|line| bench.envoy.log().contains(line)) {
            key += 1;
            bench.send(&Request::post("/orders").key(format!("k{key}"))).await;
            bench.send(&order).await;
            bench.send(&Request::post("/orders")).await;
        }
    };
    patiently("a line about each decision", all_are_logged).await;
}

#[tokio::test]
async fn the_store_shows_its_limits_and_how_long_claims_take() {
    let bench = Bench::new(json!({ "store": { "shared_data": { "max_entries": 5000, "max_bytes": "2MiB" } } })).await;
    bench.send(&Request::post("/orders").key("k")).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.entries_limit", 5000).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.bytes_limit", 2 << 20).await;
    // Envoy shows the values of a histogram once it has gathered them from its workers, every few seconds.
    let has_values = async {
        while !bench.envoy.stats_like("wasmcustom.idemgate.store.claim_us").await.contains("P50(") {
            bench.send(&Request::post("/orders").key("k")).await;
        }
    };
    patiently("the time that a claim took", has_values).await;
}

#[tokio::test]
async fn problems_link_to_the_documentation() {
    let bench = Bench::new(json!({ "docs_uri": "https://api.example/docs/idempotency" })).await;
    let response = bench.send(&Request::post("/orders").key("\"")).await;
    assert_problem(&response, 400, "key-invalid");
    assert_eq!(response.text("link"), "<https://api.example/docs/idempotency>; rel=\"describedby\"", "{response:?}");
}

crate::bench::also_detached! {
    every_kind_of_answer_is_counted,
    keys_and_callers_are_not_logged,
    the_access_log_tells_what_became_of_each_request,
}

crate::bench::also_on_remote_stores! {
    direct: {
        every_kind_of_answer_is_counted,
    }
}
