//! Envoy stats. Names, once defined, are the same metrics in every worker.

use std::time::Duration;

use super::host::{self, MetricKind, Refused};
use crate::{
    exchange::Counter,
    store::{StoreError, shared_data::Totals},
};

/// The ids of everything that is counted.
#[derive(Debug)]
pub(super) struct Metrics {
    counters: Vec<u32>,
    store_errors: Vec<(&'static str, u32)>,
    entries: u32,
    bytes: u32,
    waiting: u32,
    detached: u32,
    wait_ms: u32,
}

impl Metrics {
    pub(super) fn define() -> Result<Self, Refused> {
        Ok(Self {
            counters: Counter::ALL
                .iter()
                .map(|counter| host::define_metric(MetricKind::Counter, counter.name()))
                .collect::<Result<_, _>>()?,
            store_errors: StoreError::KINDS
                .iter()
                .map(|kind| {
                    let name = format!("idemgate.store.errors.{kind}");
                    Ok((*kind, host::define_metric(MetricKind::Counter, &name)?))
                })
                .collect::<Result<_, _>>()?,
            entries: host::define_metric(MetricKind::Gauge, "idemgate.store.entries")?,
            bytes: host::define_metric(MetricKind::Gauge, "idemgate.store.bytes")?,
            waiting: host::define_metric(MetricKind::Gauge, "idemgate.waiting")?,
            detached: host::define_metric(MetricKind::Gauge, "idemgate.detached")?,
            wait_ms: host::define_metric(MetricKind::Histogram, "idemgate.wait_ms")?,
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

    /// Adds to the detached calls under way, or takes some off.
    pub(super) fn add_detached(&self, change: i64) {
        host::increment_metric(self.detached, change);
    }

    pub(super) fn record_wait(&self, time: Duration) {
        host::record_metric(self.wait_ms, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// Shows what the table holds. Written by the sweeper alone: workers that each wrote what they saw
    /// last would overwrite newer figures with older ones.
    pub(super) fn show(&self, totals: Totals) {
        host::record_metric(self.entries, totals.entries);
        host::record_metric(self.bytes, totals.bytes);
    }
}
