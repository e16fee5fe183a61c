//! What an operation's end means for its retry.

use std::time::Duration;

use super::{Orders, assert_problem, order, word, worker};
use crate::messages::Response;

const REFUSED: &str = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}";
const CLOSED: &str = "upstream_reset_before_response_started{connection_termination}";

/// Asserts what a retry gets after the first request ended with `response`.
#[track_caller]
fn assert_retry(response: Response, executes: bool) {
    let (_, worker) = worker("{}");
    let orders = Orders::default();
    let name = format!("{response:?}");
    orders.answer(&worker, &order("k1"), response);
    let retry = orders.serve(&worker, &order("k1"));
    if executes {
        assert_eq!((word(&retry).as_str(), orders.count()), ("executed", 2), "{name}");
    } else {
        assert_problem(&retry, 409, "outcome-unknown");
        assert_eq!((word(&retry).as_str(), orders.count()), ("unknown", 1), "{name}");
    }
}

#[test]
fn statuses_that_say_not_executed_release_the_key() {
    for status in [401, 403, 408, 425, 429, 500, 501, 503] {
        assert_retry(Response::new(status).body("sorry"), true);
    }
}

#[test]
fn statuses_of_a_gateway_leave_the_outcome_unknown() {
    for status in [502, 504] {
        assert_retry(Response::new(status).body("sorry"), false);
    }
}

#[test]
fn a_request_that_envoy_never_sent_releases_the_key() {
    let never_sent = [
        Response::envoy(503, "no_healthy_upstream").flags(2),
        Response::envoy(503, REFUSED).flags(32).attempts(1),
        Response::envoy(503, "upstream_reset_before_response_started{overflow}").flags(4_096).attempts(1),
        Response::envoy(503, "cluster_not_found").flags(16_777_216),
        Response::envoy(404, "route_not_found").flags(256),
        Response::envoy(418, "direct_response"),
        Response::envoy(403, "rbac_access_denied_matched_policy[none]"),
        Response::envoy(429, "local_rate_limited"),
        Response::envoy(413, "request_payload_too_large"),
    ];
    for response in never_sent {
        assert_retry(response.body("local"), true);
    }
}

#[test]
fn a_request_that_may_have_run_leaves_the_outcome_unknown() {
    let may_have_run = [
        Response::envoy(504, "response_timeout").flags(4).attempts(1).connected(),
        Response::envoy(503, CLOSED).flags(64).attempts(1).connected(),
        Response::envoy(503, CLOSED).flags(32_832).attempts(3).connected(),
        // Only the last of several tries is described; an earlier one may have arrived.
        Response::envoy(503, REFUSED).flags(32).attempts(2),
    ];
    for response in may_have_run {
        assert_retry(response.body("local"), false);
    }
}

#[test]
fn an_unknown_outcome_blocks_until_its_ttl() {
    let (host, worker) = worker(r#"{"ttl":"1h"}"#);
    let orders = Orders::default();
    orders.answer(&worker, &order("k1"), Response::envoy(504, "response_timeout").attempts(1).connected());
    host.advance(Duration::from_secs(3_500));
    assert_problem(&orders.serve(&worker, &order("k1")), 409, "outcome-unknown");
    host.advance(Duration::from_secs(200));
    assert_eq!((word(&orders.serve(&worker, &order("k1"))).as_str(), orders.count()), ("executed", 2));
}

#[test]
fn with_on_unknown_retry_a_retry_runs_once_the_lease_is_over() {
    let (host, worker) = worker(r#"{"outcome":{"on_unknown":"retry"}}"#);
    let orders = Orders::default();
    orders.answer(&worker, &order("k1"), Response::envoy(504, "response_timeout").attempts(1).connected());
    assert_eq!(orders.serve(&worker, &order("k1")).status, 409);
    host.advance(Duration::from_secs(31));
    assert_eq!((word(&orders.serve(&worker, &order("k1"))).as_str(), orders.count()), ("executed", 2));
}

#[test]
fn the_upstream_may_steer_one_response() {
    let steered = |status, policy: &str| Response::new(status).header("idempotency-policy", policy).body("b");
    for (response, then) in [
        (steered(500, "store"), "replayed"),
        (steered(200, "release"), "executed"),
        (steered(200, "unknown"), "unknown"),
        (steered(200, "no-store"), "not-kept"),
    ] {
        let (_, worker) = worker("{}");
        let orders = Orders::default();
        let first = orders.answer(&worker, &order("k1"), response.clone());
        assert_eq!((first.header("idempotency-policy"), first.status), (None, response.status()));
        let retry = orders.serve(&worker, &order("k1"));
        assert_eq!(word(&retry), then, "{response:?}");
        assert_eq!(retry.header("idempotency-policy"), None);
    }
}

#[test]
fn the_configured_lists_decide_by_their_most_specific_entry() {
    let (_, worker) = worker(r#"{"outcome":{"store":["5xx"],"release":[503],"unknown":["3xx"]}}"#);
    let orders = Orders::default();
    for (key, status, then) in
        [("a", 500, "replayed"), ("b", 503, "executed"), ("c", 302, "unknown"), ("d", 502, "unknown")]
    {
        orders.answer(&worker, &order(key), Response::new(status));
        assert_eq!(word(&orders.serve(&worker, &order(key))), then, "{status}");
    }
}

#[test]
fn every_outcome_is_counted() {
    let (host, worker) = worker(r#"{"limits":{"response_body":16}}"#);
    let orders = Orders::default();
    for (key, response) in [
        ("stored", Response::new(200)),
        ("tombstoned", Response::new(200).body("x".repeat(17))),
        ("released", Response::new(503)),
        ("unknown", Response::new(504)),
    ] {
        orders.answer(&worker, &order(key), response);
        assert_eq!(host.metric(&format!("idemgate.outcomes.{key}")), 1, "{key}");
    }
    orders.serve(&worker, &order("stored"));
    orders.serve(&worker, &order("stored").body("other"));
    orders.serve(&worker, &order("tombstoned"));
    orders.serve(&worker, &order("unknown"));
    orders.serve(&worker, &order(""));
    orders.serve(&worker, &order("plain").without("idempotency-key"));
    let counted = ["executed", "replayed", "key_reused", "not_kept", "unknown", "key_invalid", "unguarded"];
    let counts = counted.map(|name| host.metric(&format!("idemgate.requests.{name}")));
    assert_eq!(counts, [4, 1, 1, 1, 1, 1, 1], "{counted:?}");
}
