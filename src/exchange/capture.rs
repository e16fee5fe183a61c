//! The copy of a response that is taken while it streams to the client.

/// A copy with a bound: past it the copy is dropped, and the stream goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Capture {
    /// Everything so far.
    Whole { body: Vec<u8>, limit: u64 },
    /// The response is larger than the limit.
    Overflown,
}

impl Capture {
    pub(super) fn new(limit: u64) -> Self {
        Self::Whole { body: Vec::new(), limit }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        if let Self::Whole { body, limit } = self {
            if body.len() as u64 + chunk.len() as u64 > *limit {
                *self = Self::Overflown;
            } else {
                body.extend_from_slice(chunk);
            }
        }
    }
}
