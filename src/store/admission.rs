//! Which questions are asked now, which wait, and which need no call of their own.
//!
//! A burst that is sent at once queues up on its way, is taken for a slow server, and is asked again on top. So a worker
//! has a bounded number of calls under way, and keeps the rest:
//! - Renewals, the ends of executions and second attempts go first: a lease, or an answer, hangs on them.
//! - Claims wait in the order in which they came. The time of a claim begins when it is asked: until then the server has
//!   nothing to do with it, and it is not asked again.
//! - A claim joins the one of the same operation that waits or is under way. If that is granted, the operation runs, and
//!   nothing else is to be learnt. Any other answer of the server's holds as well for those who had come before it was asked for; of
//!   those who came later, the first one asks next.
//! - What waits too long, or would be too much, is refused, and was never asked. So is what would be more than its
//!   caller's share.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{Answer, Claimed, Scarce, StoreError, dialect::Terms, inquiry::Inquiry};
use crate::{request::OperationId, time::Timestamp};

/// A question, and whose it is.
#[derive(Clone, Debug)]
pub struct PendingInquiry<A> {
    /// Who is to be told the answer.
    pub asker: A,
    /// The question.
    pub inquiry: Inquiry,
    /// Whether it is about the records that decide nothing.
    pub is_shadow: bool,
}

/// How much may be under way, and wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdmissionLimits {
    /// Calls under way when a claim is asked.
    pub calls: usize,
    /// How many more when anything else is.
    pub reserve: usize,
    /// Claims that wait to be asked.
    pub waiting: usize,
    /// Claims that have joined others.
    pub joined: usize,
}

impl Default for AdmissionLimits {
    /// Two workers with this number of calls have a quick server answer as fast as it can, over either transport, and stay far
    /// below the 1024 connections and requests that a cluster of Envoy's allows by default. A claim that waits takes some
    /// kilobytes, besides its stream.
    fn default() -> Self {
        Self { calls: 64, reserve: 32, waiting: 2048, joined: 8192 }
    }
}

/// The questions of a worker that are not under way.
#[derive(Clone, Debug)]
pub struct Admission<A> {
    limits: AdmissionLimits,
    urgent: VecDeque<PendingInquiry<A>>,
    claims: VecDeque<PendingInquiry<A>>,
    /// For each operation with a claim that waits or is under way, those that have joined it.
    asking: BTreeMap<Subject, Joined<A>>,
    /// How many those are.
    joined: usize,
    /// What is to be told, each in its turn: answers to claims that were not asked, and that it takes longer.
    answers: VecDeque<(A, Answer)>,
    /// When the server last answered.
    heard: Timestamp,
}

type Subject = (bool, OperationId);

/// Claims beside the one that is asked.
#[derive(Clone, Debug)]
struct Joined<A> {
    /// What that one asks.
    terms: Terms,
    is_asked: bool,
    /// The answer is theirs, too: they ask the same, and came before it was asked for.
    sharing: VecDeque<PendingInquiry<A>>,
    later: VecDeque<PendingInquiry<A>>,
}

impl<A> Joined<A> {
    fn new(terms: Terms) -> Self {
        Self { terms, is_asked: false, sharing: VecDeque::new(), later: VecDeque::new() }
    }

    fn join(&mut self, pending: PendingInquiry<A>) {
        let is_shared = !self.is_asked && pending.inquiry.terms() == Some(self.terms);
        if is_shared { &mut self.sharing } else { &mut self.later }.push_back(pending);
    }
}

/// Why a question waits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Wait {
    /// It is the next of those that go first.
    Urgent,
    /// It is the next of the claims.
    Claim,
    /// It gets the answer to another claim.
    Sharing,
    /// Its turn comes behind another claim for the operation.
    Later,
}

impl<A> PendingInquiry<A> {
    fn subject(&self) -> Subject {
        (self.is_shadow, self.inquiry.operation())
    }
}

impl<A> Default for Admission<A> {
    fn default() -> Self {
        Self::new(AdmissionLimits::default())
    }
}

impl<A> Admission<A> {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            urgent: VecDeque::new(),
            claims: VecDeque::new(),
            asking: BTreeMap::new(),
            joined: 0,
            answers: VecDeque::new(),
            heard: Timestamp::default(),
        }
    }

    /// Takes a new question in.
    ///
    /// # Errors
    /// What a claim is told if too many wait, or too many of its caller's.
    pub fn order(&mut self, pending: PendingInquiry<A>) -> Result<(), Claimed> {
        let Some(terms) = pending.inquiry.terms() else {
            self.urgent.push_back(pending);
            return Ok(());
        };
        let joins = self.asking.contains_key(&pending.subject());
        let (taken, places) =
            if joins { (self.joined, self.limits.joined) } else { (self.claims.len(), self.limits.waiting) };
        if taken >= places {
            return Err(OVERLOADED);
        }
        if !self.may_wait(terms, joins, taken, places) {
            return Err(Claimed::OverShare(Scarce::Questions));
        }
        match self.asking.get_mut(&pending.subject()) {
            Some(joined) => {
                self.joined += 1;
                joined.join(pending);
            }
            None => {
                self.asking.insert(pending.subject(), Joined::new(terms));
                self.claims.push_back(pending);
            }
        }
        Ok(())
    }

    /// Whether the caller may have one more claim wait, beside another or by itself. Its claims are counted only where
    /// that matters.
    fn may_wait(&self, Terms { caller, share, .. }: Terms, joins: bool, taken: usize, places: usize) -> bool {
        let may = |held: usize| share.allows(held as u64, taken as u64, places as u64);
        let is_its = |pending: &&PendingInquiry<A>| pending.inquiry.terms().is_some_and(|terms| terms.caller == caller);
        may(usize::MAX)
            || may(if joins {
                self.asking
                    .values()
                    .flat_map(|joined| joined.sharing.iter().chain(&joined.later))
                    .filter(is_its)
                    .count()
            } else {
                self.claims.iter().filter(is_its).count()
            })
    }

    /// Takes a question in that has been asked before, and is to be asked again.
    pub fn order_again(&mut self, pending: PendingInquiry<A>) {
        self.urgent.push_back(pending);
    }

    /// The next question to ask, while `under_way` calls are under way.
    pub fn next_to_ask(&mut self, under_way: usize) -> Option<PendingInquiry<A>> {
        if !self.urgent.is_empty() {
            let has_room = under_way < self.limits.calls.saturating_add(self.limits.reserve);
            return has_room.then(|| self.urgent.pop_front()).flatten();
        }
        if under_way >= self.limits.calls {
            return None;
        }
        let pending = self.claims.pop_front()?;
        if let Some(joined) = self.asking.get_mut(&pending.subject()) {
            joined.is_asked = true;
        }
        Some(pending)
    }

    /// Takes back a claim that was not asked after all, because nobody wants it any more.
    pub fn withdraw(&mut self, pending: &PendingInquiry<A>) {
        if let Some(Joined { mut sharing, later, .. }) = self.asking.remove(&pending.subject()) {
            sharing.extend(later);
            self.ask_next_of(pending.subject(), sharing);
        }
    }

    /// Notes that the server has answered.
    pub fn hear(&mut self, now: Timestamp) {
        self.heard = now;
    }

    /// Takes in the answer to a claim, for those who have joined it.
    pub fn conclude(&mut self, pending: &PendingInquiry<A>, claimed: &Claimed, now: Timestamp)
    where
        A: Clone,
    {
        let Some(Joined { terms, sharing, later, .. }) = self.asking.remove(&pending.subject()) else { return };
        if *claimed == Claimed::Granted {
            self.joined -= sharing.len() + later.len();
            for other in sharing.into_iter().chain(later) {
                let is_the_same = other.inquiry.terms().is_some_and(|other| other.fingerprint == terms.fingerprint);
                let lease_left = pending.inquiry.lease();
                let in_flight = Claimed::InFlight { age: Duration::ZERO, lease_left };
                let claimed = if is_the_same { in_flight } else { Claimed::KeyReused };
                self.answers.push_back((other.asker, Answer::Claimed(claimed)));
            }
            return;
        }
        // That it has failed need not be true of the next one; who has waited for as long as it may takes it for true. It may
        // be in doubt whether that one has the claim, but these have not.
        let (claimed, (sharing, mut others)) = match claimed {
            Claimed::Failed(error) | Claimed::InDoubt(error) => (
                Claimed::Failed(*error),
                sharing.into_iter().partition(|other| other.inquiry.has_waited_for_its_timeout(now)),
            ),
            claimed => (claimed.clone(), (sharing, VecDeque::new())),
        };
        self.joined -= sharing.len();
        for other in sharing {
            self.answers.push_back((other.asker, Answer::Claimed(claimed.clone())));
        }
        others.extend(later);
        self.ask_next_of(pending.subject(), others);
    }

    /// Refuses claims that have waited too long, while `under_way` calls are under way: as long as there is room for them,
    /// or the server answers, they are about to be asked.
    pub fn refuse_overdue(&mut self, under_way: usize, now: Timestamp) {
        while under_way >= self.limits.calls
            && let Some(claim) = self.claims.front()
            && claim.inquiry.has_waited_too_long(self.heard, now)
            && let Some(claim) = self.claims.pop_front()
        {
            self.withdraw(&claim);
            self.answers.push_back((claim.asker, Answer::Claimed(OVERLOADED)));
        }
    }

    /// The next one who is to be told something.
    pub fn next_to_tell(&mut self) -> Option<(A, Answer)> {
        self.answers.pop_front()
    }

    /// Has those told that it takes longer who wait, and may not much longer.
    pub fn tell_delayed(&mut self, now: Timestamp)
    where
        A: Clone,
    {
        let delayed = self.urgent.iter_mut().filter_map(|PendingInquiry { asker, inquiry, .. }| {
            inquiry.becomes_delayed(now).then(|| (asker.clone(), Answer::Delayed))
        });
        self.answers.extend(delayed);
    }

    /// Has somebody told an answer, in turn.
    pub fn tell(&mut self, asker: A, answer: Answer) {
        self.answers.push_back((asker, answer));
    }

    /// Whether a question can be asked, or an answer told, while `under_way` calls are under way.
    #[must_use]
    pub fn has_next(&self, under_way: usize) -> bool {
        let (claims, all) = (self.limits.calls, self.limits.calls.saturating_add(self.limits.reserve));
        !self.answers.is_empty()
            || !self.urgent.is_empty() && under_way < all
            || !self.claims.is_empty() && self.urgent.is_empty() && under_way < claims
    }

    /// Whether exactly one question waits to be asked, and no answer to be told.
    #[must_use]
    pub fn has_one(&self) -> bool {
        self.answers.is_empty() && self.urgent.len() + self.claims.len() == 1
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting().next().is_none() && self.answers.is_empty()
    }

    /// All that wait, and why.
    pub fn waiting(&self) -> impl Iterator<Item = (Wait, &PendingInquiry<A>)> {
        let urgent = self.urgent.iter().map(|pending| (Wait::Urgent, pending));
        let claims = self.claims.iter().map(|pending| (Wait::Claim, pending));
        let joined = self.asking.values().flat_map(|joined| {
            let sharing = joined.sharing.iter().map(|pending| (Wait::Sharing, pending));
            sharing.chain(joined.later.iter().map(|pending| (Wait::Later, pending)))
        });
        urgent.chain(claims).chain(joined)
    }

    /// The answers that are to be told.
    pub fn answers(&self) -> impl Iterator<Item = &(A, Answer)> {
        self.answers.iter()
    }

    /// Has the first of these claims asked next: they have waited the longest. The others join it.
    fn ask_next_of(&mut self, subject: Subject, mut claims: VecDeque<PendingInquiry<A>>) {
        let Some(first) = claims.pop_front() else { return };
        let Some(terms) = first.inquiry.terms() else { return };
        self.joined -= 1;
        let mut joined = Joined::new(terms);
        claims.into_iter().for_each(|claim| joined.join(claim));
        self.asking.insert(subject, joined);
        self.claims.push_front(first);
    }
}

/// What a claim is told that was not asked.
pub const OVERLOADED: Claimed = Claimed::Failed(StoreError::Overloaded);

#[cfg(test)]
mod tests;
