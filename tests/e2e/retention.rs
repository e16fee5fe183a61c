//! How long and how much is kept (contract, sections 2, 4 and 6).

use std::time::Duration;

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, assert_executed, assert_problem, assert_replay_of, assert_retry_after,
};

#[tokio::test]
async fn a_stored_response_is_forgotten_after_its_retention() {
    let bench = Bench::new(json!({ "ttl": "1s" })).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);

    let mut response = bench.send(&request).await;
    while response.text("idempotency-status") == "replayed" {
        assert_replay_of(&first, &response);
        bench.assert_executions(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        response = bench.send(&request).await;
    }
    assert_executed(&response, 201);
    assert_ne!(response.body, first.body);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_full_table_that_evicts_forgets_the_oldest_and_keeps_the_newest() {
    const BOUND: usize = 100;

    let store = json!({ "shared_data": { "max_entries": BOUND, "keep_at_least": "0s" } });
    let bench = Bench::new(json!({ "store": store, "limits": { "caller_share": "100%" } })).await;
    let request = |number: usize| Request::post("/orders").key(format!("k{number}"));
    let mut client = bench.http1().await;
    for number in 0..10 * BOUND {
        assert_executed(&client.send(&request(number)).await, 201);
    }
    bench.assert_executions(10 * BOUND);
    let entries = bench.envoy.stat("wasmcustom.idemgate.store.entries").await;
    assert!(entries.is_some_and(|entries| entries <= BOUND as u64), "{entries:?} entries, at most {BOUND} allowed");

    let newest = bench.send(&request(10 * BOUND - 1)).await;
    assert_eq!(newest.text("idempotency-status"), "replayed", "the newest is forgotten: {newest:?}");
    assert_executed(&bench.send(&request(0)).await, 201);
}

#[tokio::test]
async fn a_full_table_that_rejects_executes_nothing_new() {
    const BOUND: usize = 100;

    let store = json!({ "shared_data": { "max_entries": BOUND, "on_full": "reject" } });
    let bench = Bench::new(json!({ "store": store, "limits": { "caller_share": "100%" } })).await;
    let request = |number: usize| Request::post("/orders").key(format!("k{number}"));
    let mut executed = Vec::new();
    let mut client = bench.http1().await;
    for number in 0..4 * BOUND {
        let response = client.send(&request(number)).await;
        if response.status == 201 {
            assert_executed(&response, 201);
            executed.push((number, response));
        } else {
            assert_problem(&response, 503, "store-full");
            assert_retry_after(&response, u64::from(u32::MAX));
        }
    }
    assert!(!executed.is_empty() && executed.len() <= BOUND, "{} of at most {BOUND} executed", executed.len());
    bench.assert_executions(executed.len());
    // None of what was let in is lost.
    for (number, first) in &executed {
        assert_replay_of(first, &client.send(&request(*number)).await);
    }
    bench.assert_executions(executed.len());
}

#[tokio::test]
async fn a_full_table_keeps_what_ended_a_moment_ago_and_refuses_what_is_new() {
    let store = json!({ "shared_data": { "max_entries": 50 } });
    let bench = Bench::new(json!({ "store": store, "limits": { "caller_share": "100%" } })).await;
    let request = |number: usize| Request::post("/orders").key(format!("k{number}"));
    let mut client = bench.http1().await;
    let mut first = Vec::new();
    for number in 0..50 {
        first.push(client.send(&request(number)).await);
        assert_executed(&first[number], 201);
    }
    for number in 50..60 {
        let refused = client.send(&request(number)).await;
        assert_problem(&refused, 503, "store-full");
        assert_retry_after(&refused, u64::from(u32::MAX));
    }
    for (number, first) in first.iter().enumerate() {
        assert_replay_of(first, &client.send(&request(number)).await);
    }
    bench.assert_executions(50);
    assert_eq!(bench.envoy.stat("wasmcustom.idemgate.store.evicted").await, Some(0));
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.horizon_s", 0).await;
}

#[tokio::test]
async fn a_table_that_forgets_says_so_and_promises_no_more_than_it_keeps() {
    let store = json!({ "shared_data": { "max_entries": 20, "keep_at_least": "1s" } });
    let bench = Bench::new(json!({ "store": store, "limits": { "caller_share": "100%" } })).await;
    let request = |number: usize| Request::post("/orders").key(format!("k{number}"));
    let mut client = bench.http1().await;
    client.send(&request(0)).await;
    let promised = client.send(&request(0)).await.text("idempotency-expires");
    // A new one finds room as soon as an old one has been there for a second.
    let mut runs = 1;
    let all_run = async {
        while runs < 30 {
            let response = client.send(&request(runs)).await;
            if response.status == 201 {
                runs += 1;
            } else {
                assert_problem(&response, 503, "store-full");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    crate::bench::patiently("room for what is new", all_run).await;

    bench.envoy.logs("store.shared_data is full and forgets keys").await;
    let is_shown = async {
        while bench.envoy.stat("wasmcustom.idemgate.store.horizon_s").await.unwrap_or_default() == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    crate::bench::patiently("the horizon", is_shown).await;
    // Each worker knows after its next tick; from then on it promises the second that is certain.
    let is_told = async {
        loop {
            let replayed = bench.send(&request(29)).await;
            assert_eq!(replayed.text("idempotency-status"), "replayed");
            if replayed.text("idempotency-expires") < promised {
                return;
            }
        }
    };
    crate::bench::patiently("an honest expiry", is_told).await;
    assert_eq!(bench.envoy.log().matches("store.shared_data is full").count(), 1);
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.evicted", 10).await;
    assert_eq!(bench.envoy.stat("wasmcustom.idemgate.store.dropped_responses").await, Some(0));
}

#[tokio::test]
async fn claims_in_flight_are_never_evicted() {
    const BOUND: usize = 100;

    let bench = Bench::new(json!({
        "store": { "shared_data": { "max_entries": BOUND } },
        "limits": { "caller_share": "100%" },
    }))
    .await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = |number: usize| Request::post("/orders").key(format!("k{number}"));
    let tasks: Vec<_> = (0..3 * BOUND).map(|number| bench.send_aside(Protocol::Http1, &request(number))).collect();

    // Each is either held by the upstream or refused; then nothing can change any more.
    let refused = async {
        loop {
            let finished = tasks.iter().filter(|task| task.is_finished()).count();
            if finished + bench.upstream.executions() == tasks.len() {
                return finished;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = crate::bench::patiently("a decision on every request", refused).await;
    assert!(refused >= 2 * BOUND, "{refused} refused, so more than {BOUND} claims are alive");
    for number in 0..3 * BOUND {
        let key = format!("k{number}");
        if bench.upstream.executions_of(&key) == 1 {
            assert_problem(&bench.send(&request(number)).await, 409, "request-in-flight");
        }
    }

    gate.open();
    for (number, task) in tasks.into_iter().enumerate() {
        let response = task.await.unwrap();
        match bench.upstream.executions_of(&format!("k{number}")) {
            0 => {
                assert_problem(&response, 503, "store-full");
            }
            executions => {
                assert_executed(&response, 201);
                assert_eq!(executions, 1, "executions of k{number}");
            }
        }
    }
}

#[tokio::test]
async fn under_byte_pressure_bodies_go_first_and_nothing_executes_twice() {
    let store = json!({ "shared_data": { "max_bytes": "1MiB" } });
    let bench = Bench::new(json!({ "store": store, "limits": { "caller_share": "100%" } })).await;
    bench.upstream.script("/reports", [Answer::new(201).body(vec![b'r'; 50_000])]);
    let request = |number: usize| Request::post("/reports").key(format!("k{number}"));
    let mut client = bench.http1().await;
    for number in 0..100 {
        assert_executed(&client.send(&request(number)).await, 201);
    }
    let bytes = bench.envoy.stat("wasmcustom.idemgate.store.bytes").await;
    assert!(bytes.is_some_and(|bytes| bytes <= 1 << 20), "{bytes:?} bytes kept, at most 1 MiB allowed");

    let mut tombstones = 0;
    for number in 0..100 {
        let retry = client.send(&request(number)).await;
        if retry.status == 201 {
            assert_eq!(retry.text("idempotency-status"), "replayed", "{retry:?}");
            assert_eq!(retry.body.len(), 50_000, "{retry:?}");
        } else {
            assert_eq!(assert_problem(&retry, 409, "response-not-kept")["original_status"], 201, "{retry:?}");
            tombstones += 1;
        }
    }
    assert!((1..100).contains(&tombstones), "{tombstones} of 100 bodies of 50 kB left a table of 1 MiB");
    bench.assert_executions(100);
}

crate::bench::also_detached! {
    a_full_table_that_evicts_forgets_the_oldest_and_keeps_the_newest,
    a_full_table_that_rejects_executes_nothing_new,
    a_stored_response_is_forgotten_after_its_retention,
    claims_in_flight_are_never_evicted,
    under_byte_pressure_bodies_go_first_and_nothing_executes_twice,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_stored_response_is_forgotten_after_its_retention,
    }
}
