//! Envoy stats. Names, once defined, are the same metrics in every worker.

use std::time::Duration;

use super::host::{self, MetricType, Refused};
use crate::{
    config::SharedDataConfig,
    exchange::Counter,
    store::{
        StoreError,
        shared_data::{Forgotten, Totals},
    },
    time::whole_millis,
};

/// The ids of everything that is counted in one realm.
#[derive(Debug)]
pub(super) struct Metrics {
    counters: Vec<u32>,
    store_errors: Vec<(&'static str, u32)>,
    entries: u32,
    entries_limit: u32,
    bytes: u32,
    bytes_limit: u32,
    horizon: u32,
    memory: u32,
    waiting: u32,
    detached: u32,
    claim_us: u32,
    wait_ms: u32,
}

impl Metrics {
    /// Defines them; `namespace` comes behind the prefix that all have, and ends with a dot unless it is empty.
    pub(super) fn define(namespace: &str) -> Result<Self, Refused> {
        let define = |kind, name: &str| define(kind, namespace, name);
        Ok(Self {
            counters: Counter::ALL
                .iter()
                .map(|counter| define(MetricType::Counter, counter.name()))
                .collect::<Result<_, _>>()?,
            store_errors: StoreError::KINDS
                .iter()
                .map(|kind| Ok((*kind, define(MetricType::Counter, &format!("idemgate.store.errors.{kind}"))?)))
                .collect::<Result<_, _>>()?,
            entries: define(MetricType::Gauge, "idemgate.store.entries")?,
            entries_limit: define(MetricType::Gauge, "idemgate.store.entries_limit")?,
            bytes: define(MetricType::Gauge, "idemgate.store.bytes")?,
            bytes_limit: define(MetricType::Gauge, "idemgate.store.bytes_limit")?,
            horizon: define(MetricType::Gauge, "idemgate.store.horizon_s")?,
            memory: define(MetricType::Gauge, "idemgate.memory_bytes")?,
            waiting: define(MetricType::Gauge, "idemgate.waiting")?,
            detached: define(MetricType::Gauge, "idemgate.detached")?,
            claim_us: define(MetricType::Histogram, "idemgate.store.claim_us")?,
            wait_ms: define(MetricType::Histogram, "idemgate.wait_ms")?,
        })
    }

    pub(super) fn count(&self, counter: Counter, times: u32) {
        if let Some(id) = self.counters.get(counter as usize)
            && times > 0
        {
            host::increment_metric(*id, i64::from(times));
        }
    }

    /// Counts a store error by its kind.
    pub(super) fn count_store_error(&self, kind: &str) {
        if let Some((_, id)) = self.store_errors.iter().find(|(known, _)| *known == kind) {
            host::increment_metric(*id, 1);
        }
    }

    /// Adds to the requests that wait, or takes some off. Gauges are common to all workers, so each adds
    /// its own changes.
    pub(super) fn add_waiting(&self, change: i64) {
        host::increment_metric(self.waiting, change);
    }

    /// Adds to the memory that is taken, or takes some off.
    pub(super) fn add_memory(&self, change: i64) {
        host::increment_metric(self.memory, change);
    }

    /// Adds to the detached calls under way, or takes some off.
    pub(super) fn add_detached(&self, change: i64) {
        host::increment_metric(self.detached, change);
    }

    /// Notes how long the store took to answer a claim.
    pub(super) fn record_claim(&self, time: Duration) {
        host::record_metric(self.claim_us, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn record_wait(&self, time: Duration) {
        host::record_metric(self.wait_ms, whole_millis(time));
    }

    /// Shows what the table holds and may hold, and how soon it forgets: zero if it has given up nothing. Written by the sweeper alone: workers that each wrote what they
    /// saw last would overwrite newer figures with older ones.
    pub(super) fn show(&self, totals: Totals, limits: &SharedDataConfig, horizon: Option<Forgotten>) {
        host::record_metric(self.entries, totals.entries);
        host::record_metric(self.entries_limit, u64::from(limits.max_entries));
        host::record_metric(self.bytes, totals.bytes);
        host::record_metric(self.bytes_limit, limits.max_bytes);
        // The first second counts as one: zero says something else.
        host::record_metric(self.horizon, horizon.map_or(0, |forgotten| forgotten.age.as_secs().max(1)));
    }
}

/// What is counted of one route besides the whole: decisions and outcomes.
#[derive(Debug)]
pub(super) struct RouteMetrics(Vec<(Counter, u32)>);

impl RouteMetrics {
    /// Defines them, with `namespace` as [`Metrics::define`].
    pub(super) fn define(namespace: &str) -> Result<Self, Refused> {
        let define = |counter: &Counter| Ok((*counter, define(MetricType::Counter, namespace, counter.name())?));
        Counter::ALL.iter().filter(|counter| counter.is_of_request()).map(define).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn count(&self, counter: Counter) {
        if let Some((_, id)) = self.0.iter().find(|(known, _)| *known == counter) {
            host::increment_metric(*id, 1);
        }
    }
}

/// Defines the metric that has this name outside of any namespace.
fn define(kind: MetricType, namespace: &str, name: &str) -> Result<u32, Refused> {
    let name = name.strip_prefix("idemgate.").unwrap_or(name);
    host::define_metric(kind, &format!("idemgate.{namespace}{name}"))
}
