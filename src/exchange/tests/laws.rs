//! What holds whatever the host reports, and in whichever order. [`Stream::on`] checks after every event
//! that there is at most one claim in a turn, one settlement of it, one of reply and release, and one of
//! release and detached call; that a tick does something if and only if one is due; and that nobody stays
//! among those who wait once nothing more can come of it.

use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Response, Stream, Subject, World, evidence, via_upstream};
use crate::{
    config::{ExecutionMode, InFlight},
    exchange::{CallFailure, Event, Evidence, NoRoom},
    headers::Headers,
    record::{Owner, StoredResponse},
    store::{Answer, Call, Claimed, Ending, Renewed, Scarce, Settled, StoreError},
    time::Timestamp,
};

/// An [`Event`] that owns what it says.
#[derive(Clone, Debug)]
enum Told {
    RequestHeaders { end: bool },
    RequestBody { chunk: Vec<u8>, end: bool },
    RequestTrailers,
    BodyWithheld,
    Answered(Answer),
    ResponseHeaders { status: u16, policy: &'static str, evidence: Evidence, end: bool },
    ResponseBody { chunk: Vec<u8>, end: bool },
    ResponseTrailers,
    Woken,
    NoRoomToWait,
    NoRoomToRun,
    CallAnswered { status: u16, headers: Headers, body: Vec<u8> },
    CallFailed(CallFailure),
    Tick,
    Gone { evidence: Evidence },
}

impl Told {
    fn to(&self, stream: &mut Stream<'_>) {
        let request = Headers::from_iter([(":method", "POST"), (":path", "/orders"), ("idempotency-key", "k-1")]);
        stream.on(match self {
            Self::RequestHeaders { end } => Event::RequestHeaders {
                headers: &request,
                attribute: &Subject("ann"),
                owner: Owner::new(1),
                mailbox: None,
                is_store_remote: false,
                end_of_stream: *end,
            },
            Self::RequestBody { chunk, end } => Event::RequestBody { chunk, end_of_stream: *end },
            Self::RequestTrailers => Event::RequestTrailers,
            Self::BodyWithheld => Event::BodyWithheld,
            Self::Answered(answer) => Event::Answered(answer.clone()),
            Self::ResponseHeaders { status, policy, evidence, end } => {
                let headers = Headers::from_iter([("idempotency-policy", *policy), ("etag", "1")]);
                return stream.on(Event::ResponseHeaders {
                    status: *status,
                    headers: &headers,
                    evidence,
                    end_of_stream: *end,
                });
            }
            Self::ResponseBody { chunk, end } => Event::ResponseBody { chunk, end_of_stream: *end },
            Self::ResponseTrailers => Event::ResponseTrailers,
            Self::Woken => Event::Woken,
            Self::NoRoomToWait => Event::NoRoomToWait(NoRoom::AllTaken),
            Self::NoRoomToRun => Event::NoRoomToRun(NoRoom::OverShare),
            Self::CallAnswered { status, headers, body } => {
                Event::CallAnswered { status: *status, headers, body: body.clone() }
            }
            Self::CallFailed(failure) => Event::CallFailed(*failure),
            Self::Tick => Event::Tick,
            Self::Gone { evidence } => Event::Gone { evidence },
        });
    }
}

fn evidences() -> impl Strategy<Value = Evidence> {
    let details = prop::sample::select(vec![
        "via_upstream",
        "no_healthy_upstream",
        "response_timeout",
        "internal_redirect",
        "upstream_reset_before_response_started{overflow}",
        "upstream_reset_before_response_started{",
        "",
    ]);
    (prop::option::of(details), prop::option::of(0_u64..4), any::<bool>(), any::<bool>()).prop_map(
        |(details, attempts, connected, redirected)| Evidence {
            details: details.map(Into::into),
            attempts,
            connected,
            redirected,
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> {
    let lease_left = Duration::from_secs(3);
    let response = StoredResponse { status: 200, headers: Headers::new(), body: b"stored".to_vec() };
    let expires = Timestamp::from_millis(u64::MAX);
    prop_oneof![
        6 => Just(Answer::Claimed(Claimed::Granted)),
        3 => Just(Answer::Claimed(Claimed::InFlight { age: Duration::ZERO, lease_left })),
        2 => prop::sample::select(vec![
            Claimed::KeyReused,
            Claimed::Unknown { lease_left },
            Claimed::Completed { response: response.into(), expires },
            Claimed::NotKept { status: 200 },
            Claimed::Full,
            Claimed::OverShare(Scarce::Records),
            Claimed::Failed(StoreError::Contended),
        ]).prop_map(Answer::Claimed),
        1 => prop::sample::select(vec![Renewed::Extended, Renewed::Fenced, Renewed::Failed(StoreError::Contended)])
            .prop_map(Answer::Renewed),
        2 => prop::sample::select(vec![
            Settled::Completed,
            Settled::NotKept,
            Settled::Released,
            Settled::Unknown,
            Settled::Fenced,
            Settled::Failed(StoreError::Contended),
        ]).prop_map(|settled| Answer::Settled(settled.into())),
    ]
}

fn call_headers() -> impl Strategy<Value = Headers> {
    let fields = prop::sample::select(vec![
        ("x-envoy-upstream-service-time", "3"),
        ("x-envoy-attempt-count", "2"),
        ("idempotency-policy", "store"),
        ("idempotency-policy", "release"),
        ("content-type", "text/plain"),
    ]);
    prop::collection::vec(fields, 0..4).prop_map(Headers::from_iter)
}

fn events() -> impl Strategy<Value = Told> {
    let chunk = || prop::collection::vec(any::<u8>(), 0..12);
    let policy = prop::sample::select(vec!["", "store", "release", "unknown", "no-store"]);
    prop_oneof![
        2 => any::<bool>().prop_map(|end| Told::RequestHeaders { end }),
        2 => (chunk(), any::<bool>()).prop_map(|(chunk, end)| Told::RequestBody { chunk, end }),
        1 => Just(Told::RequestTrailers),
        1 => Just(Told::BodyWithheld),
        4 => answers().prop_map(Told::Answered),
        3 => (any::<u16>(), policy, evidences(), any::<bool>())
            .prop_map(|(status, policy, evidence, end)| Told::ResponseHeaders { status, policy, evidence, end }),
        3 => (chunk(), any::<bool>()).prop_map(|(chunk, end)| Told::ResponseBody { chunk, end }),
        1 => Just(Told::ResponseTrailers),
        2 => Just(Told::Woken),
        1 => Just(Told::NoRoomToWait),
        1 => Just(Told::NoRoomToRun),
        2 => (any::<u16>(), call_headers(), chunk())
            .prop_map(|(status, headers, body)| Told::CallAnswered { status, headers, body }),
        1 => prop::sample::select(vec![CallFailure::NotMade, CallFailure::TooLate, CallFailure::Reset]).prop_map(Told::CallFailed),
        2 => Just(Told::Tick),
        1 => evidences().prop_map(|evidence| Told::Gone { evidence }),
    ]
}

/// A policy whose limits random bodies reach.
fn world(mode: ExecutionMode, in_flight: InFlight) -> World {
    World::answering(
        |policy| {
            policy.limits.request_body = 24;
            policy.limits.response_body = 24;
            policy.execution.mode = mode;
            policy.duplicates.in_flight = in_flight;
        },
        [],
    )
}

fn modes() -> impl Strategy<Value = (ExecutionMode, InFlight)> {
    let modes = prop::sample::select(vec![ExecutionMode::Inline, ExecutionMode::Detached]);
    (modes, prop::sample::select(vec![InFlight::Reject, InFlight::Wait]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_claim_that_was_granted_is_settled_exactly_once_by_the_end(
        (mode, in_flight) in modes(),
        events in prop::collection::vec(events(), 0..32),
    ) {
        let world = world(mode, in_flight);
        let mut stream = world.order().begin();
        let end = [
            Told::Gone { evidence: via_upstream() },
            Told::Answered(Answer::Claimed(Claimed::Granted)),
            Told::CallFailed(CallFailure::Reset),
        ];
        let (mut answered, mut granted) = (0, 0);
        for event in events.iter().chain(&end) {
            // The store answers a claim once; what else it seems to say is noise.
            if let Told::Answered(Answer::Claimed(answer)) = event
                && stream.calls().filter(|call| matches!(call, Call::Claim(_))).count() > answered
            {
                answered += 1;
                granted += usize::from(*answer == Claimed::Granted);
            }
            // It stands for the store's grant.
            if matches!(event, Told::NoRoomToRun) && stream.exchange.awaits_claim() && !stream.exchange.is_abandoned() {
                answered += 1;
                granted += 1;
            }
            event.to(&mut stream);
            world.pass(Duration::from_secs(4));
        }
        prop_assert!(granted <= 1);
        prop_assert_eq!(stream.endings().len(), granted, "{:?}", stream.effects);
        prop_assert!(!stream.is_waiting);
        // Either there was nothing to settle, or only the store's word on it is missing.
        Told::Answered(Answer::Settled(Settled::Completed.into())).to(&mut stream);
        prop_assert!(stream.exchange.is_finished(), "{:?}", stream.exchange);
    }

    #[test]
    fn a_request_that_waits_is_answered_by_its_deadline_however_often_it_is_woken(
        wakes in prop::collection::vec(0_u64..6, 0..24),
    ) {
        let lease_left = Duration::from_secs(30);
        let in_flight = Answer::Claimed(Claimed::InFlight { age: Duration::ZERO, lease_left });
        let world = World::answering(|policy| policy.duplicates.in_flight = InFlight::Wait, vec![in_flight; 25]);
        let mut stream = world.order().send();
        let deadline = world.now().after(world.policy.duplicates.wait_timeout);
        for wake in wakes {
            prop_assert_eq!(stream.find_reply().is_some(), world.now() >= deadline);
            world.pass(Duration::from_secs(wake));
            stream = stream.tick().woken();
        }
        world.pass(Duration::from_secs(10));
        stream = stream.tick();
        prop_assert_eq!(stream.reply().status, 409);
        prop_assert!(!stream.is_waiting);
    }

    #[test]
    fn what_is_kept_of_a_detached_call_is_what_the_client_got(body in prop::collection::vec(any::<u8>(), 0..96)) {
        let world = World::with(|policy| {
            policy.limits.response_body = 48;
            policy.execution.mode = ExecutionMode::Detached;
        });
        let stream = world.order().send().call_answered(&Response::of_call(200).body(body.clone()));
        prop_assert_eq!(&*stream.reply().body, &*body);
        match stream.ending() {
            Ending::Completed(stored) => prop_assert_eq!(&stored.body, &body),
            ending => {
                prop_assert_eq!(ending, &Ending::NotKept(200));
                prop_assert!(body.len() > 48);
            }
        }
    }

    #[test]
    fn what_is_kept_is_what_the_client_got(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
        with_trailers in any::<bool>(),
    ) {
        let world = World::with(|policy| policy.limits.response_body = 48);
        let whole = chunks.concat();
        let mut response = Response::new(200).chunks(chunks);
        if with_trailers {
            response = response.with_trailers();
        }
        let stream = world.order().send().answered(&response);
        match stream.ending() {
            Ending::Completed(stored) => prop_assert_eq!(&stored.body, &whole),
            ending => {
                prop_assert_eq!(ending, &Ending::NotKept(200));
                prop_assert!(whole.len() > 48);
            }
        }
    }

    #[test]
    fn a_request_of_unknown_fate_is_never_run_again(attempts in 1_u64..4, status in 200_u16..600) {
        let world = World::new();
        world.order().send().answered(&Response::new(status).evidence(evidence("response_timeout", attempts, true)));
        prop_assert!(!world.order().send().was_forwarded());
    }
}
