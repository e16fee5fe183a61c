//! At most one execution, whatever the workers do at the same time (contract, section 6; design, invariant 1).

use std::net::SocketAddr;

use serde_json::json;

use crate::bench::{Bench, Envoy, Http1, Request, Upstream, assert_executed, assert_in_flight};

/// Keys raced, each by this many connections.
const KEYS: usize = 10_000;
const CONNECTIONS: usize = 4;
/// Groups of connections that race at the same time, each over keys of its own. The kernel deals connections out by chance:
/// with this many, no worker goes without.
const LANES: usize = 24;

#[tokio::test]
async fn thousands_of_raced_keys_execute_once_each() {
    let bench = Bench::new(json!({})).await;
    race_keys(KEYS, &[bench.envoy.address(); CONNECTIONS]).await;
    assert_each_executed_once(&bench.upstream, KEYS);
    assert_both_workers_took_part(&bench.envoy).await;
}

/// Races this many keys, each over a connection to every one of these addresses.
pub(crate) async fn race_keys(keys: usize, addresses: &[SocketAddr]) {
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let addresses = addresses.to_vec();
            tokio::spawn(async move {
                let mut connections = Vec::new();
                for address in addresses {
                    connections.push(Http1::connect(address).await);
                }
                for number in (lane..keys).step_by(LANES) {
                    race(&mut connections, number).await;
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

#[track_caller]
pub(crate) fn assert_each_executed_once(upstream: &Upstream, keys: usize) {
    let executions = upstream.executions_by_key();
    let wrong: Vec<_> = executions.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "keys that were not executed exactly once: {wrong:?}");
    assert_eq!(executions.len(), keys, "keys that reached the upstream");
}

/// It was a race only if both workers ran in it.
pub(crate) async fn assert_both_workers_took_part(envoy: &Envoy) {
    for (worker, connections) in envoy.connections_by_worker().await.into_iter().enumerate() {
        assert!(connections > 0, "worker {worker} had no connection");
    }
}

/// Sends one request over all connections before it reads any response.
async fn race(connections: &mut [Http1], number: usize) {
    let request = Request::post("/orders").key(format!("raced-{number}"));
    for connection in connections.iter_mut() {
        connection.begin(&request).await;
    }
    let (mut executed, mut bodies) = (0, Vec::new());
    for connection in connections.iter_mut() {
        let response = connection.response_to("POST").await;
        match response.text("idempotency-status").as_str() {
            "executed" => {
                assert_executed(&response, 201);
                executed += 1;
                bodies.push(response.body);
            }
            "replayed" => {
                assert_eq!(response.status, 201, "{response:?}");
                bodies.push(response.body);
            }
            _ => assert_in_flight(&response, 30),
        }
    }
    assert_eq!(executed, 1, "responses of key {number} that say they were executed");
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "different responses for key {number}: {bodies:?}");
}

crate::bench::also_detached! {
    thousands_of_raced_keys_execute_once_each,
}
