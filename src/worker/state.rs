//! What a worker holds of the exchanges under one configuration, and what it can tell of them.

use std::collections::{BTreeMap, VecDeque};

use super::{
    active::ActiveExchange,
    body_watch::BodyWatch,
    host::{ExchangeId, Host, Report},
    inquiries::{Inquiries, PendingInquiry},
    memory::Memory,
    outbox::Outbox,
    turns::{self, Turns},
    waiting_room::WaitingRoom,
};
use crate::{
    exchange::{DetachedCall, Effect, Exchange},
    store::{admission, pool::Pool},
    time::{Now, Timestamp},
};

/// One worker under one configuration.
#[derive(Clone, Debug)]
pub struct Worker {
    /// All exchanges that are not finished.
    pub(super) exchanges: BTreeMap<ExchangeId, ActiveExchange>,
    /// Whether other Envoys see the same records, so that executions end without a word here.
    pub(super) is_store_remote: bool,
    pub(super) waiting_room: WaitingRoom,
    /// How many the gauge of those who wait has.
    pub(super) shown_waiting: usize,
    /// The detached calls, and when they were ordered.
    pub(super) calls: Outbox<VecDeque<(ExchangeId, DetachedCall, Timestamp)>, ExchangeId>,
    pub(super) inquiries: Inquiries,
    /// The persistent connections to a remote store, if it has any.
    pub(super) pool: Option<Pool>,
    /// Those who are to be answered because of the time.
    pub(super) overdue: VecDeque<ExchangeId>,
    pub(super) turns: Turns,
    pub(super) body_watch: BodyWatch,
    pub(super) memory: Memory,
    pub(super) worklist: Worklist,
    pub(super) root: Root,
}

/// Whether the root context looks after what is left for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Root {
    Idle,
    /// The host was asked to call back, and has not yet.
    IsCalled,
    /// It is at work, and takes turns before it returns.
    IsAtWork,
}

/// What bounds a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WorkerLimits {
    /// How many bytes its exchanges may take.
    pub memory: u64,
    /// How many replies, resumes and calls to clusters it asks of the host at a time.
    pub turns: u32,
    /// How much it asks of a remote store at a time.
    pub questions: admission::AdmissionLimits,
}

impl WorkerLimits {
    /// What Envoy can carry, within `memory` bytes.
    #[must_use]
    pub fn with_memory(memory: u64) -> Self {
        Self { memory, turns: turns::PER_CALL, questions: admission::AdmissionLimits::default() }
    }
}

/// What is to be done, and what comes of it. It is kept from one event to the next for the memory that it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Worklist {
    pub(super) round: Vec<Effect>,
    pub(super) next: Vec<Effect>,
}

impl Worker {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(limits: WorkerLimits, is_store_remote: bool, pool: Option<Pool>) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            is_store_remote,
            waiting_room: WaitingRoom::default(),
            shown_waiting: 0,
            calls: Outbox::default(),
            inquiries: Inquiries::new(limits.questions),
            pool,
            overdue: VecDeque::new(),
            turns: Turns::new(limits.turns),
            body_watch: BodyWatch::default(),
            memory: Memory::new(limits.memory),
            worklist: Worklist::default(),
            root: Root::Idle,
        }
    }

    /// An exchange, unless it is over.
    #[must_use]
    pub fn active(&self, id: ExchangeId) -> Option<&ActiveExchange> {
        self.exchanges.get(&id)
    }

    /// All exchanges that are not over.
    pub fn exchanges(&self) -> impl Iterator<Item = (ExchangeId, &ActiveExchange)> {
        self.exchanges.iter().map(|(id, active)| (*id, active))
    }

    /// All questions to a remote store that are not answered yet; those under way with their tokens.
    pub fn inquiries(&self) -> impl Iterator<Item = (Option<u32>, &PendingInquiry)> {
        self.inquiries.all()
    }

    /// Whether the end of a period at `now` would lead to something.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.exchanges.values().any(|active| active.is_due(now))
            || self.waiting_room.due(now).next().is_some()
            || self.inquiries.are_due(now)
            || self.pool.as_ref().is_some_and(|pool| pool.is_due(now))
    }

    /// Whether no call is ordered or under way.
    #[must_use]
    pub fn has_no_calls(&self) -> bool {
        self.calls.is_idle() && self.inquiries.are_over()
    }

    /// Whether requests wait for executions.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.waiting_room.len() > 0
    }

    /// Whether anything waits for its turn. Then a tick is to come soon.
    #[must_use]
    pub fn has_turns_to_take(&self) -> bool {
        self.waiting_room.has_called()
            || self.inquiries.have_next()
            || self.pool.as_ref().is_some_and(Pool::has_answers)
            || !self.calls.queue.is_empty()
            || !self.overdue.is_empty()
    }

    /// Whether the call with this token is a question to the store.
    #[must_use]
    pub fn awaits_store(&self, token: u32) -> bool {
        self.inquiries.await_answer(token)
    }

    /// Whether it is a detached call.
    #[must_use]
    pub fn awaits_upstream(&self, token: u32) -> bool {
        self.calls.awaits(token)
    }

    /// How many bytes more its exchanges take than when this was last asked.
    pub fn show_memory(&mut self) -> i64 {
        self.memory.show()
    }

    /// How many bytes it said last that they take.
    #[must_use]
    pub fn shown_memory(&self) -> u64 {
        self.memory.shown()
    }

    pub(super) fn exchange(&self, id: ExchangeId) -> Option<&Exchange> {
        self.exchanges.get(&id).map(|active| &active.exchange)
    }

    /// Has the root context go on with what was left for it.
    pub(super) fn leave_to_root(&mut self, host: &mut impl Host) {
        if self.root == Root::Idle {
            self.root = Root::IsCalled;
            host.call_back();
        }
    }

    /// Shows how many requests wait.
    pub(super) fn show_waiting(&mut self, host: &mut impl Host, now: &Now) {
        let waiting = self.waiting_room.len();
        let change = waiting as i64 - std::mem::replace(&mut self.shown_waiting, waiting) as i64;
        if change != 0 {
            host.report(Report::Waiting(change), now.get());
        }
    }

    /// Takes as much memory for an exchange as it takes now, and lets go of one that is finished.
    pub(super) fn take_stock(&mut self, id: ExchangeId) {
        let Some(active) = self.exchanges.get_mut(&id) else { return };
        if active.exchange.is_finished() {
            self.let_go(id);
        } else {
            let footprint = active.footprint();
            let before = std::mem::replace(&mut active.memory, footprint);
            self.memory.change(before, footprint);
            if !active.exchange.awaits_claim() {
                self.waiting_room.end_asking(id);
            }
        }
    }

    /// Drops an exchange to which nothing more can happen.
    pub(super) fn let_go(&mut self, id: ExchangeId) {
        if let Some(active) = self.exchanges.remove(&id) {
            self.memory.change(active.memory, 0);
            self.waiting_room.end_asking(id);
        }
    }
}
