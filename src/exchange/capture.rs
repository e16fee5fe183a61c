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

    /// How many bytes it takes.
    pub(super) fn footprint(&self) -> u64 {
        match self {
            Self::Whole { body, .. } => body.capacity() as u64,
            Self::Overflown => 0,
        }
    }

    /// How many bytes more it takes with `more` of the body.
    pub(super) fn growth(&self, length: usize) -> u64 {
        let Self::Whole { body, limit } = self else { return 0 };
        Self::capacity_for(body, body.len().saturating_add(length), *limit).saturating_sub(body.capacity()) as u64
    }

    /// Doubled, as a `Vec` grows by itself, but not past the limit.
    fn capacity_for(body: &Vec<u8>, needed: usize, limit: u64) -> usize {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        match body.capacity() {
            capacity if needed > limit || needed <= capacity => capacity,
            capacity => capacity.saturating_mul(2).clamp(needed, limit),
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let Self::Whole { body, limit } = self else { return };
        let needed = body.len().saturating_add(chunk.len());
        if needed as u64 > *limit {
            *self = Self::Overflown;
            return;
        }
        let capacity = Self::capacity_for(body, needed, *limit);
        body.reserve_exact(capacity.saturating_sub(body.len()));
        body.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capture(limit: u64, chunks: &[Vec<u8>]) -> Capture {
        let mut capture = Capture::new(limit);
        for chunk in chunks {
            capture.push(chunk);
            if let Capture::Whole { body, .. } = &capture {
                assert!(body.capacity() as u64 <= limit, "{} bytes held, limit {limit}", body.capacity());
            }
        }
        capture
    }

    #[test]
    fn an_empty_body_is_a_whole_one_whatever_the_limit() {
        assert_eq!(capture(0, &[vec![], vec![]]), Capture::Whole { body: vec![], limit: 0 });
    }

    #[test]
    fn the_limit_itself_is_within_the_limit() {
        assert!(matches!(capture(4, &[b"12".to_vec(), b"34".to_vec()]), Capture::Whole { .. }));
        assert_eq!(capture(4, &[b"12".to_vec(), b"345".to_vec()]), Capture::Overflown);
    }

    #[test]
    fn what_comes_after_too_much_is_not_a_body_again() {
        assert_eq!(capture(1, &[b"12".to_vec(), b"3".to_vec()]), Capture::Overflown);
    }

    proptest! {
        #[test]
        fn it_holds_all_chunks_in_order_or_nothing_and_never_more_than_the_limit(
            limit in 0_u64..200,
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8),
        ) {
            let whole = chunks.concat();
            let expected =
                if whole.len() as u64 <= limit { Capture::Whole { body: whole, limit } } else { Capture::Overflown };
            prop_assert_eq!(capture(limit, &chunks), expected);
        }
    }
}
