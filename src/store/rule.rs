//! What a call asks of the rules of a remote store, whichever words that has for it.

use std::{sync::Arc, time::Duration};

use super::{
    Answer, Call, Claimed, Settled, StoreError,
    dialect::{Dialect, Question, Terms},
    inquiry::Inquiry,
    integrity::Integrity,
    seal::{self, PhaseByte},
};
use crate::{
    record::{Claim, Owner},
    request::Fingerprint,
    time::Timestamp,
};

/// A rule, and what it is given. `keep` is how long the record lives from now.
#[derive(Debug)]
pub(super) enum Rule<'a> {
    Claim { claim: &'a Claim, keep: Duration, sealed: Vec<u8> },
    Renew { owner: Owner, lease: Duration, keep: Duration },
    Settle { owner: Owner, fingerprint: &'a Fingerprint, state: PhaseByte, keep: Duration, sealed: Vec<u8> },
}

/// A call in these terms.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) rule: Rule<'a>,
    question: Question,
    /// How long it makes sense to ask, if longer than the claim lives.
    lasts: Option<Duration>,
}

impl<'a> Ask<'a> {
    /// How a call is asked; or its answer, if it cannot be.
    pub(super) fn of(call: &'a Call, integrity: &Integrity, max_record: u64, now: Timestamp) -> Result<Self, Answer> {
        Ok(match call {
            Call::Claim(claim) => {
                let sealed = seal::claimed(&claim.operation, &claim.fingerprint, claim.owner, now)
                    .map_err(|error| Answer::Claimed(Claimed::Failed(StoreError::Unreadable(error))))?;
                let sealed = integrity.sign(&claim.operation, sealed);
                let keep = claim.lease.saturating_add(claim.ttl);
                Self {
                    rule: Rule::Claim { claim, keep, sealed },
                    question: Question::Claim(Terms::of(claim)),
                    lasts: None,
                }
            }
            Call::Renew { owner, lease, ttl, .. } => {
                let keep = lease.saturating_add(*ttl);
                Self {
                    rule: Rule::Renew { owner: *owner, lease: *lease, keep },
                    question: Question::Renew,
                    lasts: None,
                }
            }
            Call::Settle { operation, fingerprint, owner, ending, lease, ttl } => {
                let ended = seal::ended(operation, fingerprint, *owner, ending, max_record, now);
                let (state, sealed, settled) =
                    ended.map_err(|error| Answer::Settled(Settled::Failed(StoreError::Unreadable(error)).into()))?;
                let sealed = state.signed(operation, sealed, integrity);
                // The mark of a release is of use as long as a claim of its owner may be on the way.
                let keep = if state == PhaseByte::Released { *lease } else { *ttl };
                let lasts = match state {
                    PhaseByte::Completed | PhaseByte::NotKept | PhaseByte::Released => Some(*ttl),
                    PhaseByte::InFlight | PhaseByte::Unknown => None,
                };
                Self {
                    rule: Rule::Settle { owner: *owner, fingerprint, state, keep, sealed },
                    question: Question::Settle { settled },
                    lasts,
                }
            }
        })
    }

    /// The way to the answer, with the question in the store's own bytes.
    pub(super) fn inquiry(
        self,
        call: &Call,
        bytes: Vec<u8>,
        dialect: Arc<dyn Dialect>,
        timeout: Duration,
        now: Timestamp,
    ) -> Inquiry {
        let inquiry = Inquiry::new(*call.operation(), self.question, bytes, dialect, timeout, call.lease(), now);
        match self.lasts {
            Some(ttl) => inquiry.lasting(ttl),
            None => inquiry,
        }
    }
}
