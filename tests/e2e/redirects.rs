//! Redirects that Envoy follows itself: two streams, one exchange.

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Http2, Protocol, Request, Setup, assert_executed, assert_in_flight, assert_replay_of,
    assert_unknown, delay, location, lua,
};

fn order() -> Request {
    Request::post("/redirected").key("k")
}

/// Sends the request on to `path`.
fn redirect(status: u16, path: &str) -> Answer {
    Answer::new(status).header("location", location(path)).body("")
}

fn executions_at(bench: &Bench, path: &str) -> usize {
    bench.upstream.seen().iter().filter(|seen| seen.path == path).count()
}

#[tokio::test]
async fn an_internal_redirect_does_not_meet_its_own_claim() {
    for setup in [Setup::new(&json!({})), Setup::new(&json!({})).http2_upstream()] {
        let bench = Bench::start(setup).await;
        bench.upstream.script("/redirected", [redirect(307, "/elsewhere")]);
        for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
            let request = order().key(format!("{protocol:?}"));
            let first = bench.send_over(protocol, &request).await;
            assert_executed(&first, 201);
            for retry_over in Protocol::BOTH {
                assert_replay_of(&first, &bench.send_over(retry_over, &request).await);
            }
            for path in ["/redirected", "/elsewhere"] {
                assert_eq!(executions_at(&bench, path), number + 1, "executions at {path}");
            }
        }
        assert!(bench.upstream.seen().iter().all(|seen| seen.body == Some(order().body)), "a leg without its body");
    }
}

#[tokio::test]
async fn a_redirect_that_turns_into_a_get_is_replayed_by_its_final_answer() {
    let bench = Bench::new(json!({})).await;
    bench.upstream.script("/redirected", [redirect(303, "/elsewhere")]);
    bench.upstream.script("/elsewhere", [Answer::new(200).json("{\"made\":true}"), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_executed(&first, 200);
    assert_eq!(first.body, b"{\"made\":true}");
    assert_eq!(bench.upstream.seen()[1].body, Some(Vec::new()), "the second leg is a GET");
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn an_operation_is_in_flight_until_its_redirect_is_answered() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/redirected", [redirect(307, "/elsewhere")]);
    bench.upstream.script("/elsewhere", [Answer::new(201).json("{}").held_by(&gate)]);
    let first = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(2).await;
    for _ in 0..4 {
        assert_in_flight(&bench.send(&order()).await, 30);
    }
    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_client_that_leaves_behind_a_redirect_leaves_the_outcome_unknown() {
    let bench = Bench::new(json!({})).await;
    let gate = Gate::closed();
    bench.upstream.script("/redirected", [redirect(307, "/elsewhere")]);
    bench.upstream.script("/elsewhere", [Answer::new(201).json("{}").held_by(&gate)]);
    let client = bench.send_aside(Protocol::Http1, &order());
    bench.upstream.reached(2).await;
    client.abort();
    assert_unknown(&bench, &order(), 2).await;
    gate.open();
}

#[tokio::test]
async fn a_redirect_to_where_nothing_answers_leaves_the_outcome_unknown() {
    // What redirected has run the request once: that its target never got it does not undo that.
    let bench = Bench::new(json!({})).await;
    bench.upstream.script("/busy", [Answer::new(503)]);
    let mut executions = 0;
    for (target, status, legs) in [("/hostless", 503, 1), ("/direct", 418, 1), ("/busy", 503, 2)] {
        bench.upstream.script("/redirected", [redirect(307, target)]);
        let request = order().key(target);
        let first = bench.send(&request).await;
        assert_eq!((first.status, first.text("idempotency-status")), (status, "unknown".to_owned()), "{first:?}");
        executions += legs;
        assert_unknown(&bench, &request, executions).await;
    }
}

#[tokio::test]
async fn a_redirect_that_a_filter_in_front_answers_is_not_taken_for_another_request() {
    let script =
        r#"if request:headers():get(":path") == "/forbidden" then request:respond({[":status"] = "403"}, "no") end"#;
    let bench = Bench::start(Setup::new(&json!({})).filter_before(lua(script))).await;
    bench.upstream.script("/redirected", [redirect(307, "/forbidden")]);
    let mut client = bench.http1().await;
    let denied = client.send(&order()).await;
    assert_eq!(denied.status, 403, "{denied:?}");

    // The next request of the same connection, in the same worker, is one of its own.
    let other = client.send(&Request::post("/orders").key("k")).await;
    assert_executed(&other, 201);
    assert_replay_of(&other, &client.send(&Request::post("/orders").key("k")).await);
    bench.assert_executions(2);
    assert_unknown(&bench, &order(), 2).await;
}

#[tokio::test]
async fn a_redirect_that_waits_in_front_of_the_filter_is_not_mixed_up_with_other_requests() {
    let bench = Bench::start(Setup::new(&json!({})).filter_before(delay("0.2s"))).await;
    bench.upstream.script("/redirected", [redirect(307, "/elsewhere")]);
    // Over one connection, so that one worker has all of them, and so that the connection tells nothing.
    let connection = bench.http2().await;
    let send = |connection: &Http2, request: Request| {
        let mut connection = connection.clone();
        tokio::spawn(async move { connection.send(&request).await })
    };
    let keys: Vec<String> = (0..8).map(|number| format!("k{number}")).collect();
    let redirected: Vec<_> = keys.iter().map(|key| send(&connection, order().key(key.as_str()))).collect();
    let mut others = Vec::new();
    bench.upstream.reached(1).await;
    // While the second legs wait.
    for key in &keys {
        others.push(send(&connection, Request::post("/orders").key(key.as_str())));
    }

    for (path, requests) in [("/redirected", redirected), ("/orders", others)] {
        for (key, request) in keys.iter().zip(requests) {
            let first = request.await.unwrap();
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send(&Request::post(path).key(key.as_str())).await);
        }
    }
    for path in ["/redirected", "/elsewhere", "/orders"] {
        assert_eq!(executions_at(&bench, path), keys.len(), "executions at {path}");
    }
}
