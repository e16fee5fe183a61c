//! Requests that are answered without an execution.

use std::time::Duration;

use super::{Orders, assert_problem, order, problem, retry_after, word, worker};
use crate::{
    host::{Host, Settings},
    messages::{Outcome, Request},
};

#[test]
fn another_body_query_or_content_type_with_the_same_key_gets_422() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    orders.serve(&worker, &order("k1"));
    let others = [
        order("k1").body(r#"{"item":2}"#),
        order("k1").body(""),
        Request::post("/orders?item=2").key("k1").body(r#"{"item":1}"#),
        order("k1").without("content-type").header("content-type", "text/plain"),
    ];
    for request in others {
        let answer = orders.serve(&worker, &request);
        assert_problem(&answer, 422, "key-reused");
        assert_eq!(word(&answer), "key-reused");
    }
    assert_eq!((orders.count(), word(&orders.serve(&worker, &order("k1"))).as_str()), (1, "replayed"));
}

#[test]
fn a_duplicate_in_flight_gets_409_and_another_body_422() {
    let (host, worker) = worker("{}");
    let (other, orders) = (host.worker("{}"), Orders::default());
    let stream = worker.stream();
    stream.send(&order("k1"));
    for duplicate in [&worker, &other] {
        let answer = orders.serve(duplicate, &order("k1"));
        assert_problem(&answer, 409, "request-in-flight");
        assert!((1..=30).contains(&retry_after(&answer)), "{answer:?}");
        assert_eq!(word(&answer), "in-flight");
        assert_problem(&orders.serve(duplicate, &order("k1").body("other")), 422, "key-reused");
    }
    assert_eq!(orders.count(), 0);
    stream.respond(&orders.run());
    stream.finish();
    assert_eq!(word(&orders.serve(&other, &order("k1"))), "replayed");
}

#[test]
fn retry_after_never_promises_more_than_the_lease_that_is_left() {
    let (host, worker) = worker(r#"{"lease":"10s"}"#);
    let (stream, orders) = (worker.stream(), Orders::default());
    stream.send(&order("k1"));
    host.advance(Duration::from_millis(8_500));
    let answer = orders.serve(&worker, &order("k1"));
    assert_problem(&answer, 409, "request-in-flight");
    assert_eq!(retry_after(&answer), 1);
}

#[test]
fn the_pause_grows_with_the_age_of_the_first_request_in_every_worker() {
    let (host, worker) = worker("{}");
    let (other, orders) = (host.worker("{}"), Orders::default());
    let stream = worker.stream();
    stream.send(&order("k1"));
    let mut told = Vec::new();
    for pause in [0, 1, 2, 4] {
        host.advance(Duration::from_secs(pause));
        told.extend([&worker, &other].map(|worker| retry_after(&orders.serve(worker, &order("k1")))));
    }
    assert_eq!(told, [1, 1, 1, 1, 3, 3, 7, 7]);
}

#[test]
fn a_route_by_headers_holds_for_a_request_with_a_body_and_for_one_without() {
    let (_, worker) =
        worker(r#"{"routes": [{"match": {"headers": {"x-tenant": "a*"}}, "policy": {"key": {"required": true}}}]}"#);
    let orders = Orders::default();
    for body in [r#"{"item":1}"#, ""] {
        let request = || Request::post("/orders").body(body);
        assert_problem(&orders.serve(&worker, &request().header("x-tenant", "ann")), 400, "key-missing");
        for other in [request(), request().header("x-tenant", "bob"), request().header("x-tenants", "ann")] {
            assert_eq!(orders.serve(&worker, &other).status, 201);
        }
    }
    assert_eq!(orders.count(), 6);
}

#[test]
fn problems_take_the_form_that_their_route_gives_them() {
    let (_, worker) = worker(
        r#"{"problems": {"status": {"key-reused": 409}}, "routes": [{"match": {"path": "/acp/**"}, "policy": {"problems": {
            "retry_hints": false,
            "body": {"type": "invalid_request", "code": "idempotency_conflict", "message": "${detail}"}
        }}}]}"#,
    );
    let orders = Orders::default();
    let acp = || Request::post("/acp/orders").key("k1");
    for request in [order("k1"), acp().body("{}")] {
        assert_eq!(word(&orders.serve(&worker, &request)), "executed");
    }
    let answer = orders.serve(&worker, &order("k1").body("other"));
    assert_problem(&answer, 409, "key-reused");
    let detail = problem(&answer)["detail"].clone();
    let error = serde_json::json!({"type": "idempotency_error", "code": "key-reused", "message": detail});
    assert_eq!(problem(&answer)["error"], error);
    for name in ["x-should-retry", "stripe-should-retry"] {
        assert_eq!(answer.header(name).as_deref(), Some("false"), "{answer:?}");
    }

    let answer = orders.serve(&worker, &acp().body("other"));
    assert_eq!((answer.status, word(&answer).as_str()), (409, "key-reused"));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(answer.header("x-should-retry").or(answer.header("stripe-should-retry")), None);
    let expected = serde_json::json!({"type": "invalid_request", "code": "idempotency_conflict", "message": detail});
    assert_eq!(problem(&answer), expected);
    assert_eq!(orders.count(), 2);
}

#[test]
fn a_key_that_is_malformed_gets_400_and_runs_nothing() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let long = "x".repeat(256);
    let malformed: [&[u8]; 13] = [
        b"",
        b"  ",
        b"\"\"",
        long.as_bytes(),
        b"a\x01b",
        b"a\tb",
        b"caf\xc3\xa9",
        b"caf\xe9",
        b"\"a",
        b"\"a\\n\"",
        b"\"a\", \"b\"",
        b"\"a\";p=1",
        b"a b",
    ];
    for key in malformed {
        let answer = orders.serve(&worker, &Request::post("/orders").key(key).body("{}"));
        assert_problem(&answer, 400, "key-invalid");
        assert_eq!(word(&answer), "rejected");
    }
    let twice = orders.serve(&worker, &Request::post("/orders").key("a").key("a").body("{}"));
    assert_problem(&twice, 400, "key-invalid");
    assert_eq!(orders.count(), 0);
}

#[test]
fn the_bare_and_the_quoted_form_are_one_key() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let longest = "x".repeat(255);
    for (bare, quoted) in [("k1", r#""k1""#), (r#"a"b"#, r#""a\"b""#), (&longest, &format!("\"{longest}\""))] {
        assert_eq!(word(&orders.serve(&worker, &order(bare))), "executed", "{bare}");
        assert_eq!(word(&orders.serve(&worker, &order(quoted))), "replayed", "{quoted}");
    }
}

#[test]
fn a_required_key_that_is_missing_gets_400() {
    let (_, worker) = worker(r#"{"key":{"required":true}}"#);
    let orders = Orders::default();
    assert_problem(&orders.serve(&worker, &Request::post("/orders").body("{}")), 400, "key-missing");
    assert_eq!(orders.count(), 0);
    let read = orders.serve(&worker, &Request::new("GET", "/orders"));
    assert_eq!((read.status, orders.count()), (201, 1));
}

#[test]
fn a_required_caller_who_is_absent_gets_403() {
    let (_, worker) = worker(r#"{"caller":{"required":true}}"#);
    let orders = Orders::default();
    assert_problem(&orders.serve(&worker, &order("k1").without("authorization")), 403, "caller-unknown");
    assert_eq!(orders.count(), 0);
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "executed");
}

#[test]
fn a_key_belongs_to_its_caller_authority_method_and_path() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let others = [
        order("k1"),
        order("k1").without("authorization"),
        order("k1").without("authorization").header("authorization", "Bearer bob"),
        order("k1").without("authorization").header("authorization", b"Bearer \xff"),
        order("k1").without(":authority").header(":authority", "other.example"),
        Request::post("/refunds").key("k1").body(r#"{"item":1}"#),
        order("k1").without(":method").header(":method", "PATCH"),
        order("k2"),
    ];
    for (index, request) in others.iter().enumerate() {
        assert_eq!(word(&orders.serve(&worker, request)), "executed", "{request:?}");
        assert_eq!(orders.count(), index + 1);
    }
    for request in &others {
        assert_eq!(word(&orders.serve(&worker, request)), "replayed", "{request:?}");
    }
}

#[test]
fn a_caller_may_be_a_verified_attribute() {
    let (_, worker) = worker(r#"{"caller":{"identity":[{"property":["connection","uri_san_peer_certificate"]}]}}"#);
    let orders = Orders::default();
    let as_caller = |name: &str| {
        let mut stream = worker.stream();
        stream.set_property(&["connection", "uri_san_peer_certificate"], name);
        if !stream.send(&order("k1")).is_replied() {
            stream.respond(&orders.run());
        }
        word(&stream.finish())
    };
    assert_eq!(["a", "b", "a"].map(as_caller), ["executed", "executed", "replayed"]);
}

#[test]
fn a_body_over_the_limit_gets_413_and_runs_nothing() {
    let (_, worker) = worker(r#"{"limits":{"request_body":16}}"#);
    let orders = Orders::default();
    let large = order("k1").body("x".repeat(17));
    assert_problem(&orders.serve(&worker, &large), 413, "request-too-large");
    let announced = worker.stream();
    let outcome = announced.request_headers(large.clone().header("content-length", "17").headers, false);
    assert_problem(&outcome.reply(), 413, "request-too-large");
    let chunked = worker.stream();
    chunked.request_headers(large.headers, false);
    assert_eq!(chunked.request_body("x".repeat(16), false), Outcome::Paused);
    assert_problem(&chunked.request_body("x", false).reply(), 413, "request-too-large");
    assert_eq!(orders.count(), 0);
}

#[test]
fn a_host_that_keeps_the_body_back_gets_500_within_five_seconds() {
    let host = Host::with(Settings { body_while_headers_held: false, ..Settings::idemgate() });
    let worker = host.worker("{}");
    let stream = worker.stream();
    assert_eq!(stream.send(&order("k1")), Outcome::Withheld);
    for _ in 0..50 {
        if stream.answer().is_none() {
            host.advance(Duration::from_millis(100));
            assert!(worker.tick(), "no tick looks after a held request");
        }
    }
    assert_eq!(stream.upstream(), None);
    assert_problem(&stream.finish(), 500, "host-unsupported");
    assert!(host.log().iter().any(|line| line.message.contains("allow_on_headers_stop_iteration")));
}

#[test]
fn such_a_host_serves_policies_that_do_not_need_the_body() {
    let host = Host::with(Settings { body_while_headers_held: false, ..Settings::idemgate() });
    let worker = host.worker(r#"{"fingerprint":{"body":"none"}}"#);
    let orders = Orders::default();
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "executed");
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "replayed");
}
