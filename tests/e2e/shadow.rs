//! Shadow mode: every decision is counted, and nothing on the wire changes (contract, section 2, `mode`).

use serde_json::{Value, json};

use crate::bench::{
    Answer, Bench, Fleet, Gate, Protocol, RedisServer, Request, Response, Setup, Transport, assert_executed,
    assert_problem, assert_replay_of, assert_unguarded, patiently,
};

fn shadow() -> Value {
    json!({ "mode": "shadow" })
}

async fn reaches(bench: &Bench, counts: &[(&str, u64)]) {
    for (name, count) in counts {
        bench.envoy.reaches_stat(&format!("wasmcustom.idemgate.shadow.{name}"), *count).await;
    }
}

type Visible = (u16, Vec<(String, Vec<u8>)>, Vec<u8>);

/// What a client can see of a response, without the fields that differ from one to the next by themselves.
fn seen_by_client(response: &Response) -> Visible {
    let changing = ["date", "x-envoy-upstream-service-time"];
    let fields = response.headers.iter().filter(|(name, _)| !changing.contains(&name.as_str()));
    (response.status, fields.map(|(name, value)| (name.clone(), value.clone())).collect(), response.body.clone())
}

#[tokio::test]
async fn what_client_and_upstream_see_is_what_they_see_without_the_filter() {
    let mut everything = Vec::new();
    for configuration in [json!({ "mode": "off" }), json!({ "mode": "shadow", "key": { "required": true } })] {
        let bench = Bench::new(configuration).await;
        bench.upstream.script("/steered", [Answer::new(201).header("idempotency-policy", "no-store").json("{}")]);
        bench.upstream.script("/down", [Answer::new(503).body("down"), Answer::new(503).body("down")]);
        bench.upstream.script("/large", [Answer::new(200).body(vec![b'x'; 2_000_000])]);
        let order = Request::post("/orders").key("k").body("{\"item\":1}");
        let mut responses = Vec::new();
        for request in [
            order.clone(),
            order.clone(),
            order.clone().body("another"),
            order.clone().key("\"malformed"),
            order.clone().chunked(),
            Request::post("/orders"),
            Request::post("/steered").key("k"),
            Request::post("/down").key("k"),
            Request::post("/down").key("k"),
            Request::post("/large").key("k").body(vec![b'x'; 2_000_000]),
            Request::get("/orders").key("k"),
        ] {
            for protocol in Protocol::BOTH {
                responses.push(seen_by_client(&bench.send_over(protocol, &request).await));
            }
        }
        let seen: Vec<_> = bench
            .upstream
            .seen()
            .into_iter()
            .map(|seen| (seen.header("idempotency-key").map(<[u8]>::to_vec), seen.body))
            .collect();
        everything.push((responses, seen));
    }
    let (shadowed, off) = (everything.pop().unwrap(), everything.pop().unwrap());
    assert_eq!(shadowed, off);
}

#[tokio::test]
async fn every_decision_is_counted_and_every_request_runs() {
    let bench = Bench::new(json!({
        "mode": "shadow", "key": { "required": true }, "limits": { "request_body": "1KiB" },
    }))
    .await;
    let order = Request::post("/orders").key("k");
    let requests = [
        order.clone(),
        order.clone(),
        order.clone().body("another"),
        order.key("\""),
        Request::post("/orders"),
        Request::post("/orders").key("big").body(vec![b'x'; 2_000]),
    ];
    for request in &requests {
        assert_unguarded(&bench.send(request).await, 201);
    }
    bench.assert_executions(requests.len());
    reaches(
        &bench,
        &[
            ("requests.executed", 1),
            ("requests.replayed", 1),
            ("requests.key_reused", 1),
            ("requests.key_invalid", 1),
            ("requests.key_missing", 1),
            ("requests.too_large", 1),
            ("outcomes.stored", 1),
            ("store.entries", 1),
        ],
    )
    .await;
    let enforced = bench.envoy.stats_like("wasmcustom.idemgate.requests").await;
    assert!(enforced.lines().all(|line| line.ends_with(": 0")), "counted as enforced:\n{enforced}");
    bench.envoy.logs("key.required refuses nothing while mode is \"shadow\"").await;
}

#[tokio::test]
async fn neither_body_is_held_on_its_way() {
    let bench = Bench::new(shadow()).await;
    let gate = Gate::closed();
    bench.upstream.script("/upload", [Answer::new(200).chunk("early;").then_held_by(&gate).chunk("late")]);
    let mut client = bench.http1().await;
    client.write(b"POST /upload HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\ncontent-length: 4\r\n\r\nfi").await;
    // What the filter held would not have got there: the body has not ended.
    bench.upstream.reached(1).await;
    client.write(b"st").await;
    client.sees(b"early;").await;
    gate.open();
    let response = client.response_to("POST").await;
    assert_unguarded(&response, 200);
    assert_eq!(response.body, b"early;late");
    reaches(&bench, &[("requests.executed", 1), ("outcomes.stored", 1)]).await;
}

#[tokio::test]
async fn a_host_that_withholds_bodies_is_no_hindrance() {
    let bench = Bench::start(Setup::new(&shadow()).without_stop_iteration()).await;
    for _ in 0..2 {
        assert_unguarded(&bench.send(&Request::post("/orders").key("k").body("{}")).await, 201);
    }
    reaches(&bench, &[("requests.executed", 1), ("requests.replayed", 1)]).await;
}

#[tokio::test]
async fn an_unknown_outcome_and_a_departed_client_are_recorded_and_refuse_nobody() {
    let bench = Bench::new(shadow()).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::hang_up(), Answer::new(201).json("{}"), Answer::new(201).held_by(&gate)]);
    let order = Request::post("/orders").key("k");
    assert_unguarded(&bench.send(&order).await, 503);
    assert_unguarded(&bench.send(&order).await, 201);
    let mut client = bench.http1().await;
    client.begin(&Request::post("/orders").key("left")).await;
    bench.upstream.reached(3).await;
    client.hang_up();
    gate.open();
    reaches(&bench, &[("requests.executed", 2), ("requests.unknown", 1), ("outcomes.unknown", 2)]).await;
}

#[tokio::test]
async fn the_access_log_has_a_word_of_its_own() {
    let bench = Bench::new(shadow()).await;
    bench.send(&Request::post("/orders").key("k").header("x-tag", "first")).await;
    let line = bench.envoy.access_log_line("first").await;
    assert!(line.contains(" status=- ") && line.contains("via_upstream"), "{line}");
}

#[tokio::test]
async fn enforcing_begins_without_the_records_of_the_shadow() {
    let before = Setup::new(&shadow()).discovered();
    let bench = Bench::start(before).await;
    let order = Request::post("/orders").key("k");
    assert_unguarded(&bench.send(&order).await, 201);
    reaches(&bench, &[("outcomes.stored", 1)]).await;
    bench.envoy.reconfigure(&Setup::new(&json!({})).discovered()).await;
    let first = bench.send(&order).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&order).await);
}

#[tokio::test]
async fn the_records_of_a_shadow_crowd_out_none_that_are_enforced() {
    let bench = Bench::new(json!({
        "store": { "shared_data": { "max_entries": 20, "keep_at_least": "0s" } },
        "routes": [{ "match": { "path": "/tried/**" }, "policy": { "mode": "shadow" } }],
    }))
    .await;
    let order = Request::post("/orders").key("k");
    let first = bench.send(&order).await;
    assert_executed(&first, 201);
    for number in 0..100 {
        assert_unguarded(&bench.send(&Request::post("/tried/it").key(format!("k{number}"))).await, 201);
    }
    assert_replay_of(&first, &bench.send(&order).await);
    let evicted = bench.envoy.stat("wasmcustom.idemgate.shadow.store.evicted").await;
    assert!(evicted.is_some_and(|evicted| evicted > 0), "{evicted:?} records of the shadow evicted");
    assert_eq!(bench.envoy.stat("wasmcustom.idemgate.store.evicted").await, Some(0));
}

#[tokio::test]
async fn a_redis_that_stands_still_delays_nobody() {
    let bench = Bench::start(Setup::redis(
        Transport::Direct,
        &json!({
            "mode": "shadow", "store": { "redis": { "timeout": "5s" } },
        }),
    ))
    .await;
    let redis = bench.redis.as_ref().unwrap();
    redis.pause();
    let order = Request::post("/orders").key("k").body("{\"item\":1}");
    assert_unguarded(&bench.send(&order).await, 201);
    // It was complete, and the store has not said a word yet.
    assert_eq!(bench.envoy.stat("wasmcustom.idemgate.shadow.requests.executed").await, Some(0));
    redis.resume();
    // The answer had passed by before it was decided that it counts.
    reaches(&bench, &[("requests.executed", 1), ("outcomes.stored", 1)]).await;
    assert_unguarded(&bench.send(&order).await, 201);
    reaches(&bench, &[("requests.replayed", 1)]).await;
    let keys = redis.keys().await;
    assert!(keys.iter().all(|key| key.starts_with(b"idemgate:shadow:")), "{keys:?}");
}

#[tokio::test]
async fn a_shadow_on_one_envoy_decides_nothing_on_another_of_the_same_redis() {
    let redis = RedisServer::start().await;
    let (shadowed, enforced) =
        (Setup::redis(Transport::Direct, &shadow()), Setup::redis(Transport::Direct, &json!({})));
    let fleet = Fleet::of([&shadowed, &enforced], vec![redis.address()]).await;
    let order = Request::post("/orders").key("k");
    assert_unguarded(&fleet.envoys[0].send(&order).await, 201);
    fleet.envoys[0].reaches_stat("wasmcustom.idemgate.shadow.outcomes.stored", 1).await;
    let first = fleet.envoys[1].send(&order).await;
    assert_executed(&first, 201);
    assert_unguarded(&fleet.envoys[0].send(&order.clone().body("another")).await, 201);
    assert_replay_of(&first, &fleet.envoys[1].send(&order).await);
    assert_problem(&fleet.envoys[1].send(&order.body("another")).await, 422, "key-reused");
}

#[tokio::test]
async fn duplicates_are_not_kept_waiting_and_nothing_runs_apart() {
    let bench = Bench::new(json!({
        "mode": "shadow", "duplicates": { "in_flight": "wait" }, "execution": { "mode": "detached" },
    }))
    .await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(201).json("{}")]);
    let order = Request::post("/orders").key("k");
    let first = bench.send_aside(Protocol::Http1, &order);
    bench.upstream.reached(1).await;
    assert_unguarded(&patiently("the duplicate's answer", bench.send(&order)).await, 201);
    gate.open();
    assert_unguarded(&first.await.unwrap(), 201);
    reaches(&bench, &[("requests.in_flight", 1), ("outcomes.stored", 1), ("waiting", 0), ("detached", 0)]).await;
    bench.assert_executions(2);
}
