//! What clients and the service saw, and whether that is what the contract promises. It knows nothing of
//! records or of what the code believes.

use idemgate::{
    config::OnUnknown,
    exchange::{Counter, Reply},
};

use super::{
    scenario::{Conduct, Scenario},
    service::{Response, body_of},
    worker::AttemptId,
};

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
    /// The answers that clients know of, which each later replay has to be: which run of which operation.
    known: Vec<(Operation, AttemptId)>,
    /// When the store lost its data last: by operation's Envoy, or Redis.
    losses: Vec<(u8, u64)>,
    has_evicted: bool,
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
    /// A request goes on to the service: its claim was asked for, and found granted, at these times.
    pub(crate) fn let_through(
        &mut self,
        scenario: &Scenario,
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
                let was_taken_over = self.may_be_tried_again(scenario, &run, other.granted);
                !is_exempt && !was_taken_over && !self.is_over(scenario, other, granted)
            })
            .cloned();
        self.runs.push(run);
        match conflict {
            Some(other) => breach(Promise::AtMostOnce, format!("attempt {attempt} runs, and so did {other:?}")),
            None => Ok(()),
        }
    }

    /// Whether the contract lets another execution begin whose claim is granted at `now`.
    fn is_over(&self, scenario: &Scenario, run: &Run, now: u64) -> bool {
        let was_not_done = matches!(run.conduct, Some(Conduct::Refuses | Conduct::Unreachable));
        was_not_done
            || self.may_be_tried_again(scenario, run, now)
            || self.is_lost(run)
            || now >= run.claimed + scenario.ttl()
            || self.has_evicted
    }

    /// Whether nothing certain is known of an execution, its lease may have run out by `now`, and the policy
    /// lets another one begin. It may even have begun first, if a worker stood still that long.
    fn may_be_tried_again(&self, scenario: &Scenario, run: &Run, now: u64) -> bool {
        scenario.policy.outcome.on_unknown == OnUnknown::Retry
            && !run.is_recorded
            && now >= run.claimed + scenario.lease()
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

    pub(crate) fn counted(&mut self, attempt: AttemptId, counter: Counter) {
        if let Some(run) = self.run_mut(attempt) {
            run.is_recorded |= matches!(counter, Counter::OutcomesStored | Counter::OutcomesTombstoned);
        }
    }

    pub(crate) fn lost_data(&mut self, store: u8, now: u64) {
        self.losses.retain(|(other, _)| *other != store);
        self.losses.push((store, now));
    }

    pub(crate) fn evicted(&mut self) {
        self.has_evicted = true;
    }

    /// A client has the whole answer of its own execution.
    pub(crate) fn passed(&mut self, scenario: &Scenario, attempt: AttemptId, now: u64) -> Result<(), Breach> {
        match self.run(attempt) {
            Some(run) if run.is_recorded && run.conduct == Some(Conduct::Answers) => {
                let operation = run.operation;
                self.is_known(scenario, operation, attempt, now)
            }
            _ => Ok(()),
        }
    }

    /// The filter answers by itself.
    pub(crate) fn replied(
        &mut self,
        scenario: &Scenario,
        attempt: AttemptId,
        operation: Operation,
        reply: &Reply,
        now: u64,
        begun: impl Fn(AttemptId) -> bool,
    ) -> Result<(), Breach> {
        let asked = &scenario.attempts[attempt];
        let is_sibling = |other: AttemptId| {
            let other = &scenario.attempts[other];
            (other.caller, other.key) == (asked.caller, asked.key)
        };
        match reply.details {
            "idemgate_replay" => self.replayed(scenario, attempt, operation, reply, now),
            "idemgate_detached" => self.passed(scenario, attempt, now),
            "idemgate_key_reused" => {
                let others = 0..scenario.attempts.len();
                let is_reuse =
                    |other: usize| is_sibling(other) && begun(other) && scenario.attempts[other].body != asked.body;
                if others.into_iter().any(is_reuse) {
                    return Ok(());
                }
                breach(Promise::Replay, format!("attempt {attempt} is said to reuse a key, and nobody else used it"))
            }
            _ => Ok(()),
        }
    }

    fn replayed(
        &mut self,
        scenario: &Scenario,
        attempt: AttemptId,
        operation: Operation,
        reply: &Reply,
        now: u64,
    ) -> Result<(), Breach> {
        let not = |how: &str| breach(Promise::Replay, format!("attempt {attempt} was replayed {how}"));
        let Some(run) = self.runs.iter().find(|run| body_of(run.attempt) == reply.body) else {
            return not("what nobody answered");
        };
        if run.operation != operation {
            return not(&format!("the answer of {run:?}, another operation"));
        }
        if scenario.attempts[run.attempt].body != scenario.attempts[attempt].body {
            return not(&format!("the answer to another request, {run:?}"));
        }
        if run.conduct != Some(Conduct::Answers) {
            return not(&format!("what was never answered whole, {run:?}"));
        }
        let is_ours =
            |name: &str| ["idempotency-replayed", "idempotency-expires", "idempotency-status"].contains(&name);
        let fields: Vec<(String, String)> = reply
            .headers
            .iter()
            .map(|(name, value)| [name, value].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).into())
            .filter(|(name, _): &(String, String)| !is_ours(name))
            .collect();
        if (reply.status, fields) != (201, Response::replayed_fields(run.attempt)) {
            return not(&format!("not as it was: {reply:?}"));
        }
        let first = run.attempt;
        if let Some(run) = self.run_mut(first) {
            run.is_recorded = true;
        }
        self.is_known(scenario, operation, first, now)
    }

    /// A client knows now that `attempt` was the execution of an operation. So it stays.
    fn is_known(
        &mut self,
        scenario: &Scenario,
        operation: Operation,
        attempt: AttemptId,
        now: u64,
    ) -> Result<(), Breach> {
        let is_over = |attempt: AttemptId| self.run(attempt).is_some_and(|run| self.is_over(scenario, run, now));
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

    /// Whether an attempt was let through.
    pub(crate) fn has_run(&self, attempt: AttemptId) -> bool {
        self.run(attempt).is_some()
    }
}

pub(crate) fn breach(promise: Promise, how: String) -> Result<(), Breach> {
    Err(Breach { promise, how })
}
