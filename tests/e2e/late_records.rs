//! What is recorded late: a store that takes no writes for longer than a claim lives, and what is known of the operations
//! that ended meanwhile.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    bench::{
        Answer, Bench, Gate, Reply, Request, Response, Setup, Transport, assert_executed, assert_problem,
        assert_replay_of, patiently,
    },
    crowds::Crowd,
};

/// How long a claim lives without its owner.
const LEASE: Duration = Duration::from_secs(1);

const ENDS: usize = 12;

/// Requests that ended while Redis took no writes, and whose claims could live no longer.
struct Late {
    bench: Bench,
    first: Vec<(usize, Response)>,
}

fn order(key: usize) -> Request {
    Request::post("/orders").key(format!("key-{key}"))
}

impl Late {
    async fn after_the_lease(transport: Transport, mut configuration: Value, ends: usize, body: &[u8]) -> Self {
        configuration["lease"] = json!("1s");
        let bench = Bench::start(Setup::redis(transport, &configuration)).await;
        let gate = Gate::closed();
        bench.upstream.script("/orders", [Answer::new(201).body(body).held_by(&gate)]);
        let crowd = Crowd::send(bench.envoy.address(), ends, order).await;
        bench.upstream.reached(ends).await;
        let redis = bench.redis.as_ref().unwrap();
        // As if its only replica had gone.
        redis.must(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
        gate.open();
        let mut first = crowd.responses().await;
        first.iter().for_each(|(_, response)| assert_executed(response, 201));
        first.sort_by_key(|(number, _)| *number);
        let late = Self { bench, first };
        // Until no claim of theirs lives any longer, and for as long again.
        tokio::time::sleep(3 * LEASE).await;
        late
    }

    /// Waits until a retry is told this.
    async fn reaches(&self, number: usize, status: &str) -> Response {
        patiently(status, async {
            loop {
                let response = self.bench.send(&order(number)).await;
                if response.text("idempotency-status") == status {
                    return response;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    async fn recover(&self) {
        self.bench.redis.as_ref().unwrap().must(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    }
}

async fn what_was_answered_is_replayed(transport: Transport, configuration: Value) {
    let late = Late::after_the_lease(transport, configuration, ENDS, b"an answer").await;
    for number in 0..ENDS {
        assert_problem(&late.bench.send(&order(number)).await, 409, "outcome-unknown");
    }
    late.recover().await;
    for (number, first) in &late.first {
        assert_replay_of(first, &late.reaches(*number, "replayed").await);
    }
    late.bench.assert_executions(ENDS);
    // It is kept for its whole time: how much of that is over only the clock of an Envoy could tell.
    let redis = late.bench.redis.as_ref().unwrap();
    for key in redis.keys().await {
        let Reply::Integer(left) = redis.must(&[b"PTTL", key.as_slice()]).await else { panic!("no number") };
        assert!((86_400_000 - 600_000..=86_400_000).contains(&left), "{left} ms");
    }
}

#[tokio::test]
async fn what_was_answered_while_redis_took_no_writes_is_replayed_over_direct_connections() {
    what_was_answered_is_replayed(Transport::Direct, json!({})).await;
}

#[tokio::test]
async fn what_was_answered_while_redis_took_no_writes_is_replayed_over_pooled_connections() {
    what_was_answered_is_replayed(Transport::Pooled, json!({})).await;
}

#[tokio::test]
async fn what_a_detached_call_was_answered_meanwhile_is_replayed() {
    what_was_answered_is_replayed(Transport::Direct, json!({ "execution": { "mode": "detached" } })).await;
}

#[tokio::test]
async fn a_release_is_recorded_late_as_well() {
    let bench = Bench::start(Setup::redis(Transport::Direct, &json!({ "lease": "1s" }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(503).body("busy").held_by(&gate), Answer::new(201).body("done")]);
    let crowd = Crowd::send(bench.envoy.address(), 1, order).await;
    bench.upstream.reached(1).await;
    let redis = bench.redis.as_ref().unwrap();
    redis.must(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    gate.open();
    let responses = crowd.responses().await;
    assert_eq!(responses[0].1.status, 503);
    let late = Late { bench, first: responses };
    assert_problem(&late.reaches(0, "unknown").await, 409, "outcome-unknown");
    tokio::time::sleep(2 * LEASE).await;
    late.recover().await;
    assert_executed(&late.reaches(0, "executed").await, 201);
    late.bench.assert_executions(2);
}

/// The execution that ran anew because the outcome was unknown decides the record.
#[tokio::test]
async fn another_execution_of_an_unknown_operation_is_not_overwritten() {
    let configuration = json!({ "outcome": { "on_unknown": "retry" } });
    let late = Late::after_the_lease(Transport::Direct, configuration, ENDS, b"the first").await;
    let redis = late.bench.redis.as_ref().unwrap();
    // Another Envoy, which asks before this one notices that Redis takes writes again.
    let (keys, bench) = (redis.keys().await, &late.bench);
    assert_eq!(keys.len(), ENDS);
    bench.envoy.pause();
    late.recover().await;
    let setup = Setup::redis(Transport::Direct, &json!({ "lease": "1s", "outcome": { "on_unknown": "retry" } }));
    bench.upstream.script("/orders", [Answer::new(201).body("the second")]);
    let other = crate::bench::Envoy::in_front_of(&bench.upstream, &setup, vec![redis.address()]).await;
    let mut second = Vec::new();
    for number in 0..ENDS {
        second.push(other.send(&order(number)).await);
        assert_executed(&second[number], 201);
    }
    bench.envoy.resume();
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.fenced", ENDS as u64).await;
    for (number, second) in second.iter().enumerate() {
        assert_replay_of(second, &bench.send(&order(number)).await);
    }
    bench.assert_executions(2 * ENDS);
}

/// A quarter of them is more than what may be kept in memory.
#[tokio::test]
async fn what_no_memory_is_left_for_is_given_up_counted_and_logged() {
    const UNRECORDED: &str = "wasmcustom.idemgate.outcomes.unrecorded";
    const STORED: &str = "wasmcustom.idemgate.outcomes.stored";
    const MANY: usize = 24;

    let configuration = json!({ "limits": { "memory": "4MiB" } });
    let late = Late::after_the_lease(Transport::Pooled, configuration, MANY, &[b'x'; 100_000]).await;
    late.recover().await;
    let count = async |name| late.bench.envoy.stat(name).await.unwrap_or_default();
    patiently("the records", async {
        while count(STORED).await + count(UNRECORDED).await < MANY as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut unknown = 0;
    for (number, first) in &late.first {
        let retry = late.bench.send(&order(*number)).await;
        if retry.status == 201 {
            assert_replay_of(first, &retry);
        } else {
            assert_problem(&retry, 409, "outcome-unknown");
            unknown += 1;
        }
    }
    assert!((1..MANY as u64 / 2).contains(&unknown), "{unknown}");
    late.bench.envoy.reaches_stat(UNRECORDED, unknown).await;
    late.bench.envoy.logs("outcomes.unrecorded").await;
    late.bench.assert_executions(MANY);
    late.bench.envoy.reaches_stat("wasmcustom.idemgate.memory_bytes", 0).await;
}
