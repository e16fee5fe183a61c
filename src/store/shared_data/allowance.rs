//! Room in the table that a worker has taken ahead of its need.
//!
//! The totals live under one key. If every claim and response updated it, every request would contend for that key. So a
//! worker takes room for several records in one step, and
//! gives back at its next tick what it has not used. Room counts as used from the moment it is taken, so the bounds
//! hold; what it costs is that a table may count as full when there is still room for as many records as the other
//! workers have taken ahead. Where that would matter, in a small table, room is taken record by record.
//!
//! A worker that dies leaves behind what it had taken: room for [`MOST_ENTRIES`] records and [`MOST_BYTES`] at most.

use std::cell::Cell;

use super::{
    memory::SharedMemory,
    totals::{self, Reserved, Totals},
};
use crate::{config::SharedDataConfig, store::StoreError};

/// How many records room is taken for ahead, at most.
const MOST_ENTRIES: u32 = 16;

/// How many bytes are taken ahead, at most, with records and responses together.
const MOST_BYTES: u64 = 64 << 10;

/// No more than this part of the table is taken ahead by one worker.
const PART: u32 = 4096;

/// What one worker has taken and not used.
#[derive(Debug)]
pub(super) struct Allowance {
    /// What it takes ahead; nothing in a small table.
    full: Totals,
    left: Cell<Totals>,
}

impl Allowance {
    /// Nothing taken yet.
    pub(super) fn new(limits: &SharedDataConfig) -> Self {
        let entries = u64::from(MOST_ENTRIES.min(limits.max_entries / PART));
        let bytes = if entries == 0 { 0 } else { MOST_BYTES.min(limits.max_bytes / u64::from(PART)) };
        Self { full: Totals { entries, bytes }, left: Cell::default() }
    }

    /// What is taken ahead at most.
    pub(super) fn ahead(&self) -> Totals {
        self.full
    }

    /// Takes `wanted`: from what is left, and what that lacks from the table, together with more if the table has it.
    pub(super) fn take(
        &self,
        wanted: Totals,
        memory: &impl SharedMemory,
        limits: &SharedDataConfig,
    ) -> Result<Reserved, StoreError> {
        let left = self.left.get();
        let lacking = wanted.minus(left);
        if lacking == Totals::default() {
            self.left.set(left.minus(wanted));
            return Ok(Reserved::Need);
        }
        let refill = self.full.minus(left);
        let reserved = totals::reserve(memory, wanted.plus(refill), lacking, limits)?;
        match reserved {
            Reserved::Wish => self.left.set(left.plus(refill)),
            Reserved::Need => self.left.set(left.minus(wanted)),
            Reserved::TooManyEntries | Reserved::TooManyBytes { .. } => {}
        }
        Ok(reserved)
    }

    /// Keeps room that this worker has made, which counts as used all the while.
    pub(super) fn keep(&self, made: Totals) {
        self.left.set(self.left.get().plus(made));
    }

    /// Gives back to the table what is left beyond what is taken ahead.
    pub(super) fn give_back_surplus(&self, memory: &impl SharedMemory) -> Result<(), StoreError> {
        let left = self.left.get();
        let surplus = left.minus(self.full);
        self.left.set(left.minus(surplus));
        totals::give_back(memory, surplus).inspect_err(|_| self.left.set(left))
    }

    /// Gives back to the table what is left.
    pub(super) fn give_back(&self, memory: &impl SharedMemory) -> Result<(), StoreError> {
        let left = self.left.take();
        totals::give_back(memory, left).inspect_err(|_| self.left.set(left))
    }
}
