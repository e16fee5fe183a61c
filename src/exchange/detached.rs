//! An execution apart from the client's stream: the filter calls the upstream itself, so that the call
//! goes on, and its response is kept, when the client hangs up.

use super::{
    event::{CallFailure, Event},
    footprint::CALL_ANSWER,
    outcome::{self, Delivery, Evidence, LONGEST_TEXT, UpstreamAnswer, Verdict},
    problem::{Problem, push_retry_hints},
    reply::{Reply, end_to_end, is_sendable, replayable},
    state::{Answering, AwaitCall, Client, State},
    step::Step,
    vocabulary::{EXPIRES_HEADER, POLICY_HEADER, STATUS_HEADER, Status},
};
use crate::{config::OnUnknown, headers::Headers, record::StoredResponse, store::Ending};

impl AwaitCall {
    pub(super) fn on(mut self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::CallAnswered { status, headers, body } => self.on_answer(status, headers, body, step),
            Event::CallFailed(CallFailure::NotMade) => {
                self.end(Ending::Released, 503, Status::Rejected, "the upstream cannot be called", step)
            }
            Event::CallFailed(CallFailure::TooLate) => {
                let answer = match self.client {
                    Client::Waits => {
                        step.tell(Problem::Overloaded.status());
                        Answering::Owed(Problem::Overloaded.reply(step.policy))
                    }
                    Client::IsGone => Answering::Done,
                };
                self.execution.settle(Ending::Released, answer, step)
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
                // A detached call has nothing that makes the router try it again.
                let evidence = Evidence { attempts: Some(1), ..Evidence::default() };
                outcome::judge(&UpstreamAnswer { status, headers, text }, &evidence, &step.policy.outcome)
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
            return Answering::Owed(problem.reply(step.policy));
        }
        if says {
            headers.push(STATUS_HEADER, word.as_str());
        }
        Answering::Owed(Reply { status, headers, body: body.into(), details: "idemgate_detached" })
    }

    /// Ends without an answer of anybody's.
    fn end(self, ending: Ending, status: u16, word: Status, text: &str, step: &mut Step<'_>) -> State {
        let mut headers = Headers::from_iter([("content-type", "text/plain")]);
        if step.policy.problems.retry_hints {
            let may_run = ending == Ending::Released || step.policy.outcome.on_unknown == OnUnknown::Retry;
            push_retry_hints(&mut headers, may_run);
        }
        let answer = self.answer(status, &headers, text.into(), word, step);
        self.execution.settle(ending, answer, step)
    }
}
