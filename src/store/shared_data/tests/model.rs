//! A table without any bounds, as the contract has it: what each call is to be answered. The fuzzers share it.

use std::{collections::BTreeMap, time::Duration};

use idemgate::{
    record::{Amendment, Conflict, StoredResponse, Verb},
    store::{Claimed, Ending, Renewed, Settled},
    time::Timestamp,
};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_hours(24);

/// What the contract lets a client know of one operation.
#[derive(Debug)]
struct Known {
    fingerprint: u8,
    owner: u128,
    state: State,
    expires: Timestamp,
}

#[derive(Debug)]
enum State {
    Running { at: Timestamp, lease_until: Timestamp },
    Unsure { lease_until: Timestamp },
    Ran(StoredResponse),
    RanWithoutTrace(u16),
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    operations: BTreeMap<u32, Known>,
}

impl Model {
    pub(crate) fn claim(&mut self, number: u32, owner: u128, fingerprint: u8, retry: bool, now: Timestamp) -> Claimed {
        if let Some(known) = self.operations.get(&number).filter(|known| known.expires > now) {
            if known.fingerprint != fingerprint {
                return Claimed::KeyReused;
            }
            match &known.state {
                State::Running { at, lease_until } if *lease_until > now => {
                    return Claimed::InFlight { age: now.since(*at), lease_left: lease_until.since(now) };
                }
                State::Running { lease_until, .. } | State::Unsure { lease_until } => {
                    if !retry || *lease_until > now {
                        return Claimed::Unknown { lease_left: lease_until.since(now) };
                    }
                }
                State::Ran(response) => {
                    return Claimed::Completed { response: response.clone().into(), expires: known.expires };
                }
                State::RanWithoutTrace(status) => return Claimed::NotKept { status: *status },
            }
        }
        let lease_until = now.after(LEASE);
        let state = State::Running { at: now, lease_until };
        self.operations.insert(number, Known { fingerprint, owner, state, expires: lease_until.after(TTL) });
        Claimed::Granted
    }

    /// The operation, if it is `owner`'s and running.
    fn held(&mut self, number: u32, owner: u128) -> Option<&mut Known> {
        let known = self.operations.get_mut(&number)?;
        (known.owner == owner && matches!(known.state, State::Running { .. })).then_some(known)
    }

    pub(crate) fn renew(&mut self, number: u32, owner: u128, now: Timestamp) -> Renewed {
        let Some(known) = self.held(number, owner) else { return Renewed::Fenced };
        let renewed = now.after(LEASE);
        if let State::Running { lease_until, .. } = &mut known.state {
            *lease_until = renewed;
        }
        known.expires = renewed.after(TTL);
        Renewed::Extended
    }

    pub(crate) fn settle(&mut self, number: u32, owner: u128, ending: Ending, now: Timestamp) -> Settled {
        let Some(known) = self.held(number, owner) else { return Settled::Fenced };
        let State::Running { lease_until, .. } = known.state else { return Settled::Fenced };
        known.expires = now.after(TTL);
        match ending {
            Ending::Completed(response) => {
                known.state = State::Ran(response);
                Settled::Completed
            }
            Ending::NotKept(status) => {
                known.state = State::RanWithoutTrace(status);
                Settled::NotKept
            }
            Ending::Released => {
                self.operations.remove(&number);
                Settled::Released
            }
            Ending::Unknown => {
                known.state = State::Unsure { lease_until };
                known.expires = known.expires.max(lease_until);
                Settled::Unknown
            }
        }
    }

    /// Whether an operator's word counts.
    pub(crate) fn amend(&mut self, number: u32, amendment: Amendment, now: Timestamp) -> Result<(), Option<Conflict>> {
        let known = self.operations.get_mut(&number).filter(|known| known.expires > now).ok_or(None)?;
        let alive = |until: &Timestamp| {
            let lease_left = until.since(now);
            (!lease_left.is_zero() && !amendment.force).then_some(Conflict::Alive { lease_left })
        };
        let objection = match (amendment.verb, &known.state) {
            (_, State::Running { lease_until, .. }) => alive(lease_until),
            (Verb::Release | Verb::Purge, State::Unsure { lease_until }) => alive(lease_until),
            (Verb::Release, _) => Some(Conflict::Ran),
            (Verb::NotKept { status }, State::Ran(response)) if response.status != status => {
                Some(Conflict::OtherStatus { status: response.status })
            }
            (Verb::NotKept { .. }, State::RanWithoutTrace(_)) => Some(Conflict::AlreadyNotKept),
            _ => None,
        };
        match (objection, amendment.verb) {
            (Some(objection), _) => return Err(Some(objection)),
            (None, Verb::NotKept { status }) => known.state = State::RanWithoutTrace(status),
            (None, Verb::Purge | Verb::Release) => drop(self.operations.remove(&number)),
        }
        Ok(())
    }

    /// What has ended may be reclaimed at any time, but nobody may see a difference except an owner
    /// that comes a whole retention period late; so the model forgets when the store has.
    pub(crate) fn forget_ended(&mut self, now: Timestamp, knows: impl Fn(u32) -> bool) {
        self.operations.retain(|number, known| known.expires > now || knows(*number));
    }
}
