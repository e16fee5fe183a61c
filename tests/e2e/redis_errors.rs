//! A Redis that cannot be asked, or not believed: what clients get, what runs, and what operators are told (contract,
//! section 4, "store unreachable, slow or in error").

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::bench::{
    Bench, FakeRedis, Fault, Fleet, Lot, Protocol, RedisCluster, RedisServer, Reply, Request, Setup, Transport, Twist,
    assert_executed, assert_problem, assert_replay_of, assert_retry_after,
};

fn order() -> Request {
    Request::post("/orders").key("k")
}

/// A store that answers in time or not at all.
fn impatient() -> Value {
    json!({ "timeout": "400ms" })
}

/// Two Envoys on one Redis, of which the first rejects what it cannot guard and the second lets it pass.
struct Pair {
    fleet: Fleet,
}

impl Pair {
    async fn direct(redis: SocketAddr) -> Self {
        Self::start(Transport::Direct, impatient(), redis, |setup| setup).await
    }

    async fn pooled(redis: SocketAddr) -> Self {
        Self::start(Transport::Pooled, impatient(), redis, |setup| setup).await
    }

    async fn start(transport: Transport, store: Value, redis: SocketAddr, more: impl Fn(Setup) -> Setup) -> Self {
        let setup = |on_store_error: &str| {
            let configuration = json!({ "on_store_error": on_store_error, "store": { "redis": store } });
            more(Setup::redis(transport, &configuration))
        };
        Self { fleet: Fleet::of([&setup("reject"), &setup("bypass")], vec![redis]).await }
    }

    /// Executes `order`, and gives the key of its record in Redis.
    async fn executes(&self, redis: &RedisServer) -> Vec<u8> {
        let first = self.fleet.envoys[0].send(&order()).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &self.fleet.envoys[1].send(&order()).await);
        redis.only_key().await
    }

    /// Fails unless `order` is rejected here and executed unprotected there, and both say that it is for this reason.
    async fn fails(&self, kind: &str, remedy: &str) {
        let [rejecting, bypassing] = &self.fleet.envoys;
        let before = self.fleet.upstream.executions();
        for protocol in Protocol::BOTH {
            let response = rejecting.send_over(protocol, &order()).await;
            assert_problem(&response, 503, "store-unavailable");
            assert_retry_after(&response, 60);
        }
        assert_eq!(self.fleet.upstream.executions(), before, "executions of what was rejected");

        for protocol in Protocol::BOTH {
            let response = bypassing.send_over(protocol, &order()).await;
            assert_eq!((response.status, response.complete), (201, true), "{response:?}");
            assert_eq!(response.text("idempotency-status"), "bypassed", "{response:?}");
        }
        assert_eq!(self.fleet.upstream.executions(), before + 2, "executions of what was let pass");
        bypassing.reaches_stat("wasmcustom.idemgate.requests.bypassed", 2).await;

        for envoy in &self.fleet.envoys {
            let counted = envoy.stat(&format!("wasmcustom.idemgate.store.errors.{kind}")).await.unwrap_or_default();
            let stats = envoy.stats_like("idemgate.store.").await;
            assert!(counted >= 2, "{counted} errors counted as {kind}:\n{stats}");
            let all = envoy.stat("wasmcustom.idemgate.store.errors").await.unwrap_or_default();
            assert!(all >= counted, "{all} errors in all:\n{stats}");
            let log = envoy.log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains(remedy)).collect();
            assert!(!lines.is_empty(), "no line that says {remedy:?} in\n{log}");
            assert!(lines.len() < 20, "the log is flooded:\n{log}");
        }
    }
}

// === not there ===

#[tokio::test]
async fn a_redis_that_refuses_connections() {
    let mut redis = RedisServer::start().await;
    let pair = Pair::direct(redis.address()).await;
    redis.kill();
    pair.fails("unreachable", "cannot be reached").await;
    redis.restart().await;
    pair.executes(&redis).await;
}

#[tokio::test]
async fn a_redis_behind_the_proxy_that_refuses_connections() {
    let mut redis = RedisServer::start().await;
    let pair = Pair::pooled(redis.address()).await;
    redis.kill();
    pair.fails("proxy", "op_timeout").await;
    redis.restart().await;
    pair.executes(&redis).await;
}

#[tokio::test]
async fn a_redis_that_stands_still() {
    for transport in [Transport::Direct, Transport::Pooled] {
        let redis = RedisServer::start().await;
        let pair = Pair::start(transport, impatient(), redis.address(), |setup| setup).await;
        redis.pause();
        pair.fails("timed_out", "store.redis.timeout").await;
        let timeouts = pair.fleet.envoys[0].stat("wasmcustom.idemgate.store.timeouts").await;
        assert!(timeouts.is_some_and(|timeouts| timeouts >= 2), "{timeouts:?} timeouts counted");
        redis.resume();
    }
}

#[tokio::test]
async fn a_cluster_that_envoy_does_not_have() {
    let redis = RedisServer::start().await;
    let pair = Pair::start(Transport::Direct, impatient(), redis.address(), Setup::without_redis_cluster).await;
    pair.fails("rejected", "there is no such cluster").await;
}

#[tokio::test]
async fn more_calls_than_the_circuit_breaker_lets_through() {
    let redis = RedisServer::start().await;
    let none = |setup: Setup| setup.redis_connections(0);
    let pair = Pair::start(Transport::Direct, impatient(), redis.address(), none).await;
    pair.fails("rejected", "circuit breaker").await;
}

// === breaks off ===

#[tokio::test]
async fn a_reply_that_is_cut() {
    for part in ["", "*", "$100\r\nabc", "*3\r\n:1\r\n"] {
        let redis = FakeRedis::start(Fault::Says(part.into())).await;
        Pair::direct(redis.address()).await.fails("cut", "was cut off").await;
    }
}

#[tokio::test]
async fn a_connection_that_is_reset() {
    for part in ["", "*3\r\n:1\r\n"] {
        let redis = FakeRedis::start(Fault::Resets(part.into())).await;
        Pair::direct(redis.address()).await.fails("reset", "broke before it answered").await;
    }
}

#[tokio::test]
async fn a_reply_that_does_not_go_on() {
    let redis = FakeRedis::start(Fault::Stalls(b"*3\r\n:1\r\n".into())).await;
    Pair::direct(redis.address()).await.fails("timed_out", "store.redis.timeout").await;
}

#[tokio::test]
async fn what_redis_did_although_its_reply_was_lost_is_found_out_by_asking_again() {
    // Of the claim and of the record.
    for lost in [0, 1] {
        for rest in [0, 3] {
            let redis = RedisServer::start().await;
            let asks = AtomicUsize::new(0);
            let lossy = Twist::new(move |asked, mut answer| {
                let is_eval = asked.windows(4).any(|window| window == b"EVAL");
                if is_eval && asks.fetch_add(1, Ordering::Relaxed) == lost {
                    answer.truncate(rest);
                }
                answer
            });
            let lossy = FakeRedis::in_front_of(Some(redis.address()), Fault::Twists(lossy)).await;
            let bench = Bench::start_on(Setup::redis(Transport::Direct, &json!({})), vec![lossy.address()]).await;
            let first = bench.send(&order()).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send_once_settled(&order()).await);
            bench.assert_executions(1);
            assert_eq!(redis.calls_of(&["eval"]).await, 4, "a claim, a record, one of them again, and a replay");
        }
    }
}

// === refuses ===

#[tokio::test]
async fn a_wrong_password() {
    let redis = RedisServer::with(&["--requirepass", "right"]).await;
    for password in [json!(null), json!("wrong")] {
        let mut store = impatient();
        if !password.is_null() {
            store["password"] = password;
        }
        let pair = Pair::start(Transport::Direct, store, redis.address(), |setup| setup).await;
        pair.fails("authentication", "store.redis.username and password").await;
    }
    let wrong = |setup: Setup| setup.redis_password("wrong");
    let pair = Pair::start(Transport::Pooled, impatient(), redis.address(), wrong).await;
    pair.fails("authentication", "store.redis.username and password").await;
}

#[tokio::test]
async fn a_user_who_may_not_run_scripts() {
    let redis = RedisServer::start().await;
    redis.must(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get"]).await;
    let mut store = impatient();
    store["username"] = json!("reader");
    store["password"] = json!("secret");
    let pair = Pair::start(Transport::Direct, store, redis.address(), |setup| setup).await;
    pair.fails("authentication", "ACL of the user").await;
}

#[tokio::test]
async fn a_redis_without_memory() {
    let redis = RedisServer::with(&["--maxmemory-policy", "noeviction"]).await;
    let pair = Pair::direct(redis.address()).await;
    redis.must(&["CONFIG", "SET", "maxmemory", "1"]).await;
    pair.fails("out_of_memory", "raise maxmemory").await;
    redis.must(&["CONFIG", "SET", "maxmemory", "0"]).await;
    pair.executes(&redis).await;
}

#[tokio::test]
async fn a_replica() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    let pair = Pair::direct(replica.address()).await;
    replica.must(&["REPLICAOF", "127.0.0.1", &master.address().port().to_string()]).await;
    pair.fails("read_only", "lead the cluster to the master").await;
}

#[tokio::test]
async fn a_redis_that_still_reads_its_data() {
    let mut redis = RedisServer::start().await;
    redis.restart_slowly().await;
    Pair::direct(redis.address()).await.fails("loading", "not ready").await;
}

#[tokio::test]
async fn a_replica_without_its_master() {
    let mut master = RedisServer::start().await;
    let replica = RedisServer::with(&["--replica-serve-stale-data", "no"]).await;
    let pair = Pair::direct(replica.address()).await;
    master.kill();
    replica.must(&["REPLICAOF", "127.0.0.1", &master.address().port().to_string()]).await;
    pair.fails("loading", "not ready").await;
}

#[tokio::test]
async fn a_cluster_over_direct_connections() {
    let cluster = RedisCluster::start(3).await;
    // The key of `order` is another master's than at least two of them.
    let mut refusing = 0;
    for master in &cluster.masters {
        let pair = Pair::direct(master.address()).await;
        if pair.fleet.envoys[0].send(&order()).await.status == 503 {
            pair.fails("moved", "examples/redis-cluster").await;
            refusing += 1;
        }
    }
    assert_eq!(refusing, 2);
}

#[tokio::test]
async fn a_cluster_that_does_not_serve_all_slots() {
    let bus = RedisServer::start().await.address().port().to_string();
    let redis = RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
    Pair::direct(redis.address()).await.fails("loading", "not ready").await;
}

#[tokio::test]
async fn a_redis_that_does_not_know_scripts() {
    let redis = RedisServer::with(&["--rename-command", "EVAL", ""]).await;
    Pair::direct(redis.address()).await.fails("script", "allow EVAL").await;
}

// === has what we did not write ===

#[tokio::test]
async fn a_value_of_somebody_else_under_our_key() {
    let redis = RedisServer::start().await;
    let pair = Pair::direct(redis.address()).await;
    let key = pair.executes(&redis).await;
    redis.must(&[b"DEL", key.as_slice()]).await;
    redis.must(&[b"LPUSH", key.as_slice(), b"not ours"]).await;
    pair.fails("foreign", "a prefix of its own").await;
    for value in [b"not ours".as_slice(), b"", b"{}", &[0xff; 500], b"1"] {
        redis.set(&key, value).await;
        pair.fails("foreign", "a prefix of its own").await;
        assert_eq!(redis.get(&key).await, value, "a value of somebody else was changed");
    }
}

#[tokio::test]
async fn a_record_of_another_version() {
    let redis = RedisServer::start().await;
    let pair = Pair::direct(redis.address()).await;
    let key = pair.executes(&redis).await;
    let mut record = redis.get(&key).await;
    assert_eq!(record[0], b'1', "the version of a record");
    record[0] = b'2';
    redis.set(&key, &record).await;
    pair.fails("unreadable", "version").await;
    assert_eq!(redis.get(&key).await, record, "a record of another version was changed");
}

#[tokio::test]
async fn a_damaged_record_is_never_replayed() {
    let redis = RedisServer::start().await;
    let bench = Bench::start_on(
        Setup::redis(Transport::Direct, &json!({ "store": { "redis": impatient() } })),
        vec![redis.address()],
    )
    .await;
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    let key = redis.only_key().await;
    let record = redis.get(&key).await;
    for position in 0..record.len() {
        let mut damaged = record.clone();
        damaged[position] ^= 1 << (position % 8);
        redis.set(&key, &damaged).await;
        let response = bench.send(&order()).await;
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
        assert_problem(&bench.send(&order()).await, 503, "store-unavailable");
    }
    bench.assert_executions(1);
    redis.set(&key, &record).await;
    assert_replay_of(&first, &bench.send(&order()).await);
}

// === lies ===

#[tokio::test]
async fn a_server_that_is_no_redis() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", "+OK\r\n", "*0\r\n", "$-1\r\n", ":7\r\n", "*-1\r\n"]
    {
        let redis = FakeRedis::start(Fault::Says(answer.into())).await;
        Pair::direct(redis.address()).await.fails("malformed", "does not speak its protocol").await;
    }
}

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
        let setup = Setup::redis(transport, &json!({}));
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
    pair.fails("authentication", "store.redis.username and password").await;
    for envoy in &pair.fleet.envoys {
        envoy.send(&order().key("secret-key-4711").caller("secret-token-4712")).await;
        for secret in ["secret-key-4711", "secret-token-4712", "secret-4713", "wrong-secret-4714"] {
            assert!(!envoy.log().contains(secret), "{secret} is in the log:\n{}", envoy.log());
        }
    }
    assert_eq!(redis.must(&["DBSIZE"]).await, Reply::Integer(0));
}
