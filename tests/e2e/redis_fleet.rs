//! Two Envoys on one Redis are one to their clients (contract, sections 4 and 6).

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{
    Answer, Fleet, Gate, Protocol, RedisServer, Request, Response, SECRET, Setup, Transport, assert_executed,
    assert_in_flight, assert_problem, assert_replay_of, patiently, refusal,
};

const WAYS: [Transport; 3] = [Transport::Direct, Transport::Streams, Transport::Pooled];
const WAITING: &str = "wasmcustom.idemgate.waiting";
/// Nothing that Redis has acknowledged is lost with it.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn order() -> Request {
    Request::post("/orders").key("k")
}

async fn fleet(transport: Transport, configuration: &Value) -> (RedisServer, Fleet) {
    let redis = RedisServer::with(&DURABLE).await;
    let fleet = Fleet::start(&Setup::redis(transport, configuration), vec![redis.address()]).await;
    (redis, fleet)
}

#[tokio::test]
async fn a_retry_at_the_other_envoy_gets_the_first_response() {
    for transport in WAYS {
        let (redis, fleet) = fleet(transport, &json!({})).await;
        let [here, there] = &fleet.envoys;
        let answer = Answer::new(201)
            .header("location", "/orders/1")
            .header("link", "</a>")
            .header("link", "</b>")
            .body((0..=255).collect::<Vec<u8>>());
        fleet.upstream.script("/orders", [answer, Answer::new(299)]);
        let first = here.send(&order()).await;
        assert_executed(&first, 201);
        for envoy in [there, here, there] {
            assert_replay_of(&first, &envoy.send_over(Protocol::Http2, &order()).await);
        }
        assert_problem(&there.send(&order().body("another")).await, 422, "key-reused");
        fleet.upstream.assert_executions(1);
        assert_eq!(redis.keys().await.len(), 1);
    }
}

#[tokio::test]
async fn a_retry_after_every_envoy_and_redis_were_restarted_gets_the_first_response() {
    let setup = Setup::redis(Transport::Direct, &json!({}));
    let mut redis = RedisServer::with(&DURABLE).await;
    let mut fleet = Fleet::start(&setup, vec![redis.address()]).await;
    let first = fleet.envoys[0].send(&order()).await;
    assert_executed(&first, 201);
    redis.kill();
    for envoy in &mut fleet.envoys {
        envoy.kill();
    }
    redis.restart().await;
    for envoy in &mut fleet.envoys {
        envoy.replace(&setup).await;
        assert_replay_of(&first, &envoy.send(&order()).await);
    }
    fleet.upstream.assert_executions(1);
}

#[tokio::test]
async fn a_duplicate_at_the_other_envoy_is_told_when_to_come_back() {
    let (_redis, fleet) = fleet(Transport::Direct, &json!({})).await;
    let [here, there] = &fleet.envoys;
    let gate = Gate::closed();
    fleet.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let first = here.send_aside(Protocol::Http1, &order());
    fleet.upstream.reached(1).await;
    for envoy in [there, here] {
        assert_in_flight(&envoy.send(&order()).await, 30);
        assert_problem(&envoy.send(&order().body("another")).await, 422, "key-reused");
    }
    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    assert_replay_of(&first, &there.send(&order()).await);
    fleet.upstream.assert_executions(1);
}

#[tokio::test]
async fn those_who_wait_at_the_other_envoy_get_the_answer() {
    const WAITERS: usize = 40;

    let (redis, fleet) = fleet(Transport::Pooled, &waiting()).await;
    let [here, there] = &fleet.envoys;
    let gate = Gate::closed();
    fleet.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let first = here.send_aside(Protocol::Http1, &order());
    fleet.upstream.reached(1).await;
    let waiters: Vec<_> = (0..WAITERS).map(|number| there.send_aside(Protocol::BOTH[number % 2], &order())).collect();
    there.reaches_stat(WAITING, WAITERS as u64).await;

    // The Envoy asks for the key, not each of those who wait at it.
    let before = redis.calls_of(&["eval"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let polls = redis.calls_of(&["eval"]).await - before;
    println!("{polls} polls for {WAITERS} who wait, in a second");
    assert!(polls < WAITERS as u64, "{polls} polls in a second for {WAITERS} who wait for one key");

    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    for waiter in waiters {
        assert_replay_of(&first, &waiter.await.unwrap());
    }
    there.reaches_stat(WAITING, 0).await;
    fleet.upstream.assert_executions(1);
}

#[tokio::test]
async fn when_the_first_is_released_one_of_those_who_wait_anywhere_takes_over() {
    let (_redis, fleet) = fleet(Transport::Direct, &waiting()).await;
    let [here, there] = &fleet.envoys;
    let gates = [Gate::closed(), Gate::closed()];
    fleet.upstream.script(
        "/orders",
        [Answer::new(503).held_by(&gates[0]), Answer::new(201).json("{}").held_by(&gates[1]), Answer::new(299)],
    );
    let first = here.send_aside(Protocol::Http1, &order());
    fleet.upstream.reached(1).await;
    let waiters: Vec<_> =
        (0..20).map(|number| fleet.envoys[number % 2].send_aside(Protocol::Http1, &order())).collect();
    here.reaches_stat(WAITING, 10).await;
    there.reaches_stat(WAITING, 10).await;
    gates[0].open();
    assert_eq!(first.await.unwrap().status, 503);
    fleet.upstream.reached(2).await;
    gates[1].open();
    let mut responses: Vec<Response> = Vec::new();
    for waiter in waiters {
        responses.push(waiter.await.unwrap());
    }
    let (executed, replays): (Vec<_>, Vec<_>) =
        responses.iter().partition(|response| response.text("idempotency-status") == "executed");
    assert_eq!(executed.len(), 1, "{executed:?}");
    for replay in replays {
        assert_replay_of(executed[0], replay);
    }
    fleet.upstream.assert_executions(2);
}

#[tokio::test]
async fn an_unknown_outcome_is_unknown_at_the_other_envoy_too() {
    let (_redis, fleet) = fleet(Transport::Direct, &json!({})).await;
    let [here, there] = &fleet.envoys;
    fleet.upstream.script("/orders", [Answer::hang_up(), Answer::new(299)]);
    assert_eq!(here.send(&order()).await.text("idempotency-status"), "unknown");
    for envoy in [there, here] {
        assert_problem(&envoy.send_once_settled(&order()).await, 409, "outcome-unknown");
    }
    fleet.upstream.assert_executions(1);
}

#[tokio::test]
async fn the_claim_of_a_dead_envoy_ends_with_its_lease() {
    for (on_unknown, transport) in [("block", Transport::Direct), ("retry", Transport::Pooled)] {
        let configuration = json!({ "lease": "3s", "outcome": { "on_unknown": on_unknown } });
        let (_redis, mut fleet) = fleet(transport, &configuration).await;
        let gate = Gate::closed();
        fleet.upstream.script("/orders", [Answer::new(201).held_by(&gate), Answer::new(201).json("{}")]);
        let first = fleet.envoys[0].send_aside(Protocol::Http1, &order());
        fleet.upstream.reached(1).await;
        first.abort();
        fleet.envoys[0].kill();
        assert_in_flight(&fleet.envoys[1].send(&order()).await, 3);
        fleet.upstream.assert_executions(1);
        let retry = fleet.envoys[1].send_once_settled(&order()).await;
        if on_unknown == "block" {
            assert_problem(&retry, 409, "outcome-unknown");
            fleet.upstream.assert_executions(1);
        } else {
            assert_executed(&retry, 201);
            assert_replay_of(&retry, &fleet.envoys[1].send(&order()).await);
            fleet.upstream.assert_executions(2);
        }
        gate.open();
    }
}

#[tokio::test]
async fn a_claim_that_was_won_for_a_client_that_has_gone_is_released() {
    for transport in WAYS {
        let (redis, fleet) = fleet(transport, &json!({})).await;
        let [here, there] = &fleet.envoys;
        redis.pause();
        let first = here.send_aside(Protocol::Http1, &order());
        here.reaches_stat("http.ingress.downstream_rq_active", 1).await;
        first.abort();
        here.reaches_stat("http.ingress.downstream_rq_active", 0).await;
        redis.resume();
        let retry = there.send_once_settled(&order()).await;
        assert_executed(&retry, 201);
        assert_replay_of(&retry, &here.send(&order()).await);
        fleet.upstream.assert_executions(1);
    }
}

#[tokio::test]
async fn the_end_of_a_response_waits_for_its_record() {
    let (redis, fleet) = fleet(Transport::Direct, &json!({})).await;
    let [here, there] = &fleet.envoys;
    let gate = Gate::closed();
    fleet.upstream.script("/orders", [Answer::new(201).json("{\"paid\":true}").held_by(&gate), Answer::new(299)]);
    let first = here.send_aside(Protocol::Http1, &order());
    fleet.upstream.reached(1).await;
    redis.pause();
    gate.open();
    here.reaches_stat("cluster.upstream.upstream_rq_active", 0).await;
    assert!(!first.is_finished(), "answered before the record can be there");
    redis.resume();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    // A client that has the whole response can count on its replay, at whichever Envoy it retries.
    assert_replay_of(&first, &there.send(&order()).await);
    fleet.upstream.assert_executions(1);
}

#[tokio::test]
async fn an_envoy_that_dies_before_redis_has_the_record_never_lets_it_run_again() {
    for redis_dies in [false, true] {
        let configuration = json!({ "lease": "3s", "store": { "redis": { "timeout": "300ms" } } });
        let (mut redis, mut fleet) = fleet(Transport::Direct, &configuration).await;
        let gate = Gate::closed();
        fleet.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
        let first = fleet.envoys[0].send_aside(Protocol::Http1, &order());
        fleet.upstream.reached(1).await;
        // What was sent to a server that stands still is read when it goes on, although the sender has died.
        if redis_dies {
            redis.kill();
        } else {
            redis.pause();
        }
        gate.open();
        let delivered = patiently("the answer", first).await.unwrap();
        assert_executed(&delivered, 201);
        fleet.envoys[0].kill();
        if redis_dies {
            redis.restart().await;
        } else {
            redis.resume();
        }
        let retry = fleet.envoys[1].send_once_settled(&order()).await;
        if redis_dies || retry.status == 409 {
            assert_problem(&retry, 409, "outcome-unknown");
        } else {
            assert_replay_of(&delivered, &retry);
        }
        fleet.upstream.assert_executions(1);
    }
}

#[tokio::test]
async fn what_could_not_be_recorded_at_once_is_recorded_later() {
    let configuration = json!({ "store": { "redis": { "timeout": "300ms" } } });
    let (mut redis, fleet) = fleet(Transport::Direct, &configuration).await;
    let [here, there] = &fleet.envoys;
    let gate = Gate::closed();
    fleet.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let first = here.send_aside(Protocol::Http1, &order());
    fleet.upstream.reached(1).await;
    redis.kill();
    gate.open();
    let first = patiently("the answer", first).await.unwrap();
    assert_executed(&first, 201);
    redis.restart().await;
    assert_replay_of(&first, &there.send_once_settled(&order()).await);
    fleet.upstream.assert_executions(1);
}

#[tokio::test]
async fn an_execution_costs_two_round_trips_and_a_replay_one() {
    const REQUESTS: u64 = 50;
    const SCRIPTS: [&str; 2] = ["eval", "evalsha"];

    for transport in WAYS {
        let (redis, fleet) = fleet(transport, &json!({})).await;
        let [here, there] = &fleet.envoys;
        let request = |number: u64| Request::post("/orders").key(format!("k{number}"));
        let mut firsts = Vec::new();
        // What makes the scripts known to Redis costs round trips of its own.
        assert_executed(&here.send(&Request::post("/orders").key("known")).await, 201);
        let before = redis.calls_of(&SCRIPTS).await;
        for number in 0..REQUESTS {
            let first = here.send(&request(number)).await;
            assert_executed(&first, 201);
            firsts.push(first);
        }
        let executed = redis.calls_of(&SCRIPTS).await;
        assert_eq!(executed - before, 2 * REQUESTS, "round trips of {REQUESTS} executions over {transport:?}");
        for (number, first) in (0..REQUESTS).zip(&firsts) {
            assert_replay_of(first, &there.send(&request(number)).await);
        }
        let replayed = redis.calls_of(&SCRIPTS).await;
        assert_eq!(replayed - executed, REQUESTS, "round trips of {REQUESTS} replays over {transport:?}");
    }
}

#[tokio::test]
async fn redis_forgets_a_record_after_its_retention() {
    let (redis, fleet) = fleet(Transport::Direct, &json!({ "ttl": "1h" })).await;
    assert_executed(&fleet.envoys[0].send(&order()).await, 201);
    let key = redis.only_key().await;
    assert!(key.starts_with(b"idemgate:"), "{}", key.escape_ascii());
    let crate::bench::Reply::Integer(left) = redis.must(&[b"PTTL".as_slice(), &key]).await else { panic!("no PTTL") };
    assert!((3_000_000..=3_600_000).contains(&left), "it is kept for {left} ms more");
}

#[tokio::test]
async fn a_prefix_a_password_and_a_database_keep_services_apart() {
    let redis = RedisServer::with(&["--requirepass", "secret"]).await;
    let setup = |prefix: &str, database: u64| {
        let store = json!({ "prefix": prefix, "database": database, "password": "secret" });
        Setup::redis(Transport::Direct, &json!({ "store": { "redis": store } }))
    };
    let mut executions = Vec::new();
    for setup in [setup("a:", 0), setup("b:", 0), setup("a:", 3)] {
        let fleet = Fleet::start(&setup, vec![redis.address()]).await;
        let first = fleet.envoys[0].send(&order()).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &fleet.envoys[1].send(&order()).await);
        executions.push(fleet.upstream.executions());
    }
    assert_eq!(executions, [1, 1, 1]);
    let keys = redis.keys().await;
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys[0].starts_with(b"a:") && keys[1].starts_with(b"b:"), "{keys:?}");
}

#[tokio::test]
async fn a_secret_in_the_environment_is_used_and_is_not_in_what_envoys_admin_shows() {
    let (name, secret) = SECRET;
    let redis = RedisServer::with(&["--requirepass", secret]).await;
    let setup = |secret: &Value| {
        let store = json!({ "password": secret, "integrity_key": secret });
        Setup::redis(Transport::Direct, &json!({ "store": { "redis": store } })).shown_variable(name)
    };
    let fleet = Fleet::of([&setup(&json!({ "env": name })), &setup(&json!(secret))], vec![redis.address()]).await;
    let first = fleet.envoys[0].send(&order()).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &fleet.envoys[1].send(&order()).await);
    let [hidden, shown] = [fleet.envoys[0].config_dump().await, fleet.envoys[1].config_dump().await];
    assert!(hidden.contains(name) && !hidden.contains(secret));
    assert!(
        shown.contains(secret),
        "a dump hides what is in the configuration: is the warning in the guides still true?"
    );
    assert!(!fleet.envoys[0].log().contains(secret) && !fleet.envoys[1].log().contains(secret));
}

#[tokio::test]
async fn a_secret_that_is_not_in_the_environment_is_a_mistake_that_says_what_to_set() {
    let (name, _) = SECRET;
    for setup in [
        Setup::redis(Transport::Direct, &json!({ "store": { "redis": { "password": { "env": name } } } })),
        Setup::redis(
            Transport::Direct,
            &json!({ "store": { "redis": { "password": { "env": "IDEMGATE_NOT_SET" } } } }),
        )
        .shown_variable("IDEMGATE_NOT_SET"),
    ] {
        let log = refusal(&setup).await;
        assert!(log.contains("store.redis.password: found the environment variable IDEMGATE_"), "{log}");
        assert!(log.contains("environment_variables.host_env_keys"), "{log}");
    }
}

/// Duplicates wait longer than any test is patient.
fn waiting() -> Value {
    json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } })
}

#[tokio::test]
async fn a_duplicate_at_the_other_envoy_is_told_a_pause_by_the_age_of_the_first_request() {
    let (_redis, fleet) = fleet(Transport::Direct, &json!({})).await;
    let [here, there] = &fleet.envoys;
    let gate = Gate::closed();
    fleet.upstream.script("/orders", [Answer::new(201).held_by(&gate)]);
    let first = here.send_aside(Protocol::Http1, &order());
    fleet.upstream.reached(1).await;
    patiently("a pause that has grown", async {
        loop {
            let duplicate = there.send(&order()).await;
            assert_in_flight(&duplicate, 30);
            if duplicate.text("retry-after") != "1" {
                break;
            }
        }
    })
    .await;
    gate.open();
    assert_executed(&first.await.unwrap(), 201);
    fleet.upstream.assert_executions(1);
}
