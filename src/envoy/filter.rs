//! What the streams of one worker share under one configuration.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    call_end::CallEnd,
    checkup::Checkup,
    host::{self, MapType, Refused},
    mailbox::OwnMailbox,
    path_watch::PathWatch,
    realm::{NoRealm, Realm, Route},
    redirects::Redirects,
    store::Store,
    surroundings::Surroundings,
    sweeper::Sweeper,
    ticker::Ticker,
};
use crate::{
    config::{Config, Mode, Policy},
    exchange::{Attributes, Evidence, needs_mailbox, tick_interval},
    headers::Headers,
    record::Owner,
    store::StoreError,
    time::{Now, Timestamp},
    worker::{Actions, ExchangeId, Opening, POLL, Worker, WorkerLimits},
};

/// A configuration at work in one worker.
///
/// It belongs to the root context and not to a static: after a change of the configuration the same VM
/// runs the old one and the new one side by side.
#[derive(Debug)]
pub(super) struct Filter {
    config: Config,
    /// Those that any policy guards.
    guarded_methods: BTreeSet<String>,
    /// Whether other Envoys see the same records.
    is_remote: bool,
    /// This worker under this configuration.
    id: Owner,
    owners: Cell<u128>,
    /// How many exchanges there were.
    exchanges: Cell<u64>,
    path_watch: PathWatch,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    worker: Worker,
    surroundings: Surroundings,
    redirects: Redirects,
    checkup: Checkup,
    /// One for each realm whose store needs it.
    sweepers: Vec<Sweeper>,
    ticker: Ticker,
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

impl From<NoRealm> for StartError {
    fn from(reason: NoRealm) -> Self {
        match reason {
            NoRealm::Metrics(refused) => refused.into(),
            NoRealm::Store(error) => error.into(),
        }
    }
}

impl Filter {
    /// Puts a configuration to work in the root context `root`, which is in effect.
    pub(super) fn start(config: Config, root: u32, now: Timestamp) -> Result<Self, StartError> {
        let enforced = Rc::new(Realm::open(Mode::Enforce, config.store.clone())?);
        let is_shadow = |policy: &Policy| policy.mode == Mode::Shadow;
        let shadow = match policies(&config).find(|policy| is_shadow(policy)) {
            Some(_) => Some(Rc::new(Realm::open(Mode::Shadow, config.store.clone())?)),
            None => None,
        };
        let route = |policy: &Policy, name| {
            let realm = shadow.as_ref().filter(|_| is_shadow(policy)).unwrap_or(&enforced);
            Route::new(policy, name, realm)
        };
        let routes = config.routes.iter().map(|found| route(&found.policy, found.name.as_deref()));
        let routes = routes.chain([route(&config.policy, None)]).collect::<Result<_, _>>()?;
        let (is_remote, pool) = (enforced.store.is_remote(), enforced.store.pool());
        let longest_tick = match (is_remote, &pool) {
            (_, Some(_)) => POOL_TICK,
            (true, None) => POLL,
            (false, None) => LONGEST_TICK,
        };
        let id = Owner::new(host::random());
        let sweepers = shadow.iter().chain([&enforced]).filter_map(|realm| Sweeper::of(realm, root)).collect();
        let filter = Self {
            guarded_methods: policies(&config).flat_map(|policy| policy.guarded_methods()).cloned().collect(),
            is_remote,
            id,
            owners: Cell::new(host::random()),
            exchanges: Cell::default(),
            path_watch: PathWatch::default(),
            state: RefCell::new(State {
                worker: Worker::new(WorkerLimits::with_memory(config.memory), is_remote, pool),
                surroundings: Surroundings::new(root, routes, enforced, shadow, OwnMailbox::new(id)),
                redirects: Redirects::default(),
                checkup: Checkup::default(),
                sweepers,
                ticker: Ticker::start(root, tick_period(&config, longest_tick), now),
            }),
            config,
        };
        filter.with(|state| filter.keep_mailbox(state, now));
        Ok(filter)
    }

    /// Whether the table of the store can hold what the limits allow.
    pub(super) fn has_capacity(&self) -> bool {
        self.with(|state| match &state.surroundings.enforced.store {
            Store::SharedData(store) => store.has_capacity(),
            Store::Remote(_) => true,
        })
        .unwrap_or(true)
    }

    /// The number of the route that the request of the stream in effect falls under; `None` if it is certainly not
    /// guarded.
    ///
    /// Without its `headers` at hand, one look-up decides for most requests, and no more fields are fetched than the
    /// routes look at. If they look at any, all are.
    pub(super) fn find_route(&self, all: &mut Option<Headers>) -> Option<usize> {
        let headers = all.as_ref();
        let field = |name: &str| match headers {
            Some(headers) => headers.get(name).map(Cow::Borrowed),
            None => host::header(MapType::HttpRequestHeaders, name).map(Cow::Owned),
        };
        let method = field(":method").unwrap_or_default();
        if !self.guarded_methods.iter().any(|guarded| method.eq_ignore_ascii_case(guarded.as_bytes())) {
            let has_key = || self.config.policy.key.headers.iter().any(|name| field(name).is_some());
            self.with(|state| state.surroundings.note_unguarded(&method, has_key));
            return None;
        }
        if self.config.routes.is_empty() {
            // Operations are named by paths, too, but that is not worth a look-up.
            headers.and_then(|headers| headers.get(":path")).into_iter().for_each(|path| self.path_watch.look_at(path));
            return Some(0);
        }
        let path = field(":path").unwrap_or_default();
        self.path_watch.look_at(&path);
        let looks_at_authority = self.config.routes.iter().any(|route| route.looks_at_authority());
        let authority = looks_at_authority.then(|| field(":authority")).flatten().unwrap_or_default();
        let found = if self.config.routes.iter().any(|route| route.looks_at_headers()) {
            let (method, path, authority) = (method.into_owned(), path.into_owned(), authority.into_owned());
            let headers = all.get_or_insert_with(|| host::headers(MapType::HttpRequestHeaders));
            self.config.route(&method, &authority, &path, headers)
        } else {
            self.config.route(&method, &authority, &path, &Headers::new())
        };
        Some(found.unwrap_or(self.config.routes.len()))
    }

    /// Begins an exchange under a route for this stream.
    pub(super) fn open(
        &self,
        route: usize,
        stream: u32,
        headers: &Headers,
        attribute: &dyn Attributes,
        end_of_stream: bool,
    ) -> (ExchangeId, Actions) {
        let exchange = ExchangeId(self.exchanges.get().wrapping_add(1));
        self.exchanges.set(exchange.0);
        let policy = self.config.routes.get(route).map_or(&self.config.policy, |route| &route.policy);
        let actions = self.with(|State { worker, surroundings, .. }| {
            let (owner, mailbox) = (self.next_owner(), surroundings.mailbox.address());
            let opening =
                Opening { exchange, policy, route, stream, headers, attribute, owner, mailbox, end_of_stream };
            worker.open(surroundings, opening, &Now::of(host::now))
        });
        (exchange, actions.unwrap_or_default())
    }

    /// The exchange that the stream in effect goes on with after a redirect, if there is one.
    pub(super) fn take_redirected(&self, stream: u32) -> Option<ExchangeId> {
        self.with(|state| {
            let exchange = state.redirects.take()?;
            state.worker.move_to_stream(exchange, stream);
            Some(exchange)
        })
        .flatten()
    }

    /// The stream of an exchange has ended because Envoy follows a redirect: another one is to go on with it.
    pub(super) fn await_redirected(&self, exchange: ExchangeId, now: Timestamp) {
        self.with(|State { worker, redirects, .. }| {
            worker.redirect(exchange);
            if let Some(active) = worker.active(exchange) {
                redirects.leave(exchange, active.policy(), now);
            }
        });
    }

    /// A filter in front has answered the stream in effect. If it was to go on with an exchange, that is over.
    pub(super) fn abandon_redirected(&self) {
        self.with(|State { worker, surroundings, redirects, .. }| {
            if let Some(exchange) = redirects.take() {
                worker.close(surroundings, exchange, &GONE, &Now::of(host::now));
            }
        });
    }

    /// Lets the worker do something; `None` if it is at it already.
    pub(super) fn with_worker<R>(&self, work: impl FnOnce(&mut Worker, &mut Surroundings) -> R) -> Option<R> {
        self.with(|State { worker, surroundings, .. }| work(worker, surroundings))
    }

    /// The host's timer has fired.
    pub(super) fn on_tick(&self, now: Timestamp) {
        self.with_root(now, |state| {
            let is_over = state.ticker.tick(now);
            if is_over {
                // First, as long as nothing has put another context in effect.
                state.checkup.tick(&state.surroundings, self.id, now);
                state.sweepers.iter_mut().for_each(|sweeper| sweeper.tick(self.id, now));
                for exchange in state.redirects.take_overdue(now) {
                    state.worker.close(&mut state.surroundings, exchange, &GONE, &now.into());
                }
                self.keep_mailbox(state, now);
                if state.surroundings.mailbox.check(state.worker.has_waiting()) {
                    // Whom a message was for that somebody else has taken out is not known.
                    state.worker.call_all();
                }
            }
            state.worker.on_tick(&mut state.surroundings, is_over, now);
            if is_over {
                match state.worker.show_memory() {
                    0 => {}
                    change => state.surroundings.enforced.metrics.add_memory(change),
                }
                for realm in state.surroundings.realms() {
                    realm.sweep(self.id, now);
                }
            }
        });
    }

    /// Something has come into the mailbox.
    pub(super) fn on_queue_ready(&self, queue: u32, now: Timestamp) {
        self.with_root(now, |State { worker, surroundings, .. }| {
            if let Some(ended) = surroundings.mailbox.take_messages(queue) {
                worker.on_messages(surroundings, &ended, now);
            }
        });
    }

    /// A call has come to its end.
    pub(super) fn on_call_answered(&self, token: u32, answer: CallEnd, now: Timestamp) {
        self.with_root(now, |State { worker, surroundings, checkup, .. }| {
            if worker.awaits_upstream(token) {
                let headers = answer.headers();
                worker.on_call_answer(surroundings, token, answer.of_upstream(&headers), now);
            } else {
                let body = answer.body();
                let heard = answer.of_store(&body, surroundings.enforced.store.has_clock(), now);
                if worker.awaits_store(token) {
                    worker.on_store_answer(surroundings, token, heard, now);
                } else {
                    checkup.end(surroundings, token, heard);
                }
            }
        });
    }

    /// Something has come over a stream to the store.
    pub(super) fn on_received(&self, stream: u32, bytes: &[u8], now: Timestamp) {
        self.with_root(now, |State { worker, surroundings, checkup, sweepers, .. }| {
            if !checkup.on_received(surroundings, stream, bytes, now)
                && !sweepers.iter_mut().any(|sweeper| sweeper.on_received(stream, bytes, now))
            {
                worker.on_received(surroundings, stream, bytes, now);
            }
        });
    }

    /// A stream to the store has ended, of which the host says this.
    pub(super) fn on_stream_closed(&self, stream: u32, text: &[u8], now: Timestamp) {
        self.with_root(now, |State { worker, surroundings, checkup, sweepers, .. }| {
            surroundings.note_closed(text, now);
            if !checkup.on_closed(surroundings, stream, text, now)
                && !sweepers.iter_mut().any(|sweeper| sweeper.on_closed(stream, text, now))
            {
                worker.on_stream_closed(surroundings, stream, text, now);
            }
        });
    }

    /// Closes the connections to the store: no call is ordered or under way.
    pub(super) fn close_connections(&self) {
        self.with(|State { worker, surroundings, .. }| worker.close_connections(surroundings));
    }

    /// The configuration is no longer used.
    pub(super) fn retire(&self) {
        self.with(|state| {
            state.surroundings.realms().for_each(|realm| realm.give_back_room());
            state.sweepers.drain(..).for_each(Sweeper::close);
        });
    }

    /// Whether no call is ordered or under way.
    pub(super) fn has_no_calls(&self) -> bool {
        self.with(|state| state.worker.has_no_calls()).unwrap_or(false)
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> Option<R> {
        match self.state.try_borrow_mut() {
            Ok(mut state) => Some(work(&mut state)),
            Err(_) => {
                log::error!("idemgate: the host has called back into a worker that is at work");
                None
            }
        }
    }

    /// Lets the root context do something, and has the next tick come as soon as it is wanted.
    fn with_root(&self, now: Timestamp, work: impl FnOnce(&mut State)) {
        self.with(|state| {
            work(state);
            state.ticker.hurry_if(state.worker.has_turns_to_take(), now);
        });
    }

    fn keep_mailbox(&self, state: &mut State, now: Timestamp) {
        if self.is_remote || policies(&self.config).any(|policy| needs_mailbox(policy)) {
            state.surroundings.mailbox.keep(now);
        }
    }

    /// A token that no other execution has: random per worker, counted on from there.
    fn next_owner(&self) -> Owner {
        let token = self.owners.get().wrapping_add(1);
        self.owners.set(token);
        Owner::new(token)
    }

    /// Whether other Envoys see the same records.
    pub(super) fn is_remote(&self) -> bool {
        self.is_remote
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.with(|state| {
            state.surroundings.enforced.metrics.add_memory(-(state.worker.shown_memory() as i64));
        });
    }
}

fn policies(config: &Config) -> impl Iterator<Item = &Arc<Policy>> {
    config.routes.iter().map(|route| &route.policy).chain([&config.policy])
}

/// How often the root context looks after leases, waiting requests and the store.
fn tick_period(config: &Config, longest: Duration) -> Duration {
    let shortest = policies(config).map(|policy| tick_interval(policy)).min();
    shortest.unwrap_or(longest).clamp(SHORTEST_TICK, longest)
}

/// What is known of the call of an exchange whose next stream did not come.
const GONE: Evidence = Evidence { details: None, attempts: None, connected: false, redirected: true };

/// Upper bound of the tick period, so that sweeping continues when leases are long.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// The host has no timer for what is asked over a persistent connection.
const POOL_TICK: Duration = Duration::from_millis(50);

/// However short the leases and waits are, a tick is not to be the worker's main work.
const SHORTEST_TICK: Duration = Duration::from_millis(50);
