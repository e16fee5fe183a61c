//! Which key holds what.
//!
//! Keys can never be removed from shared data, so there is a fixed set of them. All bear one prefix,
//! because plugins with the same `vm_id` share the namespace (Istio leaves it empty for all), and a
//! version, because a new release may find what an old one left.
//!
//! Names stay within 22 bytes, which the host's strings hold without an allocation of their own.

use std::{
    fmt::{self, Write as _},
    ops::Deref,
};

/// Of the table: its geometry, fixed when it is first used.
pub(super) const TABLE: &str = "idemgate/v1/table";
/// Entries and bytes in use.
pub(super) const TOTALS: &str = "idemgate/v1/totals";
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
        SlotKey::new(format_args!("idemgate/v1/i{:x}", self.0))
    }

    /// The key of the response of the record at `position` in the bucket.
    pub(super) fn response_key(self, position: u8) -> SlotKey {
        SlotKey::new(format_args!("idemgate/v1/r{:x}.{position:x}", self.0))
    }
}

/// A key, on the stack: each request reads and writes several.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotKey {
    bytes: [u8; KEY_LENGTH],
    length: usize,
}

impl SlotKey {
    fn new(name: fmt::Arguments<'_>) -> Self {
        let mut key = Self { bytes: [0; KEY_LENGTH], length: 0 };
        // It fails only for a name that is too long, and none is: `the_longest_names_fit`.
        let _ = key.write_fmt(name);
        key
    }
}

impl Deref for SlotKey {
    type Target = str;

    fn deref(&self) -> &str {
        self.bytes.get(..self.length).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Write for SlotKey {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
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
        assert_eq!(&*last.response_key(BUCKET_CAPACITY - 1), "idemgate/v1/rffffffff.f");
    }
}
