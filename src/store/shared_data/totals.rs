//! How much of the table is in use, counted for all workers together.

use serde::{Deserialize, Serialize};

use super::{
    memory::{Change, SharedMemory, update},
    slots,
};
use crate::{
    config::{ENTRY_BYTES, SharedDataConfig},
    record::{decode, encode},
    store::StoreError,
};

/// Entries and bytes in use.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Totals {
    /// Records of every kind.
    pub entries: u64,
    /// Bytes that count against `max_bytes`.
    pub bytes: u64,
}

impl Totals {
    /// What one record takes whose stored response has `response` bytes.
    pub(super) fn of_entry(response: u32) -> Self {
        Self { entries: 1, bytes: ENTRY_BYTES + u64::from(response) }
    }

    /// What a stored response takes alone.
    pub(super) fn of_response(response: u32) -> Self {
        Self { entries: 0, bytes: u64::from(response) }
    }

    /// Whether some of the bytes are stored responses (or room taken for one).
    fn holds_responses(self) -> bool {
        self.bytes > self.entries.saturating_mul(ENTRY_BYTES)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_add(other.entries), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// What is left of this without `other`, nothing if that is more.
    pub(super) fn minus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_sub(other.entries), bytes: self.bytes.saturating_sub(other.bytes) }
    }

    /// The bound that would be broken by as much as `more`; `None` if there is room for it.
    fn excess(self, more: Self, limits: &SharedDataConfig) -> Option<Reserved> {
        let after = self.plus(more);
        if more.entries > 0 && after.entries > u64::from(limits.max_entries) {
            return Some(Reserved::TooManyEntries);
        }
        let lacking = after.bytes.checked_sub(limits.max_bytes).filter(|lacking| *lacking > 0 && more.bytes > 0)?;
        Some(Reserved::TooManyBytes { lacking, holds_responses: self.holds_responses() })
    }
}

/// The totals as they are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Sum {
    pub(super) totals: Totals,
    /// They had been damaged, and the table is still to be counted.
    pub(super) is_estimate: bool,
}

impl Sum {
    /// The value that was found; none is a table that was never used.
    fn decode(found: Option<&[u8]>) -> Result<Self, StoreError> {
        Ok(found.map(decode).transpose()?.unwrap_or_default())
    }
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reserved {
    /// All that was wished for is taken.
    Wish,
    /// What is needed is taken, and no more.
    Need,
    /// Nothing is: it would break `max_entries`.
    TooManyEntries,
    /// Nothing is: it would break `max_bytes`.
    TooManyBytes {
        /// By this number.
        lacking: u64,
        /// Whether responses are among what is there.
        holds_responses: bool,
    },
}

/// Takes `wish`, or else `need`, whichever both bounds allow; otherwise changes nothing.
///
/// Room is taken before a record is written and given back after one is gone, so that a worker that
/// dies between the two makes the table look fuller than it is, never emptier.
pub(super) fn reserve(
    memory: &impl SharedMemory,
    wish: Totals,
    need: Totals,
    limits: &SharedDataConfig,
) -> Result<Reserved, StoreError> {
    update(memory, slots::TOTALS, |found| {
        let Sum { totals, is_estimate } = Sum::decode(found)?;
        let (after, reserved) = match totals.excess(wish, limits) {
            None => (totals.plus(wish), Reserved::Wish),
            Some(_) => match totals.excess(need, limits) {
                None => (totals.plus(need), Reserved::Need),
                Some(excess) => return Ok(Change::Keep(excess)),
            },
        };
        Ok(Change::Write(encode(&Sum { totals: after, is_estimate })?, reserved))
    })
}

/// Gives room back. Where the totals cannot be read there is nothing to change: what is there is counted anew.
pub(super) fn give_back(memory: &impl SharedMemory, freed: Totals) -> Result<(), StoreError> {
    if freed == Totals::default() {
        return Ok(());
    }
    update(memory, slots::TOTALS, |found| match Sum::decode(found) {
        Err(StoreError::Unreadable(_)) => Ok(Change::Keep(())),
        sum => {
            let Sum { totals, is_estimate } = sum?;
            Ok(Change::Write(encode(&Sum { totals: totals.minus(freed), is_estimate })?, ()))
        }
    })
}

/// The totals of this moment.
pub(super) fn read(memory: &impl SharedMemory) -> Result<Sum, StoreError> {
    let found = memory.get(slots::TOTALS)?;
    Sum::decode(found.as_ref().map(|(bytes, _)| bytes.as_slice()))
}

/// Puts an estimate in the place of totals that cannot be read; does nothing if they can.
pub(super) fn repair(memory: &impl SharedMemory, estimate: Totals) -> Result<(), StoreError> {
    update(memory, slots::TOTALS, |found| match Sum::decode(found) {
        Ok(_) => Ok(Change::Keep(())),
        Err(_) => Ok(Change::Write(encode(&Sum { totals: estimate, is_estimate: true })?, ())),
    })
}

/// Puts what was counted in the place of an estimate, which was `before` when the count began.
pub(super) fn correct(memory: &impl SharedMemory, counted: Totals, before: Totals) -> Result<(), StoreError> {
    update(memory, slots::TOTALS, |found| {
        let Sum { totals, is_estimate } = Sum::decode(found)?;
        if !is_estimate {
            return Ok(Change::Keep(()));
        }
        let grown = totals.minus(before);
        // As likely as not, what was added meanwhile came to buckets that had been counted already.
        let half = Totals { entries: grown.entries / 2, bytes: grown.bytes / 2 };
        Ok(Change::Write(encode(&Sum { totals: counted.plus(half), is_estimate: false })?, ()))
    })
}
