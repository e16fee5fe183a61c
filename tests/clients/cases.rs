//! What happens to a call, and what its user sees of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bench::{Answer, Bench, Gate, Protocol, Upstream, patiently};
use crate::cutter::Cutter;
use crate::page::recipe;
use crate::player::{Call, Player, Saw};
use crate::sdks::{KEY, Sdk};

/// As long as an SDK waits for a service that takes its time, in seconds: longer than a busy machine needs for a replay.
const TIMEOUT: u32 = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Case {
    /// The service runs, and the client's connection is reset before it has the answer.
    Lost,
    /// The service answers with 500 first.
    Fails,
    /// The SDK's own timeout is over while the service runs.
    Slow,
    /// The same key again while the service runs, and no waiting.
    InFlight,
    /// The service takes the request and closes the connection without an answer.
    Unknown,
    /// The same key for another request.
    Reused,
}

impl Case {
    /// How often the service runs, whatever the SDK does. A 500 says that nothing was done.
    fn executions(self) -> usize {
        if self == Self::Fails { 2 } else { 1 }
    }

    fn settings(self, of_sdk: &Value) -> Value {
        let mut settings = recipe("SDKs");
        if self == Self::InFlight {
            settings["duplicates"] = json!({});
        }
        for (name, value) in of_sdk.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        settings
    }

    /// What the service does with its first request.
    fn first_answer(self, gate: &Gate, answer: Answer) -> Answer {
        match self {
            Self::Fails => failure(500),
            Self::InFlight | Self::Slow => answer.held_by(gate),
            Self::Lost | Self::Reused => answer,
            Self::Unknown => Answer::hang_up(),
        }
    }
}

/// Plays `case`, checks how often the service ran, and gives what the user saw, in words.
pub(crate) async fn play(sdk: &Sdk, player: &mut Player, case: Case) -> String {
    let bench = Bench::new(case.settings(&sdk.settings())).await;
    let gate = Gate::closed();
    let first = {
        let gate = gate.clone();
        move |answer| case.first_answer(&gate, answer)
    };
    direct(&bench.upstream, sdk, first);
    let cutter = Cutter::in_front_of(bench.envoy.address()).await;
    let to = if case == Case::Lost { cutter.address() } else { bench.envoy.address() };
    let given = sdk.given_key();
    let timeout = (case == Case::Slow).then_some(TIMEOUT);
    let call = |key, timeout| Call { client: sdk.client, item: "tea", key, timeout };

    let saw = match case {
        Case::Fails | Case::Lost | Case::Slow | Case::Unknown => {
            let mut saw = vec![until_retried(&bench, &gate, player.call(to, call(given, timeout)).await).await];
            // What the SDK does not do by itself its user does, with the same key.
            if given.is_some() && matches!(saw[0], Saw::Raised { .. }) {
                saw.push(until_retried(&bench, &gate, player.call(to, call(given, timeout)).await).await);
            }
            saw
        }
        Case::InFlight => {
            let first = player.call(to, call(Some(KEY), None)).await;
            bench.upstream.reached(1).await;
            let second = player.call(to, call(Some(KEY), None)).await;
            patiently("a duplicate", rises(&bench, "wasmcustom.idemgate.requests.in_flight")).await;
            gate.open();
            let (first, second) = tokio::join!(first, second);
            assert!(matches!(first, Saw::Returned(_)), "{}: the first call: {first:?}", sdk.name);
            vec![second]
        }
        Case::Reused => {
            let first = player.call(to, call(Some(KEY), None)).await.await;
            assert!(matches!(first, Saw::Returned(_)), "{}: the first call: {first:?}", sdk.name);
            vec![player.call(to, Call { item: "coffee", ..call(Some(KEY), None) }).await.await]
        }
    };

    let seen = saw.iter().map(Saw::in_words).collect::<Vec<_>>().join(", then ");
    let executions = bench.upstream.executions();
    assert_eq!(executions, case.executions(), "{}, {case:?}: executions; the user saw: {saw:?}", sdk.name);
    seen
}

/// Which statuses of a service the SDK repeats a call after, without anything in between.
pub(crate) async fn repeated(sdk: &Sdk, player: &mut Player) -> Vec<u16> {
    let mut calls = Vec::new();
    for status in [400, 408, 409, 422, 423, 425, 429, 500, 502, 503, 504] {
        let mut service = Upstream::shut(Protocol::Http1);
        service.open();
        direct(&service, sdk, move |_| failure(status));
        let call = Call { client: sdk.client, item: "tea", key: sdk.given_key(), timeout: None };
        let playing = player.call(service.address(), call).await;
        calls.push((status, service, playing));
    }
    let mut repeated = Vec::new();
    for (status, service, playing) in calls {
        playing.await;
        if service.executions() > 1 {
            repeated.push(status);
        }
    }
    repeated
}

/// An answer in GoCardless's shape, whose SDKs repeat what they cannot read.
fn failure(status: u16) -> Answer {
    Answer::new(status).json(r#"{"error":{"type":"gocardless","message":"failed","code":500,"errors":[]}}"#)
}

/// The service answers with its number of the execution, but for what `first` makes of its first answer.
fn direct(service: &Upstream, sdk: &Sdk, first: impl Fn(Answer) -> Answer + Send + Sync + 'static) {
    let ran = AtomicUsize::new(0);
    let (status, media_type, body) = sdk.answer;
    service.directed_by(move |_| {
        let number = ran.fetch_add(1, Ordering::Relaxed) + 1;
        let answer =
            Answer::new(status).header("content-type", media_type).body(body.replace('#', &number.to_string()));
        Some(if number == 1 { first(answer) } else { answer })
    });
}

/// What the user sees of a call; the service takes its time until a retry waits for it.
async fn until_retried(bench: &Bench, gate: &Gate, call: impl Future<Output = Saw>) -> Saw {
    tokio::pin!(call);
    tokio::select! {
        saw = &mut call => saw,
        () = rises(bench, "wasmcustom.idemgate.waiting") => {
            gate.open();
            call.await
        }
    }
}

/// Waits until `stat` is above zero.
async fn rises(bench: &Bench, stat: &str) {
    while bench.envoy.stat(stat).await.unwrap_or_default() == 0 {
        sleep(Duration::from_millis(20)).await;
    }
}
