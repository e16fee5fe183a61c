//! What the streams of one worker share under one configuration.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    body_watch::BodyWatch,
    calls::Calls,
    checkup::Checkup,
    driver::Worklist,
    guest::Guest,
    host::{self, MapType, Refused},
    inquiries::Inquiries,
    memory::Memory,
    path_watch::PathWatch,
    post::{BELL, Bell, Post},
    realm::{NoRealm, Realm},
    redirects::Redirects,
    route::Route,
    store::HostMemory,
    turns::{Pace, SOON, Turns},
    waiting_room::WaitingRoom,
    watch_board::{POLL, WatchBoard},
};
use crate::{
    config::{Config, InFlight, Mode, NEVER_GUARDED, Policy},
    exchange::{Counter, Notice, needs_mailbox, tick_interval},
    headers::Headers,
    record::{Mailbox, Owner},
    request::OperationId,
    store::StoreError,
    time::Timestamp,
};

/// A configuration at work in one worker.
///
/// It belongs to the root context and not to a static: after a change of the configuration the same VM
/// runs the old one and the new one side by side.
#[derive(Debug)]
pub(super) struct Filter {
    config: Config,
    /// The entries of the configuration's `routes`, in their order.
    routes: Vec<Rc<Route>>,
    /// What all other requests fall under.
    base: Rc<Route>,
    /// Those that any policy guards.
    guarded_methods: BTreeSet<String>,
    pub(super) enforced: Rc<Realm>,
    /// Present if a route is in shadow mode.
    shadow: Option<Rc<Realm>>,
    pub(super) memory: Rc<Memory>,
    /// The time as of the last tick, for what needs to know it no better: a look at the clock is a call to the host.
    pub(super) ticked_at: Cell<Timestamp>,
    pub(super) body_watch: BodyWatch,
    path_watch: PathWatch,
    pub(super) waiting_room: WaitingRoom,
    pub(super) watch_board: WatchBoard<HostMemory>,
    pub(super) calls: Calls,
    pub(super) inquiries: Inquiries,
    pub(super) checkup: Checkup,
    /// This worker under this configuration.
    pub(super) worker: Owner,
    pub(super) redirects: Redirects,
    pub(super) worklist: RefCell<Worklist>,
    post: Cell<Option<Post>>,
    /// No post was to be had when it was last tried.
    lacks_post: Cell<bool>,
    owners: Cell<u128>,
    guests: RefCell<BTreeMap<u64, Rc<Guest>>>,
    guests_so_far: Cell<u64>,
    shown_waiting: Cell<usize>,
    pub(super) turns: Turns,
    pace: Cell<Pace>,
    /// Those who are to be answered because of the time.
    overdue: RefCell<VecDeque<Rc<Guest>>>,
    /// The root context is at work, and looks after what is left for it before it returns.
    root_is_at_work: Cell<bool>,
    /// The root context has been called, and has not come yet.
    has_rung: Cell<bool>,
    bell: Cell<Bell>,
    /// It was told that the mailbox was taken.
    has_told_of_taken_post: Cell<bool>,
    /// What was noted so far.
    noted: RefCell<Vec<Notice>>,
    /// When each kind of trouble, such as of store errors, was last logged.
    logged: RefCell<Vec<(&'static str, Timestamp)>>,
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
    pub(super) fn start(config: Config) -> Result<Self, StartError> {
        let enforced = Rc::new(Realm::open(Mode::Enforce, config.store.clone())?);
        let is_shadow = |policy: &&Arc<Policy>| policy.mode == Mode::Shadow;
        let shadow = match policies(&config).find(is_shadow) {
            Some(_) => Some(Rc::new(Realm::open(Mode::Shadow, config.store.clone())?)),
            None => None,
        };
        let route = |policy: &Arc<Policy>, name| {
            let realm = shadow.as_ref().filter(|_| is_shadow(&policy)).unwrap_or(&enforced);
            Route::new(Arc::clone(policy), name, realm).map(Rc::new)
        };
        let routes = config.routes.iter().map(|found| route(&found.policy, found.name.as_deref()));
        let filter = Self {
            routes: routes.collect::<Result<_, _>>()?,
            base: route(&config.policy, None)?,
            guarded_methods: policies(&config).flat_map(|policy| policy.guarded_methods()).cloned().collect(),
            memory: Memory::new(config.memory),
            config,
            enforced,
            shadow,
            ticked_at: Cell::new(host::now()),
            body_watch: BodyWatch::default(),
            path_watch: PathWatch::default(),
            waiting_room: WaitingRoom::default(),
            watch_board: WatchBoard::new(HostMemory::ENFORCED),
            calls: Calls::default(),
            inquiries: Inquiries::default(),
            checkup: Checkup::default(),
            worker: Owner::new(host::random()),
            redirects: Redirects::default(),
            worklist: RefCell::default(),
            post: Cell::default(),
            lacks_post: Cell::default(),
            owners: Cell::new(host::random()),
            guests: RefCell::default(),
            guests_so_far: Cell::default(),
            shown_waiting: Cell::default(),
            turns: Turns::default(),
            pace: Cell::default(),
            overdue: RefCell::default(),
            root_is_at_work: Cell::default(),
            has_rung: Cell::default(),
            bell: Cell::default(),
            has_told_of_taken_post: Cell::default(),
            noted: RefCell::default(),
            logged: RefCell::default(),
        };
        filter.keep_post(filter.ticked_at.get());
        Ok(filter)
    }

    /// What the request of the stream in effect falls under; `None` if it is certainly not guarded.
    ///
    /// Without its `headers` at hand, one look-up decides for most requests, and no more fields are fetched than the
    /// routes look at.
    pub(super) fn find_route(&self, headers: Option<&Headers>) -> Option<&Rc<Route>> {
        let field = |name: &str| match headers {
            Some(headers) => headers.get(name).map(Cow::Borrowed),
            None => host::header(MapType::HttpRequestHeaders, name).map(Cow::Owned),
        };
        let method = field(":method").unwrap_or_default();
        if !self.guarded_methods.iter().any(|guarded| method.eq_ignore_ascii_case(guarded.as_bytes())) {
            self.look_for_key(&method, field);
            return None;
        }
        let route = if self.routes.is_empty() {
            // Operations are named by paths, too, but that is not worth a look-up.
            headers.and_then(|headers| headers.get(":path")).into_iter().for_each(|path| self.path_watch.look_at(path));
            &self.base
        } else {
            self.match_route(&method, field)
        };
        route.guards(&method).then_some(route)
    }

    /// Tells of a key that protects nothing, because the method is not guarded: a client or an SDK expects that it is. The
    /// methods that are never guarded are not looked at.
    fn look_for_key<'a>(&self, method: &[u8], field: impl Fn(&str) -> Option<Cow<'a, [u8]>>) {
        if NEVER_GUARDED.iter().any(|never| method.eq_ignore_ascii_case(never.as_bytes())) {
            return;
        }
        if self.base.policy.key.headers.iter().any(|name| field(name).is_some()) {
            self.base.count(Counter::RequestsKeyUnguarded);
            self.note(Notice::KeyUnguarded(String::from_utf8_lossy(method).into_owned()));
        }
    }

    fn match_route<'a>(&self, method: &[u8], field: impl Fn(&str) -> Option<Cow<'a, [u8]>>) -> &Rc<Route> {
        let path = field(":path").unwrap_or_default();
        self.path_watch.look_at(&path);
        let looks_at_authority = self.config.routes.iter().any(|route| route.looks_at_authority());
        let authority = looks_at_authority.then(|| field(":authority")).flatten();
        let index = self.config.route(method, &authority.unwrap_or_default(), &path);
        index.and_then(|index| self.routes.get(index)).unwrap_or(&self.base)
    }

    pub(super) fn realms(&self) -> impl Iterator<Item = &Rc<Realm>> {
        self.shadow.iter().chain([&self.enforced])
    }

    /// Whether other Envoys see the same records, so that executions end without a word here.
    pub(super) fn is_remote(&self) -> bool {
        self.enforced.store.is_remote()
    }

    /// Begins an exchange for the stream with this context.
    pub(super) fn receive(&self, route: &Rc<Route>, stream: u32) -> Rc<Guest> {
        let number = self.guests_so_far.get().wrapping_add(1);
        self.guests_so_far.set(number);
        Rc::new(Guest::new(number, Rc::clone(route), stream, &self.memory))
    }

    /// A token that no other execution has: random per worker, counted on from there.
    pub(super) fn next_owner(&self) -> Owner {
        let token = self.owners.get().wrapping_add(1);
        self.owners.set(token);
        Owner::new(token)
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

    /// Lets these have their turns, in place of those who were to have them: each of them is due as before, or was
    /// answered. Of each operation one after the other, so that a crowd of one does not keep the others waiting.
    pub(super) fn note_overdue(&self, guests: Vec<Rc<Guest>>) {
        let mut ranks = BTreeMap::<_, usize>::new();
        let mut ranked: Vec<_> = guests
            .into_iter()
            .map(|guest| {
                let rank = ranks.entry(guest.operation()).or_default();
                *rank += 1;
                (*rank, guest)
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        self.overdue.replace(ranked.into_iter().map(|(_, guest)| guest).collect());
    }

    pub(super) fn next_overdue(&self) -> Option<Rc<Guest>> {
        self.overdue.borrow_mut().pop_front()
    }

    /// Whether anything waits for its turn.
    fn has_turns_to_take(&self) -> bool {
        self.waiting_room.has_called()
            || self.inquiries.have_next()
            || self.calls.has_ordered()
            || !self.overdue.borrow().is_empty()
    }

    /// Has the next tick come as soon as it is wanted. To be called with the root context in effect.
    pub(super) fn keep_pace(&self) {
        match (self.pace.get(), self.has_turns_to_take()) {
            (Pace::Regular | Pace::CatchingUp, true) => {
                self.pace.set(Pace::Hurried);
                set_tick_period(SOON);
            }
            (Pace::Hurried, false) => {
                self.pace.set(Pace::CatchingUp);
                let next = self.ticked_at.get().after(self.tick_period());
                set_tick_period(next.since(host::now()).clamp(SOON, self.tick_period()));
            }
            _ => {}
        }
    }

    /// Notes that the host's timer has fired; whether it is time for what a tick is regularly for.
    pub(super) fn has_ticked(&self, now: Timestamp) -> bool {
        let period = self.tick_period();
        match self.pace.get() {
            Pace::Hurried if !self.ticked_at.get().after(period).has_come(now, period) => return false,
            Pace::CatchingUp => {
                self.pace.set(Pace::Regular);
                set_tick_period(period);
            }
            Pace::Hurried | Pace::Regular => {}
        }
        self.ticked_at.set(now);
        true
    }

    /// Where this worker is told of the ends of executions; `None` if the policy needs no such place, or
    /// if none is to be had.
    pub(super) fn mailbox(&self) -> Option<Mailbox> {
        self.post.get().map(|post| post.mailbox)
    }

    /// Keeps the mailbox, or opens one.
    pub(super) fn keep_post(&self, now: Timestamp) {
        if !policies(&self.config).any(|policy| needs_mailbox(policy)) && !self.is_remote() {
            return;
        }
        if self.post.get().is_some_and(|post| post.renew(&HostMemory::ENFORCED, self.worker, now)) {
            return;
        }
        let post = Post::open(&HostMemory::ENFORCED, self.worker, now);
        self.post.set(post);
        self.bell.set(Bell::Silent);
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
            self.enforced.metrics.add_waiting(change);
        }
    }

    /// Shows how much memory is taken.
    pub(super) fn show_memory(&self) {
        match self.memory.change() {
            0 => {}
            change => self.enforced.metrics.add_memory(change),
        }
    }

    /// Calls the root context to what was left for it.
    pub(super) fn ring(&self) {
        if self.root_is_at_work.get() || self.has_rung.replace(true) {
            return;
        }
        self.ring_with(ORDERS_LEFT);
    }

    fn ring_with(&self, message: &[u8]) {
        if let Some(mailbox) = self.mailbox() {
            self.bell.set(self.bell.get().ring());
            host::enqueue(mailbox.0, message);
        }
    }

    /// The mailbox has called the root context.
    pub(super) fn hear_bell(&self) {
        self.bell.set(Bell::Silent);
    }

    /// Finds out, tick by tick, whether the mailbox still calls this worker, as long as somebody depends on it; takes it
    /// back if not.
    pub(super) fn watch_bell(&self) {
        let Some(bell) = self.bell.get().tick() else {
            self.bell.set(Bell::Silent);
            return self.take_post_back();
        };
        self.bell.set(bell);
        if bell == Bell::Silent && self.waiting_room.len() > 0 {
            self.ring_with(BELL);
        }
    }

    fn take_post_back(&self) {
        let Some(post) = self.post.get() else { return };
        post.reclaim();
        // Whom a message was for that somebody else has taken out is not known.
        self.waiting_room.call_all();
        if !self.has_told_of_taken_post.replace(true) {
            log::error!(
                "idemgate: another plugin has registered the queue by which this worker is woken, or the host has lost it; \
                 it is registered again, whenever that happens. Give idemgate a vm_id that no other plugin has \
                 (docs/deployment.md). This is said once"
            );
        }
    }

    /// Notes that the root context begins or ends its work.
    pub(super) fn root_works(&self, works: bool) {
        self.root_is_at_work.set(works);
        self.has_rung.set(false);
    }

    /// Tells the other workers, and other requests of this one, that an execution may have ended.
    pub(super) fn announce_end(&self, operation: &OperationId) {
        let lets_wait = |policy: &Arc<Policy>| policy.duplicates.in_flight == InFlight::Wait;
        if self.is_remote() && policies(&self.config).any(lets_wait) {
            for mailbox in self.watch_board.take(operation) {
                host::enqueue(mailbox.0, operation.as_bytes());
            }
        }
    }

    /// Tells the operator of each kind of thing once.
    pub(super) fn note(&self, notice: Notice) {
        let mut noted = self.noted.borrow_mut();
        if !noted.iter().any(|known| known.is_like(&notice)) {
            log::warn!("idemgate: {notice}");
            noted.push(notice);
        }
    }

    /// Counts what is wrong with the store of a realm, and tells the operator now and then.
    pub(super) fn report(&self, realm: &Realm, error: StoreError, now: Timestamp) {
        realm.count_store_error(error);
        let kind = error.kind();
        if self.may_log(kind, now) {
            log::warn!("idemgate: the store failed ({kind}): {error}");
        }
    }

    /// Tells the operator now and then of a detached call that the host refuses to make.
    pub(super) fn report_uncallable(&self, cluster: &str, now: Timestamp) {
        if self.may_log("detached", now) {
            log::warn!(
                "idemgate: a detached call to the cluster {cluster:?} cannot be made, and nothing ran: Envoy has no such \
                 cluster, or it has no healthy host, or its circuit breaker is open; compare execution.cluster with \
                 Envoy's /clusters"
            );
        }
    }

    /// Whether a line about this kind of trouble may be logged; it counts as logged then.
    fn may_log(&self, kind: &'static str, now: Timestamp) -> bool {
        let mut logged = self.logged.borrow_mut();
        logged.retain(|(_, last)| now.since(*last) < LOG_PERIOD);
        let may = logged.iter().all(|(known, _)| *known != kind);
        if may {
            logged.push((kind, now));
        }
        may
    }

    /// The same for an attempt that is made again, of which the exchange does not hear.
    pub(super) fn note_failed_attempt(&self, realm: &Realm, error: StoreError, now: Timestamp) {
        realm.metrics.count(Counter::StoreErrors, 1);
        self.report(realm, error, now);
    }

    /// Has ticks come.
    pub(super) fn begin_ticks(&self) {
        set_tick_period(self.tick_period());
    }

    /// How often the root context looks after leases, waiting requests and the store.
    fn tick_period(&self) -> Duration {
        let longest = if self.is_remote() { POLL } else { LONGEST_TICK };
        let shortest = policies(&self.config).map(|policy| tick_interval(policy)).min();
        shortest.unwrap_or(longest).clamp(SHORTEST_TICK, longest)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.enforced.metrics.add_memory(-(self.memory.shown() as i64));
    }
}

fn set_tick_period(period: Duration) {
    let _ = host::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(1000));
}

fn policies(config: &Config) -> impl Iterator<Item = &Arc<Policy>> {
    config.routes.iter().map(|route| &route.policy).chain([&config.policy])
}

/// What a worker puts into its own mailbox; all other messages are the hashes of operations.
const ORDERS_LEFT: &[u8] = b"orders";

/// The time between two log lines about the same kind of error: a store that is down fails each request.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Upper bound of the tick period, so that sweeping continues when leases are long.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// However short the leases and waits are, a tick is not to be the worker's main work.
const SHORTEST_TICK: Duration = Duration::from_millis(50);
