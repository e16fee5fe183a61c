//! A worker's mailbox: the shared queue by which other workers, and its own streams, reach its root
//! context.
//!
//! A queue is called by the last root context that registered its name, and queues, like keys, are never
//! removed. So there is a fixed set of names, one for each place in a register, and a worker holds a place
//! as long as it renews it: the place of a VM that died or was dropped (each configuration is tried in a
//! VM of its own) goes to another after [`TERM`].

use std::time::Duration;

use super::{host, store::HostMemory};
use crate::{
    record::{Mailbox, Owner, decode, encode},
    request::OperationId,
    store::{
        StoreError,
        shared_data::{Change, Lease, SharedMemory, update},
    },
    time::Timestamp,
};

/// The mailbox of one worker under one configuration.
#[derive(Debug)]
pub(super) struct OwnMailbox {
    worker: Owner,
    place: Option<Place>,
    /// No place was free when it was last tried.
    is_missing: bool,
    probe: Probe,
    /// It was said that somebody else had the queue.
    has_told_of_loss: bool,
}

/// A place in the register, and the queue that goes with it.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u32,
    mailbox: Mailbox,
}

/// Whether the worker gets what it puts into its own mailbox.
///
/// A queue calls the context that registered its name last. Another plugin with the same `vm_id` that does so takes it
/// from its worker, which then gets no message: requests that wait there are not woken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Probe {
    /// Nothing was sent since something last came.
    Idle,
    Sent,
    /// It had not come by the next tick, which may have been on the way already.
    Overdue,
}

/// What a worker puts into its own mailbox to be called. All other messages are the hashes of operations that have ended.
const CALL: &[u8] = b"call";

/// What it puts in to see whether it is called.
const PROBE: &[u8] = b"probe";

/// How long a place outlives a worker that no longer renews it.
const TERM: Duration = Duration::from_secs(30);

/// How many workers can be reached: all of a large machine, and as many again during a change of the
/// configuration.
const PLACES: u32 = 2048;

impl OwnMailbox {
    /// Without a place yet.
    pub(super) const fn new(worker: Owner) -> Self {
        Self { worker, place: None, is_missing: false, probe: Probe::Idle, has_told_of_loss: false }
    }

    /// Where others reach the worker, if they can.
    pub(super) fn address(&self) -> Option<Mailbox> {
        self.place.map(|place| place.mailbox)
    }

    /// Keeps the place, or takes one: in a long standstill it may have been lost. Says once if there is none.
    pub(super) fn keep(&mut self, now: Timestamp) {
        if self.place.is_some_and(|place| place.renew(&HostMemory::ENFORCED, self.worker, now)) {
            return;
        }
        self.place = Place::take(&HostMemory::ENFORCED, self.worker, now);
        self.probe = Probe::Idle;
        let was_missing = std::mem::replace(&mut self.is_missing, self.place.is_none());
        if self.is_missing && !was_missing {
            log::error!("idemgate: no mailbox can be opened; until one can, nothing waits or runs detached here");
        }
    }

    /// Has the root context called.
    pub(super) fn call(&mut self) {
        self.send(CALL);
    }

    /// Takes out what has come: the operations that have ended, if any have; `None` if there was nothing but a probe.
    pub(super) fn take_messages(&mut self, queue: u32) -> Option<Vec<OperationId>> {
        self.probe = Probe::Idle;
        let mut ended = None;
        while let Some(message) = host::dequeue(queue) {
            if message != PROBE {
                let operation = <[u8; 32]>::try_from(message).ok().map(OperationId::from_bytes);
                ended.get_or_insert_with(Vec::new).extend(operation);
            }
        }
        ended
    }

    /// Finds out, tick by tick, whether the mailbox still calls this worker, as long as somebody depends on it; takes it
    /// back if not. `true` if it was: then messages may have been lost.
    pub(super) fn check(&mut self, is_depended_on: bool) -> bool {
        match self.probe {
            Probe::Idle if is_depended_on => self.send(PROBE),
            Probe::Idle => {}
            Probe::Sent => self.probe = Probe::Overdue,
            Probe::Overdue => {
                self.probe = Probe::Idle;
                return self.take_back();
            }
        }
        false
    }

    fn send(&mut self, message: &[u8]) {
        if let Some(mailbox) = self.address() {
            if self.probe == Probe::Idle {
                self.probe = Probe::Sent;
            }
            host::enqueue(mailbox.0, message);
        }
    }

    fn take_back(&mut self) -> bool {
        let Some(place) = self.place else { return false };
        place.register();
        if !std::mem::replace(&mut self.has_told_of_loss, true) {
            log::error!(
                "idemgate: another plugin has registered the queue by which this worker is woken, or the host has lost it; \
                 each time, it is registered again. Give idemgate a vm_id that no other plugin has \
                 (docs/deployment.md). This is logged once"
            );
        }
        true
    }
}

impl Place {
    /// Takes the first place that is free; `None` if there is none or the host refuses.
    fn take(memory: &impl SharedMemory, worker: Owner, now: Timestamp) -> Option<Self> {
        let number = (0..PLACES).find(|place| take(memory, &key(*place), worker, now).is_ok_and(|taken| taken))?;
        let mailbox = host::register_queue(&queue_name(number)).ok()?;
        Some(Self { number, mailbox: Mailbox(mailbox) })
    }

    /// Takes the queue back, too, if another plugin registered its name.
    fn register(self) {
        let _ = host::register_queue(&queue_name(self.number));
    }

    /// Keeps the place; if it was lost in a long standstill, another one is to be taken.
    fn renew(self, memory: &impl SharedMemory, worker: Owner, now: Timestamp) -> bool {
        take(memory, &key(self.number), worker, now).unwrap_or(true)
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
