//! Which key holds what.
//!
//! Keys can never be removed from shared data, so there is a fixed set of them. All have one prefix,
//! because plugins with the same `vm_id` share the namespace (Istio leaves it empty for all), and a
//! version, because a new release may find what an old one left.
//!
//! Names stay within 23 bytes; in tables of up to four million entries within 22, which the host's strings hold without an
//! allocation of their own.

use std::ops::Deref;

/// Of the table: its geometry, fixed when it is first used.
pub(super) const TABLE: &str = "idemgate/v1/table";
/// Entries and bytes in use.
pub(super) const TOTALS: &str = "idemgate/v1/totals";
/// Which segments of the queue of responses are written.
pub(super) const QUEUE: &str = "idemgate/v1/queue";
/// How many records each caller has.
pub(super) const SHARES: &str = "idemgate/v1/shares";
/// How soon the table forgets.
pub(super) const HORIZON: &str = "idemgate/v1/horizon";
/// Who sweeps, and how far it got.
pub(super) const SWEEPER: &str = "idemgate/v1/sweeper";

/// How many records one bucket holds at most.
///
/// Four times what it holds on average in a full table: with keys spread at random, one bucket in a
/// million is full when the table is.
pub(super) const BUCKET_CAPACITY: u8 = 16;

/// How many records a bucket holds on average in a full table; a claim copies about as many.
pub(super) const BUCKET_LOAD: u32 = 4;

/// One of the table's index slots.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct BucketIndex(pub(super) u32);

impl BucketIndex {
    /// The key of the bucket.
    pub(super) fn key(self) -> SlotKey {
        SlotKey::default().text("idemgate/v1/i").hex(self.0)
    }

    /// The key of the response of the record at `position` in the bucket.
    pub(super) fn response_key(self, position: u8) -> SlotKey {
        SlotKey::default().text("idemgate/v1/r").hex(self.0).text(".").hex(position.into())
    }
}

/// The key of a segment of the queue of responses.
pub(super) fn segment_key(place: u32) -> SlotKey {
    SlotKey::default().text("idemgate/v1/q").hex(place)
}

/// A key, on the stack: each request reads and writes several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotKey {
    bytes: [u8; KEY_LENGTH],
    length: usize,
}

impl SlotKey {
    fn text(mut self, text: &str) -> Self {
        let end = self.length + text.len();
        // No name is too long: `the_longest_names_fit`.
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(text.as_bytes());
            self.length = end;
        }
        self
    }

    /// As `{:x}` has it, without the machinery of `core::fmt`: each request makes half a dozen keys.
    fn hex(mut self, number: u32) -> Self {
        let digits = (u32::BITS - number.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            if let Some(place) = self.bytes.get_mut(self.length) {
                let value = (number >> (4 * digit)) as u8 & 0xf;
                *place = if value < 10 { b'0' + value } else { b'a' - 10 + value };
                self.length += 1;
            }
        }
        self
    }
}

impl Deref for SlotKey {
    type Target = str;

    fn deref(&self) -> &str {
        self.bytes.get(..self.length).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

/// What the longest name takes, that of a response, in a table of any size.
const KEY_LENGTH: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_fit() {
        let last = BucketIndex(u32::MAX);
        assert_eq!(&*last.key(), "idemgate/v1/iffffffff");
        assert_eq!(&*segment_key(u32::MAX), "idemgate/v1/qffffffff");
        assert_eq!(&*last.response_key(BUCKET_CAPACITY - 1), "idemgate/v1/rffffffff.f");
    }

    #[test]
    fn a_number_has_no_zeros_in_front() {
        for number in [0, 1, 9, 10, 0xf, 0x10, 0xa0, 0xff, 0x100, 0x1234_5678, 0x9abc_def0] {
            assert_eq!(*BucketIndex(number).key(), format!("idemgate/v1/i{number:x}"));
        }
        assert_eq!(&*BucketIndex(0).response_key(0), "idemgate/v1/r0.0");
    }
}
