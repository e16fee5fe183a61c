//! Bursts: more requests at once than the way to Redis carries at once, with the settings that users have.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    bench::{Answer, Bench, Gate, Request, Response, Setup, Transport, patiently},
    crowds::Crowd,
};

const WAITING: &str = "wasmcustom.idemgate.waiting";

/// The store with its default timeout, which other tests lengthen.
async fn bench(transport: Transport, mut configuration: Value) -> Bench {
    configuration["store"] = json!({ "redis": { "timeout": "500ms" } });
    Bench::start(Setup::redis(transport, &configuration)).await
}

fn order(key: usize) -> Request {
    Request::post("/orders").key(format!("key-{key}"))
}

/// How many responses there are of each status and word.
fn tally(responses: &[(usize, Response)]) -> BTreeMap<(u16, String), usize> {
    let mut tally = BTreeMap::new();
    for (_, response) in responses {
        *tally.entry((response.status, response.text("idempotency-status"))).or_default() += 1;
    }
    tally
}

/// A machine that stands still for longer than the timeout spoils a burst; one of three has to go well.
async fn a_thousand_new_keys_run(transport: Transport) {
    let bench = bench(transport, json!({})).await;
    let mut ran = 0;
    for burst in 0..3 {
        let key = |number| order(burst * 1_000 + number);
        let before = bench.upstream.executions();
        let responses = Crowd::send(bench.envoy.address(), 1_000, key).await.responses().await;
        let tally = tally(&responses);
        println!("{transport:?}: {tally:?}\n{}", bench.envoy.stats_like("idemgate.store.errors").await);
        ran = tally.get(&(201, "executed".to_owned())).copied().unwrap_or_default();
        assert_eq!(bench.upstream.executions(), before + ran);
        // A refused request runs when it is sent again, and no other does.
        for (number, response) in responses.iter().filter(|(_, response)| response.status != 201) {
            assert_eq!(response.status, 503, "{response:?}");
            let again = bench.send_once_settled(&key(*number)).await;
            assert_eq!(again.status, 201, "{again:?}");
        }
        assert_eq!(bench.upstream.executions(), before + 1_000);
        if ran >= 990 {
            break;
        }
    }
    assert!(ran >= 990, "{ran}");
}

async fn duplicates_join(transport: Transport) {
    let waiting = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s", "max_waiting": 20_000 } });
    let bench = Bench::start(Setup::redis(transport, &waiting)).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let crowd = Crowd::send(bench.envoy.address(), 4_000, |number| order(number % 100)).await;
    patiently("nearly all of them", async {
        while bench.envoy.stat(WAITING).await < Some(3_800) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    gate.open();
    let tally = tally(&crowd.responses().await);
    println!("{transport:?}: {tally:?}");
    let count = |status, word: &str| tally.get(&(status, word.to_owned())).copied().unwrap_or_default();
    assert_eq!(count(201, "executed"), 100, "{tally:?}");
    assert!(count(201, "replayed") >= 3_800, "{tally:?}");
    // A busy machine makes a connection too late now and then.
    assert_eq!(count(201, "executed") + count(201, "replayed") + count(503, "rejected"), 4_000, "{tally:?}");
    bench.assert_executions(100);
}

#[tokio::test]
async fn a_store_that_says_nothing_has_everybody_refused_soon_and_nothing_runs() {
    let bench = bench(Transport::Direct, json!({ "lease": "2s" })).await;
    assert_eq!(bench.send(&order(9_999)).await.status, 201);
    let redis = bench.redis.as_ref().unwrap();
    redis.pause();
    let tally = tally(&Crowd::send(bench.envoy.address(), 1_000, order).await.responses().await);
    assert_eq!(tally, BTreeMap::from([((503, "rejected".into()), 1_000)]));
    bench.assert_executions(1);
    redis.resume();
    let retried = patiently("the store", async {
        loop {
            let retried = bench.send_once_settled(&order(0)).await;
            if retried.status == 201 {
                return retried;
            }
        }
    })
    .await;
    assert_eq!(retried.text("idempotency-status"), "executed", "{retried:?}");
    assert!(bench.envoy.stat("wasmcustom.idemgate.store.errors.overloaded").await > Some(0));
}

#[tokio::test]
async fn a_thousand_new_keys_at_once_run_over_direct_connections() {
    a_thousand_new_keys_run(Transport::Direct).await;
}

#[tokio::test]
async fn a_thousand_new_keys_at_once_run_over_pooled_connections() {
    a_thousand_new_keys_run(Transport::Pooled).await;
}

#[tokio::test]
async fn a_burst_of_duplicates_joins_the_first_of_each_over_direct_connections() {
    duplicates_join(Transport::Direct).await;
}

#[tokio::test]
async fn a_burst_of_duplicates_joins_the_first_of_each_over_pooled_connections() {
    duplicates_join(Transport::Pooled).await;
}
