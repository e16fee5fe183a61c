//! One call to a remote store, from the first attempt to the answer: what is sent, how often, and what is made of
//! what comes back.
//!
//! - A **claim** whose reply is lost is asked again with the same owner, which the store takes for the same
//!   claim; so is one that was certainly not granted, if the next attempt may be; all within the time that the
//!   request may wait. One that the store had no capacity for is asked again after a rest.
//! - A **renewal** is asked once; the next one is due soon.
//! - The **end of an execution** is asked again, more and more rarely, as long as the record would be kept.
//!   The client waits for it no longer than for a claim. As long as the claim could live, it is asked at
//!   least as often as the lease would be renewed, and stands in for the renewals: whatever keeps the store from
//!   taking the one keeps it from taking the other. An outcome that is unknown is not asked for any longer
//!   than that: a claim whose lease is over says the same.
//!
//! Why an end may be recorded **late**, when the lease is over: until another owner writes, the record is what
//! this one left, in flight with a lease that is over, which its own token alone may end. The first word
//! that is written in between wins: a new claim (`on_unknown: "retry"`), however it ended, and what an
//! operator made of the record have another token or another state, and the store changes nothing. Where
//! nothing is left, it has lost the record, or its time was over. An execution that took place meanwhile
//! has left a record of its own, for as long as its `ttl`; if that is gone as well, or if there was none, the
//! answer is the truest word there is, and keeps the operation from being run once more. It is kept for its whole `ttl`
//! from then on: how long ago the execution ended only this worker's clock could tell, which may have been set.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use super::{
    Answer, Claimed, Renewed, Settled, StoreError,
    dialect::{Asked, Dialect, Failure, Heard, Question, Said, Terms},
};
use crate::{record::RENEWALS_PER_LEASE, request::OperationId, time::Timestamp};

/// A call under way.
#[derive(Clone)]
pub struct Inquiry {
    operation: OperationId,
    question: Question,
    /// What is sent, at each attempt the same.
    bytes: Vec<u8>,
    dialect: Arc<dyn Dialect>,
    /// How long a request waits for the store.
    patience: Duration,
    /// How long a claim outlives its owner.
    lease: Duration,
    /// When it was to be asked, and from the first attempt on, when that was.
    begun: Timestamp,
    /// When it is given up.
    deadline: Timestamp,
    /// How long to rest after the last attempt.
    rest: Duration,
    attempts: u32,
    asked: Timestamp,
    ask_timeout: Duration,
    /// Whether an attempt that failed may have been carried out.
    may_have_worked: bool,
    /// Whether the exchange that waits was told that it takes longer.
    is_delayed: bool,
    /// When the next attempt is due, while none is under way.
    rests_until: Option<Timestamp>,
    /// Why the last attempt failed.
    error: Option<StoreError>,
}

/// How it goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// It is over.
    Answered(Answer),
    /// It is to be asked at once in another form; nothing has failed.
    Anew,
    /// It is to be asked again at once, because of this.
    Again(StoreError),
    /// It is to be asked again when a tick says so, because of this.
    Later(StoreError),
}

impl Hash for Inquiry {
    /// All that its answers can depend on.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.operation, &self.bytes, self.begun, self.deadline, self.rest, self.attempts).hash(state);
        (self.asked, self.ask_timeout, self.may_have_worked, self.is_delayed, self.rests_until, self.error).hash(state);
    }
}

impl std::fmt::Debug for Inquiry {
    /// Without the bytes: they hold the password, and what the upstream answered.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquiry")
            .field("operation", &self.operation)
            .field("question", &self.question)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

impl Inquiry {
    pub(super) fn new(
        operation: OperationId,
        question: Question,
        bytes: Vec<u8>,
        dialect: Arc<dyn Dialect>,
        patience: Duration,
        lease: Duration,
        now: Timestamp,
    ) -> Self {
        let deadline = match question {
            Question::Claim(..) | Question::Renew => now.after(patience),
            Question::Settle { .. } => now.after(lease.max(patience)),
        };
        Self {
            operation,
            question,
            bytes,
            dialect,
            patience,
            lease,
            begun: now,
            deadline,
            rest: Duration::ZERO,
            attempts: 0,
            asked: now,
            ask_timeout: patience,
            may_have_worked: false,
            is_delayed: false,
            rests_until: None,
            error: None,
        }
    }

    /// The same, asked for as long as the record would be kept.
    pub(super) fn lasting(mut self, ttl: Duration) -> Self {
        self.deadline = self.deadline.max(self.begun.after(ttl));
        self
    }

    /// The operation that it is about.
    #[must_use]
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// Begins an attempt: what to send, and how long it may take.
    pub fn ask(&mut self, now: Timestamp) -> (&[u8], Duration) {
        self.rests_until = None;
        self.asked = now;
        if self.attempts == 0 && !matches!(self.question, Question::Settle { .. }) {
            // It has waited for its turn, which is not the server's doing.
            self.begun = now;
            self.deadline = now.after(self.patience);
        }
        self.ask_timeout = match self.question {
            // The first attempt leaves as much time for a second one.
            Question::Claim(..) if self.attempts == 0 => self.patience / 2,
            Question::Claim(..) => self.deadline.since(now).max(SHORTEST_ATTEMPT),
            // Somebody may be waiting for the end of an answer, and no longer than that.
            Question::Settle { .. } if !self.is_delayed => {
                self.begun.after(self.patience).since(now).clamp(SHORTEST_ATTEMPT, self.patience)
            }
            Question::Renew | Question::Settle { .. } => self.patience,
        };
        self.attempts = self.attempts.saturating_add(1);
        (&self.bytes, self.ask_timeout)
    }

    /// Takes in what became of the attempt.
    pub fn hear(&mut self, heard: Heard<'_>, now: Timestamp) -> Progress {
        let failure = match self.understand(heard, now) {
            Ok(Said::Answer(answer)) => return Progress::Answered(answer),
            Ok(Said::AskNext { bytes, may_have_worked }) => {
                self.bytes = bytes;
                self.attempts = self.attempts.saturating_sub(1).max(1);
                self.may_have_worked |= may_have_worked;
                return Progress::Anew;
            }
            Err(failure) => failure,
        };
        self.may_have_worked |= failure.is_doubtful;
        let error = failure.error;
        self.error = Some(error);
        match self.question {
            Question::Claim(..) => {
                let has_time = self.deadline.since(now) >= SHORTEST_ATTEMPT && self.attempts < CLAIM_ATTEMPTS;
                if (failure.is_doubtful || error.passes_at_once()) && has_time {
                    return Progress::Again(error);
                }
                if error.is_throttled() && has_time {
                    return self.rest(error, now);
                }
                Progress::Answered(self.failed(error))
            }
            Question::Settle { .. } if now < self.deadline => self.rest(error, now),
            Question::Renew | Question::Settle { .. } => Progress::Answered(self.failed(error)),
        }
    }

    fn rest(&mut self, error: StoreError, now: Timestamp) -> Progress {
        self.rest = self.next_rest(now);
        self.rests_until = Some(now.after(self.rest));
        Progress::Later(error)
    }

    /// The answer if it is not asked again.
    fn failed(&self, error: StoreError) -> Answer {
        match self.question {
            Question::Claim(_) if self.may_have_worked => Answer::Claimed(Claimed::InDoubt(error)),
            Question::Claim(_) => Answer::Claimed(Claimed::Failed(error)),
            Question::Renew => Answer::Renewed(Renewed::Failed(error)),
            Question::Settle { .. } => Answer::Settled(Settled::Failed(error).into()),
        }
    }

    /// What is claimed, if it is a claim.
    pub(super) fn terms(&self) -> Option<Terms> {
        match self.question {
            Question::Claim(terms) => Some(terms),
            Question::Renew | Question::Settle { .. } => None,
        }
    }

    /// Whether it is a claim that was not asked yet.
    #[must_use]
    pub fn is_new_claim(&self) -> bool {
        self.attempts == 0 && matches!(self.question, Question::Claim(_))
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether it has waited too long to be asked, if the server last answered at `heard`.
    pub(super) fn has_waited_too_long(&self, heard: Timestamp, now: Timestamp) -> bool {
        is_overdue(self.begun, heard, self.patience, now)
    }

    /// Whether it was to be asked as long ago as the server may take to answer.
    pub(super) fn has_waited_for_its_timeout(&self, now: Timestamp) -> bool {
        self.begun.after(self.patience).has_come(now, self.patience)
    }

    /// Whether it is the end of an execution whose claim could live no longer.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        matches!(self.question, Question::Settle { .. }) && now >= self.begun.after(self.lease)
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// When it was to be asked.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// What the exchange is told if its question is not asked again.
    #[must_use]
    pub fn give_up(&self) -> Answer {
        self.failed(self.error.unwrap_or(StoreError::Overloaded))
    }

    /// Whether it gives a claim back. If that is given up, the claim ends with its lease.
    #[must_use]
    pub fn is_release(&self) -> bool {
        matches!(self.question, Question::Settle { settled: Settled::Released })
    }

    /// Whether the next attempt is due.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        // However far the clock was set back meanwhile.
        self.rests_until.is_some_and(|until| until.has_come(now, self.rest))
    }

    /// Whether it may be asked before it is due, because the store takes writes: of others, if not of this one.
    #[must_use]
    pub fn has_rested(&self, now: Timestamp) -> bool {
        self.rests_until.is_some() && self.asked.after(LONGEST_REST).has_come(now, LONGEST_REST)
    }

    /// Whether it is time to tell the exchange that it takes longer; says so once.
    pub fn becomes_delayed(&mut self, now: Timestamp) -> bool {
        let is_late = matches!(self.question, Question::Settle { .. }) && now >= self.begun.after(self.patience);
        is_late && !std::mem::replace(&mut self.is_delayed, true)
    }

    /// How long to rest now: twice as long as the last time, and a part of its age once it is late.
    fn next_rest(&self, now: Timestamp) -> Duration {
        let longest = LONGEST_REST.min(self.lease / RENEWALS_PER_LEASE);
        if self.is_late(now) {
            return (now.since(self.begun) / LATE_RESTS).max(longest).min(LONGEST_LATE_REST);
        }
        FIRST_REST.saturating_mul(2_u32.saturating_pow(self.attempts.saturating_sub(1))).min(longest)
    }

    fn understand(&self, heard: Heard<'_>, now: Timestamp) -> Result<Said, Failure> {
        let is_late = now.since(self.asked).saturating_add(CLOCK_STEP) >= self.ask_timeout;
        let reply = heard.reply(is_late, &*self.dialect)?;
        let Self { question, operation, lease, bytes, .. } = self;
        self.dialect.answer(&Asked { question, operation, lease: *lease, bytes }, reply, now)
    }
}

/// The first attempt, and what a broken connection or a slow server may need.
const CLAIM_ATTEMPTS: u32 = 3;

/// An attempt that could take no longer than this is not made.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(5);

/// How exactly the host keeps a call's time.
pub(super) const CLOCK_STEP: Duration = Duration::from_millis(5);

const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What is late rests for this part of its age, so that a server that is gone for hours is not asked by all of them each
/// second. Others see it come back before, and then they need not wait.
const LATE_RESTS: u32 = 4;
const LONGEST_LATE_REST: Duration = Duration::from_secs(10);

/// How many of its timeouts a claim waits to be asked, as long as the server answers others. After one without a word
/// from the server it is refused.
const PATIENCE: u32 = 4;

/// Whether a claim that came at `ordered` has waited too long for a server that last answered at `heard`.
fn is_overdue(ordered: Timestamp, heard: Timestamp, timeout: Duration, now: Timestamp) -> bool {
    let longest = timeout.saturating_mul(PATIENCE);
    ordered.max(heard).after(timeout).has_come(now, timeout) || ordered.after(longest).has_come(now, longest)
}

#[cfg(test)]
mod tests;
