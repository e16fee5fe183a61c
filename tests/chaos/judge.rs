//! Whether what everybody saw is what the contract promises: the record of a round, told to the history checker of the
//! simulation.
//!
//! Of a real world less is known than of a simulated one. A claim was made at the earliest when its client began to
//! ask, and granted at the latest when the service was asked. What the store keeps shows only in what it gives back, and
//! in the end of an answer that was held until it was kept.

use std::{collections::BTreeMap, fmt, fmt::Write as _, time::Duration};

use crate::{
    plan::{Deployment, STORE_TIMEOUT},
    proof::{
        history::{Asked, AttemptId, Breach, History, Operation, Promise, Terms, Told, Word, breach},
        scenario::millis,
    },
    record::{Entry, Fact},
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

/// Judges the facts one after the other.
#[derive(Debug)]
struct Judge<'a> {
    terms: Promised<'a>,
    history: History,
    /// When the service answered.
    conducted: BTreeMap<AttemptId, u64>,
    /// Faults of the store that go on.
    troubles: u32,
    /// When the last of them ended.
    recovered: u64,
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
    let (history, conducted) = (History::default(), BTreeMap::new());
    let mut judge = Judge { terms, history, conducted, troubles: 0, recovered: 0 };
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
        match &entry.fact {
            Fact::Began { attempt, asked, .. } => {
                self.terms.attempts.push((*asked, now));
                self.history.began(*attempt, operation(*asked));
                Ok(())
            }
            Fact::Ran(attempt) => {
                let asked = self.terms.asked(*attempt);
                if self.history.has_run(*attempt) {
                    return breach(Promise::AtMostOnce, format!("attempt {attempt} runs twice"));
                }
                let (_, began) = self.terms.attempts[*attempt];
                self.history.let_through(&self.terms, *attempt, operation(asked), (began, now), true)
            }
            Fact::Conducted(attempt, conduct) => {
                self.conducted.insert(*attempt, now);
                self.history.conducted(*attempt, *conduct);
                Ok(())
            }
            Fact::Heard(attempt, told) => self.heard(*attempt, told, now),
            Fact::Stuck(attempt) => {
                breach(Promise::ClaimEnds, format!("there is no end to what attempt {attempt} asks for"))
            }
            Fact::Begins(fault) => {
                self.troubles += u32::from(fault.is_of_the_store());
                Ok(())
            }
            Fact::Ends(fault) => {
                if fault.is_of_the_store() {
                    self.troubles -= 1;
                    self.recovered = now + RECOVERY;
                }
                Ok(())
            }
            Fact::RecordsLost => {
                self.history.lost_data(0, now);
                Ok(())
            }
            Fact::Cut(_) | Fact::HeardEnvoy(..) | Fact::Left(..) => Ok(()),
        }
    }

    fn heard(&mut self, attempt: AttemptId, told: &Told, now: u64) -> Result<(), Breach> {
        if told.word == Word::Executed && self.is_kept(attempt, now) {
            self.history.recorded(attempt);
        }
        let operation = operation(self.terms.asked(attempt));
        let begun = 0..self.terms.attempts.len();
        self.history.answered(&self.terms, attempt, operation, told, now, begun)
    }

    /// Whether an answer that has come whole says that the store has it: shared data always has; Redis has if the
    /// filter cannot have given up waiting for it.
    fn is_kept(&self, attempt: AttemptId, now: u64) -> bool {
        let Some(conducted) = self.conducted.get(&attempt).copied() else { return false };
        let was_quick = now - conducted < millis(STORE_TIMEOUT) / 2;
        !self.terms.deployment.is_remote() || was_quick && self.troubles == 0 && self.recovered <= conducted
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
