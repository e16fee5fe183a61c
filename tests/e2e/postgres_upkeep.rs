//! What the filter does in PostgreSQL on its own account: one worker of an Envoy removes what has expired, and each opens
//! the connections that it needs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bench::{Bench, PostgresServer, Setup, assert_executed, patiently};
use crate::pair::order;

/// More than three batches of records whose time is over, in a schema.
const EXPIRED: &str = "INSERT INTO SCHEMA.records SELECT sha256(('k' || g)::bytea), 'u', gen_random_uuid(), sha256('f'), \
                       now() - interval '2 h', now() - interval '1 h', '\\x01' FROM generate_series(1, 1700) g";

async fn have_gone(server: &PostgresServer, schema: &str) {
    patiently("the removal of what has expired", async {
        while server.number(&format!("SELECT count(*) FROM {schema}.records WHERE expires <= now()")).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_removed_at_once_and_nothing_else_is() {
    let server = PostgresServer::start().await;
    server.sql(&EXPIRED.replace("SCHEMA", "idemgate")).await;
    server.sql(&EXPIRED.replace("SCHEMA", "idemgate_shadow")).await;
    let configuration = json!({ "routes": [{ "match": { "path": "/shadow" }, "policy": { "mode": "shadow" } }] });
    let bench = Bench::start_on(Setup::postgres(&configuration), vec![server.address()]).await;
    assert_executed(&bench.send(&order()).await, 201);
    have_gone(&server, "idemgate").await;
    have_gone(&server, "idemgate_shadow").await;
    assert_eq!(server.records().await, 1, "what lives");
    // Who sweeps keeps no connection of its own for it.
    patiently("the end of the connections of the sweep", async {
        let swept = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sweep_v1%' AND usename = 'envoy'";
        while server.number(swept).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_worker_opens_more_connections_while_all_it_has_are_busy() {
    let server = PostgresServer::start().await;
    let bench = Arc::new(Bench::start_on(Setup::postgres(&json!({})).workers(1), vec![server.address()]).await);
    assert_executed(&bench.send(&order()).await, 201);
    let locking = server.admin().await;
    locking.batch_execute("BEGIN; LOCK TABLE idemgate.records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut requests = JoinSet::new();
    patiently("as many connections as a worker may have", async {
        let claiming = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%claim_v1%' AND usename = 'envoy'";
        while server.number(claiming).await < 4 {
            let (bench, order) = (Arc::clone(&bench), order().key(format!("key-{}", requests.len())));
            requests.spawn(async move { bench.send(&order).await });
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    locking.batch_execute("COMMIT").await.unwrap();
    let asked = requests.len();
    while let Some(answer) = requests.join_next().await {
        assert_executed(&answer.unwrap(), 201);
    }
    bench.assert_executions(asked + 1);
}
