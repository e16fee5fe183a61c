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
pub type PendingInquiry = admission::PendingInquiry<ExchangeId>;

/// The questions that are not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Inquiries {
    outbox: Outbox<Admission<ExchangeId>, Box<PendingInquiry>>,
    /// Those whose last attempt failed, and whose next one is not due yet.
    resting: Vec<PendingInquiry>,
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
    pub(super) fn order(&mut self, asker: ExchangeId, inquiry: Inquiry, is_shadow: bool) -> Result<(), Claimed> {
        self.outbox.queue.order(PendingInquiry { asker, inquiry, is_shadow })
    }

    /// The same for one that is to be asked again.
    pub(super) fn order_again(&mut self, pending: PendingInquiry) {
        self.outbox.queue.order_again(pending);
    }

    /// The next question to ask.
    pub(super) fn next_to_ask(&mut self) -> Option<PendingInquiry> {
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
    pub(super) fn conclude(&mut self, pending: &PendingInquiry, claimed: &Claimed, now: Timestamp) {
        self.outbox.queue.conclude(pending, claimed, now);
    }

    /// Takes back a claim that was about to be asked.
    pub(super) fn withdraw(&mut self, pending: &PendingInquiry) {
        self.outbox.queue.withdraw(pending);
    }

    /// Notes that a question is under way.
    pub(super) fn sent(&mut self, token: u32, pending: PendingInquiry) {
        self.outbox.sent(token, Box::new(pending));
    }

    /// Whether the call with this token is a question.
    pub(super) fn await_answer(&self, token: u32) -> bool {
        self.outbox.awaits(token)
    }

    /// Takes out the inquiry that `token` answers.
    pub(super) fn answered(&mut self, token: u32) -> Option<PendingInquiry> {
        self.outbox.answered(token).map(|pending| *pending)
    }

    /// Notes that the store has answered.
    pub(super) fn note_reply(&mut self, now: Timestamp) {
        self.outbox.queue.hear(now);
    }

    /// Whether as many rest as memory is to be spent on, should a store hang and clients go on asking.
    pub(super) fn are_full(&self) -> bool {
        self.resting.len() >= MOST_RESTING
    }

    /// Keeps an inquiry whose last attempt failed, and gives up the oldest of all that rest, so that they take no more than
    /// `limit` bytes. The exchanges that wait for those are told in turn: one that is large may take the place of hundreds.
    pub(super) fn rest(&mut self, pending: PendingInquiry, limit: u64) {
        self.takes_writes = false;
        self.resting_bytes = self.resting_bytes.saturating_add(pending.inquiry.size() as u64);
        self.resting.push(pending);
        while self.resting_bytes > limit {
            let oldest = self.resting.iter().enumerate().min_by_key(|(_, pending)| pending.inquiry.begun());
            let Some((place, _)) = oldest else { break };
            let given_up = self.take(place);
            let answer = given_up.inquiry.give_up();
            self.outbox.queue.tell(given_up.asker, answer);
        }
    }

    fn take(&mut self, place: usize) -> PendingInquiry {
        let pending = self.resting.swap_remove(place);
        self.resting_bytes = self.resting_bytes.saturating_sub(pending.inquiry.size() as u64);
        pending
    }

    /// Orders the attempts that have become due, has those told for whom it takes longer, and refuses claims that have
    /// waited too long.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for pending in &mut self.resting {
            if pending.inquiry.becomes_delayed(now) {
                self.outbox.queue.tell(pending.asker, Answer::Delayed);
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
        if !self.resting.iter().any(|pending| is_next(&pending.inquiry)) {
            return;
        }
        let waiting = self.outbox.queue.waiting();
        let urgent = waiting.take_while(|(wait, _)| *wait == Wait::Urgent).map(|(_, pending)| pending);
        let under_way = self.outbox.under_way().map(|(_, pending)| &**pending);
        let late = urgent.chain(under_way).filter(|pending| pending.inquiry.is_late(now)).count();
        self.order_those(MOST_LATE.saturating_sub(late), is_next);
    }

    /// Orders at most `room` of those that rest.
    fn order_those(&mut self, mut room: usize, is_next: impl Fn(&Inquiry) -> bool) {
        let mut place = 0;
        while room > 0
            && let Some(pending) = self.resting.get(place)
        {
            if is_next(&pending.inquiry) {
                let pending = self.take(place);
                self.outbox.queue.order_again(pending);
                room -= 1;
            } else {
                place += 1;
            }
        }
    }

    pub(super) fn are_over(&self) -> bool {
        self.all().next().is_none() && self.outbox.queue.is_empty()
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
    pub(super) fn all(&self) -> impl Iterator<Item = (Option<u32>, &PendingInquiry)> {
        let waiting = self.outbox.queue.waiting().map(|(_, pending)| (None, pending));
        let under_way = self.outbox.under_way().map(|(token, pending)| (Some(*token), &**pending));
        waiting.chain(under_way).chain(self.resting.iter().map(|pending| (None, pending)))
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
