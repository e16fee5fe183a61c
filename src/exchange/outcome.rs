//! What an upstream call came to: what the proxy knows and an application behind it cannot.
//!
//! Decided on the response code's details and the number of attempts, never on the status alone: a 503
//! of the upstream and a 503 that Envoy made up look alike to a client.

use super::vocabulary::{POLICY_HEADER, STATUS_HEADER, Status};
use crate::{
    config::{Disposition, OutcomePolicy},
    headers::Headers,
};

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

/// Whether the fields of a response show that an upstream answered: Envoy's router adds [`SERVICE_TIME`] to every answer
/// of an upstream, over one that the upstream forged, and to none of its own. Where it is told to add none
/// (`suppress_envoy_headers`) the field is absent, or an upstream has answered and forged it.
#[must_use]
pub fn shows_upstream(headers: &Headers) -> bool {
    headers.get(SERVICE_TIME).is_some()
}

/// The details of each answer that is the upstream's own.
pub const VIA_UPSTREAM: &[u8] = b"via_upstream";

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
/// The host does not say whose answer it is. But its fields do ([`shows_upstream`]), and the router's own answers say in
/// their text why the call failed.
#[must_use]
pub fn delivery_of_call(headers: &Headers, body: &[u8]) -> Delivery {
    if shows_upstream(headers) {
        return Delivery::Answered;
    }
    delivery_in(body).unwrap_or(Delivery::Uncertain)
}

/// What the text of a router's local reply says of the request; `None` if it is no such text.
fn delivery_in(text: &[u8]) -> Option<Delivery> {
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
    match text {
        b"maintenance mode" | b"no healthy upstream" => return Some(Delivery::NeverSent),
        b"upstream max stream duration reached" | b"upstream request timeout" => return Some(Delivery::Uncertain),
        _ => {}
    }
    // After retries the text is another one: only the last attempt is described.
    let reason = text.strip_prefix(RESET)?.strip_prefix(b"reset reason: ");
    let reason = reason.and_then(|reason| reason.split(|byte| *byte == b',').next());
    let is_unprocessed = reason.is_some_and(|reason| REASONS.contains(&reason.trim_ascii()));
    Some(if is_unprocessed { Delivery::NeverSent } else { Delivery::Uncertain })
}

/// How long the upstream took, in milliseconds.
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// How often a router tried, if it was told to say so (`include_attempt_count_in_response`).
const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";

/// An answer that came from the upstream: the service's, or that of another proxy on the way to it.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamAnswer<'a> {
    /// The status code.
    pub status: u16,
    /// All fields.
    pub headers: &'a Headers,
    /// What the body begins with, up to [`LONGEST_TEXT`] bytes; `None` while it is still to come.
    pub text: Option<&'a [u8]>,
}

/// How much of a body is looked at: more than any text of Envoy's, and than a problem of another Idemgate.
pub const LONGEST_TEXT: usize = 2048;

/// What an answer comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// What is to be done.
    pub verdict: Verdict,
    /// What the client is told of it.
    pub word: Status,
}

/// What is to be done with an answer of the upstream.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Keep the response.
    Store,
    /// Keep the fact that there was one, of this status.
    Tombstone(u16),
    /// Let a retry execute.
    Release,
    /// It may have been executed, whatever the answer says.
    Unknown,
    /// What the body begins with decides; judge again when it is known.
    Unread,
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        let word = if verdict == Verdict::Unknown { Status::Unknown } else { Status::Executed };
        Self { verdict, word }
    }
}

/// Judges an answer of the upstream: its own word first ([`POLICY_HEADER`]), then that of another Idemgate
/// ([`STATUS_HEADER`]), else the policy's.
///
/// A release must be proven. An answer of 502, 503 or 504 may be that of a proxy on the way, given after the service
/// ran; and any answer may be that to a second attempt. What does not exclude it is unknown, whatever the policy says.
#[must_use]
pub fn judge(answer: &UpstreamAnswer<'_>, evidence: &Evidence, policy: &OutcomePolicy) -> Judgement {
    let judgement = judge_only_attempt(answer, policy);
    match judgement.verdict {
        Verdict::Release | Verdict::Unread if evidence.was_repeated() || was_repeated_behind(answer.headers) => {
            Verdict::Unknown.into()
        }
        _ => judgement,
    }
}

/// Whether an answer may count as "not executed", so that it matters how often the request was sent.
#[must_use]
pub fn may_release(status: u16, headers: &Headers, policy: &OutcomePolicy) -> bool {
    let verdict = judge_only_attempt(&UpstreamAnswer { status, headers, text: None }, policy).verdict;
    matches!(verdict, Verdict::Release | Verdict::Unread)
}

/// What the upstream says in [`POLICY_HEADER`], if it is a word that nobody knows.
#[must_use]
pub fn unknown_policy_word(headers: &Headers) -> Option<&[u8]> {
    headers.get(POLICY_HEADER).filter(|word| declared_by(word, 0).is_none())
}

/// The judgement on an answer to a request that was sent once.
fn judge_only_attempt(answer: &UpstreamAnswer<'_>, policy: &OutcomePolicy) -> Judgement {
    // No status at all (RFC 9110, section 15): the host could not say what the answer was.
    if answer.status < 100 {
        return Verdict::Unknown.into();
    }
    let declared = answer.headers.get(POLICY_HEADER).and_then(|word| declared_by(word, answer.status));
    if let Some(verdict) = declared {
        return verdict.into();
    }
    said_by_another_idemgate(answer).unwrap_or_else(|| match policy.disposition(answer.status) {
        Disposition::Store => Verdict::Store.into(),
        Disposition::Release => judge_release(answer),
        Disposition::Unknown => Verdict::Unknown.into(),
    })
}

/// The contract's words, without case.
fn declared_by(word: &[u8], status: u16) -> Option<Verdict> {
    Some(match word.trim_ascii().to_ascii_lowercase().as_slice() {
        b"store" => Verdict::Store,
        b"no-store" => Verdict::Tombstone(status),
        b"release" => Verdict::Release,
        b"unknown" => Verdict::Unknown,
        _ => return None,
    })
}

/// What another Idemgate on the way says of its own answer: it knows whether this request ran.
///
/// `None` for answers that it passed on or kept, which are judged as the service's.
fn said_by_another_idemgate(answer: &UpstreamAnswer<'_>) -> Option<Judgement> {
    let word = Status::from_word(answer.headers.get(STATUS_HEADER)?)?;
    let verdict = match word {
        Status::InFlight | Status::KeyReused | Status::Rejected => Verdict::Release,
        Status::Unknown => Verdict::Unknown,
        Status::NotKept => match answer.text {
            None => Verdict::Unread,
            Some(text) => Verdict::Tombstone(original_status(text).unwrap_or(answer.status)),
        },
        Status::Bypassed | Status::Executed | Status::Replayed => return None,
    };
    Some(Judgement { verdict, word })
}

/// The status that a problem of another Idemgate names as that of the response that is not kept.
///
/// Both write their problems alike, without white space. One that a proxy has written anew says nothing.
fn original_status(problem: &[u8]) -> Option<u16> {
    const MEMBER: &[u8] = b"\"original_status\":";
    let start = problem.windows(MEMBER.len()).position(|window| window == MEMBER)? + MEMBER.len();
    let value = problem.get(start..)?.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Judges an answer whose status counts as "not executed", should it be the service's.
fn judge_release(answer: &UpstreamAnswer<'_>) -> Judgement {
    let headers = answer.headers;
    // None of a proxy's own answers has the field.
    if headers.get("retry-after").is_some() {
        return Verdict::Release.into();
    }
    if !matches!(answer.status, 502..=504) {
        return judge_rare_release(answer);
    }
    let is_signed = has_sign_of_proxy(headers);
    match answer.text.map(delivery_in) {
        Some(Some(Delivery::NeverSent)) if is_plain_text(headers) => {
            Judgement { verdict: Verdict::Release, word: Status::Rejected }
        }
        Some(Some(Delivery::Uncertain)) => Verdict::Unknown.into(),
        // The fields go out before the text comes: the client is told what is certain then.
        None if is_plain_text(headers) => {
            let word = if is_signed { Status::Unknown } else { Status::Executed };
            Judgement { verdict: Verdict::Unread, word }
        }
        _ if is_signed => Verdict::Unknown.into(),
        _ => Verdict::Release.into(),
    }
}

/// The same for the other statuses that Envoy may answer by itself with the request sent on: to a client that stalls in
/// its upload, and in place of an answer that a filter of its own has no room for.
///
/// Services have these statuses as well, most of all 500, so that only an answer that is Envoy's to the letter counts as
/// its own.
fn judge_rare_release(answer: &UpstreamAnswer<'_>) -> Judgement {
    const TEXTS: [(u16, &[u8]); 4] = [
        (408, b"downstream duration timeout"),
        (408, b"request timeout"),
        (408, b"stream timeout"),
        (500, b"Internal Server Error"),
    ];
    let headers = answer.headers;
    let length = || std::str::from_utf8(headers.get("content-length")?).ok()?.parse().ok();
    let text_of_length = |length: usize| {
        TEXTS.into_iter().find(|(status, text)| *status == answer.status && text.len() == length).map(|(_, text)| text)
    };
    let may_be_own = |text: &&[u8]| {
        headers.get("content-type") == Some(b"text/plain")
            && has_sign_of_proxy(headers)
            && answer.text.is_none_or(|found| found == *text)
    };
    match length().and_then(text_of_length).filter(may_be_own) {
        Some(_) if answer.text.is_none() => Judgement { verdict: Verdict::Unread, word: Status::Unknown },
        Some(_) => Verdict::Unknown.into(),
        None => Verdict::Release.into(),
    }
}

/// Whether fields show that the answer came through another proxy.
///
/// [`SERVICE_TIME`] is not among them, nor [`ATTEMPT_COUNT`]: this Envoy's own router adds them.
fn has_sign_of_proxy(headers: &Headers) -> bool {
    const PREFIX: &[u8] = b"x-envoy-";
    headers.iter().any(|(name, value)| match name.to_ascii_lowercase().as_slice() {
        b"server" => [b"envoy".as_slice(), b"istio-envoy"].iter().any(|server| value.eq_ignore_ascii_case(server)),
        b"via" => true,
        name => name.starts_with(PREFIX) && ![SERVICE_TIME, ATTEMPT_COUNT].iter().any(|own| name == own.as_bytes()),
    })
}

/// Whether the body can be read as the text of a local reply.
fn is_plain_text(headers: &Headers) -> bool {
    let media_type = headers.get("content-type").and_then(|value| value.split(|byte| *byte == b';').next());
    let is_text = media_type.is_some_and(|media_type| media_type.trim_ascii().eq_ignore_ascii_case(b"text/plain"));
    is_text && headers.get("content-encoding").is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"))
}

/// Whether a router on the way says that it sent the request more than once.
fn was_repeated_behind(headers: &Headers) -> bool {
    headers.get(ATTEMPT_COUNT).is_some_and(|count| {
        let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<u64>().ok());
        count.is_none_or(|count| count > 1)
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
        verdict(&UpstreamAnswer { status, headers: &headers, text: Some(b"") }, attempts, policy)
    }

    fn verdict(answer: &UpstreamAnswer<'_>, attempts: impl Into<Option<u64>>, policy: &OutcomePolicy) -> Verdict {
        judge(answer, &evidence("via_upstream", attempts, true), policy).verdict
    }

    /// The verdict on an answer with these fields, before its body is there and after.
    fn judged_twice(status: u16, fields: &[(&str, &str)], text: &str) -> (Verdict, Verdict) {
        let (headers, policy) = (fields.iter().copied().collect(), OutcomePolicy::default());
        let at = |text| verdict(&UpstreamAnswer { status, headers: &headers, text }, 1, &policy);
        (at(None), at(Some(text.as_bytes())))
    }

    const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

    #[test]
    fn an_answer_that_came_through_a_proxy_is_released_only_with_a_proof() {
        use Verdict::{Release, Unknown, Unread};
        let refused = format!("{RESET}remote connection failure, transport failure reason: x");
        let died = format!("{RESET}connection termination");
        let retried = RESET.replace("reset reason", "retried and the latest reset reason") + "overflow";
        let plain = ("content-type", "text/plain");
        for sign in [
            ("server", "envoy"),
            ("server", "Istio-Envoy"),
            ("via", "1.1 edge"),
            ("x-envoy-decorator-operation", "orders"),
            ("X-Envoy-Ratelimited", "true"),
        ] {
            for (fields, text, before, after) in [
                (vec![plain], refused.as_str(), Unread, Release),
                (vec![plain], "no healthy upstream", Unread, Release),
                (vec![("content-type", "Text/Plain; charset=utf-8")], "no healthy upstream", Unread, Release),
                (vec![plain], "maintenance mode", Unread, Release),
                (vec![plain], died.as_str(), Unread, Unknown),
                (vec![plain], retried.as_str(), Unread, Unknown),
                (vec![plain], "busy", Unread, Unknown),
                (vec![plain], "", Unread, Unknown),
                // What cannot be read: Envoy names the type of its texts.
                (vec![], refused.as_str(), Unknown, Unknown),
                (vec![plain, ("content-encoding", "gzip")], refused.as_str(), Unknown, Unknown),
                (vec![("content-type", "application/json")], refused.as_str(), Unknown, Unknown),
                // The service's own word.
                (vec![plain, ("retry-after", "5")], "busy", Release, Release),
                (vec![("content-encoding", "gzip"), ("retry-after", "5")], "", Release, Release),
                (vec![("idempotency-policy", "release")], "", Release, Release),
                (vec![("idempotency-policy", "unknown"), ("retry-after", "5")], "", Unknown, Unknown),
            ] {
                let fields: Vec<_> = fields.into_iter().chain([sign]).collect();
                assert_eq!(judged_twice(503, &fields, text), (before, after), "{fields:?} {text}");
                // No class and no code of the policy overrules it.
                let policy = OutcomePolicy {
                    codes: [502, 503, 504].map(|status| (status, Disposition::Release)).to_vec(),
                    ..OutcomePolicy::default()
                };
                let headers = fields.iter().copied().collect();
                for status in [502, 503, 504] {
                    let answer = UpstreamAnswer { status, headers: &headers, text: Some(text.as_bytes()) };
                    assert_eq!(verdict(&answer, 1, &policy), after, "{status} {fields:?} {text}");
                    // A proxy that says how often it tried.
                    let headers = fields.iter().copied().chain([("x-envoy-attempt-count", "2")]).collect();
                    let answer = UpstreamAnswer { status, headers: &headers, text: Some(text.as_bytes()) };
                    assert_eq!(verdict(&answer, 1, &policy), Unknown, "{status} {fields:?} {text}");
                }
            }
        }
    }

    #[test]
    fn a_services_own_answers_are_judged_by_their_status() {
        use Verdict::{Release, Unknown, Unread};
        // This Envoy's own router adds these.
        let own = [("x-envoy-upstream-service-time", "3"), ("x-envoy-attempt-count", "1"), ("server", "gunicorn")];
        let with = |field: (&'static str, &'static str)| own.into_iter().chain([field]).collect::<Vec<_>>();
        let json = with(("content-type", "application/json"));
        assert_eq!(judged_twice(503, &json, "{}"), (Release, Release));
        assert_eq!(judged_twice(503, &with(("content-encoding", "gzip")), "x"), (Release, Release));
        assert_eq!(judged_twice(503, &with(("content-type", "text/plain")), "busy"), (Unread, Release));
        // The text alone shows a proxy that leaves no other sign.
        let died = format!("{RESET}connection termination");
        assert_eq!(judged_twice(503, &with(("content-type", "text/plain")), &died), (Unread, Unknown));
        // Through a proxy, too.
        assert_eq!(judged_twice(500, &[("server", "envoy"), ("content-type", "text/plain")], "x"), (Release, Release));
        for status in [200, 404, 429] {
            let (before, after) = judged_twice(status, &[("server", "envoy"), ("via", "x")], "x");
            assert_eq!(before, after, "{status}");
        }
    }

    #[test]
    fn what_a_proxy_says_in_place_of_an_answer_is_known_to_the_letter() {
        use Verdict::{Release, Unknown, Unread};
        let own = [("content-type", "text/plain"), ("server", "envoy")];
        for (status, text) in [
            (408, "downstream duration timeout"),
            (408, "request timeout"),
            (408, "stream timeout"),
            (500, "Internal Server Error"),
        ] {
            let length = text.len().to_string();
            let with = |fields: &[(&'static str, &'static str)], text: &str| {
                let fields: Vec<_> = fields.iter().copied().chain([("content-length", length.as_str())]).collect();
                judged_twice(status, &fields, text)
            };
            assert_eq!(with(&own, text), (Unread, Unknown), "{text}");
            // What a service says in as many bytes, and what it says by itself.
            assert_eq!(with(&own, &"x".repeat(text.len())), (Unread, Release), "{text}");
            assert_eq!(
                with(&[("content-type", "text/plain; charset=utf-8"), own[1]], text),
                (Release, Release),
                "{text}"
            );
            assert_eq!(with(&[own[0]], text), (Release, Release), "{text}");
            assert_eq!(with(&[own[0], own[1], ("retry-after", "1")], text), (Release, Release), "{text}");
            assert_eq!(judged_twice(status, &own, text), (Release, Release), "{text}");
        }
        let length = |length| [own[0], own[1], ("content-length", length)];
        assert_eq!(judged_twice(500, &length("14"), "stream timeout"), (Release, Release));
        assert_eq!(judged_twice(429, &length("14"), "stream timeout"), (Release, Release));
        assert_eq!(judged_twice(408, &length("x"), "stream timeout"), (Release, Release));
    }

    #[test]
    fn another_idemgate_is_taken_at_its_word() {
        use Verdict::{Release, Store, Tombstone, Unknown, Unread};
        for (status, word, before, after) in [
            (409, "in-flight", Release, Release),
            (422, "key-reused", Release, Release),
            (400, "rejected", Release, Release),
            (503, "rejected", Release, Release),
            (409, "unknown", Unknown, Unknown),
            (201, "unknown", Unknown, Unknown),
            (409, "not-kept", Unread, Tombstone(201)),
            (201, "executed", Store, Store),
            (201, "replayed", Store, Store),
            (201, "bypassed", Store, Store),
            (201, "Rejected", Store, Store),
            (503, "executed", Unknown, Unknown),
        ] {
            let fields =
                [("server", "envoy"), ("content-type", "application/problem+json"), ("idempotency-status", word)];
            assert_eq!(
                judged_twice(status, &fields, r#"{"detail":"x","original_status":201}"#),
                (before, after),
                "{word}"
            );
        }
        // A problem that cannot be read.
        let fields = [("idempotency-status", "not-kept")];
        assert_eq!(judged_twice(409, &fields, "x").1, Tombstone(409));
        // What it passes on is told on.
        let headers = Headers::from_iter(fields);
        let answer = UpstreamAnswer { status: 409, headers: &headers, text: None };
        let judgement = judge(&answer, &evidence("via_upstream", 1, true), &OutcomePolicy::default());
        assert_eq!(judgement.word, Status::NotKept);
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
                ("no-store", Verdict::Tombstone(status)),
                ("release", Verdict::Release),
                ("unknown", Verdict::Unknown),
            ] {
                assert_eq!(judged(status, word, 1, &policy), verdict, "{status} {word}");
                assert_eq!(judged(status, &format!("\t {word} "), 1, &policy), verdict, "{status} {word}");
            }
            assert_eq!(judged(status, "No-Store", 1, &policy), Verdict::Tombstone(status), "{status}");
            for noise in [" ", "stored", "no store", "release;now", "store,store"] {
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
            assert_eq!(judged(200, "no-store", attempts, &policy), Verdict::Tombstone(200));
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
