//! A claim that this exchange holds, wherever the operation runs.

use std::time::Duration;

use super::{
    Effect, State, Step,
    settling::{Answering, Settling},
};
use crate::{
    config::Policy,
    record::{Owner, RENEWALS_PER_LEASE},
    request::{Fingerprint, OperationId},
    store::{Call, Ending},
    time::Timestamp,
};

/// What the store knows a request by. It goes from state to state in its box.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) operation: OperationId,
    pub(super) fingerprint: Fingerprint,
    pub(super) owner: Owner,
}

/// The right to run an operation; it ends with [`settle`](Self::settle), or with its lease.
#[derive(Clone, Debug)]
pub(super) struct Execution {
    attempt: Box<Attempt>,
    renew_at: Timestamp,
}

impl Execution {
    pub(super) fn begin(attempt: Box<Attempt>, step: &Step<'_>) -> Self {
        Self { attempt, renew_at: step.now.after(renewal_interval(step.policy)) }
    }

    /// Says how it ended. The client learns the end of `answer` once the store knows it.
    pub(super) fn settle(self, ending: Ending, answer: Answering, step: &mut Step<'_>) -> State {
        let operation = self.attempt.operation;
        if matches!(answer, Answering::Held) {
            step.effects.push(Effect::HoldResponse);
        }
        step.call(self.settlement(ending, step));
        State::Settling(Settling { operation, answer })
    }

    /// Gives the claim back, if it was granted at all, while nobody waits for the store's word on it.
    pub(super) fn disown(self, step: &mut Step<'_>) {
        step.call(self.settlement(Ending::Released, step));
    }

    fn settlement(&self, ending: Ending, step: &Step<'_>) -> Call {
        let Attempt { operation, fingerprint, owner } = *self.attempt;
        Call::Settle { operation, fingerprint, owner, ending, lease: step.policy.lease, ttl: step.policy.ttl }
    }

    /// Whether the lease is to be extended at `now`.
    pub(super) fn is_due(&self, now: Timestamp, policy: &Policy) -> bool {
        // A clock that was set back must not keep a lease from being renewed that another clock judges.
        self.renew_at.has_come(now, renewal_interval(policy))
    }

    /// Extends the lease well before it runs out, so that a slow upstream does not look like a dead owner.
    pub(super) fn renew_if_due(&mut self, step: &mut Step<'_>) {
        if self.is_due(step.now, step.policy) {
            let Attempt { operation, owner, .. } = *self.attempt;
            step.call(Call::Renew { operation, owner, lease: step.policy.lease, ttl: step.policy.ttl });
            self.renew_at = step.now.after(renewal_interval(step.policy));
        }
    }
}

/// The time between two renewals.
pub(super) fn renewal_interval(policy: &Policy) -> Duration {
    policy.lease / RENEWALS_PER_LEASE
}
