//! Duplicates that wait for the first (contract, section 2, `duplicates.in_flight: "wait"`), over two workers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bench::{
    Answer, Bench, Gate, Http1, Mode, Protocol, Request, Response, Setup, assert_executed, assert_in_flight,
    assert_problem, assert_replay_of, patiently,
};

/// Enough to fill both workers with waiting requests.
const DUPLICATES: usize = 50;

const WAITING: &str = "wasmcustom.idemgate.waiting";

/// `configuration`, with duplicates that wait longer than any test is patient.
fn waiting(mut configuration: Value) -> Value {
    configuration["duplicates"]["in_flight"] = json!("wait");
    if configuration["duplicates"].get("wait_timeout").is_none() {
        configuration["duplicates"]["wait_timeout"] = json!("60s");
    }
    configuration
}

fn order() -> Request {
    Request::post("/orders").key("k")
}

/// Sends the request so often, half of it over each protocol.
fn send_all(bench: &Bench, count: usize, request: &Request) -> Vec<JoinHandle<Response>> {
    (0..count).map(|number| bench.send_aside(Protocol::BOTH[number % 2], request)).collect()
}

async fn all(requests: Vec<JoinHandle<Response>>) -> Vec<Response> {
    let mut responses = Vec::new();
    for request in requests {
        responses.push(request.await.unwrap());
    }
    responses
}

/// Fails unless one of `responses` was executed with this status and all others are its replays.
#[track_caller]
fn assert_one_execution(responses: &[Response], status: u16) {
    let (executed, replays): (Vec<_>, Vec<_>) =
        responses.iter().partition(|response| response.text("idempotency-status") == "executed");
    assert_eq!(executed.len(), 1, "responses that say they were executed: {executed:?}; the others: {replays:?}");
    assert_executed(executed[0], status);
    for replay in replays {
        assert_replay_of(executed[0], replay);
    }
}

#[tokio::test]
async fn fifty_at_once_get_the_answer_of_one_execution() {
    let bench = Bench::new(waiting(json!({}))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{\"order\":1}").held_by(&gate), Answer::new(299)]);
    let before = bench.envoy.connections_by_worker().await;
    let requests = send_all(&bench, DUPLICATES, &order());
    bench.envoy.reaches_stat(WAITING, DUPLICATES as u64 - 1).await;
    bench.upstream.reached(1).await;
    bench.assert_executions(1);

    gate.open();
    assert_one_execution(&all(requests).await, 201);
    bench.assert_executions(1);
    bench.envoy.reaches_stat(WAITING, 0).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.replayed", DUPLICATES as u64 - 1).await;
    // It is a wake-up across workers only if both had some of them.
    let after = bench.envoy.connections_by_worker().await;
    for worker in 0..2 {
        assert!(after[worker] > before[worker], "worker {worker} had none of the requests");
    }
}

#[tokio::test]
async fn those_who_wait_on_the_other_worker_are_answered_too() {
    let bench = Bench::new(waiting(json!({}))).await;
    let (mut first, mut near) = (bench.http1_to_worker(0).await, bench.http1_to_worker(0).await);
    let mut far = [bench.http1_to_worker(1).await, bench.http1_to_worker(1).await];
    for round in 0..10 {
        let before = bench.upstream.executions();
        let gate = Gate::closed();
        bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
        let request = order().key(format!("round-{round}"));
        first.begin(&request).await;
        bench.upstream.reached(before + 1).await;
        for client in far.iter_mut().chain([&mut near]) {
            client.begin(&request).await;
        }
        bench.envoy.reaches_stat(WAITING, 3).await;
        gate.open();
        let first = first.response_to("POST").await;
        assert_executed(&first, 201);
        for client in far.iter_mut().chain([&mut near]) {
            assert_replay_of(&first, &client.response_to("POST").await);
        }
        bench.assert_executions(before + 1);
    }
}

#[tokio::test]
async fn when_the_first_is_released_exactly_one_takes_over_and_the_rest_wait_on() {
    let bench = Bench::new(waiting(json!({}))).await;
    let gates: Vec<Gate> = (0..3).map(|_| Gate::closed()).collect();
    bench.upstream.script(
        "/orders",
        [
            Answer::new(503).body("later").held_by(&gates[0]),
            Answer::new(429).body("later").held_by(&gates[1]),
            Answer::new(201).json("{}").held_by(&gates[2]),
            Answer::new(299),
        ],
    );
    let requests = send_all(&bench, DUPLICATES, &order());
    for (round, gate) in gates.iter().enumerate() {
        bench.envoy.reaches_stat(WAITING, (DUPLICATES - 1 - round) as u64).await;
        bench.upstream.reached(round + 1).await;
        bench.assert_executions(round + 1);
        gate.open();
    }
    let (released, settled): (Vec<_>, Vec<_>) =
        all(requests).await.into_iter().partition(|response| [429, 503].contains(&response.status));
    let mut statuses: Vec<u16> = released.iter().map(|response| response.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [429, 503], "those whose execution was released get their own answers: {released:?}");
    assert_one_execution(&settled, 201);
    bench.assert_executions(3);
    bench.envoy.reaches_stat(WAITING, 0).await;
}

#[tokio::test]
async fn when_the_outcome_is_unknown_all_who_wait_are_told_so() {
    let bench = Bench::new(waiting(json!({}))).await;
    for (number, answer) in [Answer::new(502), Answer::hang_up()].into_iter().enumerate() {
        let gate = Gate::closed();
        bench.upstream.script("/orders", [answer.held_by(&gate), Answer::new(299)]);
        let request = order().key(format!("k{number}"));
        let first = bench.send_aside(Protocol::Http1, &request);
        bench.upstream.reached(number + 1).await;
        let duplicates = send_all(&bench, 20, &request);
        bench.envoy.reaches_stat(WAITING, 20).await;
        gate.open();
        let first = first.await.unwrap();
        assert_eq!(first.text("idempotency-status"), "unknown", "{first:?}");
        for duplicate in all(duplicates).await {
            assert_problem(&duplicate, 409, "outcome-unknown");
        }
        bench.assert_executions(number + 1);
        bench.envoy.reaches_stat(WAITING, 0).await;
    }
}

#[tokio::test]
async fn when_the_answer_is_not_kept_all_who_wait_are_told_so() {
    let bench = Bench::new(waiting(json!({ "limits": { "response_body": "1KiB" } }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).body(vec![b'x'; 2_000]).held_by(&gate), Answer::new(299)]);
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(1).await;
    let duplicates = send_all(&bench, 20, &order());
    bench.envoy.reaches_stat(WAITING, 20).await;
    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    assert_eq!(first.body.len(), 2_000);
    for duplicate in all(duplicates).await {
        assert_eq!(assert_problem(&duplicate, 409, "response-not-kept")["original_status"], 201);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn another_request_with_the_key_is_refused_at_once() {
    let bench = Bench::new(waiting(json!({}))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(1).await;
    let duplicate = bench.send_aside(Protocol::Http1, &order());
    bench.envoy.reaches_stat(WAITING, 1).await;
    for protocol in Protocol::BOTH {
        for _ in 0..4 {
            let other = bench.send_over(protocol, &order().body("another body")).await;
            assert_problem(&other, 422, "key-reused");
        }
    }
    assert!(!duplicate.is_finished() && !first.is_finished(), "nobody was to be answered yet");
    gate.open();
    assert_replay_of(&first.await.unwrap(), &duplicate.await.unwrap());
    bench.assert_executions(1);
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_when_to_come_back() {
    let bench = Bench::new(waiting(json!({ "duplicates": { "wait_timeout": "300ms" } }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(1).await;
    let began = Instant::now();
    for duplicate in all(send_all(&bench, 20, &order())).await {
        assert_in_flight(&duplicate, 30);
    }
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(300), "refused after {waited:?}, before its time was over");
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.wait_timeouts", 20).await;
    bench.envoy.reaches_stat(WAITING, 0).await;
    gate.open();
    let first = first.await.unwrap();
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    // The bound is per worker, so that at least one and at most two find room.
    let bench = Bench::new(waiting(json!({ "duplicates": { "max_waiting": 1 } }))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let mut clients: Vec<Http1> = Vec::new();
    for worker in [0, 0, 1, 1] {
        clients.push(bench.http1_to_worker(worker).await);
    }
    let before = bench.upstream.executions();
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(before + 1).await;
    for (waiting, worker) in [(1, 0), (2, 2)] {
        clients[worker].begin(&order()).await;
        bench.envoy.reaches_stat(WAITING, waiting).await;
        assert_in_flight(&clients[worker + 1].send(&order()).await, 30);
    }
    gate.open();
    let first = first.await.unwrap();
    for worker in [0, 2] {
        assert_replay_of(&first, &clients[worker].response_to("POST").await);
    }
    assert_eq!(bench.upstream.executions_of("k"), 1);
    bench.envoy.reaches_stat(WAITING, 0).await;
}

#[tokio::test]
async fn who_leaves_while_waiting_costs_nothing() {
    let bench = Bench::new(waiting(json!({}))).await;
    let gates = [Gate::closed(), Gate::closed()];
    bench.upstream.script(
        "/orders",
        [Answer::new(503).held_by(&gates[0]), Answer::new(201).json("{}").held_by(&gates[1]), Answer::new(299)],
    );
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(1).await;
    let leaving = send_all(&bench, 20, &order());
    bench.envoy.reaches_stat(WAITING, 20).await;
    let staying = bench.send_aside(Protocol::Http2, &order());
    bench.envoy.reaches_stat(WAITING, 21).await;
    for client in leaving {
        client.abort();
    }
    bench.envoy.reaches_stat(WAITING, 1).await;

    // The turn goes to the one that is still there, and to none of those who came before it.
    gates[0].open();
    assert_eq!(first.await.unwrap().status, 503);
    bench.upstream.reached(2).await;
    bench.envoy.reaches_stat(WAITING, 0).await;
    gates[1].open();
    assert_executed(&staying.await.unwrap(), 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn when_the_client_of_the_first_hangs_up_those_who_wait_learn_what_became_of_it() {
    let bench = Bench::new(waiting(json!({}))).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(1).await;
    let duplicates = send_all(&bench, 20, &order());
    bench.envoy.reaches_stat(WAITING, 20).await;
    first.abort();
    match Mode::current() {
        Mode::Inline => {
            for duplicate in all(duplicates).await {
                assert_problem(&duplicate, 409, "outcome-unknown");
            }
            gate.open();
        }
        Mode::Detached => {
            bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 20).await;
            bench.envoy.reaches_stat(WAITING, 20).await;
            gate.open();
            let replays = all(duplicates).await;
            assert_eq!(replays[0].status, 201, "{:?}", replays[0]);
            for replay in &replays {
                assert_replay_of(&replays[0], replay);
            }
        }
    }
    bench.assert_executions(1);
    bench.envoy.reaches_stat(WAITING, 0).await;
}

#[tokio::test]
async fn an_owner_that_dies_leaves_nobody_waiting_longer_than_its_lease() {
    let setup = Setup::new(&waiting(json!({ "lease": "2s" }))).that_can_crash();
    let bench = Bench::start(setup).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).held_by(&gate), Answer::new(299)]);
    let (mut owner, mut culprit) = (bench.http1_to_worker(0).await, bench.http1_to_worker(0).await);
    let mut waiting: Vec<Http1> = Vec::new();
    for _ in 0..5 {
        waiting.push(bench.http1_to_worker(1).await);
    }
    let before = bench.upstream.executions();
    owner.begin(&order()).await;
    bench.upstream.reached(before + 1).await;
    for client in &mut waiting {
        client.begin(&order()).await;
    }
    bench.envoy.reaches_stat(WAITING, 5).await;
    let died = culprit.send(&Request::get("/").header("x-crash-test", "request-headers")).await;
    assert_eq!(died.status, 503, "{died:?}");

    for client in &mut waiting {
        assert_problem(&client.response_to("POST").await, 409, "outcome-unknown");
    }
    bench.envoy.reaches_stat(WAITING, 0).await;
    assert_eq!(bench.upstream.executions_of("k"), 1);
    gate.open();
}

#[tokio::test]
async fn the_last_is_answered_soon_after_the_first() {
    let bench = Bench::new(waiting(json!({}))).await;
    let mut lags = Vec::new();
    for round in 0..9 {
        let path = format!("/orders/{round}");
        let gate = Gate::closed();
        bench.upstream.script(&path, [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
        let request = Request::post(&path).key("k");
        let requests: Vec<_> = send_all(&bench, DUPLICATES, &request)
            .into_iter()
            .map(|request| tokio::spawn(async move { (request.await.unwrap(), Instant::now()) }))
            .collect();
        bench.envoy.reaches_stat(WAITING, DUPLICATES as u64 - 1).await;
        gate.open();
        let (mut responses, mut answered) = (Vec::new(), Vec::new());
        for request in requests {
            let (response, at) = request.await.unwrap();
            responses.push(response);
            answered.push(at);
        }
        assert_one_execution(&responses, 201);
        answered.sort_unstable();
        lags.push(answered[answered.len() - 1].duration_since(answered[0]));
    }
    lags.sort_unstable();
    let median = lags[lags.len() / 2];
    println!("{:?}: median of {median:?} between the first answer and the last, of {lags:?}", Mode::current());
    // The issue says 50 ms of the product; this is the machine's share on top, with other tests at its side.
    assert!(median < Duration::from_millis(500), "{lags:?}");
    bench.assert_executions(lags.len());
}

#[tokio::test]
async fn a_change_of_the_configuration_leaves_nobody_waiting() {
    let before = Setup::new(&waiting(json!({}))).discovered();
    let after = Setup::new(&waiting(json!({ "replay": { "header": "idempotent-replayed" } }))).discovered();
    let bench = Bench::start(before).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let old = send_all(&bench, 20, &order());
    bench.envoy.reaches_stat(WAITING, 19).await;
    bench.envoy.reconfigure(&after).await;
    let new = send_all(&bench, 20, &order());
    bench.envoy.reaches_stat(WAITING, 39).await;
    gate.open();

    let old = all(old).await;
    let executed = old.iter().find(|response| response.text("idempotency-status") == "executed");
    let executed = executed.unwrap_or_else(|| panic!("nobody executed: {old:?}"));
    assert_executed(executed, 201);
    let replays = old
        .iter()
        .chain(&all(new).await)
        .filter(|response| {
            assert_eq!((response.status, &response.body), (201, &executed.body), "{response:?}");
            response.text("idempotency-status") == "replayed"
        })
        .count();
    assert_eq!(replays, 39);
    bench.envoy.reaches_stat(WAITING, 0).await;
    bench.assert_executions(1);
    let changed = patiently("a replay", bench.send(&order())).await;
    assert_eq!(changed.text("idempotent-replayed"), "true", "not under the changed configuration: {changed:?}");
}

crate::bench::also_detached! {
    a_change_of_the_configuration_leaves_nobody_waiting,
    an_owner_that_dies_leaves_nobody_waiting_longer_than_its_lease,
    another_request_with_the_key_is_refused_at_once,
    fifty_at_once_get_the_answer_of_one_execution,
    no_more_wait_than_may,
    the_last_is_answered_soon_after_the_first,
    those_who_wait_on_the_other_worker_are_answered_too,
    when_the_answer_is_not_kept_all_who_wait_are_told_so,
    when_the_client_of_the_first_hangs_up_those_who_wait_learn_what_became_of_it,
    when_the_first_is_released_exactly_one_takes_over_and_the_rest_wait_on,
    when_the_outcome_is_unknown_all_who_wait_are_told_so,
    who_has_waited_long_enough_is_told_when_to_come_back,
    who_leaves_while_waiting_costs_nothing,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_change_of_the_configuration_leaves_nobody_waiting,
        an_owner_that_dies_leaves_nobody_waiting_longer_than_its_lease,
        fifty_at_once_get_the_answer_of_one_execution,
        no_more_wait_than_may,
        those_who_wait_on_the_other_worker_are_answered_too,
        when_the_client_of_the_first_hangs_up_those_who_wait_learn_what_became_of_it,
        when_the_first_is_released_exactly_one_takes_over_and_the_rest_wait_on,
        when_the_outcome_is_unknown_all_who_wait_are_told_so,
        who_has_waited_long_enough_is_told_when_to_come_back,
        who_leaves_while_waiting_costs_nothing,
    }
    pooled: {
        fifty_at_once_get_the_answer_of_one_execution,
        when_the_first_is_released_exactly_one_takes_over_and_the_rest_wait_on,
    }
}
