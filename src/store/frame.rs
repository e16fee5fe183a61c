//! The frames around the messages of a gRPC stream, which the host puts on and wants to find: a byte that is zero, and the
//! length of the message in four. Between them and a store that knows none stands the role `store_stream`.

/// Takes the frames off what is sent, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct Unframer {
    /// The beginning of a frame that is not all there.
    header: Vec<u8>,
    /// What the message under way still lacks.
    lacking: usize,
}

/// How many bytes stand in front of a message.
pub const HEADER: usize = 5;

impl Unframer {
    /// Whether the next `size` bytes, which begin like this, are one frame with its whole message.
    #[must_use]
    pub fn is_at_whole_frame(&self, beginning: &[u8], size: usize) -> bool {
        let is_between = self.lacking == 0 && self.header.is_empty();
        is_between && beginning == frame_header(size.saturating_sub(HEADER)) && size >= HEADER
    }

    /// The messages' bytes in these.
    #[must_use]
    pub fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut messages = Vec::with_capacity(bytes.len());
        while let Some((&first, behind)) = bytes.split_first() {
            if self.lacking > 0 {
                let (message, behind) = bytes.split_at(self.lacking.min(bytes.len()));
                messages.extend_from_slice(message);
                self.lacking -= message.len();
                bytes = behind;
                continue;
            }
            self.header.push(first);
            bytes = behind;
            if let [_, length @ ..] = self.header.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.lacking = u32::from_be_bytes(length) as usize;
                self.header.clear();
            }
        }
        messages
    }
}

/// What is put in front of `length` bytes that have come.
#[must_use]
pub fn frame_header(length: usize) -> [u8; HEADER] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_out_as_they_were_put_in_however_the_bytes_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..6),
            cuts in prop::collection::vec(1_usize..40, 0..60),
        ) {
            let mut framed = Vec::new();
            for message in &messages {
                framed.extend(frame_header(message.len()));
                framed.extend(message);
            }
            let (mut unframer, mut rest, mut taken) = (Unframer::default(), framed.as_slice(), Vec::new());
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                if unframer.is_at_whole_frame(&piece[..HEADER.min(piece.len())], piece.len()) {
                    taken.extend(&piece[HEADER..]);
                } else {
                    taken.extend(unframer.take(piece));
                }
                rest = behind;
            }
            taken.extend(unframer.take(rest));
            prop_assert_eq!(taken, messages.concat());
        }
    }
}
