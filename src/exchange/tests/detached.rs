//! Executions apart from the client's stream (`execution.mode: detached`).

use std::time::Duration;

use super::harness::{Response, Stream, World, evidence};
use crate::{
    config::{BodyFingerprint, Disposition, ExecutionMode, Policy},
    exchange::{CallFailure, Counter, Effect, Event, NoRoom, Problem, Status, outcome},
    headers::Headers,
    store::{Answer, Ending, Renewed, Scarce, Settled},
};

fn detached(policy: &mut Policy) {
    policy.execution.mode = ExecutionMode::Detached;
}

fn world() -> World {
    World::with(detached)
}

fn leaves(stream: Stream<'_>) -> Stream<'_> {
    stream.gone(&evidence("downstream_remote_disconnect", 0, false))
}

#[test]
fn a_granted_request_is_called_with_its_whole_body_and_not_forwarded() {
    let world = world();
    let stream = world.order().chunks(["{\"item\"", ":1}"]).send();
    let job = stream.job().expect("a call");
    assert_eq!((job.cluster.as_str(), job.body.as_slice()), ("orders", b"{\"item\":1}".as_slice()));
    assert!(!stream.was_forwarded() && stream.counted(Counter::RequestsExecuted));
    assert!(stream.exchange.holds_request());
    assert!(!format!("{:?}", stream.effects).contains("Bearer ann"), "a job does not show its fields");
}

#[test]
fn a_request_without_a_body_is_called_too_and_trailers_end_one_with() {
    assert_eq!(world().order().no_body().send().job().map(|job| job.body.len()), Some(0));
    assert_eq!(world().order().with_trailers().send().job().map(|job| job.body.len()), Some(10));
}

#[test]
fn the_cluster_of_the_policy_wins_over_the_routes() {
    let world = World::with(|policy| {
        detached(policy);
        policy.execution.cluster = Some("through-listener".to_owned());
    });
    assert_eq!(world.order().send().job().map(|job| job.cluster.clone()), Some("through-listener".to_owned()));
}

#[test]
fn the_body_is_held_whatever_the_fingerprint_and_its_limit_holds() {
    let world = World::with(|policy| {
        detached(policy);
        policy.fingerprint.body = BodyFingerprint::None;
        policy.limits.request_body = 8;
    });
    world.order().header("content-length", "9").begin().assert_refused(&Problem::RequestTooLarge { limit: 8 });
    world.order().body("123456789").send().assert_refused(&Problem::RequestTooLarge { limit: 8 });
    let stream = world.order().body("12345678").send();
    assert_eq!(stream.job().map(|job| job.body.clone()), Some(b"12345678".to_vec()));

    // Where the host withholds it, that is found out as ever.
    let mut stream = world.order().begin();
    assert!(stream.exchange.awaits_first_body());
    stream.on(Event::BodyWithheld);
    stream.assert_refused(&Problem::HostUnsupported);
}

#[test]
fn all_end_to_end_fields_go_along_and_no_others() {
    let world = world();
    let stream = world
        .order()
        .header("connection", "close, X-Hop")
        .header("x-hop", "1")
        .header("keep-alive", "5")
        .header("te", "trailers")
        .header("transfer-encoding", "chunked")
        .header("content-length", "10")
        .header("expect", "a=b")
        .header("X-Envoy-Retry-On", "5xx")
        .header("x-envoy-max-retries", "9")
        .header("x-envoy-upstream-rq-timeout-ms", "1")
        .header("x-envoy-upstream-rq-timeout-alt-response", "1")
        .header("x-request-id", "r-1")
        .header("x-forwarded-for", "10.0.0.1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .send();
    let sent = &stream.job().unwrap().headers;
    let names: Vec<_> = sent.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(
        names,
        [
            ":method",
            ":authority",
            ":path",
            "authorization",
            "idempotency-key",
            "x-request-id",
            "x-forwarded-for",
            "cookie",
            "cookie",
            "x-envoy-max-retries",
        ]
    );
    // Not the client's: exactly one attempt, whatever the cluster's own retry policy says.
    assert_eq!(sent.get("x-envoy-max-retries"), Some(&b"0"[..]));
}

#[test]
fn what_the_route_would_take_off_is_named_and_stays_behind() {
    let sent = |world: &World| {
        let order = world.order().header("X-User", "root").header("x-envoy-internal", "true").header("x-role", "admin");
        let stream = order.header("x-envoy-external-address", "1.2.3.4").send();
        let headers = stream.job().unwrap().headers.clone();
        ["x-user", "x-role", "x-envoy-internal", "x-envoy-external-address"].map(|name| headers.get(name).is_some())
    };
    assert_eq!(sent(&world()), [true, true, false, false]);
    let named = World::with(|policy| {
        detached(policy);
        policy.execution.drop_headers = vec!["x-user".to_owned(), "x-role".to_owned()];
    });
    assert_eq!(sent(&named), [false, false, true, true]);
}

#[test]
fn what_cannot_be_called_runs_inline() {
    let world = world();
    for request in [world.order().header("x-name", b"caf\xe9".as_slice()), world.order().without_mailbox()] {
        let stream = request.send();
        assert!(stream.was_executed() && stream.job().is_none());
        stream.answered(&Response::new(503));
    }
}

#[test]
fn a_field_that_stays_behind_may_have_any_bytes() {
    let world = World::with(|policy| {
        detached(policy);
        policy.execution.drop_headers = vec!["x-name".to_owned()];
    });
    let stream = world.order().header("x-name", b"caf\xe9".as_slice()).send();
    assert!(stream.job().is_some());
}

#[test]
fn the_answer_is_stored_and_then_sent_as_the_upstream_gave_it() {
    let world = world();
    let stream = world.order().send();
    let answer = Response::of_call(201)
        .header("content-type", "application/json")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("idempotency-policy", "store")
        .header("content-length", "8")
        .body("{\"id\":1}");
    let stream = stream.call_answered(&answer);

    let reply = stream.reply();
    assert_eq!((reply.status, &*reply.body), (201, b"{\"id\":1}".as_slice()));
    assert_eq!(
        reply.headers,
        Headers::from_iter([
            ("x-envoy-upstream-service-time", "5"),
            ("content-type", "application/json"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("idempotency-status", "executed"),
        ])
    );
    assert_eq!(reply.details, "idemgate_detached");
    let (stored, sent) = (
        stream.effects.iter().position(|effect| *effect == Effect::Count(Counter::OutcomesStored)),
        stream.effects.iter().position(|effect| matches!(effect, Effect::Reply(_))),
    );
    assert!(stored < sent, "{:?}", stream.effects);
    assert_eq!(world.order().send().told(), Some(Status::Replayed));
}

#[test]
fn its_own_answer_that_passes_by_changes_nothing() {
    let world = world();
    let stream = world.order().send().call_answered(&Response::of_call(200).body("x"));
    let stream = stream.own_reply_passes();
    assert!(stream.exchange.is_finished());
    assert_eq!(stream.endings().len(), 1);
}

#[test]
fn a_client_that_hangs_up_changes_nothing_for_its_operation() {
    let world = world();
    let stream = leaves(world.order().send());
    assert!(!stream.exchange.is_finished() && stream.endings().is_empty());
    let stream = stream.call_answered(&Response::of_call(201).body("late"));
    assert_eq!(stream.find_reply(), None);
    assert!(stream.counted(Counter::OutcomesStored) && stream.exchange.is_finished());
    assert_eq!(*world.order().send().reply().body, *b"late");
}

#[test]
fn an_answer_of_envoys_own_is_marked_unknown_and_the_call_goes_on() {
    let world = world();
    let timeout = Response::new(504).evidence(evidence("request_overall_timeout", 0, false)).body("x");
    let stream = world.order().send().answered(&timeout);
    assert_eq!((stream.status_header(), stream.told()), (Some("unknown"), Some(Status::Unknown)));
    let stream = leaves(stream).call_answered(&Response::of_call(201));
    assert_eq!(stream.find_reply(), None);
    assert_eq!(world.order().send().reply().status, 201);
}

#[test]
fn its_lease_is_renewed_with_and_without_a_client() {
    let world = world();
    let mut stream = world.order().send();
    for renewals in 1..=12 {
        if renewals == 6 {
            stream = leaves(stream);
        }
        world.pass(Duration::from_secs(10));
        assert!(stream.exchange.is_due(world.now()));
        stream = stream.tick().tick();
        assert_eq!(stream.renewals(), renewals);
    }
    let (age, lease_left) = (Duration::from_secs(120), Duration::from_secs(30));
    world.order().send().assert_refused(&Problem::RequestInFlight { age, lease_left });
    assert_eq!(
        *stream.call_answered(&Response::of_call(204)).ending(),
        Ending::Completed(crate::record::StoredResponse { status: 204, headers: Headers::new(), body: Vec::new() })
    );
}

#[test]
fn a_call_that_was_not_made_is_released_and_one_that_was_reset_is_not() {
    for (failure, status, word, counter, may_run) in [
        (CallFailure::NotMade, 503, Status::Rejected, Counter::OutcomesReleased, true),
        (CallFailure::TooLate, 503, Status::Rejected, Counter::OutcomesReleased, true),
        (CallFailure::Reset, 502, Status::Unknown, Counter::OutcomesUnknown, false),
    ] {
        let world = world();
        let stream = world.order().send().call_failed(failure);
        assert_eq!((stream.reply().status, stream.told()), (status, Some(word)));
        assert_eq!(stream.reply().headers.get("idempotency-status"), Some(word.as_str().as_bytes()));
        assert!(stream.counted(counter));
        // A retry does what the answer says it will.
        for name in ["x-should-retry", "stripe-should-retry"] {
            assert_eq!(stream.reply().headers.get(name), Some(may_run.to_string().as_bytes()));
        }
        assert_eq!(world.order().send().job().is_some(), may_run);

        let world = self::world();
        let stream = leaves(world.order().send()).call_failed(failure);
        assert!(stream.find_reply().is_none() && stream.counted(counter));
    }
}

#[test]
fn a_claim_for_which_there_is_no_call_is_given_back_and_nothing_counts_as_run() {
    for (no_room, problem) in
        [(NoRoom::AllTaken, Problem::TooManyCalls), (NoRoom::OverShare, Problem::OverShare(Scarce::Calls))]
    {
        let released = Answer::Settled(Settled::Released.into());
        let world = World::answering(detached, []);
        let mut stream = world.order().send();
        assert!(stream.exchange.wants_call());
        stream.on(Event::NoRoomToRun(no_room));
        assert_eq!(stream.ending(), &Ending::Released);
        assert!(stream.find_reply().is_none(), "a retry could come before the claim is given back");
        let stream = stream.answer(released);
        assert_eq!(stream.reply(), &problem.reply(&world.policy));
        assert_eq!(stream.counters(), [problem.counter(), Counter::OutcomesReleased]);
        assert!(stream.job().is_none() && stream.told() == Some(Status::Rejected));

        // Nobody is left to answer: it is as any grant.
        let world = World::answering(detached, []);
        let stream = leaves(world.order().send());
        assert!(!stream.exchange.wants_call());
    }
    assert!(!World::silent().order().send().exchange.wants_call());
}

#[test]
fn an_answer_without_a_final_status_is_none() {
    for status in [0, 100, 101, 199] {
        let world = world();
        let stream = world.order().send().call_answered(&Response::of_call(status));
        assert_eq!((stream.reply().status, stream.ending()), (502, &Ending::Unknown));
    }
}

#[test]
fn a_response_over_the_limit_is_delivered_whole_and_leaves_its_status() {
    let world = World::with(|policy| {
        detached(policy);
        policy.limits.response_body = 3;
    });
    let stream = world.order().send().call_answered(&Response::of_call(200).body("1234"));
    assert_eq!((&*stream.reply().body, stream.ending()), (b"1234".as_slice(), &Ending::NotKept(200)));
    let key = world.order().key("k-2").without("idempotency-key").key("k-2");
    let stream = key.send().call_answered(&Response::of_call(200).body("123"));
    assert!(stream.counted(Counter::OutcomesStored));
}

#[test]
fn the_upstreams_word_and_the_policys_lists_hold_as_inline() {
    for (status, declared, ending) in [
        (200, "no-store", Ending::NotKept(200)),
        (200, "release", Ending::Released),
        (200, "unknown", Ending::Unknown),
        (429, "", Ending::Released),
        (503, "", Ending::Released),
        (504, "", Ending::Unknown),
    ] {
        let world = world();
        let answer = Response::of_call(status).header("idempotency-policy", declared);
        let stream = world.order().send().call_answered(&answer);
        assert_eq!((stream.reply().status, stream.ending()), (status, &ending), "{status} {declared}");
        assert_eq!(stream.reply().headers.get("idempotency-policy"), None);
    }
}

#[test]
fn envoys_own_answers_to_a_call_are_delivered_and_never_stored() {
    const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (status, text, ending, word) in [
        (503, "no healthy upstream".to_owned(), Ending::Released, "rejected"),
        (503, format!("{RESET}overflow"), Ending::Released, "rejected"),
        (503, format!("{RESET}connection termination"), Ending::Unknown, "unknown"),
        (504, "upstream request timeout".to_owned(), Ending::Unknown, "unknown"),
        (204, String::new(), Ending::Unknown, "unknown"),
    ] {
        let world = World::with(|policy| {
            detached(policy);
            policy.outcome.codes = [503, 504, 204].map(|code| (code, Disposition::Store)).to_vec();
        });
        let stream = world.order().send().call_answered(&Response::new(status).body(text.clone()));
        assert_eq!((stream.reply().status, &*stream.reply().body), (status, text.as_bytes()));
        assert_eq!(stream.ending(), &ending, "{text}");
        assert_eq!(stream.reply().headers.get("idempotency-status"), Some(word.as_bytes()), "{text}");
    }
}

#[test]
fn an_owner_that_lost_its_claim_answers_its_client_all_the_same() {
    let world = World::answering(
        detached,
        [
            crate::store::Answer::Claimed(crate::store::Claimed::Granted),
            crate::store::Answer::Renewed(Renewed::Fenced),
            crate::store::Answer::Settled(Settled::Fenced.into()),
        ],
    );
    let stream = world.order().send();
    world.pass(Duration::from_secs(60));
    let stream = stream.tick().call_answered(&Response::of_call(201));
    assert_eq!(stream.reply().status, 201);
    assert!(stream.counted(Counter::OutcomesFenced));
}

mod delivery {
    use super::*;
    use crate::exchange::outcome::Delivery::{Answered, NeverSent, Uncertain};

    const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

    fn local_reply(text: &str) -> outcome::Delivery {
        outcome::delivery_of_call(
            &Headers::from_iter([(":status", "503"), ("content-type", "text/plain")]),
            text.as_bytes(),
        )
    }

    #[test]
    fn the_texts_of_envoys_router_are_told_apart() {
        for (reason, delivery) in [
            ("connection failure", NeverSent),
            ("connection timeout", NeverSent),
            ("local connection failure", NeverSent),
            ("overflow", NeverSent),
            ("remote connection failure", NeverSent),
            ("remote refused stream reset", NeverSent),
            ("connection termination", Uncertain),
            ("http1 premature upstream half close", Uncertain),
            ("local refused stream reset", Uncertain),
            ("local reset", Uncertain),
            ("overload manager reset", Uncertain),
            ("protocol error", Uncertain),
            ("remote reset", Uncertain),
            ("", Uncertain),
        ] {
            let transport = "transport failure reason: delayed connect error: Connection refused";
            for text in [format!("{RESET}{reason}"), format!("{RESET}{reason}, {transport}")] {
                assert_eq!(local_reply(&text), delivery, "{text}");
            }
        }
        assert_eq!(local_reply("no healthy upstream"), NeverSent);
        for text in ["upstream request timeout", "maintenance", "", "overflow", "no healthy upstream\n"] {
            assert_eq!(local_reply(text), Uncertain, "{text}");
        }
        // Only the last of several attempts is described.
        let retried = RESET.replace("reset reason", "retried and the latest reset reason");
        assert_eq!(local_reply(&format!("{retried}remote connection failure")), Uncertain);
        for lookalike in ["connection failures", "Overflow", "connection termination, overflow"] {
            assert_eq!(local_reply(&format!("{RESET}{lookalike}")), Uncertain, "{lookalike}");
        }
        assert_eq!(outcome::delivery_of_call(&Headers::new(), b"\xff"), Uncertain);
    }

    #[test]
    fn an_upstream_cannot_pass_for_envoy() {
        let answer = Headers::from_iter([("X-Envoy-Upstream-Service-Time", "0")]);
        for text in
            ["no healthy upstream".to_owned(), format!("{RESET}overflow"), "upstream request timeout".to_owned()]
        {
            assert_eq!(outcome::delivery_of_call(&answer, text.as_bytes()), Answered, "{text}");
        }
    }

    #[test]
    fn nothing_is_released_that_a_router_behind_the_cluster_may_have_run() {
        for (attempts, text, ending) in [
            (None, "busy".to_owned(), Ending::Released),
            (Some("1"), "busy".to_owned(), Ending::Released),
            (Some("2"), "busy".to_owned(), Ending::Unknown),
            (Some("many"), "busy".to_owned(), Ending::Unknown),
            (None, format!("{RESET}connection termination"), Ending::Unknown),
            (None, format!("{RESET}remote connection failure, x"), Ending::Released),
            (Some("3"), format!("{RESET}remote connection failure"), Ending::Unknown),
            (None, RESET.replace("reset reason", "retried and the latest reset reason") + "overflow", Ending::Unknown),
        ] {
            let world = world();
            let mut answer = Response::of_call(503).body(text.clone());
            if let Some(attempts) = attempts {
                answer = answer.header("x-envoy-attempt-count", attempts);
            }
            let stream = world.order().send().call_answered(&answer);
            assert_eq!((stream.reply().status, stream.ending()), (503, &ending), "{attempts:?} {text}");
        }
        // What the policy stores is stored.
        let world = world();
        let answer = Response::of_call(201).header("x-envoy-attempt-count", "2");
        assert!(world.order().send().call_answered(&answer).counted(Counter::OutcomesStored));
    }
}
