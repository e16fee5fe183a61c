//! The questions of this worker to a remote store, from the order to the answer.

use super::{host::ExchangeId, outbox::Outbox};
use crate::{
    store::{
        Answer, Claimed,
        admission::{self, Admission, Wait},
        inquiry::Inquiry,
    },
    time::Timestamp,
};

/// A question, and whose it is.
pub type Errand = admission::Errand<ExchangeId>;

/// The questions that are not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Inquiries {
    outbox: Outbox<Admission<ExchangeId>, Box<Errand>>,
    /// Those whose last attempt failed, and whose next one is not due yet.
    resting: Vec<Errand>,
    /// How many bytes those take.
    resting_bytes: u64,
    /// Whether the store took the last write that it answered.
    takes_writes: bool,
}

impl Inquiries {
    pub(super) fn new(limits: admission::AdmissionLimits) -> Self {
        Self { outbox: Outbox::new(Admission::new(limits)), resting: Vec::new(), resting_bytes: 0, takes_writes: false }
    }

    /// Leaves a question to be asked, unless too much waits: then that is the answer.
    pub(super) fn order(&mut self, guest: ExchangeId, inquiry: Inquiry, is_shadow: bool) -> Result<(), Claimed> {
        self.outbox.queue.order(Errand { guest, inquiry, is_shadow })
    }

    /// The same for one that is to be asked again.
    pub(super) fn order_again(&mut self, errand: Errand) {
        self.outbox.queue.order_again(errand);
    }

    /// The next question to ask.
    pub(super) fn next_to_ask(&mut self) -> Option<Errand> {
        let calls = self.calls();
        self.outbox.queue.next_to_ask(calls)
    }

    /// The next one who is to be told an answer that no call of its own has brought.
    pub(super) fn next_to_tell(&mut self) -> Option<(ExchangeId, Answer)> {
        self.outbox.queue.next_to_tell()
    }

    /// Whether there is a next one to ask or to tell.
    pub(super) fn have_next(&self) -> bool {
        self.outbox.queue.has_next(self.calls())
    }

    /// Whether exactly one waits to be asked, and nobody to be told.
    pub(super) fn have_one(&self) -> bool {
        self.outbox.queue.has_one()
    }

    /// Lets those know who have joined a claim what became of it.
    pub(super) fn conclude(&mut self, errand: &Errand, claimed: &Claimed, now: Timestamp) {
        self.outbox.queue.conclude(errand, claimed, now);
    }

    /// Takes back a claim that was about to be asked.
    pub(super) fn withdraw(&mut self, errand: &Errand) {
        self.outbox.queue.withdraw(errand);
    }

    /// Notes that a question is under way.
    pub(super) fn sent(&mut self, token: u32, errand: Errand) {
        self.outbox.sent(token, Box::new(errand));
    }

    /// Whether the call with this token is a question.
    pub(super) fn await_answer(&self, token: u32) -> bool {
        self.outbox.awaits(token)
    }

    /// Takes out the errand that `token` answers.
    pub(super) fn answered(&mut self, token: u32) -> Option<Errand> {
        self.outbox.answered(token).map(|errand| *errand)
    }

    /// Notes that the store has answered.
    pub(super) fn note_reply(&mut self, now: Timestamp) {
        self.outbox.queue.hear(now);
    }

    /// Whether as many rest as memory is to be spent on, should a store hang and clients go on asking.
    pub(super) fn are_crowded(&self) -> bool {
        self.resting.len() >= MOST_RESTING
    }

    /// Keeps an errand whose last attempt failed, and gives up the oldest of all that rest, so that they take no more than
    /// `limit` bytes. The exchanges that wait for those are told in turn: one that is large may take the place of hundreds.
    pub(super) fn rest(&mut self, errand: Errand, limit: u64) {
        self.takes_writes = false;
        self.resting_bytes = self.resting_bytes.saturating_add(errand.inquiry.size() as u64);
        self.resting.push(errand);
        while self.resting_bytes > limit {
            let oldest = self.resting.iter().enumerate().min_by_key(|(_, errand)| errand.inquiry.begun());
            let Some((place, _)) = oldest else { break };
            let given_up = self.take(place);
            let answer = given_up.inquiry.give_up();
            self.outbox.queue.tell(given_up.guest, answer);
        }
    }

    fn take(&mut self, place: usize) -> Errand {
        let errand = self.resting.swap_remove(place);
        self.resting_bytes = self.resting_bytes.saturating_sub(errand.inquiry.size() as u64);
        errand
    }

    /// Orders the attempts that have become due, has those told for whom it takes longer, and refuses claims that have
    /// waited too long.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for errand in &mut self.resting {
            if errand.inquiry.becomes_delayed(now) {
                self.outbox.queue.tell(errand.guest, Answer::Delayed);
            }
        }
        self.outbox.queue.tell_delayed(now);
        self.order_those(usize::MAX, |inquiry| !inquiry.is_late(now) && inquiry.is_due(now));
        let calls = self.calls();
        self.outbox.queue.refuse_overdue(calls, now);
        self.order_late(now);
    }

    /// Notes that the store takes writes: what is late is asked now, a limited number at a time.
    pub(super) fn note_write(&mut self, now: Timestamp) {
        self.takes_writes = true;
        self.order_late(now);
    }

    /// Orders what is late, as far as it is due or the store takes writes again. Only a limited number at a time is asked:
    /// nobody waits for them, and others are not to wait because of them.
    fn order_late(&mut self, now: Timestamp) {
        let takes_writes = self.takes_writes;
        let is_next = |inquiry: &Inquiry| {
            inquiry.is_late(now) && (inquiry.is_due(now) || takes_writes && inquiry.has_rested(now))
        };
        if !self.resting.iter().any(|errand| is_next(&errand.inquiry)) {
            return;
        }
        let waiting = self.outbox.queue.waiting();
        let urgent = waiting.take_while(|(wait, _)| *wait == Wait::Urgent).map(|(_, errand)| errand);
        let under_way = self.outbox.under_way().map(|(_, errand)| &**errand);
        let late = urgent.chain(under_way).filter(|errand| errand.inquiry.is_late(now)).count();
        self.order_those(MOST_LATE.saturating_sub(late), is_next);
    }

    /// Orders at most `room` of those that rest.
    fn order_those(&mut self, mut room: usize, is_next: impl Fn(&Inquiry) -> bool) {
        let mut place = 0;
        while room > 0
            && let Some(errand) = self.resting.get(place)
        {
            if is_next(&errand.inquiry) {
                let errand = self.take(place);
                self.outbox.queue.order_again(errand);
                room -= 1;
            } else {
                place += 1;
            }
        }
    }

    pub(super) fn are_over(&self) -> bool {
        self.errands().next().is_none() && self.outbox.queue.is_empty()
    }

    /// Whether a tick at `now` would order something, or have somebody told.
    pub(super) fn are_due(&self, now: Timestamp) -> bool {
        let only_under_way = self.resting.is_empty() && self.outbox.queue.is_empty();
        !only_under_way && {
            let mut then = self.clone();
            then.tick(now);
            then.have_next()
        }
    }

    /// All questions, wherever they are; under way ones with their tokens.
    pub(super) fn errands(&self) -> impl Iterator<Item = (Option<u32>, &Errand)> {
        let waiting = self.outbox.queue.waiting().map(|(_, errand)| (None, errand));
        let under_way = self.outbox.under_way().map(|(token, errand)| (Some(*token), &**errand));
        waiting.chain(under_way).chain(self.resting.iter().map(|errand| (None, errand)))
    }

    /// How many calls are under way.
    fn calls(&self) -> usize {
        self.outbox.under_way().len()
    }
}

/// Errands of a few kilobytes each. More executions than these hardly end while a store is away.
const MOST_RESTING: usize = 2048;

/// How many calls at a time what is late has, of those that claims may not use (`admission::AdmissionLimits::reserve`).
const MOST_LATE: usize = 16;
