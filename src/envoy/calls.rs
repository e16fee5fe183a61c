//! Detached calls: made by the root context, so that they outlive the stream that asked for them.
//!
//! A stream cannot make such a call itself: the SDK files a call under the context whose callback makes it, and drops the
//! answer if that context is gone. So the stream leaves the job here and rings the
//! worker's own mailbox, and the host calls the root context at once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use super::{guest::Guest, host};
use crate::exchange::{DetachedCall, NoRoom};

/// The calls of this worker, ordered and under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    ordered: RefCell<VecDeque<(Rc<Guest>, DetachedCall)>>,
    under_way: RefCell<BTreeMap<u64, Rc<Guest>>>,
}

impl Calls {
    /// Why a guest cannot have a call of its own, if it cannot.
    pub(super) fn refusal(&self, guest: &Guest) -> Option<NoRoom> {
        let (ordered, under_way) = (self.ordered.borrow(), self.under_way.borrow());
        let taken = (ordered.len() + under_way.len()) as u64;
        let (places, share) = (guest.route.policy.execution.max_calls.into(), guest.route.policy.limits.caller_share);
        if taken >= places {
            return Some(NoRoom::AllTaken);
        }
        let guests = ordered.iter().map(|(guest, _)| guest).chain(under_way.values());
        let held = || guests.filter(|other| other.caller() == guest.caller()).count() as u64;
        // They are counted only where that matters.
        let may = share.allows(u64::MAX, taken, places) || share.allows(held(), taken, places);
        (!may).then_some(NoRoom::OverShare)
    }

    /// Leaves a job for the root context.
    pub(super) fn order(&self, guest: &Rc<Guest>, job: DetachedCall) {
        self.ordered.borrow_mut().push_back((Rc::clone(guest), job));
    }

    pub(super) fn next_ordered(&self) -> Option<(Rc<Guest>, DetachedCall)> {
        self.ordered.borrow_mut().pop_front()
    }

    pub(super) fn has_ordered(&self) -> bool {
        !self.ordered.borrow().is_empty()
    }

    /// Makes a call; `false` if the host says at once that it cannot be made.
    ///
    /// To be called with the root context in effect.
    pub(super) fn make(&self, guest: Rc<Guest>, job: &DetachedCall, timeout: Duration) -> bool {
        let length = job.body.len().to_string();
        let fields = job.headers.iter().chain([("content-length".as_bytes(), length.as_bytes())]);
        match host::http_call(&job.cluster, fields, &job.body, timeout) {
            Ok(token) => {
                self.under_way.borrow_mut().insert(u64::from(token), guest);
                true
            }
            Err(_) => false,
        }
    }

    /// Takes out the call that `token` answers.
    pub(super) fn answered(&self, token: u32) -> Option<Rc<Guest>> {
        self.under_way.borrow_mut().remove(&u64::from(token))
    }

    pub(super) fn are_over(&self) -> bool {
        self.ordered.borrow().is_empty() && self.under_way.borrow().is_empty()
    }
}
