//! What the streams of one worker share under one configuration.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use super::{
    body_watch::BodyWatch,
    host::{self, Refused, SharedWrite},
    metrics::Metrics,
    random::random,
    redirects::Redirects,
    stream::Guest,
};
use crate::{
    config::{Config, Policy, StoreConfig},
    record::Owner,
    store::{
        StoreError,
        shared_data::{Cas, SharedDataStore, SharedMemory, Written},
    },
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
    /// This worker under this configuration.
    pub(super) worker: Owner,
    pub(super) redirects: Redirects,
    owners: Cell<u128>,
    guests: RefCell<BTreeMap<u32, Rc<Guest>>>,
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
        Ok(Self {
            policy: Arc::new(config.policy),
            store: SharedDataStore::open(HostMemory, limits, random())?,
            metrics: Metrics::define()?,
            body_watch: BodyWatch::default(),
            worker: Owner::new(random()),
            redirects: Redirects::default(),
            owners: Cell::new(random()),
            guests: RefCell::default(),
        })
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

    /// Lets ticks reach a guarded stream.
    pub(super) fn admit(&self, context_id: u32, guest: Rc<Guest>) {
        self.guests.borrow_mut().insert(context_id, guest);
    }

    pub(super) fn dismiss(&self, context_id: u32) {
        self.guests.borrow_mut().remove(&context_id);
    }

    /// The guarded streams of this moment.
    pub(super) fn guests(&self) -> Vec<(u32, Rc<Guest>)> {
        self.guests.borrow().iter().map(|(id, guest)| (*id, Rc::clone(guest))).collect()
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
