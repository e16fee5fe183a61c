//! At most one execution, whatever several Envoys on one PostgreSQL do at the same time (contract, section 6).

use std::net::SocketAddr;

use serde_json::json;

use crate::bench::{Fleet, Pgbouncer, PostgresServer, Release, Setup};
use crate::races::{assert_both_workers_took_part, assert_each_executed_once, race_keys};

/// Keys raced by one connection to each Envoy, and by many.
const KEYS: usize = 1_000;
const CROWDED_KEYS: usize = 2_000;
const CROWD: usize = 50;

#[tokio::test]
async fn keys_raced_by_two_envoys_execute_once_each() {
    for release in Release::BOTH {
        let server = PostgresServer::with(release, &["fsync=off"]).await;
        let _fleet = race(vec![server.address()], KEYS, 2).await;
        assert_eq!(server.records().await, KEYS as i64, "a record for each key");
        // Two Envoys with two workers each.
        let backends = server.backends().await.len();
        assert!((4..=16).contains(&backends), "{backends} connections");
    }
}

#[tokio::test]
async fn keys_raced_by_two_envoys_over_pgbouncer_execute_once_each() {
    let server = PostgresServer::start().await;
    let pool = Pgbouncer::start(&server).await;
    let _fleet = race(vec![pool.address()], KEYS, 2).await;
    assert_eq!(server.records().await, KEYS as i64, "a record for each key");
    let backends = server.backends().await.len();
    assert!((1..=4).contains(&backends), "{backends} connections behind pgbouncer");
}

#[tokio::test]
async fn keys_raced_by_fifty_connections_to_two_envoys_execute_once_each() {
    let server = PostgresServer::start().await;
    race(vec![server.address()], CROWDED_KEYS, CROWD).await;
    assert_eq!(server.records().await, CROWDED_KEYS as i64, "a record for each key");
}

/// Races every key over so many connections, half of them to each of two Envoys; which of their workers has them differs from
/// lane to lane.
async fn race(servers: Vec<SocketAddr>, keys: usize, racers: usize) -> Fleet {
    let fleet = Fleet::start(&Setup::postgres(&json!({})), servers).await;
    let addresses = fleet.envoys.each_ref().map(|envoy| envoy.address());
    race_keys(keys, &addresses.repeat(racers / 2)).await;
    assert_each_executed_once(&fleet.upstream, keys);
    for envoy in &fleet.envoys {
        assert_both_workers_took_part(envoy).await;
        let executed = envoy.stat("wasmcustom.idemgate.requests.executed").await;
        assert!(executed.is_some_and(|executed| executed > 0), "an Envoy won no race at all");
        assert_eq!(envoy.stat("wasmcustom.idemgate.store.errors").await.unwrap_or_default(), 0);
    }
    fleet
}
