//! The end of a response is kept back until the store knows how the execution ended, and no longer.

use super::harness::{Response, Stream, World, evidence, via_upstream};
use crate::{
    config::{ExecutionMode, OnStoreError},
    exchange::{Counter, Effect, Event, Problem, Status},
    store::{Answer, Claimed, Ending, Settled, StoreError},
};

const ERROR: StoreError = StoreError::Contended;

const SETTLED: [Settled; 6] = [
    Settled::Completed,
    Settled::NotKept,
    Settled::Released,
    Settled::Unknown,
    Settled::Fenced,
    Settled::Failed(ERROR),
];

fn holds(stream: &Stream<'_>) -> usize {
    stream.effects.iter().filter(|effect| **effect == Effect::HoldResponse).count()
}

fn releases(stream: &Stream<'_>) -> usize {
    stream.effects.iter().filter(|effect| **effect == Effect::ForwardResponse).count()
}

fn leaves(stream: Stream<'_>) -> Stream<'_> {
    stream.gone(&evidence("downstream_remote_disconnect", 1, true))
}

/// Responses whose end is reached in every way, and whose execution ends in every way.
fn responses() -> Vec<Response> {
    let ended = |response: Response| [response.clone(), response.clone().body("x"), response.body("x").with_trailers()];
    [
        Response::new(201),
        Response::new(503),
        Response::new(502),
        Response::new(200).header("idempotency-policy", "no-store"),
        Response::new(503).evidence(evidence("no_healthy_upstream", 0, false)),
    ]
    .into_iter()
    .flat_map(ended)
    .collect()
}

#[test]
fn the_end_is_held_once_until_the_store_has_answered_whatever_it_says() {
    for response in responses() {
        for settled in SETTLED {
            let world = World::granting();
            let stream = world.order().send().answered(&response);
            assert_eq!((holds(&stream), releases(&stream)), (1, 0), "{response:?}");
            assert!(!stream.exchange.is_finished() && !stream.exchange.holds_request());
            let stream = stream.answer(Answer::Settled(settled.into()));
            assert_eq!((holds(&stream), releases(&stream)), (1, 1), "{settled:?} of {response:?}");
            assert!(stream.exchange.is_finished());
            let failed = matches!(settled, Settled::Failed(_));
            assert_eq!(stream.effects.contains(&Effect::WarnStore(ERROR)), failed);
        }
    }
}

#[test]
fn a_store_that_is_quicker_than_the_response_holds_nothing() {
    let world = World::granting();
    let stream = world.order().send().answered(&Response::new(503).cut());
    assert!(stream.exchange.awaits_response_end());
    let mut stream = stream.answer(Answer::Settled(Settled::Released.into()));
    assert!(!stream.exchange.awaits_response_end());
    stream.on(Event::ResponseBody { chunk: b"", end_of_stream: true });
    assert_eq!((holds(&stream), releases(&stream)), (0, 0));
}

#[test]
fn a_store_that_takes_too_long_keeps_nobody_and_is_still_heard() {
    for response in responses() {
        let world = World::granting();
        let stream = world.order().send().answered(&response).answer(Answer::Delayed);
        assert_eq!((holds(&stream), releases(&stream)), (1, 1));
        assert!(!stream.exchange.is_finished(), "the recording goes on");
        let stream = leaves(stream.answer(Answer::Delayed)).answer(Answer::Settled(Settled::Completed.into()));
        assert_eq!((holds(&stream), releases(&stream)), (1, 1), "let go once");
        assert!(stream.counted(Counter::OutcomesStored) && stream.exchange.is_finished());
    }
    // Told before the response has come to its end: then that is not held either.
    let world = World::granting();
    let stream = world.order().send().answered(&Response::new(503).cut());
    let mut stream = stream.answer(Answer::Delayed);
    stream.on(Event::ResponseTrailers);
    assert_eq!((holds(&stream), releases(&stream)), (0, 0));
}

#[test]
fn nothing_is_held_for_a_client_that_is_gone() {
    for response in [Response::created().cut(), Response::new(503).cut()] {
        let world = World::granting();
        let mut stream = leaves(world.order().send().answered(&response));
        stream.on(Event::ResponseTrailers);
        assert_eq!(holds(&stream), 0);
        let stream = stream.answer(Answer::Settled(Settled::Unknown.into()));
        assert_eq!(releases(&stream), 0);
    }
    let world = World::granting();
    let stream = leaves(world.order().send().answered(&Response::created()));
    let stream = stream.answer(Answer::Settled(Settled::Completed.into()));
    assert_eq!((holds(&stream), releases(&stream)), (1, 0), "it left while its answer was held");
}

#[test]
fn the_answer_to_a_detached_call_waits_for_the_store_and_is_given_once() {
    let world = || {
        World::answering(|policy| policy.execution.mode = ExecutionMode::Detached, [Answer::Claimed(Claimed::Granted)])
    };
    let answer = Response::of_call(201).header("content-type", "text/plain").body("done");
    for word in SETTLED.map(|settled| Answer::Settled(settled.into())).into_iter().chain([Answer::Delayed]) {
        let world = world();
        let stream = world.order().send().call_answered(&answer);
        assert!(stream.find_reply().is_none() && stream.exchange.holds_request());
        let stream = stream.answer(word.clone());
        assert_eq!((stream.reply().status, &*stream.reply().body), (201, b"done".as_slice()));
        // The harness fails the test if it replies twice.
        let stream = stream.answer(Answer::Settled(Settled::Completed.into())).own_reply_passes();
        assert!(stream.exchange.is_finished());
    }
    let world = world();
    let stream = leaves(world.order().send().call_answered(&answer)).answer(Answer::Settled(Settled::Completed.into()));
    assert!(stream.find_reply().is_none() && stream.counted(Counter::OutcomesStored));
}

#[test]
fn a_claim_in_doubt_is_given_back_unless_the_request_runs_all_the_same() {
    let doubt = || [Answer::Claimed(Claimed::InDoubt(ERROR))];
    let world = World::answering(|_| {}, doubt());
    let stream = world.order().send();
    stream.assert_refused(&Problem::StoreUnavailable);
    assert_eq!(*stream.ending(), Ending::Released);

    let world = World::answering(|policy| policy.on_store_error = OnStoreError::Bypass, doubt());
    let stream = world.order().send();
    assert_eq!((stream.was_forwarded(), stream.told()), (true, Some(Status::Bypassed)));
    assert_eq!(stream.endings(), [] as [&Ending; 0], "it may run: unknown is the truth");
}

#[test]
fn a_claim_that_failed_for_certain_is_not_given_back() {
    let world = World::answering(|_| {}, [Answer::Claimed(Claimed::Failed(ERROR))]);
    let stream = world.order().send();
    stream.assert_refused(&Problem::StoreUnavailable);
    assert_eq!(stream.endings(), [] as [&Ending; 0]);
}

#[test]
fn a_claim_that_nobody_wants_any_more_is_given_back_if_it_was_or_may_have_been_granted() {
    for (claimed, endings) in
        [(Claimed::Granted, 1), (Claimed::InDoubt(ERROR), 1), (Claimed::Failed(ERROR), 0), (Claimed::KeyReused, 0)]
    {
        let world = World::silent();
        let stream = world.order().send().gone(&via_upstream()).answer(Answer::Claimed(claimed.clone()));
        assert_eq!(stream.endings(), vec![&Ending::Released; endings], "{claimed:?}");
        assert!(!stream.was_forwarded() && holds(&stream) == 0);
    }
}
