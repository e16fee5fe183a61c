//! `examples/redis*`: each way to Redis, configured as users are told to.

use crate::bench::{
    Answer, Bench, Certificates, RedisCluster, RedisServer, Request, TempDir, assert_executed, assert_problem,
    assert_replay_of, free_port,
};

/// Which text of an example stands for what here.
type Replaced = Vec<(String, String)>;

#[tokio::test]
async fn over_a_connection_for_each_call_another_envoy_replays() {
    let redis = RedisServer::start().await;
    let replaced = impatience_lifted(at_port(&redis));
    let bench = Bench::replayed_by_another_envoy("redis-one-shot", &replaced).await;
    assert_records(&redis, 1).await;
    // More than such a connection is sure to carry.
    assert_not_kept(&bench, 33_000).await;
    assert_kept(&bench, 30_000).await;
}

#[tokio::test]
async fn over_connections_that_are_kept_another_envoy_replays() {
    let redis = RedisServer::start().await;
    let replaced = impatience_lifted(at_port(&redis));
    let bench = Bench::replayed_by_another_envoy("redis", &replaced).await;
    assert_records(&redis, 1).await;
    assert_not_kept(&bench, 33_000).await;
    assert_kept(&bench, 30_000).await;
    for number in 0..50 {
        assert_executed(&bench.send(&Request::post("/orders").key(format!("{number}"))).await, 201);
    }
    let connections = bench.envoy.stat("cluster.redis.upstream_cx_total").await;
    assert!(connections.is_some_and(|connections| (1..=5).contains(&connections)), "two per worker: {connections:?}");
}

#[tokio::test]
async fn over_a_unix_socket_another_envoy_replays() {
    let directory = TempDir::new();
    let socket = directory.join("redis.sock").display().to_string();
    let redis = RedisServer::with(&["--unixsocket", &socket]).await;
    let replaced = impatience_lifted(vec![text("/run/redis/redis.sock }", &format!("{socket} }}"))]);
    Bench::replayed_by_another_envoy("redis-unix-socket", &replaced).await;
    assert_records(&redis, 1).await;
}

#[tokio::test]
async fn over_a_cluster_another_envoy_replays() {
    let cluster = RedisCluster::start(3).await;
    let ports = [7000, 7001, 7002].iter().zip(cluster.addresses());
    let ports = ports.map(|(old, new)| text(&format!("port_value: {old}"), &format!("port_value: {}", new.port())));
    let replaced = impatience_lifted(ports.chain([text("op_timeout: 0.4s", "op_timeout: 9s")]).collect());
    let bench = Bench::replayed_by_another_envoy("redis-cluster", &replaced).await;
    for number in 0..60 {
        let request = Request::post("/orders").key(format!("{number}"));
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request).await);
    }
    let mut records = 0;
    for master in &cluster.masters {
        let keys = master.keys().await.len();
        assert!(keys > 0, "a master without records");
        records += keys;
    }
    assert_eq!(records, 61);
}

#[tokio::test]
async fn over_tls_another_envoy_replays() {
    let tls = Tls::start().await;
    Bench::replayed_by_another_envoy("redis-tls", &tls.replaced(&[])).await;
    assert_records(&tls.redis, 1).await;
}

#[tokio::test]
async fn over_tls_nobody_but_the_right_server_is_spoken_to() {
    let tls = Tls::start().await;
    let strangers = Certificates::make("redis.internal");
    let stranger = strangers.authority();
    for wrong in [
        text("exact: redis.internal", "exact: redis.external"),
        text("/etc/idemgate/redis-ca.pem", &stranger),
        text(PASSWORD, r#""wrong""#),
    ] {
        let bench = Bench::example_with("redis-tls", &tls.replaced(std::slice::from_ref(&wrong))).await;
        let refused = bench.send(&Request::post("/orders").key("k")).await;
        assert_problem(&refused, 503, "store-unavailable");
        bench.assert_executions(0);
    }
    assert_records(&tls.redis, 0).await;
}

async fn assert_kept(bench: &Bench, size: usize) {
    let request = large(bench, size);
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    // The end of a long response is not held back until Redis has it.
    assert_replay_of(&first, &bench.send_once_settled(&request).await);
}

async fn assert_not_kept(bench: &Bench, size: usize) {
    let request = large(bench, size);
    assert_executed(&bench.send(&request).await, 201);
    assert_problem(&bench.send_once_settled(&request).await, 409, "response-not-kept");
}

/// A request whose response has a body of this size.
fn large(bench: &Bench, size: usize) -> Request {
    let path = format!("/reports/{size}");
    bench.upstream.script(&path, [Answer::new(201).body(vec![b'x'; size])]);
    Request::post(&path).key(format!("{size}"))
}

async fn assert_records(redis: &RedisServer, count: usize) {
    let keys = redis.keys().await;
    assert_eq!(keys.len(), count, "records of {keys:?}");
    assert!(keys.iter().all(|key| key.starts_with(b"idemgate:")), "{keys:?}");
}

fn at_port(redis: &RedisServer) -> Replaced {
    vec![text("port_value: 6379", &format!("port_value: {}", redis.address().port()))]
}

/// What a busy machine may make of a call is no error of the store.
fn impatience_lifted(mut replaced: Replaced) -> Replaced {
    replaced.push(text(r#""cluster": "redis""#, r#""cluster": "redis", "timeout": "10s""#));
    replaced
}

fn text(old: &str, new: &str) -> (String, String) {
    (old.to_owned(), new.to_owned())
}

/// A server with a certificate, and with a user that may do what Idemgate needs and no more.
#[derive(Debug)]
struct Tls {
    certificates: Certificates,
    port: u16,
    redis: RedisServer,
}

impl Tls {
    async fn start() -> Self {
        const README: &str = include_str!("../../examples/redis-tls/README.md");
        assert!(README.contains(IDEMGATE_USER), "the README of the example has another user than {IDEMGATE_USER}");

        let certificates = Certificates::make("redis.internal");
        let port = free_port();
        let file = |name: &str| certificates.file(name).display().to_string();
        let users = file("users.acl");
        // The default user is the test's own; who fails to log in is nobody.
        let acl = format!("user default on >{TESTER} ~* &* +@all\n{IDEMGATE_USER}\n");
        std::fs::write(&users, acl).expect("cannot write the users of redis-server");
        let redis = RedisServer::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "no",
            "--aclfile",
            &users,
            "--requirepass",
            TESTER,
        ])
        .await;
        Self { certificates, port, redis }
    }

    /// What the example is told of this server, with what `wrong` says instead.
    fn replaced(&self, wrong: &[(String, String)]) -> Replaced {
        let right = [
            text("port_value: 6380", &format!("port_value: {}", self.port)),
            text("/etc/idemgate/redis-ca.pem", &self.certificates.authority()),
            text(PASSWORD, r#""s3cret""#),
        ];
        let overridden = |(old, _): &(String, String)| wrong.iter().any(|(wrong, _)| wrong == old);
        let replaced = right.into_iter().filter(|text| !overridden(text)).chain(wrong.iter().cloned());
        impatience_lifted(replaced.collect())
    }
}

/// What the example says instead of its password.
const PASSWORD: &str = r#"{"env": "REDIS_PASSWORD"}"#;

const TESTER: &str = "tester";

/// As in the example's README.
const IDEMGATE_USER: &str = "user idemgate on >s3cret ~idemgate:* +eval +evalsha +ping +time +get +set +del +getrange +setrange +pexpire +pttl +info";
