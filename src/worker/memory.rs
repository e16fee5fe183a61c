//! The memory of one worker under one configuration (`limits.memory`).

/// What exchanges take, and may take.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    limit: u64,
    taken: u64,
    /// What the gauge has of it.
    shown: u64,
}

impl Memory {
    pub(super) const fn new(limit: u64) -> Self {
        Self { limit, taken: 0, shown: 0 }
    }

    /// How much more may be taken.
    pub(super) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.taken)
    }

    /// How much answers may take that a remote store has yet to take: others are to find room as well.
    pub(super) fn limit_of_records(&self) -> u64 {
        self.limit / 2
    }

    /// Notes that somebody takes `after` in place of `before`.
    pub(super) fn change(&mut self, before: u64, after: u64) {
        self.taken = self.taken.saturating_sub(before).saturating_add(after);
    }

    /// How much more is taken than when it was last shown.
    pub(super) fn show(&mut self) -> i64 {
        self.taken as i64 - std::mem::replace(&mut self.shown, self.taken) as i64
    }

    /// How much was shown last.
    pub(super) fn shown(&self) -> u64 {
        self.shown
    }
}
