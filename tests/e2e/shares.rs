//! No caller takes from others what all use (`limits.caller_share`).

use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Gate, Protocol, Request, assert_executed, assert_problem, assert_replay_of};

fn order(path: &str, caller: &str, number: usize) -> Request {
    Request::post(path).caller(caller).key(format!("{caller}-{number}"))
}

/// Requests of the attacker that reach the service and are left, one after the other: how many were refused instead.
async fn attack(bench: &Bench, count: usize) -> usize {
    let mut refused = 0;
    for number in 0..count {
        let tag = format!("attack-{number}");
        let reached = bench.upstream.executions();
        let task = bench.send_aside(Protocol::Http1, &order("/slow", "attacker", number).header("x-tag", tag.clone()));
        while bench.upstream.executions() == reached && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        if task.is_finished() {
            refused += 1;
            continue;
        }
        task.abort();
        bench.envoy.access_log_line(&tag).await;
    }
    refused
}

async fn attacked(configuration: &Value) -> (Bench, usize) {
    let bench = Bench::new(configuration.clone()).await;
    bench.upstream.script("/slow", [Answer::new(201).json("{}").held_by(&Gate::closed())]);
    let refused = attack(&bench, 70).await;
    (bench, refused)
}

#[tokio::test]
async fn a_table_that_one_caller_fills_with_unknown_outcomes_stays_open_to_others() {
    let (bench, refused) = attacked(&json!({ "store": { "shared_data": { "max_entries": 60 } } })).await;
    assert_eq!(refused, 40);
    let response = bench.send(&order("/slow", "attacker", 70)).await;
    assert_problem(&response, 503, "store-full");
    for number in 0..20 {
        let order = order("/orders", &format!("victim-{}", number % 4), number);
        let first = bench.send(&order).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&order).await);
    }
    bench.assert_executions(30 + 20);
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.over_share", 41).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.full", 0).await;
}

#[tokio::test]
async fn a_table_without_shares_is_closed_to_all_by_one_caller() {
    let table = json!({
        "limits": { "caller_share": "100%" }, "store": { "shared_data": { "max_entries": 60 } },
    });
    let (bench, refused) = attacked(&table).await;
    assert_eq!(refused, 10);
    assert_problem(&bench.send(&order("/orders", "victim", 0)).await, 503, "store-full");
}

#[tokio::test]
async fn detached_calls_whose_clients_have_left_keep_nobody_else_out() {
    // More than one caller may have in both workers together.
    let detached = json!({ "execution": { "mode": "detached", "max_calls": 8 } });
    let bench = Bench::new(detached).await;
    let gate = Gate::closed();
    bench.upstream.script("/slow", [Answer::new(201).json("{}").held_by(&gate)]);
    let refused = attack(&bench, 30).await;
    let under_way = 30 - refused;
    assert!((4..=8).contains(&under_way), "{under_way} calls");
    for number in 0..10 {
        assert_executed(&bench.send(&order("/orders", "victim", number)).await, 201);
    }
    bench.assert_executions(under_way + 10);
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.over_share", refused as u64).await;
    gate.open();
    bench.envoy.reaches_stat("wasmcustom.idemgate.detached", 0).await;
    // What was refused has left nothing behind: a retry runs.
    let retry = bench.send(&order("/slow", "attacker", 29)).await;
    assert_eq!(retry.status, 201, "{retry:?}");
}
