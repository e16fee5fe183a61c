//! The sweeper's count of all records.

use super::{
    bucket::Bucket,
    memory::Cas,
    shares::Sketch,
    totals::{Sum, Totals},
};

/// A count of all records, as far as the walk has come.
#[derive(Debug)]
pub(super) struct Recount {
    /// The totals when it began.
    pub(super) before: Sum,
    /// The version of the counts of callers when it began.
    pub(super) shares: Cas,
    /// Which bucket is next.
    pub(super) next: u32,
    /// How many are left.
    pub(super) left: u32,
    pub(super) totals: Totals,
    pub(super) callers: Sketch,
}

impl Recount {
    pub(super) fn see(&mut self, bucket: &Bucket) {
        self.totals = self.totals.plus(bucket.totals());
        bucket.entries().iter().filter_map(|entry| entry.caller).for_each(|tag| self.callers.add(tag));
    }
}
