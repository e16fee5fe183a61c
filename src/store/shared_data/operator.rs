//! What an operator sees of the table, and changes in it.

use super::{memory::SharedMemory, slots::BucketIndex, store::SharedDataStore};
use crate::{
    config::SharedDataConfig,
    record::{Amended, Amendment, Record, Standing, View},
    request::{OperationId, OperationPrefix},
    store::StoreError,
    time::Timestamp,
};

/// A walk through all records, a stretch at a time, so that no other request waits for all of it.
///
/// The table goes on changing meanwhile: a record that is there all the time is seen once, and one that comes or goes
/// may be seen or not.
#[derive(Debug)]
pub struct TableScan {
    next: u32,
    sought: Option<OperationPrefix>,
    /// The operations whose hashes begin as sought, and their records; not more than [`MOST_FOUND`](Self::MOST_FOUND).
    pub found: Vec<(OperationId, View)>,
    /// Executions under way.
    pub in_flight: u64,
    /// Executions that ended with a response that is kept.
    pub completed: u64,
    /// Executions that ended with one that is not.
    pub not_kept: u64,
    /// Executions of unknown outcome, those with a lapsed lease among them.
    pub unknown: u64,
    /// Buckets that cannot be read: what they hold is not counted.
    pub unreadable: u64,
}

impl TableScan {
    /// Enough to say that a prefix is not unique, and to choose from.
    pub const MOST_FOUND: usize = 16;

    /// A walk that counts records, and picks those whose hashes begin as `sought`.
    #[must_use]
    pub fn new(sought: Option<OperationPrefix>) -> Self {
        Self { next: 0, sought, found: Vec::new(), in_flight: 0, completed: 0, not_kept: 0, unknown: 0, unreadable: 0 }
    }

    fn see(&mut self, operation: &OperationId, view: View) {
        *match view.standing {
            Standing::Completed { .. } => &mut self.completed,
            Standing::InFlight { .. } => &mut self.in_flight,
            Standing::Lapsed | Standing::Unknown { .. } => &mut self.unknown,
            Standing::NotKept { .. } => &mut self.not_kept,
        } += 1;
        if self.found.len() < Self::MOST_FOUND && self.sought.is_some_and(|sought| sought.matches(operation)) {
            self.found.push((*operation, view));
        }
    }
}

impl<M: SharedMemory> SharedDataStore<M> {
    /// The bounds of the table.
    #[must_use]
    pub fn limits(&self) -> &SharedDataConfig {
        &self.limits
    }

    /// What is known of an operation.
    ///
    /// # Errors
    /// [`StoreError`] if its bucket cannot be read.
    pub fn look(&self, operation: &OperationId, now: Timestamp) -> Result<Option<View>, StoreError> {
        let (bucket, _) = self.read_bucket(self.index_of(operation))?;
        let record = bucket.find(operation).map(|entry| &entry.record).filter(|record| !record.is_expired(now));
        Ok(record.map(|record| record.view(now)))
    }

    /// Does to a record what an operator wants, in one compare-and-swap on its bucket.
    ///
    /// # Errors
    /// [`StoreError`] if its bucket cannot be read or written; then nothing was changed.
    pub fn amend(&self, operation: &OperationId, amendment: Amendment, now: Timestamp) -> Result<Amended, StoreError> {
        let amend = |record: &Record| {
            if record.is_expired(now) {
                return Err(Amended::NoRecord);
            }
            record.amended(amendment, now).map_err(Amended::Refused)
        };
        Ok(match self.change(operation, &Amended::NoRecord, amend)? {
            Ok(changed) => {
                // What cannot be given back counts as taken from now on; the change stands all the same.
                let _ = self.give_back(&changed);
                let before = changed.entry.record;
                Amended::Done { before: before.view(now), watchers: before.watchers().to_vec() }
            }
            Err(amended) => amended,
        })
    }

    /// Goes on with a walk through the table for a stretch of it; `true` once it has seen all.
    pub fn scan(&self, scan: &mut TableScan, now: Timestamp) -> bool {
        let end = scan.next.saturating_add(BUCKETS_PER_STEP).min(self.table.buckets);
        for index in scan.next..end {
            match self.read_bucket(BucketIndex(index)) {
                Ok((bucket, _)) => {
                    for entry in bucket.entries().iter().filter(|entry| !entry.record.is_expired(now)) {
                        scan.see(&entry.operation, entry.record.view(now));
                    }
                }
                Err(_) => scan.unreadable += 1,
            }
        }
        scan.next = end;
        end == self.table.buckets
    }
}

/// How many buckets one stretch of a walk has: a few milliseconds of work.
const BUCKETS_PER_STEP: u32 = 2048;
