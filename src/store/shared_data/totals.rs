//! How much of the table is in use, counted for all workers together.

use serde::{Deserialize, Serialize};

use super::{
    ATTEMPTS,
    memory::{Cas, SharedMemory, Written},
    slots,
};
use crate::{
    config::SharedDataConfig,
    record::{decode, encode},
    store::StoreError,
};

/// What one record takes of `max_bytes` besides its response: its place in the index and the host's
/// own book-keeping for the keys of both (a map node and two strings each, measured on Envoy 1.40).
pub(super) const ENTRY_BYTES: u64 = 384;

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
    pub(super) fn holds_responses(self) -> bool {
        self.bytes > self.entries.saturating_mul(ENTRY_BYTES)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_add(other.entries), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// What is left of this without `other`; `None` if that is more.
    pub(super) fn checked_minus(self, other: Self) -> Option<Self> {
        let entries = self.entries.checked_sub(other.entries)?;
        Some(Self { entries, bytes: self.bytes.checked_sub(other.bytes)? })
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_sub(other.entries), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// Which bound a reservation would break.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reserved {
    /// None: it is taken.
    Done,
    /// `max_entries`.
    TooManyEntries,
    /// `max_bytes`, by so many.
    TooManyBytes(u64),
}

/// Takes `wanted`, if both bounds allow it; otherwise changes nothing.
///
/// Room is taken before a record is written and given back after one is gone, so that a worker that
/// dies between the two makes the table look fuller than it is, never emptier.
pub(super) fn reserve(
    memory: &impl SharedMemory,
    wanted: Totals,
    limits: &SharedDataConfig,
) -> Result<Reserved, StoreError> {
    for _ in 0..ATTEMPTS {
        let (totals, cas) = read(memory)?;
        let after = totals.plus(wanted);
        if wanted.entries > 0 && after.entries > u64::from(limits.max_entries) {
            return Ok(Reserved::TooManyEntries);
        }
        if wanted.bytes > 0 && after.bytes > limits.max_bytes {
            return Ok(Reserved::TooManyBytes(after.bytes - limits.max_bytes));
        }
        if memory.set(slots::TOTALS, &encode(&after)?, cas)? == Written::Done {
            return Ok(Reserved::Done);
        }
    }
    Err(StoreError::Contended)
}

/// Gives room back.
pub(super) fn give_back(memory: &impl SharedMemory, freed: Totals) -> Result<(), StoreError> {
    if freed == Totals::default() {
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        let (totals, cas) = read(memory)?;
        if memory.set(slots::TOTALS, &encode(&totals.minus(freed))?, cas)? == Written::Done {
            return Ok(());
        }
    }
    Err(StoreError::Contended)
}

/// The totals of this moment, with the version to change them by.
pub(super) fn read(memory: &impl SharedMemory) -> Result<(Totals, Cas), StoreError> {
    let Some((bytes, cas)) = memory.get(slots::TOTALS)? else {
        return Ok((Totals::default(), Cas::NEVER_ISSUED));
    };
    Ok((decode(&bytes)?, cas))
}
