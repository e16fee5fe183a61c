//! The questions of this worker to a remote store: asked by the root context, as detached calls are made,
//! so that an answer finds somebody also when the stream that wanted it is gone.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use super::{guest::Guest, host};
use crate::{
    store::{
        Answer, Claimed,
        redis::{
            Inquiry,
            admission::{self, Admission, Wait},
        },
    },
    time::Timestamp,
};

/// A question, and whose it is.
pub(super) type Errand = admission::Errand<Rc<Guest>>;

/// The questions that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    admission: RefCell<Admission<Rc<Guest>>>,
    under_way: RefCell<BTreeMap<u64, Box<Errand>>>,
    /// Those whose last attempt failed, and whose next one is not due yet.
    resting: RefCell<Vec<Errand>>,
    /// How many bytes those take.
    resting_bytes: Cell<u64>,
    /// Whether the last write to the store that was heard of was taken.
    takes_writes: Cell<bool>,
}

impl Inquiries {
    /// Leaves a question for the root context, unless too much waits: then that is the answer.
    pub(super) fn order(&self, guest: &Rc<Guest>, inquiry: Inquiry) -> Result<(), Claimed> {
        let errand = Errand { guest: Rc::clone(guest), inquiry, is_shadow: guest.is_shadow() };
        self.admission.borrow_mut().order(errand)
    }

    /// The same for one that is to be asked again.
    pub(super) fn order_again(&self, errand: Errand) {
        self.admission.borrow_mut().order_again(errand);
    }

    /// The next question to ask.
    pub(super) fn next_to_ask(&self) -> Option<Errand> {
        self.admission.borrow_mut().next_to_ask(self.calls())
    }

    /// The next one who is to be told an answer that no call of its own has brought.
    pub(super) fn next_to_tell(&self) -> Option<(Rc<Guest>, Answer)> {
        self.admission.borrow_mut().next_to_tell()
    }

    /// Whether there is a next one to ask or to tell.
    pub(super) fn have_next(&self) -> bool {
        self.admission.borrow().has_next(self.calls())
    }

    /// Lets those know who have joined a claim what became of it.
    pub(super) fn conclude(&self, errand: &Errand, claimed: &Claimed, now: Timestamp) {
        self.admission.borrow_mut().conclude(errand, claimed, now);
    }

    /// Takes back a claim that was about to be asked.
    pub(super) fn withdraw(&self, errand: &Errand) {
        self.admission.borrow_mut().withdraw(errand);
    }

    /// Makes the next attempt; hands the errand back if the host says at once that it cannot be made.
    ///
    /// To be called with the root context in effect.
    pub(super) fn ask(&self, cluster: &str, mut errand: Errand, now: Timestamp) -> Option<Errand> {
        let (bytes, timeout) = errand.inquiry.ask(now);
        match call(cluster, bytes, timeout) {
            Some(token) => {
                self.under_way.borrow_mut().insert(u64::from(token), Box::new(errand));
                None
            }
            None => Some(errand),
        }
    }

    /// Takes out the errand that `token` answers.
    pub(super) fn answered(&self, token: u32) -> Option<Errand> {
        self.under_way.borrow_mut().remove(&u64::from(token)).map(|errand| *errand)
    }

    /// Notes that the store was heard of.
    pub(super) fn hear(&self, now: Timestamp) {
        self.admission.borrow_mut().hear(now);
    }

    /// Whether as many rest as memory is to be spent on, should a store hang and clients go on asking.
    pub(super) fn are_crowded(&self) -> bool {
        self.resting.borrow().len() >= MOST_RESTING
    }

    /// Keeps an errand whose last attempt failed, and gives up the oldest of all that rest, so that they take no more than
    /// `limit` bytes. Whoever waits for those is told in turn: one that is large may take the place of hundreds.
    pub(super) fn rest(&self, errand: Errand, limit: u64) {
        self.takes_writes.set(false);
        let mut resting = self.resting.borrow_mut();
        self.resting_bytes.update(|bytes| bytes.saturating_add(errand.inquiry.size() as u64));
        resting.push(errand);
        while self.resting_bytes.get() > limit {
            let oldest = resting.iter().enumerate().min_by_key(|(_, errand)| errand.inquiry.begun());
            let Some((place, _)) = oldest else { break };
            let given_up = self.take(&mut resting, place);
            let answer = given_up.inquiry.give_up();
            self.admission.borrow_mut().tell(given_up.guest, answer);
        }
    }

    fn take(&self, resting: &mut Vec<Errand>, place: usize) -> Errand {
        let errand = resting.swap_remove(place);
        self.resting_bytes.update(|bytes| bytes.saturating_sub(errand.inquiry.size() as u64));
        errand
    }

    /// Orders the attempts that have become due, has the guests told for whom it takes longer, and refuses claims that
    /// have waited too long.
    pub(super) fn rouse(&self, now: Timestamp) {
        let mut resting = self.resting.borrow_mut();
        let mut admission = self.admission.borrow_mut();
        for errand in resting.iter_mut().filter_map(|errand| errand.inquiry.becomes_delayed(now).then_some(errand)) {
            admission.tell(Rc::clone(&errand.guest), Answer::Delayed);
        }
        admission.tell_delayed(now);
        let is_next = |Errand { inquiry, .. }: &Errand| !inquiry.is_late(now) && inquiry.is_due(now);
        self.order_those(&mut resting, &mut admission, usize::MAX, is_next);
        admission.refuse_overdue(self.calls(), now);
        self.rouse_late(&mut resting, &mut admission, now);
    }

    /// Notes that the store takes writes: what is late is asked now, so many at a time.
    pub(super) fn note_write(&self, now: Timestamp) {
        self.takes_writes.set(true);
        let mut resting = self.resting.borrow_mut();
        if !resting.is_empty() {
            self.rouse_late(&mut resting, &mut self.admission.borrow_mut(), now);
        }
    }

    /// Orders what is late, as far as it is due or the store takes writes again. Only so many at a time are asked: nobody
    /// waits for them, and others are not to wait because of them.
    fn rouse_late(&self, resting: &mut Vec<Errand>, admission: &mut Admission<Rc<Guest>>, now: Timestamp) {
        let is_next = |Errand { inquiry, .. }: &Errand| {
            inquiry.is_late(now) && (inquiry.is_due(now) || self.takes_writes.get() && inquiry.has_rested(now))
        };
        if !resting.iter().any(is_next) {
            return;
        }
        let under_way = self.under_way.borrow();
        let urgent = admission.waiting().take_while(|(wait, _)| *wait == Wait::Urgent).map(|(_, errand)| errand);
        let late =
            urgent.chain(under_way.values().map(|errand| &**errand)).filter(|errand| errand.inquiry.is_late(now));
        let room = MOST_LATE.saturating_sub(late.count());
        self.order_those(resting, admission, room, is_next);
    }

    /// Orders so many of those that rest.
    fn order_those(
        &self,
        resting: &mut Vec<Errand>,
        admission: &mut Admission<Rc<Guest>>,
        mut room: usize,
        is_next: impl Fn(&Errand) -> bool,
    ) {
        let mut place = 0;
        while room > 0
            && let Some(errand) = resting.get(place)
        {
            if is_next(errand) {
                admission.order_again(self.take(resting, place));
                room -= 1;
            } else {
                place += 1;
            }
        }
    }

    pub(super) fn are_over(&self) -> bool {
        self.admission.borrow().is_empty() && self.calls() == 0 && self.resting.borrow().is_empty()
    }

    /// How many calls are under way.
    fn calls(&self) -> usize {
        self.under_way.borrow().len()
    }
}

/// Errands of a few kilobytes each. More executions than these hardly end while a store is away.
const MOST_RESTING: usize = 2048;

/// What is late has so many calls at a time, of those that claims have none of (`admission::AdmissionLimits::reserve`).
const MOST_LATE: usize = 16;

/// Sends bytes to a cluster, over whichever transport it stands for.
pub(super) fn call(cluster: &str, bytes: &[u8], timeout: Duration) -> Option<u32> {
    // A raw cluster sends none of them. None asks Envoy for retries: for those it keeps a copy of each call,
    // which costs a twentieth of the throughput.
    let fields = [(":method", "POST"), (":path", "/"), (":authority", "redis")];
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    host::http_call(cluster, fields, bytes, timeout).ok()
}
