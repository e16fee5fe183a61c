//! A Redis that cannot be asked, or not believed: what clients get, what runs, and what operators are told (contract,
//! section 4, "store unreachable, slow or in error").

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bench::{
    Bench, FakeRedis, Fault, Lot, Protocol, RedisCluster, RedisServer, Reply, Setup, Transport, Twist, assert_executed,
    assert_problem, assert_replay_of, patiently,
};
use crate::pair::{Pair, order};

/// A store that answers in time or not at all.
fn impatient() -> Value {
    json!({ "timeout": "400ms" })
}

impl Pair {
    async fn direct(redis: SocketAddr) -> Self {
        Self::start(Transport::Direct, impatient(), redis, |setup| setup).await
    }

    async fn pooled(redis: SocketAddr) -> Self {
        Self::start(Transport::Pooled, impatient(), redis, |setup| setup).await
    }

    async fn streams(redis: SocketAddr) -> Self {
        Self::start(Transport::Streams, impatient(), redis, |setup| setup).await
    }

    async fn start(transport: Transport, store: Value, redis: SocketAddr, more: impl Fn(Setup) -> Setup) -> Self {
        let setup = |on_store_error: &str| {
            let configuration = json!({ "on_store_error": on_store_error, "store": { "redis": store } });
            more(Setup::redis(transport, &configuration))
        };
        Self::of([&setup("reject"), &setup("bypass")], vec![redis]).await
    }

    async fn fails_for_want_of_memory(&self, redis: &RedisServer) {
        redis.must(&["CONFIG", "SET", "maxmemory", "1"]).await;
        self.fails("out_of_memory", "raise maxmemory").await;
        redis.must(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }

    /// Over connections that are kept, both ways of being silent are one. Redis is left with its clients on hold.
    async fn fails_while_it_is_silent(&self, redis: &RedisServer) {
        redis.pause();
        self.fails("timed_out", "store.redis.timeout").await;
        redis.resume();
        self.works().await;
        redis.must(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
        self.fails("timed_out", "store.redis.timeout").await;
    }
}

// === what ails a real server ===

#[tokio::test]
async fn whatever_ails_redis_is_told_apart_and_over_when_it_is_well_again() {
    let mut redis = RedisServer::start().await;
    let pair = Pair::direct(redis.address()).await;
    pair.works().await;

    pair.fails_for_want_of_memory(&redis).await;

    redis.must(&["ACL", "SETUSER", "default", "-eval"]).await;
    pair.fails("authentication", "ACL of the user").await;
    redis.must(&["ACL", "SETUSER", "default", "+eval"]).await;
    redis.must(&["CONFIG", "SET", "requirepass", "secret"]).await;
    pair.fails("authentication", "store.redis.username, password and database").await;
    redis.must_as("secret", &["CONFIG", "SET", "requirepass", ""]).await;
    pair.works().await;

    // Of a master that is not there.
    redis.must(&["REPLICAOF", "127.0.0.1", "1"]).await;
    pair.fails("read_only", "lead the cluster to the master").await;
    redis.must(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    pair.fails("loading", "not ready").await;
    redis.must(&["REPLICAOF", "NO", "ONE"]).await;

    redis.pause();
    pair.fails("timed_out", "store.redis.timeout").await;
    for envoy in &pair.fleet.envoys {
        let timeouts = envoy.stat("wasmcustom.idemgate.store.timeouts").await;
        assert!(timeouts.is_some_and(|timeouts| timeouts >= 2), "{timeouts:?} timeouts counted");
    }
    redis.resume();

    // Redis gives up a command that is on hold when its client closes its half, as a raw call does once it is sent.
    redis.must(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    pair.fails("cut", "was cut off").await;

    redis.kill();
    pair.fails("unreachable", "cannot be reached").await;
    redis.restart().await;
    pair.works().await;
}

#[tokio::test]
async fn whatever_ails_redis_on_persistent_connections_is_told_apart_and_over_when_it_is_well_again() {
    let mut redis = RedisServer::start().await;
    let pair = Pair::streams(redis.address()).await;
    pair.works().await;
    redis.must(&["SCRIPT", "FLUSH"]).await;
    pair.works().await;

    pair.fails_for_want_of_memory(&redis).await;

    redis.must(&["ACL", "SETUSER", "default", "-evalsha"]).await;
    pair.fails("authentication", "ACL of the user").await;
    redis.must(&["ACL", "SETUSER", "default", "+evalsha"]).await;
    redis.must(&["CONFIG", "SET", "requirepass", "secret"]).await;
    redis.must_as("secret", &["CLIENT", "KILL", "TYPE", "normal"]).await;
    pair.fails("authentication", "store.redis.username, password and database").await;
    redis.must_as("secret", &["CONFIG", "SET", "requirepass", ""]).await;
    pair.works().await;

    // Of a master that is not there.
    redis.must(&["REPLICAOF", "127.0.0.1", "1"]).await;
    pair.fails("read_only", "lead the cluster to the master").await;
    redis.must(&["REPLICAOF", "NO", "ONE"]).await;
    pair.works().await;

    pair.fails_while_it_is_silent(&redis).await;

    redis.kill();
    // A question on a connection that has ended, and whose end the worker has not heard of, is doubtful.
    for envoy in &pair.fleet.envoys {
        envoy.reaches_stat("cluster.redis.upstream_cx_active", 0).await;
    }
    pair.fails("unreachable", "cannot be reached").await;
    redis.restart().await;
    pair.works().await;
}

#[tokio::test]
async fn connections_that_are_not_what_they_are_to_be() {
    let redis = RedisServer::with(&["--requirepass", "right"]).await;
    let with = |password: &str| json!({ "timeout": "400ms", "connections": 2, "password": password, "database": 3 });
    let pair = Pair::start(Transport::Streams, with("wrong"), redis.address(), |setup| setup).await;
    pair.fails("authentication", "store.redis.username, password and database").await;
    let pair = Pair::start(Transport::Streams, with("right"), redis.address(), |setup| setup).await;
    pair.works().await;
    assert_eq!(redis.must(&["DBSIZE"]).await, Reply::Integer(0), "it is in database 3");
    // The cluster has no filter that knows streams.
    let pair = Pair::start(Transport::Direct, with("right"), redis.address(), |setup| setup).await;
    pair.fails("timed_out", "lacks the role store_stream").await;
    let none = Pair::start(Transport::Streams, with("right"), redis.address(), Setup::without_store_cluster).await;
    none.fails("rejected", "there is no such cluster").await;
    let mut loading = RedisServer::start().await;
    loading.restart_slowly().await;
    Pair::streams(loading.address()).await.fails("loading", "not ready").await;
}

#[tokio::test]
async fn one_vm_for_the_filter_and_for_the_streams_of_its_store_runs_nothing() {
    let redis = RedisServer::start().await;
    let setup = Setup::redis(Transport::Streams, &json!({ "store": { "redis": {} } })).vm_id("store_stream");
    let mut bench = Bench::start_on(setup.alone(), vec![redis.address()]).await;
    bench.envoy.lets_vms_fail();
    let refused = bench.send(&order()).await;
    assert_problem(&refused, 500, "host-unsupported");
    bench.assert_executions(0);
    let what_to_do = "give the filter with the role store_stream a vm_id of its own";
    assert!(bench.envoy.log().contains(what_to_do), "{}", bench.envoy.log());
}

#[tokio::test]
async fn the_connections_of_a_configuration_go_with_it() {
    let redis = RedisServer::start().await;
    let configuration = json!({ "store": { "redis": {} } });
    let setup = Setup::redis(Transport::Streams, &configuration).discovered();
    let bench = Bench::start_on(setup, vec![redis.address()]).await;
    assert_executed(&bench.send(&order()).await, 201);
    let old = clients(&redis).await;
    assert!(!old.is_empty());

    let changed = json!({ "replay": { "header": "idempotent-replayed" }, "store": { "redis": {} } });
    bench.envoy.reconfigure(&Setup::redis(Transport::Streams, &changed).discovered()).await;
    patiently("the end of the connections of the configuration before", async {
        while !clients(&redis).await.is_disjoint(&old) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let replay = bench.send(&order()).await;
    assert_eq!(replay.text("idempotent-replayed"), "true", "{replay:?}");
    bench.assert_executions(1);
}

/// The ids of all who are connected, but for who asks.
async fn clients(redis: &RedisServer) -> BTreeSet<String> {
    let list = String::from_utf8(redis.must(&["CLIENT", "LIST"]).await.into_bytes()).unwrap();
    let others = list.lines().filter(|line| !line.contains(" cmd=client"));
    others.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

#[tokio::test]
async fn whatever_ails_redis_behind_the_proxy_is_told_apart_and_over_when_it_is_well_again() {
    let mut redis = RedisServer::start().await;
    let pair = Pair::pooled(redis.address()).await;
    pair.works().await;

    pair.fails_for_want_of_memory(&redis).await;

    pair.fails_while_it_is_silent(&redis).await;

    redis.kill();
    pair.fails("proxy", "op_timeout").await;
    redis.restart().await;
    pair.works().await;
}

#[tokio::test]
async fn a_wrong_password() {
    let redis = RedisServer::with(&["--requirepass", "right"]).await;
    let mut store = impatient();
    store["password"] = json!("wrong");
    let direct = Pair::start(Transport::Direct, store, redis.address(), |setup| setup).await;
    direct.fails("authentication", "store.redis.username, password and database").await;
    let wrong = |setup: Setup| setup.redis_password("wrong");
    let pooled = Pair::start(Transport::Pooled, impatient(), redis.address(), wrong).await;
    pooled.fails("authentication", "store.redis.username, password and database").await;
    assert_eq!(redis.must(&["DBSIZE"]).await, Reply::Integer(0));
}

#[tokio::test]
async fn a_redis_that_still_reads_its_data() {
    let mut redis = RedisServer::start().await;
    redis.restart_slowly().await;
    Pair::direct(redis.address()).await.fails("loading", "not ready").await;
}

#[tokio::test]
async fn a_redis_that_does_not_know_scripts() {
    let redis = RedisServer::with(&["--rename-command", "EVAL", ""]).await;
    Pair::direct(redis.address()).await.fails("script", "allow EVAL").await;
}

#[tokio::test]
async fn one_of_several_masters_over_direct_connections() {
    let cluster = RedisCluster::start(3).await;
    let pair = Pair::direct(cluster.masters[0].address()).await;
    // Some keys are its own, most are not.
    for _ in 0..100 {
        let order = pair.new_order();
        if pair.fleet.envoys[0].send(&order).await.status == 503 {
            return pair.fails_for(&order, "moved", "examples/redis-cluster").await;
        }
    }
    panic!("no key of another master in a hundred");
}

// === what keeps Envoy from calling ===

#[tokio::test]
async fn a_cluster_that_envoy_does_not_have() {
    let redis = RedisServer::start().await;
    let pair = Pair::start(Transport::Direct, impatient(), redis.address(), Setup::without_store_cluster).await;
    pair.fails("rejected", "there is no such cluster").await;
}

#[tokio::test]
async fn more_calls_than_the_circuit_breaker_lets_through() {
    let redis = RedisServer::start().await;
    let none = |setup: Setup| setup.redis_connections(0);
    let pair = Pair::start(Transport::Direct, impatient(), redis.address(), none).await;
    pair.fails("rejected", "circuit breaker").await;
}

// === what no Redis does ===

#[tokio::test]
async fn a_reply_that_is_no_whole_reply() {
    let redis = FakeRedis::start(Fault::Says(Vec::new())).await;
    let pair = Pair::direct(redis.address()).await;
    for part in ["", "*", "$100\r\nabc", "*3\r\n:1\r\n"] {
        redis.turn(Fault::Says(part.into()));
        pair.fails("cut", "was cut off").await;
    }
    for part in ["", "*3\r\n:1\r\n"] {
        redis.turn(Fault::Resets(part.into()));
        pair.fails("reset", "broke before it answered").await;
        redis.turn(Fault::Stalls(part.into()));
        pair.fails("timed_out", "store.redis.timeout").await;
    }
    for answer in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\0\0\0\0",
        "+OK\r\n",
        "*0\r\n",
        "$-1\r\n",
        ":7\r\n",
        "*-1\r\n",
        ":1\r\n:1\r\n",
    ] {
        redis.turn(Fault::Says(answer.into()));
        pair.fails("malformed", "does not speak its protocol").await;
    }
}

#[tokio::test]
async fn what_redis_did_although_its_reply_was_lost_is_found_out_by_asking_again() {
    let redis = RedisServer::start().await;
    let lossy = FakeRedis::in_front_of(Some(redis.address()), Fault::Twists(Twist::new(|_, answer| answer))).await;
    let bench = Bench::start_on(Setup::redis(Transport::Direct, &json!({})), vec![lossy.address()]).await;
    // Of the claim and of the record.
    for lost in [0, 1] {
        for rest in [0, 3] {
            let asks = AtomicUsize::new(0);
            lossy.turn(Fault::Twists(Twist::new(move |asked, mut answer| {
                let is_eval = asked.windows(4).any(|window| window == b"EVAL");
                if is_eval && asks.fetch_add(1, Ordering::Relaxed) == lost {
                    answer.truncate(rest);
                }
                answer
            })));
            let (before, executions) = (redis.calls_of(&["eval"]).await, bench.upstream.executions());
            let order = order().key(format!("{lost}-{rest}"));
            let first = bench.send(&order).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send(&order).await);
            bench.assert_executions(executions + 1);
            let evals = redis.calls_of(&["eval"]).await - before;
            assert_eq!(evals, 4, "a claim, a record, one of them again, and a replay");
        }
    }
}

// === has what we did not write ===

#[tokio::test]
async fn values_that_are_not_ours_are_left_alone_and_nothing_runs_by_them() {
    let redis = RedisServer::start().await;
    let pair = Pair::direct(redis.address()).await;
    assert_executed(&pair.fleet.envoys[0].send(&order()).await, 201);
    let key = redis.only_key().await;
    let record = redis.get(&key).await;

    for value in [b"not ours".as_slice(), b"", b"{}", &[0xff; 500], b"1"] {
        redis.set(&key, value).await;
        pair.fails_for(&order(), "foreign", "a prefix of its own").await;
        assert_eq!(redis.get(&key).await, value, "a value of somebody else was changed");
    }
    redis.must(&[b"DEL", key.as_slice()]).await;
    redis.must(&[b"LPUSH", key.as_slice(), b"not ours"]).await;
    pair.fails_for(&order(), "foreign", "a prefix of its own").await;
    assert_eq!(redis.must(&[b"LLEN", key.as_slice()]).await, Reply::Integer(1));

    assert_eq!(record[0], b'1', "the version of a record");
    let mut newer = record.clone();
    newer[0] = b'2';
    redis.must(&[b"DEL", key.as_slice()]).await;
    redis.must(&[b"SET", key.as_slice(), &newer, b"PX", b"60000"]).await;
    // It may say that the operation ran, so nobody runs it unprotected either.
    let executions = pair.fleet.upstream.executions();
    for envoy in &pair.fleet.envoys {
        for protocol in Protocol::BOTH {
            assert_problem(&envoy.send_over(protocol, &order()).await, 503, "store-unavailable");
        }
        assert!(envoy.log().contains("version 2"), "{}", envoy.log());
        assert!(envoy.stat("wasmcustom.idemgate.store.errors.unreadable").await >= Some(2));
    }
    assert_eq!(pair.fleet.upstream.executions(), executions);
    assert_eq!(redis.get(&key).await, newer, "a record of another version was changed");
}

#[tokio::test]
async fn a_damaged_record_is_never_replayed() {
    let redis = RedisServer::start().await;
    let setup = Setup::redis(Transport::Direct, &json!({ "store": { "redis": impatient() } }));
    let bench = Bench::start_on(setup, vec![redis.address()]).await;
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    let key = redis.only_key().await;
    let record = redis.get(&key).await;
    let mut client = bench.http1().await;
    for position in 0..record.len() {
        let mut damaged = record.clone();
        damaged[position] ^= 1 << (position % 8);
        redis.set(&key, &damaged).await;
        let response = client.send(&order()).await;
        if response.status == 201 {
            // The end of a lease that is over is the one part that Redis itself writes.
            assert!((50..63).contains(&position), "byte {position} is damaged, and not noticed");
            assert_replay_of(&first, &response);
        } else {
            assert_problem(&response, 503, "store-unavailable");
        }
    }
    for length in 0..record.len() {
        redis.set(&key, &record[..length]).await;
        assert_problem(&client.send(&order()).await, 503, "store-unavailable");
    }
    bench.assert_executions(1);
    redis.set(&key, &record).await;
    assert_replay_of(&first, &bench.send(&order()).await);
}

// === lies ===

#[tokio::test]
async fn whatever_a_server_says_at_random_nothing_runs_by_it() {
    const ASKS: u64 = 1_000;

    let mut lot = Lot::new(0x1de3_9a7e);
    let redis = FakeRedis::start(Fault::Says(Vec::new())).await;
    let setup = Setup::redis(Transport::Direct, &json!({ "store": { "redis": impatient() } }));
    let bench = Bench::start_on(setup, vec![redis.address()]).await;
    let mut client = bench.http1().await;
    for number in 0..ASKS {
        redis.turn(Fault::Says(noise(&mut lot)));
        let response = client.send(&order().key(format!("k{number}"))).await;
        assert_problem(&response, 503, "store-unavailable");
    }
    bench.assert_executions(0);
}

#[tokio::test]
async fn whatever_becomes_of_the_replies_on_their_way_no_wrong_answer_is_replayed() {
    const ROUNDS: u64 = 400;

    let mut lot = Lot::new(0x1de3_9a7e);
    let redis = RedisServer::start().await;
    let lying = FakeRedis::in_front_of(Some(redis.address()), Fault::Twists(Twist::new(|_, answer| answer))).await;
    let setup = Setup::redis(Transport::Direct, &json!({ "store": { "redis": impatient() } }));
    let bench = Bench::start_on(setup, vec![lying.address()]).await;
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    let mut rejected = 0;
    for _ in 0..ROUNDS {
        let seed = lot.below(u64::MAX);
        lying.turn(Fault::Twists(Twist::new(move |_, answer| twisted(answer, &mut Lot::new(seed)))));
        let response = bench.send(&order()).await;
        match response.status {
            201 => assert_replay_of(&first, &response),
            _ => {
                assert_problem(&response, 503, "store-unavailable");
                rejected += 1;
            }
        }
    }
    assert!(rejected > ROUNDS / 2, "{rejected} of {ROUNDS} twisted replies were noticed");
    bench.assert_executions(1);
    lying.turn(Fault::Twists(Twist::new(|_, answer| answer)));
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(1);
}

/// Bytes that look more or less like RESP.
fn noise(lot: &mut Lot) -> Vec<u8> {
    const PIECES: [&str; 16] = [
        "*",
        "$",
        ":",
        "+",
        "-",
        "\r\n",
        "1",
        "-1",
        "3",
        "99999999999999999999",
        "4294967296",
        "ERR",
        "abc",
        "\0",
        "~",
        "*1\r\n",
    ];

    let mut bytes = Vec::new();
    for _ in 0..lot.below(12) {
        if lot.below(4) == 0 {
            bytes.push(lot.below(256) as u8);
        } else {
            bytes.extend_from_slice(PIECES[lot.below(PIECES.len() as u64) as usize].as_bytes());
        }
    }
    bytes
}

/// `answer`, with something wrong in it.
fn twisted(mut answer: Vec<u8>, lot: &mut Lot) -> Vec<u8> {
    let position = lot.below(answer.len().max(1) as u64) as usize;
    match lot.below(5) {
        0 => answer.truncate(position),
        1 => answer.insert(position, lot.below(256) as u8),
        2 => answer.extend_from_slice(b":1\r\n"),
        3 => {
            answer.remove(position);
        }
        _ => answer[position] ^= 1 << lot.below(8),
    }
    answer
}

// === what the filter finds out by itself ===

#[tokio::test]
async fn a_redis_that_may_evict_records_is_reported() {
    let redis = RedisServer::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    for transport in [Transport::Direct, Transport::Pooled] {
        // Its internal listener is there from the start, as in a configuration of an operator.
        let setup = Setup::redis(transport, &json!({})).alone();
        let bench = Bench::start_on(setup, vec![redis.address()]).await;
        assert_executed(&bench.send(&order().key(format!("{transport:?}"))).await, 201);
        bench.envoy.logs("noeviction").await;
    }
}

#[tokio::test]
async fn keys_and_passwords_are_not_logged() {
    let redis = RedisServer::with(&["--requirepass", "secret-4713"]).await;
    let mut store = impatient();
    store["password"] = json!("wrong-secret-4714");
    let pair = Pair::start(Transport::Direct, store, redis.address(), |setup| setup).await;
    pair.fails("authentication", "store.redis.username, password and database").await;
    for envoy in &pair.fleet.envoys {
        envoy.send(&order().key("secret-key-4711").caller("secret-token-4712")).await;
        for secret in ["secret-key-4711", "secret-token-4712", "secret-4713", "wrong-secret-4714"] {
            assert!(!envoy.log().contains(secret), "{secret} is in the log:\n{}", envoy.log());
        }
    }
    assert_eq!(redis.must(&["DBSIZE"]).await, Reply::Integer(0));
}
