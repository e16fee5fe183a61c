//! What clients and the service saw, and whether that is what the contract promises. It knows nothing of
//! records or of what the code believes, and nothing of whether the world that it judges is a real one.

use super::{
    scenario::Conduct,
    service::{Response, body_of},
};

/// One request of a client, by its number.
pub(crate) type AttemptId = usize;

/// What is promised in a world, and what is asked for in it. Times are in milliseconds.
pub(crate) trait Terms {
    /// How long a claim outlives its owner.
    fn lease(&self) -> u64;

    /// How long what is certain is remembered.
    fn ttl(&self) -> u64;

    /// Whether an operation of unknown outcome may run again.
    fn retries_unknown(&self) -> bool;

    /// By how much earlier a lease or a record may be over than it says, because clocks differ.
    fn early(&self) -> u64 {
        0
    }

    fn asked(&self, attempt: AttemptId) -> Asked;
}

/// What an attempt asks for: this body, under this key of this caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) caller: u8,
    pub(crate) key: u8,
    pub(crate) body: u8,
}

/// A whole answer, as a client has it, without the fields by which the filter says what it did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) word: Word,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What the filter says that an answer is (contract, section 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Word {
    Bypassed,
    /// The service's answer to this very attempt.
    Executed,
    InFlight,
    KeyReused,
    NotKept,
    Rejected,
    Replayed,
    Unknown,
}

impl Told {
    /// An answer with all its fields; None if it has no word of the contract.
    pub(crate) fn read(status: u16, fields: impl IntoIterator<Item = (String, String)>, body: Vec<u8>) -> Option<Self> {
        let (own, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| OWN.contains(&name.as_str()));
        let (_, word) = own.into_iter().find(|(name, _)| name == "idempotency-status")?;
        let word = match word.as_str() {
            "bypassed" => Word::Bypassed,
            "executed" => Word::Executed,
            "in-flight" => Word::InFlight,
            "key-reused" => Word::KeyReused,
            "not-kept" => Word::NotKept,
            "rejected" => Word::Rejected,
            "replayed" => Word::Replayed,
            "unknown" => Word::Unknown,
            _ => return None,
        };
        Some(Self { word, status, fields, body })
    }
}

/// The fields by which the filter says what it did.
const OWN: [&str; 3] = ["idempotency-replayed", "idempotency-expires", "idempotency-status"];

/// A promise of the contract.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Promise {
    /// An operation runs at most once, but for the exceptions that the contract names.
    AtMostOnce,
    /// A replay is the first response, and goes to the same request alone.
    Replay,
    /// Who lost a claim changes nothing, and no record outlasts its policy.
    Record,
    /// A claim ends, and a key is free again in the end.
    ClaimEnds,
    /// A request is answered.
    Answer,
}

impl Promise {
    pub(crate) const ALL: [Self; 5] = [Self::AtMostOnce, Self::Replay, Self::Record, Self::ClaimEnds, Self::Answer];
}

/// A promise that was not kept.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Breach {
    pub(crate) promise: Promise,
    pub(crate) how: String,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct History {
    runs: Vec<Run>,
    /// The answers that clients have: which run of which operation. Each later replay must be one of them.
    known: Vec<(Operation, AttemptId)>,
    /// Attempts that began when a client knew the answer, and whose execution that was.
    expected: Vec<(AttemptId, AttemptId)>,
    /// When the store lost its data last: by operation's Envoy, or Redis.
    losses: Vec<(u8, u64)>,
    /// Whose records were given up before their time.
    evicted: Vec<AttemptId>,
}

/// What a key stands for in one store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Operation {
    pub(crate) store: u8,
    pub(crate) caller: u8,
    pub(crate) key: u8,
}

/// One execution, or what may have become one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Run {
    attempt: AttemptId,
    operation: Operation,
    /// When its claim was asked for: before it was granted.
    claimed: u64,
    /// When it was let through, after its claim was granted.
    granted: u64,
    is_protected: bool,
    conduct: Option<Conduct>,
    /// What the store says that it keeps of it.
    is_recorded: bool,
}

impl History {
    /// A client begins to ask.
    pub(crate) fn began(&mut self, attempt: AttemptId, operation: Operation) {
        let known = self.known.iter().find(|(known, _)| *known == operation);
        self.expected.extend(known.map(|(_, run)| (attempt, *run)));
    }

    /// A request goes on to the service: its claim was asked for, and found granted, at these times.
    pub(crate) fn let_through(
        &mut self,
        terms: &impl Terms,
        attempt: AttemptId,
        operation: Operation,
        (claimed, granted): (u64, u64),
        is_protected: bool,
    ) -> Result<(), Breach> {
        let run = Run { attempt, operation, claimed, granted, is_protected, conduct: None, is_recorded: false };
        let mut earlier = self.runs.iter().filter(|other| other.operation == operation && other.is_protected);
        let is_exempt = !is_protected || self.is_lost(&run);
        let conflict = earlier
            .find(|other| {
                let was_taken_over = self.may_be_tried_again(terms, &run, other.granted);
                !is_exempt && !was_taken_over && !self.is_over(terms, other, granted)
            })
            .cloned();
        self.runs.push(run);
        match conflict {
            Some(other) => breach(Promise::AtMostOnce, format!("attempt {attempt} runs, and so did {other:?}")),
            None => Ok(()),
        }
    }

    /// Whether the contract lets another execution begin whose claim is granted at `now`.
    fn is_over(&self, terms: &impl Terms, run: &Run, now: u64) -> bool {
        let was_not_done = matches!(run.conduct, Some(Conduct::Refuses | Conduct::Unreachable));
        was_not_done
            || self.may_be_tried_again(terms, run, now)
            || self.is_lost(run)
            || now + terms.early() >= run.claimed + terms.ttl()
            || self.evicted.contains(&run.attempt)
    }

    /// Whether nothing certain is known of an execution, its lease may have run out by `now`, and the policy
    /// lets another one begin. It may even have begun first, if a worker stood still that long.
    fn may_be_tried_again(&self, terms: &impl Terms, run: &Run, now: u64) -> bool {
        terms.retries_unknown() && !run.is_recorded && now + terms.early() >= run.claimed + terms.lease()
    }

    /// Whether the store has lost what it knew of an execution.
    fn is_lost(&self, run: &Run) -> bool {
        self.losses.iter().any(|(store, at)| *store == run.operation.store && *at >= run.claimed)
    }

    /// What the service did with it, or Envoy in its place.
    pub(crate) fn conducted(&mut self, attempt: AttemptId, conduct: Conduct) {
        if let Some(run) = self.run_mut(attempt) {
            run.conduct = Some(conduct);
        }
    }

    /// The store keeps what became of an execution.
    pub(crate) fn recorded(&mut self, attempt: AttemptId) {
        if let Some(run) = self.run_mut(attempt) {
            run.is_recorded = true;
        }
    }

    pub(crate) fn lost_data(&mut self, store: u8, now: u64) {
        self.losses.retain(|(other, _)| *other != store);
        self.losses.push((store, now));
    }

    /// The store has given up what it knew of an execution.
    pub(crate) fn evicted(&mut self, attempt: AttemptId) {
        if !self.evicted.contains(&attempt) {
            self.evicted.push(attempt);
        }
    }

    /// A client has the whole answer of its own execution, as it passed by.
    pub(crate) fn passed(&mut self, terms: &impl Terms, attempt: AttemptId, now: u64) -> Result<(), Breach> {
        if self.is_protected(attempt) {
            self.is_expected(terms, attempt, Word::Executed, now)?;
        }
        match self.run(attempt) {
            Some(run) if run.is_recorded && run.conduct == Some(Conduct::Answers) => {
                let operation = run.operation;
                self.is_known(terms, operation, attempt, now)
            }
            _ => Ok(()),
        }
    }

    /// A client has a whole answer, which the filter gave by itself or let pass.
    pub(crate) fn answered(
        &mut self,
        terms: &impl Terms,
        attempt: AttemptId,
        operation: Operation,
        told: &Told,
        now: u64,
        mut begun: impl Iterator<Item = AttemptId>,
    ) -> Result<(), Breach> {
        match told.word {
            Word::Executed => {
                self.is_own(attempt, told)?;
                self.passed(terms, attempt, now)
            }
            Word::Replayed => self.replayed(terms, attempt, operation, told, now),
            Word::KeyReused => {
                let asked = terms.asked(attempt);
                let is_reuse =
                    |other: Asked| (other.caller, other.key) == (asked.caller, asked.key) && other.body != asked.body;
                if begun.any(|other| is_reuse(terms.asked(other))) {
                    return Ok(());
                }
                breach(Promise::Replay, format!("attempt {attempt} is said to reuse a key, and nobody else used it"))
            }
            Word::InFlight | Word::Unknown => self.is_expected(terms, attempt, told.word, now),
            // What is remembered need not have found room.
            Word::Bypassed | Word::NotKept | Word::Rejected => Ok(()),
        }
    }

    /// What is said to be the service's answer is that.
    fn is_own(&self, attempt: AttemptId, told: &Told) -> Result<(), Breach> {
        let conduct = self.run(attempt).and_then(|run| run.conduct);
        let said = conduct.map(|conduct| Response::of(conduct, attempt));
        if said.is_some_and(|said| (said.status, &said.body) == (told.status, &told.body)) {
            return Ok(());
        }
        breach(Promise::Answer, format!("the service did {conduct:?}, and attempt {attempt} was told {told:?}"))
    }

    /// Who asks when the answer is known is not told that nobody knows it yet, and runs nothing.
    fn is_expected(&mut self, terms: &impl Terms, attempt: AttemptId, word: Word, now: u64) -> Result<(), Breach> {
        match self.take_expected(terms, attempt, now) {
            Some(run) => breach(
                Promise::Replay,
                format!("attempt {attempt} was told {word:?}, and the answer is known: {run:?}"),
            ),
            None => Ok(()),
        }
    }

    /// The execution whose answer was known when an attempt began, and has not come to its end since.
    fn take_expected(&mut self, terms: &impl Terms, attempt: AttemptId, now: u64) -> Option<&Run> {
        let place = self.expected.iter().position(|(asked, _)| *asked == attempt)?;
        let (_, run) = self.expected.swap_remove(place);
        self.run(run).filter(|run| !self.is_over(terms, run, now))
    }

    fn replayed(
        &mut self,
        terms: &impl Terms,
        attempt: AttemptId,
        operation: Operation,
        told: &Told,
        now: u64,
    ) -> Result<(), Breach> {
        let not = |how: &str| breach(Promise::Replay, format!("attempt {attempt} was replayed {how}"));
        let Some(run) = self.runs.iter().find(|run| body_of(run.attempt) == told.body) else {
            return not("what nobody answered");
        };
        if run.operation != operation {
            return not(&format!("the answer of {run:?}, another operation"));
        }
        if terms.asked(run.attempt).body != terms.asked(attempt).body {
            return not(&format!("the answer to another request, {run:?}"));
        }
        if run.conduct != Some(Conduct::Answers) {
            return not(&format!("what was never answered whole, {run:?}"));
        }
        if (told.status, &told.fields) != (201, &Response::replayed_fields(run.attempt)) {
            return not(&format!("not as it was: {told:?}"));
        }
        let first = run.attempt;
        if let Some(run) = self.take_expected(terms, attempt, now).filter(|run| run.attempt != first) {
            return not(&format!("the answer of {first}, and that of {run:?} is known"));
        }
        self.recorded(first);
        self.is_known(terms, operation, first, now)
    }

    /// A client knows now that `attempt` was the execution of an operation. So it stays.
    fn is_known(
        &mut self,
        terms: &impl Terms,
        operation: Operation,
        attempt: AttemptId,
        now: u64,
    ) -> Result<(), Breach> {
        let is_over = |attempt: AttemptId| self.run(attempt).is_some_and(|run| self.is_over(terms, run, now));
        match self.known.iter().find(|(known, _)| *known == operation).map(|(_, other)| *other) {
            // Found in the store before it was lost, or ended, and a long time on its way.
            Some(other) if other != attempt && !is_over(other) && is_over(attempt) => return Ok(()),
            Some(other) if other != attempt && !is_over(other) => {
                return breach(Promise::Replay, format!("the answer of {other} became that of {attempt}"));
            }
            _ => {}
        }
        self.known.retain(|(known, _)| *known != operation);
        self.known.push((operation, attempt));
        Ok(())
    }

    fn run(&self, attempt: AttemptId) -> Option<&Run> {
        self.runs.iter().find(|run| run.attempt == attempt)
    }

    fn run_mut(&mut self, attempt: AttemptId) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.attempt == attempt)
    }

    /// Whether an attempt runs under a claim.
    pub(crate) fn is_protected(&self, attempt: AttemptId) -> bool {
        self.run(attempt).is_some_and(|run| run.is_protected)
    }

    /// Whether an operation was let through.
    pub(crate) fn has_run_any(&self, operation: Operation) -> bool {
        self.runs.iter().any(|run| run.operation == operation)
    }

    /// Whether an attempt was let through.
    pub(crate) fn has_run(&self, attempt: AttemptId) -> bool {
        self.run(attempt).is_some()
    }
}

pub(crate) fn breach(promise: Promise, how: String) -> Result<(), Breach> {
    Err(Breach { promise, how })
}
