//! Reclaims what has ended, so that the table does not fill up with records that nobody asks for.
//!
//! Every worker ticks, and so does the main thread's VM, so one is elected: it holds a short lease in
//! shared data and goes through the buckets a few at a time. If it dies, another takes over where it
//! stopped.
//!
//! On its way it counts the records, and puts that in the place of [totals](totals) or [counts of callers](super::shares)
//! that were damaged. Totals that cannot be read are estimated at once, from a part of the buckets and rather too high than
//! too low, so that claims go on. The counts of callers are missing until then, and nobody is over its share. What changes
//! while a walk is under way makes its count wrong by as much.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    lease::Lease,
    memory::{SharedMemory, update_hint},
    recount::Recount,
    shares::Sketch,
    slots,
    slots::BucketIndex,
    store::SharedDataStore,
    totals::{self, Totals},
};
use crate::{record::Owner, store::StoreError, time::Timestamp};

/// How long a sweeper that no longer ticks stays the sweeper.
const TERM: Duration = Duration::from_secs(10);

/// How many buckets are swept at a tick: well under a millisecond of work.
const STRIDE: u32 = 256;

/// How many buckets an estimate looks at.
const ESTIMATED_BY: u32 = 128;

/// How many workers' room taken ahead is allowed for in a count.
const WORKERS: u64 = 16;

/// What a worker's tick came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sweep {
    /// This worker is the sweeper; the table now holds this much.
    Swept(Totals),
    /// Another worker is.
    NotElected,
}

/// Who sweeps, and which bucket is next.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Sweeper {
    lease: Lease,
    next: u32,
}

impl<M: SharedMemory> SharedDataStore<M> {
    /// Sweeps a stretch of the table, if `worker` is the sweeper or becomes it.
    ///
    /// # Errors
    /// [`StoreError`] if a bucket or the totals cannot be read; all that can be is swept.
    pub fn sweep(&self, worker: Owner, now: Timestamp) -> Result<Sweep, StoreError> {
        let Some(first) = self.elect(worker, now)? else {
            self.recount.take();
            return Ok(Sweep::NotElected);
        };
        let mut recount = self.begin_recount(first)?;
        let mut swept = Ok(());
        for offset in 0..STRIDE.min(self.table.buckets) {
            let index = first.wrapping_add(offset).checked_rem(self.table.buckets).unwrap_or(0);
            let reclaimed = self.reclaim(BucketIndex(index), now);
            if recount.left > 0 {
                // What cannot be read counts for nothing, as it does for those who make room.
                reclaimed.as_ref().iter().for_each(|bucket| recount.see(bucket));
                recount.left -= 1;
                recount.next = index.wrapping_add(1).checked_rem(self.table.buckets).unwrap_or(0);
            }
            // A bucket that cannot be read must not keep those behind it from being swept.
            swept = swept.and(reclaimed.map(drop));
        }
        if recount.left == 0 {
            self.end_recount(&recount)?;
        } else {
            self.recount.replace(Some(recount));
        }
        swept?;
        self.totals().map(Sweep::Swept)
    }

    /// Puts an estimate in the place of totals that cannot be read.
    pub(super) fn repair_totals(&self) -> Result<(), StoreError> {
        totals::repair(&self.memory, self.estimate())
    }

    /// What the table holds, as some of its buckets tell. Which of them a record is in is in effect random.
    fn estimate(&self) -> Totals {
        let seen = self.table.buckets.min(ESTIMATED_BY);
        let buckets = (0..seen).filter_map(|index| self.read_bucket(BucketIndex(index)).ok());
        let entries = buckets.map(|(bucket, _)| bucket.totals()).fold(Totals::default(), Totals::plus);
        if seen == self.table.buckets {
            return entries;
        }
        // A sample of this size is a twentieth off; an eighth too much is safe, and no more than full is full.
        let scaled = |sum: u64| {
            sum.saturating_mul(u64::from(self.table.buckets)).saturating_mul(9) / (u64::from(seen.max(1)) * 8)
        };
        Totals {
            entries: scaled(entries.entries).min(self.limits.max_entries.into()),
            bytes: scaled(entries.bytes).min(self.limits.max_bytes),
        }
    }

    /// The count that is under way, or a new one.
    fn begin_recount(&self, first: u32) -> Result<Recount, StoreError> {
        let before = match totals::read(&self.memory) {
            Err(StoreError::Unreadable(_)) => {
                self.repair_totals()?;
                totals::read(&self.memory)?
            }
            found => found?,
        };
        // The sweeper may be a worker that gets no requests, such as the main thread's, and look at nothing else.
        let shares = self.shares.look(&self.memory)?;
        let begin = || Recount {
            before,
            shares,
            next: first,
            left: self.table.buckets,
            totals: Totals::default(),
            callers: Sketch::default(),
        };
        // One that began before the totals were damaged cannot tell what has changed since.
        let goes_on = |recount: &Recount| recount.next == first && recount.before.is_estimate == before.is_estimate;
        Ok(self.recount.take().filter(goes_on).unwrap_or_else(begin))
    }

    fn end_recount(&self, recount: &Recount) -> Result<(), StoreError> {
        if recount.before.is_estimate {
            // What workers have taken ahead is not there to be counted, and will be given back.
            let Totals { entries, bytes } = self.allowance.ahead();
            let ahead = Totals { entries: entries * WORKERS, bytes: bytes * WORKERS };
            totals::correct(&self.memory, recount.totals.plus(ahead), recount.before.totals)?;
        }
        self.shares.correct(&recount.callers, recount.shares, WORKERS, &self.memory)
    }

    /// Makes `worker` the sweeper, or keeps it so, if no other is; says from where to sweep.
    fn elect(&self, worker: Owner, now: Timestamp) -> Result<Option<u32>, StoreError> {
        let mut first = 0;
        // One that cannot be read is none: at worst two workers sweep for a while.
        let is_elected = update_hint(&self.memory, slots::SWEEPER, |sweeper: Sweeper| {
            first = sweeper.next;
            let next = first.wrapping_add(STRIDE).checked_rem(self.table.buckets).unwrap_or(0);
            Some(Sweeper { lease: sweeper.lease.take(worker, TERM, now)?, next })
        })?;
        Ok(is_elected.then_some(first))
    }
}
