//! At most one execution, whatever the workers do at the same time (contract, section 6; design, invariant 1).

use serde_json::json;

use crate::bench::{Bench, Http1, Request, assert_executed, assert_in_flight};

/// Keys raced, each by this many connections.
const KEYS: usize = 10_000;
const CONNECTIONS: usize = 4;
/// Groups of connections that race at the same time, each over keys of its own.
const LANES: usize = 5;

#[tokio::test]
async fn thousands_of_raced_keys_execute_once_each() {
    let bench = Bench::new(json!({})).await;
    let address = bench.envoy.address();
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            tokio::spawn(async move {
                let mut connections = Vec::new();
                for _ in 0..CONNECTIONS {
                    connections.push(Http1::connect(address).await);
                }
                for number in (lane..KEYS).step_by(LANES) {
                    race(&mut connections, number).await;
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }

    let executions = bench.upstream.executions_by_key();
    let wrong: Vec<_> = executions.iter().filter(|(_, count)| **count != 1).collect();
    assert!(wrong.is_empty(), "keys that were not executed exactly once: {wrong:?}");
    assert_eq!(executions.len(), KEYS, "keys that reached the upstream");
    // It was a race only if both workers ran in it.
    for worker in 0..2 {
        let connections = bench.envoy.stat(&format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total")).await;
        assert!(connections.is_some_and(|count| count > 0), "worker {worker} had {connections:?} connections");
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
