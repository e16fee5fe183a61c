//! A worker's mailbox: the shared queue by which other workers, and its own streams, reach its root
//! context.
//!
//! A queue is called by the last root context that registered its name, and queues, like keys, are never
//! removed. So there is a fixed set of names, one for each place in a register, and a worker holds a place
//! as long as it renews it: the place of a VM that died or was dropped (each configuration is tried in a
//! VM of its own) goes to another after [`TERM`].

use std::time::Duration;

use super::host;
use crate::{
    record::{Mailbox, Owner, decode, encode},
    store::{
        StoreError,
        shared_data::{Change, Lease, SharedMemory, update},
    },
    time::Timestamp,
};

/// A place in the register, and the queue that goes with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    place: u32,
    pub(super) mailbox: Mailbox,
}

/// What a worker puts into its own mailbox to hear whether it is called.
pub(super) const BELL: &[u8] = b"bell";

/// Whether the worker hears of what it puts into its own mailbox.
///
/// A queue calls whoever registered its name last. Somebody else who does so, a plugin with the same `vm_id`, takes it
/// from its worker, which then hears of nothing: those who wait there are not woken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Bell {
    /// It was not rung since it was last heard.
    #[default]
    Silent,
    Rung,
    /// It was not heard by the next tick, which may have been on the way already.
    Overdue,
}

impl Bell {
    pub(super) fn ring(self) -> Self {
        if self == Self::Silent { Self::Rung } else { self }
    }

    /// What a tick makes of it; `None` if whoever rings is not heard any more.
    pub(super) fn tick(self) -> Option<Self> {
        match self {
            Self::Silent => Some(Self::Silent),
            Self::Rung => Some(Self::Overdue),
            Self::Overdue => None,
        }
    }
}

/// How long a place outlives a worker that no longer renews it.
const TERM: Duration = Duration::from_secs(30);

/// How many workers can be reached: all of a large machine, and as many again during a change of the
/// configuration.
const PLACES: u32 = 2048;

impl Post {
    /// Takes the first place that is free; `None` if there is none or the host refuses.
    pub(super) fn open(memory: &impl SharedMemory, worker: Owner, now: Timestamp) -> Option<Self> {
        let place = (0..PLACES).find(|place| take(memory, &key(*place), worker, now).is_ok_and(|taken| taken))?;
        let mailbox = host::register_queue(&queue_name(place)).ok()?;
        Some(Self { place, mailbox: Mailbox(mailbox) })
    }

    /// Takes the queue back from whoever registered its name, too.
    pub(super) fn reclaim(self) {
        let _ = host::register_queue(&queue_name(self.place));
    }

    /// Keeps the place; if it was lost in a long standstill, another one is to be opened.
    pub(super) fn renew(self, memory: &impl SharedMemory, worker: Owner, now: Timestamp) -> bool {
        take(memory, &key(self.place), worker, now).unwrap_or(true)
    }
}

fn queue_name(place: u32) -> String {
    format!("idemgate/v1/q{place:x}")
}

fn key(place: u32) -> String {
    format!("idemgate/v1/w{place:x}")
}

/// Takes the place under `key` for a term, or keeps it; `false` if another worker has it.
fn take(memory: &impl SharedMemory, key: &str, worker: Owner, now: Timestamp) -> Result<bool, StoreError> {
    update(memory, key, |found| {
        let lease: Lease = found.map(decode).transpose()?.unwrap_or_default();
        Ok(match lease.take(worker, TERM, now) {
            Some(lease) => Change::Write(encode(&lease)?, true),
            None => Change::Keep(false),
        })
    })
}
