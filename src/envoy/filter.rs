//! What the streams of one worker share under one configuration.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use super::{
    body_watch::BodyWatch,
    calls::Calls,
    guest::Guest,
    host::{self, Refused, SharedWrite},
    metrics::Metrics,
    post::Post,
    random::random,
    redirects::Redirects,
    waiting_room::WaitingRoom,
};
use crate::{
    config::{Config, Policy, StoreConfig},
    exchange::{Counter, Exchange, needs_mailbox},
    record::{Mailbox, Owner},
    store::{
        StoreError,
        shared_data::{Cas, SharedDataStore, SharedMemory, Written},
    },
    time::Timestamp,
};

/// A configuration at work in one worker.
///
/// It belongs to the root context and not to a static: after a change of the configuration the same VM
/// runs the old one and the new one side by side.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) policy: Arc<Policy>,
    pub(super) store: SharedDataStore<HostMemory>,
    pub(super) metrics: Metrics,
    pub(super) body_watch: BodyWatch,
    pub(super) waiting_room: WaitingRoom,
    pub(super) calls: Calls,
    /// This worker under this configuration.
    pub(super) worker: Owner,
    pub(super) redirects: Redirects,
    post: Cell<Option<Post>>,
    /// No post was to be had when it was last tried.
    lacks_post: Cell<bool>,
    owners: Cell<u128>,
    guests: RefCell<BTreeMap<u64, Rc<Guest>>>,
    guests_so_far: Cell<u64>,
    shown_waiting: Cell<usize>,
}

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("the host cannot define metrics (status {0})")]
    Metrics(u32),
    #[error("the store in shared data cannot be opened: {0}; if another release left it, give vm_id a new value")]
    Store(#[from] StoreError),
}

impl From<Refused> for StartError {
    fn from(Refused(status): Refused) -> Self {
        Self::Metrics(status)
    }
}

impl Filter {
    pub(super) fn start(config: Config) -> Result<Self, StartError> {
        let StoreConfig::SharedData(limits) = config.store;
        let filter = Self {
            policy: Arc::new(config.policy),
            store: SharedDataStore::open(HostMemory, limits, random())?,
            metrics: Metrics::define()?,
            body_watch: BodyWatch::default(),
            waiting_room: WaitingRoom::default(),
            calls: Calls::default(),
            worker: Owner::new(random()),
            redirects: Redirects::default(),
            post: Cell::default(),
            lacks_post: Cell::default(),
            owners: Cell::new(random()),
            guests: RefCell::default(),
            guests_so_far: Cell::default(),
            shown_waiting: Cell::default(),
        };
        filter.keep_post(host::now());
        Ok(filter)
    }

    /// Begins an exchange for the stream with this context.
    pub(super) fn receive(&self, stream: u32) -> Rc<Guest> {
        let number = self.guests_so_far.get().wrapping_add(1);
        self.guests_so_far.set(number);
        Rc::new(Guest::new(number, Exchange::new(Arc::clone(&self.policy)), stream))
    }

    /// A token that no other execution has: random per worker, counted on from there.
    pub(super) fn next_owner(&self) -> Owner {
        let token = self.owners.get().wrapping_add(1);
        self.owners.set(token);
        Owner::new(token)
    }

    /// The header that most keys come in; enough to tell one request from another.
    pub(super) fn key_header(&self) -> &str {
        self.policy.key.headers.first().map_or("idempotency-key", |name| name.as_str())
    }

    /// Lets ticks reach an exchange.
    pub(super) fn admit(&self, guest: &Rc<Guest>) {
        self.guests.borrow_mut().insert(guest.number, Rc::clone(guest));
    }

    pub(super) fn dismiss(&self, guest: &Guest) {
        self.guests.borrow_mut().remove(&guest.number);
    }

    /// The exchanges that a tick at `now` is to act on.
    pub(super) fn due_guests(&self, now: Timestamp) -> Vec<Rc<Guest>> {
        self.guests.borrow().values().filter(|guest| guest.is_due(now)).map(Rc::clone).collect()
    }

    /// Where this worker is told of the ends of executions; `None` if the policy needs no such place, or
    /// if none is to be had.
    pub(super) fn mailbox(&self) -> Option<Mailbox> {
        self.post.get().map(|post| post.mailbox)
    }

    /// Keeps the mailbox, or opens one.
    pub(super) fn keep_post(&self, now: Timestamp) {
        if !needs_mailbox(&self.policy) {
            return;
        }
        if self.post.get().is_some_and(|post| post.renew(&HostMemory, self.worker, now)) {
            return;
        }
        let post = Post::open(&HostMemory, self.worker, now);
        self.post.set(post);
        // It is tried again at each tick, and said once.
        if !self.lacks_post.replace(post.is_none()) && post.is_none() {
            log::error!("idemgate: no mailbox can be opened; until one can, nothing waits or runs detached here");
        }
    }

    /// Shows how many requests wait.
    pub(super) fn show_waiting(&self) {
        let waiting = self.waiting_room.len();
        let change = waiting as i64 - self.shown_waiting.replace(waiting) as i64;
        if change != 0 {
            self.metrics.add_waiting(change);
        }
    }

    /// Counts what the store did on its own account.
    pub(super) fn count_tally(&self) {
        let tally = self.store.take_tally();
        self.metrics.count(Counter::StoreEvicted, tally.evicted);
        self.metrics.count(Counter::StoreExpired, tally.expired);
    }
}

/// Envoy's shared data.
#[derive(Debug)]
pub(super) struct HostMemory;

impl SharedMemory for HostMemory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        let found = host::shared_data(key).map_err(|Refused(status)| StoreError::Host(status))?;
        Ok(found.map(|(value, cas)| (value, Cas(cas))))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        match host::set_shared_data(key, value, cas.0).map_err(|Refused(status)| StoreError::Host(status))? {
            SharedWrite::Done => Ok(Written::Done),
            SharedWrite::CasMismatch => Ok(Written::Lost),
        }
    }
}
