//! Bytes as text: base64 with the alphabet and the padding of RFC 4648, section 4.
//!
//! The crate `base64` (0.22) adds 6.7 KB to the module, this one 1. The tests compare them.

use std::iter;

/// Encodes bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    let (groups, rest) = bytes.as_chunks();
    for group in groups {
        text.extend(digits_of(*group));
    }
    let last = match *rest {
        [a, b] => Some((digits_of([a, b, 0]), 1)),
        [a] => Some((digits_of([a, 0, 0]), 2)),
        _ => None,
    };
    if let Some((digits, padding)) = last {
        text.extend(digits.into_iter().take(4 - padding).chain(iter::repeat_n(PADDING, padding)));
    }
    String::from_utf8(text).unwrap_or_default()
}

/// The digits of one group. A store's call has some hundreds of them, so nothing here may branch.
fn digits_of([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    [18, 12, 6, 0].map(|shift| ALPHABET.get(bits >> shift & 63).copied().unwrap_or(PADDING))
}

/// Decodes what [`encode`] wrote, and nothing else.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut groups = text.as_bytes().chunks(4).peekable();
    while let Some(group) = groups.next() {
        let padding = group.iter().rev().take_while(|digit| **digit == PADDING).count();
        if group.len() != 4 || padding > 2 || padding > 0 && groups.peek().is_some() {
            return None;
        }
        let digits = group.get(..4 - padding)?;
        let bits = digits.iter().try_fold(0_u32, |bits, digit| Some(bits << 6 | value_of(*digit)?))? << (6 * padding);
        let [_, all @ ..] = bits.to_be_bytes();
        let (kept, rest) = all.split_at_checked(3 - padding)?;
        // One spelling of each.
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn value_of(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const PADDING: u8 = b'=';

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_are_written_as_the_crate_writes_them_and_read_back(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let text = encode(&bytes);
            prop_assert_eq!(&text, &STANDARD.encode(&bytes));
            prop_assert_eq!(decode(&text), Some(bytes));
        }

        #[test]
        fn any_text_is_read_as_the_crate_reads_it(text in "[A-Da-d0-3+/=]{0,12}|.{0,8}") {
            prop_assert_eq!(decode(&text), STANDARD.decode(&text).ok());
        }
    }
}
