//! Looks at a remote store once it is configured, and tells the operator what it finds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::{HostMemory, Store};
use crate::{
    record::Owner,
    store::{
        remote::{Finding, Heard, RemoteStore},
        shared_data::{Lease, update_hint},
    },
    time::Timestamp,
};

/// One worker's part in looking at the store of one configuration.
#[derive(Debug, Default)]
pub(super) struct Checkup {
    state: CheckupState,
}

#[derive(Clone, Copy, Debug, Default)]
enum CheckupState {
    #[default]
    Due,
    UnderWay(u32),
    Over,
}

/// What the workers of an Envoy know of each other's looks, in shared data.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Look {
    /// Who has looked, and until when that is good enough.
    lease: Lease,
    /// Whether somebody has looked, and could not reach it.
    has_failed: bool,
}

impl Checkup {
    /// Asks, if nobody in this Envoy has lately.
    ///
    /// To be called with the root context active.
    pub(super) fn begin(&mut self, store: &Store, worker: Owner, now: Timestamp) {
        let (Store::Remote(remote), CheckupState::Due) = (store, self.state) else { return };
        if !change(|look| Some(Look { lease: look.lease.take(worker, PERIOD, now)?, ..look })) {
            return;
        }
        match store.send(&remote.checkup(), remote.timeout()) {
            Some(token) => self.state = CheckupState::UnderWay(token),
            None => self.conclude(&remote.findings(Heard::NotMade), &**remote),
        }
    }

    /// Takes in what came of it, if `token` is its own.
    pub(super) fn end(&mut self, store: &Store, token: u32, heard: Heard<'_>) {
        if let (Store::Remote(store), CheckupState::UnderWay(own)) = (store, self.state)
            && own == token
        {
            self.conclude(&store.findings(heard), &**store);
        }
    }

    fn conclude(&mut self, findings: &[Finding], store: &dyn RemoteStore) {
        self.state = CheckupState::Over;
        let was_reached = !findings.iter().any(|finding| matches!(finding, Finding::Failed(_)));
        // Envoy's main thread runs the filter as well, and has no internal listeners, which a pooled transport begins
        // with. So the first one who fails leaves the look to another.
        let is_first_failure = |look: Look| {
            (!was_reached && !look.has_failed).then_some(Look { lease: Lease::default(), has_failed: true })
        };
        if !change(is_first_failure) {
            tell(findings, store);
        }
    }
}

/// Changes what the workers know; `false` if `change` has nothing to change.
fn change(change: impl Fn(Look) -> Option<Look>) -> bool {
    update_hint(&HostMemory::ENFORCED, KEY, change) == Ok(true)
}

fn tell(findings: &[Finding], store: &dyn RemoteStore) {
    for finding in findings {
        match finding {
            Finding::Note(_) => log::info!("idemgate: {finding}"),
            _ => log::warn!("idemgate: {finding}"),
        }
    }
    if findings.is_empty() {
        log::info!("idemgate: {}", store.all_is_well());
    }
}

const KEY: &str = "idemgate/v1/checkup";

/// How long one look is good for: a new configuration in the meantime is not looked at anew.
const PERIOD: Duration = Duration::from_secs(600);
