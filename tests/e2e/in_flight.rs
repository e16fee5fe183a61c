//! Duplicates of an operation that is still running (contract, section 4).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, assert_executed, assert_in_flight, assert_replay_of, patiently,
};

/// The default lease in seconds.
const LEASE: u64 = 30;

#[tokio::test]
async fn a_duplicate_in_flight_is_told_when_to_come_back() {
    let bench = Bench::new(json!({})).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let gate = Gate::closed();
        bench.upstream.script("/orders", [Answer::new(201).json("{\"ok\":true}").held_by(&gate)]);
        let request = Request::post("/orders").key(format!("{protocol:?}"));
        let first = bench.send_aside(protocol, &request);
        bench.upstream.reached(number + 1).await;

        for _ in 0..6 {
            assert_in_flight(&bench.send_over(protocol, &request).await, LEASE);
        }
        bench.assert_executions(number + 1);

        gate.open();
        let first = first.await.unwrap();
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
        bench.assert_executions(number + 1);
    }
}

#[tokio::test]
async fn an_operation_is_in_flight_until_its_response_has_ended() {
    let bench = Bench::new(json!({ "lease": "60s" })).await;
    let gate = Gate::closed();
    bench.upstream.script("/export", [Answer::new(200).chunk("early;").then_held_by(&gate).chunk("late")]);
    let request = Request::post("/export").key("k");
    let mut client = bench.http1().await;
    client.begin(&request).await;
    client.sees(b"early;").await;

    assert_in_flight(&bench.send(&request).await, 60);

    gate.open();
    let first = client.response_to("POST").await;
    assert_executed(&first, 200);
    let replay = bench.send(&request).await;
    assert_replay_of(&first, &replay);
    assert_eq!(replay.body, b"early;late");
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_lease_is_renewed_while_its_owner_lives() {
    let bench = Bench::new(json!({ "lease": "1s" })).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = Request::post("/orders").key("k");
    let first = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;

    // Three leases long: the request must stay alone for all of it.
    for _ in 0..12 {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        assert_in_flight(&bench.send(&request).await, 1);
    }

    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn the_pause_that_a_duplicate_is_told_grows_with_the_age_of_the_first_request() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = Request::post("/orders").key("k");
    let first = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;

    let mut longest = 0;
    patiently("a pause that has grown", async {
        while longest < 2 {
            let duplicate = bench.send(&request).await;
            assert_in_flight(&duplicate, LEASE);
            let told = duplicate.text("retry-after").parse().unwrap();
            assert!(told >= longest, "{told} s after {longest} s");
            longest = told;
        }
    })
    .await;

    gate.open();
    assert_executed(&first.await.unwrap(), 201);
    bench.assert_executions(1);
}

#[tokio::test]
async fn of_twenty_at_once_one_executes() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = Request::post("/orders").key("k");
    let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..20 {
        let (answers, response) = (answers.clone(), bench.send_aside(Protocol::BOTH[number % 2], &request));
        tokio::spawn(async move { answers.send(response.await.unwrap()) });
    }

    // All but the one that executes are answered while it is held.
    for _ in 0..19 {
        let duplicate = patiently("the answer to a duplicate", answered.recv()).await;
        assert_in_flight(&duplicate.unwrap(), LEASE);
    }
    gate.open();
    let executed = patiently("the answer of the one that executes", answered.recv()).await;
    assert_executed(&executed.unwrap(), 201);
    bench.assert_executions(1);
}

crate::bench::also_detached! {
    a_duplicate_in_flight_is_told_when_to_come_back,
    a_lease_is_renewed_while_its_owner_lives,
    of_twenty_at_once_one_executes,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_duplicate_in_flight_is_told_when_to_come_back,
        a_lease_is_renewed_while_its_owner_lives,
        an_operation_is_in_flight_until_its_response_has_ended,
        of_twenty_at_once_one_executes,
    }
    pooled: {
        of_twenty_at_once_one_executes,
    }
}
