//! A claim that this exchange holds, wherever the operation runs.

use std::time::Duration;

use super::{
    effect::Effect,
    state::{Answering, Execution, GuardedRequest, Named, Settling, State},
    step::Step,
};
use crate::{
    config::Policy,
    headers::Headers,
    record::RENEWALS_PER_LEASE,
    request::Fingerprint,
    store::{Call, Ending},
};

impl Execution {
    /// The claim of `request` is granted.
    pub(super) fn begin(request: &GuardedRequest, fingerprint: Fingerprint, step: &Step<'_>) -> Self {
        let Named { operation, is_anonymous, ttl, .. } = request.name;
        let (owner, interval) = (request.owner, renewal_interval(step.policy));
        Self { operation, fingerprint, owner, is_anonymous, ttl, renew_at: step.now.get().after(interval), interval }
    }

    /// Whether an answer with these fields may be kept for a client that sends the request again. One that is for a single
    /// user, or not to be stored, is kept for a caller that can be told from others.
    pub(super) fn may_keep(&self, headers: &Headers) -> bool {
        !self.is_anonymous || !is_for_one_user(headers)
    }

    /// Says how it ended. The client learns the end of `answer` once the store knows it.
    pub(super) fn settle(self, ending: Ending, answer: Answering, step: &mut Step<'_>) -> State {
        let operation = self.operation;
        if matches!(answer, Answering::Held) {
            step.effects.push(Effect::HoldResponse);
        }
        step.effects.push(Effect::Call(self.settlement(ending, step)));
        State::Settling(Settling { operation, answer })
    }

    /// Gives the claim back, if it was granted at all, while nobody waits for the store's word on it.
    pub(super) fn give_back_in_doubt(self, step: &mut Step<'_>) {
        step.effects.push(Effect::Call(self.settlement(Ending::Released, step)));
    }

    fn settlement(&self, ending: Ending, step: &Step<'_>) -> Call {
        let Self { operation, fingerprint, owner, ttl, .. } = *self;
        Call::Settle { operation, fingerprint, owner, ending, lease: step.policy.lease, ttl }
    }

    /// Extends the lease well before it runs out, so that a slow upstream does not look like a dead owner.
    pub(super) fn renew_if_due(&mut self, step: &mut Step<'_>) {
        if self.is_due(step.now.get()) {
            let (lease, ttl) = (step.policy.lease, self.ttl);
            step.effects.push(Effect::Call(Call::Renew { operation: self.operation, owner: self.owner, lease, ttl }));
            self.renew_at = step.now.get().after(self.interval);
        }
    }
}

/// What `cache-control` says of caches that users share (RFC 9111, sections 5.2.2.5 and 5.2.2.7).
fn is_for_one_user(headers: &Headers) -> bool {
    let directives = headers.get_all("cache-control").flat_map(|value| value.split(|byte| *byte == b','));
    let names = directives.map(|directive| directive.split(|byte| *byte == b'=').next().unwrap_or_default());
    names
        .map(<[u8]>::trim_ascii)
        .any(|name| name.eq_ignore_ascii_case(b"private") || name.eq_ignore_ascii_case(b"no-store"))
}

/// The time between two renewals.
pub(super) fn renewal_interval(policy: &Policy) -> Duration {
    policy.lease / RENEWALS_PER_LEASE
}
