//! The bench checked with the probe: each rule of the host that `vm::Rule` and the modules' texts claim.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    host::{Host, Moment, Settings, WorkerId},
    messages::{Answer, Origin, Outcome, Request, Response},
    probe,
    stream::Stream,
    worker::Worker,
};

fn worker() -> (Host, Worker) {
    let host = probe::host();
    let worker = host.worker("");
    (host, worker)
}

fn post(path: &str) -> Request {
    Request::new("POST", path)
}

#[test]
fn an_exchange_runs_through_every_callback_in_envoys_order() {
    let (host, worker) = worker();
    let stream = worker.stream();
    assert_eq!(stream.send(&post("/pass").body("ask")), Outcome::Continued);
    let upstream = stream.upstream().unwrap();
    assert_eq!((upstream.body, upstream.complete), (b"ask".to_vec(), true));
    assert_eq!(stream.respond(&Response::new(201).header("x", b"\xff").body("answer")), Outcome::Continued);
    let answer = stream.finish();
    assert_eq!((answer.status, answer.headers), (201, [("x", b"\xff")].into()));
    assert_eq!((answer.body, answer.origin), (b"answer".to_vec(), Origin::Upstream));
    assert_eq!(
        probe::trace(&host),
        [
            "request headers 4 false",
            "request body 3 true ask",
            "response headers 2 false via_upstream",
            "response body 6 false answer",
            "response body 0 true ",
            "log 4 2 via_upstream",
            "done",
        ]
    );
}

#[test]
fn trailers_end_both_messages() {
    let (host, worker) = worker();
    let stream = worker.stream();
    stream.request_headers(post("/pass").headers, false);
    stream.request_body("a", false);
    assert_eq!(stream.request_trailers([("t", "1")]), Outcome::Continued);
    assert!(stream.upstream().unwrap().complete);
    stream.response_headers(&Response::new(200), false);
    stream.response_body("b", false);
    assert_eq!(stream.answer().map(|answer| answer.complete), Some(false));
    stream.response_trailers([("u", "2")]);
    assert_eq!(stream.finish().trailers, Some([("u", "2")].into()));
    assert!(probe::trace(&host).contains(&"response trailers 1".to_owned()));
}

#[test]
fn with_the_flag_a_held_body_accumulates_and_goes_on_whole_with_its_headers() {
    let (host, worker) = worker();
    let stream = worker.stream();
    assert_eq!(stream.request_headers(post("/hold").headers, false), Outcome::Paused);
    assert_eq!(stream.request_body("ab", false), Outcome::Paused);
    assert_eq!(stream.request_body("c", false), Outcome::Paused);
    assert_eq!(stream.upstream(), None);
    assert_eq!(stream.request_body("d", true), Outcome::Continued);
    let upstream = stream.upstream().unwrap();
    assert_eq!((upstream.body, upstream.complete), (b"abcd".to_vec(), true));
    assert_eq!(
        probe::trace(&host)[1..],
        ["request body 2 false ab", "request body 3 false abc", "request body 4 true abcd"]
    );
}

#[test]
fn without_the_flag_no_body_comes_until_the_headers_are_resumed() {
    let host = Host::with(Settings { body_while_headers_held: false, ..probe::settings() });
    let worker = host.worker("");
    let stream = worker.stream();
    assert_eq!(stream.request_headers(post("/wait").headers, false), Outcome::Paused);
    assert_eq!(stream.request_body("ab", false), Outcome::Withheld);
    assert_eq!(stream.request_body("c", true), Outcome::Withheld);
    assert_eq!((probe::trace(&host).len(), stream.upstream()), (1, None));
    assert!(worker.tick());
    assert_eq!(probe::trace(&host)[1..], ["request body 3 true abc"]);
    let upstream = stream.upstream().unwrap();
    assert_eq!((upstream.body, upstream.complete), (b"abc".to_vec(), true));
}

#[test]
fn a_tick_comes_only_where_the_filter_set_its_period() {
    let worker = probe::host().worker("no tick");
    assert!(!worker.tick());
}

#[test]
fn a_stream_that_is_over_cannot_be_woken() {
    let (host, worker) = worker();
    let mut stream = worker.stream();
    stream.request_headers(post("/wait").headers, true);
    let record = stream.disconnect();
    assert_eq!((record.answer, record.upstream), (None, None));
    worker.tick();
    assert_eq!(probe::trace(&host)[1..], ["log 4 0 downstream_remote_disconnect", "done", "gone: BadArgument"]);
}

#[test]
fn a_local_reply_passes_the_response_callbacks_and_is_corrected() {
    let (host, worker) = worker();
    let stream = worker.stream();
    let answer = stream.send(&post("/reply").body("ignored")).reply();
    assert_eq!(answer.status, 403);
    assert_eq!(answer.headers.get_all("x-probe"), [b"1", b"2"]);
    assert_eq!(answer.headers.get_all("content-length"), [b"2"]);
    assert_eq!(answer.header("content-type").as_deref(), Some("text/plain"));
    assert_eq!((answer.body.as_slice(), answer.origin, &answer.details), (&b"no"[..], Origin::Filter, &None));
    assert_eq!(stream.request_body("x", true), Outcome::Ignored);
    assert_eq!(stream.upstream(), None);
    assert_eq!(stream.finish(), answer);
    assert_eq!(
        probe::trace(&host),
        ["request headers 4 false", "response headers 5 false ", "response body 2 true no", "log 4 5 ", "done",]
    );
}

#[test]
fn a_local_reply_without_a_body_ends_with_its_headers() {
    let (host, worker) = worker();
    let answer = worker.exchange(&Request::new("DELETE", "/reply-empty"), || unreachable!());
    assert_eq!((answer.status, answer.headers.len()), (204, 0));
    assert!(probe::trace(&host).contains(&"response headers 1 true ".to_owned()));
}

#[test]
fn a_local_reply_to_the_body_leaves_the_request_cut_off_at_the_upstream() {
    let (_, worker) = worker();
    let stream = worker.stream();
    assert_eq!(stream.send(&post("/reply-to-body").body("ask")).reply().status, 422);
    assert!(!stream.upstream().unwrap().complete);
}

#[test]
fn a_local_reply_to_the_response_headers_takes_their_place_without_callbacks() {
    let (host, worker) = worker();
    let stream = worker.stream();
    stream.send(&post("/replace"));
    assert_eq!(stream.respond(&Response::new(200).body("secret")).reply().body, b"replaced");
    assert_eq!(stream.response_body("more", true), Outcome::Ignored);
    assert_eq!((stream.finish().status, probe::trace(&host).len()), (502, 4));
}

#[test]
fn header_and_body_edits_reach_the_other_side() {
    let (_, worker) = worker();
    let stream = worker.stream();
    stream.send(&post("/edit").header("x-old", "old").header("x-gone", "1").header("x-gone", "2"));
    let headers = stream.upstream().unwrap().headers;
    assert_eq!((headers.text("x-old").as_deref(), headers.text("x-added").as_deref()), (Some("new"), Some("1")));
    assert_eq!(headers.get("x-gone"), None);
    stream.respond(&Response::new(200).header("x-old", "old").body("original"));
    let answer = stream.finish();
    assert_eq!((answer.headers, answer.body), ([("x-added", "2")].into(), b"edited".to_vec()));
}

#[test]
fn envoys_own_reply_passes_the_filter_with_its_details() {
    let (host, worker) = worker();
    let stream = worker.stream();
    stream.send(&Request::post("/pass").key("k").without("authorization"));
    stream.respond(&Response::envoy(503, "no_healthy_upstream").flags(2).attempts(0));
    let answer = stream.finish();
    assert_eq!((answer.status, answer.origin), (503, Origin::Envoy));
    assert_eq!(probe::trace(&host)[1], "response headers 2 true no_healthy_upstream");
}

#[test]
fn a_held_body_above_the_buffer_limit_gets_envoys_413() {
    let host = Host::with(Settings { buffer_limit: 4, ..probe::settings() });
    let stream = host.worker("").stream();
    stream.request_headers(post("/hold").headers, false);
    assert_eq!(stream.request_body("abcd", false), Outcome::Paused);
    let answer = stream.request_body("e", false).reply();
    assert_eq!((answer.status, answer.origin), (413, Origin::Envoy));
    assert_eq!((stream.upstream(), stream.request_body("f", true)), (None, Outcome::Ignored));
}

#[test]
fn a_reset_in_the_middle_shows_in_on_log_alone() {
    let (host, worker) = worker();
    let mut stream = worker.stream();
    stream.send(&post("/pass"));
    stream.response_headers(&Response::new(200), false);
    stream.response_body("half", false);
    let record = stream.reset("upstream_reset_after_response_started{connection_termination}", 8_388_608);
    assert_eq!(record.answer.map(|Answer { body, complete, .. }| (body, complete)), Some((b"half".to_vec(), false)));
    let end = ["log 4 1 upstream_reset_after_response_started{connection_termination}", "done"];
    assert_eq!(probe::trace(&host)[3..], end);
}

#[test]
fn the_end_tells_whether_the_upstream_was_reached() {
    type End = fn(&mut Stream);
    let cases: [(End, &str); 6] = [
        (|stream| drop(stream.respond(&Response::new(200))), "attempts Some(1), connected true"),
        (
            |stream| drop(stream.respond(&Response::envoy(503, "no_healthy_upstream"))),
            "attempts Some(0), connected false",
        ),
        (
            |stream| drop(stream.respond(&Response::envoy(503, "refused").attempts(2))),
            "attempts Some(2), connected false",
        ),
        (
            |stream| drop(stream.respond(&Response::envoy(504, "response_timeout").attempts(1).connected())),
            "attempts Some(1), connected true",
        ),
        (|stream| drop(stream.disconnect_while_connecting()), "attempts Some(1), connected false"),
        (|stream| drop(stream.disconnect()), "attempts Some(1), connected true"),
    ];
    for (case, expected) in cases {
        let (host, worker) = worker();
        let mut stream = worker.stream();
        stream.send(&post("/connection"));
        case(&mut stream);
        if !stream.is_over() {
            stream.finish();
        }
        assert!(probe::trace(&host).contains(&expected.to_owned()), "{expected}: {:?}", probe::trace(&host));
    }
}

#[test]
fn a_stream_that_another_filter_answered_reaches_only_on_log() {
    let (host, worker) = worker();
    worker.stream().answered_in_front();
    assert_eq!(probe::trace(&host), ["log 0 0 rbac_access_denied_matched_policy[none]", "done"]);
}

#[test]
fn properties_and_filter_state_are_the_streams_own() {
    let (host, worker) = worker();
    let mut stream = worker.stream();
    stream.set_property(&["connection", "id"], [7, 0]);
    stream.send(&post("/properties"));
    assert_eq!(stream.filter_state("wasm.probe.word").as_deref(), Some(&b"set"[..]));
    let upstream = b"upstream".to_vec();
    let expected = [format!("{:?}", Some(upstream)), "Some([7, 0])".to_owned(), "None".to_owned()];
    assert_eq!(probe::trace(&host)[1..4], expected);
    assert_eq!(probe::trace(&host)[4], format!("{:?}", Some(b"set".to_vec())));
}

#[test]
fn only_the_test_moves_the_clock() {
    let (host, worker) = worker();
    let before = host.now();
    host.advance(Duration::from_secs(30));
    assert_eq!(host.now(), before + Duration::from_secs(30));
    worker.exchange(&post("/time"), || Response::new(200));
    let expected = format!("{:?}", std::time::UNIX_EPOCH + host.now());
    assert!(probe::trace(&host).contains(&expected));
}

#[test]
fn metrics_are_one_per_name_for_all_workers() {
    let (host, worker) = worker();
    worker.exchange(&post("/metrics"), || Response::new(200));
    host.worker("").exchange(&post("/metrics"), || Response::new(200));
    assert_eq!((host.metric("probe.count"), host.metric("probe.level"), host.metric("never")), (8, 4, 0));
    assert_eq!(host.histogram("probe.times"), [5, 5]);
}

#[test]
fn an_enqueued_value_wakes_the_last_worker_that_registered_the_queue() {
    let (host, worker) = worker();
    let first = host.worker("other");
    let last = host.worker("other");
    worker.exchange(&post("/enqueue"), || Response::new(200));
    assert_eq!((first.callouts(), last.callouts().len()), (vec![], 1));
    let woken = host.log().into_iter().filter(|line| line.message.starts_with("queue"));
    assert_eq!(
        woken.map(|line| (line.worker, line.message)).collect::<Vec<_>>(),
        [(WorkerId(2), "queue hello".to_owned()), (WorkerId(2), "queue call".to_owned())]
    );
    let call = last.callouts().remove(0);
    assert_eq!((call.cluster.as_str(), call.body.as_slice(), call.timeout_ms), ("backend", &b"ask"[..], 2_000));
    last.answer_callout(call.token, [(":status", "200")], b"answer");
    assert_eq!(probe::trace(&host).last().unwrap(), "root call 1: 1 headers, Some(\"200\"), answer");
}

#[test]
fn a_call_of_a_stream_answers_to_it() {
    let (host, worker) = worker();
    let stream = worker.stream();
    assert_eq!(stream.send(&post("/call")), Outcome::Paused);
    worker.answer_callout(1, [(":status", "200")], b"");
    assert!(stream.upstream().unwrap().complete);
    assert_eq!(probe::trace(&host)[1..], ["Ok(1)", "Err(BadArgument)", "stream call 1"]);
}

#[test]
fn a_refused_configuration_comes_with_what_the_filter_said() {
    let host = probe::host();
    let refused = host.try_worker("refuse").unwrap_err();
    assert_eq!(refused.log.into_iter().map(|line| line.message).collect::<Vec<_>>(), ["refused"]);
}

#[test]
fn a_shut_down_worker_ends_its_root_context_and_a_crashed_one_says_nothing() {
    let (host, worker) = worker();
    worker.shut_down();
    assert_eq!(probe::trace(&host), ["root done"]);
    let crashed = host.worker("");
    crashed.stream().send(&post("/hold"));
    crashed.crash();
    assert_eq!(probe::trace(&host)[1..], ["request headers 4 true"]);
}

#[test]
fn a_hook_forces_the_textbook_claim_to_have_two_winners() {
    assert_eq!(forced_race("/claim-without-cas"), [200, 200]);
}

#[test]
fn the_sdk_and_the_test_see_the_same_shared_data() {
    let (host, worker) = worker();
    let claim = || worker.exchange(&post("/claim-never-issued-cas"), || Response::new(200)).status;
    assert_eq!(claim(), 200);
    assert_eq!(host.shared_data().get(b"claim").map(|(value, cas)| (value.len(), cas)), Ok((4, 1)));
    host.shared_data().set(b"claim", b"", 0).unwrap();
    // Emptied is not absent: `get` has no value but a cas, and the insert does not match it.
    assert_eq!(claim(), 409);
    assert_eq!(host.shared_data().keys(), [b"claim"]);
}

#[test]
fn a_cas_that_is_never_issued_has_one_winner_in_the_same_interleaving() {
    assert_eq!(forced_race("/claim-never-issued-cas"), [409, 200]);
}

/// The statuses of two requests; the second runs between the first one's get and set.
fn forced_race(path: &'static str) -> [u16; 2] {
    let host = probe::host();
    let (first, second) = (host.worker(""), host.worker(""));
    let (id, status) = (first.id(), Arc::new(AtomicUsize::new(0)));
    let inner = Arc::clone(&status);
    host.once_at(
        move |call| call.worker == id && call.operation.is_set() && call.moment == Moment::Before,
        move || {
            let answer = second.exchange(&post(path), || Response::new(200));
            inner.store(usize::from(answer.status), Ordering::SeqCst);
        },
    );
    let first = first.exchange(&post(path), || Response::new(200)).status;
    [first, u16::try_from(status.load(Ordering::SeqCst)).unwrap()]
}

#[test]
fn workers_on_their_own_threads_race_for_real() {
    const WORKERS: usize = 4;
    let host = probe::host();
    let yields = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&yields);
    host.on_shared_data(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
    });
    let workers: Vec<Worker> = (0..WORKERS).map(|_| host.worker("")).collect();
    let winners: usize = thread::scope(|scope| {
        let race = |worker: Worker| {
            let inner = worker.clone();
            worker.run(move || {
                (0..50)
                    .filter(|_| inner.exchange(&post("/claim-never-issued-cas"), || Response::new(200)).status == 200)
                    .count()
            })
        };
        let racing: Vec<_> = workers.into_iter().map(|worker| scope.spawn(move || race(worker))).collect();
        racing.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(winners, 1);
    assert!(yields.load(Ordering::Relaxed) >= 2 * WORKERS * 50);
}

#[test]
#[should_panic(expected = "the hook's own failure")]
fn a_failing_hook_fails_the_test() {
    let (host, worker) = worker();
    host.once_at(|_| true, || panic!("the hook's own failure"));
    worker.exchange(&post("/claim-without-cas"), || Response::new(200));
}

#[test]
#[should_panic(expected = "a stream is answered once")]
fn replying_twice_fails() {
    worker().1.stream().send(&post("/reply-twice"));
}

#[test]
#[should_panic(expected = "a request is answered or resumed, never both")]
fn replying_and_resuming_fails() {
    worker().1.stream().send(&post("/reply-and-resume"));
}

#[test]
#[should_panic(expected = "a callback that resumes its stream does not pause it")]
fn resuming_and_pausing_fails() {
    worker().1.stream().send(&post("/resume-and-pause"));
}

#[test]
#[should_panic(expected = "a request part of whose body is held goes on in its own callbacks only")]
fn resuming_a_request_from_elsewhere_part_of_whose_body_is_held_fails() {
    let (_, worker) = worker();
    let stream = worker.stream();
    stream.request_headers(post("/wait").headers, false);
    stream.request_body("hold", false);
    worker.tick();
}

#[test]
#[should_panic(expected = "headers are touched in their own phase only (RequestHeaders in Some(ResponseHeaders))")]
fn reading_request_headers_with_the_response_fails() {
    worker().1.exchange(&post("/late-read"), || Response::new(200));
}

#[test]
#[should_panic(expected = "a response whose headers are out is held no further than the buffer goes")]
fn pausing_more_of_a_response_than_the_buffer_takes_fails() {
    let host = Host::with(Settings { buffer_limit: 4, ..probe::settings() });
    host.worker("").exchange(&post("/pause-response-body"), || Response::new(200).body("large"));
}

#[test]
#[should_panic(expected = "no local reply once the response headers went to the client")]
fn replying_to_a_response_body_fails() {
    worker().1.exchange(&post("/reply-to-response-body"), || Response::new(200).body("b"));
}

#[test]
#[should_panic(expected = "a local reply after the stream's end segfaults Envoy")]
fn replying_in_on_log_fails() {
    worker().1.exchange(&post("/reply-in-log"), || Response::new(200));
}

#[test]
#[should_panic(expected = "a counter grows by more than 0")]
fn shrinking_a_counter_fails() {
    worker().1.stream().send(&post("/shrink"));
}

#[test]
#[should_panic(expected = "the request is held")]
fn answering_a_held_request_fails() {
    worker().1.exchange(&post("/hold"), || Response::new(200));
}

#[test]
fn idemgate_itself_starts_on_the_bench() {
    Host::new().worker("{}").shut_down();
}
