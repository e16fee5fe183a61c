//! How soon a full table forgets: the age of the youngest key that it has given up within the last hour.
//!
//! Each worker notes the keys that it gives up, and tells the others at its next tick, so that no request has to write
//! to one more key that is common to all. The worker that evicts the first one of an hour logs it.

use std::{cell::Cell, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    memory::{Change, SharedMemory, update},
    slots,
};
use crate::{
    config::SharedDataConfig,
    record::{decode, encode},
    store::StoreError,
    time::Timestamp,
};

/// How long a key that was given up says how soon the table forgets.
const HOUR: Duration = Duration::from_hours(1);

/// A key that was given up before its time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Forgotten {
    /// How long after its operation had ended.
    pub age: Duration,
    /// How long it was to be kept.
    pub ttl: Duration,
}

impl Forgotten {
    /// What an operator is to be told, with the figures that would have kept the key.
    #[must_use]
    pub fn advice(&self, limits: &SharedDataConfig) -> String {
        let (age, ttl) = (self.age.as_millis().max(1), self.ttl.as_millis());
        let scaled = |bound: u64| u128::from(bound).saturating_mul(ttl).div_ceil(age);
        format!(
            "store.shared_data is full and forgets keys {} s after their operations ended, not {} s (ttl) after: a retry \
             that comes later runs again. At this rate ttl takes max_bytes of about {} MiB (now {} MiB) and max_entries \
             of about {} (now {})",
            age / 1000,
            ttl / 1000,
            scaled(limits.max_bytes) >> 20,
            limits.max_bytes >> 20,
            scaled(limits.max_entries.into()),
            limits.max_entries,
        )
    }

    fn younger(self, other: Option<Self>) -> Self {
        other.filter(|other| other.age <= self.age).unwrap_or(self)
    }
}

/// The youngest key that any worker gave up since then.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Hour {
    since: Timestamp,
    youngest: Forgotten,
}

/// What one worker knows of it.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// The youngest key of its own since its last tick.
    untold: Cell<Option<Forgotten>>,
    /// The youngest key of all workers, as it was at the last tick, and of its own.
    known: Cell<Option<Forgotten>>,
}

impl Horizon {
    pub(super) fn note(&self, forgotten: Forgotten) {
        self.untold.set(Some(forgotten.younger(self.untold.get())));
        self.known.set(Some(forgotten.younger(self.known.get())));
    }

    /// The youngest key that was given up of late; `None` if none was.
    pub(super) fn known(&self) -> Option<Forgotten> {
        self.known.get()
    }

    /// Publishes its own youngest key, and reads that of all. Its own, if none was evicted in the hour before.
    pub(super) fn share(&self, memory: &impl SharedMemory, now: Timestamp) -> Result<Option<Forgotten>, StoreError> {
        let own = self.untold.take();
        self.merge(own, memory, now).inspect_err(|_| self.untold.set(own))
    }

    fn merge(
        &self,
        own: Option<Forgotten>,
        memory: &impl SharedMemory,
        now: Timestamp,
    ) -> Result<Option<Forgotten>, StoreError> {
        update(memory, slots::HORIZON, |found| {
            // What cannot be read says nothing.
            let hour = found.and_then(|bytes| decode::<Hour>(bytes).ok()).filter(|hour| hour.lasts(now));
            let before = hour.map(|hour| hour.youngest);
            let youngest = own.map(|own| own.younger(before)).or(before);
            self.known.set(youngest);
            let Some(youngest) = youngest.filter(|_| youngest != before) else { return Ok(Change::Keep(None)) };
            let since = hour.map_or(now, |hour| hour.since);
            Ok(Change::Write(encode(&Hour { since, youngest })?, hour.is_none().then_some(youngest)))
        })
    }
}

impl Hour {
    fn lasts(&self, now: Timestamp) -> bool {
        !self.since.after(HOUR).has_come_for_all(now, HOUR)
    }
}
