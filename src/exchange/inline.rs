//! An execution in the client's own stream: the request goes down the filter chain.

use super::{
    capture::Capture,
    event::Event,
    outcome::{self, Delivery, Evidence, LONGEST_TEXT, UpstreamAnswer, Verdict},
    reply::{is_sendable, replayable},
    state::{Answering, AwaitEnd, AwaitResponse, AwaitText, Execution, State},
    step::Step,
    vocabulary::Status,
};
use crate::{headers::Headers, record::StoredResponse, store::Ending};

impl AwaitResponse {
    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::ResponseHeaders { status, headers, evidence, end_of_stream } => {
                self.on_headers(status, headers, evidence, end_of_stream, step)
            }
            Event::Gone { evidence } => self.on_gone(evidence, step),
            _ => State::AwaitResponse(self),
        }
    }

    fn on_headers(
        self,
        status: u16,
        headers: &Headers,
        evidence: &Evidence,
        end_of_stream: bool,
        step: &mut Step<'_>,
    ) -> State {
        let judgement = match evidence.delivery() {
            Delivery::NeverSent => {
                step.mark(Status::Rejected, headers);
                return self.execution.settle(Ending::Released, Answering::response(end_of_stream), step);
            }
            Delivery::Uncertain => Verdict::Unknown.into(),
            Delivery::Answered => {
                let text = end_of_stream.then_some(b"".as_slice());
                outcome::judge(&UpstreamAnswer { status, headers, text }, evidence, &step.policy.outcome)
            }
        };
        step.mark(judgement.word, headers);
        let ending = match judgement.verdict {
            Verdict::Release => Ending::Released,
            Verdict::Unknown => Ending::Unknown,
            Verdict::Tombstone(status) => Ending::NotKept(status),
            Verdict::Unread => {
                let (headers, evidence) = (headers.clone(), evidence.clone());
                let execution = self.execution;
                return State::AwaitText(AwaitText { execution, status, headers, evidence, text: Vec::new() });
            }
            Verdict::Store if !self.execution.may_keep(headers) => Ending::NotKept(status),
            Verdict::Store => match replayable(headers, step.policy) {
                headers if is_sendable(&headers) => {
                    let capture = Capture::new(step.policy.limits.response_body);
                    let state = AwaitEnd { execution: self.execution, status, headers, capture };
                    return if end_of_stream { state.on_end(step) } else { State::AwaitEnd(state) };
                }
                _ => Ending::NotKept(status),
            },
        };
        self.execution.settle(ending, Answering::response(end_of_stream), step)
    }

    fn on_gone(self, evidence: &Evidence, step: &mut Step<'_>) -> State {
        match evidence.delivery_without_response() {
            Delivery::NeverSent => {
                step.tell(Status::Rejected);
                self.execution.settle(Ending::Released, Answering::Done, step)
            }
            Delivery::Answered | Delivery::Uncertain => cut(self.execution, step),
        }
    }
}

impl AwaitEnd {
    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::ResponseBody { chunk, end_of_stream } => self.on_body(chunk, end_of_stream, step),
            Event::ResponseTrailers => self.on_end(step),
            // A second response on one stream is one in place of the first, which never got to its end.
            Event::Gone { .. } | Event::ResponseHeaders { .. } => cut(self.execution, step),
            _ => State::AwaitEnd(self),
        }
    }

    fn on_body(mut self, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) -> State {
        if step.has_room(self.capture.growth(chunk.len())) {
            self.capture.push(chunk);
        } else {
            self.capture = Capture::Overflown;
        }
        if end_of_stream { self.on_end(step) } else { State::AwaitEnd(self) }
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        let ending = match self.capture {
            Capture::Whole { body, .. } => {
                Ending::answered(StoredResponse { status: self.status, headers: self.headers, body })
            }
            Capture::Overflown => Ending::NotKept(self.status),
        };
        self.execution.settle(ending, Answering::Held, step)
    }
}

impl AwaitText {
    pub(super) fn on(mut self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::ResponseBody { chunk, end_of_stream } => {
                let room = LONGEST_TEXT.saturating_sub(self.text.len());
                self.text.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
                if end_of_stream { self.on_end(step) } else { State::AwaitText(self) }
            }
            Event::ResponseTrailers => self.on_end(step),
            // As above.
            Event::Gone { .. } | Event::ResponseHeaders { .. } => cut(self.execution, step),
            _ => State::AwaitText(self),
        }
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        let answer = UpstreamAnswer { status: self.status, headers: &self.headers, text: Some(&self.text) };
        let judgement = outcome::judge(&answer, &self.evidence, &step.policy.outcome);
        let ending = match judgement.verdict {
            Verdict::Release => Ending::Released,
            Verdict::Tombstone(status) => Ending::NotKept(status),
            // Nothing is kept of a body that was not copied whole, and none of these leads here.
            Verdict::Store | Verdict::Unknown | Verdict::Unread => Ending::Unknown,
        };
        step.tell(judgement.word);
        self.execution.settle(ending, Answering::Held, step)
    }
}

/// The request was sent, and no whole answer came back.
fn cut(execution: Execution, step: &mut Step<'_>) -> State {
    step.tell(Status::Unknown);
    execution.settle(Ending::Unknown, Answering::Done, step)
}
