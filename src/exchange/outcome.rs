//! What an upstream call came to: what the proxy knows and an application behind it cannot.
//!
//! Decided on the response code's details and the number of attempts, never on the status alone: a 503
//! of the upstream and a 503 that Envoy made up look alike to a client.

use crate::{
    config::{Disposition, OutcomePolicy},
    headers::Headers,
};

use super::{POLICY_HEADER, Status};

/// What the host says about the upstream call.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Evidence {
    /// `response.code_details`.
    pub details: Option<Vec<u8>>,
    /// `upstream.request_attempt_count`: 0 while nothing was tried, more than 1 after router retries. It may be left
    /// out where nothing depends on it ([`may_release`]).
    pub attempts: Option<u64>,
    /// Whether the last attempt got a connection to the upstream, or failed to get one; not while it
    /// still waits for one. On Envoy: whether there is an `upstream.cx_pool_ready_duration`.
    pub connected: bool,
    /// Whether the upstream has answered the request before, with a redirect that the proxy followed
    /// itself; everything else here is about the request that it made then.
    pub redirected: bool,
}

/// How far the request got.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Delivery {
    /// The upstream answered.
    Answered,
    /// The request certainly never left the proxy, or was refused unprocessed.
    NeverSent,
    /// It left, or may have left, and nothing certain came back.
    Uncertain,
}

impl Evidence {
    /// What is known when response headers arrive: they are the upstream's or the proxy's own.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let details = self.details.as_deref().unwrap_or_default();
        match self.attempts {
            // First of all, so that no count can turn an answer into a request that was never sent.
            _ if details == VIA_UPSTREAM => Delivery::Answered,
            _ if self.redirected => Delivery::Uncertain,
            Some(0) => Delivery::NeverSent,
            // Only the last attempt is described; an earlier one may have been executed.
            Some(1) if is_certainly_unprocessed(details) => Delivery::NeverSent,
            Some(1) if is_timeout(details) && !self.connected => Delivery::NeverSent,
            _ => Delivery::Uncertain,
        }
    }

    /// What is known when the stream ended before any response headers.
    #[must_use]
    pub fn delivery_without_response(&self) -> Delivery {
        match self.attempts {
            // The upstream answered, and its answer got lost on the way here.
            _ if self.details.as_deref() == Some(VIA_UPSTREAM) => Delivery::Uncertain,
            _ if self.redirected => Delivery::Uncertain,
            Some(0) => Delivery::NeverSent,
            // Chosen a host, still waiting for a connection to it.
            Some(1) if !self.connected => Delivery::NeverSent,
            _ => Delivery::Uncertain,
        }
    }

    /// Whether the stream ended because Envoy follows a redirect itself, with another stream.
    #[must_use]
    pub fn is_internal_redirect(&self) -> bool {
        self.details.as_deref() == Some(b"internal_redirect")
    }

    /// Whether the proxy sent the request more than once, so that an earlier one may have been executed.
    #[must_use]
    pub fn was_repeated(&self) -> bool {
        self.redirected || self.attempts.is_none_or(|attempts| attempts > 1)
    }
}

/// Whether these details say that the upstream answered.
#[must_use]
pub fn is_answer(details: Option<&[u8]>) -> bool {
    details == Some(VIA_UPSTREAM)
}

/// The details of each answer that is the upstream's own.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// Whether details of a failed only attempt say that the upstream cannot have processed the request.
fn is_certainly_unprocessed(details: &[u8]) -> bool {
    /// Envoy's `StreamResetReason`s that precede the request: no connection, no room for one, or the
    /// upstream's promise that it did nothing (`REFUSED_STREAM`, RFC 9113, section 8.7).
    const REASONS: [&[u8]; 6] = [
        b"connection_failure",
        b"connection_timeout",
        b"local_connection_failure",
        b"overflow",
        b"remote_connection_failure",
        b"remote_refused_stream_reset",
    ];
    if matches!(details, b"cluster_not_found" | b"maintenance_mode" | b"no_healthy_upstream") {
        return true;
    }
    details
        .strip_prefix(b"upstream_reset_before_response_started{")
        .and_then(|rest| rest.split(|byte| matches!(byte, b'|' | b'}')).next())
        .is_some_and(|reason| REASONS.contains(&reason))
}

/// Whether details say that the router waited long enough, be it for a connection or for an answer.
fn is_timeout(details: &[u8]) -> bool {
    matches!(details, b"response_timeout" | b"upstream_per_try_timeout")
}

/// How far a detached call got, by its answer.
///
/// The host does not say whose answer it is. But Envoy's router adds [`SERVICE_TIME`] to every answer of
/// an upstream, over one that the upstream forged, and to none of its own; and its own say in their text
/// why the call failed.
#[must_use]
pub fn delivery_of_call(headers: &Headers, body: &[u8]) -> Delivery {
    if headers.get(SERVICE_TIME).is_some() {
        return Delivery::Answered;
    }
    if body == b"no healthy upstream" || reset_in(body) == Some(Delivery::NeverSent) {
        Delivery::NeverSent
    } else {
        Delivery::Uncertain
    }
}

/// What is known of a detached call that was answered.
///
/// A job bears nothing that makes the router try it again. But the cluster may be a listener of this Envoy
/// or another proxy, and what its router did shows in the answer alone: retries in [`ATTEMPT_COUNT`],
/// where that router adds it, and a connection that broke in the text of its local reply, which is an
/// answer as any other from here. Both can be forged, to the effect that an operation is not run again.
#[must_use]
pub fn evidence_of_call(headers: &Headers, body: &[u8]) -> Evidence {
    let attempts = match headers.get(ATTEMPT_COUNT) {
        _ if reset_in(body) == Some(Delivery::Uncertain) => None,
        None => Some(1),
        Some(count) => std::str::from_utf8(count).ok().and_then(|count| count.parse().ok()),
    };
    Evidence { attempts, ..Evidence::default() }
}

/// What the text of a router's local reply says of a call that was reset; `None` if it is no such text.
fn reset_in(body: &[u8]) -> Option<Delivery> {
    /// Envoy's `StreamResetReason`s as its text spells them, as in [`is_certainly_unprocessed`].
    const REASONS: [&[u8]; 6] = [
        b"connection failure",
        b"connection timeout",
        b"local connection failure",
        b"overflow",
        b"remote connection failure",
        b"remote refused stream reset",
    ];
    const RESET: &[u8] = b"upstream connect error or disconnect/reset before headers. ";
    // After retries the text is another one: only the last attempt is described.
    let reason = body.strip_prefix(RESET)?.strip_prefix(b"reset reason: ");
    let reason = reason.and_then(|reason| reason.split(|byte| *byte == b',').next());
    let is_unprocessed = reason.is_some_and(|reason| REASONS.contains(&reason.trim_ascii()));
    Some(if is_unprocessed { Delivery::NeverSent } else { Delivery::Uncertain })
}

/// How long the upstream took, in milliseconds.
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// How often a router tried, if it was told to say so (`include_attempt_count_in_response`).
const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";

/// What is to be done with an answer of the upstream.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Keep the response.
    Store,
    /// Keep the fact that there was one.
    Tombstone,
    /// Let a retry execute.
    Release,
    /// It may have been executed, whatever the answer says.
    Unknown,
}

impl Verdict {
    /// What the client is told of the first response.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Unknown => Status::Unknown,
            Self::Release | Self::Store | Self::Tombstone => Status::Executed,
        }
    }
}

/// Judges an answer of the upstream: its own word first ([`POLICY_HEADER`]), else the policy's.
///
/// A `status` below 100 is none (RFC 9110, section 15): the host could not say what the answer was.
#[must_use]
pub fn judge(status: u16, headers: &Headers, evidence: &Evidence, policy: &OutcomePolicy) -> Verdict {
    match wanted(status, headers, policy) {
        // "Not executed" is true of the last attempt only.
        Verdict::Release if evidence.was_repeated() => Verdict::Unknown,
        verdict => verdict,
    }
}

/// Whether an answer may count as "not executed", so that it matters how often the request was sent.
#[must_use]
pub fn may_release(status: u16, headers: &Headers, policy: &OutcomePolicy) -> bool {
    wanted(status, headers, policy) == Verdict::Release
}

/// The verdict on an answer to a request that was sent once.
fn wanted(status: u16, headers: &Headers, policy: &OutcomePolicy) -> Verdict {
    if status < 100 {
        return Verdict::Unknown;
    }
    let declared = headers.get(POLICY_HEADER).and_then(|value| match value.trim_ascii() {
        b"store" => Some(Verdict::Store),
        b"no-store" => Some(Verdict::Tombstone),
        b"release" => Some(Verdict::Release),
        b"unknown" => Some(Verdict::Unknown),
        _ => None,
    });
    declared.unwrap_or_else(|| match policy.disposition(status) {
        Disposition::Store => Verdict::Store,
        Disposition::Release => Verdict::Release,
        Disposition::Unknown => Verdict::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(details: &str, attempts: impl Into<Option<u64>>, connected: bool) -> Evidence {
        Evidence { details: Some(details.into()), attempts: attempts.into(), connected, redirected: false }
    }

    fn before_response(reason: &str) -> String {
        format!("upstream_reset_before_response_started{{{reason}}}")
    }

    #[test]
    fn what_was_observed_on_envoy_is_told_apart() {
        use Delivery::{Answered, NeverSent, Uncertain};
        // Details, attempts, and whether there was a connection, as Envoy 1.40.0 reports them.
        let observed = [
            ("upstream answer", "via_upstream", 1, true, Answered),
            ("upstream 503, router retries used up", "via_upstream", 3, true, Answered),
            ("retries used up, all resets", &before_response("connection_termination"), 3, true, Uncertain),
            ("route timeout", "response_timeout", 1, true, Uncertain),
            (
                "connection refused",
                &before_response("remote_connection_failure|delayed_connect_error:_Connection_refused"),
                1,
                false,
                NeverSent,
            ),
            ("upstream closed before headers", &before_response("connection_termination"), 1, true, Uncertain),
            ("no healthy host", "no_healthy_upstream", 1, false, NeverSent),
            ("no healthy host, nothing tried", "no_healthy_upstream", 0, false, NeverSent),
            ("unknown cluster", "cluster_not_found", 0, false, NeverSent),
            ("direct response", "direct_response", 0, false, NeverSent),
            ("RBAC", "rbac_access_denied_matched_policy[p]", 0, false, NeverSent),
            ("buffer overflow before the router", "request_payload_too_large", 0, false, NeverSent),
            ("buffer overflow after it", "request_payload_too_large", 1, true, Uncertain),
            ("VM died", "wasm_fail_stream", 1, true, Uncertain),
            ("per-try timeout", "upstream_per_try_timeout", 1, true, Uncertain),
            ("route timeout while connecting", "response_timeout", 1, false, NeverSent),
            ("per-try timeout while connecting", "upstream_per_try_timeout", 1, false, NeverSent),
            ("per-try timeout while connecting again", "upstream_per_try_timeout", 2, false, Uncertain),
        ];
        for (case, details, attempts, connected, delivery) in observed {
            assert_eq!(evidence(details, attempts, connected).delivery(), delivery, "{case}");
        }
    }

    #[test]
    fn an_only_attempt_that_failed_before_the_request_was_processed_never_sent_it() {
        let certain = [
            "connection_failure",
            "connection_timeout",
            "local_connection_failure",
            "overflow",
            "remote_connection_failure",
            "remote_refused_stream_reset",
        ];
        for reason in certain {
            for details in [before_response(reason), before_response(&format!("{reason}|TLS_error:_x|y}}"))] {
                assert_eq!(evidence(&details, 1, false).delivery(), Delivery::NeverSent, "{details}");
                // Only the last of several attempts is described.
                assert_eq!(evidence(&details, 2, false).delivery(), Delivery::Uncertain, "{details}");
                assert_eq!(evidence(&details, None, false).delivery(), Delivery::Uncertain, "{details}");
            }
        }
        for details in ["no_healthy_upstream", "cluster_not_found", "maintenance_mode"] {
            assert_eq!(evidence(details, 1, false).delivery(), Delivery::NeverSent, "{details}");
            assert_eq!(evidence(details, 2, false).delivery(), Delivery::Uncertain, "{details}");
        }
    }

    #[test]
    fn a_reason_counts_only_where_envoy_writes_it() {
        let lookalikes = [
            "overflow".to_owned(),
            "upstream_reset_after_response_started{overflow}".to_owned(),
            before_response("connection_termination|overflow"),
            before_response("overflowing"),
            before_response(" overflow"),
            before_response(""),
            "upstream_reset_before_response_started".to_owned(),
            "upstream_reset_before_response_started{".to_owned(),
            "no_healthy_upstream_at_all".to_owned(),
            String::new(),
        ];
        for details in lookalikes {
            assert_eq!(evidence(&details, 1, false).delivery(), Delivery::Uncertain, "{details}");
        }
        let silent = Evidence { attempts: Some(1), ..Evidence::default() };
        assert_eq!(silent.delivery(), Delivery::Uncertain);
    }

    #[test]
    fn behind_a_redirect_nothing_but_an_answer_is_certain() {
        for (details, attempts) in
            [("no_healthy_upstream", 0), ("direct_response", 0), (&before_response("overflow"), 1)]
        {
            let evidence = Evidence { redirected: true, ..evidence(details, attempts, false) };
            assert_eq!(evidence.delivery(), Delivery::Uncertain, "{details}");
            assert_eq!(evidence.delivery_without_response(), Delivery::Uncertain, "{details}");
        }
        let answered = Evidence { redirected: true, ..evidence("via_upstream", 1, true) };
        assert_eq!(answered.delivery(), Delivery::Answered);
        assert!(answered.was_repeated());
    }

    #[test]
    fn an_answer_of_the_upstream_is_one_whatever_the_host_counted() {
        for attempts in [None, Some(0), Some(1), Some(2)] {
            for connected in [false, true] {
                assert_eq!(evidence("via_upstream", attempts, connected).delivery(), Delivery::Answered);
            }
        }
    }

    #[test]
    fn without_a_response_the_attempts_and_the_connection_decide() {
        use Delivery::{NeverSent, Uncertain};
        for details in ["downstream_remote_disconnect", "http2.remote_reset", ""] {
            for (attempts, connected, delivery) in [
                (Some(0), false, NeverSent),
                (Some(1), false, NeverSent),
                (Some(1), true, Uncertain),
                (Some(2), false, Uncertain),
                (Some(2), true, Uncertain),
                (None, false, Uncertain),
                (None, true, Uncertain),
            ] {
                let evidence = evidence(details, attempts, connected);
                assert_eq!(evidence.delivery_without_response(), delivery, "{evidence:?}");
            }
        }
        // The upstream answered, and the filter did not see it.
        assert_eq!(evidence("via_upstream", 1, false).delivery_without_response(), Uncertain);
        assert_eq!(Evidence::default().delivery_without_response(), Uncertain);
    }

    #[test]
    fn a_redirect_that_envoy_follows_is_no_proof_that_nothing_ran() {
        for attempts in [Some(1), Some(2), None] {
            let evidence = evidence("internal_redirect", attempts, true);
            assert!(evidence.is_internal_redirect());
            assert_eq!(evidence.delivery_without_response(), Delivery::Uncertain);
        }
    }

    fn judged(status: u16, declared: &str, attempts: impl Into<Option<u64>>, policy: &OutcomePolicy) -> Verdict {
        let headers: Headers =
            if declared.is_empty() { Headers::new() } else { [("idempotency-policy", declared)].into_iter().collect() };
        judge(status, &headers, &evidence("via_upstream", attempts, true), policy)
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let policy = OutcomePolicy::default();
        for status in 200..=599 {
            let expected = match status {
                401 | 403 | 408 | 425 | 429 => Verdict::Release,
                502 | 504 => Verdict::Unknown,
                500.. => Verdict::Release,
                _ => Verdict::Store,
            };
            assert_eq!(judged(status, "", 1, &policy), expected, "{status}");
        }
        // A status that no list names is stored.
        assert_eq!(judged(600, "", 1, &policy), Verdict::Store);
    }

    #[test]
    fn a_code_wins_over_its_class() {
        let policy = OutcomePolicy {
            codes: vec![(500, Disposition::Store), (201, Disposition::Unknown), (404, Disposition::Release)],
            classes: [None, Some(Disposition::Store), None, Some(Disposition::Store), Some(Disposition::Unknown)],
            ..OutcomePolicy::default()
        };
        for (status, expected) in [
            (200, Verdict::Store),
            (201, Verdict::Unknown),
            (303, Verdict::Store),
            (400, Verdict::Store),
            (404, Verdict::Release),
            (500, Verdict::Store),
            (503, Verdict::Unknown),
        ] {
            assert_eq!(judged(status, "", 1, &policy), expected, "{status}");
        }
    }

    #[test]
    fn the_upstreams_own_word_wins_over_the_policy() {
        let policy = OutcomePolicy::default();
        for status in [200, 401, 502, 503] {
            for (word, verdict) in [
                ("store", Verdict::Store),
                ("no-store", Verdict::Tombstone),
                ("release", Verdict::Release),
                ("unknown", Verdict::Unknown),
            ] {
                assert_eq!(judged(status, word, 1, &policy), verdict, "{status} {word}");
                assert_eq!(judged(status, &format!("\t {word} "), 1, &policy), verdict, "{status} {word}");
            }
            for noise in [" ", "STORE", "stored", "no store", "release;now", "store,store"] {
                assert_eq!(judged(status, noise, 1, &policy), judged(status, "", 1, &policy), "{status} {noise}");
            }
        }
    }

    #[test]
    fn nothing_is_released_if_an_earlier_attempt_may_have_run() {
        let policy = OutcomePolicy::default();
        for attempts in [Some(2), Some(3), None] {
            assert_eq!(judged(503, "", attempts, &policy), Verdict::Unknown);
            assert_eq!(judged(200, "release", attempts, &policy), Verdict::Unknown);
            assert_eq!(judged(200, "", attempts, &policy), Verdict::Store);
            assert_eq!(judged(200, "no-store", attempts, &policy), Verdict::Tombstone);
            assert_eq!(judged(502, "", attempts, &policy), Verdict::Unknown);
        }
    }

    #[test]
    fn a_status_that_is_none_says_nothing_about_the_operation() {
        for declared in ["", "store", "no-store", "release", "unknown"] {
            for status in [0, 1, 99] {
                assert_eq!(judged(status, declared, 1, &OutcomePolicy::default()), Verdict::Unknown);
            }
        }
    }
}
