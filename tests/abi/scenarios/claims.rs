//! At most one execution, and bounded memory, whatever the workers do at the same time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Orders, assert_problem, order, word, worker};
use crate::{
    host::{Host, Moment},
    messages::{Answer, Request, Response},
};

/// The store's default bounds are for Envoys, not for hundreds of short tests.
const SMALL: &str = r#"{"store":{"shared_data":{"max_entries":4096,"max_bytes":"8MiB"}}}"#;

/// Whether a duplicate may get `answer` while the one execution runs or after it.
fn is_allowed(answer: &Answer) -> bool {
    match answer.status {
        201 => matches!(word(answer).as_str(), "executed" | "replayed"),
        409 => word(answer) == "in-flight",
        _ => false,
    }
}

#[test]
fn workers_that_race_for_a_key_run_it_once() {
    const WORKERS: usize = 4;
    const KEYS: usize = 1_000;
    let host = Host::new();
    // More switches of threads, right where they may hurt.
    let calls = AtomicUsize::new(0);
    host.on_shared_data(move |_| {
        if calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            thread::yield_now();
        }
    });
    let executions: Arc<Vec<Orders>> = Arc::new((0..KEYS).map(|_| Orders::default()).collect());
    let start = Arc::new(Barrier::new(WORKERS));
    let answers: Vec<Vec<Answer>> = thread::scope(|scope| {
        let racing: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (worker, executions, start) = (host.worker(SMALL), Arc::clone(&executions), Arc::clone(&start));
                scope.spawn(move || {
                    let own = worker.clone();
                    worker.run(move || {
                        let race = |(key, orders): (usize, &Orders)| {
                            start.wait();
                            // A thread that fails must still come to the barrier for the other keys.
                            catch_unwind(AssertUnwindSafe(|| orders.serve(&own, &order(&format!("key-{key}")))))
                        };
                        executions.iter().enumerate().map(race).collect::<Vec<_>>()
                    })
                })
            })
            .collect();
        let answers = racing.into_iter().map(|worker| worker.join().unwrap());
        answers
            .map(|own| own.into_iter().map(|answer| answer.unwrap_or_else(|failed| resume_unwind(failed))).collect())
            .collect()
    });
    for (key, orders) in executions.iter().enumerate() {
        assert_eq!(orders.count(), 1, "key-{key}");
        for worker in &answers {
            assert!(is_allowed(&worker[key]), "key-{key}: {:?}", worker[key]);
        }
    }
}

#[test]
fn a_duplicate_at_any_moment_of_the_first_exchange_does_not_run() {
    // The duplicate runs whole at the n-th shared-data call of the first exchange, for every n there is.
    let mut moments = 0;
    for nth in 0.. {
        let host = Host::new();
        let (first, second) = (host.worker(SMALL), host.worker(SMALL));
        let (orders, id, seen) = (Orders::default(), first.id(), AtomicUsize::new(0));
        let (behind, reached) = (orders.clone(), Arc::new(AtomicUsize::new(0)));
        let duplicates = Arc::clone(&reached);
        host.once_at(
            move |call| {
                call.worker == id
                    && matches!(call.moment, Moment::Before | Moment::After)
                    && seen.fetch_add(1, Ordering::SeqCst) == nth
            },
            move || {
                let answer = behind.serve(&second, &order("k1"));
                assert!(is_allowed(&answer), "at call {nth}: {answer:?}");
                duplicates.fetch_add(1, Ordering::SeqCst);
            },
        );
        let answer = orders.serve(&first, &order("k1"));
        assert!(is_allowed(&answer), "at call {nth}: {answer:?}");
        assert_eq!(orders.count(), 1, "at call {nth}");
        if reached.load(Ordering::SeqCst) == 0 {
            break;
        }
        moments += 1;
    }
    assert!(moments >= 4, "an exchange that claims and completes makes at least two calls, not {moments} moments");
}

#[test]
fn a_retry_at_any_moment_after_a_release_runs_once() {
    for nth in 0.. {
        let host = Host::new();
        let (first, second) = (host.worker(SMALL), host.worker(SMALL));
        let (orders, id, seen) = (Orders::default(), first.id(), AtomicUsize::new(0));
        assert_eq!(orders.answer(&first, &order("k1"), Response::new(503)).status, 503);
        let (behind, reached) = (orders.clone(), Arc::new(AtomicUsize::new(0)));
        let retries = Arc::clone(&reached);
        host.once_at(
            move |call| call.worker == id && seen.fetch_add(1, Ordering::SeqCst) == nth,
            move || {
                let answer = behind.serve(&second, &order("k1"));
                assert!(is_allowed(&answer), "at call {nth}: {answer:?}");
                retries.fetch_add(1, Ordering::SeqCst);
            },
        );
        assert!(is_allowed(&orders.serve(&first, &order("k1"))), "at call {nth}");
        assert_eq!(orders.count(), 2, "one that was released and one retry, at call {nth}");
        if reached.load(Ordering::SeqCst) == 0 {
            break;
        }
    }
}

#[test]
fn unique_keys_without_end_stay_within_the_bounds() {
    const MAX_BYTES: usize = 1 << 20;
    let host = Host::new();
    let worker =
        host.worker(r#"{"limits":{"caller_share":"100%"},"store":{"shared_data":{"max_entries":500,"max_bytes":"1MiB","keep_at_least":"0s"}}}"#);
    let body = "x".repeat(4_096);
    for number in 0..3_000 {
        let answer = worker.exchange(&order(&format!("key-{number}")), || Response::new(201).body(&body));
        assert_eq!((answer.status, word(&answer).as_str()), (201, "executed"), "key-{number}");
    }
    // A quarter more for the keys of the table itself, which the host counts and the filter cannot weigh.
    assert!(host.shared_data().bytes() <= MAX_BYTES + MAX_BYTES / 4, "{} bytes", host.shared_data().bytes());
    // Keys can never be removed again, so there is a fixed set of them: a few for each entry at most.
    assert!(host.shared_data().keys().len() <= 5 * 500, "{} keys", host.shared_data().keys().len());
    assert!(host.metric("idemgate.store.evicted") > 0);
    assert!(host.metric("idemgate.store.entries") <= 500);
}

#[test]
fn a_key_in_the_body_is_one_in_every_worker_and_what_has_none_passes() {
    let configuration = r#"{"key": {"pointers": ["/id"]}}"#;
    let (host, here) = worker(configuration);
    let (there, orders) = (host.worker(configuration), Orders::default());
    let post = |body: &str| Request::post("/orders").body(body);
    assert_eq!(word(&orders.serve(&here, &post(r#"{"id":"k1"}"#))), "executed");
    for request in [post(r#"{"id":"k1"}"#), post(r#"{"id":"k1"}"#).key("k1")] {
        assert_eq!(word(&orders.serve(&there, &request)), "replayed");
    }
    assert_problem(&orders.serve(&there, &post(r#"{"id":[]}"#)), 400, "key-invalid");
    assert_eq!(orders.count(), 1);
    for body in [r#"{"no":1}"#, "", "text"] {
        for worker in [&here, &there] {
            assert_eq!(orders.serve(worker, &post(body)).header("idempotency-status"), None, "{body}");
        }
    }
    assert_eq!(orders.count(), 7);
}

#[test]
fn a_double_click_is_one_request_in_every_worker_until_the_window_after_it_is_over() {
    let configuration = r#"{"key": {"derive": {"window": "10s"}}}"#;
    let (host, here) = worker(configuration);
    let (there, orders) = (host.worker(configuration), Orders::default());
    let click = || Request::post("/orders").body("item=1");
    let stream = here.stream();
    stream.send(&click());
    host.advance(Duration::from_secs(12));
    assert_problem(&orders.serve(&there, &click()), 409, "request-in-flight");
    stream.respond(&orders.run());
    stream.finish();
    host.advance(Duration::from_millis(9_900));
    for worker in [&here, &there] {
        assert_eq!(word(&orders.serve(worker, &click())), "replayed");
    }
    host.advance(Duration::from_millis(200));
    assert_eq!(word(&orders.serve(&there, &click())), "executed");
    assert_eq!(word(&orders.serve(&here, &click())), "replayed");
    assert_eq!(orders.count(), 2);
}
