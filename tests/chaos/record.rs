//! What everybody saw, in one order.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use crate::{
    fault::Fault,
    proof::{
        history::{Asked, AttemptId, Told},
        scenario::Conduct,
    },
};

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// In milliseconds from the beginning.
    pub(crate) at: u64,
    pub(crate) fact: Fact,
}

#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// A client begins to send.
    Began {
        attempt: AttemptId,
        asked: Asked,
        envoy: usize,
    },
    /// The head of the request has reached the service.
    Ran(AttemptId),
    /// What the service does, noted before anybody can see it.
    Conducted(AttemptId, Conduct),
    /// The client has a whole answer.
    Heard(AttemptId, Told),
    /// The client has a whole answer without a word of the filter.
    HeardEnvoy(AttemptId, u16),
    /// The client has no whole answer, because the connection ended.
    Cut(AttemptId),
    /// The client has hung up.
    Left(AttemptId, Fault),
    /// The client has asked for long, with nothing in the way, and got nothing final.
    Stuck(AttemptId),
    Begins(Fault),
    /// The store has lost what it knew.
    RecordsLost,
    Ends(Fault),
}

impl Fact {
    /// Whose fact it is, if it is anybody's in particular.
    pub(crate) fn attempt(&self) -> Option<AttemptId> {
        match self {
            Self::Began { attempt, .. }
            | Self::Ran(attempt)
            | Self::Conducted(attempt, _)
            | Self::Heard(attempt, _)
            | Self::HeardEnvoy(attempt, _)
            | Self::Cut(attempt)
            | Self::Left(attempt, _)
            | Self::Stuck(attempt) => Some(*attempt),
            Self::Begins(_) | Self::RecordsLost | Self::Ends(_) => None,
        }
    }
}

/// What is written down while it happens.
#[derive(Debug)]
pub(crate) struct Record {
    beginning: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    attempts: usize,
    faults: BTreeMap<Fault, Count>,
}

/// How often a fault happened, and how often somebody saw that it did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    pub(crate) happened: u64,
    pub(crate) noticed: u64,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { beginning: Instant::now(), state: Mutex::default() }
    }

    pub(crate) fn note(&self, fact: Fact) {
        let mut state = self.state();
        // Under the lock, so that the order is that of the times.
        let at = self.now();
        state.entries.push(Entry { at, fact });
    }

    /// A client begins to ask; gives the number of its attempt.
    pub(crate) fn begin(&self, asked: Asked, envoy: usize) -> AttemptId {
        let mut state = self.state();
        let (attempt, at) = (state.attempts, self.now());
        state.attempts += 1;
        state.entries.push(Entry { at, fact: Fact::Began { attempt, asked, envoy } });
        attempt
    }

    pub(crate) fn count(&self, fault: Fault, is_noticed: bool) {
        let mut state = self.state();
        let count = state.faults.entry(fault).or_default();
        count.happened += 1;
        count.noticed += u64::from(is_noticed);
    }

    /// Everything so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// Whether anything like that was noted from `since` on.
    pub(crate) fn has(&self, since: u64, is_it: impl Fn(&Fact) -> bool) -> bool {
        let state = self.state();
        state.entries.iter().rev().take_while(|entry| entry.at >= since).any(|entry| is_it(&entry.fact))
    }

    pub(crate) fn faults(&self) -> BTreeMap<Fault, Count> {
        self.state().faults.clone()
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.beginning.elapsed().as_millis()).unwrap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding this")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>7} ms ", self.at)?;
        match &self.fact {
            Fact::Began { attempt, asked: Asked { caller, key, body }, envoy } => {
                write!(formatter, "attempt {attempt}: caller {caller}, key {key}, body {body}, at Envoy {envoy}")
            }
            Fact::Heard(attempt, told) => {
                write!(formatter, "attempt {attempt} heard {:?}, {}: ", told.word, told.status)?;
                write!(formatter, "{}", told.body.escape_ascii())
            }
            Fact::Left(attempt, stage) => write!(formatter, "attempt {attempt}: {stage}"),
            fact => write!(formatter, "{fact:?}"),
        }
    }
}
