//! The requests of this worker that wait for executions, by operation.
//!
//! A wake-up names an operation and never a stream, so that one which comes late, twice, or from a VM
//! that has been replaced meanwhile finds nobody and does nothing.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use super::guest::Guest;
use crate::{
    exchange::NoRoom,
    request::{Caller, OperationId},
    time::Timestamp,
};

/// Who waits, and for what.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    groups: RefCell<BTreeMap<OperationId, Box<Group>>>,
    guests: Cell<usize>,
    /// How many of them each caller has.
    by_caller: RefCell<BTreeMap<Option<Caller>, usize>>,
    called: RefCell<Called>,
}

/// Those who wait for one operation.
#[derive(Debug)]
struct Group {
    /// By number: in the order in which they came, so that one who has to wait on keeps its place.
    guests: BTreeMap<u64, Rc<Guest>>,
    /// When the owner of the execution may be found dead.
    recheck: Timestamp,
}

/// The operations of which the first one is to ask again, each once, in the order of their turns.
#[derive(Debug, Default)]
struct Called {
    order: VecDeque<OperationId>,
    members: BTreeSet<OperationId>,
}

impl WaitingRoom {
    /// Lets a guest wait, unless as many wait as may, or as many of its caller.
    pub(super) fn enter(&self, operation: OperationId, guest: &Rc<Guest>, recheck: Timestamp) -> Result<(), NoRoom> {
        let (taken, places) = (self.len() as u64, guest.route.policy.duplicates.max_waiting.into());
        if taken >= places {
            return Err(NoRoom::AllTaken);
        }
        let mut by_caller = self.by_caller.borrow_mut();
        let held = by_caller.get(&guest.caller()).copied().unwrap_or_default();
        if !guest.route.policy.limits.caller_share.allows(held as u64, taken, places) {
            return Err(NoRoom::OverShare);
        }
        let mut groups = self.groups.borrow_mut();
        let group = groups.entry(operation).or_insert_with(|| Box::new(Group { guests: BTreeMap::new(), recheck }));
        group.recheck = recheck;
        if group.guests.insert(guest.number, Rc::clone(guest)).is_none() {
            self.guests.set(self.guests.get() + 1);
            by_caller.insert(guest.caller(), held + 1);
        }
        Ok(())
    }

    /// Takes a guest out.
    pub(super) fn leave(&self, operation: &OperationId, guest: &Guest) {
        self.take(operation, |group| group.guests.remove(&guest.number));
    }

    /// Calls those who wait for an operation, if anybody does: the first of them is to ask again when its turn comes.
    pub(super) fn call(&self, operation: &OperationId) {
        let mut called = self.called.borrow_mut();
        if self.groups.borrow().contains_key(operation) && called.members.insert(*operation) {
            called.order.push_back(*operation);
        }
    }

    /// The same for all operations.
    pub(super) fn call_all(&self) {
        let operations: Vec<_> = self.groups.borrow().keys().copied().collect();
        operations.iter().for_each(|operation| self.call(operation));
    }

    /// The first of those who wait for the operation whose turn it is, taken out. If the next of them is to have a turn,
    /// when all other operations have had theirs, the operation is to be called again.
    pub(super) fn next_called(&self) -> Option<(OperationId, Rc<Guest>)> {
        loop {
            let operation = self.called.borrow_mut().next()?;
            // All who waited for it may have left meanwhile.
            if let Some(guest) = self.take(&operation, |group| group.guests.pop_first().map(|(_, guest)| guest)) {
                return Some((operation, guest));
            }
        }
    }

    pub(super) fn has_called(&self) -> bool {
        !self.called.borrow().order.is_empty()
    }

    /// Whether a guest waits for an operation.
    pub(super) fn has(&self, operation: &OperationId, guest: &Guest) -> bool {
        self.groups.borrow().get(operation).is_some_and(|group| group.guests.contains_key(&guest.number))
    }

    /// The operations whose owners may be found dead now.
    pub(super) fn due(&self, now: Timestamp) -> Vec<OperationId> {
        let groups = self.groups.borrow();
        groups.iter().filter(|(_, group)| group.recheck <= now).map(|(operation, _)| *operation).collect()
    }

    /// Puts off the next look at an operation.
    pub(super) fn postpone(&self, operation: &OperationId, recheck: Timestamp) {
        if let Some(group) = self.groups.borrow_mut().get_mut(operation) {
            group.recheck = recheck;
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.guests.get()
    }

    fn take(&self, operation: &OperationId, choose: impl FnOnce(&mut Group) -> Option<Rc<Guest>>) -> Option<Rc<Guest>> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.get_mut(operation)?;
        let chosen = choose(group);
        if group.guests.is_empty() {
            groups.remove(operation);
        }
        if let Some(guest) = &chosen {
            self.guests.set(self.guests.get().saturating_sub(1));
            let mut by_caller = self.by_caller.borrow_mut();
            match by_caller.get_mut(&guest.caller()) {
                Some(held) if *held > 1 => *held -= 1,
                _ => drop(by_caller.remove(&guest.caller())),
            }
        }
        chosen
    }
}

impl Called {
    fn next(&mut self) -> Option<OperationId> {
        let operation = self.order.pop_front()?;
        self.members.remove(&operation);
        Some(operation)
    }
}
