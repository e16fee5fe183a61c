//! The law of a record: who may turn what into what. It is written down here a second time, from the state
//! diagram in ARCHITECTURE.md and not from the code, and every write to a store is held against it.

use idemgate::{
    record::{Owner, Phase, Record},
    request::OperationId,
};

use super::{history::Terms as _, scenario::Scenario};

/// In whose name a store is changed, and to what end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Deed {
    pub(crate) owner: Owner,
    pub(crate) kind: DeedKind,
    /// When, by the clock of who does it.
    pub(crate) now: u64,
    /// How far ahead the clock is by which its times are reckoned, if that is another one.
    pub(crate) ahead: u64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum DeedKind {
    Claim,
    Renew,
    /// The owner says that nothing was done.
    Release,
    /// Any other last word.
    Settle,
}

/// A record as any store keeps it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) owner: [u8; 16],
    pub(crate) fingerprint: [u8; 32],
    pub(crate) state: State,
    /// When the record ends.
    pub(crate) expires: u64,
    /// When its execution ended, if that is known of it; only in shared data.
    pub(crate) ended: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    InFlight { lease_until: u64 },
    Unknown { lease_until: u64 },
    Completed,
    NotKept,
}

impl Entry {
    fn lease_until(&self) -> Option<u64> {
        match self.state {
            State::InFlight { lease_until } | State::Unknown { lease_until } => Some(lease_until),
            State::Completed | State::NotKept => None,
        }
    }
}

impl From<&Record> for Entry {
    fn from(record: &Record) -> Self {
        let state = match record.phase {
            Phase::InFlight { lease_until, .. } => State::InFlight { lease_until: lease_until.as_millis() },
            Phase::Unknown { lease_until, .. } => State::Unknown { lease_until: lease_until.as_millis() },
            Phase::Completed { .. } => State::Completed,
            Phase::NotKept { .. } => State::NotKept,
        };
        let ended = matches!(state, State::Completed | State::NotKept).then(|| record.phase.since().as_millis());
        Self {
            owner: record.owner.to_bytes(),
            fingerprint: *record.fingerprint.as_bytes(),
            state,
            expires: record.phase.expires().as_millis(),
            ended,
        }
    }
}

/// What one write does to one record at `now`, by the clock that judges leases; an error if it may not.
pub(crate) fn judge(
    scenario: &Scenario,
    before: Option<&Entry>,
    after: Option<&Entry>,
    deed: Option<&Deed>,
    now: u64,
) -> Result<Lawful, String> {
    use DeedKind::{Claim, Release, Renew, Settle};
    if before == after {
        return Ok(Lawful::Change);
    }
    // A record that has ended counts for nobody but its own late owner.
    let is_own = |entry: &Entry| deed.is_some_and(|deed| deed.owner.to_bytes() == entry.owner);
    let before = before.filter(|entry| entry.expires > now || is_own(entry));
    // A worker that stands still between two host calls goes on by the time that it read before.
    let read_at = deed.map_or(now, |deed| deed.now);
    let by = |owner: &[u8; 16], kinds: &[DeedKind]| {
        deed.is_some_and(|deed| deed.owner.to_bytes() == *owner && kinds.contains(&deed.kind))
    };
    let is_granted = |entry: &Entry| matches!(entry.state, State::InFlight { .. }) && by(&entry.owner, &[Claim]);
    let reckoned = now + deed.map_or(0, |deed| deed.ahead);
    let kept = reckoned + scenario.ttl() + scenario.rounding();
    let is_bounded = |entry: &Entry| match entry.state {
        State::InFlight { lease_until } | State::Unknown { lease_until } => {
            // What an owner leaves as it was, it does not make longer.
            let is_left = before.is_some_and(|before| before.lease_until() == Some(lease_until));
            let is_lease = is_left || lease_until <= reckoned + scenario.lease();
            is_lease && entry.expires <= kept + scenario.lease()
        }
        State::Completed | State::NotKept => entry.expires <= kept,
    };
    let is_lawful = match (before, after) {
        (None, None) => true,
        (None, Some(after)) => {
            // Redis may have lost what an owner settles; then its word is better than nothing.
            let restores = scenario.is_remote() && by(&after.owner, &[Settle]);
            is_granted(after) || restores
        }
        (Some(before), None) => {
            let is_released = matches!(before.state, State::InFlight { .. }) && by(&before.owner, &[Release]);
            let has_ended = before.expires <= now;
            // Only what certainly ran, and that long enough ago; what may have run stays until it ends.
            let is_old = |ended: u64| read_at.saturating_sub(ended) >= scenario.keep_at_least();
            is_released || has_ended || scenario.may_evict() && before.ended.is_some_and(is_old)
        }
        (Some(before), Some(after)) if before.owner == after.owner => match (before.state, after.state) {
            // By its owner, or by a claim that leaves a watcher; asked again, Redis lets the lease start anew.
            (State::InFlight { lease_until: old }, State::InFlight { lease_until: new }) => {
                by(&before.owner, &[Renew]) || old == new || scenario.is_remote() && by(&before.owner, &[Claim])
            }
            (State::InFlight { .. }, _) => by(&before.owner, &[Settle]),
            // Said again, with times that are right.
            (old, new) if old == new => scenario.is_on_dynamodb() && by(&before.owner, &[Settle]),
            (State::Completed, State::NotKept) => scenario.may_evict() && before.ended == after.ended,
            _ => false,
        },
        (Some(before), Some(after)) => {
            let has_lapsed = match before.state {
                State::InFlight { lease_until } | State::Unknown { lease_until } => lease_until <= read_at,
                State::Completed | State::NotKept => false,
            };
            let is_takeover = has_lapsed && scenario.retries_unknown() && before.fingerprint == after.fingerprint;
            is_takeover && is_granted(after)
        }
    };
    let is_eviction = scenario.may_evict()
        && match (before, after) {
            (Some(before), None) => before.expires > now && !by(&before.owner, &[Release]),
            _ => false,
        };
    match after {
        _ if !is_lawful => Err(format!("{before:?} became {after:?} at {now} by {deed:?}")),
        Some(after) if !is_bounded(after) => Err(format!("{after:?} outlasts what the policy allows at {now}")),
        _ if is_eviction => Ok(Lawful::Eviction),
        _ => Ok(Lawful::Change),
    }
}

/// What a lawful write is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lawful {
    Change,
    /// A record is given up before its time for want of room.
    Eviction,
}

/// The records in one bucket of shared data, as the store writes them (src/record/codec.rs): a version, the
/// entries, a checksum.
pub(crate) fn entries_of(bucket: Option<&[u8]>) -> Vec<(OperationId, Entry)> {
    let Some((_, encoded)) = bucket.and_then(<[u8]>::split_first) else { return Vec::new() };
    let (entries, _) = postcard::take_from_bytes::<Vec<(OperationId, u8, Option<u32>, Record)>>(encoded).unwrap();
    entries.iter().map(|(operation, _, _, record)| (*operation, Entry::from(record))).collect()
}
