//! An execution apart from the client's stream: the filter calls the upstream itself, so that the call
//! goes on, and its response is kept, when the client hangs up.

use super::{
    CallFailure, EXPIRES_HEADER, Event, POLICY_HEADER, Problem, STATUS_HEADER, State, Status, Step,
    execution::Execution,
    footprint::CALL_ANSWER,
    outcome::{self, Answer, Delivery, Evidence, LONGEST_TEXT, Verdict},
    reply::{Reply, end_to_end, is_sendable, own_fields, replayable},
    settling::Answering,
};
use crate::{config::Policy, headers::Headers, record::StoredResponse, store::Ending, time::Timestamp};

/// A call to be made.
#[derive(Clone, Eq, PartialEq)]
pub struct Job {
    /// Envoy's name of the cluster that executes.
    pub cluster: String,
    /// The request's fields as the upstream is to get them.
    pub headers: Headers,
    /// The whole body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Job {
    /// Neither fields nor body: they are the caller's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("cluster", &self.cluster).field("body", &self.body.len()).finish_non_exhaustive()
    }
}

impl Job {
    /// The call that `request` asks for; its body is still to come.
    pub(super) fn new(cluster: String, request: &Headers, policy: &Policy) -> Self {
        let own = own_fields(policy);
        let is_own = |name: &[u8]| own.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        let drops = &policy.execution.drop_headers;
        let is_dropped = |name: &[u8]| drops.iter().any(|dropped| name.eq_ignore_ascii_case(dropped.as_bytes()));
        let passes_on = |name: &[u8]| !steers_router(name) && !is_own(name) && !is_dropped(name);
        let mut headers: Headers = end_to_end(request).filter(|(name, _)| passes_on(name)).collect();
        // A cluster may have a retry policy of its own. The router obeys this, and does not send it on.
        headers.push("x-envoy-max-retries", "0");
        Self { cluster, headers, body: Vec::new() }
    }
}

/// Fields by which a client could make Envoy's router try a call again, or give up on it early: the
/// policy's own timeout and exactly one attempt are what the outcome is judged by.
fn steers_router(name: &[u8]) -> bool {
    const NAMES: [&str; 11] = [
        "expect",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-max-retries",
        "x-envoy-retriable-header-names",
        "x-envoy-retriable-status-codes",
        "x-envoy-retry-grpc-on",
        "x-envoy-retry-on",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-rq-timeout-ms",
    ];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Runs the operation, and waits for the whole answer.
#[derive(Clone, Debug)]
pub(super) struct AwaitCall {
    execution: Execution,
    /// How much the request takes besides its body.
    held: u64,
    /// Bytes of the request's body.
    body: u64,
    client: Client,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Client {
    Waits,
    IsGone,
}

impl AwaitCall {
    pub(super) fn new(execution: Execution, held: u64, body: u64) -> Self {
        Self { execution, held, body, client: Client::Waits }
    }

    /// The call has a copy of the body, and as long as the client waits, Envoy holds it as well.
    pub(super) fn footprint(&self) -> u64 {
        let copies = if self.client == Client::Waits { 2 } else { 1 };
        self.held + CALL_ANSWER + self.body.saturating_mul(copies)
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.execution.is_due(now)
    }

    pub(super) fn on(mut self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::CallAnswered { status, headers, body } => self.on_answer(status, headers, body, step),
            Event::CallFailed(CallFailure::NotMade) => {
                self.end(Ending::Released, 503, Status::Rejected, "the upstream cannot be called", step)
            }
            Event::CallFailed(CallFailure::Reset) => {
                self.end(Ending::Unknown, 502, Status::Unknown, "the upstream's answer was lost", step)
            }
            Event::Gone { .. } => {
                self.client = Client::IsGone;
                State::AwaitCall(self)
            }
            // Envoy itself answers, by a timeout of its own; the call goes on.
            Event::ResponseHeaders { headers, .. } if self.client == Client::Waits => {
                step.mark(Status::Unknown, headers);
                self.client = Client::IsGone;
                State::AwaitCall(self)
            }
            Event::Tick => {
                self.execution.renew_if_due(step);
                State::AwaitCall(self)
            }
            _ => State::AwaitCall(self),
        }
    }

    fn on_answer(self, status: u16, headers: &Headers, body: Vec<u8>, step: &mut Step<'_>) -> State {
        if status < 200 {
            // No final status (RFC 9110, section 15.2), and so nothing that a client could be answered with.
            return self.end(Ending::Unknown, 502, Status::Unknown, "the upstream's answer has no status", step);
        }
        let judgement = match outcome::delivery_of_call(headers, &body) {
            Delivery::NeverSent => {
                let answer = self.answer(status, headers, body, Status::Rejected, step);
                return self.execution.settle(Ending::Released, answer, step);
            }
            Delivery::Uncertain => Verdict::Unknown.into(),
            Delivery::Answered => {
                let text = Some(body.get(..LONGEST_TEXT).unwrap_or(&body));
                // A job has nothing that makes the router try it again.
                let evidence = Evidence { attempts: Some(1), ..Evidence::default() };
                outcome::judge(&Answer { status, headers, text }, &evidence, &step.policy.outcome)
            }
        };
        step.note_policy_word(headers);
        let ending = match judgement.verdict {
            Verdict::Release => Ending::Released,
            Verdict::Unknown | Verdict::Unread => Ending::Unknown,
            Verdict::Store if !self.execution.may_keep(headers) => Ending::NotKept(status),
            Verdict::Store if !step.has_room((body.len() as u64).saturating_sub(CALL_ANSWER)) => {
                Ending::NotKept(status)
            }
            Verdict::Store if body.len() as u64 <= step.policy.limits.response_body => {
                match replayable(headers, step.policy) {
                    headers if is_sendable(&headers) => {
                        Ending::answered(StoredResponse { status, headers, body: body.clone() })
                    }
                    _ => Ending::NotKept(status),
                }
            }
            Verdict::Store => Ending::NotKept(status),
            Verdict::Tombstone(status) => Ending::NotKept(status),
        };
        let answer = self.answer(status, headers, body, judgement.word, step);
        self.execution.settle(ending, answer, step)
    }

    /// The answer as the client gets it, if the client is still there.
    fn answer(&self, status: u16, headers: &Headers, body: Vec<u8>, word: Status, step: &mut Step<'_>) -> Answering {
        if self.client == Client::IsGone {
            return Answering::Done;
        }
        step.tell(word);
        let says = step.policy.status_header;
        let replay_header = step.policy.replay.header.as_str();
        let is_ours = |name: &[u8]| {
            [POLICY_HEADER, EXPIRES_HEADER, replay_header].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
                || says && name.eq_ignore_ascii_case(STATUS_HEADER.as_bytes())
        };
        let mut headers: Headers = end_to_end(headers).filter(|(name, _)| !is_ours(name)).collect();
        if !is_sendable(&headers) {
            // The client can be told no more than its retry will be.
            let problem = Problem::ResponseNotKept { status };
            step.tell(problem.status());
            return Answering::Owed(problem.reply(step.policy.docs_uri.as_deref(), says));
        }
        if says {
            headers.push(STATUS_HEADER, word.as_str());
        }
        Answering::Owed(Reply { status, headers, body: body.into(), details: "idemgate_detached" })
    }

    /// Ends without an answer of anybody's.
    fn end(self, ending: Ending, status: u16, word: Status, text: &str, step: &mut Step<'_>) -> State {
        let headers = Headers::from_iter([("content-type", "text/plain")]);
        let answer = self.answer(status, &headers, text.into(), word, step);
        self.execution.settle(ending, answer, step)
    }
}
