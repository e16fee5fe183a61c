//! An execution in the client's own stream: the request goes down the filter chain.

use super::{
    Event, State, Status, Step,
    capture::Capture,
    execution::Execution,
    outcome::{self, Delivery, Evidence, Verdict},
    reply::replayable,
    settling::Answering,
};
use crate::{headers::Headers, record::StoredResponse, store::Ending, time::Timestamp};

/// Runs the operation, and waits for the response.
#[derive(Clone, Debug)]
pub(super) struct AwaitResponse {
    execution: Execution,
}

/// Copies the response while it passes, and waits for its end.
#[derive(Clone, Debug)]
pub(super) struct AwaitEnd {
    execution: Execution,
    status: u16,
    headers: Headers,
    capture: Capture,
}

impl AwaitResponse {
    pub(super) fn new(execution: Execution) -> Self {
        Self { execution }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.execution.is_due(now)
    }

    pub(super) fn on(mut self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::ResponseHeaders { status, headers, evidence, end_of_stream } => {
                self.on_headers(status, headers, evidence, end_of_stream, step)
            }
            Event::Gone { evidence } => self.on_gone(evidence, step),
            Event::Tick => {
                self.execution.renew_if_due(step);
                State::AwaitResponse(self)
            }
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
        let verdict = match evidence.delivery() {
            Delivery::NeverSent => {
                step.mark(Status::Rejected, headers);
                return self.execution.settle(Ending::Released, Answering::response(end_of_stream), step);
            }
            Delivery::Uncertain => Verdict::Unknown,
            Delivery::Answered => outcome::judge(status, headers, evidence, &step.policy.outcome),
        };
        step.mark(verdict.status(), headers);
        let ending = match verdict {
            Verdict::Release => Ending::Released,
            Verdict::Unknown => Ending::Unknown,
            Verdict::Tombstone => Ending::NotKept(status),
            Verdict::Store => {
                let state = AwaitEnd {
                    execution: self.execution,
                    status,
                    headers: replayable(headers, step.policy),
                    capture: Capture::new(step.policy.limits.response_body),
                };
                return if end_of_stream { state.on_end(step) } else { State::AwaitEnd(state) };
            }
        };
        self.execution.settle(ending, Answering::response(end_of_stream), step)
    }

    fn on_gone(self, evidence: &Evidence, step: &mut Step<'_>) -> State {
        match evidence.delivery_without_response() {
            Delivery::NeverSent => {
                step.tell(Status::Rejected);
                self.execution.settle(Ending::Released, Answering::Done, step)
            }
            Delivery::Answered | Delivery::Uncertain => {
                step.tell(Status::Unknown);
                self.execution.settle(Ending::Unknown, Answering::Done, step)
            }
        }
    }
}

impl AwaitEnd {
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.execution.is_due(now)
    }

    pub(super) fn on(mut self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::ResponseBody { chunk, end_of_stream } => self.on_body(chunk, end_of_stream, step),
            Event::ResponseTrailers => self.on_end(step),
            // A second response on one stream is one in place of the first, which never got to its end.
            Event::Gone { .. } | Event::ResponseHeaders { .. } => self.on_cut(step),
            Event::Tick => {
                self.execution.renew_if_due(step);
                State::AwaitEnd(self)
            }
            _ => State::AwaitEnd(self),
        }
    }

    fn on_body(mut self, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) -> State {
        self.capture.push(chunk);
        if end_of_stream { self.on_end(step) } else { State::AwaitEnd(self) }
    }

    fn on_cut(self, step: &mut Step<'_>) -> State {
        step.tell(Status::Unknown);
        self.execution.settle(Ending::Unknown, Answering::Done, step)
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        let ending = match self.capture {
            Capture::Whole { body, .. } => {
                Ending::Completed(StoredResponse { status: self.status, headers: self.headers, body })
            }
            Capture::Overflown => Ending::NotKept(self.status),
        };
        self.execution.settle(ending, Answering::Held, step)
    }
}
