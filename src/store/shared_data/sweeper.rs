//! Reclaims what has ended, so that the table does not fill up with records that nobody asks for.
//!
//! Every worker ticks, and so does the main thread's VM, so one is elected: it holds a short lease in
//! shared data and goes through the buckets a few at a time. If it dies, another takes over where it
//! stopped.
//!
//! On its way it counts the records where that is needed: if the [totals](totals) or the [counts of callers](super::shares)
//! were damaged. Totals that cannot be read are estimated at once, from a part of the buckets and rather too high than too
//! low, so that claims go on; a walk around the table puts what it has counted in their place. The counts of callers are
//! missing until then, and nobody is over its share. What changes while it is under way makes the count wrong by as much.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ATTEMPTS, Cas, SharedDataStore, SharedMemory, Totals, Written,
    bucket::Bucket,
    shares::Sketch,
    slots,
    slots::BucketIndex,
    totals::{self, Sum},
};
use crate::{
    record::{Owner, decode, encode},
    store::StoreError,
    time::Timestamp,
};

/// How long a sweeper that no longer ticks keeps its office.
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

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Office {
    holder: Owner,
    until: Timestamp,
    next: u32,
}

impl Office {
    /// Whether its holder ticked within the last term. A term that ends later than one from now began
    /// before the clock stepped backwards, and says nothing.
    fn is_held(&self, now: Timestamp) -> bool {
        self.until > now && self.until <= now.after(TERM)
    }
}

/// A count of all records, as far as the walk has come.
#[derive(Debug)]
pub(super) struct Recount {
    /// The totals when it began.
    before: Totals,
    /// Which bucket is next.
    next: u32,
    /// How many are left.
    left: u32,
    totals: Totals,
    callers: Sketch,
}

impl Recount {
    fn see(&mut self, bucket: &Bucket) {
        self.totals = self.totals.plus(bucket.totals());
        bucket.entries().iter().filter_map(|entry| entry.caller).for_each(|tag| self.callers.add(tag));
    }
}

impl<M: SharedMemory> SharedDataStore<M> {
    /// Sweeps a stretch of the table, if `worker` is the sweeper or becomes it.
    ///
    /// # Errors
    /// [`StoreError`] if a bucket or the totals cannot be read; all that can be is swept.
    pub fn sweep(&self, worker: Owner, now: Timestamp) -> Result<Sweep, StoreError> {
        let Some(first) = self.take_office(worker, now)? else {
            self.recount.take();
            return Ok(Sweep::NotElected);
        };
        let mut recount = self.begin_recount(first)?;
        let mut swept = Ok(());
        for offset in 0..STRIDE.min(self.table.buckets) {
            let index = first.wrapping_add(offset).checked_rem(self.table.buckets).unwrap_or(0);
            let reclaimed = self.reclaim(BucketIndex(index), now);
            if let Some(recount) = recount.as_mut().filter(|recount| recount.left > 0) {
                // What cannot be read counts for nothing, as it does for those who make room.
                reclaimed.as_ref().iter().for_each(|bucket| recount.see(bucket));
                recount.left -= 1;
                recount.next = index.wrapping_add(1).checked_rem(self.table.buckets).unwrap_or(0);
            }
            // A bucket that cannot be read must not keep those behind it from being swept.
            swept = swept.and(reclaimed.map(drop));
        }
        match recount {
            Some(recount) if recount.left == 0 => self.end_recount(recount)?,
            unfinished => drop(self.recount.replace(unfinished)),
        }
        swept?;
        self.totals().map(Sweep::Swept)
    }

    /// Puts an estimate in the place of totals that cannot be read.
    pub(super) fn repair_totals(&self) -> Result<(), StoreError> {
        totals::repair(&self.memory, self.estimate())
    }

    /// What the table holds, as some of its buckets tell. Which of them a record is in is as good as random.
    fn estimate(&self) -> Totals {
        let seen = self.table.buckets.min(ESTIMATED_BY);
        let buckets = (0..seen).filter_map(|index| self.read_bucket(BucketIndex(index)).ok());
        let entries = buckets.map(|(bucket, _)| bucket.totals()).fold(Totals::default(), Totals::plus);
        if seen == self.table.buckets {
            return entries;
        }
        // Of so many buckets, a sample is a twentieth off; an eighth too much is safe, and no more than full is full.
        let scaled = |sum: u64| {
            sum.saturating_mul(u64::from(self.table.buckets)).saturating_mul(9) / (u64::from(seen.max(1)) * 8)
        };
        Totals {
            entries: scaled(entries.entries).min(self.limits.max_entries.into()),
            bytes: scaled(entries.bytes).min(self.limits.max_bytes),
        }
    }

    /// The count that is under way, or a new one if one is needed.
    fn begin_recount(&self, first: u32) -> Result<Option<Recount>, StoreError> {
        let Sum { totals, is_estimate } = match totals::read(&self.memory) {
            Err(StoreError::Unreadable(_)) => {
                self.repair_totals()?;
                totals::read(&self.memory)?.0
            }
            found => found?.0,
        };
        let goes_on = |recount: &Recount| recount.next == first;
        let begin = || Recount {
            before: totals,
            next: first,
            left: self.table.buckets,
            totals: Totals::default(),
            callers: Sketch::default(),
        };
        // The sweeper may be a worker that gets no requests, such as the main thread's.
        let is_needed = is_estimate || self.shares.are_unknown(&self.memory)?;
        Ok(is_needed.then(|| self.recount.take().filter(goes_on).unwrap_or_else(begin)))
    }

    fn end_recount(&self, recount: Recount) -> Result<(), StoreError> {
        // What workers have taken ahead is not there to be counted, and will be given back.
        let Totals { entries, bytes } = self.allowance.ahead();
        let ahead = Totals { entries: entries * WORKERS, bytes: bytes * WORKERS };
        totals::correct(&self.memory, recount.totals.plus(ahead), recount.before)?;
        self.shares.put(&recount.callers, &self.memory)
    }

    /// Takes or keeps the office, and says from where to sweep.
    fn take_office(&self, worker: Owner, now: Timestamp) -> Result<Option<u32>, StoreError> {
        for _ in 0..ATTEMPTS {
            let (first, cas) = match self.memory.get(slots::SWEEPER)? {
                None => (0, Cas::NEVER_ISSUED),
                Some((bytes, cas)) => {
                    // One that cannot be read is vacant: at worst two workers sweep for a while.
                    let office = decode::<Office>(&bytes).ok();
                    if office.is_some_and(|office| office.holder != worker && office.is_held(now)) {
                        return Ok(None);
                    }
                    (office.map_or(0, |office| office.next), cas)
                }
            };
            let next = first.wrapping_add(STRIDE).checked_rem(self.table.buckets).unwrap_or(0);
            let office = Office { holder: worker, until: now.after(TERM), next };
            if self.memory.set(slots::SWEEPER, &encode(&office)?, cas)? == Written::Done {
                return Ok(Some(first));
            }
        }
        Err(StoreError::Contended)
    }
}
