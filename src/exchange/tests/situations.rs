//! The contract's table of situations (section 4, "On the wire"), row by row.

use std::time::Duration;

use super::harness::{Response, Stream, World, evidence, via_upstream};
use crate::{
    config::{BodyFingerprint, CallerPolicy, IdentitySource, InFlight, Mode, OnStoreError, OnUnknown},
    exchange::{Counter, Effect, Event, Notice, Problem, Status},
    request::{Doubt, InvalidKey},
    store::{Answer, Claimed, Ending, Scarce, StoreError},
};

const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

fn in_flight() -> Problem {
    Problem::RequestInFlight { age: Duration::ZERO, lease_left: LEASE }
}

#[test]
fn a_first_request_is_held_until_it_is_claimed_and_then_forwarded_untouched() {
    let world = World::silent();
    let mut stream = world.order().chunks(["{\"item\"", ":1}"]).send();
    let held = stream.take_effects();
    assert!(matches!(held.as_slice(), [Effect::Hold, Effect::Hold, Effect::Hold, Effect::Call(_)]), "{held:?}");

    let stream = stream.answer(Answer::Claimed(Claimed::Granted));
    assert_eq!(
        stream.effects,
        [Effect::Count(Counter::RequestsExecuted), Effect::Tell(Status::Executed), Effect::Forward]
    );
}

#[test]
fn a_first_response_passes_with_nothing_but_the_status_added() {
    let world = World::new();
    let mut stream = world.order().send();
    stream.take_effects();
    stream.on(Event::ResponseHeaders {
        status: 201,
        headers: &Response::created().headers,
        evidence: &via_upstream(),
        end_of_stream: false,
    });
    assert_eq!(
        stream.take_effects(),
        [Effect::Tell(Status::Executed), Effect::AddResponseHeader("idempotency-status", "executed")]
    );
    stream.on(Event::ResponseBody { chunk: b"{\"id\":1}", end_of_stream: false });
    assert_eq!(stream.take_effects(), []);
    stream.on(Event::ResponseBody { chunk: b"", end_of_stream: true });
    assert_eq!(stream.counters(), [Counter::OutcomesStored]);
    assert!(stream.exchange.is_finished());
}

/// Envoy lets `Expect` reach the filter only with `proxy_100_continue`; then nobody but the service answers it.
#[test]
fn a_client_that_waits_for_a_100_is_refused_where_its_request_is_held_for_its_body() {
    let world = World::new();
    let stream = world.order().header("expect", "100-continue").begin();
    stream.assert_refused(&Problem::ExpectationFailed);
    // Its key is as free as before, and a request without a body has nothing to wait for.
    assert_eq!(world.order().send().told(), Some(Status::Executed));
    let empty = world.request("POST", "/orders").key("k-2").header("expect", "100-continue").send();
    assert_eq!(empty.told(), Some(Status::Executed));
}

#[test]
fn a_client_that_waits_for_a_100_is_refused_where_its_request_is_held_for_the_store() {
    let world = World::with(|policy| policy.fingerprint.body = BodyFingerprint::None);
    let request = || world.order().header("expect", "100-continue");
    request().with_remote_store().begin().assert_refused(&Problem::ExpectationFailed);
    assert_eq!(request().begin().told(), Some(Status::Executed));
}

#[test]
fn a_client_that_waits_for_a_100_is_refused_where_its_request_would_wait_for_another() {
    let world = World::with(|policy| {
        policy.fingerprint.body = BodyFingerprint::None;
        policy.duplicates.in_flight = InFlight::Wait;
    });
    let request = || world.order().header("expect", "100-continue");
    assert_eq!(request().begin().told(), Some(Status::Executed));
    request().begin().assert_refused(&Problem::ExpectationFailed);
}

#[test]
fn a_retry_after_completion_is_replayed() {
    let world = World::new();
    world.ordered();
    let retry = world.order().send();

    assert_eq!((retry.reply().status, &*retry.reply().body), (201, b"{\"id\":1}".as_slice()));
    assert_eq!(retry.counters(), [Counter::RequestsReplayed]);
    assert_eq!(retry.told(), Some(Status::Replayed));
}

#[test]
fn a_body_that_is_cut_in_other_pieces_is_the_same_request() {
    let world = World::new();
    world.ordered();
    let same = [
        world.order().chunks(["{", "\"item\":1}"]),
        world.order().chunks(["{\"item\":1}", ""]),
        world.order().with_trailers(),
    ];
    for request in same {
        assert_eq!(request.send().told(), Some(Status::Replayed));
    }
}

#[test]
fn replays_end_with_the_retention_and_do_not_extend_it() {
    let world = World::new();
    world.ordered();
    world.pass(TTL - Duration::from_millis(1));
    assert_eq!(world.order().send().told(), Some(Status::Replayed));
    world.pass(Duration::from_millis(1));
    assert!(world.order().send().was_executed());
}

#[test]
fn another_caller_authority_path_or_key_is_another_operation() {
    let world = World::new();
    world.ordered();
    let others = [
        world.order().without("authorization").header("authorization", "Bearer bob"),
        world.order().without("authorization"),
        world.order().without(":authority").header(":authority", "other.example"),
        world.order().without(":path").header(":path", "/refunds"),
        world.order().without(":method").header(":method", "PATCH"),
        world.order().without("idempotency-key").key("k-2"),
    ];
    for other in others {
        assert!(other.send().was_executed(), "{other:?}");
    }
}

#[test]
fn a_key_that_is_reused_for_another_request_is_refused_whatever_became_of_the_first() {
    let finish: [fn(Stream<'_>); 4] = [
        |_running| {},
        |first| drop(first.answered(&Response::created())),
        |first| drop(first.answered(&Response::created().header("idempotency-policy", "no-store"))),
        |first| drop(first.gone(&evidence("downstream_remote_disconnect", 1, true))),
    ];
    for finish in finish {
        let world = World::new();
        finish(world.order().send());
        for other in [
            world.order().body("{\"item\":2}"),
            world.order().no_body(),
            world.order().header("content-type", "text/plain"),
            world.order().without(":path").header(":path", "/orders?dry=1"),
        ] {
            other.send().assert_refused(&Problem::KeyReused);
        }
    }
}

#[test]
fn a_duplicate_in_flight_is_refused_with_the_time_to_come_back() {
    let world = World::new();
    let _first = world.order().send();
    let duplicate = world.order().send();

    duplicate.assert_refused(&in_flight());
    assert_eq!(duplicate.reply().headers.get("retry-after"), Some(b"1".as_slice()));
}

#[test]
fn a_duplicate_comes_back_when_the_first_one_has_run_as_long_again_whatever_renewals_its_lease_had() {
    let world = World::new();
    let mut first = world.order().send();
    let mut told = Vec::new();
    for _ in 0..8 {
        world.pass(Duration::from_secs(10));
        first = first.tick();
        let duplicate = world.order().send();
        told.push(String::from_utf8_lossy(duplicate.reply().headers.get("retry-after").unwrap()).into_owned());
    }
    // Never beyond its lease, which is renewed each 10 s.
    assert_eq!(told, ["10", "20", "30", "30", "30", "30", "30", "30"]);
}

#[test]
fn an_unknown_outcome_blocks_until_the_end_of_the_retention() {
    let world = World::new();
    world.order().send().gone(&evidence("downstream_remote_disconnect", 1, true));

    for wait in [Duration::ZERO, LEASE, TTL - LEASE - Duration::from_millis(1)] {
        world.pass(wait);
        world.order().send().assert_refused(&Problem::OutcomeUnknown { retry_after: None });
    }
    world.pass(Duration::from_millis(1));
    assert!(world.order().send().was_executed());
}

#[test]
fn where_the_policy_says_retry_an_unknown_outcome_runs_anew_once_the_lease_is_over() {
    let world = World::with(|policy| policy.outcome.on_unknown = OnUnknown::Retry);
    world.order().send().gone(&evidence("downstream_remote_disconnect", 1, true));

    world.pass(Duration::from_millis(10_500));
    let early = world.order().send();
    early.assert_refused(&Problem::OutcomeUnknown { retry_after: Some(Duration::from_millis(19_500)) });
    assert_eq!(early.reply().headers.get("retry-after"), Some(b"20".as_slice()));
    world.pass(Duration::from_millis(19_500));
    assert!(world.order().send().was_executed());
}

#[test]
fn a_dead_owner_leaves_an_unknown_outcome_when_its_lease_is_over() {
    let world = World::new();
    let _dead = world.order().send();
    world.pass(LEASE);
    world.order().send().assert_refused(&Problem::OutcomeUnknown { retry_after: None });
}

#[test]
fn a_response_that_is_not_to_be_kept_leaves_its_status() {
    let world = World::new();
    let first = world.order().send().answered(&Response::created().header("idempotency-policy", "no-store"));
    assert_eq!(first.counters(), [Counter::RequestsExecuted, Counter::OutcomesTombstoned]);

    world.order().send().assert_refused(&Problem::ResponseNotKept { status: 201 });
}

#[test]
fn a_response_over_the_limit_is_delivered_whole_and_leaves_its_status() {
    let world = World::with(|policy| policy.limits.response_body = 8);
    let first = world.order().send().answered(&Response::new(200).chunks(["1234", "5678", "9"]));
    assert_eq!(first.status_header(), Some("executed"));
    assert_eq!(*first.ending(), Ending::NotKept(200));

    world.order().send().assert_refused(&Problem::ResponseNotKept { status: 200 });
}

#[test]
fn a_response_of_just_the_limit_is_kept() {
    let world = World::with(|policy| policy.limits.response_body = 8);
    world.order().send().answered(&Response::new(200).chunks(["1234", "5678"]));
    assert_eq!(*world.order().send().reply().body, *b"12345678");
}

#[test]
fn a_missing_key_is_refused_only_where_it_is_required() {
    let world = World::new();
    let stream = world.order().without("idempotency-key").send();
    assert_eq!(stream.effects, [Effect::Count(Counter::RequestsUnguarded), Effect::Forward]);
    assert!(stream.exchange.is_finished());

    let world = World::with(|policy| {
        policy.key.required = true;
        policy.key.headers = vec!["x-key".to_owned(), "idempotency-key".to_owned()];
    });
    let stream = world.order().without("idempotency-key").send();
    stream.assert_refused(&Problem::KeyMissing { header: "x-key".to_owned(), pointer: None });
}

#[test]
fn a_malformed_key_is_refused_without_being_repeated() {
    let world = World::new();
    let malformed: [(&[u8], InvalidKey); 5] = [
        (b"zebra zebra", InvalidKey::Space),
        (b"zebra,zebra", InvalidKey::List),
        (b"\"zebra", InvalidKey::Unterminated),
        (b"zebra\xff", InvalidKey::NotAscii),
        (b"zebra\x01", InvalidKey::ControlCharacter),
    ];
    for (key, reason) in malformed {
        let stream = world.order().without("idempotency-key").header("idempotency-key", key).send();
        stream.assert_refused(&Problem::KeyInvalid(reason));
        assert!(!String::from_utf8_lossy(&stream.reply().body).contains("zebra"));
    }
    world.order().key("k-1").send().assert_refused(&Problem::KeyInvalid(InvalidKey::Repeated));
}

#[test]
fn a_caller_that_is_not_identified_is_refused_only_where_one_is_required() {
    let identity = vec![IdentitySource::Header("x-user".to_owned())];
    let world = World::with(|policy| policy.caller = CallerPolicy { identity: identity.clone(), required: true });
    world.order().send().assert_refused(&Problem::CallerUnknown);
    assert!(world.order().header("x-user", "ann").send().was_executed());

    let world = World::with(|policy| policy.caller = CallerPolicy { identity, required: false });
    assert!(world.order().send().was_executed());
}

#[test]
fn a_caller_without_an_identity_is_counted_and_told_of() {
    let tells_of = |identity: &[IdentitySource], field: &'static str| {
        let policy = CallerPolicy { identity: identity.to_vec(), required: false };
        let world = World::with(|of_world| of_world.caller = policy.clone());
        let stream = world.order().without("authorization").header("authorization", field).send();
        assert!(stream.was_executed());
        let doubts = stream.effects.iter().filter_map(|effect| match effect {
            Effect::Notice(Notice::Caller(doubt)) => Some(*doubt),
            _ => None,
        });
        let counted = stream.effects.iter().filter(|effect| **effect == Effect::Count(Counter::RequestsCallerAbsent));
        (counted.count(), doubts.collect::<Vec<_>>())
    };
    let authorization = [IdentitySource::Header("authorization".to_owned())];
    assert_eq!(tells_of(&authorization, "Bearer ann"), (0, vec![]));
    assert_eq!(tells_of(&authorization, ""), (1, vec![Doubt::Anonymous]));
    // That all are one is what the operator asked for.
    assert_eq!(tells_of(&[], "Bearer ann"), (1, vec![]));
    assert_eq!(tells_of(&authorization, "Digest nc=1"), (0, vec![Doubt::ChangingCredentials("Digest")]));
}

#[test]
fn a_precondition_that_no_retry_is_compared_by_is_told_of() {
    for name in ["if-match", "if-none-match", "if-unmodified-since"] {
        let told = Effect::Notice(Notice::Precondition(name));
        let world = World::new();
        let stream = world.order().header(name, "\"v1\"").send();
        assert!(stream.was_executed() && stream.effects.contains(&told), "{name}");
        let world = World::with(|policy| policy.fingerprint.headers.push(name.to_owned()));
        assert!(!world.order().header(name, "\"v1\"").send().effects.contains(&told), "{name}");
    }
    assert!(!World::new().order().send().effects.iter().any(|effect| matches!(effect, Effect::Notice(_))));
}

#[test]
fn a_caller_can_be_what_the_host_has_verified() {
    let world = World::with(|policy| {
        let path = vec!["metadata".to_owned(), "sub".to_owned()];
        policy.caller = CallerPolicy { identity: vec![IdentitySource::Property(path)], required: true };
    });
    world.ordered();
    // A new token of the same subject is the same caller.
    let refreshed = world.order().without("authorization").header("authorization", "Bearer new");
    assert_eq!(refreshed.send().told(), Some(Status::Replayed));
    assert!(world.order().subject("bob").send().was_executed());
    world.order().subject("").send().assert_refused(&Problem::CallerUnknown);
}

#[test]
fn a_body_over_the_limit_is_refused_as_soon_as_that_is_known() {
    let too_large = Problem::RequestTooLarge { limit: 8 };
    let world = World::with(|policy| policy.limits.request_body = 8);
    let declared = world.order().header("content-length", "9").begin();
    declared.assert_refused(&too_large);

    let mut streamed = world.order().begin();
    streamed.on(Event::RequestBody { chunk: b"12345678", end_of_stream: false });
    assert_eq!(streamed.effects, [Effect::Hold, Effect::Hold]);
    streamed.on(Event::RequestBody { chunk: b"9", end_of_stream: false });
    streamed.assert_refused(&too_large);

    assert!(world.order().header("content-length", "8").body("12345678").send().was_executed());
}

#[test]
fn a_body_that_is_not_held_has_no_limit() {
    let world = World::with(|policy| {
        policy.limits.request_body = 8;
        policy.fingerprint.body = BodyFingerprint::None;
    });
    let stream = world.order().header("content-length", "9").begin();
    assert!(stream.was_executed());
    assert!(!stream.exchange.awaits_body());
}

#[test]
fn a_failed_store_refuses_with_the_time_to_come_back() {
    let world = World::answering(|_| {}, [Answer::Claimed(Claimed::Failed(StoreError::Host(8)))]);
    let stream = world.order().send();

    stream.assert_refused(&Problem::StoreUnavailable);
    assert!(stream.reply().headers.get("retry-after").is_some());
    assert!(stream.effects.contains(&Effect::WarnStore(StoreError::Host(8))));
}

#[test]
fn where_the_policy_says_bypass_a_failed_store_lets_requests_through_and_says_so() {
    let failed = Answer::Claimed(Claimed::Failed(StoreError::Contended));
    let world = World::answering(|policy| policy.on_store_error = OnStoreError::Bypass, [failed]);
    let stream =
        world.order().send().answered(&Response::created().header("idempotency-policy", "store")).gone(&via_upstream());

    assert!(stream.was_forwarded());
    assert_eq!(stream.counters(), [Counter::StoreErrors, Counter::RequestsBypassed]);
    assert_eq!((stream.told(), stream.status_header()), (Some(Status::Bypassed), Some("bypassed")));
    assert_eq!(stream.removed_headers(), ["idempotency-policy"]);
    assert!(stream.effects.contains(&Effect::WarnStore(StoreError::Contended)));
    assert_eq!(stream.calls().count(), 1, "nothing is settled that was not claimed");
}

#[test]
fn a_full_store_refuses_with_the_time_to_come_back_even_where_errors_are_bypassed() {
    let full = Answer::Claimed(Claimed::Full);
    let world = World::answering(|policy| policy.on_store_error = OnStoreError::Bypass, [full]);
    let stream = world.order().send();

    stream.assert_refused(&Problem::StoreFull);
    assert!(stream.reply().headers.get("retry-after").is_some());
}

#[test]
fn a_caller_that_has_its_share_is_refused_and_told_of_even_where_errors_are_bypassed() {
    for (scarce, name) in [(Scarce::Records, "store-full"), (Scarce::Questions, "overloaded")] {
        let refused = Answer::Claimed(Claimed::OverShare(scarce));
        let world = World::answering(|policy| policy.on_store_error = OnStoreError::Bypass, [refused]);
        let stream = world.order().send();
        let problem = Problem::OverShare(scarce);
        stream.assert_refused(&problem);
        assert_eq!((problem.name(), stream.counters()), (name, vec![Counter::RequestsOverShare]));
        assert!(stream.effects.contains(&Effect::Notice(Notice::OverShare(scarce))));
        assert!(stream.reply().headers.get("retry-after").is_some());
    }
}

#[test]
fn a_host_that_withholds_the_body_is_found_out_and_nothing_is_executed() {
    let world = World::new();
    let mut stream = world.order().begin();
    assert!(stream.exchange.awaits_first_body());
    stream.on(Event::BodyWithheld);
    stream.assert_refused(&Problem::HostUnsupported);
    assert_eq!(stream.calls().count(), 0);
}

#[test]
fn the_wait_for_the_first_piece_of_a_body_ends_with_it() {
    let world = World::new();
    let mut stream = world.order().begin();
    stream.on(Event::RequestBody { chunk: b"{", end_of_stream: false });
    assert!(!stream.exchange.awaits_first_body());
    assert!(stream.exchange.awaits_body());
}

#[test]
fn answers_of_the_filter_itself_are_never_stored() {
    let world = World::with(|policy| policy.key.required = true);
    world.ordered();
    for request in [world.order(), world.order().body("other"), world.order().without("idempotency-key")] {
        let stream = request.send();
        let (effects, reply) = (stream.effects.clone(), stream.reply().clone());
        let stream = stream.own_reply_passes();
        assert_eq!(stream.effects, effects);
        assert!(stream.exchange.is_finished());
        // And the next one gets the same.
        assert_eq!(*request.send().reply(), reply);
    }
}

#[test]
fn without_status_header_nothing_is_set_on_any_response() {
    let world = World::with(|policy| policy.status_header = false);
    let first = world.ordered();
    assert_eq!((first.status_header(), first.told()), (None, Some(Status::Executed)));
    assert_eq!(world.order().send().reply().headers.get("idempotency-status"), None);
    assert_eq!(world.order().body("other").send().reply().headers.get("idempotency-status"), None);
}

#[test]
fn problems_link_to_the_documentation_of_the_api() {
    let world = World::with(|policy| policy.docs_uri = Some("https://docs.example/retries".to_owned()));
    let stream = world.order().key("k-2").send();
    let link = stream.reply().headers.get("link");
    assert_eq!(link, Some(b"<https://docs.example/retries>; rel=\"describedby\"".as_slice()));
}

#[test]
fn requests_that_are_not_guarded_pass_untouched_and_uncounted() {
    let world = World::with(|policy| policy.key.required = true);
    let upgrade = world.order().header("connection", "keep-alive, Upgrade").header("upgrade", "websocket");
    let unguarded = [
        world.order().without(":method").header(":method", "GET"),
        world.order().without(":method").header(":method", "DELETE"),
        world.order().without(":method").header(":method", "QUERY"),
        world.order().header("content-type", "application/grpc"),
        world.order().header("content-type", "Application/gRPC+proto"),
        world.order().header(":protocol", "websocket"),
        upgrade,
    ];
    for request in unguarded {
        let stream = request.begin();
        assert_eq!(stream.effects, [Effect::Forward], "{request:?}");
        assert!(stream.exchange.is_finished());
    }
    let off = World::with(|policy| policy.mode = Mode::Off);
    assert_eq!(off.order().begin().effects, [Effect::Forward]);
}

#[test]
fn the_spelling_of_a_method_or_a_path_makes_no_other_operation() {
    let world = World::new();
    world.ordered();
    for (method, path) in [("post", "/orders"), ("POST", "/%6frders"), ("Post", "/order%73")] {
        let again = world.order().without(":method").without(":path").header(":method", method).header(":path", path);
        assert_eq!(again.send().told(), Some(Status::Replayed), "{method} {path}");
    }
}

#[test]
fn content_that_only_sounds_like_grpc_is_guarded() {
    let world = World::new();
    assert!(world.order().header("content-type", "application/gr").send().was_executed());
    assert!(world.order().header("content-type", "application/grpc-web+proto").send().told().is_some());
    assert!(world.order().header("content-type", "application/grpcXjson").send().told().is_some());
    assert!(world.order().header("content-type", "text/application/grpc").send().told().is_some());
}
