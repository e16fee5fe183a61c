//! The filter's own answers: problem details as of RFC 9457.
//!
//! Clients act on `type`; people act on `detail`, so each says what happened, whether anything ran,
//! and what to do next. None repeats what the client sent.

use std::{borrow::Cow, time::Duration};

use serde::Serialize;

use super::{
    reply::Reply,
    vocabulary::{Counter, STATUS_HEADER, Status},
};
use crate::{
    config::{Policy, ProblemsPolicy},
    headers::Headers,
    request::InvalidKey,
    store::Scarce,
    time::seconds_rounded_up,
};

/// Why a request is not executed and not replayed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// No source of `caller.identity` is present, and `caller.required` is set.
    CallerUnknown,
    /// The client waits for a 100 before it sends what the filter waits for.
    ExpectationFailed,
    /// The body that the fingerprint needs is withheld while the headers are held.
    HostUnsupported,
    /// The key is malformed.
    KeyInvalid(InvalidKey),
    /// There is no key, and `key.required` is set.
    KeyMissing {
        /// The header that should have it.
        header: String,
        /// Where the body may have it instead.
        pointer: Option<String>,
    },
    /// The key belongs to a different request.
    KeyReused,
    /// The worker holds as much as it may.
    MemoryFull,
    /// The operation may have run.
    OutcomeUnknown {
        /// When a retry may run it anew, if the policy allows that.
        retry_after: Option<Duration>,
    },
    /// More is asked for than can be served in time.
    Overloaded,
    /// The caller has its share of what all use.
    OverShare(Scarce),
    /// The operation is running.
    RequestInFlight {
        /// How long it has been running.
        age: Duration,
        /// What is left of its lease.
        lease_left: Duration,
    },
    /// The body is over `limits.request_body`.
    RequestTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The operation ran, its response is not kept.
    ResponseNotKept {
        /// The status of the response.
        status: u16,
    },
    /// The store has no room for another claim.
    StoreFull,
    /// The store cannot say whether the operation ran.
    StoreUnavailable,
    /// As many detached calls are under way as may be.
    TooManyCalls,
    /// The worker cannot use its configuration.
    Unconfigured,
}

impl Problem {
    /// The name of the problem: its type is `urn:idemgate:` and this.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.row().name
    }

    /// The HTTP status code.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        self.row().http_status
    }

    /// The word for `idempotency-status`.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.row().status
    }

    /// What counts it.
    #[must_use]
    pub const fn counter(&self) -> Counter {
        self.row().counter
    }

    const fn row(&self) -> Row {
        use Retry::{AfterLease, AsLongAgain, Never, Soon};
        use Status::{InFlight, KeyReused, NotKept, Rejected, Unknown};
        match *self {
            Self::CallerUnknown => Row::new("caller-unknown", 403, Rejected, Counter::RequestsCallerUnknown, Never),
            Self::ExpectationFailed => {
                Row::new("expectation-failed", 417, Rejected, Counter::RequestsExpectationFailed, Never)
            }
            Self::HostUnsupported => {
                Row::new("host-unsupported", 500, Rejected, Counter::RequestsHostUnsupported, Never)
            }
            Self::KeyInvalid(_) => Row::new("key-invalid", 400, Rejected, Counter::RequestsKeyInvalid, Never),
            Self::KeyMissing { .. } => Row::new("key-missing", 400, Rejected, Counter::RequestsKeyMissing, Never),
            // The Idempotency-Key draft, section 2.7: "Unprocessable Content" for a reused key.
            Self::KeyReused => Row::new("key-reused", 422, KeyReused, Counter::RequestsKeyReused, Never),
            Self::MemoryFull => Row::new("overloaded", 503, Rejected, Counter::RequestsMemoryFull, Soon),
            Self::OutcomeUnknown { retry_after } => {
                let retry = match retry_after {
                    Some(left) => AfterLease(left),
                    None => Never,
                };
                Row::new("outcome-unknown", 409, Unknown, Counter::RequestsUnknown, retry)
            }
            Self::Overloaded => Row::new("overloaded", 503, Rejected, Counter::StoreErrors, Soon),
            Self::OverShare(Scarce::Records) => Row::new("store-full", 503, Rejected, Counter::RequestsOverShare, Soon),
            Self::OverShare(_) => Row::new("overloaded", 503, Rejected, Counter::RequestsOverShare, Soon),
            Self::RequestInFlight { age, lease_left } => {
                let retry = AsLongAgain { age, lease_left };
                Row::new("request-in-flight", 409, InFlight, Counter::RequestsInFlight, retry)
            }
            Self::RequestTooLarge { .. } => {
                Row::new("request-too-large", 413, Rejected, Counter::RequestsTooLarge, Never)
            }
            Self::ResponseNotKept { .. } => {
                Row::new("response-not-kept", 409, NotKept, Counter::RequestsNotKept, Never)
            }
            Self::StoreFull => Row::new("store-full", 503, Rejected, Counter::StoreFull, Soon),
            Self::StoreUnavailable => Row::new("store-unavailable", 503, Rejected, Counter::StoreErrors, Soon),
            Self::TooManyCalls => Row::new("overloaded", 503, Rejected, Counter::RequestsTooManyCalls, Soon),
            Self::Unconfigured => Row::new("host-unsupported", 500, Rejected, Counter::RequestsHostUnsupported, Never),
        }
    }

    /// The answer, as `policy` has it.
    #[must_use]
    pub fn reply(&self, policy: &Policy) -> Reply {
        let ProblemsPolicy { retry_hints, error_member, body, content_type, .. } = &policy.problems;
        let Row { name, http_status, status: word, retry, .. } = self.row();
        let status = policy.problems.status_of(name).unwrap_or(http_status);
        let content_type = if body.is_some() { content_type.as_str() } else { "application/problem+json" };
        let mut headers = Headers::new();
        headers.push("content-type", content_type);
        // A problem describes this moment; RFC 9111 lets caches keep some of these statuses.
        headers.push("cache-control", "no-store");
        if let Some(seconds) = retry.after_seconds() {
            headers.push("retry-after", seconds.to_string());
        }
        if *retry_hints {
            push_retry_hints(&mut headers, retry != Retry::Never);
        }
        if let Some(uri) = &policy.docs_uri {
            headers.push("link", format!("<{uri}>; rel=\"describedby\""));
        }
        if policy.status_header {
            headers.push(STATUS_HEADER, word.as_str());
        }
        let (title, detail) = (self.title(), self.detail());
        let body = match body {
            Some(template) => template.fill(name, title, &detail, status).into_bytes(),
            None => {
                let error =
                    error_member.then_some(ErrorMember { r#type: "idempotency_error", code: name, message: &detail });
                let r#type = format!("urn:idemgate:{name}");
                let original_status = self.original_status();
                let document = Details { r#type, title, status, detail: &detail, original_status, error };
                // Strings and numbers always serialize; an empty body would still carry the status.
                serde_json::to_vec(&document).unwrap_or_default()
            }
        };
        Reply { status, headers, body: body.into(), details: self.code_details() }
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::CallerUnknown => "Caller is not identified",
            Self::ExpectationFailed => "Expectation cannot be met",
            Self::HostUnsupported | Self::Unconfigured => "Idempotency is misconfigured at the proxy",
            Self::KeyInvalid(_) => "Idempotency key is malformed",
            Self::KeyMissing { .. } => "Idempotency key is missing",
            Self::KeyReused => "Idempotency key was used for a different request",
            Self::OutcomeUnknown { .. } => "Outcome of the first request is unknown",
            Self::MemoryFull | Self::Overloaded | Self::TooManyCalls => "Too many idempotent requests at once",
            Self::OverShare(_) => "Too many idempotent requests of one caller",
            Self::RequestInFlight { .. } => "First request with this idempotency key is still running",
            Self::RequestTooLarge { .. } => "Request body is too large",
            Self::ResponseNotKept { .. } => "Request was executed, its response is not available",
            Self::StoreFull => "No room for another idempotent request",
            Self::StoreUnavailable => "Idempotency store is not available",
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::CallerUnknown => "Nothing was executed. Idempotent requests must carry the credentials that identify \
                 the caller. Authenticate and send the request again with the same key."
                .into(),
            Self::ExpectationFailed => {
                "Nothing was executed. The proxy has to hold this request before anything of it can \
                 go on, so nobody can answer 'Expect: 100-continue'. Send the request again with the same key and \
                 without that header."
                    .into()
            }
            Self::HostUnsupported => "Nothing was executed. The proxy does not hand over the request body for \
                 comparison, so it cannot protect this request. Retrying does not help until the operator has \
                 changed the proxy's configuration."
                .into(),
            Self::Unconfigured => "Nothing was executed. The proxy cannot use its configuration; its log says why. Retrying \
                 does not help until the operator has changed it."
                .into(),
            Self::KeyInvalid(reason) => format!("Nothing was executed. {reason}").into(),
            Self::KeyMissing { header, pointer } => {
                let or_in_body = pointer.as_ref().map(|pointer| format!(" or a JSON body with '{pointer}'"));
                format!(
                    "Nothing was executed. Send the request again with a header '{header}'{} whose value is unique to this \
                     operation, such as a UUID, and use the same value for every retry of it.",
                    or_in_body.unwrap_or_default()
                )
                .into()
            }
            Self::KeyReused => {
                "This request was not executed: an earlier request with the same key had another method, \
                 target, body or header. Use a new key for a new operation; to retry the earlier one, send exactly \
                 what was sent then."
                    .into()
            }
            Self::MemoryFull => "Nothing was executed by this request: the proxy's memory for idempotent requests is \
                 full. Send it again with the same key after the time in Retry-After."
                .into(),
            Self::OutcomeUnknown { retry_after: None } => "An earlier request with this key may or may not have been \
                 executed: no conclusive response was seen. The proxy does not execute it again. Look up the state of \
                 the resource before you try again with a new key."
                .into(),
            Self::OutcomeUnknown { retry_after: Some(_) } => {
                "An earlier request with this key may or may not have been \
                 executed: no conclusive response was seen. Send the request again with the same key after the time in \
                 Retry-After; it is then executed anew."
                    .into()
            }
            Self::Overloaded => {
                "Nothing was executed by this request: too many came at once to be looked up in time. The proxy \
                 cannot currently tell whether an earlier one with this key was. Send it again with the same key after \
                 the time in Retry-After."
                    .into()
            }
            Self::OverShare(Scarce::Records) => {
                "Nothing was executed. This caller has as many idempotent requests on record as one caller may have. Send \
                 the request again with the same key after the time in Retry-After."
                    .into()
            }
            Self::OverShare(Scarce::Questions) => {
                "Nothing was executed by this request: too many of this caller's are waiting already. The proxy cannot \
                 currently tell whether an earlier one with this key was. Send it again with the same key after the \
                 time in Retry-After."
                    .into()
            }
            Self::OverShare(Scarce::Calls | Scarce::Places) => {
                "Nothing was executed. Too many idempotent requests of this caller are running. Send the request again \
                 with the same key after the time in Retry-After."
                    .into()
            }
            Self::RequestInFlight { .. } => {
                "This request was not executed because the first one with this key is still \
                 running. Send it again with the same key after the time in Retry-After to get the first one's \
                 response."
                    .into()
            }
            Self::RequestTooLarge { limit } => format!(
                "Nothing was executed. The body of an idempotent request is limited to {limit} bytes here. Send a \
                 smaller body, or split the operation into several with a key each."
            )
            .into(),
            Self::ResponseNotKept { status } => format!(
                "The first request with this key was executed and answered with status {status}; its response is not \
                 kept. Do not send it with a new key. Look up the resource to see the result."
            )
            .into(),
            Self::StoreFull => {
                "Nothing was executed. The proxy has no room to keep track of another idempotent request. Send the \
                 request again with the same key after the time in Retry-After."
                    .into()
            }
            Self::StoreUnavailable => "Nothing was executed by this request, but the proxy cannot currently tell \
                 whether an earlier one with this key was. Send it again with the same key after the time in Retry-After."
                .into(),
            Self::TooManyCalls => {
                "Nothing was executed. Too many idempotent requests are running. Send the request again with the same \
                 key after the time in Retry-After."
                    .into()
            }
        }
    }

    const fn original_status(&self) -> Option<u16> {
        match self {
            Self::ResponseNotKept { status } => Some(*status),
            _ => None,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%` in access logs.
    const fn code_details(&self) -> &'static str {
        match self {
            Self::CallerUnknown => "idemgate_caller_unknown",
            Self::ExpectationFailed => "idemgate_expectation_failed",
            Self::HostUnsupported => "idemgate_host_unsupported",
            Self::Unconfigured => "idemgate_unconfigured",
            Self::KeyInvalid(_) => "idemgate_key_invalid",
            Self::KeyMissing { .. } => "idemgate_key_missing",
            Self::KeyReused => "idemgate_key_reused",
            Self::OutcomeUnknown { .. } => "idemgate_outcome_unknown",
            Self::MemoryFull | Self::Overloaded => "idemgate_overloaded",
            Self::OverShare(_) => "idemgate_over_share",
            Self::RequestInFlight { .. } => "idemgate_request_in_flight",
            Self::RequestTooLarge { .. } => "idemgate_request_too_large",
            Self::ResponseNotKept { .. } => "idemgate_response_not_kept",
            Self::StoreFull => "idemgate_store_full",
            Self::StoreUnavailable => "idemgate_store_unavailable",
            Self::TooManyCalls => "idemgate_too_many_calls",
        }
    }
}

/// What is fixed of a problem.
struct Row {
    name: &'static str,
    http_status: u16,
    status: Status,
    counter: Counter,
    retry: Retry,
}

impl Row {
    const fn new(name: &'static str, http_status: u16, status: Status, counter: Counter, retry: Retry) -> Self {
        Self { name, http_status, status, counter, retry }
    }
}

/// What comes of the same request, sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Retry {
    /// It may run once the lease is over: in so long.
    AfterLease(Duration),
    /// It gets the first one's answer when that is there. Nobody knows when; as long as that one has run already is a guess
    /// that makes few requests of a slow one and keeps nobody waiting for a fast one.
    AsLongAgain { age: Duration, lease_left: Duration },
    /// The same problem, for as long as anybody would retry.
    Never,
    /// It may find room.
    Soon,
}

impl Retry {
    /// What `Retry-After` says. A problem on which no retry can change anything has none, because some clients retry
    /// whatever has one.
    fn after_seconds(self) -> Option<u64> {
        match self {
            Self::AfterLease(left) => Some(seconds_rounded_up(left).max(1)),
            // When the lease is over, its owner is dead, and there is another answer.
            Self::AsLongAgain { age, lease_left } => {
                Some(seconds_rounded_up(age).min(lease_left.as_secs()).clamp(1, LONGEST_PAUSE))
            }
            Self::Never => None,
            Self::Soon => Some(1),
        }
    }
}

/// In seconds. Clients that obey `Retry-After` at all obey no longer one.
const LONGEST_PAUSE: u64 = 60;

/// Says in the fields that SDKs look at whether they are to try again: those of Stripe, and those that Stainless generates.
pub(super) fn push_retry_hints(headers: &mut Headers, may_help: bool) {
    for name in ["x-should-retry", "stripe-should-retry"] {
        headers.push(name, if may_help { "true" } else { "false" });
    }
}

/// RFC 9457, section 3.1, and two extension members.
#[derive(Serialize)]
struct Details<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorMember<'a>>,
}

/// What SDKs of Stripe look for to know a failure from a resource.
#[derive(Serialize)]
struct ErrorMember<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const AGE: Duration = Duration::from_millis(6_100);
    const LEFT: Duration = Duration::from_millis(19_500);

    /// Every problem, with its row of the contract (section 4): name, status, word, `Retry-After`.
    fn rows() -> Vec<(Problem, &'static str, u16, &'static str, Option<u64>)> {
        vec![
            (Problem::CallerUnknown, "caller-unknown", 403, "rejected", None),
            (Problem::ExpectationFailed, "expectation-failed", 417, "rejected", None),
            (Problem::HostUnsupported, "host-unsupported", 500, "rejected", None),
            (Problem::Unconfigured, "host-unsupported", 500, "rejected", None),
            (Problem::OverShare(Scarce::Records), "store-full", 503, "rejected", Some(1)),
            (Problem::OverShare(Scarce::Questions), "overloaded", 503, "rejected", Some(1)),
            (Problem::OverShare(Scarce::Calls), "overloaded", 503, "rejected", Some(1)),
            (Problem::TooManyCalls, "overloaded", 503, "rejected", Some(1)),
            (Problem::KeyInvalid(InvalidKey::List), "key-invalid", 400, "rejected", None),
            (
                Problem::KeyMissing { header: "idempotency-key".to_owned(), pointer: None },
                "key-missing",
                400,
                "rejected",
                None,
            ),
            (Problem::KeyReused, "key-reused", 422, "key-reused", None),
            (Problem::OutcomeUnknown { retry_after: None }, "outcome-unknown", 409, "unknown", None),
            (Problem::OutcomeUnknown { retry_after: Some(LEFT) }, "outcome-unknown", 409, "unknown", Some(20)),
            (Problem::MemoryFull, "overloaded", 503, "rejected", Some(1)),
            (Problem::Overloaded, "overloaded", 503, "rejected", Some(1)),
            (Problem::RequestInFlight { age: AGE, lease_left: LEFT }, "request-in-flight", 409, "in-flight", Some(7)),
            (Problem::RequestTooLarge { limit: 1_048_576 }, "request-too-large", 413, "rejected", None),
            (Problem::ResponseNotKept { status: 201 }, "response-not-kept", 409, "not-kept", None),
            (Problem::StoreFull, "store-full", 503, "rejected", Some(1)),
            (Problem::StoreUnavailable, "store-unavailable", 503, "rejected", Some(1)),
        ]
    }

    fn document(problem: &Problem) -> Value {
        serde_json::from_slice(&problem.reply(&Policy::default()).body).unwrap()
    }

    #[test]
    fn each_problem_is_answered_as_the_contract_says() {
        for (problem, name, status, word, retry_after) in rows() {
            let reply = problem.reply(&Policy::default());
            let header = |name| reply.headers.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap());
            assert_eq!(reply.status, status, "{problem:?}");
            assert_eq!(header("content-type").as_deref(), Some("application/problem+json"));
            assert_eq!(header("idempotency-status").as_deref(), Some(word), "{problem:?}");
            assert_eq!(header("retry-after"), retry_after.map(|seconds| seconds.to_string()), "{problem:?}");
            assert_eq!(header("link"), None);

            let document = document(&problem);
            assert_eq!(document["type"], format!("urn:idemgate:{name}"));
            assert_eq!(document["status"], status);
            let word = match problem {
                // For the operator there are others of this name.
                Problem::OverShare(_) => "over_share".to_owned(),
                Problem::TooManyCalls => "too_many_calls".to_owned(),
                Problem::Unconfigured => "unconfigured".to_owned(),
                _ => name.replace('-', "_"),
            };
            assert_eq!(reply.details, format!("idemgate_{word}"));
        }
    }

    #[test]
    fn a_document_has_the_members_of_rfc_9457_and_no_empty_ones() {
        for (problem, ..) in rows() {
            let document = document(&problem);
            let members: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
            let expected: &[&str] = match problem {
                Problem::ResponseNotKept { .. } => &["detail", "error", "original_status", "status", "title", "type"],
                _ => &["detail", "error", "status", "title", "type"],
            };
            assert_eq!(members, expected);
            assert!(document["title"].as_str().is_some_and(|title| !title.is_empty() && !title.ends_with('.')));
        }
    }

    #[test]
    fn the_status_of_a_response_that_is_not_kept_is_told() {
        let document = document(&Problem::ResponseNotKept { status: 422 });
        assert_eq!(document["original_status"], 422);
        assert!(document["detail"].as_str().unwrap().contains("422"));
    }

    #[test]
    fn each_detail_says_what_to_do_next() {
        for (problem, ..) in rows() {
            let next = match problem {
                Problem::CallerUnknown => "Authenticate and send the request again with the same key.",
                Problem::ExpectationFailed => "without that header",
                Problem::HostUnsupported | Problem::Unconfigured => "Retrying does not help",
                Problem::KeyInvalid(_) => "Send one key",
                Problem::KeyMissing { .. } => "Send the request again with a header 'idempotency-key'",
                Problem::KeyReused => "Use a new key for a new operation",
                Problem::OutcomeUnknown { retry_after: None } => "Look up the state of the resource",
                Problem::OutcomeUnknown { retry_after: Some(_) }
                | Problem::MemoryFull
                | Problem::Overloaded
                | Problem::OverShare(_)
                | Problem::RequestInFlight { .. }
                | Problem::StoreFull
                | Problem::StoreUnavailable
                | Problem::TooManyCalls => "again with the same key after the time in Retry-After",
                Problem::RequestTooLarge { .. } => "Send a smaller body",
                Problem::ResponseNotKept { .. } => "Look up the resource to see the result.",
            };
            let document = document(&problem);
            let detail = document["detail"].as_str().unwrap();
            assert!(detail.contains(next), "{detail}");
            assert!(detail.ends_with('.') && !detail.contains("  "), "{detail}");
        }
    }

    #[test]
    fn each_detail_says_whether_anything_ran() {
        for (problem, ..) in rows() {
            let document = document(&problem);
            let detail = document["detail"].as_str().unwrap();
            assert!(detail.contains("executed"), "{detail}");
        }
    }

    #[test]
    fn a_detail_points_to_retry_after_exactly_if_there_is_one() {
        for (problem, .., retry_after) in rows() {
            let document = document(&problem);
            let points_to_it = document["detail"].as_str().unwrap().contains("Retry-After");
            assert_eq!(points_to_it, retry_after.is_some(), "{problem:?}");
        }
    }

    #[test]
    fn every_reason_to_refuse_a_key_says_what_to_send() {
        for reason in [
            InvalidKey::Blank,
            InvalidKey::ControlCharacter,
            InvalidKey::List,
            InvalidKey::Malformed,
            InvalidKey::NotAscii,
            InvalidKey::NoScalar,
            InvalidKey::NotUuid,
            InvalidKey::Parameters,
            InvalidKey::Repeated,
            InvalidKey::RepeatedName,
            InvalidKey::Space,
            InvalidKey::TooLong { max_length: 255 },
            InvalidKey::Unterminated,
        ] {
            let document = document(&Problem::KeyInvalid(reason));
            let detail = document["detail"].as_str().unwrap();
            let advises = ["Send ", "Write ", "Close "].iter().any(|verb| detail.contains(verb));
            assert!(detail.starts_with("Nothing was executed. ") && advises, "{detail}");
        }
    }

    #[test]
    fn who_comes_back_in_time_never_waits_longer_than_the_lease_or_less_than_a_second() {
        let retry_after = |problem: Problem| problem.row().retry.after_seconds().unwrap();
        for millis in [0, 1, 999, 1_000, 1_001, 30_000, 59_000, 61_000, 86_400_000, u64::MAX] {
            let left = Duration::from_millis(millis);
            for age in [0, 1, 1_000, 1_001, 20_000, 3_600_000, u64::MAX].map(Duration::from_millis) {
                let seconds = retry_after(Problem::RequestInFlight { age, lease_left: left });
                assert!((1..=left.as_secs().clamp(1, 60)).contains(&seconds), "{seconds} s of {left:?}");
                assert!(Duration::from_secs(seconds - 1) <= age, "{seconds} s for one of {age:?}");
            }
            // Here the lease must be over first, so its last second counts in full.
            let seconds = retry_after(Problem::OutcomeUnknown { retry_after: Some(left) });
            assert!(Duration::from_secs(seconds) >= left);
            assert_eq!(seconds, millis.div_ceil(1000).max(1));
        }
    }

    #[test]
    fn the_longer_the_first_one_has_run_the_longer_is_the_pause() {
        let lease_left = Duration::from_secs(3_600);
        let mut age = Duration::from_millis(40);
        let mut pauses = Vec::new();
        while age < Duration::from_secs(120) {
            let pause = Problem::RequestInFlight { age, lease_left }.row().retry.after_seconds().unwrap();
            pauses.push(pause);
            age += Duration::from_secs(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60]);
    }

    #[test]
    fn the_documentation_is_linked_and_the_status_can_be_left_out() {
        let docs_uri = Some("https://docs.example/retries".to_owned());
        let reply = Problem::KeyReused.reply(&Policy { docs_uri, status_header: false, ..Policy::default() });
        let link = reply.headers.get("link");
        assert_eq!(link, Some(b"<https://docs.example/retries>; rel=\"describedby\"".as_slice()));
        assert_eq!(reply.headers.get("idempotency-status"), None);
    }

    /// A policy with these settings of `problems`.
    fn problems(settings: &str) -> Policy {
        let config = crate::config::Config::parse(format!(r#"{{"problems": {settings}}}"#).as_bytes()).unwrap();
        Policy::clone(&config.policy)
    }

    #[test]
    fn the_configuration_knows_all_names_and_no_others() {
        let mut names: Vec<_> = rows().iter().map(|(problem, ..)| problem.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, crate::config::PROBLEM_NAMES);
    }

    #[test]
    fn hints_say_that_a_retry_can_help_exactly_where_retry_after_does() {
        for (problem, .., retry_after) in rows() {
            let reply = problem.reply(&Policy::default());
            let expected: &[u8] = if retry_after.is_some() { b"true" } else { b"false" };
            for name in ["x-should-retry", "stripe-should-retry"] {
                let values: Vec<_> = reply.headers.get_all(name).collect();
                assert_eq!(values, [expected], "{problem:?} {name}");
            }
            let without = problem.reply(&problems(r#"{"retry_hints": false}"#));
            assert!(!without.headers.iter().any(|(name, _)| name.ends_with(b"should-retry")), "{problem:?}");
            assert_eq!(without.body, reply.body);
        }
    }

    #[test]
    fn the_member_by_which_sdks_know_a_failure_says_the_same() {
        for (problem, name, ..) in rows() {
            let document = document(&problem);
            let expected =
                serde_json::json!({"type": "idempotency_error", "code": name, "message": document["detail"]});
            assert_eq!(document["error"], expected);
            let reply = problem.reply(&problems(r#"{"error_member": false}"#));
            let without: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(without.get("error"), None);
        }
    }

    #[test]
    fn a_problem_with_another_status_keeps_all_else() {
        let policy = problems(r#"{"status": {"key-reused": 409, "store-full": 429}}"#);
        for (problem, name, status, ..) in rows() {
            let expected = match name {
                "key-reused" => 409,
                "store-full" => 429,
                _ => status,
            };
            let (reply, default) = (problem.reply(&policy), problem.reply(&Policy::default()));
            assert_eq!((reply.status, &reply.headers), (expected, &default.headers), "{problem:?}");
            let document: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(
                (&document["status"], &document["type"]),
                (&expected.into(), &format!("urn:idemgate:{name}").into())
            );
        }
    }

    #[test]
    fn a_template_is_the_whole_body_of_each_problem() {
        let text = r#"{
            "body": {"type": "invalid_request", "code": "${name}", "message": "${title}. ${detail}", "status": "${status}"},
            "status": {"key-reused": 409}
        }"#;
        let policy = problems(text);
        for (problem, name, ..) in rows() {
            let reply = problem.reply(&policy);
            let message = format!("{}. {}", problem.title(), problem.detail());
            let expected = serde_json::json!({"type": "invalid_request", "code": name, "message": message, "status": reply.status});
            assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap(), expected);
            assert_eq!(reply.headers.get("content-type"), Some(b"application/json".as_slice()));
        }
        let policy = problems(r#"{"body": ["${name}"], "content_type": "application/vnd.acme+json; v=1"}"#);
        let reply = Problem::KeyReused.reply(&policy);
        assert_eq!((reply.status, &*reply.body), (422, br#"["key-reused"]"#.as_slice()));
        assert_eq!(reply.headers.get("content-type"), Some(b"application/vnd.acme+json; v=1".as_slice()));
    }

    #[test]
    fn a_header_name_cannot_break_the_document() {
        let document = document(&Problem::KeyMissing { header: "a\"b\\c".to_owned(), pointer: None });
        assert!(document["detail"].as_str().unwrap().contains("'a\"b\\c'"));
    }

    #[test]
    fn no_cache_keeps_a_problem() {
        for (problem, ..) in rows() {
            assert_eq!(problem.reply(&Policy::default()).headers.get("cache-control"), Some(b"no-store".as_slice()));
        }
    }
}
