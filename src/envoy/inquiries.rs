//! The questions of this worker to a remote store: asked by the root context, as detached calls are made,
//! so that an answer finds somebody also when the stream that wanted it is gone.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use super::{guest::Guest, host};
use crate::{store::redis::Inquiry, time::Timestamp};

/// A question, and whose it is.
pub(super) type Errand = (Rc<Guest>, Inquiry);

/// The questions that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    ordered: RefCell<VecDeque<Errand>>,
    under_way: RefCell<BTreeMap<u64, Box<Errand>>>,
    /// Those whose last attempt failed, and whose next one is not due yet.
    resting: RefCell<Vec<Errand>>,
    /// Those who are to be told that it takes longer.
    delayed: RefCell<VecDeque<Rc<Guest>>>,
}

impl Inquiries {
    /// Leaves a question for the root context.
    pub(super) fn order(&self, guest: &Rc<Guest>, inquiry: Inquiry) {
        self.ordered.borrow_mut().push_back((Rc::clone(guest), inquiry));
    }

    pub(super) fn next_ordered(&self) -> Option<Errand> {
        self.ordered.borrow_mut().pop_front()
    }

    /// The next one who is to be told that it takes longer.
    pub(super) fn next_delayed(&self) -> Option<Rc<Guest>> {
        self.delayed.borrow_mut().pop_front()
    }

    /// Whether a question waits to be asked, or a guest to be told.
    pub(super) fn has_ordered(&self) -> bool {
        !self.ordered.borrow().is_empty() || !self.delayed.borrow().is_empty()
    }

    /// Makes the next attempt; hands the errand back if the host says at once that it cannot be made.
    ///
    /// To be called with the root context in effect.
    pub(super) fn ask(&self, cluster: &str, (guest, mut inquiry): Errand, now: Timestamp) -> Option<Errand> {
        let (bytes, timeout) = inquiry.ask(now);
        match call(cluster, bytes, timeout) {
            Some(token) => {
                self.under_way.borrow_mut().insert(u64::from(token), Box::new((guest, inquiry)));
                None
            }
            None => Some((guest, inquiry)),
        }
    }

    /// Takes out the errand that `token` answers.
    pub(super) fn answered(&self, token: u32) -> Option<Errand> {
        self.under_way.borrow_mut().remove(&u64::from(token)).map(|errand| *errand)
    }

    /// Whether as many rest as memory is to be spent on, should a store hang and clients go on asking.
    pub(super) fn are_crowded(&self) -> bool {
        self.resting.borrow().len() >= MOST_RESTING
    }

    pub(super) fn rest(&self, errand: Errand) {
        self.resting.borrow_mut().push(errand);
    }

    /// Orders the attempts that have become due, and has the guests told for whom it takes longer.
    pub(super) fn rouse(&self, now: Timestamp) {
        let mut resting = self.resting.borrow_mut();
        let delayed =
            resting.iter_mut().filter_map(|(guest, inquiry)| inquiry.becomes_delayed(now).then(|| Rc::clone(guest)));
        self.delayed.borrow_mut().extend(delayed);
        self.ordered.borrow_mut().extend(resting.extract_if(.., |(_, inquiry)| inquiry.is_due(now)));
    }

    pub(super) fn are_over(&self) -> bool {
        self.ordered.borrow().is_empty() && self.under_way.borrow().is_empty() && self.resting.borrow().is_empty()
    }
}

/// Errands of a few kilobytes each. More executions than these hardly end while a store is away.
const MOST_RESTING: usize = 2048;

/// Sends bytes to a cluster, over whichever transport it stands for.
pub(super) fn call(cluster: &str, bytes: &[u8], timeout: Duration) -> Option<u32> {
    // A raw cluster sends none of them. None asks Envoy for retries: for those it keeps a copy of each call,
    // which costs a twentieth of the throughput.
    let fields = [(":method", "POST"), (":path", "/"), (":authority", "redis")];
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    host::http_call(cluster, fields, bytes, timeout).ok()
}
