//! Whether what everybody saw is what the contract promises: the record of a round, told to the history checker of the
//! simulation.
//!
//! Of a real world less is known than of a simulated one. A claim was made at the earliest when its client began to
//! ask, and granted at the latest when the service was asked. What the store keeps shows only in what it gives back, and
//! in the end of an answer that was held until it was kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fmt::Write as _,
    time::Duration,
};

use crate::{
    fault::Fault,
    plan::{Deployment, STORE_TIMEOUT},
    proof::{
        history::{Asked, AttemptId, Breach, History, Operation, Promise, Terms, Told, Word, breach},
        scenario::{Conduct, millis},
    },
    record::{Entry, Fact},
    stage::is_impatient,
};

/// A promise that was not kept, with what happened to the key in question.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) breach: Breach,
    story: String,
}

/// Retention, as it is by default: longer than any round.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// How long it may take the way to the store to be as it was after a fault has ended.
const RECOVERY: u64 = 500;

/// How long it may take an answer of the service to be recorded, with nothing in the way but a busy machine.
const RECORDING: u64 = 1_000;

/// When nothing was noted for so long, the machine may have stood still, and with it whatever was under way.
const STANDSTILL: u64 = 300;

/// Judges the facts one after the other.
#[derive(Debug)]
struct Judge<'a> {
    terms: Promised<'a>,
    history: History,
    /// When the service was asked.
    ran: BTreeMap<AttemptId, u64>,
    /// What the service did, and when.
    conducted: BTreeMap<AttemptId, (Conduct, u64)>,
    /// Detached answers that are to be recorded by a certain time, whether or not anyone waits for them.
    due: Vec<(AttemptId, u64)>,
    /// Whose client has left before its request was whole.
    partial: BTreeSet<AttemptId>,
    /// When anything was noted last, and when that came after a standstill.
    noted: u64,
    stood_still: u64,
    /// Faults of the store that go on.
    troubles: u32,
    /// When the last of them ended.
    recovered: u64,
    /// Whether an Envoy is down.
    is_down: bool,
    /// When an Envoy was down last.
    was_down: u64,
}

/// What is promised to the clients of a round.
#[derive(Debug)]
struct Promised<'a> {
    deployment: &'a Deployment,
    /// What each attempt asks for, and when it began.
    attempts: Vec<(Asked, u64)>,
}

/// Whether every promise was kept.
pub(crate) fn judge(deployment: &Deployment, entries: &[Entry]) -> Result<(), Verdict> {
    let terms = Promised { deployment, attempts: Vec::new() };
    let mut judge = Judge {
        terms,
        history: History::default(),
        ran: BTreeMap::new(),
        conducted: BTreeMap::new(),
        due: Vec::new(),
        partial: BTreeSet::new(),
        noted: 0,
        stood_still: 0,
        troubles: 0,
        recovered: 0,
        is_down: false,
        was_down: 0,
    };
    for (index, entry) in entries.iter().enumerate() {
        if let Err(breach) = judge.hear(entry) {
            let asked = entry.fact.attempt().map(|attempt| judge.terms.asked(attempt));
            return Err(Verdict { breach, story: story(&entries[..=index], &judge.terms, asked) });
        }
    }
    Ok(())
}

impl Judge<'_> {
    fn hear(&mut self, entry: &Entry) -> Result<(), Breach> {
        let now = entry.at;
        if now - self.noted > STANDSTILL {
            self.stood_still = now;
            self.due.clear();
        }
        self.noted = now;
        let recorded: Vec<_> = self.due.extract_if(.., |(_, due)| *due <= now).collect();
        for (attempt, due) in recorded {
            self.history.recorded(attempt);
            self.history.passed(&self.terms, attempt, due)?;
        }
        match &entry.fact {
            Fact::Began { attempt, asked, .. } => {
                self.terms.attempts.push((*asked, now));
                self.history.began(*attempt, operation(*asked));
                Ok(())
            }
            Fact::Ran(attempt) => {
                let (asked, began) = self.terms.attempts[*attempt];
                if self.ran.insert(*attempt, now).is_some() || self.partial.contains(attempt) {
                    return breach(Promise::AtMostOnce, format!("attempt {attempt} runs twice, or was never whole"));
                }
                self.history.let_through(&self.terms, *attempt, operation(asked), (began, now), true)
            }
            Fact::Conducted(attempt, conduct) => {
                self.conducted.insert(*attempt, (*conduct, now));
                self.history.conducted(*attempt, *conduct);
                if *conduct == Conduct::Answers && self.goes_on(*attempt, now) {
                    self.due.push((*attempt, now + RECORDING));
                }
                Ok(())
            }
            Fact::Heard(attempt, told) => self.heard(*attempt, told, now),
            Fact::HeardEnvoy(attempt, status) => {
                if self.terms.deployment.can_crash {
                    return Ok(());
                }
                breach(Promise::Answer, format!("attempt {attempt} was told {status}, and not what that means"))
            }
            Fact::Cut(attempt) => self.cut(*attempt),
            Fact::Stuck(attempt) => {
                breach(Promise::ClaimEnds, format!("there is no end to what attempt {attempt} asks for"))
            }
            Fact::Begins(fault) => {
                self.troubles += u32::from(fault.makes_the_store_fail());
                self.is_down |= *fault == Fault::EnvoyKilled;
                Ok(())
            }
            Fact::Ends(fault) => {
                if fault.makes_the_store_fail() {
                    self.troubles -= 1;
                    self.recovered = now + RECOVERY;
                }
                if *fault == Fault::EnvoyKilled {
                    (self.is_down, self.was_down) = (false, now);
                }
                Ok(())
            }
            Fact::RecordsLost => {
                self.history.lost_data(0, now);
                Ok(())
            }
            Fact::Left(attempt, Fault::LeftUploading) => {
                self.partial.insert(*attempt);
                if self.ran.contains_key(attempt) {
                    return breach(Promise::AtMostOnce, format!("attempt {attempt} ran, and was never whole"));
                }
                Ok(())
            }
            Fact::Left(..) => Ok(()),
        }
    }

    fn heard(&mut self, attempt: AttemptId, told: &Told, now: u64) -> Result<(), Breach> {
        if !self.is_documented(told) {
            return breach(Promise::Answer, format!("the contract has no such answer to attempt {attempt}: {told:?}"));
        }
        if told.word == Word::Executed && self.is_kept(attempt, now) {
            self.history.recorded(attempt);
        }
        let operation = operation(self.terms.asked(attempt));
        let begun = 0..self.terms.attempts.len();
        self.history.answered(&self.terms, attempt, operation, told, now, begun)
    }

    /// Whether the contract has such an answer, in section 4.
    fn is_documented(&self, told: &Told) -> bool {
        let is_problem = |status, name: &str| {
            let part = format!("\"urn:idemgate:{name}\"");
            told.status == status && String::from_utf8_lossy(&told.body).contains(&part)
        };
        match told.word {
            Word::Bypassed => false,
            Word::Executed => [200, 201, 503].contains(&told.status),
            Word::InFlight => is_problem(409, "request-in-flight"),
            Word::KeyReused => is_problem(422, "key-reused"),
            Word::NotKept => is_problem(409, "response-not-kept"),
            // The service is always there, and shared data is never away. A worker that stands still makes no call that it
            // was about to make.
            Word::Rejected => {
                let (is_remote, is_detached) = (self.terms.deployment.is_remote(), self.terms.deployment.is_detached);
                (is_remote || is_detached) && is_problem(503, "overloaded")
                    || is_remote && is_problem(503, "store-unavailable")
            }
            Word::Replayed => told.status == 201,
            // Lost on the way, whichever way it was lost.
            Word::Unknown => is_problem(409, "outcome-unknown") || (502..=504).contains(&told.status),
        }
    }

    /// Whether an answer that has come whole says that the store has it. Shared data always has, if nobody can have
    /// taken over; Redis has if besides the filter cannot have given up waiting for it.
    fn is_kept(&self, attempt: AttemptId, now: u64) -> bool {
        let Some((_, conducted)) = self.conducted.get(&attempt).copied() else { return false };
        let (_, began) = self.terms.attempts[attempt];
        let is_own = !self.terms.retries_unknown() || now - began < self.terms.lease();
        let was_quick = now - conducted < millis(STORE_TIMEOUT) / 2;
        let is_confirmed = was_quick && self.troubles == 0 && self.recovered <= conducted;
        is_own && (is_confirmed || !self.terms.deployment.is_remote())
    }

    /// Whether an answer is recorded whatever its client does: detached, where nothing fails, and in good time.
    fn goes_on(&self, attempt: AttemptId, now: u64) -> bool {
        let was_quick = self.ran.get(&attempt).is_some_and(|ran| now - ran < RECORDING && *ran >= self.stood_still);
        self.terms.deployment.is_detached && self.terms.deployment.is_peaceful && was_quick
    }

    /// A connection that ends without a whole answer has a reason.
    fn cut(&self, attempt: AttemptId) -> Result<(), Breach> {
        let Promised { deployment, attempts } = &self.terms;
        let (asked, began) = attempts[attempt];
        let conduct = self.conducted.get(&attempt).map(|(conduct, _)| *conduct);
        let may_time_out = !deployment.is_detached && is_impatient(asked);
        if deployment.can_crash
            || self.is_down
            || self.was_down >= began
            || may_time_out
            || conduct == Some(Conduct::Breaks)
        {
            return Ok(());
        }
        breach(Promise::Answer, format!("attempt {attempt} has no whole answer, and the service did {conduct:?}"))
    }
}

impl Terms for Promised<'_> {
    fn lease(&self) -> u64 {
        millis(self.deployment.lease)
    }

    fn ttl(&self) -> u64 {
        millis(TTL)
    }

    fn retries_unknown(&self) -> bool {
        self.deployment.retries_unknown
    }

    fn asked(&self, attempt: AttemptId) -> Asked {
        self.attempts[attempt].0
    }
}

/// There is one store in each round.
fn operation(asked: Asked) -> Operation {
    Operation { store: 0, caller: asked.caller, key: asked.key }
}

/// What happened to the key in question, and what failed meanwhile.
fn story(entries: &[Entry], terms: &Promised<'_>, asked: Option<Asked>) -> String {
    let key = |asked: Asked| (asked.caller, asked.key);
    let mut story = String::new();
    for entry in entries {
        let is_of_it = match entry.fact.attempt() {
            Some(attempt) => asked.is_none_or(|asked| key(terms.asked(attempt)) == key(asked)),
            None => true,
        };
        if is_of_it {
            let _ = writeln!(story, "{entry}");
        }
    }
    story
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Breach { promise, how } = &self.breach;
        write!(formatter, "{promise:?} is broken: {how}\n{}", self.story)
    }
}
