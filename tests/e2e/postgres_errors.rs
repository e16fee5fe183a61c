//! A PostgreSQL that cannot be asked: what clients get, what runs, and what operators are told (contract, section 4, "store
//! unreachable, slow or in error"). The twin of `redis_errors.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bench::{
    Answer, Bench, Pgbouncer, PostgresServer, Release, Setup, Transport, assert_executed, assert_problem,
    assert_replay_of, patiently,
};
use crate::pair::{Pair, order};

/// A store that answers in time or not at all.
fn impatient() -> Value {
    json!({ "timeout": "400ms" })
}

fn with(more: Value) -> Value {
    let mut store = impatient();
    store.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    store
}

impl Pair {
    async fn postgres(servers: Vec<SocketAddr>) -> Self {
        Self::postgres_with(impatient(), servers, |setup| setup).await
    }

    async fn postgres_with(store: Value, servers: Vec<SocketAddr>, more: impl Fn(Setup) -> Setup) -> Self {
        let setup = |on_store_error: &str| {
            more(Setup::postgres(&json!({ "on_store_error": on_store_error, "store": { "postgres": store } })))
        };
        Self::of([&setup("reject"), &setup("bypass")], servers).await
    }
}

/// A setting of the role, for connections from now on: those that were open are ended.
async fn set(server: &PostgresServer, setting: &str) {
    server.sql(&format!("ALTER ROLE envoy {setting}")).await;
    end_connections(server).await;
}

async fn end_connections(server: &PostgresServer) {
    server.sql(END_CONNECTIONS).await;
}

const END_CONNECTIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'envoy'";

#[tokio::test]
async fn whatever_ails_postgres_is_told_apart_and_over_when_it_is_well_again() {
    let mut server = PostgresServer::start().await;
    let pair = Pair::postgres(vec![server.address()]).await;
    pair.works().await;
    end_connections(&server).await;
    pair.works().await;

    set(&server, "NOLOGIN").await;
    pair.fails("authentication", "refuses the login (SQLSTATE 28000)").await;
    set(&server, "LOGIN PASSWORD 'another'").await;
    pair.fails("authentication", "check store.postgres.username, password and database").await;
    set(&server, "PASSWORD 's3cret' CONNECTION LIMIT 0").await;
    pair.fails("loading", "has no connection left").await;
    set(&server, "CONNECTION LIMIT -1").await;
    pair.works().await;

    server.sql("ALTER SCHEMA idemgate RENAME TO gone").await;
    pair.fails("schema", "apply this release's schema.sql").await;
    server.sql("ALTER SCHEMA gone RENAME TO idemgate").await;
    server.sql("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA idemgate FROM envoy").await;
    pair.fails("schema", "EXECUTE of its functions").await;
    server.sql("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA idemgate TO envoy").await;
    // That of a release before claims were asked for in this way.
    server.sql("ALTER FUNCTION idemgate.claim_v1 RENAME TO claim_v0").await;
    pair.fails("schema", "apply this release's schema.sql").await;
    server.sql("ALTER FUNCTION idemgate.claim_v0 RENAME TO claim_v1").await;
    pair.works().await;

    set(&server, "SET default_transaction_read_only = on").await;
    pair.fails("read_only", "lead store.postgres.cluster to the primary").await;
    set(&server, "RESET default_transaction_read_only").await;
    pair.works().await;

    server.fill_disk().await;
    pair.fails("out_of_memory", "out of disk space or memory (SQLSTATE 53100)").await;
    server.lift_limits();
    pair.works().await;

    server.pause();
    pair.fails("timed_out", "store.postgres.timeout").await;
    server.resume();
    pair.works().await;

    server.kill();
    pair.fails("unreachable", "cannot be reached").await;
    server.restart().await;
    pair.works().await;
}

#[tokio::test]
async fn a_server_without_memory_for_a_connection_is_told_apart() {
    let server = PostgresServer::start().await;
    let pair = Pair::postgres(vec![server.address()]).await;
    pair.works().await;
    let admin = server.admin().await;
    server.exhaust_memory();
    admin.batch_execute(END_CONNECTIONS).await.unwrap();
    pair.fails("out_of_memory", "out of disk space or memory (SQLSTATE 53200)").await;
    server.lift_limits();
    pair.works().await;
}

/// With a `statement_timeout` below the store's own, what was given up here is given up there.
#[tokio::test]
async fn what_waits_for_a_locked_table_is_given_up_and_never_carried_out() {
    let server = PostgresServer::start().await;
    set(&server, "SET statement_timeout = '100ms'").await;
    let pair = Pair::postgres(vec![server.address()]).await;
    pair.works().await;
    let before = server.records().await;
    let locking = server.admin().await;
    let lock = "BEGIN; LOCK TABLE idemgate.records IN ACCESS EXCLUSIVE MODE";
    locking.batch_execute(lock).await.unwrap();
    pair.fails("timed_out", "the role's statement_timeout").await;
    locking.batch_execute("COMMIT").await.unwrap();
    pair.works().await;
    // An order that works has a record, and perhaps one before it that a slow machine gave up; what failed has none.
    let failed = "SELECT count(*) FROM idemgate.records WHERE state = 'i'";
    assert_eq!(server.number(failed).await, 0, "{before} records before");
}

/// Without one, statements are carried out that nobody waits for any more: their claims are given back.
#[tokio::test]
async fn what_is_carried_out_too_late_is_given_back() {
    let server = PostgresServer::start().await;
    let pair = Pair::postgres(vec![server.address()]).await;
    pair.works().await;
    let locking = server.admin().await;
    locking.batch_execute("BEGIN; LOCK TABLE idemgate.records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    pair.fails("timed_out", "store.postgres.timeout").await;
    let late = pair.new_order();
    assert_problem(&pair.fleet.envoys[0].send(&late).await, 503, "store-unavailable");
    locking.batch_execute("COMMIT").await.unwrap();
    patiently("the end of the claim that came too late", async {
        loop {
            let retried = pair.fleet.envoys[0].send(&late).await;
            match retried.status {
                201 => return,
                409 | 503 => sleep(Duration::from_millis(20)).await,
                other => panic!("{other}: {retried:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn connections_that_are_not_what_they_are_to_be() {
    let server = PostgresServer::start().await;
    let servers = vec![server.address()];
    for (wrong, remedy) in [
        (json!({ "password": "wrong" }), "check store.postgres.username, password and database"),
        (json!({ "username": "nobody" }), "check store.postgres.username, password and database"),
        (json!({ "database": "nothing" }), "check store.postgres.username, password and database"),
    ] {
        let pair = Pair::postgres_with(with(wrong), servers.clone(), |setup| setup).await;
        pair.fails("authentication", remedy).await;
    }
    let elsewhere = json!({ "schema": "elsewhere" });
    let pair = Pair::postgres_with(with(elsewhere), servers.clone(), |setup| setup).await;
    pair.fails("schema", "apply this release's schema.sql").await;
    let none = Pair::postgres_with(impatient(), servers, Setup::without_store_cluster).await;
    none.fails("rejected", "there is no such cluster").await;
    assert_eq!(server.records().await, 0);
}

#[tokio::test]
async fn a_password_that_is_asked_for_in_another_way() {
    let server = PostgresServer::start().await;
    let ask = async |method: &str| {
        server.ask_for_password(method).await;
        Pair::postgres(vec![server.address()]).await
    };
    ask("password").await.works().await;
    let hashed = "SET password_encryption = 'md5'; ALTER ROLE envoy PASSWORD 's3cret'";
    server.sql(hashed).await;
    ask("md5").await.fails("authentication", "password_encryption to scram-sha-256").await;
}

#[tokio::test]
async fn whatever_ails_pgbouncer_is_told_apart_and_over_when_it_is_well_again() {
    let mut server = PostgresServer::start().await;
    let pool = Pgbouncer::start(&server).await;
    let pair = Pair::postgres(vec![pool.address()]).await;
    pair.works().await;
    pool.command("PAUSE").await;
    pair.fails("timed_out", "store.postgres.timeout").await;
    pool.command("RESUME").await;
    pair.works().await;
    end_connections(&server).await;
    pair.works().await;
    server.kill();
    pair.fails("reset", "the connection to PostgreSQL broke").await;
    server.restart().await;
    pair.works().await;
    let backends = server.backends().await.len();
    assert!((1..=4).contains(&backends), "{backends} backends for all workers of two Envoys");
}

#[tokio::test]
async fn of_a_primary_and_its_standby_the_one_that_takes_writes_is_asked_also_after_a_promotion() {
    let mut primary = PostgresServer::start().await;
    let standby = primary.standby().await;
    let pair = Pair::postgres(vec![primary.address(), standby.address()]).await;
    pair.works().await;
    let first = pair.new_order();
    let executed = patiently("an order", async {
        loop {
            let response = pair.fleet.envoys[0].send(&first).await;
            if response.status != 503 {
                return response;
            }
        }
    })
    .await;
    assert_executed(&executed, 201);
    standby.has_all_of(&primary).await;
    primary.kill();
    standby.promote().await;
    pair.works().await;
    let replay = patiently("a replay", async {
        loop {
            let response = pair.fleet.envoys[1].send(&first).await;
            if response.status != 503 && response.text("idempotency-status") != "bypassed" {
                return response;
            }
        }
    })
    .await;
    assert_replay_of(&executed, &replay);
}

#[tokio::test]
async fn a_standby_alone_is_told_from_a_primary() {
    let primary = PostgresServer::start().await;
    let standby = primary.standby().await;
    let pair = Pair::postgres(vec![standby.address()]).await;
    pair.fails("read_only", "lead store.postgres.cluster to the primary").await;
    standby.promote().await;
    pair.works().await;
}

#[tokio::test]
async fn the_connections_of_a_configuration_go_with_it() {
    let server = PostgresServer::start().await;
    let setup = Setup::postgres(&json!({})).discovered();
    let bench = Bench::start_on(setup, vec![server.address()]).await;
    assert_executed(&bench.send(&order()).await, 201);
    let old = server.backends().await;
    assert!(!old.is_empty());

    let changed = json!({ "replay": { "header": "idempotent-replayed" } });
    bench.envoy.reconfigure(&Setup::postgres(&changed).discovered()).await;
    patiently("the end of the connections of the configuration before", async {
        while server.backends().await.iter().any(|backend| old.contains(backend)) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let replay = bench.send(&order()).await;
    assert_eq!(replay.text("idempotent-replayed"), "true", "{replay:?}");
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_cluster_without_the_role_for_streams_is_found_out() {
    let server = PostgresServer::start().await;
    // A cluster for calls that have a connection each.
    let store = with(json!({ "cluster": "redis", "database": "idemgate", "username": "envoy", "password": "s3cret" }));
    let configuration = json!({ "store": { "postgres": store } });
    let setup = Setup::redis(Transport::Direct, &configuration);
    let bench = Bench::start_on(setup, vec![server.address()]).await;
    assert_problem(&bench.send(&order()).await, 503, "store-unavailable");
    bench.envoy.logs("check the hosts of store.postgres.cluster and its role store_stream").await;
    bench.assert_executions(0);
}

#[tokio::test]
async fn a_response_of_five_megabytes_is_kept_whole() {
    const SIZE: usize = 5 << 20;

    for release in Release::BOTH {
        let server = PostgresServer::with(release, &["fsync=off"]).await;
        let configuration = json!({ "limits": { "response_body": "8MiB" } });
        let bench = Bench::start_on(Setup::postgres(&configuration), vec![server.address()]).await;
        let body: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
        bench.upstream.script("/orders", [Answer::new(201).body(body.clone())]);
        let first = bench.send(&order()).await;
        assert_executed(&first, 201);
        assert!(first.body == body, "the first answer is whole");
        assert_replay_of(&first, &bench.send_once_settled(&order()).await);
        let kept = server.number("SELECT octet_length(sealed) FROM idemgate.records").await;
        assert!(kept > SIZE as i64, "{kept} bytes kept");
    }
}

#[tokio::test]
async fn no_password_is_shown() {
    let server = PostgresServer::start().await;
    let pair = Pair::postgres(vec![server.address()]).await;
    pair.works().await;
    set(&server, "NOLOGIN").await;
    pair.fails("authentication", "refuses the login").await;
    for envoy in &pair.fleet.envoys {
        assert!(!envoy.log().contains("s3cret"), "{}", envoy.log());
    }
}
