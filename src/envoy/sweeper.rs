//! Removes what has expired from a remote store in which nobody else does: one worker of an Envoy at a time. Envoys that
//! sweep at the same moment do not wait for each other; that is the store's affair.

use std::{mem, rc::Rc, time::Duration};

use super::{realm::Realm, store::Store};
use crate::{
    exchange::Counter,
    record::Owner,
    store::{
        StoreError,
        pool::Pool,
        shared_data::{Lease, update_hint},
    },
    time::Timestamp,
};

/// One worker's part in sweeping one realm.
#[derive(Debug)]
pub(super) struct Sweeper {
    realm: Rc<Realm>,
    /// The root context.
    root: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Since this moment.
    Resting(Timestamp),
    /// The only question of this connection is to be answered.
    Asked(Pool),
}

impl Sweeper {
    /// The sweeper of a realm that needs one.
    pub(super) fn of(realm: &Rc<Realm>, root: u32) -> Option<Self> {
        let Store::Remote(store) = &realm.store else { return None };
        let state = State::Resting(Timestamp::default());
        store.sweeps().map(|_| Self { realm: Rc::clone(realm), root, state })
    }

    /// Sweeps, if it is time and nobody else in this Envoy does; and hears what time alone brings about.
    pub(super) fn tick(&mut self, worker: Owner, now: Timestamp) {
        match &mut self.state {
            State::Resting(since) if since.after(PERIOD).has_come(now, PERIOD) => {
                self.state = State::Resting(now);
                let take = |lease: Lease| lease.take(worker, PERIOD.saturating_mul(2), now);
                if update_hint(&self.realm.memory, KEY, take) == Ok(true)
                    && let Some(pool) = self.realm.store.pool()
                {
                    self.ask(pool, now);
                }
            }
            State::Resting(_) => {}
            State::Asked(pool) => {
                pool.on_tick(&mut self.realm.store.streams(self.root), now);
                self.hear(now);
            }
        }
    }

    /// Takes in what has come on a stream; `false` if it is not its own.
    pub(super) fn on_received(&mut self, stream: u32, bytes: &[u8], now: Timestamp) -> bool {
        let State::Asked(pool) = &mut self.state else { return false };
        let is_own = pool.on_received(&mut self.realm.store.streams(self.root), stream, bytes, now);
        self.hear(now);
        is_own
    }

    /// Takes in that a stream has ended; `false` if it is not its own.
    pub(super) fn on_closed(&mut self, stream: u32, text: &[u8], now: Timestamp) -> bool {
        let State::Asked(pool) = &mut self.state else { return false };
        let is_own = pool.on_closed(stream, text, now);
        self.hear(now);
        is_own
    }

    /// Ends. What was asked for may still be done.
    pub(super) fn close(mut self) {
        if let State::Asked(pool) = &mut self.state {
            pool.close(&mut self.realm.store.streams(self.root));
        }
    }

    fn ask(&mut self, mut pool: Pool, now: Timestamp) {
        let Store::Remote(store) = &self.realm.store else { return };
        let Some(sweeps) = store.sweeps() else { return };
        pool.ask(&mut self.realm.store.streams(self.root), &sweeps.sweep(), store.timeout(), now);
        self.state = State::Asked(pool);
        self.hear(now);
    }

    /// Takes in what came of the question, and asks again if more is left.
    fn hear(&mut self, now: Timestamp) {
        let State::Asked(pool) = &mut self.state else { return };
        let Some((_, answered)) = pool.next_answer() else { return };
        let State::Asked(mut pool) = mem::replace(&mut self.state, State::Resting(now)) else { return };
        let Store::Remote(store) = &self.realm.store else { return };
        match store.sweeps().map(|sweeps| sweeps.is_more_left(answered.heard())) {
            Some(Ok(true)) => return self.ask(pool, now),
            Some(Err(error)) => self.report(error),
            Some(Ok(false)) | None => {}
        }
        pool.close(&mut self.realm.store.streams(self.root));
    }

    fn report(&self, error: StoreError) {
        self.realm.metrics.count(Counter::StoreErrors, 1);
        self.realm.count_store_error(error);
        log::warn!("idemgate: {}expired records were not removed: {error}", self.realm.label);
    }
}

const KEY: &str = "idemgate/v1/remote_sweep";

/// The time from the end of a sweep to the next.
const PERIOD: Duration = Duration::from_secs(30);
