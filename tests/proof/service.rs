//! The service behind Envoy: what it answers names the execution that it comes from.

use idemgate::{exchange::Evidence, headers::Headers};

use super::{history::AttemptId, scenario::Conduct};

/// An answer, of the service or of Envoy in its place.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) evidence: Evidence,
}

impl Response {
    /// As it passes by in the client's stream.
    pub(crate) fn of(conduct: Conduct, attempt: AttemptId) -> Self {
        let answered =
            |status, headers, body| Self { status, headers, body, evidence: evidence("via_upstream", 1, true) };
        let by_envoy = |status, evidence| Self { status, headers: Headers::new(), body: Vec::new(), evidence };
        match conduct {
            Conduct::Answers => {
                let run = attempt.to_string();
                let headers = Headers::from_iter([
                    (":status", "201"),
                    ("content-type", "application/json"),
                    ("set-cookie", "session=1"),
                    ("x-run", &run),
                    ("date", "Sun, 22 Nov 2026 07:00:00 GMT"),
                    ("x-part", "a"),
                    ("x-part", "b"),
                ]);
                answered(201, headers, body_of(attempt))
            }
            Conduct::AnswersOnce => answered(200, Headers::from_iter([("idempotency-policy", "no-store")]), Vec::new()),
            Conduct::Refuses => answered(503, Headers::new(), b"not now".to_vec()),
            Conduct::Stumbles => answered(502, Headers::new(), Vec::new()),
            Conduct::Breaks => {
                by_envoy(503, evidence("upstream_reset_before_response_started{connection_termination}", 1, true))
            }
            Conduct::TimesOut => by_envoy(504, evidence("response_timeout", 1, true)),
            Conduct::Unreachable => {
                by_envoy(503, evidence("upstream_reset_before_response_started{remote_connection_failure}", 1, false))
            }
        }
    }

    /// As it comes back from a detached call: Envoy's router marks what is the service's own.
    pub(crate) fn of_call(conduct: Conduct, attempt: AttemptId) -> Self {
        let mut response = Self::of(conduct, attempt);
        match conduct {
            Conduct::TimesOut => response.body = b"upstream request timeout".to_vec(),
            Conduct::Unreachable => {
                response.body = b"upstream connect error or disconnect/reset before headers. reset reason: remote \
                                  connection failure"
                    .to_vec();
            }
            Conduct::Breaks => {}
            Conduct::Answers | Conduct::AnswersOnce | Conduct::Refuses | Conduct::Stumbles => {
                response.headers.push("x-envoy-upstream-service-time", "3");
            }
        }
        response
    }

    /// The fields that a replay of [`Conduct::Answers`] has of it, in their order (docs/guarantees.md).
    pub(crate) fn replayed_fields(attempt: AttemptId) -> Vec<(String, String)> {
        let run = attempt.to_string();
        [("content-type", "application/json"), ("x-run", &run), ("x-part", "a"), ("x-part", "b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }
}

/// The body of the execution of an attempt; no other has the same, and each has another length.
pub(crate) fn body_of(attempt: AttemptId) -> Vec<u8> {
    format!("{{\"run\":{attempt}}}\0").into_bytes().into_iter().chain((0..=attempt as u8).rev()).collect()
}

fn evidence(details: &str, attempts: u64, connected: bool) -> Evidence {
    Evidence { details: Some(details.into()), attempts: Some(attempts), connected, redirected: false }
}
