//! Detached execution: the filter makes the call itself, so that it outlives the client.

use std::time::Duration;

use super::{Orders, assert_problem, deliver, order, word, workers};
use crate::{
    fields::Fields,
    host::{Host, Settings},
    messages::{Answer, Outcome, Response},
    stream::Stream,
    vm::Status,
    worker::Worker,
};

const DETACHED: &str = r#"{"execution":{"mode":"detached"}}"#;
const MONEY: &str = r#"{"execution":{"mode":"detached"},"duplicates":{"in_flight":"wait"}}"#;

/// A request whose call is under way.
fn called(worker: &Worker, key: &str) -> (Stream, u32) {
    let stream = worker.stream();
    assert_eq!(stream.send(&order(key)), Outcome::Paused);
    let call = worker.callouts().pop().expect("a call");
    assert_eq!((stream.answer(), stream.upstream()), (None, None));
    (stream, call.token)
}

/// The orders service answers a call.
fn serve(orders: &Orders, worker: &Worker, token: u32) {
    answer(worker, token, &orders.run(), true);
}

/// The router hands an answer over: the upstream's, or its own.
fn answer(worker: &Worker, token: u32, response: &Response, via_upstream: bool) {
    let mut fields: Fields = response.fields();
    if via_upstream {
        fields.add("x-envoy-upstream-service-time", "5");
    }
    worker.answer_callout(token, fields, &response.body);
}

/// The answer to a retry, which must not execute.
fn retry(worker: &Worker, key: &str) -> Answer {
    worker.exchange(&order(key), || unreachable!("executed again"))
}

#[test]
fn a_call_is_made_to_the_routes_cluster_and_its_answer_goes_to_the_client() {
    let (host, one, two) = workers(DETACHED);
    let orders = Orders::default();
    let stream = one.stream();
    stream.send(&order("k1").header("x-request-id", "r-1"));
    let call = one.callouts().pop().expect("a call");
    assert_eq!((call.cluster.as_str(), call.timeout_ms), ("upstream", 60_000));
    assert_eq!(call.body, br#"{"item":1}"#);
    for (name, value) in [(":method", "POST"), (":path", "/orders"), ("x-request-id", "r-1"), ("content-length", "10")]
    {
        assert_eq!(call.headers.get_all(name), [value.as_bytes()], "{name}");
    }
    assert_eq!(host.metric("idemgate.detached"), 1);
    serve(&orders, &one, call.token);

    let first = stream.finish();
    assert_eq!((first.status, word(&first).as_str()), (201, "executed"));
    assert_eq!(first.body, br#"{"order":1}"#);
    assert_eq!(host.metric("idemgate.detached"), 0);
    let replay = retry(&two, "k1");
    assert_eq!((word(&replay).as_str(), &replay.body), ("replayed", &first.body));
}

#[test]
fn a_client_that_hangs_up_finds_its_answer_when_it_comes_back() {
    let (host, one, two) = workers(DETACHED);
    let orders = Orders::default();
    let (mut stream, token) = called(&one, "k1");
    stream.disconnect();
    assert_problem(&retry(&two, "k1"), 409, "request-in-flight");
    assert_eq!(host.metric("idemgate.detached"), 1);
    serve(&orders, &one, token);
    assert_eq!(word(&retry(&two, "k1")), "replayed");
    assert_eq!((host.metric("idemgate.outcomes.stored"), host.metric("idemgate.detached")), (1, 0));
}

#[test]
fn fifty_clients_that_hang_up_cost_fifty_executions_and_their_retries_none() {
    let (host, one, two) = workers(MONEY);
    let orders = Orders::default();
    let keys: Vec<_> = (0..50).map(|number| format!("k{number}")).collect();
    for key in &keys {
        called(&one, key).0.disconnect();
    }
    assert_eq!(host.metric("idemgate.detached"), 50);
    let retries: Vec<_> = keys
        .iter()
        .map(|key| {
            let stream = two.stream();
            assert_eq!(stream.send(&order(key)), Outcome::Paused);
            stream
        })
        .collect();
    for call in one.callouts() {
        serve(&orders, &one, call.token);
    }
    deliver(&[&one, &two]);
    assert!(retries.into_iter().all(|retry| word(&retry.finish()) == "replayed"));
    assert_eq!((orders.count(), host.metric("idemgate.detached"), host.metric("idemgate.waiting")), (50, 0, 0));
}

#[test]
fn fifty_duplicates_that_wait_share_one_call() {
    let (host, one, two) = workers(MONEY);
    let orders = Orders::default();
    let (first, token) = called(&one, "k1");
    let waiters: Vec<_> = (0..49)
        .map(|number| {
            let stream = if number % 2 == 0 { &one } else { &two }.stream();
            assert_eq!(stream.send(&order("k1")), Outcome::Paused);
            stream
        })
        .collect();
    serve(&orders, &one, token);
    deliver(&[&one, &two]);
    let answers: Vec<_> = waiters.into_iter().map(Stream::finish).collect();
    let first = first.finish();
    assert!(answers.iter().all(|answer| answer.body == first.body && word(answer) == "replayed"));
    assert_eq!((orders.count(), one.callouts().len(), two.callouts().len()), (1, 0, 0));
    assert_eq!(host.metric("idemgate.waiting"), 0);
}

#[test]
fn a_duplicate_that_takes_over_makes_a_call_of_its_own() {
    let (_, one, two) = workers(MONEY);
    let orders = Orders::default();
    let (first, token) = called(&one, "k1");
    let second = two.stream();
    second.send(&order("k1"));
    answer(&one, token, &Response::new(503).body("busy"), true);
    assert_eq!(first.finish().status, 503);
    deliver(&[&one, &two]);
    let call = two.callouts().pop().expect("a call");
    assert_eq!(call.body, br#"{"item":1}"#);
    serve(&orders, &two, call.token);
    assert_eq!(word(&second.finish()), "executed");
    assert_eq!(word(&retry(&one, "k1")), "replayed");
}

#[test]
fn a_call_that_cannot_be_made_is_released() {
    for refusal in [Status::BadArgument, Status::InternalFailure] {
        let (host, one, _) = workers(DETACHED);
        let orders = Orders::default();
        host.refuse_calls("upstream", refusal);
        let stream = one.stream();
        stream.send(&order("k1"));
        let refused = stream.finish();
        assert_eq!((refused.status, word(&refused).as_str()), (503, "rejected"));
        assert_eq!((host.metric("idemgate.detached"), host.metric("idemgate.outcomes.released")), (0, 1));
        host.allow_calls("upstream");
        let (stream, token) = called(&one, "k1");
        serve(&orders, &one, token);
        assert_eq!(word(&stream.finish()), "executed");
    }
}

#[test]
fn a_cluster_that_cannot_be_called_is_told_of_now_and_then() {
    let (host, one, _) = workers(r#"{"execution":{"mode":"detached","cluster":"mistyped"}}"#);
    host.refuse_calls("mistyped", Status::BadArgument);
    let told = || {
        let log = host.log();
        let lines = log.iter().filter(|line| line.message.contains("a detached call to the cluster \"mistyped\""));
        lines.inspect(|line| assert_eq!(line.level, 3, "{line:?}")).count()
    };
    let refused = |key: &str| {
        let stream = one.stream();
        stream.send(&order(key));
        assert_eq!(stream.finish().status, 503);
    };
    (0..5).for_each(|number| refused(&format!("k{number}")));
    assert_eq!(told(), 1);
    host.advance(Duration::from_secs(10));
    refused("k9");
    assert_eq!(told(), 2);
}

#[test]
fn those_who_wait_for_a_call_that_cannot_be_made_are_answered_one_after_the_other() {
    let (host, one, two) = workers(MONEY);
    let (first, token) = called(&one, "k1");
    let waiters: Vec<_> = (0..5)
        .map(|number| {
            let stream = if number % 2 == 0 { &one } else { &two }.stream();
            stream.send(&order("k1"));
            stream
        })
        .collect();
    host.refuse_calls("upstream", Status::InternalFailure);
    answer(&one, token, &Response::new(503), true);
    first.finish();
    for _ in 0..5 {
        deliver(&[&one, &two]);
    }
    assert!(waiters.into_iter().all(|waiter| word(&waiter.finish()) == "rejected"));
    assert_eq!((host.metric("idemgate.waiting"), host.metric("idemgate.detached")), (0, 0));
}

#[test]
fn a_call_that_was_reset_leaves_the_outcome_unknown() {
    let (host, one, two) = workers(DETACHED);
    let (stream, token) = called(&one, "k1");
    one.answer_callout(token, Fields::default(), b"");
    let answer = stream.finish();
    assert_eq!((answer.status, word(&answer).as_str()), (502, "unknown"));
    assert_problem(&retry(&two, "k1"), 409, "outcome-unknown");
    assert_eq!(host.metric("idemgate.detached"), 0);
}

#[test]
fn a_timeout_of_the_router_leaves_the_outcome_unknown_and_a_refused_connection_releases() {
    const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (status, text, status_word) in [
        (504, "upstream request timeout".to_owned(), "unknown"),
        (503, format!("{RESET}connection termination"), "unknown"),
        (503, format!("{RESET}remote connection failure, transport failure reason: refused"), "rejected"),
        (503, format!("{RESET}overflow"), "rejected"),
    ] {
        let (_, one, _) = workers(DETACHED);
        let (stream, token) = called(&one, "k1");
        answer(&one, token, &Response::new(status).body(text.clone()), false);
        let answer = stream.finish();
        assert_eq!(
            (answer.status, word(&answer).as_str(), answer.body.as_slice()),
            (status, status_word, text.as_bytes())
        );
        let retried = one.stream();
        retried.send(&order("k1"));
        assert_eq!(one.callouts().len(), usize::from(status_word == "rejected"), "{text}");
    }
}

#[test]
fn the_claim_of_a_call_is_renewed_long_after_the_client_has_gone() {
    let (host, one, two) =
        workers(r#"{"execution":{"mode":"detached","timeout":"10m"},"outcome":{"on_unknown":"retry"}}"#);
    let orders = Orders::default();
    let (mut stream, token) = called(&one, "k1");
    stream.disconnect();
    for _ in 0..120 {
        host.advance(Duration::from_secs(1));
        one.tick();
    }
    assert_problem(&retry(&two, "k1"), 409, "request-in-flight");
    serve(&orders, &one, token);
    assert_eq!(word(&retry(&two, "k1")), "replayed");
}

#[test]
fn a_configuration_that_is_replaced_lives_on_until_its_calls_are_over() {
    let (host, one, two) = workers(DETACHED);
    let orders = Orders::default();
    let (mut stream, token) = called(&one, "k1");
    let (mut other, other_token) = called(&one, "k2");
    stream.disconnect();
    other.disconnect();
    assert!(!one.drain(), "two calls are under way");
    serve(&orders, &one, token);
    assert!(!one.is_over());
    one.tick();
    serve(&orders, &one, other_token);
    assert!(one.is_over());
    for key in ["k1", "k2"] {
        assert_eq!(word(&retry(&two, key)), "replayed");
    }
    assert_eq!(host.metric("idemgate.detached"), 0);
    assert!(two.drain(), "no calls are under way");
}

#[test]
fn an_answer_that_comes_after_the_worker_has_died_is_lost_and_its_lease_ends() {
    let (host, dying, other) = workers(DETACHED);
    let (stream, _) = called(&dying, "k1");
    dying.crash();
    std::mem::forget(stream);
    host.advance(Duration::from_secs(31));
    assert_problem(&retry(&other, "k1"), 409, "outcome-unknown");
}

#[test]
fn a_stream_that_ends_unannounced_does_not_get_another_streams_answer() {
    let (_, one, two) = workers(DETACHED);
    let orders = Orders::default();
    let (lost, token) = called(&one, "k1");
    let (bystander, other_token) = called(&one, "k2");
    lost.vanish();
    serve(&orders, &one, token);
    assert_eq!(bystander.answer(), None);
    serve(&orders, &one, other_token);
    assert_eq!(bystander.finish().body, br#"{"order":2}"#);
    assert_eq!(retry(&two, "k1").body, br#"{"order":1}"#);
}

#[test]
fn a_worker_that_lost_its_mailbox_makes_its_calls_at_the_next_tick() {
    let (host, asleep, _) = workers(DETACHED);
    let orders = Orders::default();
    host.advance(Duration::from_secs(31));
    let usurper = host.worker(DETACHED);
    let stream = asleep.stream();
    assert_eq!(stream.send(&order("k1")), Outcome::Paused);
    deliver(&[&usurper, &asleep]);
    assert_eq!((asleep.callouts().len(), usurper.callouts().len()), (0, 0));
    asleep.tick();
    let call = asleep.callouts().pop().expect("a call");
    serve(&orders, &asleep, call.token);
    assert_eq!(word(&stream.finish()), "executed");
    let (stream, token) = called(&asleep, "k2");
    serve(&orders, &asleep, token);
    stream.finish();
}

#[test]
fn a_host_that_keeps_the_body_back_is_found_out_even_if_the_fingerprint_needs_none() {
    let host = Host::with(Settings { body_while_headers_held: false, ..Settings::idemgate() });
    let worker = host.worker(r#"{"execution":{"mode":"detached"},"fingerprint":{"body":"none"}}"#);
    let stream = worker.stream();
    assert_eq!(stream.send(&order("k1")), Outcome::Withheld);
    for _ in 0..50 {
        if stream.answer().is_none() {
            host.advance(Duration::from_millis(100));
            assert!(worker.tick());
        }
    }
    assert_problem(&stream.finish(), 500, "host-unsupported");
    assert!(worker.callouts().is_empty());
}

#[test]
fn the_limit_of_the_body_holds_whatever_the_fingerprint() {
    let (_, one, _) =
        workers(r#"{"execution":{"mode":"detached"},"fingerprint":{"body":"none"},"limits":{"request_body":4}}"#);
    assert_problem(&retry(&one, "k1"), 413, "request-too-large");
    assert!(one.callouts().is_empty());
}

#[test]
fn a_request_with_a_field_that_is_not_utf_8_runs_inline() {
    let (_, one, two) = workers(DETACHED);
    let request = order("k1").header("x-name", b"caf\xe9");
    let stream = one.stream();
    assert!(!stream.send(&request).is_replied());
    assert!(one.callouts().is_empty());
    stream.respond(&Response::new(201).body("made"));
    assert_eq!(stream.finish().header("idempotency-status").as_deref(), Some("executed"));
    let replay = two.exchange(&request, || panic!("a retry ran"));
    assert_eq!((replay.status, replay.body.as_slice()), (201, b"made".as_slice()));

    // In UTF-8 the same word can be sent.
    one.stream().send(&order("k2").header("x-name", "café"));
    assert_eq!(one.callouts().pop().expect("a call").headers.get_all("x-name"), ["café".as_bytes()]);
}
