//! Memory stays within its bound for any number of unique keys (contract, section 6; design, invariant 5).

use serde_json::json;

use crate::bench::{Answer, Bench, Http1, Request, Setup};

/// Unique keys that fill the table several times over, and those that come after.
const FILLING: usize = 10_000;
const AFTER: usize = 20_000;
const CONNECTIONS: usize = 8;
/// What Envoy's resident memory may grow by once the table is full, in bytes.
const GROWTH: u64 = 6 << 20;

#[tokio::test]
async fn memory_of_a_full_table_does_not_grow_with_more_keys() {
    let configuration = json!({
        "store": { "shared_data": { "max_entries": 5_000, "max_bytes": "8MiB", "keep_at_least": "0s" } },
        "limits": { "caller_share": "100%" },
    });
    let bench = Bench::start(Setup::new(&configuration).alone()).await;
    // 5,000 of these are more than 8 MiB, so that both bounds are reached.
    bench.upstream.script("/orders", [Answer::new(201).body(vec![b'x'; 2_000])]);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(bench.http1().await);
    }

    let clients = send_keys(clients, 0, FILLING).await;
    let full = bench.envoy.resident_bytes();
    send_keys(clients, FILLING, FILLING + AFTER).await;
    let later = bench.envoy.resident_bytes();

    println!("Envoy's resident memory: {full} bytes with a full table, {later} after {AFTER} more keys");

    let stats = bench.envoy.stats_like("idemgate.store").await;
    let entries = bench.envoy.stat("wasmcustom.idemgate.store.entries").await;
    assert!(entries.is_some_and(|entries| entries <= 5_000), "entries: {entries:?}\n{stats}");
    assert!(
        later.saturating_sub(full) < GROWTH,
        "Envoy grew from {full} to {later} bytes after the table was full\n{stats}"
    );
    bench.assert_executions(FILLING + AFTER);
}

/// Sends a POST for each key from `start` to `end`, shared out over the connections.
async fn send_keys(clients: Vec<Http1>, start: usize, end: usize) -> Vec<Http1> {
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(lane, mut client)| {
            tokio::spawn(async move {
                for number in (start + lane..end).step_by(CONNECTIONS) {
                    let response = client.send(&Request::post("/orders").key(format!("unique-{number}"))).await;
                    assert_eq!(response.status, 201, "key {number}: {response:?}");
                }
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    clients
}
