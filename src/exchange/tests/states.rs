//! Every state meets every event. What means nothing in a state changes nothing.

use super::harness::{Response, Stream, Subject, World, evidence, via_upstream};
use crate::{
    config::{ExecutionMode, InFlight, OnStoreError, Policy},
    exchange::{CallFailure, Counter, Effect, Event, NoRoom, Status},
    record::{Owner, StoredResponse},
    store::{Answer, Call, Claimed, Ending, Renewed, Scarce, Settled, StoreError},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    AwaitBody,
    AwaitClaim,
    /// The stream ended while the claim was under way.
    AwaitAbandonedClaim,
    AwaitTurn,
    AwaitResponse,
    AwaitEnd,
    AwaitText,
    AwaitCall,
    Settling,
    /// The response is still on its way.
    SettlingBeforeTheEnd,
    /// The client is to be answered as soon as that is done.
    SettlingWithReply,
    Bypassed,
    Replied,
    Finished,
}

const STATES: [At; 14] = [
    At::AwaitBody,
    At::AwaitClaim,
    At::AwaitAbandonedClaim,
    At::AwaitTurn,
    At::AwaitResponse,
    At::AwaitEnd,
    At::AwaitText,
    At::AwaitCall,
    At::Settling,
    At::SettlingBeforeTheEnd,
    At::SettlingWithReply,
    At::Bypassed,
    At::Replied,
    At::Finished,
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Happens {
    RequestHeaders,
    RequestBody,
    RequestEnd,
    RequestTrailers,
    BodyWithheld,
    Claimed,
    Renewed,
    RenewalFailed,
    Settled,
    Delayed,
    Woken,
    NoRoomToWait,
    NoRoomToRun,
    CallAnswered,
    CallReset,
    CallNotMade,
    ResponseHeaders,
    ResponseHeadersOnly,
    ResponseBody,
    ResponseEnd,
    ResponseTrailers,
    Tick,
    Gone,
}

const EVENTS: [Happens; 23] = [
    Happens::RequestHeaders,
    Happens::RequestBody,
    Happens::RequestEnd,
    Happens::RequestTrailers,
    Happens::BodyWithheld,
    Happens::Claimed,
    Happens::Renewed,
    Happens::RenewalFailed,
    Happens::Settled,
    Happens::Delayed,
    Happens::Woken,
    Happens::NoRoomToWait,
    Happens::NoRoomToRun,
    Happens::CallAnswered,
    Happens::CallReset,
    Happens::CallNotMade,
    Happens::ResponseHeaders,
    Happens::ResponseHeadersOnly,
    Happens::ResponseBody,
    Happens::ResponseEnd,
    Happens::ResponseTrailers,
    Happens::Tick,
    Happens::Gone,
];

/// The events that mean something in a state.
fn meaningful(state: At) -> &'static [Happens] {
    use Happens::{
        BodyWithheld, CallAnswered, CallNotMade, CallReset, Claimed, Delayed, Gone, NoRoomToRun, NoRoomToWait,
        RenewalFailed, RequestBody, RequestEnd, RequestTrailers, ResponseBody, ResponseEnd, ResponseHeaders,
        ResponseHeadersOnly, ResponseTrailers, Settled, Tick, Woken,
    };
    match state {
        At::AwaitBody => &[
            RequestBody,
            RequestEnd,
            RequestTrailers,
            BodyWithheld,
            ResponseHeaders,
            ResponseHeadersOnly,
            Gone,
            RenewalFailed,
        ],
        At::AwaitClaim => &[Claimed, NoRoomToRun, ResponseHeaders, ResponseHeadersOnly, Gone, RenewalFailed],
        At::AwaitAbandonedClaim => &[Claimed, RenewalFailed],
        At::AwaitResponse => &[ResponseHeaders, ResponseHeadersOnly, Tick, Gone, RenewalFailed],
        At::AwaitEnd | At::AwaitText => &[
            ResponseHeaders,
            ResponseHeadersOnly,
            ResponseBody,
            ResponseEnd,
            ResponseTrailers,
            Tick,
            Gone,
            RenewalFailed,
        ],
        At::AwaitTurn => &[Woken, NoRoomToWait, ResponseHeaders, ResponseHeadersOnly, Tick, Gone, RenewalFailed],
        At::AwaitCall => {
            &[CallAnswered, CallReset, CallNotMade, ResponseHeaders, ResponseHeadersOnly, Tick, Gone, RenewalFailed]
        }
        At::Settling | At::SettlingWithReply => {
            &[Settled, Delayed, ResponseHeaders, ResponseHeadersOnly, Gone, RenewalFailed]
        }
        At::SettlingBeforeTheEnd => &[
            Settled,
            Delayed,
            ResponseHeaders,
            ResponseHeadersOnly,
            ResponseEnd,
            ResponseTrailers,
            Gone,
            RenewalFailed,
        ],
        At::Bypassed => &[ResponseHeaders, ResponseHeadersOnly, Gone, RenewalFailed],
        // The host layer holds a response against the reply by itself.
        At::Replied => &[Gone, RenewalFailed],
        At::Finished => &[RenewalFailed],
    }
}

/// A world whose store gives no more answers than it takes to get to the state.
fn world_for(state: At) -> World {
    let claimed = match state {
        At::AwaitBody | At::AwaitClaim | At::AwaitAbandonedClaim => return World::silent(),
        At::AwaitResponse | At::AwaitEnd | At::AwaitText | At::Settling | At::SettlingBeforeTheEnd => {
            return World::granting();
        }
        At::AwaitTurn => {
            Claimed::InFlight { age: std::time::Duration::ZERO, lease_left: std::time::Duration::from_secs(30) }
        }
        At::AwaitCall | At::SettlingWithReply => Claimed::Granted,
        At::Bypassed => Claimed::Failed(StoreError::Contended),
        At::Replied | At::Finished => Claimed::KeyReused,
    };
    let change = |policy: &mut Policy| match state {
        At::AwaitTurn => policy.duplicates.in_flight = InFlight::Wait,
        At::AwaitCall | At::SettlingWithReply => policy.execution.mode = ExecutionMode::Detached,
        _ => policy.on_store_error = OnStoreError::Bypass,
    };
    World::answering(change, [Answer::Claimed(claimed)])
}

fn stream_at<'w>(state: At, world: &'w World) -> Stream<'w> {
    let mut stream = match state {
        At::AwaitBody => world.order().begin(),
        At::AwaitClaim | At::AwaitTurn | At::AwaitResponse | At::AwaitCall | At::Bypassed | At::Replied => {
            world.order().send()
        }
        At::SettlingWithReply => world.order().send().call_answered(&Response::of_call(201)),
        At::AwaitAbandonedClaim => world.order().send().gone(&evidence("downstream_remote_disconnect", 0, false)),
        At::AwaitEnd => world.order().send().answered(&Response::created().cut()),
        At::AwaitText => {
            let response = Response::new(503).header("content-type", "text/plain").header("server", "envoy");
            world.order().send().answered(&response.cut())
        }
        At::SettlingBeforeTheEnd => world.order().send().answered(&Response::new(503).cut()),
        At::Settling => world.order().send().answered(&Response::created()),
        At::Finished => world.order().send().own_reply_passes(),
    };
    // An exchange in this state has renewals due.
    world.pass(world.policy.lease);
    stream.take_effects();
    stream
}

fn happen(stream: &mut Stream<'_>, event: Happens) {
    let request = [(":method", "POST"), (":path", "/orders"), ("idempotency-key", "k-2")].into_iter().collect();
    let response = Response::new(200).header("idempotency-policy", "no-store").headers;
    let (via_upstream, left) = (via_upstream(), evidence("downstream_remote_disconnect", 1, true));
    stream.on(match event {
        Happens::RequestHeaders => Event::RequestHeaders {
            headers: &request,
            attribute: &Subject("ann"),
            owner: Owner::new(99),
            mailbox: None,
            is_store_remote: false,
            end_of_stream: true,
        },
        Happens::RequestBody => Event::RequestBody { chunk: b"body", end_of_stream: false },
        Happens::RequestEnd => Event::RequestBody { chunk: b"", end_of_stream: true },
        Happens::RequestTrailers => Event::RequestTrailers,
        Happens::BodyWithheld => Event::BodyWithheld,
        Happens::Claimed => Event::Answered(Answer::Claimed(Claimed::Granted)),
        Happens::Renewed => Event::Answered(Answer::Renewed(Renewed::Extended)),
        Happens::RenewalFailed => Event::Answered(Answer::Renewed(Renewed::Failed(StoreError::Contended))),
        Happens::Settled => Event::Answered(Answer::Settled(Settled::Completed.into())),
        Happens::Delayed => Event::Answered(Answer::Delayed),
        Happens::Woken => Event::Woken,
        Happens::NoRoomToWait => Event::NoRoomToWait(NoRoom::AllTaken),
        Happens::NoRoomToRun => Event::NoRoomToRun(NoRoom::AllTaken),
        Happens::CallAnswered => Event::CallAnswered { status: 200, headers: &response, body: b"body".to_vec() },
        Happens::CallReset => Event::CallFailed(CallFailure::Reset),
        Happens::CallNotMade => Event::CallFailed(CallFailure::NotMade),
        Happens::ResponseHeaders | Happens::ResponseHeadersOnly => Event::ResponseHeaders {
            status: 200,
            headers: &response,
            evidence: &via_upstream,
            end_of_stream: event == Happens::ResponseHeadersOnly,
        },
        Happens::ResponseBody => Event::ResponseBody { chunk: b"body", end_of_stream: false },
        Happens::ResponseEnd => Event::ResponseBody { chunk: b"", end_of_stream: true },
        Happens::ResponseTrailers => Event::ResponseTrailers,
        Happens::Tick => Event::Tick,
        Happens::Gone => Event::Gone { evidence: &left },
    });
}

#[test]
fn an_event_that_means_nothing_in_a_state_changes_nothing() {
    for state in STATES {
        for event in EVENTS {
            let world = world_for(state);
            let mut stream = stream_at(state, &world);
            let before = format!("{:?}", stream.exchange);
            happen(&mut stream, event);
            let changed = format!("{:?}", stream.exchange) != before || !stream.effects.is_empty();
            assert_eq!(changed, meaningful(state).contains(&event), "{event:?} at {state:?}: {:?}", stream.effects);
        }
    }
}

#[test]
fn nothing_happens_twice() {
    for state in STATES {
        for event in EVENTS {
            let repeats = matches!(event, Happens::RequestBody | Happens::ResponseBody | Happens::RenewalFailed);
            if repeats {
                continue;
            }
            let world = world_for(state);
            let mut stream = stream_at(state, &world);
            happen(&mut stream, event);
            // A second response is news while the first one still streams.
            if matches!(event, Happens::ResponseHeaders) && stream.exchange.captures() {
                continue;
            }
            stream.take_effects();
            happen(&mut stream, event);
            assert_eq!(stream.effects, [], "{event:?} again, after it came at {state:?}");
        }
    }
}

#[test]
fn once_the_stream_is_gone_only_the_store_is_still_heard() {
    // A detached call outlives its stream.
    for state in STATES.into_iter().filter(|state| *state != At::AwaitCall) {
        let world = world_for(state);
        let mut stream = stream_at(state, &world);
        happen(&mut stream, Happens::Gone);
        stream.take_effects();
        for event in EVENTS.into_iter().filter(|event| {
            !matches!(
                event,
                Happens::Claimed | Happens::Renewed | Happens::RenewalFailed | Happens::Settled | Happens::Delayed
            )
        }) {
            happen(&mut stream, event);
            assert_eq!(stream.effects, [], "{event:?} after the end at {state:?}");
        }
    }
}

#[test]
fn before_its_headers_a_request_is_nothing() {
    for event in EVENTS.into_iter().filter(|event| *event != Happens::RequestHeaders) {
        let world = World::silent();
        let mut stream = Stream::idle(&world);
        happen(&mut stream, event);
        if event != Happens::RenewalFailed {
            assert_eq!(stream.effects, [], "{event:?}");
        }
    }
}

#[test]
fn a_grant_that_comes_after_the_stream_is_given_back() {
    let world = World::silent();
    let stream = world.order().send().gone(&evidence("downstream_remote_disconnect", 0, false));
    assert!(!stream.exchange.is_finished());
    let stream = stream.answer(Answer::Claimed(Claimed::Granted));

    assert_eq!(*stream.ending(), Ending::Released);
    assert!(!stream.was_forwarded());
    assert!(!stream.counted(Counter::RequestsExecuted));
    let stream = stream.answer(Answer::Settled(Settled::Released.into()));
    assert!(stream.counted(Counter::OutcomesReleased));
    assert!(stream.exchange.is_finished());
}

#[test]
fn a_grant_that_comes_after_envoys_own_answer_is_given_back() {
    let world = World::silent();
    let timeout = Response::new(408).evidence(evidence("stream_idle_timeout", 0, false)).body("x");
    let stream = world.order().send().answered(&timeout);
    assert_eq!(stream.status_header(), Some("rejected"));
    let stream = stream.answer(Answer::Claimed(Claimed::Granted));

    assert_eq!(*stream.ending(), Ending::Released);
    assert!(!stream.was_forwarded());
}

#[test]
fn any_other_answer_that_comes_after_the_stream_leaves_nothing_to_do() {
    let response = StoredResponse { status: 200, headers: [("etag", "1")].into_iter().collect(), body: Vec::new() };
    let lease_left = std::time::Duration::from_secs(1);
    for claimed in [
        Claimed::KeyReused,
        Claimed::InFlight { age: lease_left, lease_left },
        Claimed::Unknown { lease_left },
        Claimed::NotKept { status: 200 },
        Claimed::Full,
        Claimed::OverShare(Scarce::Records),
        Claimed::Failed(StoreError::Contended),
    ] {
        let world = World::silent();
        let mut stream = world.order().send().gone(&via_upstream());
        stream.take_effects();
        let failed = matches!(claimed, Claimed::Failed(_));
        let stream = stream.answer(Answer::Claimed(claimed));
        assert_eq!(stream.counters(), if failed { vec![Counter::StoreErrors] } else { vec![] });
        assert_eq!(stream.find_reply(), None);
        assert!(stream.exchange.is_finished());
    }
    let world = World::silent();
    let expires = world.now();
    let stream = world.order().send().gone(&via_upstream());
    assert_eq!(
        stream.answer(Answer::Claimed(Claimed::Completed { response: response.into(), expires })).find_reply(),
        None
    );
}

#[test]
fn the_claim_names_the_request_and_the_settlement_names_the_claim() {
    let world = World::granting();
    let stream = world.order().send().answered(&Response::new(204));
    let calls: Vec<_> = stream.calls().collect();
    let [Call::Claim(claim), Call::Settle { operation, owner, ttl, .. }] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!((claim.operation, claim.owner, claim.ttl), (*operation, *owner, *ttl));
    assert_eq!((claim.lease, claim.ttl), (world.policy.lease, world.policy.ttl));
    assert!(!claim.retry_unknown);
}

#[test]
fn a_settlement_that_fails_is_an_error_of_the_store_and_ends_the_exchange() {
    let world = World::granting();
    let stream = world.order().send().answered(&Response::created());
    let stream = stream.answer(Answer::Settled(Settled::Failed(StoreError::Contended).into()));
    let counters = [Counter::RequestsExecuted, Counter::StoreErrors, Counter::OutcomesUnrecorded];
    assert_eq!(stream.counters(), counters);
    assert!(stream.effects.contains(&Effect::WarnStore(StoreError::Contended)));
    assert!(stream.exchange.is_finished());
}

#[test]
fn each_settlement_has_a_counter() {
    for (settled, counter) in [
        (Settled::Completed, Counter::OutcomesStored),
        (Settled::NotKept, Counter::OutcomesTombstoned),
        (Settled::Released, Counter::OutcomesReleased),
        (Settled::Unknown, Counter::OutcomesUnknown),
        (Settled::Fenced, Counter::OutcomesFenced),
    ] {
        let world = World::granting();
        let stream = world.order().send().answered(&Response::created()).answer(Answer::Settled(settled.into()));
        assert_eq!(stream.counters(), [Counter::RequestsExecuted, counter]);
    }
}

#[test]
fn only_what_is_kept_is_copied() {
    for (response, copied) in [
        (Response::created(), true),
        (Response::new(503), false),
        (Response::new(503).header("content-type", "text/plain").header("server", "envoy"), true),
        (Response::new(502), false),
        (Response::new(200).header("idempotency-policy", "no-store"), false),
    ] {
        let world = World::new();
        let stream = world.order().send().answered(&response.chunks(["x"]).cut());
        assert_eq!(stream.exchange.captures(), copied);
        assert_eq!(stream.told() == Some(Status::Executed), stream.status_header() == Some("executed"));
    }
}
