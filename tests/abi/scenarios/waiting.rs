//! Duplicates that wait (`duplicates.in_flight: "wait"`), over two workers and their mailboxes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Orders, assert_problem, deliver, order, word, workers};
use crate::{
    host::Moment,
    messages::{Answer, Outcome, Response},
    stream::Stream,
    table::Table,
    vm,
    worker::{self, Worker},
};

const WAIT: &str = r#"{"duplicates":{"in_flight":"wait"}}"#;

/// A duplicate that waits.
fn waiter(worker: &Worker, key: &str) -> Stream {
    let stream = worker.stream();
    assert_eq!(stream.send(&order(key)), Outcome::Paused);
    assert_eq!((stream.answer(), stream.upstream()), (None, None));
    stream
}

fn words(answers: &[Answer]) -> Vec<String> {
    answers.iter().map(word).collect()
}

#[test]
fn duplicates_on_both_workers_are_replayed_when_the_first_has_its_answer() {
    let (host, one, two) = workers(WAIT);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let waiters: Vec<_> = (0..50).map(|number| waiter(if number % 2 == 0 { &one } else { &two }, "k1")).collect();
    assert_eq!(host.metric("idemgate.waiting"), 50);

    first.respond(&orders.run());
    let answer = first.finish();
    deliver(&[&one, &two]);
    let replays: Vec<_> = waiters.into_iter().map(Stream::finish).collect();
    assert!(replays.iter().all(|replay| word(replay) == "replayed" && replay.body == answer.body));
    assert_eq!((orders.count(), host.metric("idemgate.waiting")), (1, 0));
    assert_eq!(host.metric("idemgate.requests.replayed"), 50);
    assert_eq!(host.histogram("idemgate.wait_ms").len(), 50);
}

/// Its body would otherwise be held piece by piece, and Envoys before 1.40.0 lose one when it goes on.
#[test]
fn who_waits_before_its_body_has_come_is_held_with_all_that_follows() {
    let (_, one, two) = workers(r#"{"duplicates":{"in_flight":"wait"},"fingerprint":{"body":"none"}}"#);
    let (first, waiter, orders) = (one.stream(), two.stream(), Orders::default());
    let request = order("k1");
    first.send(&request);
    assert_eq!(waiter.request_headers(request.headers.clone(), false), Outcome::Paused);
    assert_eq!(waiter.request_body("one,", false), Outcome::Withheld);

    first.respond(&Response::new(500));
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!(waiter.upstream().map(|upstream| upstream.body), Some(b"one,".to_vec()));
    assert_eq!(waiter.request_body("two", true), Outcome::Continued);
    let upstream = waiter.upstream().expect("it runs");
    assert_eq!((upstream.body, upstream.complete), (b"one,two".to_vec(), true));
    waiter.respond(&orders.run());
    assert_eq!(word(&waiter.finish()), "executed");
}

#[test]
fn when_the_first_is_released_exactly_one_takes_over_and_the_rest_wait_on() {
    let (host, one, two) = workers(WAIT);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let mut waiters: Vec<_> = (0..6).map(|number| waiter(if number < 3 { &one } else { &two }, "k1")).collect();

    let mut running = first;
    for left in (0..6).rev() {
        running.respond(&Response::new(503));
        assert_eq!(running.finish().status, 503);
        deliver(&[&one, &two]);
        let let_through: Vec<_> = (0..waiters.len()).filter(|waiter| waiters[*waiter].upstream().is_some()).collect();
        assert_eq!(let_through.len(), 1, "{let_through:?}");
        running = waiters.remove(let_through[0]);
        assert_eq!((waiters.len(), host.metric("idemgate.waiting")), (left, left as u64));
        assert!(waiters.iter().all(|waiter| waiter.answer().is_none()));
        if left == 2 {
            break;
        }
    }
    running.respond(&orders.run());
    running.finish();
    deliver(&[&one, &two]);
    let replays: Vec<_> = waiters.into_iter().map(Stream::finish).collect();
    assert_eq!(words(&replays), ["replayed", "replayed"]);
    assert_eq!(host.metric("idemgate.waiting"), 0);
}

#[test]
fn those_who_wait_on_keep_their_places() {
    let (_, one, two) = workers(WAIT);
    let mut running = two.stream();
    running.send(&order("k1"));
    let mut waiters: Vec<_> = (0..4).map(|_| waiter(&one, "k1")).collect();
    while !waiters.is_empty() {
        running.respond(&Response::new(503));
        running.finish();
        deliver(&[&one, &two]);
        assert!(waiters[0].upstream().is_some(), "the next in line");
        running = waiters.remove(0);
    }
    running.respond(&Response::new(503));
    running.finish();
}

#[test]
fn a_wake_up_costs_the_store_no_call_for_those_who_have_to_wait_on() {
    let cost_with = |waiting: usize| {
        let (host, one, two) = workers(WAIT);
        let running = two.stream();
        running.send(&order("k1"));
        let mut waiters: Vec<_> = (0..waiting).map(|_| waiter(&one, "k1")).collect();
        let calls = Arc::new(AtomicUsize::new(0));
        let (counter, id) = (Arc::clone(&calls), one.id());
        host.on_shared_data(move |call| {
            let counts = call.worker == id && call.moment == Moment::Before;
            counter.fetch_add(usize::from(counts), Ordering::SeqCst);
        });
        running.respond(&Response::new(503));
        running.finish();
        deliver(&[&one, &two]);
        let cost = calls.load(Ordering::SeqCst);
        waiters.iter_mut().for_each(|waiter| drop(waiter.disconnect()));
        cost
    };
    assert_eq!(cost_with(3), cost_with(40));
}

#[test]
fn a_waiter_that_leaves_is_not_missed_and_its_wake_up_finds_nobody() {
    let (host, one, two) = workers(WAIT);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    for _ in 0..3 {
        let mut waiter = waiter(&two, "k1");
        assert_eq!(waiter.disconnect().upstream, None);
    }
    assert_eq!(host.metric("idemgate.waiting"), 0);
    first.respond(&orders.run());
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!(word(&orders.serve(&two, &order("k1"))), "replayed");
}

#[test]
fn a_waiter_whose_stream_ends_unannounced_does_not_answer_another_stream() {
    let (host, one, two) = workers(WAIT);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let lost = waiter(&two, "k1");
    let bystander = two.stream();
    bystander.send(&order("k2"));
    lost.vanish();
    first.respond(&orders.run());
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!((bystander.answer(), host.metric("idemgate.waiting")), (None, 0));
    bystander.respond(&orders.run());
    bystander.finish();
}

#[test]
fn a_wait_ends_at_its_deadline_in_a_conflict() {
    let (host, one, two) = workers(WAIT);
    let first = one.stream();
    first.send(&order("k1"));
    let waiter = waiter(&two, "k1");
    for _ in 0..9 {
        host.advance(Duration::from_secs(1));
        one.tick();
        two.tick();
    }
    assert_eq!(waiter.answer(), None);
    host.advance(Duration::from_secs(1));
    two.tick();
    assert_problem(&waiter.finish(), 409, "request-in-flight");
    assert_eq!(host.metric("idemgate.requests.wait_timeouts"), 1);
    assert_eq!(host.metric("idemgate.waiting"), 0);
    first.respond(&Response::new(201));
    first.finish();
}

#[test]
fn past_the_limit_of_waiters_duplicates_are_refused_at_once() {
    let (host, one, two) =
        workers(r#"{"duplicates":{"in_flight":"wait","max_waiting":2},"limits":{"caller_share":"100%"}}"#);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let waiters = [waiter(&one, "k1"), waiter(&one, "k1"), waiter(&two, "k1")];
    assert_problem(&orders.serve(&one, &order("k1")), 409, "request-in-flight");
    assert_eq!(host.metric("idemgate.waiting"), 3);
    // The limit holds for all keys together, and a place that is left is free again.
    let other = two.stream();
    other.send(&order("k2"));
    let mut last = waiter(&two, "k2");
    assert_problem(&orders.serve(&two, &order("k2")), 409, "request-in-flight");
    last.disconnect();
    waiter(&two, "k2").disconnect();
    first.respond(&orders.run());
    other.respond(&orders.run());
    first.finish();
    other.finish();
    deliver(&[&one, &two]);
    assert_eq!(words(&waiters.map(Stream::finish)), ["replayed"; 3]);
    assert_eq!(host.metric("idemgate.waiting"), 0);
}

#[test]
fn another_request_with_the_same_key_is_refused_while_others_wait() {
    let (_, one, two) = workers(WAIT);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let waiter = waiter(&two, "k1");
    assert_problem(&orders.serve(&two, &order("k1").body("other")), 422, "key-reused");
    first.respond(&orders.run());
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!(word(&waiter.finish()), "replayed");
}

#[test]
fn the_waiters_of_a_dead_worker_harm_nobody() {
    let (host, dying, other) = workers(WAIT);
    let orders = Orders::default();
    let first = other.stream();
    first.send(&order("k1"));
    let lost = waiter(&dying, "k1");
    let waiter = waiter(&other, "k1");
    dying.crash();
    std::mem::forget(lost);
    first.respond(&orders.run());
    first.finish();
    deliver(&[&other]);
    assert_eq!(word(&waiter.finish()), "replayed");
    // The next owner of its mailbox is not misled by what is in there.
    host.advance(Duration::from_secs(31));
    let successor = host.worker(WAIT);
    assert_eq!(host.queues().len(), 2, "{:?}", host.queues());
    let second = other.stream();
    second.send(&order("k2"));
    let waiter = self::waiter(&successor, "k2");
    second.respond(&orders.run());
    second.finish();
    deliver(&[&other, &successor]);
    assert_eq!(word(&waiter.finish()), "replayed");
}

#[test]
fn when_the_owners_worker_has_died_the_waiters_find_out_as_its_lease_ends() {
    for (on_unknown, executed) in [("block", 0), ("retry", 1)] {
        let (host, dying, other) = workers(&format!(
            r#"{{"duplicates":{{"in_flight":"wait","wait_timeout":"60s"}},"outcome":{{"on_unknown":"{on_unknown}"}}}}"#
        ));
        let orders = Orders::default();
        dying.stream().send(&order("k1"));
        let mut waiters = vec![waiter(&other, "k1"), waiter(&other, "k1"), waiter(&other, "k1")];
        dying.crash();
        for _ in 0..30 {
            assert!(waiters.iter().all(|waiter| waiter.answer().is_none() && waiter.upstream().is_none()));
            host.advance(Duration::from_secs(1));
            other.tick();
        }
        let running: Vec<_> = (0..3).filter(|waiter| waiters[*waiter].upstream().is_some()).collect();
        assert_eq!(running.len(), executed, "{on_unknown}");
        if executed == 1 {
            let running = waiters.remove(running[0]);
            running.respond(&orders.run());
            running.finish();
            deliver(&[&other]);
        }
        let expected = if executed == 1 { "replayed" } else { "unknown" };
        assert!(waiters.into_iter().all(|waiter| word(&waiter.finish()) == expected), "{on_unknown}");
        assert_eq!(host.metric("idemgate.waiting"), 0);
    }
}

#[test]
fn a_living_owner_keeps_its_waiters_beyond_its_first_lease() {
    let (host, one, two) = workers(r#"{"duplicates":{"in_flight":"wait","wait_timeout":"10m"}}"#);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let waiters = [waiter(&two, "k1"), waiter(&two, "k1")];
    for _ in 0..100 {
        host.advance(Duration::from_secs(1));
        one.tick();
        two.tick();
    }
    assert!(waiters.iter().all(|waiter| waiter.answer().is_none() && waiter.upstream().is_none()));
    first.respond(&orders.run());
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!(words(&waiters.map(Stream::finish)), ["replayed"; 2]);
}

#[test]
fn mail_that_means_nothing_does_nothing() {
    let (host, one, two) = workers(WAIT);
    let orders = Orders::default();
    let first = one.stream();
    first.send(&order("k1"));
    let waiter = waiter(&two, "k1");
    for queue in host.queues() {
        for message in [&[7; 32][..], b"calls", b"", &[1; 31], &[0xff; 64]] {
            host.enqueue(&queue, message);
            host.enqueue(&queue, message);
        }
    }
    deliver(&[&one, &two]);
    assert_eq!((waiter.answer(), waiter.upstream()), (None, None));
    first.respond(&orders.run());
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!((word(&waiter.finish()).as_str(), orders.count()), ("replayed", 1));
}

#[test]
fn a_worker_that_lost_its_mailbox_opens_another_and_its_waiters_are_not_forgotten() {
    let configuration = r#"{"lease":"2m","duplicates":{"in_flight":"wait","wait_timeout":"10m"}}"#;
    let (host, asleep, owner) = workers(configuration);
    let orders = Orders::default();
    let first = owner.stream();
    first.send(&order("k1"));
    let waiter = waiter(&asleep, "k1");
    // Nobody has heard of it for so long that its place is given to another.
    host.advance(Duration::from_secs(31));
    owner.tick();
    let usurper = host.worker(configuration);
    assert_eq!(host.queues().len(), 2);
    first.respond(&orders.run());
    first.finish();
    deliver(&[&owner, &usurper, &asleep]);
    asleep.tick();
    assert_eq!(host.queues().len(), 3);
    host.advance(Duration::from_secs(89));
    asleep.tick();
    assert_eq!(word(&waiter.finish()), "replayed");

    // Those who come from now on are woken at once.
    let second = owner.stream();
    second.send(&order("k2"));
    let waiter = self::waiter(&asleep, "k2");
    second.respond(&orders.run());
    second.finish();
    deliver(&[&owner, &usurper, &asleep]);
    assert_eq!(word(&waiter.finish()), "replayed");
}

#[test]
fn redirects_that_are_never_picked_up_are_all_given_up_after_a_lease() {
    let (host, one, two) = workers("{}");
    let (mut first, mut second) = (one.stream(), one.stream());
    first.set_property(&["connection", "id"], 1_u64.to_le_bytes());
    second.set_property(&["connection", "id"], 2_u64.to_le_bytes());
    first.send(&order("k1"));
    second.send(&order("k2"));
    first.reset("internal_redirect", 0);
    second.reset("internal_redirect", 0);
    one.tick();
    assert_eq!(host.metric("idemgate.outcomes.unknown"), 0, "their next streams may still come");

    host.advance(Duration::from_secs(31));
    one.tick();
    assert_eq!(host.metric("idemgate.outcomes.unknown"), 2);
    for key in ["k1", "k2"] {
        assert_problem(&Orders::default().serve(&two, &order(key)), 409, "outcome-unknown");
    }
}

#[test]
fn a_worker_whose_queue_somebody_else_has_registered_takes_it_back_and_says_so_once() {
    let (host, one, two) = workers(WAIT);
    // Another plugin with the same vm_id.
    let other = host.worker("{}");
    for round in 0..3 {
        let key = format!("k{round}");
        let (first, orders) = (one.stream(), Orders::default());
        first.send(&order(&key));
        let waiter = waiter(&two, &key);
        let queues = host.queues();
        other.run(move || {
            for name in &queues {
                vm::with(|vm| vm.process.register_queue(name.as_bytes(), worker::mailbox()));
            }
        });
        first.respond(&orders.run());
        let answer = first.finish();
        deliver(&[&one, &two, &other]);
        assert_eq!(waiter.answer(), None, "a message reached a worker that has lost its queue");
        for _ in 0..4 {
            host.advance(Duration::from_secs(1));
            two.tick();
            deliver(&[&one, &two, &other]);
        }
        let replay = waiter.finish();
        assert_eq!((word(&replay), &replay.body), ("replayed".to_owned(), &answer.body));
        assert_eq!(orders.count(), 1);
    }
    let told = host.log().into_iter().filter(|line| line.message.contains("another plugin has registered the queue"));
    assert_eq!(told.map(|line| line.worker).collect::<Vec<_>>(), [two.id()]);
}

#[test]
fn a_worker_that_has_its_queue_has_nothing_to_say_of_it_however_long_somebody_waits() {
    let (host, one, two) = workers(r#"{"duplicates":{"in_flight":"wait","wait_timeout":"1m"}}"#);
    let (first, orders) = (one.stream(), Orders::default());
    first.send(&order("k1"));
    let waiter = waiter(&two, "k1");
    for _ in 0..20 {
        host.advance(Duration::from_secs(1));
        one.tick();
        two.tick();
        deliver(&[&one, &two]);
    }
    first.respond(&orders.run());
    first.finish();
    deliver(&[&one, &two]);
    assert_eq!(word(&waiter.finish()), "replayed");
    assert!(host.log().iter().all(|line| !line.message.contains("queue")), "{:?}", host.log());
}

/// Answers what the worker asks the store until it asks nothing more.
fn answer_calls(worker: &Worker, table: &mut Table) {
    worker.rest();
    while let Some(call) = worker.callouts().pop() {
        let target = call.headers.iter().find(|(name, _)| name == b"x-amz-target").expect("a target").1;
        let (status, body) = table.call(str::from_utf8(target).unwrap(), &call.body);
        worker.answer_callout(call.token, [(":status", status.to_string().as_str())], &body);
        worker.rest();
    }
}

/// The end of an execution by another Envoy shows in the store alone.
#[test]
fn who_asks_the_store_again_at_each_tick_is_told_when_its_time_is_over() {
    const TIME: Duration = Duration::from_secs(3);

    let (host, one, _) = workers(
        r#"{"store":{"dynamodb":{"cluster":"aws","table":"idemgate"}},"duplicates":{"in_flight":"wait","wait_timeout":"3s"}}"#,
    );
    let mut table = Table::default();
    answer_calls(&one, &mut table);
    let first = one.stream();
    first.send(&order("k1"));
    answer_calls(&one, &mut table);
    assert!(first.upstream().is_some());
    let waiter = waiter(&one, "k1");
    answer_calls(&one, &mut table);
    let mut waited = Duration::ZERO;
    while waiter.answer().is_none() {
        assert!(waited <= TIME + Duration::from_millis(200), "it waits for longer than it may");
        let period = one.tick_period();
        host.advance(period);
        waited += period;
        one.tick();
        // It answers before time goes on: so a look that is due at a tick is due again at the next.
        answer_calls(&one, &mut table);
    }
    assert!(waited >= TIME, "{waited:?}");
    assert_problem(&waiter.finish(), 409, "request-in-flight");
    assert_eq!((host.metric("idemgate.requests.wait_timeouts"), host.metric("idemgate.waiting")), (1, 0));
}

/// Who waits asks the store every now and then, and nobody else is to have its place meanwhile.
#[test]
fn who_asks_the_store_again_keeps_its_place() {
    let (host, one, _) = workers(
        r#"{"store":{"dynamodb":{"cluster":"aws","table":"idemgate"}},"duplicates":{"in_flight":"wait","max_waiting":1}}"#,
    );
    let (mut table, orders) = (Table::default(), Orders::default());
    answer_calls(&one, &mut table);
    let first = one.stream();
    first.send(&order("k1"));
    answer_calls(&one, &mut table);
    assert!(first.upstream().is_some());
    let waiting = waiter(&one, "k1");
    answer_calls(&one, &mut table);
    let look = || {
        host.advance(Duration::from_millis(200));
        one.tick();
        one.rest();
    };

    // Of one operation, one asks after the other.
    let late = waiter(&one, "k1");
    look();
    assert_eq!(host.metric("idemgate.waiting"), 1);
    answer_calls(&one, &mut table);
    assert_problem(&late.finish(), 409, "request-in-flight");
    assert_eq!((waiting.answer(), host.metric("idemgate.waiting")), (None, 1));

    first.respond(&orders.run());
    answer_calls(&one, &mut table);
    assert_eq!(word(&first.finish()), "executed");
    look();
    answer_calls(&one, &mut table);
    assert_eq!(word(&waiting.finish()), "replayed");
    // The place is free again, for the next as well.
    assert_eq!((orders.count(), host.metric("idemgate.waiting")), (1, 0));
    let next = one.stream();
    next.send(&order("k2"));
    answer_calls(&one, &mut table);
    let waiting = waiter(&one, "k2");
    answer_calls(&one, &mut table);
    assert_eq!((waiting.answer(), host.metric("idemgate.waiting")), (None, 1));
}
