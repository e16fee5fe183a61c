//! Operations that are named by what is in the body (`key.pointers`), or by what is asked for (`key.derive`).

use std::time::Duration;

use super::harness::{Request, Response, Stream, World, evidence, via_upstream};
use crate::{
    config::{BodyFingerprint, CallerPolicy, ExecutionMode, IdentitySource, InFlight, Mode, PointerTree, Policy},
    exchange::{CALL_ANSWER, Counter, Effect, HELD_REQUEST, Problem, Status},
    request::InvalidKey,
    store::{Answer, Call, Claimed, Ending},
};

const WINDOW: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
const MOMENT: Duration = Duration::from_millis(1);

fn pointers(policy: &mut Policy) {
    policy.key.pointers = vec![vec!["meta".to_owned(), "key".to_owned()], vec!["id".to_owned()]];
}

fn derives(policy: &mut Policy) {
    policy.key.derive = Some(WINDOW);
}

/// An order without a key in its headers.
fn order<'w>(world: &'w World, body: &'static str) -> Request<'w> {
    world.order().without("idempotency-key").body(body)
}

#[track_caller]
fn assert_passes(stream: &Stream<'_>) {
    assert_eq!(stream.counters(), [Counter::RequestsUnguarded]);
    assert_eq!(stream.effects.last(), Some(&Effect::Forward));
    let holds = stream.effects.iter().all(|effect| matches!(effect, Effect::Hold | Effect::Forward | Effect::Count(_)));
    assert!(holds, "{:?}", stream.effects);
    assert!(stream.exchange.is_finished());
}

#[test]
fn the_key_in_a_body_is_the_same_key_as_in_a_header_or_at_another_place() {
    let world = World::with(|policy| {
        pointers(policy);
        policy.fingerprint.body = BodyFingerprint::Json { ignore: PointerTree::new(&[vec!["at".to_owned()]]) };
    });
    let body = r#"{"meta":{"key":"k 17"}}"#;
    let first = order(&world, body).send();
    assert!(first.was_executed());
    first.answered(&Response::created());
    for retry in [order(&world, body), order(&world, body).with_trailers(), order(&world, body).key("\"k 17\"")] {
        let retry = retry.send();
        assert_eq!(retry.told(), Some(Status::Replayed));
    }
    let retry = order(&world, "").chunks([r#"{"at":"10:00","meta":{"#, r#""key":"k 17"}"#, "}"]).send();
    assert_eq!(retry.told(), Some(Status::Replayed));
    for reused in [r#"{"meta":{"key":"k 17"},"item":2}"#, r#"{"id":"k 17"}"#] {
        order(&world, reused).send().assert_refused(&Problem::KeyReused);
    }
    assert!(order(&world, r#"{"meta":{"key":"k 18"}}"#).send().was_executed());
}

#[test]
fn a_request_in_which_no_pointer_finds_anything_passes_as_it_is_and_is_not_claimed() {
    let world = World::with(pointers);
    for body in ["", "a=1", r#"{"meta":{"key":"k""#, r#"{"meta":{}}"#, "[]", "17"] {
        let stream = order(&world, body).header("idempotency-status", "executed").send();
        assert_passes(&stream);
        assert_passes(&order(&world, body).with_trailers().send());
    }
    assert_passes(&order(&world, "").no_body().send());
}

#[test]
fn what_is_for_the_filter_alone_is_taken_off_once_it_is_known_that_it_is_guarded() {
    let world = World::with(pointers);
    let request = order(&world, r#"{"id":1}"#).header("idempotency-status", "executed");
    let mut stream = request.begin();
    assert_eq!(stream.take_effects(), [Effect::Hold]);
    let stream = request.send();
    assert!(stream.effects.contains(&Effect::RemoveRequestHeader("idempotency-status".to_owned())));
    assert!(stream.was_executed());
}

#[test]
fn a_key_that_is_none_is_refused_and_nothing_runs() {
    let world = World::with(pointers);
    for (body, reason) in [
        (r#"{"id":null}"#, InvalidKey::NoScalar),
        (r#"{"id":["k"]}"#, InvalidKey::NoScalar),
        (r#"{"id":1.5}"#, InvalidKey::NoScalar),
        (r#"{"id":""}"#, InvalidKey::Blank),
        (r#"{"id":"k","id":"k"}"#, InvalidKey::RepeatedName),
        (r#"{"meta":{"key":"a"},"meta":{"key":"b"},"id":"k"}"#, InvalidKey::RepeatedName),
        (r#"{"meta":{"key":true},"id":"k"}"#, InvalidKey::NoScalar),
    ] {
        let stream = order(&world, body).send();
        stream.assert_refused(&Problem::KeyInvalid(reason));
        assert_eq!(stream.calls().count(), 0, "{body}");
    }
    // The header goes first, and a bad one does not fall back.
    order(&world, r#"{"id":"k"}"#).key("").send().assert_refused(&Problem::KeyInvalid(InvalidKey::Blank));
    assert!(order(&world, r#"{"id":null}"#).key("k").send().was_executed());
}

#[test]
fn a_required_key_may_be_in_the_body() {
    let world = World::with(|policy| {
        pointers(policy);
        policy.key.required = true;
    });
    let missing = Problem::KeyMissing { header: "idempotency-key".to_owned(), pointer: Some("/meta/key".to_owned()) };
    for request in [order(&world, r#"{"id2":1}"#), order(&world, ""), order(&world, "").no_body()] {
        let stream = request.send();
        stream.assert_refused(&missing);
        assert!(stream.reply().body.windows(9).any(|bytes| bytes == b"/meta/key"));
    }
    assert!(order(&world, r#"{"id":1}"#).send().was_executed());
}

#[test]
fn whom_it_belongs_to_matters_only_to_a_request_with_a_key() {
    let world = World::with(|policy| {
        pointers(policy);
        let identity = vec![IdentitySource::Header("x-user".to_owned())];
        policy.caller = CallerPolicy { identity, required: true };
    });
    assert_passes(&order(&world, "{}").send());
    order(&world, r#"{"id":1}"#).send().assert_refused(&Problem::CallerUnknown);
    assert!(order(&world, r#"{"id":1}"#).header("x-user", "ann").send().was_executed());
    assert!(order(&world, r#"{"id":1}"#).header("x-user", "bob").send().was_executed(), "another caller");

    let world = World::with(|policy| {
        pointers(policy);
        policy.caller.identity = vec![IdentitySource::Header("x-user".to_owned())];
    });
    assert!(!order(&world, "{}").send().counted(Counter::RequestsCallerAbsent));
    assert!(order(&world, r#"{"id":1}"#).send().counted(Counter::RequestsCallerAbsent));
}

#[test]
fn what_is_too_large_to_be_looked_into_never_passes_unprotected() {
    let world = World::with(|policy| {
        pointers(policy);
        policy.limits.request_body = 16;
    });
    let too_large = Problem::RequestTooLarge { limit: 16 };
    order(&world, "").header("content-length", "17").begin().assert_refused(&too_large);
    order(&world, "").chunks(["{\"items\": ", "[1, 2]}"]).send().assert_refused(&too_large);
    assert_passes(&order(&world, r#"{"items":[1, 2]}"#).send());
    let expects = order(&world, "{}").header("expect", "100-continue").begin();
    expects.assert_refused(&Problem::ExpectationFailed);
}

#[test]
fn a_detached_call_is_made_for_a_key_in_its_body_and_for_nothing_else() {
    let world = World::with(|policy| {
        pointers(policy);
        policy.execution.mode = ExecutionMode::Detached;
        policy.execution.cluster = Some("orders".to_owned());
        policy.fingerprint.body = BodyFingerprint::None;
    });
    let body = r#"{"id":"k"}"#;
    let stream = order(&world, body).send();
    assert_eq!(stream.job().map(|job| job.body.as_slice()), Some(body.as_bytes()));
    stream.call_answered(&Response::of_call(201));
    assert_eq!(order(&world, body).send().told(), Some(Status::Replayed));
    assert_passes(&order(&world, "{}").send());
}

#[test]
fn a_shadow_looks_into_bodies_and_holds_nothing() {
    let world = World::with(|policy| {
        pointers(policy);
        policy.mode = Mode::Shadow;
    });
    let body = r#"{"id":"k"}"#;
    let first = order(&world, body).send().answered(&Response::created());
    assert_eq!(first.counters(), [Counter::RequestsExecuted, Counter::OutcomesStored]);
    let retry = order(&world, body).send().answered(&Response::created()).gone(&via_upstream());
    assert_eq!(retry.counters(), [Counter::RequestsReplayed]);
    let keyless = order(&world, "{}").send().answered(&Response::created()).gone(&via_upstream());
    assert_eq!(keyless.counters(), [Counter::RequestsUnguarded]);
    for stream in [first, retry, keyless] {
        let is_unnoticed = |effect: &Effect| matches!(effect, Effect::Call(_) | Effect::Count(_) | Effect::Tell(_));
        assert!(stream.effects.iter().all(is_unnoticed), "{:?}", stream.effects);
        assert!(stream.exchange.is_finished());
    }
}

#[test]
fn what_is_kept_to_be_looked_into_counts_as_memory() {
    for (change, least, copies) in [
        ((|_| {}) as fn(&mut Policy), HELD_REQUEST, 2),
        (|policy| policy.fingerprint.body = BodyFingerprint::Json { ignore: PointerTree::default() }, HELD_REQUEST, 3),
        (|policy| policy.execution.mode = ExecutionMode::Detached, HELD_REQUEST + CALL_ANSWER, 2),
    ] {
        let world = World::with(|policy| {
            pointers(policy);
            change(policy);
            policy.execution.cluster = Some("orders".to_owned());
        });
        let mut stream = order(&world, "").begin();
        let before = stream.exchange.footprint();
        assert!(before > least);
        stream.on(crate::exchange::Event::RequestBody { chunk: &[b'1'; 100], end_of_stream: false });
        assert_eq!(stream.exchange.footprint() - before, copies * 100);
        stream.exchange.set_room(copies * 100 - 1);
        stream.on(crate::exchange::Event::RequestBody { chunk: &[b'1'; 100], end_of_stream: false });
        stream.assert_refused(&Problem::MemoryFull);
    }
}

#[test]
fn equal_requests_without_a_key_are_one_within_the_window_after_the_first_and_then_another() {
    let world = World::with(derives);
    let body = r#"{"item":1}"#;
    let first = order(&world, body).send();
    assert!(first.was_executed());
    // However long it runs.
    world.pass(Duration::from_secs(25));
    let again = order(&world, body).send();
    assert_eq!(again.told(), Some(Status::InFlight));
    first.answered(&Response::created());
    for _ in 0..2 {
        let again = order(&world, body).send();
        assert_eq!((again.told(), again.reply().status), (Some(Status::Replayed), 201));
    }
    world.pass(WINDOW - MOMENT);
    assert_eq!(order(&world, body).send().told(), Some(Status::Replayed));
    world.pass(MOMENT);
    assert!(order(&world, body).send().was_executed());
}

#[test]
fn whatever_is_asked_for_otherwise_is_another_request_and_a_key_has_the_last_word() {
    let world = World::with(|policy| {
        derives(policy);
        policy.resource.path = false;
        policy.fingerprint.query = false;
    });
    let order = || order(&world, r#"{"item":1}"#);
    assert!(order().send().was_executed());
    assert_eq!(order().send().told(), Some(Status::InFlight));
    for other in [
        order().body(r#"{"item":2}"#),
        order().no_body(),
        order().header("content-type", "text/plain"),
        order().without(":path").header(":path", "/orders?a=1"),
        order().without(":path").header(":path", "/refunds"),
        order().without(":method").header(":method", "PATCH"),
        order().without(":authority").header(":authority", "other.example"),
        order().without("authorization").header("authorization", "Bearer bob"),
        order().key("k-1"),
        order().key("k-2"),
    ] {
        assert!(other.send().was_executed(), "{other:?}");
        assert_ne!(other.send().told(), Some(Status::Executed), "{other:?}");
    }
}

#[test]
fn clients_that_cannot_be_told_apart_get_no_key() {
    let world = World::with(derives);
    let anonymous = || order(&world, r#"{"item":1}"#).without("authorization");
    for _ in 0..2 {
        assert_passes(&anonymous().send());
        assert_passes(&anonymous().no_body().send());
        // At once, however large its body is.
        assert_passes(&anonymous().header("content-length", "99999999").begin());
    }
    assert!(anonymous().key("k").send().was_executed());
    let world = World::with(|policy| {
        derives(policy);
        policy.caller.required = true;
    });
    assert_passes(&order(&world, "{}").without("authorization").send());
}

#[test]
fn a_key_in_the_body_goes_before_a_derived_one_and_a_bad_one_is_refused() {
    let world = World::with(|policy| {
        derives(policy);
        pointers(policy);
    });
    let ttl_of = |stream: &Stream<'_>| {
        stream.calls().find_map(|call| match call {
            Call::Claim(claim) => Some(claim.ttl),
            _ => None,
        })
    };
    assert_eq!(ttl_of(&order(&world, r#"{"id":1}"#).send()), Some(TTL));
    assert_eq!(ttl_of(&order(&world, r#"{"item":1}"#).send()), Some(WINDOW));
    assert_eq!(ttl_of(&order(&world, r#"{"item":1}"#).key("k").send()), Some(TTL));
    order(&world, r#"{"id":{}}"#).send().assert_refused(&Problem::KeyInvalid(InvalidKey::NoScalar));
}

#[test]
fn the_window_is_what_every_call_to_the_store_says() {
    for ending in [Ending::Unknown, Ending::Released] {
        let world = World::answering(derives, [Answer::Claimed(Claimed::Granted)]);
        let mut stream = order(&world, "{}").send();
        world.pass(Duration::from_secs(10));
        stream = stream.tick();
        let details = if ending == Ending::Unknown { "downstream_remote_disconnect" } else { "no_healthy_upstream" };
        let stream = stream.gone(&evidence(details, u64::from(ending == Ending::Unknown), ending == Ending::Unknown));
        let mut ttls = stream.calls().map(|call| match call {
            Call::Claim(claim) => claim.ttl,
            Call::Renew { ttl, .. } | Call::Settle { ttl, .. } => *ttl,
        });
        assert!(ttls.by_ref().take(3).eq([WINDOW; 3]) && ttls.next().is_none());
        assert_eq!(*stream.ending(), ending);
    }
}

#[test]
fn the_second_of_a_double_click_may_wait_for_the_first() {
    let world = World::with(|policy| {
        derives(policy);
        policy.duplicates.in_flight = InFlight::Wait;
        policy.execution.mode = ExecutionMode::Detached;
        policy.execution.cluster = Some("orders".to_owned());
    });
    // A browser that sends a form again gives up the first request.
    let first = order(&world, "item=1").send().gone(&evidence("downstream_remote_disconnect", 0, false));
    let second = order(&world, "item=1").send();
    assert!(second.is_waiting);
    first.call_answered(&Response::of_call(201));
    let second = second.woken();
    assert_eq!((second.told(), second.reply().status), (Some(Status::Replayed), 201));
}
