//! The records and the figures of one mode, and of one route.
//!
//! What runs in shadow mode has records of its own: it never meets those that are enforced, on this Envoy or on
//! another that uses the same Redis, and a route that begins to be enforced begins without them. In shared data it
//! does not crowd them out either; the memory of a Redis is common to both.

use std::rc::Rc;

use super::{
    host::Refused,
    journal::Journal,
    metrics::{Metrics, RouteMetrics},
    store::{HostMemory, Store},
};
use crate::{
    config::{Mode, Policy, StoreConfig},
    exchange::Counter,
    record::Owner,
    store::{StoreError, shared_data::Sweep},
    time::Timestamp,
};

/// Where the requests of one mode are recorded and counted.
#[derive(Debug)]
pub(super) struct Realm {
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    pub(super) journal: Journal,
    /// What the workers of this Envoy tell each other of it.
    pub(super) memory: HostMemory,
    /// What lines in the log begin with.
    pub(super) label: &'static str,
}

/// Why a realm cannot be had.
#[derive(Debug)]
pub(super) enum NoRealm {
    Metrics(Refused),
    Store(StoreError),
}

impl Realm {
    pub(super) fn open(mode: Mode, store: StoreConfig) -> Result<Self, NoRealm> {
        let (memory, namespace, label) = match mode {
            Mode::Shadow => (HostMemory::SHADOW, "shadow.", "shadow: "),
            Mode::Enforce | Mode::Off => (HostMemory::ENFORCED, "", ""),
        };
        let store = if mode == Mode::Shadow { store.in_shadow() } else { store };
        Ok(Self {
            store: Store::open(store, memory).map_err(NoRealm::Store)?,
            metrics: Metrics::define(namespace).map_err(NoRealm::Metrics)?,
            journal: Journal::default(),
            memory,
            label,
        })
    }

    /// Counts what is wrong with the store, by its kind.
    pub(super) fn count_store_error(&self, error: StoreError) {
        self.metrics.count_store_error(error.kind());
        if error.is_timeout() {
            self.metrics.count(Counter::StoreTimeouts, 1);
        }
    }

    /// Counts what the store did on its own account.
    pub(super) fn count_tally(&self) {
        if let Store::SharedData(store) = &self.store {
            let tally = store.take_tally();
            self.metrics.count(Counter::StoreDroppedResponses, tally.dropped_responses);
            self.metrics.count(Counter::StoreEvicted, tally.evicted);
            self.metrics.count(Counter::StoreExpired, tally.expired);
        }
    }

    /// Gives back the room that this worker holds unused.
    pub(super) fn give_back_room(&self) {
        if let Store::SharedData(store) = &self.store {
            // What cannot be given back counts as used from now on.
            let _ = store.give_back_room();
        }
    }

    /// Reclaims what has expired, shows what the table holds, and forgets what was read of it.
    pub(super) fn sweep(&self, worker: Owner, now: Timestamp) {
        let Store::SharedData(store) = &self.store else { return };
        store.forget_recent();
        // First, so that what is shown is what is used.
        let swept = store.give_back_room().and_then(|()| store.share_horizon(now)).and_then(|forgotten| {
            if let Some(forgotten) = forgotten {
                log::warn!("idemgate: {}{}", self.label, forgotten.advice(store.limits()));
            }
            store.sweep(worker, now)
        });
        match swept {
            Ok(Sweep::Swept(totals)) => self.metrics.show(totals, store.limits(), store.horizon()),
            Ok(Sweep::NotElected) => {}
            Err(error) => {
                self.metrics.count(Counter::StoreErrors, 1);
                self.count_store_error(error);
                log::warn!("idemgate: the sweep failed: {error}");
            }
        }
        self.count_tally();
    }
}

/// An entry of `routes`, or what all other requests fall under.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) realm: Rc<Realm>,
    /// Only of a route that has a name.
    metrics: Option<RouteMetrics>,
}

impl Route {
    pub(super) fn new(policy: &Policy, name: Option<&str>, realm: &Rc<Realm>) -> Result<Self, Refused> {
        let namespace = if policy.mode == Mode::Shadow { "shadow." } else { "" };
        let metrics = name.map(|name| RouteMetrics::define(&format!("{namespace}route.{name}."))).transpose()?;
        Ok(Self { realm: Rc::clone(realm), metrics })
    }

    /// Counts for the route and for the whole.
    pub(super) fn count(&self, counter: Counter) {
        self.realm.metrics.count(counter, 1);
        if let Some(metrics) = &self.metrics {
            metrics.count(counter);
        }
    }
}
