//! Looks at a remote store once it is configured, and tells the operator what it finds.

use std::cell::Cell;

use super::{
    filter::Filter,
    inquiries,
    post::take,
    store::{HostMemory, Store},
};
use crate::{
    store::redis::{Finding, Heard, RedisStore},
    time::Timestamp,
};

/// The look at the store of one configuration.
#[derive(Debug, Default)]
pub(super) struct Checkup {
    progress: Cell<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Progress {
    #[default]
    Due,
    UnderWay(u32),
    Over,
}

impl Checkup {
    /// Asks, if this worker is the first of its Envoy to come here.
    ///
    /// To be called with the root context active.
    pub(super) fn begin(&self, filter: &Filter, now: Timestamp) {
        let (Store::Redis(store), Progress::Due) = (&filter.store, self.progress.get()) else { return };
        self.progress.set(Progress::Over);
        if !take(&HostMemory, KEY, filter.worker, now).unwrap_or(true) {
            return;
        }
        match inquiries::call(store.cluster(), &store.checkup(), store.timeout()) {
            Some(token) => self.progress.set(Progress::UnderWay(token)),
            None => tell(store, Heard::NotMade),
        }
    }

    /// Takes in what came of it, if `token` is its own.
    pub(super) fn end(&self, filter: &Filter, token: u32, heard: Heard<'_>) {
        if let (Store::Redis(store), Progress::UnderWay(own)) = (&filter.store, self.progress.get())
            && own == token
        {
            self.progress.set(Progress::Over);
            tell(store, heard);
        }
    }
}

fn tell(store: &RedisStore, heard: Heard<'_>) {
    let findings = store.findings(heard);
    for finding in &findings {
        match finding {
            Finding::Silent => log::info!("idemgate: {finding}"),
            _ => log::warn!("idemgate: {finding}"),
        }
    }
    if findings.is_empty() {
        log::info!(
            "idemgate: the store in Redis answers; responses over {} bytes are kept as tombstones",
            store.max_record()
        );
    }
}

const KEY: &str = "idemgate/v1/checkup";
