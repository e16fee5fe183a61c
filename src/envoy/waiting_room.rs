//! The requests of this worker that wait for executions, by operation.
//!
//! A wake-up names an operation and never a stream, so that one which comes late, twice, or from a VM
//! that has been replaced meanwhile finds nobody and does nothing.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use super::guest::Guest;
use crate::{request::OperationId, time::Timestamp};

/// Who waits, and for what.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    groups: RefCell<BTreeMap<OperationId, Group>>,
}

/// Those who wait for one operation, in the order in which they came.
#[derive(Debug)]
struct Group {
    guests: Vec<Rc<Guest>>,
    /// When the owner of the execution may be found dead.
    recheck: Timestamp,
}

impl WaitingRoom {
    /// Lets a guest wait, unless as many wait as may.
    pub(super) fn enter(&self, operation: OperationId, guest: &Rc<Guest>, recheck: Timestamp, limit: u32) -> bool {
        let mut groups = self.groups.borrow_mut();
        if groups.values().map(|group| group.guests.len()).sum::<usize>()
            >= usize::try_from(limit).unwrap_or(usize::MAX)
        {
            return false;
        }
        let group = groups.entry(operation).or_insert_with(|| Group { guests: Vec::new(), recheck });
        group.recheck = recheck;
        group.guests.push(Rc::clone(guest));
        true
    }

    /// Takes a guest out.
    pub(super) fn leave(&self, operation: &OperationId, guest: &Rc<Guest>) {
        let mut groups = self.groups.borrow_mut();
        if let Some(group) = groups.get_mut(operation) {
            group.guests.retain(|other| !Rc::ptr_eq(other, guest));
            if group.guests.is_empty() {
                groups.remove(operation);
            }
        }
    }

    /// Takes out all who wait for an operation.
    pub(super) fn call(&self, operation: &OperationId) -> Vec<Rc<Guest>> {
        self.groups.borrow_mut().remove(operation).map(|group| group.guests).unwrap_or_default()
    }

    /// The operations whose owners may be found dead now.
    pub(super) fn due(&self, now: Timestamp) -> Vec<OperationId> {
        let groups = self.groups.borrow();
        groups.iter().filter(|(_, group)| group.recheck <= now).map(|(operation, _)| *operation).collect()
    }

    /// The first of those who wait for an operation, taken out.
    pub(super) fn call_first(&self, operation: &OperationId) -> Option<Rc<Guest>> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.get_mut(operation)?;
        let first = if group.guests.is_empty() { None } else { Some(group.guests.remove(0)) };
        if group.guests.is_empty() {
            groups.remove(operation);
        }
        first
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.groups.borrow().values().map(|group| group.guests.len()).sum()
    }
}
