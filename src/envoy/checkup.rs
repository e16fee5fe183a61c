//! Looks at a remote store once it is configured, and tells the operator what it finds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    store::{HostMemory, Store},
    surroundings::Surroundings,
};
use crate::{
    record::Owner,
    store::{
        dialect::Heard,
        pool::Pool,
        remote::{Finding, RemoteStore},
        shared_data::{Lease, update_hint},
    },
    time::Timestamp,
};

/// One worker's part in looking at the store of one configuration.
#[derive(Debug, Default)]
pub(super) struct Checkup {
    state: CheckupState,
}

#[derive(Debug, Default)]
enum CheckupState {
    #[default]
    Due,
    /// The call with this token is to be answered.
    Called(u32),
    /// The only question of this connection is.
    Asked(Pool),
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
    /// Asks, if nobody in this Envoy has lately, and hears what time alone brings about.
    ///
    /// To be called with the root context active.
    pub(super) fn tick(&mut self, surroundings: &Surroundings, worker: Owner, now: Timestamp) {
        match &mut self.state {
            CheckupState::Due => self.begin(surroundings, worker, now),
            CheckupState::Asked(pool) => {
                pool.on_tick(&mut surroundings.streams(), now);
                self.hear_pool(surroundings);
            }
            CheckupState::Called(_) | CheckupState::Over => {}
        }
    }

    fn begin(&mut self, surroundings: &Surroundings, worker: Owner, now: Timestamp) {
        let store = &surroundings.enforced.store;
        let Store::Remote(remote) = store else { return };
        if !change(|look| Some(Look { lease: look.lease.take(worker, PERIOD, now)?, ..look })) {
            return;
        }
        let (question, timeout) = (remote.checkup(), remote.timeout());
        if let Some(mut pool) = store.pool() {
            pool.ask(&mut surroundings.streams(), &question, timeout, now);
            self.state = CheckupState::Asked(pool);
            return self.hear_pool(surroundings);
        }
        match store.send(&question, timeout) {
            Some(token) => self.state = CheckupState::Called(token),
            None => self.conclude(&remote.findings(Heard::NotMade), &**remote),
        }
    }

    /// Takes in what came of it, if `token` is its own.
    pub(super) fn end(&mut self, surroundings: &Surroundings, token: u32, heard: Heard<'_>) {
        if let (Store::Remote(store), CheckupState::Called(own)) = (&surroundings.enforced.store, &self.state)
            && *own == token
        {
            self.conclude(&store.findings(heard), &**store);
        }
    }

    /// Takes in what has come on a stream; `false` if it is not its own.
    pub(super) fn on_received(
        &mut self,
        surroundings: &Surroundings,
        stream: u32,
        bytes: &[u8],
        now: Timestamp,
    ) -> bool {
        let CheckupState::Asked(pool) = &mut self.state else { return false };
        let is_own = pool.on_received(&mut surroundings.streams(), stream, bytes, now);
        self.hear_pool(surroundings);
        is_own
    }

    /// Takes in that a stream has ended; `false` if it is not its own.
    pub(super) fn on_closed(&mut self, surroundings: &Surroundings, stream: u32, text: &[u8], now: Timestamp) -> bool {
        let CheckupState::Asked(pool) = &mut self.state else { return false };
        let is_own = pool.on_closed(stream, text, now);
        self.hear_pool(surroundings);
        is_own
    }

    /// Takes in what came of the question.
    fn hear_pool(&mut self, surroundings: &Surroundings) {
        if let (Store::Remote(store), CheckupState::Asked(pool)) = (&surroundings.enforced.store, &mut self.state)
            && let Some((_, answered)) = pool.next_answer()
        {
            pool.close(&mut surroundings.streams());
            self.conclude(&store.findings(answered.heard()), &**store);
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
