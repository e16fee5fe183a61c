//! The memory of one worker under one configuration (`limits.memory`).
//!
//! Each exchange has a share, which is set to what its state takes whenever something has happened to it, and is given back
//! when it is dropped. So there is nothing to be forgotten at any of the ways in which a stream may end.

use std::{cell::Cell, rc::Rc};

/// What is taken, and what may be.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    taken: Cell<u64>,
    /// What the gauge has of it.
    shown: Cell<u64>,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self { limit, taken: Cell::default(), shown: Cell::default() })
    }

    /// How much more may be taken.
    pub(super) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.taken.get())
    }

    /// How much answers may take that a remote store has yet to take: others are to find room as well.
    pub(super) fn limit_of_records(&self) -> u64 {
        self.limit / 2
    }

    /// How much more is taken than when it was last shown.
    pub(super) fn change(&self) -> i64 {
        self.taken.get() as i64 - self.shown.replace(self.taken.get()) as i64
    }

    /// How much the gauge has of it that is over once nobody takes anything more.
    pub(super) fn shown(&self) -> u64 {
        self.shown.get()
    }
}

/// What one exchange takes.
#[derive(Debug)]
pub(super) struct Share {
    memory: Rc<Memory>,
    bytes: Cell<u64>,
}

impl Share {
    pub(super) fn new(memory: &Rc<Memory>) -> Self {
        Self { memory: Rc::clone(memory), bytes: Cell::default() }
    }

    pub(super) fn set(&self, bytes: u64) {
        let others = self.memory.taken.get().saturating_sub(self.bytes.replace(bytes));
        self.memory.taken.set(others.saturating_add(bytes));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
