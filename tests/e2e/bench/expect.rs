//! What the contract says about single responses (section 4), as assertions.

use serde_json::Value;

use super::message::{Request, Response};
use super::{Bench, Protocol};

/// Fields that a replay leaves out or that belong to one connection; `set-cookie` by default.
const NOT_REPLAYED: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "idempotency-expires",
    "idempotency-replayed",
    "idempotency-status",
    "server",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "www-authenticate",
];

/// The upstream's response of this very request.
#[track_caller]
pub(crate) fn assert_executed(response: &Response, status: u16) {
    assert!(response.complete, "a complete response, got {response:?}");
    assert_eq!(response.status, status, "status of an executed request, got {response:?}");
    assert_eq!(response.text("idempotency-status"), "executed", "idempotency-status, got {response:?}");
    assert_eq!(response.header("idempotency-replayed"), None, "only replays are marked, got {response:?}");
    assert_eq!(response.header("idempotency-expires"), None, "only replays expire, got {response:?}");
}

/// A replay of `first`: same status, same fields in the same order, same bytes; and it says so.
#[track_caller]
pub(crate) fn assert_replay_of(first: &Response, replay: &Response) {
    let both = || format!("\n--- first ---\n{first:?}\n--- replay ---\n{replay:?}\n---");
    assert!(replay.complete, "a complete replay{}", both());
    assert_eq!(replay.status, first.status, "status{}", both());
    assert_eq!(replay.text("idempotency-status"), "replayed", "idempotency-status{}", both());
    assert_eq!(replay.all("idempotency-replayed"), [b"true"], "idempotency-replayed{}", both());
    let expires = replay.text("idempotency-expires");
    assert!(is_rfc3339(&expires), "idempotency-expires: {expires:?} is no RFC 3339 time{}", both());
    assert!(replay.body == first.body, "body{}", both());
    assert_eq!(replayable(replay), replayable(first), "fields{}", both());
}

/// Fields that must be equal in a first response and its replay, sorted by name; equal names keep their order.
fn replayable(response: &Response) -> Vec<(&str, String)> {
    let mut fields: Vec<_> = response
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.escape_ascii().to_string()))
        .filter(|(name, _)| !NOT_REPLAYED.contains(name) && !name.starts_with("x-envoy-"))
        .collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

/// An RFC 9457 problem of the filter; gives its members.
#[track_caller]
pub(crate) fn assert_problem(response: &Response, status: u16, name: &str) -> Value {
    assert_eq!(response.status, status, "status of the problem {name}, got {response:?}");
    assert_eq!(response.text("content-type"), "application/problem+json", "content-type, got {response:?}");
    let problem = response.json().unwrap_or_else(|| panic!("a JSON object, got {response:?}"));
    assert_eq!(problem["type"], format!("urn:idemgate:{name}"), "type, got {response:?}");
    assert_eq!(problem["status"], status, "status member, got {response:?}");
    for member in ["title", "detail"] {
        let text = problem[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "a {member} that says something, got {response:?}");
    }
    let word = response.text("idempotency-status");
    assert_eq!(word, status_word(name), "idempotency-status of the problem {name}, got {response:?}");
    assert_eq!(response.header("idempotency-replayed"), None, "a problem is no replay, got {response:?}");
    problem
}

/// The operation may have run: retries are told so, and none of them executes.
pub(crate) async fn assert_unknown(bench: &Bench, request: &Request, executions: usize) {
    assert_problem(&bench.send_once_settled(request).await, 409, "outcome-unknown");
    for protocol in Protocol::BOTH {
        assert_problem(&bench.send_over(protocol, request).await, 409, "outcome-unknown");
    }
    let other = bench.send(&request.clone().content_type("another/type")).await;
    assert_problem(&other, 422, "key-reused");
    bench.assert_executions(executions);
}

/// The operation did not run: the next request executes, and its response is the one that is kept.
pub(crate) async fn assert_released(bench: &Bench, request: &Request, executions: usize) {
    let first = bench.send_once_settled(request).await;
    assert_executed(&first, 201);
    bench.assert_executions(executions + 1);
    assert_replay_of(&first, &bench.send(request).await);
    bench.assert_executions(executions + 1);
}

/// 409 `request-in-flight`, which tells the client to come back while the claim can still be alive.
#[track_caller]
pub(crate) fn assert_in_flight(response: &Response, lease_seconds: u64) {
    assert_problem(response, 409, "request-in-flight");
    assert_retry_after(response, lease_seconds);
}

/// `Retry-After` in whole seconds (RFC 9110, section 10.2.3), at least 1 and at most `most`.
#[track_caller]
pub(crate) fn assert_retry_after(response: &Response, most: u64) {
    let retry_after = response.text("retry-after");
    let seconds: Option<u64> = retry_after.parse().ok();
    assert!(
        seconds.is_some_and(|seconds| (1..=most).contains(&seconds)),
        "retry-after: {retry_after:?} is not within 1..={most}, got {response:?}"
    );
}

/// A response that the filter had nothing to do with.
#[track_caller]
pub(crate) fn assert_unguarded(response: &Response, status: u16) {
    assert!(response.complete, "a complete response, got {response:?}");
    assert_eq!(response.status, status, "status of an unguarded request, got {response:?}");
    let fields = idempotency_fields(response);
    assert!(fields.is_empty(), "an unguarded response says {fields:?}: {response:?}");
}

/// The names of the filter's own fields in a response.
pub(crate) fn idempotency_fields(response: &Response) -> Vec<&str> {
    response.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("idempotency-")).collect()
}

/// The word of `idempotency-status` that goes with a problem.
fn status_word(problem: &str) -> &'static str {
    match problem {
        "key-reused" => "key-reused",
        "outcome-unknown" => "unknown",
        "request-in-flight" => "in-flight",
        "response-not-kept" => "not-kept",
        _ => "rejected",
    }
}

/// `2026-02-03T04:05:06Z`, with or without a fraction or an offset (RFC 3339, section 5.6).
fn is_rfc3339(text: &str) -> bool {
    let shape: String =
        text.chars().map(|character| if character.is_ascii_digit() { '0' } else { character }).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('0'));
    matches!(rest, "Z" | "+00:00" | "-00:00")
}
