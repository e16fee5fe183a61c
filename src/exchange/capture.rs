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
        let Self::Whole { body, limit } = self else { return };
        let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
        let needed = body.len().saturating_add(chunk.len());
        if needed > limit {
            *self = Self::Overflown;
            return;
        }
        if needed > body.capacity() {
            // Doubled, as a `Vec` grows by itself, but not past the limit.
            let capacity = body.capacity().saturating_mul(2).clamp(needed, limit);
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(chunk);
    }
}
