//! Keys in the body (`key.pointers`), and requests that are one with others without any key (`key.derive`).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, Upload, Way, also_on_remote_stores, assert_executed, assert_in_flight,
    assert_problem, assert_replay_of, assert_unguarded, patiently,
};

const MODES: [&str; 2] = ["inline", "detached"];

fn payment(body: &str) -> Request {
    Request::post("/payments").caller("ann").body(body)
}

async fn bench_with_pointers(mode: &str) -> Bench {
    Bench::new(json!({
        "key": { "pointers": ["/idempotency_key", "/params/_meta/key"] },
        "execution": { "mode": mode },
    }))
    .await
}

#[tokio::test]
async fn a_key_in_the_body_is_that_of_its_operation() {
    for mode in MODES {
        let bench = bench_with_pointers(mode).await;
        let mut executions = 0;
        for body in [
            r#"{"idempotency_key":"order 17, \"retry\"","amount":1}"#,
            r#"{"amount":1,"params":{"_meta":{"key":17}}}"#,
            r#" [ "no object" ] "#,
            "idempotency_key=k",
        ] {
            let has_key = body.contains('{');
            for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
                let request = payment(body).caller(&format!("caller {number}"));
                let first = bench.send_over(protocol, &request).await;
                executions += 1;
                if has_key {
                    assert_executed(&first, 201);
                    for protocol in Protocol::BOTH {
                        assert_replay_of(&first, &bench.send_over(protocol, &request).await);
                    }
                    let reused = request.clone().body(body.replace("\"amount\":1", "\"amount\":2"));
                    assert_problem(&bench.send_over(protocol, &reused).await, 422, "key-reused");
                } else {
                    assert_unguarded(&first, 201);
                    assert_unguarded(&bench.send_over(protocol, &request).await, 201);
                    executions += 1;
                }
                bench.assert_executions(executions);
                assert_eq!(bench.upstream.seen()[executions - 1].body.as_deref(), Some(body.as_bytes()));
            }
        }
        // In a header it is the same key.
        let in_header = payment(r#"{"amount":1,"params":{"_meta":{"key":17}}}"#).caller("caller 0").key("17");
        assert_eq!(bench.send(&in_header).await.text("idempotency-status"), "replayed");
        bench.assert_executions(executions);
    }
}

#[tokio::test]
async fn what_is_no_key_where_one_is_to_be_is_refused_and_never_runs() {
    let bench = bench_with_pointers("inline").await;
    let deep = format!(r#"{{"params":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        r#"{"idempotency_key":null}"#,
        r#"{"idempotency_key":{"k":1}}"#,
        r#"{"idempotency_key":1.5}"#,
        r#"{"idempotency_key":""}"#,
        r#"{"idempotency_key":"cl\u00e9"}"#,
        r#"{"idempotency_key":"a","idempotency_key":"b"}"#,
        r#"{"idempotency_key":"a","\u0069dempotency_key":"a"}"#,
        r#"{"params":{"_meta":{"key":"a"}},"params":{}}"#,
    ] {
        for protocol in Protocol::BOTH {
            let problem = assert_problem(&bench.send_over(protocol, &payment(body)).await, 400, "key-invalid");
            assert!(!problem["detail"].as_str().unwrap().contains("cl\u{e9}"), "{problem}");
        }
    }
    bench.assert_executions(0);
    // Nested 100,000 times, and there is nothing where the pointers lead.
    assert_unguarded(&bench.send(&payment(&deep)).await, 201);
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_body_that_is_too_large_to_be_looked_into_never_passes() {
    let bench = Bench::new(json!({
        "key": { "pointers": ["/id"], "required": true }, "limits": { "request_body": "1KiB" },
    }))
    .await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(1024));
    for request in [payment(&large), payment(&large).chunked()] {
        assert_problem(&bench.send(&request).await, 413, "request-too-large");
    }
    let missing = assert_problem(&bench.send(&payment("{}")).await, 400, "key-missing");
    assert!(missing["detail"].as_str().unwrap().contains("'/id'"), "{missing}");
    assert_problem(&bench.send(&payment("")).await, 400, "key-missing");
    bench.assert_executions(0);
    assert_executed(&bench.send(&payment(r#"{"id":1}"#)).await, 201);
}

/// It goes on from the callback in which its end has come, where no Envoy loses what it held.
#[tokio::test]
async fn a_request_without_a_key_arrives_whole_once_it_was_looked_into() {
    for mode in MODES {
        let bench = bench_with_pointers(mode).await;
        for (number, way) in Way::ALL.into_iter().enumerate() {
            let text: String = (0..20_000).map(|at| char::from(b'a' + ((at + number) % 26) as u8)).collect();
            let request = payment(&format!(r#"["{text}","{text}","{text}"]"#));
            let before = bench.envoy.received().await;
            let mut upload = Upload::begin(&bench.envoy, way, &request).await;
            let pieces: Vec<_> = request.body.chunks(15_000).collect();
            upload.send(pieces[0]).await;
            bench.envoy.has_received(before + 15_000).await;
            assert_eq!(bench.upstream.executions(), number, "nothing goes on before its end");
            for piece in &pieces[1..] {
                upload.send(piece).await;
            }
            assert_unguarded(&upload.end().await.response().await, 201);
            let seen = &bench.upstream.seen()[number];
            assert!(seen.body.as_ref() == Some(&request.body), "{mode} {way:?}");
        }
    }
}

#[tokio::test]
async fn a_double_click_is_one_request_without_any_key() {
    for mode in MODES {
        let bench = Bench::new(json!({ "key": { "derive": { "window": "1h" } }, "execution": { "mode": mode } })).await;
        let gate = Gate::closed();
        bench.upstream.script("/payments", [Answer::new(201).json("{\"paid\":1}").held_by(&gate)]);
        let click = payment("amount=1&to=bob").content_type("application/x-www-form-urlencoded");
        let first = bench.send_aside(Protocol::Http1, &click);
        bench.upstream.reached(1).await;
        for protocol in Protocol::BOTH {
            assert_in_flight(&bench.send_over(protocol, &click).await, 30);
        }
        gate.open();
        let first = first.await.unwrap();
        assert_executed(&first, 201);
        for protocol in Protocol::BOTH {
            assert_replay_of(&first, &bench.send_over(protocol, &click).await);
        }
        bench.assert_executions(1);

        let others = [
            click.clone().body("amount=2&to=bob"),
            click.clone().caller("bob"),
            click.clone().key("k"),
            Request { target: "/payments?x=1".to_owned(), ..click.clone() },
            Request { target: "/refunds".to_owned(), ..click.clone() },
            click.clone().body(""),
        ];
        for (number, other) in others.iter().enumerate() {
            let first = bench.send(other).await;
            assert_executed(&first, 201);
            bench.assert_executions(number + 2);
            assert_replay_of(&first, &bench.send(other).await);
        }
        let mut executions = 1 + others.len();
        // Of clients that cannot be told apart, two that ask for the same are two.
        for _ in 0..2 {
            assert_unguarded(&bench.send(&click.clone().without("authorization")).await, 201);
            executions += 1;
            bench.assert_executions(executions);
        }
    }
}

#[tokio::test]
async fn after_the_window_the_same_request_is_another_one() {
    let bench = Bench::new(json!({ "key": { "derive": { "window": "1s" } } })).await;
    let click = payment("{}");
    assert_executed(&bench.send(&click).await, 201);
    patiently("the end of the window", async {
        while bench.send(&click).await.text("idempotency-status") != "executed" {}
    })
    .await;
    bench.assert_executions(2);
}

also_on_remote_stores! {
    direct: {
        a_key_in_the_body_is_that_of_its_operation,
        a_request_without_a_key_arrives_whole_once_it_was_looked_into,
        a_double_click_is_one_request_without_any_key,
        after_the_window_the_same_request_is_another_one,
    }
}
