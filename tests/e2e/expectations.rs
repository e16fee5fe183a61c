//! `Expect: 100-continue` (contract, section 4): who waits for the service's word is never held.
//!
//! Envoy answers it by itself, and takes it off, unless `proxy_100_continue` leaves it to the service.

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, Setup, Upload, Way, also_on_remote_stores, assert_executed, assert_problem,
    assert_replay_of,
};

fn configuration() -> serde_json::Value {
    json!({ "routes": [
        { "match": { "path": "/detached" }, "policy": { "execution": { "mode": "detached" } } },
        { "match": { "path": "/none" }, "policy": { "fingerprint": { "body": "none" } } },
        { "match": { "path": "/none-waits" }, "policy": {
            "fingerprint": { "body": "none" }, "duplicates": { "in_flight": "wait", "wait_timeout": "60s" },
        } },
    ] })
}

async fn bench() -> Bench {
    Bench::start(Setup::new(&configuration()).proxying_100_continue()).await
}

fn waiting(path: &str, key: &str) -> Request {
    Request::post(path).key(key).header("expect", "100-continue")
}

/// The client sends no byte of the body.
async fn assert_refused(bench: &Bench, request: &Request) {
    for way in [Way::Http1Chunked, Way::Http1Length, Way::Http2] {
        let upload = Upload::begin(&bench.envoy, way, request).await;
        assert_problem(&upload.response_so_far().await, 417, "expectation-failed");
    }
}

#[tokio::test]
async fn who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_body() {
    let bench = bench().await;
    for (number, path) in ["/orders", "/detached"].into_iter().enumerate() {
        let request = waiting(path, "k");
        assert_refused(&bench, &request).await;
        bench.assert_executions(number);
        bench.envoy.reaches_stat("wasmcustom.idemgate.requests.expectation_failed", 3 * (number as u64 + 1)).await;
        // What it is told to do.
        assert_executed(&bench.send(&request.without("expect")).await, 201);
    }
    bench.assert_executions(2);
}

#[tokio::test]
async fn who_waits_for_a_100_gets_the_services_where_nothing_is_held() {
    let bench = bench().await;
    for path in ["/none", "/none-waits"] {
        let request = waiting(path, "k").body("a body");
        let before = bench.upstream.executions();
        let mut client = bench.http1().await;
        client.begin_head(&request).await;
        client.sees(b"HTTP/1.1 100 Continue\r\n").await;
        bench.assert_executions(before + 1);
        client.write(&request.body).await;
        let first = client.response_to("POST").await;
        assert_executed(&first, 201);
        assert_eq!(bench.upstream.seen()[before].body.as_deref(), Some(b"a body".as_slice()));

        // A replay needs no body.
        let mut client = bench.http1().await;
        client.begin_head(&request).await;
        assert_replay_of(&first, &client.response_to("POST").await);
        bench.assert_executions(before + 1);
    }
}

#[tokio::test]
async fn who_waits_for_a_100_does_not_wait_for_another_request() {
    let bench = bench().await;
    let gate = Gate::closed();
    bench.upstream.script("/none-waits", [Answer::new(201).json("{}").held_by(&gate)]);
    let first = bench.envoy.send_aside(Protocol::Http1, &Request::post("/none-waits").key("k"));
    bench.upstream.reached(1).await;
    assert_refused(&bench, &waiting("/none-waits", "k")).await;
    gate.open();
    assert_executed(&first.await.expect("the first client"), 201);
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_envoy_answers_by_itself_stays_as_it_was() {
    let bench = Bench::start(Setup::new(&configuration())).await;
    for path in ["/orders", "/detached", "/none", "/none-waits"] {
        let request = waiting(path, "k").body("a body");
        let mut client = bench.http1().await;
        client.begin_head(&request).await;
        client.sees(b"HTTP/1.1 100 Continue\r\n").await;
        client.write(&request.body).await;
        let first = client.response_to("POST").await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request).await);
    }
    bench.assert_executions(4);
}

/// The store's answer would be waited for, whatever the fingerprint.
mod remote {
    use super::*;
    use crate::bench::{Store, Transport};

    #[test]
    fn direct() {
        Store::Redis(Transport::Direct).run(who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_store);
    }

    #[test]
    fn dynamodb() {
        Store::DynamoDb.run(who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_store);
    }

    #[test]
    fn postgres() {
        Store::Postgres.run(who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_store);
    }

    #[test]
    fn streams() {
        Store::Redis(Transport::Streams).run(who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_store);
    }

    #[test]
    fn pooled() {
        Store::Redis(Transport::Pooled).run(who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_store);
    }

    #[tokio::main(flavor = "current_thread")]
    async fn who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_store() {
        let bench = bench().await;
        for path in ["/none", "/none-waits"] {
            assert_refused(&bench, &waiting(path, "k")).await;
        }
        bench.assert_executions(0);
    }
}

also_on_remote_stores! {
    direct: {
        who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_body,
        what_envoy_answers_by_itself_stays_as_it_was,
    }
    pooled: {
        who_waits_for_a_100_is_refused_where_the_filter_waits_for_the_body,
        what_envoy_answers_by_itself_stays_as_it_was,
    }
}
