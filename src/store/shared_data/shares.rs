//! How many records each caller has in the table, as far as it matters: whether one has more than its share.
//!
//! Nobody can count callers one by one in bounded memory, so they are counted in a sketch (count-min): each caller has one
//! counter in each of [`ROWS`] rows, which its [`Tag`] names, and its count is the least of them. It is too high by the
//! records of those who share all of its counters, never too low. A caller with few records is taken for one with many
//! only if others with many share its counter in every row: with three such others, for one caller in 50 million. All
//! the small ones together add 1/256 of all records. A tag is hashed with the table's seed, so that nobody can choose
//! whose counters to share.
//!
//! The sketch is one value in shared data, and each worker has a copy. A worker tells the others what it has changed
//! after as many changes as it reserves room ahead for ([`allowance`](super::allowance)), and at its ticks; in a small table
//! after each. So a caller may exceed its share by as many records for each worker.
//!
//! Plain numbers, little-endian. Each change counts once in each row, so all rows have the same sum: a value in which
//! they have not is damaged. Then nobody is over its share until the sweeper has counted anew. So it is as well if a
//! counter would fall below zero, because a worker died before it told what it had added. If it died before it told what
//! it had taken away, the counts are too high until the sweeper finds fewer records than they say on a walk on which less
//! than that was added.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::{
    memory::{Cas, Change, SharedMemory, update},
    slots,
};
use crate::{config::Share, store::StoreError};

/// Rows of counters.
const ROWS: usize = 4;

/// Counters in a row: one for each value of a byte.
const COLUMNS: usize = 256;

/// Which counters are a caller's: one in each row.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Tag(u32);

impl Tag {
    /// The tag of a caller with this keyed hash.
    pub(super) fn new(hash: u64) -> Self {
        Self(hash as u32)
    }

    /// Where its counters are.
    fn places(self) -> impl Iterator<Item = usize> {
        self.0.to_le_bytes().into_iter().enumerate().map(|(row, column)| row * COLUMNS + usize::from(column))
    }
}

/// The counters of all callers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sketch {
    counters: Vec<u32>,
    /// How many records are counted.
    total: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counters: vec![0; ROWS * COLUMNS], total: 0 }
    }
}

impl Sketch {
    pub(super) fn add(&mut self, tag: Tag) {
        self.change(tag, |counter| counter.saturating_add(1));
        self.total += 1;
    }

    /// Takes one record away; `false` if there was none.
    pub(super) fn remove(&mut self, tag: Tag) -> bool {
        if self.count(tag) == 0 {
            return false;
        }
        self.change(tag, |counter| counter.saturating_sub(1));
        self.total = self.total.saturating_sub(1);
        true
    }

    /// `false` if there was nothing to take away.
    fn apply(&mut self, tag: Tag, delta: Delta) -> bool {
        match delta {
            Delta::Added => {
                self.add(tag);
                true
            }
            Delta::Removed => self.remove(tag),
        }
    }

    fn change(&mut self, tag: Tag, change: impl Fn(u32) -> u32) {
        for place in tag.places() {
            if let Some(counter) = self.counters.get_mut(place) {
                *counter = change(*counter);
            }
        }
    }

    /// How many records a caller has, or some more.
    pub(super) fn count(&self, tag: Tag) -> u64 {
        let counters = tag.places().map(|place| self.counters.get(place).copied().unwrap_or_default());
        counters.min().unwrap_or_default().into()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.counters.iter().flat_map(|counter| counter.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (counters, rest) = bytes.as_chunks();
        let counters: Vec<_> = counters.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let mut sums = counters.chunks(COLUMNS).map(|row| row.iter().copied().map(u64::from).sum::<u64>());
        let total = sums.next()?;
        let is_whole = rest.is_empty() && counters.len() == ROWS * COLUMNS && sums.all(|sum| sum == total);
        is_whole.then_some(Self { counters, total })
    }
}

/// What one worker knows of it.
#[derive(Debug)]
pub(super) struct Shares {
    /// How many changes are told at once.
    batch: usize,
    counts: RefCell<Counts>,
    /// What the others do not know of.
    untold: RefCell<Vec<(Tag, Delta)>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delta {
    Added,
    Removed,
}

/// The sketch as it was when it was last looked at, with the worker's own changes since.
#[derive(Debug, Default)]
enum Counts {
    #[default]
    Unseen,
    /// They are damaged, and will be counted anew.
    Unknown,
    Known(Sketch),
}

impl Counts {
    fn apply(&mut self, tag: Tag, delta: Delta) {
        if let Self::Known(sketch) = self {
            sketch.apply(tag, delta);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        if let Self::Known(sketch) = self { sketch.to_bytes() } else { Vec::new() }
    }
}

impl Shares {
    /// Nothing is known yet. In a table in which a worker reserves room for `ahead` records.
    pub(super) fn new(ahead: u64) -> Self {
        Self {
            batch: usize::try_from(ahead).unwrap_or(usize::MAX).max(1),
            counts: RefCell::default(),
            untold: RefCell::default(),
        }
    }

    /// Whether a caller may have one more of `places` records.
    pub(super) fn allow(
        &self,
        share: Share,
        tag: Tag,
        places: u32,
        memory: &impl SharedMemory,
    ) -> Result<bool, StoreError> {
        if self.batch == 1 || matches!(*self.counts.borrow(), Counts::Unseen) {
            self.look(memory)?;
        }
        Ok(match &*self.counts.borrow() {
            Counts::Known(sketch) => share.allows(sketch.count(tag), sketch.total, places.into()),
            Counts::Unseen | Counts::Unknown => true,
        })
    }

    /// Whether a caller has as many of `places` records as one may, for all that is known.
    pub(super) fn is_held(&self, share: Share, tag: Tag, places: u32) -> bool {
        let places = u64::from(places);
        matches!(&*self.counts.borrow(), Counts::Known(sketch) if !share.allows(sketch.count(tag), places, places))
    }

    /// Notes one more record.
    pub(super) fn add(&self, tag: Tag, memory: &impl SharedMemory) {
        self.note(tag, Delta::Added, memory);
    }

    /// Notes that a record is gone.
    pub(super) fn remove(&self, tag: Tag, memory: &impl SharedMemory) {
        self.note(tag, Delta::Removed, memory);
    }

    fn note(&self, tag: Tag, delta: Delta, memory: &impl SharedMemory) {
        self.counts.borrow_mut().apply(tag, delta);
        let mut untold = self.untold.borrow_mut();
        untold.push((tag, delta));
        let is_time = untold.len() >= self.batch;
        drop(untold);
        if is_time {
            // What cannot be told now is told at the next tick.
            let _ = self.tell(memory);
        }
    }

    /// Publishes its changes, and reads those of the others. To be called every second or so.
    pub(super) fn tell(&self, memory: &impl SharedMemory) -> Result<(), StoreError> {
        if matches!(*self.counts.borrow(), Counts::Unseen) && self.untold.borrow().is_empty() {
            // Nobody is bound by a share here.
            return Ok(());
        }
        update(memory, slots::SHARES, |found| {
            let is_damaged = self.hear(found);
            let has_news = !self.untold.borrow().is_empty();
            let says_it = has_news && !is_damaged;
            Ok(if says_it { Change::Write(self.counts.borrow().bytes(), ()) } else { Change::Keep(()) })
        })?;
        self.untold.borrow_mut().clear();
        Ok(())
    }

    /// Puts what was counted in the place of what is not known, and of what is too high for sure: by more than may have
    /// been added since the version `seen`, when the count began, and not have been told of by as many `workers`. One
    /// counter numbers the writes to all keys, and each record that comes is a write.
    pub(super) fn correct(
        &self,
        counted: &Sketch,
        seen: Cas,
        workers: u64,
        memory: &impl SharedMemory,
    ) -> Result<(), StoreError> {
        let cas = self.look(memory)?;
        let untold = workers.saturating_mul(self.batch as u64 - 1);
        let most = counted.total.saturating_add(untold).saturating_add(cas.0.wrapping_sub(seen.0).into());
        let is_wrong = match &*self.counts.borrow() {
            Counts::Known(told) => told.total > most,
            Counts::Unknown => true,
            Counts::Unseen => false,
        };
        if is_wrong {
            // If somebody else has written meanwhile, the next count tells.
            memory.set(slots::SHARES, &counted.to_bytes(), cas)?;
        }
        Ok(())
    }

    /// Looks at what all have told, and adds what this worker has not; the version of it.
    pub(super) fn look(&self, memory: &impl SharedMemory) -> Result<Cas, StoreError> {
        let found = memory.get(slots::SHARES)?;
        self.hear(found.as_ref().map(|(bytes, _)| bytes.as_slice()));
        Ok(found.map_or(Cas::NEVER_ISSUED, |(_, cas)| cas))
    }

    /// Takes in what all have told, and adds what this worker has not; whether it is damaged.
    fn hear(&self, found: Option<&[u8]>) -> bool {
        let told = found.map_or_else(|| Some(Sketch::default()), Sketch::from_bytes);
        let is_damaged = told.is_none();
        let mut untold = self.untold.borrow_mut();
        let seen = told.and_then(|mut sketch| {
            let fits = untold.iter().all(|(tag, delta)| sketch.apply(*tag, *delta));
            fits.then_some(sketch)
        });
        *self.counts.borrow_mut() = seen.map_or(Counts::Unknown, Counts::Known);
        untold.truncate(MOST_UNTOLD);
        is_damaged
    }
}

/// What is remembered for a host that refuses to be told. What is beyond is missing until the sweeper counts anew.
const MOST_UNTOLD: usize = 1024;
