//! The outcome of an operation, by the way its upstream call ended (contract, section 4).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, Setup, TempDir, assert_executed, assert_problem, assert_released,
    assert_replay_of, assert_unknown, deny_header, lua, one_request_a_day,
};

#[tokio::test]
async fn an_answer_that_says_not_now_releases_the_key() {
    let bench = Bench::new(json!({})).await;
    for status in [401, 403, 408, 425, 429, 500, 501, 503, 505, 599] {
        for protocol in Protocol::BOTH {
            let path = format!("/{status}/{protocol:?}");
            bench.upstream.script(&path, [Answer::new(status).json("{\"later\":true}"), Answer::new(201).json("{}")]);
            let before = bench.upstream.executions();
            let request = Request::post(&path).key("k");
            let first = bench.send_over(protocol, &request).await;
            assert_eq!((first.status, first.body.as_slice()), (status, b"{\"later\":true}".as_slice()), "{first:?}");
            assert_released(&bench, &request, before + 1).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_settles_the_matter_is_stored() {
    let bench = Bench::new(json!({})).await;
    for status in [200, 202, 206, 300, 302, 307, 400, 402, 404, 405, 409, 410, 415, 422, 451, 499] {
        let path = format!("/{status}");
        bench.upstream.script(&path, [Answer::new(status).body("settled"), Answer::new(299).body("executed twice")]);
        let request = Request::post(&path).key("k");
        let first = bench.send(&request).await;
        assert_executed(&first, status);
        assert_replay_of(&first, &bench.send(&request).await);
    }
    bench.assert_executions(16);
}

#[tokio::test]
async fn an_answer_with_a_status_that_http_does_not_know_settles_the_matter_and_is_not_kept() {
    let bench = Bench::new(json!({})).await;
    for status in [600, 799] {
        let path = format!("/{status}");
        bench.upstream.script(&path, [Answer::new(status).body("settled"), Answer::new(299).body("executed twice")]);
        let request = Request::post(&path).key("k");
        assert_executed(&bench.send(&request).await, status);
        let problem = assert_problem(&bench.send_once_settled(&request).await, 409, "response-not-kept");
        assert_eq!(problem["original_status"], status);
    }
    bench.assert_executions(2);
}

#[tokio::test]
async fn an_answer_of_a_gateway_leaves_the_outcome_unknown() {
    let bench = Bench::new(json!({})).await;
    for (number, status) in [502, 504].into_iter().enumerate() {
        let path = format!("/{status}");
        bench.upstream.script(&path, [Answer::new(status).body("gateway"), Answer::new(201).json("{}")]);
        let request = Request::post(&path).key("k");
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.body.as_slice()), (status, b"gateway".as_slice()), "{first:?}");
        assert_unknown(&bench, &request, number + 1).await;
    }
}

#[tokio::test]
async fn an_unknown_outcome_can_be_retried_once_the_lease_has_run_out() {
    let bench = Bench::new(json!({ "outcome": { "on_unknown": "retry" }, "lease": "1s" })).await;
    bench.upstream.script("/orders", [Answer::new(502), Answer::new(201).json("{}")]);
    let request = Request::post("/orders").key("k");
    assert_eq!(bench.send(&request).await.status, 502);

    // Until the lease is over it is not executed, whatever the answer is called.
    let mut response = bench.send(&request).await;
    while response.status == 409 {
        bench.assert_executions(1);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        response = bench.send(&request).await;
    }
    assert_executed(&response, 201);
    bench.assert_executions(2);
    assert_replay_of(&response, &bench.send(&request).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn which_answers_are_stored_released_or_unknown_is_configured() {
    let bench = Bench::new(json!({
        "outcome": { "store": [503, "2xx"], "release": ["4xx", 202], "unknown": [500, 404] },
    }))
    .await;
    let outcomes = [
        (503, "stored"),
        (201, "stored"),
        (400, "released"),
        (202, "released"),
        (500, "unknown"),
        (404, "unknown"),
        // What no list names is stored; the defaults of 3xx went with the list that had them.
        (302, "stored"),
    ];
    for (status, outcome) in outcomes {
        let path = format!("/{status}");
        bench.upstream.script(&path, [Answer::new(status).json("{}"), Answer::new(201).json("{\"second\":true}")]);
        let before = bench.upstream.executions();
        let request = Request::post(&path).key("k");
        let first = bench.send(&request).await;
        assert_eq!(first.status, status, "{first:?}");
        match outcome {
            "stored" => assert_replay_of(&first, &bench.send(&request).await),
            "released" => assert_released(&bench, &request, before + 1).await,
            _ => assert_unknown(&bench, &request, before + 1).await,
        }
    }
}

#[tokio::test]
async fn what_envoy_never_sent_releases_the_key() {
    let bench = Bench::new(json!({})).await;
    let never_sent = [
        ("/direct", 418),
        ("/hostless", 503),
        ("/unknown-cluster", 503),
        ("/no-room-to-wait", 503),
        ("/no-room-to-run", 503),
    ];
    for (path, status) in never_sent {
        let request = Request::post(path).key("k");
        assert_eq!(bench.send(&request).await.status, status, "{path}");
        for _ in 0..3 {
            let retry = bench.send_once_settled(&request).await;
            assert_eq!(retry.status, status, "{path} stays blocked: {retry:?}");
            assert_eq!(retry.header("idempotency-replayed"), None, "{path}: Envoy's own answer was stored: {retry:?}");
            assert_ne!(retry.text("content-type"), "application/problem+json", "{path} stays blocked: {retry:?}");
        }
    }
    bench.assert_executions(0);
}

#[tokio::test]
async fn a_refused_connection_releases_the_key_and_the_retry_executes_once() {
    let mut bench = Bench::start(Setup::new(&json!({})).upstream_shut()).await;
    let request = Request::post("/orders").key("k");
    for _ in 0..3 {
        let refused = bench.send_once_settled(&request).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(refused.header("idempotency-replayed"), None, "{refused:?}");
    }
    bench.upstream.open();
    assert_released(&bench, &request, 0).await;
}

#[tokio::test]
async fn a_later_filter_that_answers_by_itself_releases_the_key() {
    let script = r#"if request:headers():get("x-deny") then request:respond({[":status"] = "403"}, "no") end"#;
    for filter in [deny_header("x-deny"), lua(script)] {
        let bench = Bench::start(Setup::new(&json!({})).filter_after(filter)).await;
        let request = Request::post("/orders").key("k");
        let denied = bench.send(&request.clone().header("x-deny", "1")).await;
        assert_eq!((denied.status, denied.text("idempotency-status")), (403, "rejected".to_owned()), "{denied:?}");
        bench.assert_executions(0);
        assert_released(&bench, &request, 0).await;
    }
}

#[tokio::test]
async fn a_rate_limit_behind_the_filter_is_never_stored() {
    let bench = Bench::start(Setup::new(&json!({})).filter_after(one_request_a_day())).await;
    assert_executed(&bench.send(&Request::post("/orders").key("today")).await, 201);
    let request = Request::post("/orders").key("tomorrow");
    for _ in 0..3 {
        let limited = bench.send(&request).await;
        assert_eq!((limited.status, limited.text("idempotency-status")), (429, "rejected".to_owned()), "{limited:?}");
        assert_eq!(limited.header("idempotency-replayed"), None, "{limited:?}");
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_timeout_of_the_route_while_envoy_still_connects_releases_the_key() {
    let bench = Bench::start(Setup::new(&json!({})).upstream_deaf()).await;
    let request = Request::post("/impatient").key("k");
    for _ in 0..3 {
        let timeout = bench.send(&request).await;
        assert_eq!((timeout.status, timeout.text("idempotency-status")), (504, "rejected".to_owned()), "{timeout:?}");
    }
    bench.assert_executions(0);
}

#[tokio::test]
async fn an_upstream_that_hangs_up_leaves_the_outcome_unknown() {
    for setup in [Setup::new(&json!({})), Setup::new(&json!({})).http2_upstream()] {
        let bench = Bench::start(setup).await;
        bench.upstream.script("/orders", [Answer::hang_up(), Answer::new(201).json("{}")]);
        let request = Request::post("/orders").key("k");
        let first = bench.send(&request).await;
        assert_eq!(first.status, 503, "{first:?}");
        assert_unknown(&bench, &request, 1).await;
    }
}

#[tokio::test]
async fn a_response_cut_short_leaves_the_outcome_unknown() {
    for setup in [Setup::new(&json!({})), Setup::new(&json!({})).http2_upstream()] {
        let bench = Bench::start(setup).await;
        for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
            let gate = Gate::closed();
            let path = format!("/{protocol:?}");
            let cut =
                Answer::new(200).header("content-length", "100").chunk("only this").then_held_by(&gate).then_cut();
            bench.upstream.script(&path, [cut, Answer::new(201).json("{}")]);
            let request = Request::post(&path).key("k");
            let first = bench.send_aside(protocol, &request);
            bench.upstream.reached(number + 1).await;
            gate.open();
            let first = first.await.unwrap();
            assert!(!first.complete || matches!(first.status, 502 | 503), "a response cut short: {first:?}");
            assert_unknown(&bench, &request, number + 1).await;
        }
    }
}

#[tokio::test]
async fn a_timeout_of_the_route_leaves_the_outcome_unknown() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/impatient", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = Request::post("/impatient").key("k");
    let first = bench.send(&request).await;
    assert_eq!(first.status, 504, "{first:?}");
    assert_unknown(&bench, &request, 1).await;
    gate.open();
}

#[tokio::test]
async fn envoys_own_retries_are_one_execution_to_the_client() {
    let bench = Bench::new(json!({})).await;
    bench.upstream.script("/retried", [Answer::new(503), Answer::new(503), Answer::new(201).json("{}")]);
    let request = Request::post("/retried").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    bench.assert_executions(3);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(3);
}

#[tokio::test]
async fn an_answer_after_a_lost_one_is_stored() {
    let bench = Bench::new(json!({})).await;
    bench.upstream.script("/retried", [Answer::hang_up(), Answer::new(201).json("{}")]);
    let request = Request::post("/retried").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn retries_of_envoy_that_all_fail_leave_the_outcome_unknown() {
    for failure in [Answer::hang_up(), Answer::new(503)] {
        let bench = Bench::new(json!({})).await;
        bench.upstream.script("/retried", [failure]);
        let request = Request::post("/retried").key("k");
        let first = bench.send(&request).await;
        assert_eq!(first.status, 503, "{first:?}");
        bench.assert_executions(3);
        assert_unknown(&bench, &request, 3).await;
    }
}

#[tokio::test]
async fn a_retry_of_envoy_that_finds_no_upstream_any_more_leaves_the_outcome_unknown() {
    // The first attempt was executed; that the last one was never sent says nothing about it.
    let directory = TempDir::new();
    let socket = directory.join("upstream");
    let bench = Bench::start(Setup::new(&json!({})).upstream_pipe(socket.clone())).await;
    let gate = Gate::closed();
    bench.upstream.script("/piped", [Answer::hang_up().held_by(&gate)]);
    let request = Request::post("/piped").key("k").header("x-tag", "first");
    let first = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;
    std::fs::remove_file(&socket).unwrap();
    gate.open();
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text("idempotency-status")), (503, "unknown".to_owned()), "{first:?}");
    let line = bench.envoy.access_log_line("first").await;
    assert!(
        line.contains(" attempts=2 ") && line.contains("{remote_connection_failure"),
        "not the retry meant: {line:?}"
    );
    assert_unknown(&bench, &request, 1).await;
}

#[tokio::test]
async fn an_upstream_can_steer_what_becomes_of_its_response() {
    let bench = Bench::new(json!({})).await;
    let policies = [("store", 500), ("release", 201), ("unknown", 201), ("no-store", 201)];
    for (number, (policy, status)) in policies.into_iter().enumerate() {
        let path = format!("/{policy}");
        let steered = Answer::new(status).header("idempotency-policy", policy).json("{\"steered\":true}");
        bench.upstream.script(&path, [steered, Answer::new(201).json("{}")]);
        let before = bench.upstream.executions();
        let request = Request::post(&path).key(format!("k{number}"));
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.body.as_slice()), (status, b"{\"steered\":true}".as_slice()), "{first:?}");
        assert_eq!(first.header("idempotency-policy"), None, "it is removed at the edge: {first:?}");
        match policy {
            "store" => assert_replay_of(&first, &bench.send(&request).await),
            "release" => assert_released(&bench, &request, before + 1).await,
            "unknown" => assert_unknown(&bench, &request, before + 1).await,
            _ => {
                let problem = assert_problem(&bench.send(&request).await, 409, "response-not-kept");
                assert_eq!(problem["original_status"], status);
                bench.assert_executions(before + 1);
            }
        }
    }
}

#[tokio::test]
async fn a_word_that_steers_nothing_leaves_the_status_to_decide() {
    let bench = Bench::new(json!({})).await;
    for (number, word) in ["", "Stored", "store, release", "never"].into_iter().enumerate() {
        let path = format!("/{number}");
        let answer = Answer::new(503).header("idempotency-policy", word).body("busy");
        bench.upstream.script(&path, [answer, Answer::new(201).json("{}")]);
        let before = bench.upstream.executions();
        let request = Request::post(&path).key("k");
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.header("idempotency-policy")), (503, None), "{word:?}: {first:?}");
        assert_released(&bench, &request, before + 1).await;
    }
}

crate::bench::also_detached! {
    a_refused_connection_releases_the_key_and_the_retry_executes_once,
    a_response_cut_short_leaves_the_outcome_unknown,
    a_word_that_steers_nothing_leaves_the_status_to_decide,
    an_answer_of_a_gateway_leaves_the_outcome_unknown,
    an_answer_that_says_not_now_releases_the_key,
    an_answer_that_settles_the_matter_is_stored,
    an_answer_with_a_status_that_http_does_not_know_settles_the_matter_and_is_not_kept,
    an_unknown_outcome_can_be_retried_once_the_lease_has_run_out,
    an_upstream_can_steer_what_becomes_of_its_response,
    an_upstream_that_hangs_up_leaves_the_outcome_unknown,
    what_envoy_never_sent_releases_the_key,
    which_answers_are_stored_released_or_unknown_is_configured,
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_refused_connection_releases_the_key_and_the_retry_executes_once,
        a_response_cut_short_leaves_the_outcome_unknown,
        a_timeout_of_the_route_leaves_the_outcome_unknown,
        an_answer_after_a_lost_one_is_stored,
        an_unknown_outcome_can_be_retried_once_the_lease_has_run_out,
        an_upstream_can_steer_what_becomes_of_its_response,
        an_upstream_that_hangs_up_leaves_the_outcome_unknown,
        what_envoy_never_sent_releases_the_key,
        which_answers_are_stored_released_or_unknown_is_configured,
    }
    pooled: {
        an_upstream_can_steer_what_becomes_of_its_response,
    }
}
