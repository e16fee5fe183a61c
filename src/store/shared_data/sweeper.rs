//! Reclaims what has ended, so that the table does not fill up with records that nobody asks for.
//!
//! Every worker ticks, and so does the main thread's VM, so one is elected: it holds a short lease in
//! shared data and goes through the buckets a few at a time. If it dies, another takes over where it
//! stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ATTEMPTS, Cas, SharedDataStore, SharedMemory, Totals, Written, slots, slots::BucketIndex, totals};
use crate::{
    record::{Owner, decode, encode},
    store::StoreError,
    time::Timestamp,
};

/// How long a sweeper that no longer ticks keeps its office.
const TERM: Duration = Duration::from_secs(10);

/// How many buckets are swept at a tick: well under a millisecond of work.
const STRIDE: u32 = 256;

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

impl<M: SharedMemory> SharedDataStore<M> {
    /// Sweeps a stretch of the table, if `worker` is the sweeper or becomes it.
    ///
    /// # Errors
    /// [`StoreError`] if a bucket or the totals cannot be read; all that can be is swept.
    pub fn sweep(&self, worker: Owner, now: Timestamp) -> Result<Sweep, StoreError> {
        let Some(first) = self.take_office(worker, now)? else { return Ok(Sweep::NotElected) };
        let mut swept = Ok(());
        for offset in 0..STRIDE.min(self.table.buckets) {
            let index = first.wrapping_add(offset).checked_rem(self.table.buckets).unwrap_or(0);
            // A bucket that cannot be read must not keep those behind it from being swept.
            swept = swept.and(self.reclaim(BucketIndex(index), now));
        }
        swept?;
        Ok(Sweep::Swept(totals::read(&self.memory)?.0))
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
