//! The role `admin`: a listener of its own, on which operators look up and change single operations.
//!
//! What may be asked, by whom, and how it is answered is in [`crate::admin`]. Here requests are taken in and answered,
//! and the store is asked. Every request is answered here; none is ever passed on. What takes longer than a callback may
//! is the root context's: a walk through the table, a stretch at a time, and questions to a remote store, whose answers count,
//! are logged and wake those who wait also when the operator has hung up meanwhile.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use proxy_wasm::traits::{Context, HttpContext};

use super::{
    call_end::CallEnd,
    filter::StartError,
    host::{self, Action, BufferType, MapType, MetricType, Refused},
    mailbox::OwnMailbox,
    store::{HostMemory, Store},
    walks::{Walk, Walks},
};
use crate::{
    admin::{AdminAnswer, AdminProblem, AdminRoute, ChangeMade, LONGEST_BODY, Origin, Refusal, Task},
    config::{Config, Guard},
    headers::Headers,
    record::{Amended, Amendment, Mailbox, Owner, Verb, View},
    request::{OperationId, OperationPrefix},
    store::{
        StoreError,
        dialect::Heard,
        pool::Pool,
        review::{Review, Reviewed},
        shared_data::{SharedDataStore, TableScan},
    },
    time::Timestamp,
    worker::{Outbox, Turns},
};

/// An admin's configuration at work in one worker.
#[derive(Debug)]
pub(super) struct Admin {
    config: Config,
    guard: Guard,
    store: Store,
    counters: Counters,
    mailbox: RefCell<OwnMailbox>,
    /// Requests whose body is still to come.
    incomplete: RefCell<Vec<Rc<OpenRequest>>>,
    jobs: RefCell<Outbox<VecDeque<Job>, Job>>,
    /// The persistent connections to a remote store, if it has any.
    pool: RefCell<Option<Pool>>,
    walks: RefCell<Walks<Rc<OpenRequest>>>,
    refusals: Refusals,
    turns: RefCell<Turns>,
}

/// A request that may still be answered.
#[derive(Debug)]
struct OpenRequest {
    context_id: u32,
    /// Who asks, as logs name them.
    from: String,
    since: Timestamp,
    is_open: Cell<bool>,
}

/// What the root context is to do for a request.
#[derive(Debug)]
struct Job {
    request: Rc<OpenRequest>,
    query: Query,
}

/// What the store is asked.
#[derive(Debug)]
enum Query {
    /// Which operations have not come to their end.
    List,
    /// How much it holds.
    Usage,
    /// One operation.
    Review(Box<Review>),
}

impl Admin {
    pub(super) fn start(config: Config, guard: Guard, now: Timestamp) -> Result<Self, StartError> {
        let store = Store::open(config.store.clone(), HostMemory::ENFORCED)?;
        let admin = Self {
            pool: RefCell::new(store.pool()),
            store,
            config,
            guard,
            counters: Counters::define()?,
            mailbox: RefCell::new(OwnMailbox::new(Owner::new(host::random()))),
            incomplete: RefCell::default(),
            jobs: RefCell::default(),
            walks: RefCell::default(),
            refusals: Refusals::default(),
            turns: RefCell::default(),
        };
        admin.mailbox.borrow_mut().keep(now);
        Ok(admin)
    }

    /// How often [`tick`](Self::tick) is to be called.
    pub(super) const TICK: Duration = Duration::from_secs(1);

    /// Looks after what time alone brings about, and after orders whose call got lost.
    pub(super) fn tick(&self, root: u32, now: Timestamp) {
        self.mailbox.borrow_mut().keep(now);
        self.walks.borrow_mut().tick();
        if let Some(pool) = &mut *self.pool.borrow_mut() {
            pool.on_tick(&mut self.store.streams(root), now);
        }
        self.hear_pool(now);
        self.begin_work(root, now);
    }

    /// Answers those whose bodies do not come, and does a piece of each job that was ordered, as far as one call of the
    /// host's may go; to be called from its event loop, with the root context active.
    pub(super) fn begin_work(&self, root: u32, now: Timestamp) {
        self.turns.borrow_mut().begin();
        while self.turns.borrow().are_left()
            && let Some(request) = self.next_overdue(now)
        {
            self.turns.borrow_mut().take();
            request.answer(&AdminProblem::NoBody.answer());
        }
        self.work(root, now);
    }

    /// Does a piece of each job that was ordered, as far as turns are left.
    fn work(&self, root: u32, now: Timestamp) {
        let jobs = self.jobs.borrow().queue.len();
        for _ in 0..jobs {
            // The answer to the one before may have put its stream in effect.
            let _ = host::set_effective_context(root);
            if !self.turns.borrow().are_left() {
                self.call_root();
                break;
            }
            let Some(Job { request, query }) = self.jobs.borrow_mut().queue.pop_front() else { break };
            self.turns.borrow_mut().take();
            match query {
                Query::Review(mut review) => {
                    let (bytes, timeout) = review.ask(now);
                    let token = self.send(root, bytes, timeout, now);
                    self.send_off(token, Job { request, query: Query::Review(review) }, now);
                }
                Query::List | Query::Usage => {
                    let Store::Remote(store) = &self.store else { continue };
                    let question = match (&query, store.lists()) {
                        (Query::List, Some(lists)) => lists.list(AdminAnswer::MOST_LISTED),
                        _ => store.checkup(),
                    };
                    let token = self.send(root, &question, store.timeout(), now);
                    self.send_off(token, Job { request, query }, now);
                }
            }
        }
        self.hear_pool(now);
        if let Store::SharedData(store) = &self.store {
            let walk = self.walks.borrow_mut().go_on(|request| request.is_gone(), |scan| store.scan(scan, now));
            if let Some(Walk { scan, sought, requests }) = walk {
                requests.iter().for_each(|request| request.answer(&self.scanned(store, &scan, sought)));
            }
            if self.walks.borrow().may_go_on() {
                self.call_root();
            }
        }
        let _ = host::set_effective_context(root);
    }

    /// Takes in the answer to a call, if `token` is one of its own.
    pub(super) fn hear(&self, root: u32, token: u32, answer: CallEnd, now: Timestamp) {
        let job = self.jobs.borrow_mut().answered(token);
        if let Some(job) = job {
            self.go_on(job, answer.of_store(&answer.body(), self.store.has_clock(), now), now);
            self.work(root, now);
        }
    }

    /// Takes in what has come over a stream to the store.
    pub(super) fn on_received(&self, root: u32, stream: u32, bytes: &[u8], now: Timestamp) {
        if let Some(pool) = &mut *self.pool.borrow_mut() {
            pool.on_received(&mut self.store.streams(root), stream, bytes, now);
        }
        self.hear_pool(now);
        self.work(root, now);
    }

    /// Takes in that a stream to the store has ended, and what the host says of it.
    pub(super) fn on_stream_closed(&self, root: u32, stream: u32, text: &[u8], now: Timestamp) {
        if let Some(pool) = &mut *self.pool.borrow_mut() {
            pool.on_closed(stream, text, now);
        }
        self.hear_pool(now);
        self.work(root, now);
    }

    /// Closes the connections to the store: nothing is under way.
    pub(super) fn close_connections(&self, root: u32) {
        if let Some(pool) = &mut *self.pool.borrow_mut() {
            pool.close(&mut self.store.streams(root));
        }
    }

    /// Asks the store; the token of the answer, or `None` if it cannot be asked.
    fn send(&self, root: u32, bytes: &[u8], timeout: Duration, now: Timestamp) -> Option<u32> {
        match &mut *self.pool.borrow_mut() {
            Some(pool) => Some(pool.ask(&mut self.store.streams(root), bytes, timeout, now)),
            None => self.store.send(bytes, timeout),
        }
    }

    /// Takes in what came of questions over persistent connections.
    fn hear_pool(&self, now: Timestamp) {
        let next = || self.pool.borrow_mut().as_mut().and_then(Pool::next_answer);
        while let Some((ticket, answered)) = next() {
            let job = self.jobs.borrow_mut().answered(ticket);
            if let Some(job) = job {
                self.go_on(job, answered.heard(), now);
            }
        }
    }

    fn next_overdue(&self, now: Timestamp) -> Option<Rc<OpenRequest>> {
        let is_overdue = |request: &Rc<OpenRequest>| request.since.after(BODY_PATIENCE).has_come(now, BODY_PATIENCE);
        let mut incomplete = self.incomplete.borrow_mut();
        let index = incomplete.iter().position(is_overdue)?;
        Some(incomplete.swap_remove(index))
    }

    /// Whether nothing is under way that is to be seen to its end.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.borrow().is_idle() && self.walks.borrow().is_idle()
    }

    fn send_off(&self, token: Option<u32>, job: Job, now: Timestamp) {
        match token {
            Some(token) => self.jobs.borrow_mut().sent(token, job),
            None => self.go_on(job, Heard::NotMade, now),
        }
    }

    fn go_on(&self, Job { request, query }: Job, heard: Heard<'_>, now: Timestamp) {
        let Store::Remote(store) = &self.store else { return };
        match query {
            Query::List => request.answer(&match store.lists().map(|lists| lists.listed(heard)) {
                Some(Ok(listed)) => AdminAnswer::listed(&listed, now),
                Some(Err(error)) => self.unavailable(error, false),
                None => AdminProblem::CannotList.answer(),
            }),
            Query::Usage => request.answer(&match store.holdings(heard) {
                Ok(holdings) => AdminAnswer::held(holdings),
                Err(error) => self.unavailable(error, false),
            }),
            Query::Review(mut review) => match review.hear(heard, now) {
                Some(reviewed) => request.answer(&self.reviewed(&request, &review, reviewed)),
                None => self.jobs.borrow_mut().queue.push_back(Job { request, query: Query::Review(review) }),
            },
        }
    }

    /// Answers a request, or orders what its answer takes.
    fn perform(&self, request: &Rc<OpenRequest>, task: Task, now: Timestamp) {
        let answer = match (&self.store, task) {
            (Store::SharedData(store), Task::Look(operation)) => match store.look(&operation, now) {
                Ok(view) => self.seen(&operation, view),
                Err(error) => self.unavailable(error, false),
            },
            (Store::SharedData(store), Task::Amend(operation, amendment)) => {
                match store.amend(&operation, amendment, now) {
                    Ok(amended) => self.amended(request, &operation, amendment, amended),
                    Err(error) => self.unavailable(error, false),
                }
            }
            (Store::SharedData(_), Task::Count) => {
                return self.order_walk(request, None);
            }
            (Store::SharedData(_), Task::Find(prefix)) => {
                return self.order_walk(request, Some(prefix));
            }
            (Store::Remote(store), Task::Look(operation)) => {
                return self.order(request, Query::Review(store.review(operation, None).into()));
            }
            (Store::Remote(store), Task::Amend(operation, amendment)) => {
                return self.order(request, Query::Review(store.review(operation, Some(amendment)).into()));
            }
            (Store::Remote(_), Task::Count) => return self.order(request, Query::Usage),
            (Store::Remote(store), Task::List) if store.lists().is_some() => return self.order(request, Query::List),
            (_, Task::List) => AdminProblem::CannotList.answer(),
            (Store::Remote(store), Task::Find(_)) => {
                AdminProblem::WholeHashNeeded { how_to_find: store.how_to_find() }.answer()
            }
        };
        request.answer(&answer);
    }

    fn scanned(
        &self,
        store: &SharedDataStore<HostMemory>,
        scan: &TableScan,
        sought: Option<OperationPrefix>,
    ) -> AdminAnswer {
        match (sought, scan.found.as_slice()) {
            (None, _) => AdminAnswer::counted(scan, store.totals().unwrap_or_default(), store.limits()),
            (Some(_), []) => AdminProblem::NotFound(None).answer(),
            (Some(_), [(operation, view)]) => self.seen(operation, Some(*view)),
            (Some(_), found) => {
                AdminProblem::NotUnique(found.iter().map(|(operation, _)| *operation).collect()).answer()
            }
        }
    }

    fn reviewed(&self, request: &OpenRequest, review: &Review, reviewed: Reviewed) -> AdminAnswer {
        let operation = review.operation();
        match (reviewed, review.amendment()) {
            (Reviewed::Seen(view), _) => self.seen(operation, view),
            (Reviewed::Amended(amended), Some(amendment)) => self.amended(request, operation, amendment, amended),
            (Reviewed::Amended(_), None) => AdminProblem::NotFound(Some(*operation)).answer(),
            (Reviewed::Failed { error, may_have_amended }, amendment) => {
                if let (true, Some(amendment)) = (may_have_amended, amendment) {
                    let done = amendment.verb.participle();
                    log::warn!(
                        "idemgate: admin: operation {} may have been {done}, as {} asked: {error}",
                        operation.short(),
                        request.from
                    );
                }
                self.unavailable(error, may_have_amended)
            }
        }
    }

    fn seen(&self, operation: &OperationId, view: Option<View>) -> AdminAnswer {
        self.counters.count(Count::LookedUp);
        match view {
            Some(view) => AdminAnswer::seen(operation, &view),
            None => AdminProblem::NotFound(Some(*operation)).answer(),
        }
    }

    /// Takes in how a change ended. One that was made is logged, even if nobody waits for the answer.
    fn amended(
        &self,
        request: &OpenRequest,
        operation: &OperationId,
        amendment: Amendment,
        amended: Amended,
    ) -> AdminAnswer {
        let (before, watchers) = match amended {
            Amended::Done { before, watchers } => (before, watchers),
            Amended::NoRecord => return AdminProblem::NotFound(Some(*operation)).answer(),
            Amended::Refused(conflict) => return AdminProblem::Conflict(conflict).answer(),
        };
        let is_risky = !before.lease_left().is_zero();
        log::warn!(
            "idemgate: admin: operation {} was {} and is {} now, as {} asked{}",
            operation.short(),
            before.standing.word(),
            amendment.verb.participle(),
            request.from,
            if is_risky { ", while its lease lived" } else { "" }
        );
        self.counters.count(match amendment.verb {
            Verb::NotKept { .. } => Count::NotKept,
            Verb::Purge => Count::Purged,
            Verb::Release => Count::Released,
        });
        wake(operation, &watchers);
        AdminAnswer::changed(&ChangeMade { operation: *operation, before, verb: amendment.verb })
    }

    fn unavailable(&self, error: StoreError, may_have_changed: bool) -> AdminAnswer {
        self.counters.count(Count::Failed);
        AdminProblem::StoreUnavailable { error, may_have_changed }.answer()
    }

    fn refuse(&self, request: &OpenRequest, refusal: Refusal, now: Timestamp) {
        self.counters.count(Count::Refused);
        if let Some(unlogged) = self.refusals.note(now) {
            log::warn!(
                "idemgate: admin: a request from {} was refused ({unlogged} more in the last {} s): {refusal}",
                request.from,
                REFUSAL_LOG_PERIOD.as_secs()
            );
        }
        request.answer(&AdminProblem::Refused(refusal).answer());
    }

    /// Leaves a job for the root context, and calls it.
    fn order(&self, request: &Rc<OpenRequest>, query: Query) {
        self.jobs.borrow_mut().queue.push_back(Job { request: Rc::clone(request), query });
        self.call_root();
    }

    /// The same for a walk through the table.
    fn order_walk(&self, request: &Rc<OpenRequest>, sought: Option<OperationPrefix>) {
        self.walks.borrow_mut().order(sought, Rc::clone(request));
        self.call_root();
    }

    /// Has the root context called. Without a mailbox, orders wait for the next tick.
    fn call_root(&self) {
        self.mailbox.borrow_mut().call();
    }
}

/// Tells those who wait for an operation to ask for it again. With a remote store they ask by themselves.
fn wake(operation: &OperationId, watchers: &[Mailbox]) {
    for mailbox in watchers {
        host::enqueue(mailbox.0, operation.as_bytes());
    }
}

impl OpenRequest {
    /// Answers the request, if it still can be and was not yet.
    fn answer(&self, answer: &AdminAnswer) {
        if !self.is_open.take() || host::set_effective_context(self.context_id).is_err() {
            return;
        }
        let mut headers = Headers::from_iter([
            ("content-type", answer.content_type),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ]);
        if let Some(methods) = answer.allow {
            headers.push("allow", methods);
        }
        if let Err(refused) = host::send_local_response(answer.status, answer.details, &headers, &answer.body) {
            log::error!("idemgate: the host refused an answer of the admin ({refused:?})");
        }
    }

    fn is_gone(&self) -> bool {
        !self.is_open.get()
    }
}

/// A request to the admin.
#[derive(Debug)]
pub(super) struct AdminStream {
    context_id: u32,
    admin: Rc<Admin>,
    request: Option<Rc<OpenRequest>>,
    /// What it asks for, if that is in its body.
    route: Option<AdminRoute>,
}

impl AdminStream {
    pub(super) fn new(context_id: u32, admin: Rc<Admin>) -> Self {
        Self { context_id, admin, request: None, route: None }
    }

    /// Does what is asked for, now that all of the body is there.
    fn perform(&mut self, body: &[u8]) {
        let (Some(request), Some(route)) = (&self.request, self.route.take()) else { return };
        self.admin.incomplete.borrow_mut().retain(|other| !Rc::ptr_eq(other, request));
        match route.task(body, &self.admin.config) {
            Ok(task) => self.admin.perform(request, task, host::now()),
            Err(problem) => request.answer(&problem.answer()),
        }
    }

    fn close(&self) {
        if let Some(request) = &self.request {
            request.is_open.set(false);
            self.admin.incomplete.borrow_mut().retain(|other| !Rc::ptr_eq(other, request));
        }
    }
}

impl Context for AdminStream {}

impl HttpContext for AdminStream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let now = host::now();
        let headers = host::headers(MapType::HttpRequestHeaders);
        let (from, to) = (host::property("source\0address"), host::property("destination\0address"));
        let request = Rc::new(OpenRequest {
            context_id: self.context_id,
            from: from
                .as_deref()
                .map_or_else(|| "a Unix socket".into(), |from| String::from_utf8_lossy(from).into_owned()),
            since: now,
            is_open: Cell::new(true),
        });
        self.request = Some(Rc::clone(&request));
        let is_declared = host::property(DECLARATION).is_some_and(|value| value == [1]);
        let origin = Origin { to: to.as_deref(), from: from.as_deref(), is_declared, headers: &headers };
        if let Err(refusal) = origin.check(self.admin.guard) {
            self.admin.refuse(&request, refusal, now);
            return Action::Pause;
        }
        match AdminRoute::of(&headers) {
            Err(problem) => request.answer(&problem.answer()),
            Ok(route) => {
                self.route = Some(route);
                if end_of_stream || !route.takes_body() {
                    self.perform(&[]);
                } else {
                    self.admin.incomplete.borrow_mut().push(request);
                }
            }
        }
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let (Some(request), Some(_)) = (&self.request, self.route) {
            // While the request is held, `size` counts the whole body so far.
            if size > LONGEST_BODY {
                self.route = None;
                request.answer(&AdminProblem::BodyTooLarge.answer());
            } else if end_of_stream {
                self.perform(&host::buffer(BufferType::HttpRequestBody, 0, size));
            }
        }
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        // With trailers, no body callback says that the body has ended.
        self.perform(&host::buffer(BufferType::HttpRequestBody, 0, LONGEST_BODY));
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        // The answer, or one of Envoy's own that was faster.
        self.close();
        Action::Continue
    }

    fn on_log(&mut self) {
        self.close();
    }
}

/// What was refused since it was last logged.
#[derive(Debug, Default)]
struct Refusals {
    logged: Cell<Timestamp>,
    unlogged: Cell<u32>,
}

impl Refusals {
    /// Notes one more; if it is to be logged, how many were not since the last that was.
    fn note(&self, now: Timestamp) -> Option<u32> {
        if !self.logged.get().after(REFUSAL_LOG_PERIOD).has_come(now, REFUSAL_LOG_PERIOD) {
            self.unlogged.set(self.unlogged.get().saturating_add(1));
            return None;
        }
        self.logged.set(now);
        Some(self.unlogged.take())
    }
}

/// The ids of what the admin counts.
#[derive(Debug)]
struct Counters(Vec<u32>);

#[derive(Clone, Copy, Debug)]
enum Count {
    Failed,
    LookedUp,
    NotKept,
    Purged,
    Refused,
    Released,
}

impl Counters {
    /// In the order of [`Count`].
    const NAMES: [&str; 6] = [
        "idemgate.admin.failed",
        "idemgate.admin.looked_up",
        "idemgate.admin.not_kept",
        "idemgate.admin.purged",
        "idemgate.admin.refused",
        "idemgate.admin.released",
    ];

    fn define() -> Result<Self, Refused> {
        Self::NAMES
            .iter()
            .map(|name| host::define_metric(MetricType::Counter, name))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn count(&self, what: Count) {
        if let Some(id) = self.0.get(what as usize) {
            host::increment_metric(*id, 1);
        }
    }
}

/// Where the metadata of a listener declares that filters guard an admin.
const DECLARATION: &str = "xds\0listener_metadata\0filter_metadata\0idemgate\0admin";

/// How long a request waits for its body.
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// The time between two log lines about refused requests.
const REFUSAL_LOG_PERIOD: Duration = Duration::from_secs(10);
