//! Policies by route (contract, section 2, `routes`).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, Setup, assert_executed, assert_in_flight, assert_problem, assert_replay_of,
    assert_unguarded, refusal,
};

#[tokio::test]
async fn each_request_is_guarded_as_the_first_route_that_matches_it_says() {
    let bench = Bench::new(json!({
        "mode": "off",
        "routes": [
            { "match": { "path": "/payments/health" }, "policy": {} },
            { "match": { "path": "/payments/**", "methods": ["POST"] },
              "policy": { "mode": "enforce", "key": { "required": true, "headers": ["x-payment-key"] } } },
            { "match": { "authority": "*.partner.example" },
              "policy": { "mode": "enforce", "methods": ["PUT"], "replay": { "header": "idempotent-replayed" } } },
        ],
    }))
    .await;

    let payment = Request::post("/payments/7?currency=EUR").header("x-payment-key", "k");
    let first = bench.send(&payment).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&payment).await);
    assert_problem(&bench.send(&Request::post("/payments/7").key("k")).await, 400, "key-missing");

    let mut expected = 1;
    for request in [
        Request::post("/payments/health").header("x-payment-key", "k"),
        Request::new("PATCH", "/payments/7").header("x-payment-key", "k"),
        Request::post("/orders").key("k"),
        Request::new("PUT", "/orders").key("k"),
    ] {
        for _ in 0..2 {
            assert_unguarded(&bench.send(&request).await, 201);
            expected += 1;
        }
    }
    let mut client = bench.http1().await;
    let mut at_partner = async || {
        let message =
            "PUT /orders HTTP/1.1\r\nhost: A.Partner.Example:8443\r\nidempotency-key: k\r\ncontent-length: 2\r\n\r\n{}";
        client.write(message.as_bytes()).await;
        client.response_to("PUT").await
    };
    assert_executed(&at_partner().await, 201);
    let replay = at_partner().await;
    assert_eq!(replay.text("idempotent-replayed"), "true", "{replay:?}");
    bench.assert_executions(expected + 1);
}

#[tokio::test]
async fn a_route_may_let_duplicates_wait_while_others_are_told_to_come_back() {
    let bench = Bench::new(json!({
        "routes": [{ "match": { "path": "/slow" }, "policy": { "duplicates": { "in_flight": "wait" } } }],
    }))
    .await;
    let (slow_gate, gate) = (Gate::closed(), Gate::closed());
    bench.upstream.script("/slow", [Answer::new(201).json("{}").held_by(&slow_gate)]);
    bench.upstream.script("/orders", [Answer::new(201).json("{}").held_by(&gate)]);
    let (slow, order) = (Request::post("/slow").key("k"), Request::post("/orders").key("k"));
    let first_slow = bench.send_aside(Protocol::Http1, &slow);
    let first_order = bench.send_aside(Protocol::Http1, &order);
    bench.upstream.reached(2).await;

    let waiting = bench.send_aside(Protocol::Http1, &slow);
    bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
    assert_in_flight(&bench.send(&order).await, 30);

    slow_gate.open();
    gate.open();
    let first = first_slow.await.unwrap();
    assert_executed(&first, 201);
    assert_replay_of(&first, &waiting.await.unwrap());
    assert_executed(&first_order.await.unwrap(), 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_route_may_run_detached_while_others_run_in_the_clients_stream() {
    let bench = Bench::new(json!({
        "routes": [{ "match": { "path": "/payments" }, "policy": { "execution": { "mode": "detached" } } }],
    }))
    .await;
    let gates = [Gate::closed(), Gate::closed()];
    for (path, gate) in ["/payments", "/orders"].into_iter().zip(&gates) {
        bench.upstream.script(path, [Answer::new(201).json("{}").held_by(gate)]);
    }
    for (number, path) in ["/payments", "/orders"].into_iter().enumerate() {
        let mut client = bench.http1().await;
        client.begin(&Request::post(path).key("k")).await;
        bench.upstream.reached(number + 1).await;
        client.hang_up();
    }
    gates.iter().for_each(Gate::open);
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.stored", 1).await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.unknown", 1).await;
    let replay = bench.send(&Request::post("/payments").key("k")).await;
    assert_eq!(replay.text("idempotency-status"), "replayed", "{replay:?}");
    assert_problem(&bench.send(&Request::post("/orders").key("k")).await, 409, "outcome-unknown");
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_named_route_is_counted_apart_and_in_the_whole() {
    let bench = Bench::new(json!({
        "routes": [{ "name": "payments", "match": { "path": "/payments" }, "policy": {} }],
    }))
    .await;
    for path in ["/payments", "/payments", "/orders"] {
        bench.send(&Request::post(path).key("k")).await;
    }
    for (name, count) in [
        ("requests.executed", 2),
        ("requests.replayed", 1),
        ("outcomes.stored", 2),
        ("route.payments.requests.executed", 1),
        ("route.payments.requests.replayed", 1),
        ("route.payments.outcomes.stored", 1),
    ] {
        bench.envoy.reaches_stat(&format!("wasmcustom.idemgate.{name}"), count).await;
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_a_method_or_a_type_goes_past_a_required_key() {
    let bench = Bench::new(json!({
        "mode": "off",
        "routes": [{ "match": { "path": "/pay/**" }, "policy": { "mode": "enforce", "key": { "required": true } } }],
    }))
    .await;
    for request in [
        Request::post("/pay/x"),
        Request::post("/%70ay/x"),
        Request::post("/p%61%79"),
        Request::post("/pay/x").content_type("application/grpcXjson"),
        Request::post("/pay/x").content_type("application/grpc-web+proto"),
    ] {
        for protocol in Protocol::BOTH {
            assert_problem(&bench.send_over(protocol, &request).await, 400, "key-missing");
        }
    }
    let lower_case = Request::new("post", "/pay/x");
    assert_problem(&bench.send_over(Protocol::Http2, &lower_case).await, 400, "key-missing");
    // Envoy takes this for gRPC and turns the problem into one of that; it is refused all the same.
    let two_types = Request::post("/pay/x").content_type("application/grpc+proto,application/json");
    assert_eq!(bench.send(&two_types).await.text("idempotency-status"), "rejected");
    bench.assert_executions(0);

    // What only Envoy can resolve, as this one is not told to, is said. Each request may come to another worker.
    let unresolved = [("//pay/x", "merge_slashes"), ("/z/../pay", "normalize_path"), ("/pay%2Fx", "path_with_escaped")];
    for (path, setting) in unresolved {
        for _ in 0..10 {
            assert_unguarded(&bench.send(&Request::post(path)).await, 201);
        }
        let log = bench.envoy.log();
        let said = log.lines().filter(|line| line.contains("the path of a request has") && line.contains(setting));
        assert!((1..=4).contains(&said.count()), "{path}: once in each worker\n{log}");
    }
}

#[tokio::test]
async fn a_route_that_can_never_match_is_refused_with_its_place() {
    let configuration = json!({
        "routes": [
            { "match": { "path": "/orders/**" }, "policy": {} },
            { "match": { "path": "/orders/*/pay" }, "policy": { "mode": "off" } },
        ],
    });
    let log = refusal(&Setup::new(&configuration)).await;
    assert!(
        log.contains(
            "routes[1].match: found a match that no request gets to, because routes[0] matches all that it does"
        ),
        "{log}"
    );
}

/// One path for all calls, as MCP has it: headers tell those that must run once from the others.
#[tokio::test]
async fn routes_of_one_path_are_told_apart_by_headers_with_and_without_a_body() {
    let bench = Bench::new(json!({
        "mode": "off",
        "routes": [
            { "match": { "path": "/mcp", "headers": { "Mcp-Method": "tools/*", "mcp-name": "pay*" } },
              "policy": { "mode": "enforce", "key": { "required": true } } },
        ],
    }))
    .await;
    let call = |method: &'static str, name: &'static str| {
        Request::post("/mcp").header("mcp-method", method).header("mcp-name", name)
    };
    let mut executions = 0;
    for protocol in Protocol::BOTH {
        for (key, request) in
            [("body", call("tools/call", "pay_invoice")), ("none", call("tools/call", "pay").body(""))]
        {
            assert_problem(&bench.send_over(protocol, &request).await, 400, "key-missing");
            let request = request.key(format!("{key} {protocol:?}").replace(' ', "-"));
            let first = bench.send_over(protocol, &request).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send_over(protocol, &request).await);
            executions += 1;
        }
        for request in
            [call("initialize", "pay"), call("tools/call", "list"), Request::post("/mcp").header("mcp-name", "pay")]
        {
            for _ in 0..2 {
                assert_unguarded(&bench.send_over(protocol, &request.clone().key("k")).await, 201);
                executions += 1;
            }
        }
    }
    bench.assert_executions(executions);
}

/// The problems of two protocols of shops: ACP wants its own JSON, UCP another status.
#[tokio::test]
async fn problems_take_the_form_of_the_api_of_their_route() {
    for mode in ["inline", "detached"] {
        let bench = Bench::new(json!({
            "execution": { "mode": mode },
            "routes": [
                { "match": { "path": "/acp/**" }, "policy": { "problems": {
                    "status": { "key-reused": 422 },
                    "body": { "type": "invalid_request", "code": "idempotency_conflict", "message": "${detail}", "status": "${status}" },
                } } },
                { "match": { "path": "/ucp/**" }, "policy": { "problems": { "status": { "key-reused": 409 } } } },
            ],
        }))
        .await;
        for (number, (path, status)) in
            [("/acp/orders", 422), ("/ucp/orders", 409), ("/orders", 422)].into_iter().enumerate()
        {
            let request = Request::post(path).key("k");
            assert_executed(&bench.send(&request).await, 201);
            for protocol in Protocol::BOTH {
                let reused = bench.send_over(protocol, &request.clone().body("another")).await;
                assert_eq!(reused.text("x-should-retry"), "false", "{reused:?}");
                assert_eq!(reused.text("stripe-should-retry"), "false", "{reused:?}");
                assert_eq!(reused.header("retry-after"), None, "{reused:?}");
                if path == "/acp/orders" {
                    let answer = reused.json().unwrap();
                    assert_eq!((reused.status, reused.text("content-type").as_str()), (status, "application/json"));
                    assert_eq!((&answer["code"], &answer["status"]), (&json!("idempotency_conflict"), &json!(422)));
                    assert!(answer["message"].as_str().is_some_and(|text| text.contains("Use a new key")), "{answer}");
                } else {
                    let problem = assert_problem(&reused, status, "key-reused");
                    assert_eq!(problem["error"]["code"], "key-reused", "{problem}");
                }
            }
            bench.assert_executions(number + 1);
        }
    }
}
