//! Crowds: what one callback sets off is bounded (`Rule::TooMuchAtOnce` sees to it in every test), and ticks that come
//! soon go on with the rest.

use std::time::Duration;

use super::{Orders, SOON, assert_problem, order, word};
use crate::{
    host::Host,
    messages::{Outcome, Response},
    stream::Stream,
    worker::Worker,
};

const WAIT: &str = r#"{"duplicates":{"in_flight":"wait"},"lease":"9s","limits":{"caller_share":"100%"}}"#;

/// How many turns a callback gives (`src/worker/turns.rs`).
const AT_ONCE: usize = 32;

fn running(worker: &Worker, key: &str) -> Stream {
    let stream = worker.stream();
    stream.send(&order(key));
    assert!(stream.upstream().is_some());
    stream
}

fn waiters(worker: &Worker, key: &str, count: usize) -> Vec<Stream> {
    let waiter = || {
        let stream = worker.stream();
        assert_eq!(stream.send(&order(key)), Outcome::Paused);
        stream
    };
    (0..count).map(|_| waiter()).collect()
}

fn answered(waiters: &[Stream]) -> usize {
    waiters.iter().filter(|waiter| waiter.answer().is_some()).count()
}

/// Answers a request that runs, and delivers the news of it.
fn end(worker: &Worker, running: Stream, response: &Response) {
    running.respond(response);
    running.finish();
    worker.rest();
}

#[test]
fn a_crowd_is_answered_in_turns_in_the_order_in_which_it_came() {
    let host = Host::new();
    let worker = host.worker(WAIT);
    let regular = worker.tick_period();
    let first = running(&worker, "k");
    let crowd = waiters(&worker, "k", 100);
    end(&worker, first, &Orders::default().run());
    for round in 1..=3 {
        assert_eq!(answered(&crowd[..AT_ONCE * round]), AT_ONCE * round);
        assert_eq!(answered(&crowd), AT_ONCE * round);
        assert_eq!(worker.tick_period(), SOON);
        worker.tick();
    }
    assert_eq!(answered(&crowd), 100);
    assert_eq!(host.metric("idemgate.waiting"), 0);
    // The next regular tick comes when it would have.
    assert_eq!(worker.tick_period(), regular);
    host.advance(regular);
    worker.tick();
    assert_eq!(worker.tick_period(), regular);
    assert!(crowd.into_iter().map(Stream::finish).all(|answer| word(&answer) == "replayed"));
}

#[test]
fn a_crowd_for_one_key_keeps_no_other_key_waiting() {
    let host = Host::new();
    let worker = host.worker(WAIT);
    let orders = Orders::default();
    let (crowded, other) = (running(&worker, "k"), running(&worker, "other"));
    let (crowd, few) = (waiters(&worker, "k", 200), waiters(&worker, "other", 3));
    end(&worker, crowded, &orders.run());
    end(&worker, other, &orders.run());
    assert_eq!(answered(&few), 3, "in turn with those of the crowd");
    assert!(answered(&crowd) < 2 * AT_ONCE);
    while answered(&crowd) < 200 {
        worker.tick();
    }
    crowd.into_iter().chain(few).for_each(|stream| drop(stream.finish()));
}

#[test]
fn who_leaves_before_its_turn_keeps_nobody_behind_it_waiting() {
    let host = Host::new();
    let worker = host.worker(WAIT);
    let first = running(&worker, "k");
    let mut crowd = waiters(&worker, "k", 150);
    end(&worker, first, &Orders::default().run());
    for leaving in &mut crowd[AT_ONCE..100] {
        leaving.disconnect();
    }
    worker.tick();
    assert_eq!(answered(&crowd[100..]), AT_ONCE);
    worker.tick();
    assert_eq!(answered(&crowd[100..]), 50);
    assert_eq!(host.metric("idemgate.waiting"), 0);
    crowd.into_iter().filter(|stream| !stream.is_over()).for_each(|stream| drop(stream.finish()));
}

#[test]
fn when_all_have_left_before_their_turn_the_configuration_can_go() {
    let host = Host::new();
    let worker = host.worker(WAIT);
    let first = running(&worker, "k");
    let mut crowd = waiters(&worker, "k", 100);
    end(&worker, first, &Orders::default().run());
    crowd.iter_mut().for_each(|stream| drop(stream.disconnect()));
    worker.shut_down();
}

#[test]
fn a_release_wakes_one_of_a_crowd_and_the_next_release_the_next() {
    let host = Host::new();
    let worker = host.worker(WAIT);
    let mut crowd = waiters_of(&worker);
    let mut first = crowd.remove(0);
    for _ in 0..3 {
        end(&worker, first, &Response::new(503));
        assert!(crowd[0].upstream().is_some() && crowd[1..].iter().all(|waiter| waiter.upstream().is_none()));
        assert_ne!(worker.tick_period(), SOON, "nobody is left to have a turn");
        first = crowd.remove(0);
    }
    end(&worker, first, &Orders::default().run());
    while answered(&crowd) < crowd.len() {
        worker.tick();
    }
    crowd.into_iter().for_each(|stream| drop(stream.finish()));
}

/// One that runs, and a hundred that wait for it.
fn waiters_of(worker: &Worker) -> Vec<Stream> {
    let mut all = vec![running(worker, "k")];
    all.extend(waiters(worker, "k", 100));
    all
}

#[test]
fn a_crowd_has_waited_long_enough_in_turns_and_leases_are_renewed_meanwhile() {
    let host = Host::new();
    let worker = host.worker(WAIT);
    let running: Vec<_> = (0..2).map(|key| running(&worker, &format!("k{key}"))).collect();
    let crowds = [waiters(&worker, "k0", 1_000), waiters(&worker, "k1", 3)];
    for _ in 0..10 {
        host.advance(Duration::from_secs(1));
        worker.tick();
    }
    assert_eq!(answered(&crowds[1]), 3, "of each key one after the other");
    assert_eq!(answered(&crowds[0]), AT_ONCE - 3);
    // Far longer than a lease.
    let mut ticks = 0;
    while answered(&crowds[0]) < 1_000 {
        host.advance(Duration::from_secs(1));
        worker.tick();
        ticks += 1;
    }
    assert!(ticks > 27, "{ticks}");
    assert_eq!(host.metric("idemgate.requests.wait_timeouts"), 1_003);
    for waiter in crowds.into_iter().flatten() {
        assert_problem(&waiter.finish(), 409, "request-in-flight");
    }
    for running in running {
        end(&worker, running, &Response::new(201));
    }
    assert_eq!(host.metric("idemgate.outcomes.fenced"), 0);
    assert_eq!(host.metric("idemgate.outcomes.stored"), 2);
}
