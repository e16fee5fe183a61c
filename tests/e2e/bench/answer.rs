//! What the upstream does with one request.

use hyper::body::Bytes;

use super::gate::Gate;

/// One scripted answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(super) held_by: Option<Gate>,
    pub(super) head: Option<Head>,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// What follows the head, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A reset in the middle of the message.
    Cut,
    Data(Bytes),
    /// The same again and again, as long as somebody takes it.
    Endless(Bytes),
    Hold(Gate),
    Trailer(&'static str, &'static str),
}

impl Answer {
    /// An answer with `status`, no field and no body.
    pub(crate) fn new(status: u16) -> Self {
        Self { held_by: None, head: Some(Head { status, headers: Vec::new() }), steps: Vec::new() }
    }

    /// No answer: the connection (HTTP/2: the stream) ends once the request was read.
    pub(crate) fn hang_up() -> Self {
        Self { held_by: None, head: None, steps: Vec::new() }
    }

    /// Nothing, not even the head, is sent before `gate` is open.
    pub(crate) fn held_by(mut self, gate: &Gate) -> Self {
        self.held_by = Some(gate.clone());
        self
    }

    pub(crate) fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        if let Some(head) = &mut self.head {
            head.headers.push((name.into(), value.into()));
        }
        self
    }

    /// A body of known length.
    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.header("content-length", body.len().to_string()).chunk(body)
    }

    /// A JSON body of known length.
    pub(crate) fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// A part of a body of unknown length.
    pub(crate) fn chunk(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Data(data.into().into()));
        self
    }

    /// From here on the same data for ever.
    pub(crate) fn then_endlessly(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Endless(data.into().into()));
        self
    }

    /// What follows is sent once `gate` is open.
    pub(crate) fn then_held_by(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Hold(gate.clone()));
        self
    }

    /// The message ends here without being complete.
    pub(crate) fn then_cut(mut self) -> Self {
        self.steps.push(Step::Cut);
        self
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.steps.push(Step::Trailer(name, value));
        self
    }
}
