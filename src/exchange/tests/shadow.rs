//! Shadow mode: all decisions, and nothing on the wire.

use std::time::Duration;

use crate::{
    config::{Mode, OnStoreError, Policy},
    exchange::{Counter, Effect, Status},
    store::{Answer, Claimed, Ending, Scarce, Settled, StoreError, redis::RedisError},
};

use super::harness::{Response, Stream, World, evidence, via_upstream};

fn shadow(policy: &mut Policy) {
    policy.mode = Mode::Shadow;
}

/// Passes if nobody but the operator can have noticed the stream.
#[track_caller]
fn assert_unnoticed(stream: &Stream<'_>) {
    for effect in &stream.effects {
        assert!(
            matches!(
                effect,
                Effect::Call(_) | Effect::Count(_) | Effect::Notice(_) | Effect::Tell(_) | Effect::WarnStore(_)
            ),
            "{effect:?} can be noticed"
        );
    }
    assert!(!stream.exchange.holds_request() && !stream.exchange.awaits_response_end());
}

#[test]
fn an_operation_is_claimed_recorded_and_counted_and_nobody_notices() {
    let world = World::with(shadow);
    let stream = world.ordered();
    assert_unnoticed(&stream);
    assert_eq!(stream.counters(), [Counter::RequestsExecuted, Counter::OutcomesStored]);
    assert!(matches!(stream.ending(), Ending::Completed(response) if response.status == 201));
    assert_eq!(stream.told(), Some(Status::Executed));
    assert!(stream.exchange.is_finished());
}

#[test]
fn what_would_be_answered_is_counted_and_goes_its_own_way() {
    let world = World::with(shadow);
    world.ordered();
    for (request, counter) in [
        (world.order(), Counter::RequestsReplayed),
        (world.order().body("another"), Counter::RequestsKeyReused),
        (world.order().key("\""), Counter::RequestsKeyInvalid),
    ] {
        let stream = request.send().answered(&Response::created()).gone(&via_upstream());
        assert_unnoticed(&stream);
        assert_eq!(stream.counters(), [counter]);
        assert_eq!(stream.endings(), [&Ending::Released; 0], "{counter:?}");
        assert!(stream.exchange.is_finished());
    }
}

#[test]
fn the_first_response_stays_the_recorded_one_whatever_later_ones_say() {
    let world = World::with(shadow);
    world.ordered();
    world.order().send().answered(&Response::new(500));
    let stream = world.order().send();
    assert_eq!(stream.counters(), [Counter::RequestsReplayed]);
}

#[test]
fn a_duplicate_in_flight_is_counted_and_leaves_the_execution_its_claim() {
    let world = World::with(shadow);
    let first = world.order().send();
    let duplicate = world.order().send().answered(&Response::created());
    assert_unnoticed(&duplicate);
    assert_eq!(duplicate.counters(), [Counter::RequestsInFlight]);
    assert_eq!(first.answered(&Response::created()).counters(), [Counter::RequestsExecuted, Counter::OutcomesStored]);
}

#[test]
fn an_answer_that_outruns_the_stores_is_judged_all_the_same() {
    for response in [
        Response::created(),
        Response::created().chunks(["{\"id\"", ":", "1}"]),
        Response::created().with_trailers(),
        Response::new(204),
    ] {
        let world = World::answering(shadow, []);
        let stream = world.order().send().answered(&response).gone(&via_upstream());
        assert_eq!(stream.counters(), [Counter::RequestsExecuted; 0], "nothing is decided yet");
        let stream = stream.answer(Answer::Claimed(Claimed::Granted));
        assert_unnoticed(&stream);
        let body = if response.headers.get("content-type").is_some() { "{\"id\":1}" } else { "" };
        assert!(matches!(stream.ending(), Ending::Completed(kept) if kept.body == body.as_bytes()), "{response:?}");
        assert!(stream.answer(Answer::Settled(Settled::Completed.into())).exchange.is_finished());
    }
}

#[test]
fn an_answer_that_is_under_way_when_the_claim_is_granted_is_kept_as_a_whole() {
    let world = World::answering(shadow, []);
    let stream = world.order().send().answered(&Response::created().body("first ").cut());
    assert!(stream.exchange.captures());
    let mut stream = stream.answer(Answer::Claimed(Claimed::Granted));
    stream.on(crate::exchange::Event::ResponseBody { chunk: b"second", end_of_stream: true });
    assert!(matches!(stream.ending(), Ending::Completed(kept) if kept.body == b"first second"));
}

#[test]
fn an_early_answer_over_the_limit_is_a_tombstone_and_takes_no_more_memory_than_the_limit() {
    let world = World::answering(
        |policy| {
            shadow(policy);
            policy.limits.response_body = 10;
        },
        [],
    );
    let response = Response::created().chunks(["0123456789", "0123456789"]);
    let stream = world.order().send().answered(&response).answer(Answer::Claimed(Claimed::Granted));
    assert_eq!(stream.ending(), &Ending::NotKept(201));
}

#[test]
fn an_early_answer_to_what_would_not_have_run_is_dropped() {
    let world = World::answering(shadow, []);
    let stream = world.order().send().answered(&Response::created().cut()).answer(Answer::Claimed(Claimed::KeyReused));
    assert_eq!(stream.counters(), [Counter::RequestsKeyReused]);
    assert!(!stream.exchange.captures(), "a body of no interest is not read");
    assert_eq!(stream.endings(), [&Ending::Released; 0]);
}

#[test]
fn nothing_is_left_of_a_stream_that_ended_before_the_store_answered() {
    let failed = StoreError::Redis(RedisError::TimedOut);
    for on_store_error in [OnStoreError::Reject, OnStoreError::Bypass] {
        for claimed in [
            Claimed::KeyReused,
            Claimed::InFlight { age: Duration::ZERO, lease_left: Duration::from_secs(1) },
            Claimed::Unknown { lease_left: Duration::ZERO },
            Claimed::NotKept { status: 201 },
            Claimed::Full,
            Claimed::OverShare(Scarce::Records),
            Claimed::Failed(failed),
        ] {
            let change = |policy: &mut Policy| {
                shadow(policy);
                policy.on_store_error = on_store_error;
            };
            let world = World::answering(change, []);
            let stream = world.order().send().answered(&Response::created()).gone(&via_upstream());
            assert!(!stream.exchange.is_finished());
            let stream = stream.answer(Answer::Claimed(claimed.clone()));
            assert_unnoticed(&stream);
            assert!(stream.exchange.is_finished(), "{claimed:?} {on_store_error:?}");
        }
    }
}

#[test]
fn a_client_that_goes_before_the_store_answers_leaves_no_claim_behind() {
    for (gone, ending) in
        [(evidence("downstream_remote_disconnect", 0, false), Ending::Released), (via_upstream(), Ending::Unknown)]
    {
        let world = World::answering(shadow, []);
        let stream = world.order().send().gone(&gone).answer(Answer::Claimed(Claimed::Granted));
        assert_unnoticed(&stream);
        assert_eq!(stream.ending(), &ending);
    }
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_is_judged_once_it_has() {
    let world = World::with(shadow);
    let mut stream = world.order().begin().answered(&Response::new(413).body("too much"));
    assert_unnoticed(&stream);
    stream.on(crate::exchange::Event::RequestBody { chunk: b"{\"item\":1}", end_of_stream: true });
    assert_eq!(stream.counters(), [Counter::RequestsExecuted, Counter::OutcomesStored]);
    let stream = world.order().begin().answered(&Response::new(413)).gone(&via_upstream());
    assert_eq!(stream.counters(), [Counter::RequestsExecuted; 0], "a request without an end is none");
    assert!(stream.exchange.is_finished());
}

#[test]
fn a_request_too_large_is_counted_and_passes() {
    let world = World::with(|policy| {
        shadow(policy);
        policy.limits.request_body = 4;
    });
    let stream = world.order().send().answered(&Response::created());
    assert_unnoticed(&stream);
    assert_eq!(stream.counters(), [Counter::RequestsTooLarge]);
}
