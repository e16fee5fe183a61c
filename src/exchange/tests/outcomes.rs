//! The contract's second table (section 4): what the outcome is when no complete answer came, and how
//! an upstream steers it.

use std::time::Duration;

use super::harness::{Response, Stream, World, evidence, via_upstream};
use crate::{
    config::OnUnknown,
    exchange::{Counter, Effect, Event, Evidence, Notice, Status},
    store::{Answer, Ending, Renewed, StoreError},
};

fn reset(reason: &str, attempts: u64, connected: bool) -> Evidence {
    evidence(&format!("upstream_reset_before_response_started{{{reason}}}"), attempts, connected)
}

#[track_caller]
fn assert_released(world: &World, stream: &Stream<'_>, status: Status) {
    assert_eq!(*stream.ending(), Ending::Released);
    assert!(stream.counted(Counter::OutcomesReleased));
    assert_eq!(stream.told(), Some(status));
    assert!(world.order().send().was_executed(), "a retry executes");
}

#[track_caller]
fn assert_unknown(world: &World, stream: &Stream<'_>) {
    assert_eq!(*stream.ending(), Ending::Unknown);
    assert!(stream.counted(Counter::OutcomesUnknown));
    assert_eq!(stream.told(), Some(Status::Unknown));
    assert_eq!(world.order().send().told(), Some(Status::Unknown), "a retry is not executed");
}

#[test]
fn what_envoy_never_sent_is_released() {
    for (status, evidence) in [
        (503, evidence("no_healthy_upstream", 1, false)),
        (503, evidence("cluster_not_found", 0, false)),
        (404, evidence("route_not_found", 0, false)),
        (418, evidence("direct_response", 0, false)),
        (403, evidence("rbac_access_denied_matched_policy[p]", 0, false)),
        (429, evidence("local_rate_limited", 0, false)),
        (503, reset("remote_connection_failure|delayed_connect_error:_111", 1, false)),
        (503, reset("overflow", 1, false)),
        (200, Evidence { attempts: Some(0), ..Evidence::default() }),
    ] {
        let world = World::new();
        let stream = world.order().send().answered(&Response::new(status).evidence(evidence).body("x"));
        assert_released(&world, &stream, Status::Rejected);
        assert_eq!(stream.status_header(), Some("rejected"));
    }
}

#[test]
fn what_was_sent_and_not_answered_is_unknown() {
    for (status, evidence) in [
        (504, evidence("response_timeout", 1, true)),
        (503, reset("connection_termination", 1, true)),
        (503, reset("connection_termination", 3, true)),
        (503, reset("remote_connection_failure", 2, false)),
        (503, evidence("no_healthy_upstream", 2, false)),
        (500, evidence("response_payload_too_large", 1, true)),
        (200, evidence("lua_response", 1, true)),
        (503, Evidence { details: Some(b"no_healthy_upstream".to_vec()), ..Evidence::default() }),
    ] {
        let world = World::new();
        let stream = world.order().send().answered(&Response::new(status).evidence(evidence).body("x"));
        assert_unknown(&world, &stream);
        assert_eq!(stream.status_header(), Some("unknown"));
    }
}

#[test]
fn a_client_that_goes_away_before_the_request_was_sent_leaves_nothing() {
    for attempts in [0, 1] {
        let world = World::new();
        let stream = world.order().send().gone(&evidence("downstream_remote_disconnect", attempts, false));
        assert_released(&world, &stream, Status::Rejected);
    }
}

#[test]
fn a_client_that_goes_away_after_the_request_was_sent_leaves_an_unknown_outcome() {
    for evidence in [
        evidence("downstream_remote_disconnect", 1, true),
        evidence("http2.remote_reset", 2, false),
        evidence("via_upstream", 1, true),
        Evidence::default(),
    ] {
        let world = World::new();
        let stream = world.order().send().gone(&evidence);
        assert_unknown(&world, &stream);
    }
}

#[test]
fn a_client_that_goes_away_before_its_body_came_has_claimed_nothing() {
    let world = World::new();
    let stream = world.order().begin().gone(&evidence("downstream_remote_disconnect", 0, false));
    assert_eq!(stream.calls().count(), 0);
    assert!(stream.exchange.is_finished());
}

/// The host layer hands the exchange to the stream that follows; this is what is left if none comes.
#[test]
fn a_redirect_that_no_stream_follows_up_leaves_an_unknown_outcome() {
    for attempts in [1, 2] {
        let world = World::new();
        let stream = world.order().send().gone(&evidence("internal_redirect", attempts, true));
        assert_unknown(&world, &stream);
    }
}

/// The upstream that redirected has run the request, whatever became of it where it was sent.
#[test]
fn behind_a_redirect_only_an_answer_that_is_kept_is_certain() {
    for (status, evidence) in [
        (503, evidence("no_healthy_upstream", 0, false)),
        (403, evidence("rbac_access_denied_matched_policy[p]", 0, false)),
        (503, evidence("via_upstream", 1, true)),
    ] {
        let world = World::new();
        let evidence = Evidence { redirected: true, ..evidence };
        let stream = world.order().send().answered(&Response::new(status).evidence(evidence).body("x"));
        assert_unknown(&world, &stream);
    }
}

#[test]
fn a_response_that_is_cut_short_is_unknown() {
    for cut in [
        Response::created().cut(),
        Response::created().header("idempotency-policy", "store").cut(),
        Response::new(200).cut(),
        Response::new(200).chunks(["more than", " the limit"]).cut(),
    ] {
        let world = World::with(|policy| policy.limits.response_body = 8);
        let reset = evidence("upstream_reset_after_response_started{connection_termination}", 1, true);
        let stream = world.order().send().answered(&cut).gone(&reset);
        assert_unknown(&world, &stream);
    }
}

#[test]
fn a_second_response_on_one_stream_makes_the_first_one_unknown() {
    let world = World::new();
    let stream = world.order().send().answered(&Response::created().cut());
    let other = Response::new(500).evidence(evidence("response_payload_too_large", 1, true)).body("other");
    let stream = stream.answered(&other).gone(&via_upstream());
    assert_unknown(&world, &stream);
}

#[test]
fn a_status_that_is_none_is_unknown_and_never_replayed() {
    for steering in ["", "store", "no-store", "release"] {
        let world = World::new();
        let response = Response::new(0).header("idempotency-policy", steering).body("x");
        let stream = world.order().send().answered(&response);
        assert_unknown(&world, &stream);
    }
}

#[test]
fn an_owner_that_was_taken_over_finishes_for_its_client_alone() {
    let world = World::with(|policy| policy.outcome.on_unknown = OnUnknown::Retry);
    let late = world.order().send();
    world.pass(Duration::from_secs(30));
    let new = world.order().send();
    assert!(new.was_executed());

    let late = late.answered(&Response::new(200).body("late"));
    assert_eq!(late.status_header(), Some("executed"));
    assert_eq!(late.counters(), [Counter::RequestsExecuted, Counter::OutcomesFenced]);
    assert!(late.exchange.is_finished());
    new.answered(&Response::created());
    assert_eq!(world.order().send().reply().status, 201);
}

#[test]
fn a_lease_is_renewed_for_as_long_as_its_owner_lives() {
    let world = World::new();
    let mut first = world.order().send();
    for _ in 0..20 {
        world.pass(Duration::from_secs(10));
        first = first.tick();
    }
    assert_eq!(first.renewals(), 20);
    assert_eq!(world.order().send().told(), Some(Status::InFlight));
    first.answered(&Response::created());
    assert_eq!(world.order().send().told(), Some(Status::Replayed));
}

#[test]
fn a_lease_is_renewed_while_the_response_streams_and_not_before_it_is_due() {
    let world = World::new();
    let streaming = world.order().send().answered(&Response::created().cut());
    world.pass(Duration::from_millis(9_999));
    let streaming = streaming.tick();
    assert_eq!(streaming.renewals(), 0);
    world.pass(Duration::from_millis(1));
    assert_eq!(streaming.tick().tick().renewals(), 1);
}

#[test]
fn a_renewal_that_is_refused_or_fails_does_not_touch_the_stream() {
    let failed = Renewed::Failed(StoreError::Contended);
    for renewed in [Renewed::Extended, Renewed::Fenced, failed] {
        let world = World::granting();
        let stream = world.order().send();
        world.pass(Duration::from_secs(10));
        let mut stream = stream.tick();
        stream.take_effects();
        let stream = stream.answer(Answer::Renewed(renewed));
        let warned = stream.effects.iter().any(|effect| matches!(effect, Effect::WarnStore(_)));
        assert_eq!(warned, renewed == failed);
        assert_eq!(stream.counted(Counter::StoreErrors), renewed == failed);
        assert!(matches!(stream.answered(&Response::created()).ending(), Ending::Completed(_)));
    }
}

#[test]
fn an_upstream_steers_what_becomes_of_its_response() {
    let after = |response: Response| {
        let world = World::new();
        let stream = world.order().send().answered(&response);
        assert_eq!(stream.removed_headers(), ["idempotency-policy"], "{response:?}");
        world.order().send().told()
    };
    let steered = |status, value: &str| after(Response::new(status).header("idempotency-policy", value).body("x"));

    assert_eq!(steered(503, "store"), Some(Status::Replayed));
    assert_eq!(steered(502, " store\t"), Some(Status::Replayed));
    assert_eq!(steered(200, "release"), Some(Status::Executed));
    assert_eq!(steered(200, "unknown"), Some(Status::Unknown));
    assert_eq!(steered(200, "no-store"), Some(Status::NotKept));
    assert_eq!(steered(200, "No-Store"), Some(Status::NotKept));
    // What is no such word says nothing.
    for value in ["", "Stored", "forget", "store, release", "no-store;x"] {
        assert_eq!(steered(200, value), Some(Status::Replayed), "{value:?}");
        assert_eq!(steered(503, value), Some(Status::Executed), "{value:?}");
    }
    // Of two, the first counts; both are taken off.
    let repeated = Response::new(200).header("idempotency-policy", "no-store").header("idempotency-policy", "store");
    assert_eq!(after(repeated), Some(Status::NotKept));
}

#[test]
fn a_word_that_steers_nothing_is_counted_and_told() {
    let world = World::new();
    let response = Response::new(200).header("idempotency-policy", "no-stroe").body("x");
    let stream = world.order().send().answered(&response);
    assert!(stream.counted(Counter::OutcomesPolicyIgnored));
    assert!(stream.effects.contains(&Effect::Notice(Notice::UnknownPolicyWord("no-stroe".to_owned()))));
    let stream = world.order().key("k-2").send().answered(&Response::new(200).header("idempotency-policy", "STORE"));
    assert!(!stream.counted(Counter::OutcomesPolicyIgnored));
}

#[test]
fn how_an_upstream_steers_is_never_shown_whatever_became_of_the_response() {
    let world = World::new();
    for (key, (status, evidence)) in [
        (200, via_upstream()),
        (429, via_upstream()),
        (504, via_upstream()),
        (503, evidence("no_healthy_upstream", 1, false)),
        (504, evidence("response_timeout", 1, true)),
    ]
    .into_iter()
    .enumerate()
    {
        let response = Response::new(status).header("idempotency-policy", "forget").evidence(evidence).body("x");
        let stream = world.order().without("idempotency-key").key(&key.to_string()).send().answered(&response);
        assert_eq!(stream.removed_headers(), ["idempotency-policy"]);
    }
}

#[test]
fn a_reply_of_envoy_itself_cannot_be_steered() {
    let world = World::new();
    let response = Response::new(504)
        .header("idempotency-policy", "release")
        .evidence(evidence("response_timeout", 1, true))
        .body("x");
    let stream = world.order().send().answered(&response);
    assert_unknown(&world, &stream);
}

#[test]
fn after_router_retries_nothing_is_released_and_answers_are_kept() {
    let retried = |status| Response::new(status).evidence(evidence("via_upstream", 3, true)).body("x");
    for response in [retried(503), retried(429), retried(200).header("idempotency-policy", "release")] {
        let world = World::new();
        let stream = world.order().send().answered(&response);
        assert_unknown(&world, &stream);
    }
    let world = World::new();
    world.order().send().answered(&retried(200));
    assert_eq!(world.order().send().told(), Some(Status::Replayed));
}

#[test]
fn a_reply_of_envoy_to_a_request_that_still_arrives_is_marked_and_claims_nothing() {
    let world = World::new();
    let mut stream = world.order().begin();
    stream.on(Event::RequestBody { chunk: b"{\"item\"", end_of_stream: false });
    let too_large = evidence("request_payload_too_large", 0, false);
    let mut stream = stream.answered(&Response::new(413).evidence(too_large.clone()).body("Payload Too Large"));
    stream.on(Event::RequestBody { chunk: b":1}", end_of_stream: true });
    let stream = stream.gone(&too_large);

    assert_eq!((stream.told(), stream.status_header()), (Some(Status::Rejected), Some("rejected")));
    assert_eq!(stream.calls().count(), 0);
    assert!(!stream.was_forwarded());
    assert!(stream.exchange.is_finished());
}
