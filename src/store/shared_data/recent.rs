//! The response that a worker has replayed last, so that a key that is asked for again and again costs little.
//!
//! A replay reads two values of the host, the bucket and the response, and decodes both. Of a response that is
//! remembered, it has to be known only that the bucket still has the same version: one counter numbers the writes to
//! all keys, so the same version of the same key is the same bytes; and a response stays what it is for as long as
//! the bucket points to it. Fingerprint and expiry are held against each claim anew.
//!
//! It stays for what it saves: a replay takes 61,777 wasm instructions with it and 68,199 without.
//!
//! The counter has 32 bits. Before it comes round, 4,294,967,295 writes later, the worker has ticked, and forgets what
//! it remembers at each tick. So the memory is given back, too: to a worker that replays nothing more, within a second.

use std::{hash::Hash, sync::Arc};

use super::{bucket::Entry, memory::Cas};
use crate::{
    record::{Claim, Decision, Record, Standing, StoredResponse},
    request::OperationId,
    time::Timestamp,
};

/// What a worker remembers: one replay, or none.
#[derive(Clone, Debug, Default)]
pub struct Recent(Option<Replay>);

#[derive(Clone, Debug)]
struct Replay {
    operation: OperationId,
    /// Of the bucket in which the record was found.
    version: Cas,
    record: Record,
    response: Arc<StoredResponse>,
}

impl Recent {
    /// The same record and response once more, if the bucket still has the `version` that it had then; `None` if the bucket has to
    /// be looked at.
    pub(super) fn replay(&self, claim: &Claim, version: Cas, now: Timestamp) -> Option<(&Record, Arc<StoredResponse>)> {
        let known = self.0.as_ref()?;
        if known.version != version || known.operation != claim.operation {
            return None;
        }
        match known.record.admit(claim, now) {
            Decision::Refuse(Standing::Completed { .. }) => Some((&known.record, Arc::clone(&known.response))),
            _ => None,
        }
    }

    /// Takes note of a response that was found by way of `entry`, in place of the one before, unless it is too large.
    pub(super) fn remember(&mut self, entry: &Entry, version: Cas, response: &Arc<StoredResponse>) {
        if entry.record.phase.response_size() <= LARGEST {
            let (operation, record) = (entry.operation, entry.record.clone());
            self.0 = Some(Replay { operation, version, record, response: Arc::clone(response) });
        }
    }

    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// What is remembered, and the version of its bucket; for a test bench that compares workers.
    #[doc(hidden)]
    #[must_use]
    pub fn held(&self) -> Option<(Cas, impl Hash)> {
        let replay = self.0.as_ref()?;
        Some((replay.version, (replay.operation, &replay.record, &replay.response)))
    }

    /// The same as if it were of another version; for a test bench that takes the rule out.
    #[doc(hidden)]
    #[must_use]
    pub fn as_of(mut self, version: Cas) -> Self {
        if let Some(replay) = &mut self.0 {
            replay.version = version;
        }
        self
    }
}

/// The largest response that is remembered, with its fields, in bytes: each worker holds as much besides the table. To
/// decode a larger one again is little beside sending it.
pub(super) const LARGEST: u32 = 64 << 10;
