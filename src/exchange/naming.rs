//! The name of a request's operation: by its key, wherever that is, or by what it asks for.

use std::time::Duration;

use super::{
    effect::{Effect, Notice},
    problem::Problem,
    state::{GuardedRequest, Name, Named, State, Unnamed},
    step::Step,
    vocabulary::Counter,
};
use crate::request::{Doubt, Fingerprint, Identified, Key, OperationId};

impl Step<'_> {
    /// Whether a request of this caller without a key in its headers may turn out to be guarded.
    pub(super) fn may_be_named_by_content(&self, identified: Option<&Identified>) -> bool {
        let key = &self.policy.key;
        !key.pointers.is_empty()
            || key.derive.is_some() && identified.is_some_and(|identified| !identified.is_anonymous())
    }

    /// Goes on with a request once all that names it has arrived.
    pub(super) fn name(&mut self, request: GuardedRequest<Name>, fingerprint: Fingerprint) -> State {
        let named = match &request.name {
            Name::Known(named) => *named,
            Name::Open(unnamed) => {
                let body = request.call.as_ref().map_or(&unnamed.text, |call| &call.body);
                match self.find_name(unnamed, body, &fingerprint) {
                    Ok(named) => named,
                    Err(Nameless::HasNoKey) => return self.pass_without_key(),
                    Err(Nameless::Refused(problem)) => return self.refuse(&problem),
                }
            }
        };
        self.claim(request.renamed(named), fingerprint, None)
    }

    /// The name that its body gives a request.
    fn find_name(&mut self, unnamed: &Unnamed, body: &[u8], fingerprint: &Fingerprint) -> Result<Named, Nameless> {
        let key = Key::find_in_body(body, &self.policy.key)
            .map_err(|reason| Nameless::Refused(Problem::KeyInvalid(reason)))?;
        let (identified, operation, ttl) = match (key, &unnamed.origin, self.policy.key.derive) {
            (Some(_), None, _) => return Err(Nameless::Refused(Problem::CallerUnknown)),
            (Some(key), Some((identified, operation)), _) => {
                (identified, operation.clone().with_key(&key), self.policy.ttl)
            }
            // Of clients that cannot be told apart, two that ask for the same are not one that asks twice.
            (None, Some((identified, operation)), Some(window)) if !identified.is_anonymous() => {
                (identified, operation.clone().with_content(fingerprint), window)
            }
            (None, ..) => return Err(Nameless::HasNoKey),
        };
        Ok(self.guard(*identified, operation, ttl, unnamed.own_fields.clone()))
    }

    /// Takes a request for one that is guarded.
    pub(super) fn guard(
        &mut self,
        identified: Identified,
        operation: OperationId,
        ttl: Duration,
        own_fields: Vec<String>,
    ) -> Named {
        self.note(identified.doubt);
        self.effects.extend(own_fields.into_iter().map(Effect::RemoveRequestHeader));
        Named { operation, caller: identified.caller, is_anonymous: identified.is_anonymous(), ttl }
    }

    /// Goes on with a request that has no key.
    pub(super) fn pass_without_key(&mut self) -> State {
        let key = &self.policy.key;
        if key.required {
            let header = key.headers.first().cloned().unwrap_or_default();
            return self.refuse(&Problem::KeyMissing {
                header,
                pointer: key.pointers.first().map(|pointer| written(pointer)),
            });
        }
        self.count(Counter::RequestsUnguarded);
        self.effects.push(Effect::Forward);
        State::Finished
    }

    /// Counts and tells of a caller that may not be told from others as the operator expects.
    fn note(&mut self, doubt: Option<Doubt>) {
        let Some(doubt) = doubt else { return };
        if doubt == Doubt::Anonymous {
            self.count(Counter::RequestsCallerAbsent);
            if self.policy.caller.identity.is_empty() {
                // All callers are to be one.
                return;
            }
        }
        self.effects.push(Effect::Notice(Notice::Caller(doubt)));
    }
}

/// Why a request has no name.
enum Nameless {
    HasNoKey,
    Refused(Problem),
}

/// A JSON Pointer as RFC 6901 writes it.
fn written(pointer: &[String]) -> String {
    pointer.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect()
}
