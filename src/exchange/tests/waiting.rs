//! Duplicates that are held until the first request has its answer (`duplicates.in_flight: wait`).

use std::time::Duration;

use super::harness::{MAILBOX, Response, Stream, World, evidence};
use crate::{
    config::{ExecutionMode, InFlight, OnUnknown, Policy},
    exchange::{Counter, Effect, Event, NoRoom, Problem, Status, needs_mailbox, tick_interval},
    record::Mailbox,
    request::OperationId,
    store::{Answer, Call, Claimed, Ending, Scarce, Settled, Settlement, StoreError},
};

const LEASE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn waits(policy: &mut Policy) {
    policy.duplicates.in_flight = InFlight::Wait;
}

fn in_flight(lease_left: Duration) -> Answer {
    Answer::Claimed(Claimed::InFlight { age: 2 * SECOND, lease_left })
}

/// A stream that waits, its effects so far forgotten, and a store that will give `answers`.
fn waiting(answers: impl IntoIterator<Item = Answer>) -> World {
    World::answering(waits, [in_flight(LEASE)].into_iter().chain(answers))
}

fn begins_to_wait(world: &World) -> Stream<'_> {
    let mut stream = world.order().send();
    assert!(stream.is_waiting);
    stream.take_effects();
    stream
}

fn operation_of(stream: &Stream<'_>) -> OperationId {
    stream
        .calls()
        .find_map(|call| match call {
            Call::Claim(claim) => Some(claim.operation),
            _ => None,
        })
        .expect("a claim")
}

#[test]
fn a_duplicate_is_held_and_asks_to_be_woken() {
    let world = waiting([]);
    let mut stream = world.order().send();
    let operation = operation_of(&stream);
    let effects = stream.take_effects();
    let recheck = world.now().after(LEASE);
    assert_eq!(effects[effects.len() - 2..], [Effect::Hold, Effect::Wait { operation, recheck }]);
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Call(Call::Claim(claim)) if claim.watcher == Some(MAILBOX)
    )));
    assert!(stream.exchange.holds_request());
}

#[test]
fn only_a_policy_that_waits_watches() {
    let world = World::with(|policy| policy.execution.mode = ExecutionMode::Detached);
    let stream = world.order().send();
    assert!(stream.calls().all(|call| !matches!(call, Call::Claim(claim) if claim.watcher.is_some())));
}

#[test]
fn it_is_answered_with_the_first_response_when_that_is_there() {
    let world = World::with(waits);
    let first = world.order().send();
    let waiter = begins_to_wait(&world);
    world.pass(SECOND);
    first.answered(&Response::created());
    let waiter = waiter.woken();

    assert_eq!((waiter.reply().status, &*waiter.reply().body), (201, b"{\"id\":1}".as_slice()));
    assert_eq!((waiter.counters(), waiter.told()), (vec![Counter::RequestsReplayed], Some(Status::Replayed)));
    assert_eq!(waiter.waits(), [SECOND]);
    assert!(!waiter.is_waiting);
}

#[test]
fn the_end_of_an_execution_wakes_the_workers_that_watch_it_whatever_it_was() {
    for settled in [Settled::Completed, Settled::NotKept, Settled::Released, Settled::Unknown] {
        let world = World::granting();
        let stream = world.order().send().answered(&Response::created());
        let operation = operation_of(&stream);
        let watchers = vec![Mailbox(3), Mailbox(9)];
        let stream = stream.answer(Answer::Settled(Settlement { settled, watchers: watchers.clone() }));
        assert!(stream.effects.contains(&Effect::Wake { operation, watchers }), "{:?}", stream.effects);
    }
    let world = World::new();
    assert!(!world.ordered().effects.iter().any(|effect| matches!(effect, Effect::Wake { .. })), "nobody watches");
}

#[test]
fn when_the_first_is_released_one_takes_over_and_the_others_wait_on() {
    for mode in [ExecutionMode::Inline, ExecutionMode::Detached] {
        let world = World::with(|policy| {
            waits(policy);
            policy.execution.mode = mode;
        });
        let first = world.order().send();
        let (second, third) = (begins_to_wait(&world), begins_to_wait(&world));
        match mode {
            ExecutionMode::Inline => drop(first.answered(&Response::new(503))),
            ExecutionMode::Detached => drop(first.call_answered(&Response::of_call(503))),
        }
        let (mut second, mut third) = (second.woken(), third.woken());
        assert!(second.counted(Counter::RequestsExecuted));
        assert_eq!(
            (second.was_forwarded(), second.job().is_some()),
            match mode {
                ExecutionMode::Inline => (true, false),
                ExecutionMode::Detached => (false, true),
            }
        );
        assert!(third.is_waiting && third.find_reply().is_none());
        assert_eq!((second.waits().len(), third.waits()), (1, vec![]));
        second = match mode {
            ExecutionMode::Inline => second.answered(&Response::created()),
            ExecutionMode::Detached => second.call_answered(&Response::of_call(201)),
        };
        assert!(second.effects.iter().any(|effect| matches!(
            effect,
            Effect::Wake { watchers, .. } if *watchers == [MAILBOX]
        )));
        third = third.woken();
        assert_eq!(third.told(), Some(Status::Replayed));
    }
}

#[test]
fn the_deadline_is_that_of_the_first_wait_and_ends_in_a_conflict() {
    let world = waiting(vec![in_flight(LEASE); 3]);
    let mut stream = begins_to_wait(&world);
    for _ in 0..3 {
        world.pass(3 * SECOND);
        stream = stream.tick().woken();
        assert!(stream.is_waiting && stream.find_reply().is_none());
    }
    let operation = operation_of(&stream);
    stream.take_effects();
    world.pass(SECOND);
    let stream = stream.tick();
    stream.assert_refused(&Problem::RequestInFlight { age: 3 * SECOND, lease_left: LEASE - SECOND });
    assert!(stream.effects.contains(&Effect::StopWaiting(operation)));
    assert!(stream.counted(Counter::RequestsWaitTimeouts));
    assert_eq!(stream.waits(), [TIMEOUT]);
}

#[test]
fn one_that_asks_as_its_time_ends_waits_no_more() {
    let world = waiting([in_flight(LEASE)]);
    let stream = begins_to_wait(&world);
    world.pass(TIMEOUT);
    let stream = stream.woken();
    stream.assert_refused(&Problem::RequestInFlight { age: 2 * SECOND, lease_left: LEASE });
    assert!(stream.counted(Counter::RequestsWaitTimeouts) && !stream.is_waiting);
    assert_eq!(stream.waits(), [TIMEOUT]);
}

#[test]
fn a_worker_with_no_room_left_refuses_at_once() {
    let world = waiting([]);
    let mut stream = begins_to_wait(&world);
    stream.on(Event::NoRoomToWait(NoRoom::AllTaken));
    stream.assert_refused(&Problem::RequestInFlight { age: 2 * SECOND, lease_left: LEASE });
    assert!(!stream.counted(Counter::RequestsWaitTimeouts));
    assert_eq!(stream.waits(), [Duration::ZERO]);
    assert!(!stream.effects.iter().any(|effect| matches!(effect, Effect::StopWaiting(_))));
}

#[test]
fn a_caller_that_has_its_share_of_the_places_is_refused_at_once_and_counted() {
    let world = waiting([]);
    let mut stream = begins_to_wait(&world);
    stream.on(Event::NoRoomToWait(NoRoom::OverShare));
    stream.assert_refused(&Problem::RequestInFlight { age: 2 * SECOND, lease_left: LEASE });
    assert!(stream.counted(Counter::RequestsOverShare) && stream.counted(Counter::RequestsInFlight));
}

#[test]
fn a_worker_that_cannot_be_reached_lets_nobody_wait() {
    let world = waiting([]);
    let stream = world.order().without_mailbox().send();
    stream.assert_refused(&Problem::RequestInFlight { age: 2 * SECOND, lease_left: LEASE });
    assert!(stream.calls().all(|call| matches!(call, Call::Claim(claim) if claim.watcher.is_none())));
}

#[test]
fn a_client_that_leaves_stops_waiting_and_leaves_nothing_behind() {
    let world = waiting([]);
    let stream = begins_to_wait(&world);
    world.pass(SECOND);
    let mut stream = stream.gone(&evidence("downstream_remote_disconnect", 0, false));
    assert!(matches!(stream.effects.first(), Some(Effect::StopWaiting(_))));
    assert_eq!((stream.waits(), stream.told()), (vec![SECOND], Some(Status::InFlight)));
    assert_eq!(stream.calls().count(), 0);
    assert!(stream.exchange.is_finished());
    stream.take_effects();
    assert_eq!(stream.woken().effects, [], "a late wake-up finds nobody");
}

#[test]
fn an_answer_of_envoys_own_ends_the_wait() {
    let world = waiting([]);
    let stream = begins_to_wait(&world);
    world.pass(SECOND);
    let timeout = Response::new(408).evidence(evidence("stream_idle_timeout", 0, false)).body("x");
    let stream = stream.answered(&timeout);
    assert!(matches!(stream.effects.first(), Some(Effect::StopWaiting(_))));
    assert_eq!((stream.status_header(), stream.waits()), (Some("in-flight"), vec![SECOND]));
    assert_eq!(stream.find_reply(), None);
    assert!(stream.exchange.is_finished());
}

#[test]
fn whatever_else_became_of_the_operation_is_the_answer() {
    for (claimed, problem) in [
        (Claimed::KeyReused, Problem::KeyReused),
        (Claimed::Unknown { lease_left: SECOND }, Problem::OutcomeUnknown { retry_after: None }),
        (Claimed::NotKept { status: 202 }, Problem::ResponseNotKept { status: 202 }),
        (Claimed::Full, Problem::StoreFull),
        (Claimed::OverShare(Scarce::Records), Problem::OverShare(Scarce::Records)),
        (Claimed::Failed(StoreError::Contended), Problem::StoreUnavailable),
    ] {
        let world = waiting([Answer::Claimed(claimed)]);
        let stream = begins_to_wait(&world).woken();
        stream.assert_refused(&problem);
        assert_eq!(stream.waits(), [Duration::ZERO]);
    }
}

#[test]
fn another_request_with_the_same_key_is_refused_at_once() {
    let world = World::with(waits);
    let _first = world.order().send();
    world.order().body("{\"item\":2}").send().assert_refused(&Problem::KeyReused);
}

#[test]
fn where_the_owner_has_died_one_takes_over_if_the_policy_retries() {
    let world = World::with(|policy| {
        waits(policy);
        policy.outcome.on_unknown = OnUnknown::Retry;
        policy.duplicates.wait_timeout = 2 * LEASE;
    });
    let _dead = world.order().send();
    let (second, third) = (begins_to_wait(&world), begins_to_wait(&world));
    world.pass(LEASE);
    let (second, third) = (second.woken(), third.woken());
    assert!(second.was_executed());
    assert!(third.is_waiting);
    second.answered(&Response::created());
    assert_eq!(third.woken().told(), Some(Status::Replayed));
}

#[test]
fn ticks_come_often_enough_for_leases_and_deadlines() {
    let mut policy = Policy::default();
    assert_eq!((tick_interval(&policy), needs_mailbox(&policy)), (LEASE / 3, false));
    waits(&mut policy);
    assert_eq!((tick_interval(&policy), needs_mailbox(&policy)), (TIMEOUT / 8, true));
    policy.lease = 3 * SECOND;
    assert_eq!(tick_interval(&policy), SECOND);
}

#[test]
fn a_released_claim_of_the_one_that_took_over_is_settled_as_its_own() {
    let world = waiting([Answer::Claimed(Claimed::Granted)]);
    let stream = begins_to_wait(&world).woken();
    assert!(stream.was_executed());
    let stream = stream.gone(&evidence("downstream_remote_disconnect", 1, false));
    assert_eq!(*stream.ending(), Ending::Released);
}
