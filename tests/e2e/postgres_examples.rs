//! `examples/postgres*`: each way to PostgreSQL, configured as users are told to.

use crate::bench::{
    Answer, Bench, Certificates, Pgbouncer, PostgresServer, Release, Request, assert_executed, assert_problem,
    assert_replay_of,
};

/// Which text of an example stands for what here.
type Replaced = Vec<(String, String)>;

#[tokio::test]
async fn another_envoy_replays() {
    let server = PostgresServer::start().await;
    let bench = Bench::replayed_by_another_envoy("postgres", &at_port(5432, server.address().port())).await;
    assert_eq!(server.records().await, 1);
    for number in 0..50 {
        assert_executed(&bench.send(&Request::post("/orders").key(format!("{number}"))).await, 201);
    }
    let large = Request::post("/reports").key("large");
    bench.upstream.script("/reports", [Answer::new(201).body(vec![b'x'; 300_000])]);
    let first = bench.send(&large).await;
    assert_executed(&first, 201);
    // The end of a long response is not held back until PostgreSQL has it.
    assert_replay_of(&first, &bench.send_once_settled(&large).await);
    let connections = bench.envoy.stat("cluster.postgres.upstream_cx_total").await;
    assert!(connections.is_some_and(|connections| (1..=9).contains(&connections)), "four per worker: {connections:?}");
}

#[tokio::test]
async fn over_pgbouncer_another_envoy_replays() {
    let server = PostgresServer::start().await;
    let pool = Pgbouncer::start(&server).await;
    let replaced = at_port(6432, pool.address().port());
    Bench::replayed_by_another_envoy("postgres-pgbouncer", &replaced).await;
    assert_eq!(server.records().await, 1);
}

#[tokio::test]
async fn over_tls_another_envoy_replays() {
    let certificates = Certificates::make("postgres.internal");
    let server = with_tls(Release::Newest, &certificates).await;
    let replaced = over_tls(&server, &certificates, &[]);
    let _bench = Bench::replayed_by_another_envoy("postgres-tls", &replaced).await;
    assert_eq!(server.records().await, 1);
    let query = "SELECT bool_and(ssl)::int FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'envoy'";
    assert_eq!(server.number(query).await, 1);
}

#[tokio::test]
async fn over_tls_nobody_but_the_right_server_is_spoken_to() {
    let certificates = Certificates::make("postgres.internal");
    let server = with_tls(Release::Newest, &certificates).await;
    let strangers = Certificates::make("postgres.internal");
    for (wrong, told) in [
        (text("exact: postgres.internal", "exact: postgres.external"), "cannot be reached"),
        (text("/etc/idemgate/postgres-ca.pem", &strangers.authority()), "cannot be reached"),
        (text(r#"{"env": "POSTGRES_PASSWORD"}"#, r#""wrong""#), "refuses the login"),
    ] {
        let replaced = over_tls(&server, &certificates, std::slice::from_ref(&wrong));
        is_refused(&replaced, told).await;
    }
    assert_eq!(server.records().await, 0);
}

#[tokio::test]
async fn a_postgres_that_is_too_old_for_tls_is_told_so() {
    let certificates = Certificates::make("postgres.internal");
    let server = with_tls(Release::Debian, &certificates).await;
    is_refused(&over_tls(&server, &certificates, &[]), "TLS, which needs PostgreSQL 17 or newer").await;
    assert_eq!(server.records().await, 0);
}

async fn is_refused(replaced: &Replaced, told: &str) {
    let bench = Bench::example_with("postgres-tls", replaced).await;
    assert_problem(&bench.send(&Request::post("/orders").key("k")).await, 503, "store-unavailable");
    bench.envoy.logs(told).await;
    bench.assert_executions(0);
}

async fn with_tls(release: Release, certificates: &Certificates) -> PostgresServer {
    let [certificate, key] = ["server.pem", "server.key"].map(|name| certificates.file(name));
    PostgresServer::with_tls(release, &certificate, &key).await
}

/// What the example is told of this server, with what `wrong` says instead.
fn over_tls(server: &PostgresServer, certificates: &Certificates, wrong: &[(String, String)]) -> Replaced {
    let own = [
        text("/etc/idemgate/postgres-ca.pem", &certificates.authority()),
        text(r#"{"env": "POSTGRES_PASSWORD"}"#, r#""s3cret""#),
    ];
    let overridden = |(old, _): &(String, String)| wrong.iter().any(|(wrong, _)| wrong == old);
    let right = at_port(5432, server.address().port()).into_iter().chain(own);
    right.filter(|text| !overridden(text)).chain(wrong.iter().cloned()).collect()
}

/// At this port, and with the impatience lifted: what a busy machine may make of a call is no error of the store.
fn at_port(documented: u16, port: u16) -> Replaced {
    vec![
        text(&format!("port_value: {documented}"), &format!("port_value: {port}")),
        text(r#""cluster": "postgres","#, r#""cluster": "postgres", "timeout": "10s","#),
    ]
}

fn text(old: &str, new: &str) -> (String, String) {
    (old.to_owned(), new.to_owned())
}
