//! A claim that this exchange holds, wherever the operation runs.

use std::time::Duration;

use super::{Effect, State, Step, reply::Reply};
use crate::{
    config::Policy,
    record::Owner,
    request::OperationId,
    store::{Call, Ending},
    time::Timestamp,
};

/// The right to run an operation; it ends with [`settle`](Self::settle), or with its lease.
#[derive(Debug)]
pub(super) struct Execution {
    operation: OperationId,
    owner: Owner,
    renew_at: Timestamp,
}

impl Execution {
    pub(super) fn begin(operation: OperationId, owner: Owner, step: &Step<'_>) -> Self {
        Self { operation, owner, renew_at: step.now.after(renewal_interval(step.policy)) }
    }

    /// Says how it ended. `reply` is for a client that waits for the store to know it first.
    pub(super) fn settle(self, ending: Ending, reply: Option<Reply>, step: &mut Step<'_>) -> State {
        let (operation, owner, ttl) = (self.operation, self.owner, step.policy.ttl);
        step.effects.push(Effect::Call(Call::Settle { operation, owner, ending, ttl }));
        State::Settling { operation, reply }
    }

    /// Whether the lease is to be extended at `now`.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at
    }

    /// Extends the lease well before it runs out, so that a slow upstream does not look like a dead owner.
    pub(super) fn renew_if_due(&mut self, step: &mut Step<'_>) {
        if self.is_due(step.now) {
            let (lease, ttl) = (step.policy.lease, step.policy.ttl);
            step.effects.push(Effect::Call(Call::Renew { operation: self.operation, owner: self.owner, lease, ttl }));
            self.renew_at = step.now.after(renewal_interval(step.policy));
        }
    }
}

/// The time between two renewals.
pub(super) fn renewal_interval(policy: &Policy) -> Duration {
    policy.lease / RENEWALS_PER_LEASE
}

/// How often a lease is renewed in its time: two ticks may come late before it runs out.
const RENEWALS_PER_LEASE: u32 = 3;
