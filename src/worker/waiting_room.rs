//! The requests of this worker that wait for executions, by operation.
//!
//! A wake-up names an operation and never a stream, so that one which comes late, twice, or from a VM
//! that has been replaced meanwhile finds nobody and does nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::host::ExchangeId;
use crate::{
    config::Policy,
    exchange::NoRoom,
    request::{Caller, OperationId},
    time::Timestamp,
};

/// How often the store is asked about an execution that another Envoy may run.
pub const POLL: Duration = Duration::from_millis(100);

/// Who waits, and for what.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRoom {
    groups: BTreeMap<OperationId, Group>,
    /// Who asks again, and whose they are. They keep their places, as most of them come back.
    asking: BTreeMap<ExchangeId, Option<Caller>>,
    /// How many places are taken.
    waiting: usize,
    /// How many of them each caller has.
    by_caller: BTreeMap<Option<Caller>, usize>,
    called: Called,
}

/// Those who wait for one operation.
#[derive(Clone, Debug)]
struct Group {
    /// In the order in which they came, so that one who has to wait on keeps its place; and whose they are.
    exchanges: BTreeMap<ExchangeId, Option<Caller>>,
    /// When the owner of the execution may be found dead.
    recheck: Timestamp,
}

/// The operations whose first request is to ask again, each once, in the order of their turns.
#[derive(Clone, Debug, Default)]
struct Called {
    order: VecDeque<OperationId>,
    members: BTreeSet<OperationId>,
}

impl WaitingRoom {
    /// Lets an exchange of this caller wait, unless as many wait as may, or as many of its caller. One that has asked again
    /// has its place.
    pub(super) fn enter(
        &mut self,
        operation: OperationId,
        (exchange, caller): (ExchangeId, Option<Caller>),
        policy: &Policy,
        recheck: Timestamp,
    ) -> Result<(), NoRoom> {
        if self.asking.remove(&exchange).is_none() {
            self.take_place(caller, policy)?;
        }
        let group = self.groups.entry(operation).or_insert_with(|| Group { exchanges: BTreeMap::new(), recheck });
        group.recheck = recheck;
        group.exchanges.insert(exchange, caller);
        Ok(())
    }

    /// Takes an exchange out.
    pub(super) fn leave(&mut self, operation: &OperationId, exchange: ExchangeId) {
        if let Some((_, caller)) = self.take(operation, |group| group.exchanges.remove_entry(&exchange)) {
            self.free_place(caller);
        }
    }

    /// Frees the place of an exchange that has asked again and does not wait on.
    pub(super) fn end_asking(&mut self, exchange: ExchangeId) {
        if let Some(caller) = self.asking.remove(&exchange) {
            self.free_place(caller);
        }
    }

    /// Calls those who wait for an operation, if anybody does: the first of them is to ask again when its turn comes.
    pub(super) fn call(&mut self, operation: &OperationId) {
        if self.groups.contains_key(operation) && self.called.members.insert(*operation) {
            self.called.order.push_back(*operation);
        }
    }

    /// The same for all operations.
    pub(super) fn call_all(&mut self) {
        let operations: Vec<_> = self.groups.keys().copied().collect();
        operations.iter().for_each(|operation| self.call(operation));
    }

    /// The first of those who wait for the operation whose turn it is; it is to ask again, and then to wait on or to end
    /// asking. If the next of them is to have a turn, when all other operations have had theirs, the operation is to be
    /// called again.
    pub(super) fn next_called(&mut self) -> Option<(OperationId, ExchangeId)> {
        loop {
            let operation = self.called.next()?;
            // All who waited for it may have left meanwhile.
            if let Some((exchange, caller)) = self.take(&operation, |group| group.exchanges.pop_first()) {
                self.asking.insert(exchange, caller);
                return Some((operation, exchange));
            }
        }
    }

    pub(super) fn has_called(&self) -> bool {
        !self.called.order.is_empty()
    }

    /// Whether an exchange waits for an operation.
    pub(super) fn has(&self, operation: &OperationId, exchange: ExchangeId) -> bool {
        self.groups.get(operation).is_some_and(|group| group.exchanges.contains_key(&exchange))
    }

    /// The operations whose owners may be found dead now.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = OperationId> {
        self.groups.iter().filter(move |(_, group)| group.recheck <= now).map(|(operation, _)| *operation)
    }

    /// Puts off the next look at an operation.
    pub(super) fn postpone(&mut self, operation: &OperationId, recheck: Timestamp) {
        if let Some(group) = self.groups.get_mut(operation) {
            group.recheck = recheck;
        }
    }

    /// How many wait, those who ask again included.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    fn take(
        &mut self,
        operation: &OperationId,
        choose: impl FnOnce(&mut Group) -> Option<(ExchangeId, Option<Caller>)>,
    ) -> Option<(ExchangeId, Option<Caller>)> {
        let group = self.groups.get_mut(operation)?;
        let chosen = choose(group);
        if group.exchanges.is_empty() {
            self.groups.remove(operation);
        }
        chosen
    }

    fn take_place(&mut self, caller: Option<Caller>, policy: &Policy) -> Result<(), NoRoom> {
        let (taken, places) = (self.waiting as u64, policy.duplicates.max_waiting.into());
        if taken >= places {
            return Err(NoRoom::AllTaken);
        }
        let held = self.by_caller.get(&caller).copied().unwrap_or_default();
        if !policy.limits.caller_share.allows(held as u64, taken, places) {
            return Err(NoRoom::OverShare);
        }
        self.waiting += 1;
        self.by_caller.insert(caller, held + 1);
        Ok(())
    }

    fn free_place(&mut self, caller: Option<Caller>) {
        self.waiting = self.waiting.saturating_sub(1);
        match self.by_caller.get_mut(&caller) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(self.by_caller.remove(&caller)),
        }
    }
}

impl Called {
    fn next(&mut self) -> Option<OperationId> {
        let operation = self.order.pop_front()?;
        self.members.remove(&operation);
        Some(operation)
    }
}
