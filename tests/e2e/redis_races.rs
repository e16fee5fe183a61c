//! At most one execution, whatever several Envoys on one Redis do at the same time (contract, section 6).

use std::net::SocketAddr;

use serde_json::json;

use crate::bench::{Fleet, RedisCluster, RedisServer, Setup, Transport};
use crate::races::{assert_both_workers_took_part, assert_each_executed_once, race_keys};

const KEYS: usize = 5_000;

#[tokio::test]
async fn keys_raced_by_two_envoys_over_direct_connections_execute_once_each() {
    let redis = RedisServer::start().await;
    race(Transport::Direct, vec![redis.address()]).await;
    assert_eq!(redis.keys().await.len(), KEYS, "a record for each key");
}

#[tokio::test]
async fn keys_raced_by_two_envoys_over_persistent_connections_execute_once_each() {
    let redis = RedisServer::start().await;
    race(Transport::Streams, vec![redis.address()]).await;
    assert_eq!(redis.keys().await.len(), KEYS, "a record for each key");
    // Two Envoys with two workers each, and this test's own.
    let connections: u64 = redis.info("total_connections_received").await.unwrap().parse().unwrap();
    assert!(connections < 40, "{connections} connections");
    let whole = redis.calls_of(&["eval"]).await;
    assert!((1..100).contains(&whole), "scripts were sent whole {whole} times");
}

#[tokio::test]
async fn keys_raced_by_two_envoys_over_pooled_connections_execute_once_each() {
    let redis = RedisServer::start().await;
    race(Transport::Pooled, vec![redis.address()]).await;
    assert_eq!(redis.keys().await.len(), KEYS, "a record for each key");
}

#[tokio::test]
async fn keys_raced_by_two_envoys_over_a_cluster_execute_once_each() {
    let cluster = RedisCluster::start(3).await;
    race(Transport::Sharded, cluster.addresses()).await;
    let mut kept = 0;
    for master in &cluster.masters {
        let keys = master.keys().await.len();
        assert!(keys > 0, "a master without records: {}", master.address());
        kept += keys;
    }
    assert_eq!(kept, KEYS, "a record for each key");
}

/// Races every key over a connection to each of two Envoys; which of their workers has it differs from lane to lane.
async fn race(transport: Transport, redis: Vec<SocketAddr>) {
    let fleet = Fleet::start(&Setup::redis(transport, &json!({})), redis).await;
    let addresses = fleet.envoys.each_ref().map(|envoy| envoy.address());
    race_keys(KEYS, &addresses).await;
    assert_each_executed_once(&fleet.upstream, KEYS);
    for envoy in &fleet.envoys {
        assert_both_workers_took_part(envoy).await;
        let executed = envoy.stat("wasmcustom.idemgate.requests.executed").await;
        assert!(executed.is_some_and(|executed| executed > 0), "an Envoy won no race at all");
        assert_eq!(envoy.stat("wasmcustom.idemgate.store.errors").await.unwrap_or_default(), 0);
    }
}
