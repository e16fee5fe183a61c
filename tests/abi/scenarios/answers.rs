//! First answers and replays.

use std::time::Duration;

use super::{Orders, assert_problem, order, problem, word, worker};
use crate::{
    messages::{Origin, Outcome, Request, Response},
    stream::Stream,
};

/// A response with everything that is easily lost on the way.
fn awkward() -> Response {
    Response::new(201)
        .header("content-type", "application/octet-stream")
        .header("content-encoding", "br")
        .header("x-latin", b"caf\xe9")
        .header("link", "</a>; rel=a")
        .header("x-between", "1")
        .header("link", "</b>; rel=b")
        .header("x-empty", "")
        .body(b"\0\xff\xfe body")
}

#[test]
fn the_first_request_goes_up_whole_and_its_answer_comes_back_as_it_is() {
    let (_, worker) = worker("{}");
    let stream = worker.stream();
    assert!(!stream.send(&order("k1")).is_replied());
    let upstream = stream.upstream().unwrap();
    assert_eq!((upstream.body.as_slice(), upstream.complete), (&br#"{"item":1}"#[..], true));
    stream.respond(&awkward());
    let answer = stream.finish();
    assert_eq!(
        (answer.status, answer.body.as_slice(), answer.origin),
        (201, &b"\0\xff\xfe body"[..], Origin::Upstream)
    );
    assert_eq!(answer.headers.get_all("link"), [b"</a>; rel=a", b"</b>; rel=b"]);
    assert_eq!(word(&answer), "executed");
    assert_eq!(answer.header("idempotency-replayed"), None);
}

#[test]
fn the_first_answer_streams_through_as_it_arrives() {
    let (_, worker) = worker("{}");
    let stream = worker.stream();
    stream.send(&order("k1"));
    assert_eq!(stream.response_headers(&Response::new(200), false), Outcome::Continued);
    for (chunk, so_far) in [("ab", "ab"), ("c", "abc")] {
        assert_eq!(stream.response_body(chunk, false), Outcome::Continued);
        assert_eq!(stream.answer().unwrap().body, so_far.as_bytes());
    }
}

#[test]
fn a_retry_is_replayed_byte_for_byte_on_every_worker() {
    let (host, first) = worker("{}");
    let original = first.exchange(&order("k1"), awkward);
    for worker in [first, host.worker("{}")] {
        let replay = worker.exchange(&order("k1"), || panic!("a replay reached the upstream"));
        assert_eq!((replay.status, &replay.body), (201, &original.body));
        for name in ["content-type", "content-encoding", "x-latin", "link", "x-between", "x-empty"] {
            assert_eq!(replay.headers.get_all(name), original.headers.get_all(name), "{name}");
        }
        assert_eq!(replay.header("idempotency-replayed").as_deref(), Some("true"));
        assert_eq!((word(&replay).as_str(), replay.origin), ("replayed", Origin::Filter));
        let expires = replay.header("idempotency-expires").unwrap();
        assert!(expires.starts_with("2026-01-02T00:00:"), "RFC 3339, 24 hours on: {expires}");
    }
}

#[test]
fn a_replay_leaves_out_what_belonged_to_the_first_exchange() {
    let (_, worker) = worker("{}");
    let dropped = ["set-cookie", "www-authenticate", "proxy-authenticate", "date", "server", "connection"];
    let first = dropped.iter().fold(
        Response::new(200).header("x-envoy-upstream-service-time", "3").header("x-kept", "1"),
        |response, name| response.header(name, "x"),
    );
    worker.exchange(&order("k1"), || first);
    let replay = worker.exchange(&order("k1"), || panic!("a replay reached the upstream"));
    for name in dropped.iter().chain(&["x-envoy-upstream-service-time"]) {
        assert_eq!(replay.headers.get(name), None, "{name}");
    }
    assert_eq!(replay.header("x-kept").as_deref(), Some("1"));
}

#[test]
fn answers_without_a_body_are_replayed_too() {
    for status in [200, 204, 303, 304, 404] {
        let (_, worker) = worker("{}");
        worker.exchange(&order("k1"), || Response::new(status).header("location", "/orders/1"));
        let replay = worker.exchange(&order("k1"), || panic!("a replay reached the upstream"));
        assert_eq!((replay.status, replay.body.len(), word(&replay).as_str()), (status, 0, "replayed"));
        assert_eq!(replay.header("location").as_deref(), Some("/orders/1"));
    }
}

#[test]
fn an_answer_that_ends_with_trailers_is_stored() {
    let (_, worker) = worker("{}");
    let stream = worker.stream();
    stream.send(&order("k1"));
    stream.response_headers(&Response::new(200), false);
    stream.response_body("all", false);
    stream.response_trailers([("x-checksum", "1")]);
    stream.finish();
    assert_eq!(worker.exchange(&order("k1"), || panic!("a replay reached the upstream")).body, b"all");
}

#[test]
fn a_request_that_ends_with_trailers_is_guarded() {
    let (_, worker) = worker("{}");
    let (orders, trailed) = (Orders::default(), |stream: &Stream| {
        stream.request_headers(order("k1").headers, false);
        stream.request_body(r#"{"item":1}"#, false);
        stream.request_trailers([("x-checksum", "1")])
    });
    let stream = worker.stream();
    assert!(!trailed(&stream).is_replied());
    stream.respond(&orders.run());
    stream.finish();
    let retry = worker.stream();
    assert_eq!(word(&trailed(&retry).reply()), "replayed");
}

#[test]
fn a_stored_answer_is_kept_for_its_ttl_and_replays_do_not_extend_it() {
    let (host, worker) = worker(r#"{"ttl":"1h"}"#);
    let orders = Orders::default();
    orders.serve(&worker, &order("k1"));
    host.advance(Duration::from_secs(3_500));
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "replayed");
    host.advance(Duration::from_secs(200));
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "executed");
    assert_eq!(orders.count(), 2);
}

#[test]
fn a_response_over_the_limit_goes_out_whole_and_leaves_a_tombstone() {
    let (_, worker) = worker(r#"{"limits":{"response_body":1024}}"#);
    let body = vec![b'x'; 2_000];
    let first = worker.exchange(&order("k1"), || Response::new(201).body(&body));
    assert_eq!((first.body.len(), word(&first).as_str()), (2_000, "executed"));
    let retry = worker.exchange(&order("k1"), || panic!("a finished operation ran again"));
    assert_problem(&retry, 409, "response-not-kept");
    assert_eq!((problem(&retry)["original_status"].as_u64(), word(&retry).as_str()), (Some(201), "not-kept"));
}

#[test]
fn the_status_word_is_left_for_the_access_log() {
    let (_, worker) = worker("{}");
    let stream = worker.stream();
    stream.send(&order("k1"));
    stream.respond(&Response::new(200));
    assert_eq!(stream.filter_state("wasm.idemgate.status").as_deref(), Some(&b"executed"[..]));
    stream.finish();
    let replay = worker.stream();
    replay.send(&order("k1"));
    assert_eq!(replay.filter_state("wasm.idemgate.status").as_deref(), Some(&b"replayed"[..]));
}

#[test]
fn the_access_log_is_told_which_operation_it_was_as_the_log_names_it() {
    let (host, worker) = worker("{}");
    let named = |request: &Request, answer: u16| {
        let stream = worker.stream();
        stream.send(request);
        if stream.upstream().is_some() {
            stream.respond(&Response::new(answer));
        }
        let operation = stream.filter_state("wasm.idemgate.operation");
        stream.finish();
        operation.map(|operation| String::from_utf8(operation).unwrap())
    };
    let first = named(&order("k1"), 502).unwrap();
    assert!(first.len() == 12 && first.bytes().all(|digit| digit.is_ascii_hexdigit()), "{first}");
    assert_eq!(named(&order("k1"), 201), Some(first.clone()), "a retry of what may have run");
    let reused = order("k1").body("another");
    assert_eq!(named(&reused, 201), Some(first.clone()), "a key that was reused");
    assert!(host.log().iter().any(|line| line.message.contains(&format!("operation {first}: requests.key_reused"))));
    assert_ne!(named(&order("k2"), 502), Some(first));
    // Nothing is to be looked up about these.
    assert_eq!(named(&order("k3"), 201), None);
    assert_eq!(named(&order("k3"), 201), None, "a replay");
    assert_eq!(named(&Request::post("/orders").key("not a key").body("{}"), 201), None);
    assert_eq!(named(&Request::post("/orders").body("{}"), 201), None);
}

#[test]
fn what_is_not_guarded_passes_untouched() {
    let (host, worker) = worker("{}");
    let keyed = |method| Request::new(method, "/orders").key("k1").header("authorization", "Bearer alice");
    let unguarded = [
        Request::post("/orders").body("{}"),
        keyed("GET"),
        keyed("HEAD"),
        keyed("OPTIONS"),
        keyed("TRACE"),
        keyed("PUT"),
        order("k1").without("content-type").header("content-type", "application/grpc+proto"),
        keyed("POST").header("connection", "upgrade").header("upgrade", "websocket"),
    ];
    let keys = host.shared_data().keys();
    for request in unguarded {
        for _ in 0..2 {
            let stream = worker.stream();
            assert_eq!(stream.send(&request), Outcome::Continued, "{request:?}");
            assert_eq!(stream.upstream().unwrap().headers, request.headers);
            stream.respond(&Response::new(200).header("x", "1"));
            assert_eq!(stream.finish().headers, [("x", "1")].into(), "{request:?}");
        }
    }
    assert_eq!(host.shared_data().keys(), keys, "an unguarded request left a trace in the store");
}
