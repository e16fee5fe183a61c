//! Exchanges that end otherwise than with a whole answer: clients, workers and upstreams that go away.

use std::time::Duration;

use super::{Orders, assert_problem, order, word, worker};
use crate::{
    exports,
    messages::{Outcome, Response},
    vm::{self, Callback},
};

/// A VM that takes the place of one that crashed numbers its contexts anew, and the host goes on delivering what is put
/// into the queues of the old one.
#[test]
fn a_message_for_a_number_that_is_no_root_context_of_this_vm_is_left_alone() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let stream = worker.stream();
    stream.send(&order("k1"));
    worker.run(|| {
        let streams: Vec<u32> = vm::with(|vm| vm.streams.keys().copied().collect());
        for context in streams.into_iter().chain([u32::MAX]) {
            vm::call(context, Callback::QueueReady, || exports::queue_ready(context, 1));
        }
    });
    stream.respond(&Response::new(201));
    stream.finish();
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "replayed");
}

#[test]
fn a_client_that_leaves_before_its_request_was_sent_releases_the_key() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let mut stream = worker.stream();
    stream.request_headers(order("k1").headers, false);
    assert_eq!(stream.request_body(r#"{"it"#, false), Outcome::Paused);
    assert_eq!(stream.disconnect().upstream, None);
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "executed");
}

#[test]
fn a_client_that_leaves_while_envoy_still_connects_releases_the_key() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let mut stream = worker.stream();
    assert!(!stream.send(&order("k1")).is_replied());
    stream.disconnect_while_connecting();
    assert_eq!(word(&orders.serve(&worker, &order("k1"))), "executed");
}

#[test]
fn a_client_that_leaves_after_its_request_was_sent_leaves_the_outcome_unknown() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let mut stream = worker.stream();
    stream.send(&order("k1"));
    stream.disconnect();
    assert_problem(&orders.serve(&worker, &order("k1")), 409, "outcome-unknown");
    assert_eq!(orders.count(), 0);
}

#[test]
fn a_response_that_is_cut_short_leaves_the_outcome_unknown() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let mut stream = worker.stream();
    stream.send(&order("k1"));
    stream.response_headers(&Response::new(200), false);
    stream.response_body("half", false);
    stream.reset("upstream_reset_after_response_started{connection_termination}", 8_388_608);
    assert_problem(&orders.serve(&worker, &order("k1")), 409, "outcome-unknown");
}

#[test]
fn a_client_that_leaves_while_it_is_answered_leaves_the_outcome_unknown() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let mut stream = worker.stream();
    stream.send(&order("k1"));
    stream.response_headers(&Response::new(200), false);
    stream.response_body("half", false);
    stream.disconnect();
    assert_problem(&orders.serve(&worker, &order("k1")), 409, "outcome-unknown");
}

#[test]
fn an_internal_redirect_does_not_meet_its_own_claim() {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let mut first_leg = worker.stream();
    first_leg.send(&order("k1"));
    first_leg.reset("internal_redirect", 0);
    let second_leg = order("k1").header("x-envoy-original-url", "https://shop.example/orders");
    assert_eq!(word(&orders.serve(&worker, &second_leg)), "executed");
}

#[test]
fn a_stream_that_another_filter_answered_does_no_harm() {
    let (_, worker) = worker("{}");
    worker.stream().answered_in_front();
    assert_eq!(word(&Orders::default().serve(&worker, &order("k1"))), "executed");
}

#[test]
fn the_claim_of_a_dead_worker_ends_with_its_lease() {
    for (configuration, after_lease, executions) in
        [("{}", "unknown", 0), (r#"{"outcome":{"on_unknown":"retry"}}"#, "executed", 1)]
    {
        let (host, dying) = worker(configuration);
        let (other, orders) = (host.worker(configuration), Orders::default());
        dying.stream().send(&order("k1"));
        dying.crash();
        host.advance(Duration::from_secs(29));
        assert_problem(&orders.serve(&other, &order("k1")), 409, "request-in-flight");
        host.advance(Duration::from_secs(2));
        assert_eq!(word(&orders.serve(&other, &order("k1"))), after_lease, "{configuration}");
        assert_eq!(orders.count(), executions);
    }
}

#[test]
fn a_claim_is_renewed_as_long_as_its_owner_lives() {
    let (host, owner) = worker(r#"{"outcome":{"on_unknown":"retry"}}"#);
    let (other, orders) = (host.worker(r#"{"outcome":{"on_unknown":"retry"}}"#), Orders::default());
    let stream = owner.stream();
    stream.send(&order("k1"));
    for _ in 0..120 {
        host.advance(Duration::from_secs(1));
        assert!(owner.tick(), "no tick renews the claim");
    }
    assert_problem(&orders.serve(&other, &order("k1")), 409, "request-in-flight");
    stream.respond(&orders.run());
    stream.finish();
    assert_eq!((word(&orders.serve(&other, &order("k1"))).as_str(), orders.count()), ("replayed", 1));
}

#[test]
fn an_owner_that_lost_its_claim_answers_its_client_and_changes_nothing() {
    let (host, late) = worker(r#"{"outcome":{"on_unknown":"retry"}}"#);
    let (other, orders) = (host.worker(r#"{"outcome":{"on_unknown":"retry"}}"#), Orders::default());
    let stream = late.stream();
    stream.send(&order("k1"));
    host.advance(Duration::from_secs(31));
    let taken_over = orders.serve(&other, &order("k1"));
    assert_eq!(word(&taken_over), "executed");
    stream.respond(&Response::new(201).body("late"));
    let answer = stream.finish();
    assert_eq!((answer.status, answer.body.as_slice()), (201, &b"late"[..]));
    assert_eq!(host.metric("idemgate.outcomes.fenced"), 1);
    for worker in [&late, &other] {
        let replay = orders.serve(worker, &order("k1"));
        assert_eq!((word(&replay).as_str(), &replay.body), ("replayed", &taken_over.body));
    }
}

#[test]
fn an_owner_that_lost_its_claim_to_a_request_in_flight_does_not_release_it() {
    let (host, late) = worker(r#"{"outcome":{"on_unknown":"retry"}}"#);
    let (other, orders) = (host.worker(r#"{"outcome":{"on_unknown":"retry"}}"#), Orders::default());
    let stream = late.stream();
    stream.send(&order("k1"));
    host.advance(Duration::from_secs(31));
    let second = other.stream();
    assert!(!second.send(&order("k1")).is_replied());
    stream.respond(&Response::new(503));
    stream.finish();
    assert_problem(&orders.serve(&late, &order("k1")), 409, "request-in-flight");
    second.respond(&orders.run());
    second.finish();
    assert_eq!((word(&orders.serve(&late, &order("k1"))).as_str(), orders.count()), ("replayed", 1));
}
