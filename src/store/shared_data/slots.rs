//! Which key holds what.
//!
//! Keys can never be removed from shared data, so there is a fixed set of them. All bear one prefix,
//! because plugins with the same `vm_id` share the namespace (Istio leaves it empty for all), and a
//! version, because a new release may find what an old one left.
//!
//! Names stay within 22 bytes, which the host's strings hold without an allocation of their own.

use std::fmt::Write as _;

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
    pub(super) fn key(self) -> String {
        let mut key = String::with_capacity(KEY_LENGTH);
        // Writing to a string cannot fail.
        let _ = write!(key, "idemgate/v1/i{:x}", self.0);
        key
    }

    /// The key of the response of the record at `position` in the bucket.
    pub(super) fn response_key(self, position: u8) -> String {
        let mut key = String::with_capacity(KEY_LENGTH);
        let _ = write!(key, "idemgate/v1/r{:x}.{position:x}", self.0);
        key
    }
}

const KEY_LENGTH: usize = 24;
