//! What a worker's memory allows: who is refused, which responses are not kept, and that all of it is given back.

use super::harness::{Response, Stream, World, evidence};
use crate::{
    config::{BodyFingerprint, ExecutionMode, Mode, PointerTree, Policy},
    exchange::{CALL_ANSWER, CallFailure, Counter, Event, HELD_REQUEST, Problem, Status},
};

fn detached(policy: &mut Policy) {
    policy.execution.mode = ExecutionMode::Detached;
}

fn json(policy: &mut Policy) {
    policy.fingerprint.body = BodyFingerprint::Json { ignore: PointerTree::default() };
}

/// A stream that has sent its headers, in a worker with so much room.
fn begun(world: &World, room: u64) -> Stream<'_> {
    world.order().begin_in(room)
}

#[test]
fn a_request_is_refused_that_cannot_be_held_and_nothing_is_claimed() {
    for (change, least) in [(json as fn(&mut Policy), HELD_REQUEST), (detached, HELD_REQUEST + CALL_ANSWER)] {
        let world = World::with(change);
        let reserve = begun(&world, u64::MAX).exchange.footprint();
        assert!(reserve > least, "its fields");
        let stream = begun(&world, reserve - 1);
        stream.assert_refused(&Problem::MemoryFull);
        assert!(stream.calls().next().is_none() && stream.counted(Counter::RequestsMemoryFull));
        assert_eq!(stream.told(), Some(Status::Rejected));
        assert!(begun(&world, reserve).exchange.holds_request());
    }
}

#[test]
fn a_request_that_says_how_long_it_is_is_refused_before_it_is_sent() {
    let world = World::new();
    let order = |room| world.order().header("content-length", "1000").begin_in(room);
    let reserve = order(u64::MAX).exchange.footprint();
    order(reserve + 999).assert_refused(&Problem::MemoryFull);
    assert!(order(reserve + 1_000).exchange.holds_request());
    // What is too large in any case is told so.
    let limit = world.policy.limits.request_body;
    let large = world.order().header("content-length", (limit + 1).to_string()).begin_in(0);
    large.assert_refused(&Problem::RequestTooLarge { limit });
}

#[test]
fn a_body_counts_as_often_as_it_is_in_memory() {
    for (change, copies) in [
        ((|_| {}) as fn(&mut Policy), 1),
        (json, 2),
        (detached, 2),
        (
            |policy| {
                detached(policy);
                json(policy);
            },
            3,
        ),
    ] {
        let world = World::with(change);
        let mut stream = begun(&world, u64::MAX);
        let before = stream.exchange.footprint();
        stream.exchange.set_room(copies * 100);
        stream.on(Event::RequestBody { chunk: &[b'1'; 100], end_of_stream: false });
        assert_eq!(stream.exchange.footprint() - before, copies * 100);
        stream.exchange.set_room(copies * 100 - 1);
        stream.on(Event::RequestBody { chunk: &[b'1'; 100], end_of_stream: false });
        stream.assert_refused(&Problem::MemoryFull);
        assert!(stream.calls().next().is_none());
    }
}

#[test]
fn a_response_that_finds_no_room_is_delivered_and_not_kept() {
    let world = World::new();
    let mut stream = world.order().send();
    stream.exchange.set_room(10);
    let stream = stream.answered(&Response::created().body("eleven bytes"));
    assert!(stream.counted(Counter::OutcomesTombstoned));
    assert_eq!(stream.told(), Some(Status::Executed));
    world.order().send().assert_refused(&Problem::ResponseNotKept { status: 201 });
}

#[test]
fn a_replay_that_finds_no_room_is_refused_for_now() {
    let world = World::new();
    let large = Response::created().body(vec![b'x'; 100_000]);
    world.order().send().answered(&large);
    let replay = |room| {
        let mut stream = world.order().begin();
        stream.exchange.set_room(room);
        stream.on(Event::RequestBody { chunk: b"{\"item\":1}", end_of_stream: true });
        stream
    };
    replay(50_000).assert_refused(&Problem::MemoryFull);
    assert!(replay(100_000).counted(Counter::RequestsReplayed));
}

#[test]
fn the_answer_to_a_call_that_finds_no_room_is_delivered_and_not_kept() {
    let answer = |room, size: u64| {
        let world = World::with(detached);
        let mut stream = world.order().send();
        stream.exchange.set_room(room);
        let body = vec![b'x'; usize::try_from(size).unwrap()];
        let stream = stream.call_answered(&Response::of_call(201).body(body));
        assert_eq!(stream.reply().body.len() as u64, size);
        stream.counted(Counter::OutcomesStored)
    };
    assert!(answer(0, CALL_ANSWER), "so much was set aside");
    assert!(!answer(0, CALL_ANSWER + 1));
    assert!(answer(1, CALL_ANSWER + 1));
}

#[test]
fn whatever_ends_an_exchange_gives_back_what_it_took() {
    let gone = |stream: Stream<'static>| stream.gone(&evidence("downstream_remote_disconnect", 0, false));
    let world: &'static World = Box::leak(Box::new(World::new()));
    let calls: &'static World = Box::leak(Box::new(World::with(detached)));
    assert!(begun(world, u64::MAX).exchange.footprint() >= HELD_REQUEST);
    assert_eq!(gone(begun(world, u64::MAX)).exchange.footprint(), 0);
    assert_eq!(gone(world.order().key("a").send()).exchange.footprint(), 0);
    assert_eq!(world.ordered().exchange.footprint(), 0);
    let call = calls.order().send();
    assert!(call.exchange.footprint() >= HELD_REQUEST + CALL_ANSWER);
    let call = gone(call);
    assert!(call.exchange.footprint() >= CALL_ANSWER, "it goes on");
    assert_eq!(call.call_failed(CallFailure::Reset).exchange.footprint(), 0);
    // A reply is there until its client has read it.
    let replay = world.order().send();
    assert!(replay.exchange.footprint() > 0);
    assert_eq!(gone(replay).exchange.footprint(), 0);
}

#[test]
fn in_shadow_mode_no_request_takes_anything_and_an_early_answer_finds_room_or_is_not_kept() {
    let world = World::with(|policy| policy.mode = Mode::Shadow);
    let mut stream = world.order().begin();
    assert_eq!(stream.exchange.footprint(), 0);
    stream.on(Event::RequestBody { chunk: b"{", end_of_stream: false });
    stream.exchange.set_room(4);
    let response = Response::created().body("an early answer");
    stream = stream.answered(&response);
    stream.on(Event::RequestBody { chunk: b"}", end_of_stream: true });
    assert!(stream.counted(Counter::OutcomesTombstoned), "{:?}", stream.counters());
    assert_eq!(stream.exchange.footprint(), 0);
}
