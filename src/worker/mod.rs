//! What one worker does with the exchanges under one configuration: it hands them events, carries out what they ask for,
//! lets them wait for each other, asks the store and calls upstreams for them, and looks after them as time passes.
//!
//! It knows no proxy: what it needs of one is a [`Host`]. Its state is plain data, so that a test may copy a worker, or
//! compare two. In Envoy the host is `crate::envoy`; in `tests/proof/` a simulated network, clock and store are.

mod active;
mod answers;
mod body_watch;
mod drive;
mod host;
mod inquiries;
mod memory;
mod outbox;
mod turns;
mod waiting_room;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

pub use self::{
    active::ActiveExchange,
    answers::CallAnswer,
    drive::{Actions, Passage},
    host::{About, Host, Report, StoreReply},
    inquiries::Errand,
    outbox::Outbox,
    turns::Turns,
};
use self::{body_watch::BodyWatch, drive::Worklist, inquiries::Inquiries, memory::Memory, waiting_room::WaitingRoom};
use crate::{
    config::Policy,
    exchange::{Attributes, DetachedCall, Event, Evidence, Exchange, Outgoing},
    headers::Headers,
    record::{Mailbox, Owner},
    request::OperationId,
    store::{admission, pool::Pool},
    time::{Now, Timestamp},
};

/// How often the store is asked about an execution that another Envoy may run.
pub const POLL: Duration = Duration::from_millis(100);

/// The number of an exchange. Unlike those of streams, these are never used twice in a worker; the lower one goes
/// first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ExchangeId(pub u64);

/// One worker under one configuration.
#[derive(Clone, Debug)]
pub struct Worker {
    /// All exchanges that are not finished.
    exchanges: BTreeMap<ExchangeId, ActiveExchange>,
    /// Whether other Envoys see the same records, so that executions end without a word here.
    is_store_remote: bool,
    waiting_room: WaitingRoom,
    /// How many the gauge of those who wait has.
    shown_waiting: usize,
    /// The detached calls, and when they were ordered.
    calls: Outbox<VecDeque<(ExchangeId, DetachedCall, Timestamp)>, ExchangeId>,
    inquiries: Inquiries,
    /// The persistent connections to a remote store, if it has any.
    pool: Option<Pool>,
    /// Those who are to be answered because of the time.
    overdue: VecDeque<ExchangeId>,
    turns: Turns,
    body_watch: BodyWatch,
    memory: Memory,
    worklist: Worklist,
    root: Root,
}

/// Whether the root context looks after what is left for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Root {
    Idle,
    /// The host was asked to call back, and has not yet.
    IsCalled,
    /// It is at work, and takes turns before it returns.
    IsAtWork,
}

/// What bounds a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WorkerLimits {
    /// How many bytes its exchanges may take.
    pub memory: u64,
    /// How many replies, resumes and calls to clusters it asks of the host at a time.
    pub turns: u32,
    /// How much it asks of a remote store at a time.
    pub questions: admission::AdmissionLimits,
}

impl WorkerLimits {
    /// What Envoy can carry, within `memory` bytes.
    #[must_use]
    pub fn with_memory(memory: u64) -> Self {
        Self { memory, turns: turns::PER_CALL, questions: admission::AdmissionLimits::default() }
    }
}

/// A request whose headers have arrived.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The number of its exchange.
    pub exchange: ExchangeId,
    /// What it falls under.
    pub policy: &'a Arc<Policy>,
    /// The number of its route, for reports.
    pub route: usize,
    /// Its stream.
    pub stream: u32,
    /// All headers.
    pub headers: &'a Headers,
    /// Reads an attribute of the host.
    pub attribute: &'a dyn Attributes,
    /// The token of its execution, should it become one.
    pub owner: Owner,
    /// Where this worker is told of the ends of executions.
    pub mailbox: Option<Mailbox>,
    /// Whether there is no body and there are no trailers.
    pub end_of_stream: bool,
}

impl Worker {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(limits: WorkerLimits, is_store_remote: bool, pool: Option<Pool>) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            is_store_remote,
            waiting_room: WaitingRoom::default(),
            shown_waiting: 0,
            calls: Outbox::default(),
            inquiries: Inquiries::new(limits.questions),
            pool,
            overdue: VecDeque::new(),
            turns: Turns::new(limits.turns),
            body_watch: BodyWatch::default(),
            memory: Memory::new(limits.memory),
            worklist: Worklist::default(),
            root: Root::Idle,
        }
    }

    /// Begins an exchange.
    pub fn open(&mut self, host: &mut impl Host, opening: Opening<'_>, now: &Now) -> Actions {
        let Opening { exchange: id, policy, route, stream, headers, attribute, owner, mailbox, end_of_stream } =
            opening;
        self.exchanges.insert(id, ActiveExchange::new(policy, route, stream));
        let is_store_remote = self.is_store_remote;
        let event = Event::RequestHeaders { headers, attribute, owner, mailbox, is_store_remote, end_of_stream };
        let mut actions = self.drive(host, id, event, now);
        if let Some(active) = self.exchanges.get_mut(&id).filter(|active| active.exchange.awaits_first_body()) {
            if self.body_watch.is_withheld() {
                let withheld = self.drive(host, id, Event::BodyWithheld, now);
                actions.request = withheld.request.or(actions.request);
            } else {
                active.body_wait = Some(self.body_watch.begin(headers, || host.bytes_received()));
            }
        }
        actions
    }

    /// An exchange, unless it is over.
    #[must_use]
    pub fn active(&self, id: ExchangeId) -> Option<&ActiveExchange> {
        self.exchanges.get(&id)
    }

    /// All exchanges that are not over.
    pub fn exchanges(&self) -> impl Iterator<Item = (ExchangeId, &ActiveExchange)> {
        self.exchanges.iter().map(|(id, active)| (*id, active))
    }

    /// All questions to a remote store that are not answered yet; those under way with their tokens.
    pub fn questions(&self) -> impl Iterator<Item = (Option<u32>, &Errand)> {
        self.inquiries.errands()
    }

    /// The reply of the filter's own that passes by in this exchange, if its response is that.
    pub fn outgoing(&mut self, id: ExchangeId) -> Option<&mut Outgoing> {
        self.exchanges.get_mut(&id)?.exchange.outgoing()
    }

    /// Notes that the host hands over the body of this request, whose headers are held.
    pub fn note_body(&mut self, id: ExchangeId) {
        self.body_watch.handed_over();
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.body_wait = None;
        }
    }

    /// The stream of an exchange has ended because the host follows a redirect of the upstream itself: another stream is
    /// to go on with it.
    pub fn redirect(&mut self, id: ExchangeId) {
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.stream = None;
            active.redirected = true;
        }
    }

    /// Goes on with an exchange in this stream.
    pub fn move_to_stream(&mut self, id: ExchangeId, stream: u32) {
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.move_to_stream(stream);
        }
    }

    /// The stream of an exchange is over. A detached call goes on; its answer, or a tick, sees the exchange to its end.
    pub fn close(&mut self, host: &mut impl Host, id: ExchangeId, evidence: &Evidence, now: &Now) {
        if self.close_answered(id) {
            return;
        }
        self.drive(host, id, Event::Gone { evidence }, now);
        if let Some(active) = self.exchanges.get_mut(&id) {
            active.stream = None;
        }
    }

    /// The stream of an exchange is over that was answered by the filter itself: nothing more can come of it. `false` if it
    /// was not.
    pub fn close_answered(&mut self, id: ExchangeId) -> bool {
        let is_answered = self.exchange(id).is_some_and(Exchange::has_replied);
        if is_answered {
            self.let_go(id);
        }
        is_answered
    }

    /// Takes in that executions of these operations may have ended, and goes on with what streams have left.
    pub fn on_messages(&mut self, host: &mut impl Host, ended: &[OperationId], now: Timestamp) {
        self.turns.begin();
        self.work(host, now, |worker, _| ended.iter().for_each(|operation| worker.waiting_room.call(operation)));
    }

    /// The same for whatever is waited for: messages may have been lost.
    pub fn call_all(&mut self) {
        self.waiting_room.call_all();
    }

    /// Goes on with what waits for its turn; and with everything that time alone brings about, if a period `is_over`.
    pub fn on_tick(&mut self, host: &mut impl Host, is_over: bool, now: Timestamp) {
        self.turns.begin();
        self.work(host, now, |worker, host| {
            if is_over {
                worker.look_after_all(host, now);
            }
        });
    }

    /// Whether the end of a period at `now` would lead to something.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.exchanges.values().any(|active| active.is_due(now))
            || self.waiting_room.due(now).next().is_some()
            || self.inquiries.are_due(now)
            || self.pool.as_ref().is_some_and(|pool| pool.is_due(now))
    }

    /// Whether no call is ordered or under way.
    #[must_use]
    pub fn has_no_calls(&self) -> bool {
        self.calls.is_idle() && self.inquiries.are_over()
    }

    /// Closes the connections to the store. To be called when no call is ordered or under way.
    pub fn close_connections(&mut self, host: &mut impl Host) {
        if let Some(pool) = &mut self.pool {
            pool.close(host);
        }
    }

    /// Whether requests wait for executions.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.waiting_room.len() > 0
    }

    /// How many bytes more its exchanges take than when this was last asked.
    pub fn show_memory(&mut self) -> i64 {
        self.memory.show()
    }

    /// How many bytes it said last that they take.
    #[must_use]
    pub fn shown_memory(&self) -> u64 {
        self.memory.shown()
    }

    fn exchange(&self, id: ExchangeId) -> Option<&Exchange> {
        self.exchanges.get(&id).map(|active| &active.exchange)
    }

    /// Does a piece of work, and then all that it and the streams have left to do.
    fn work<H: Host>(&mut self, host: &mut H, now: Timestamp, work: impl FnOnce(&mut Self, &mut H)) {
        self.root = Root::IsAtWork;
        work(self, host);
        self.take_turns(host, now);
        self.root = Root::Idle;
        self.show_waiting(host, &now.into());
    }

    /// Has the root context go on with what was left for it.
    fn leave_to_root(&mut self, host: &mut impl Host) {
        if self.root == Root::Idle {
            self.root = Root::IsCalled;
            host.call_back();
        }
    }

    fn look_after_all(&mut self, host: &mut impl Host, now: Timestamp) {
        let due: Vec<_> = self.exchanges.iter().filter(|(_, active)| active.is_due(now)).map(|(id, _)| *id).collect();
        let mut overdue = Vec::new();
        for id in due {
            let awaits_turn = self.exchange(id).is_some_and(Exchange::awaits_turn);
            if awaits_turn || self.body_is_withheld(host, id, now) {
                overdue.push(id);
            } else {
                self.drive_from_root(host, id, Event::Tick, now);
            }
        }
        self.note_overdue(&overdue);
        // Dead owners wake nobody, nor do those of other Envoys.
        for operation in self.waiting_room.due(now).collect::<Vec<_>>() {
            if self.is_store_remote {
                self.waiting_room.postpone(&operation, now.after(POLL));
            }
            self.waiting_room.call(&operation);
        }
        if let Some(pool) = &mut self.pool {
            pool.on_tick(host, now);
        }
        self.inquiries.tick(now);
    }

    /// Lets these have their turns, in place of those who were to have them: each of them is due as before, or was
    /// answered. Of each operation one after the other, so that a crowd of one does not keep the others waiting.
    fn note_overdue(&mut self, overdue: &[ExchangeId]) {
        let mut ranks = BTreeMap::<_, usize>::new();
        let mut ranked: Vec<_> = overdue
            .iter()
            .map(|id| {
                let operation = self.exchanges.get(id).and_then(|active| active.operation);
                let rank = ranks.entry(operation).or_default();
                *rank += 1;
                (*rank, *id)
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        self.overdue = ranked.into_iter().map(|(_, id)| id).collect();
    }

    /// Whether the body that an exchange waits for will never be handed over.
    fn body_is_withheld(&mut self, host: &mut impl Host, id: ExchangeId, now: Timestamp) -> bool {
        let Some(active) = self.exchanges.get_mut(&id).filter(|active| active.exchange.awaits_first_body()) else {
            return false;
        };
        if !active.enter_stream(host) {
            return false;
        }
        let Some(wait) = &mut active.body_wait else { return false };
        self.body_watch.is_hopeless(wait, now, || host.bytes_received())
    }

    /// Shows how many requests wait.
    fn show_waiting(&mut self, host: &mut impl Host, now: &Now) {
        let waiting = self.waiting_room.len();
        let change = waiting as i64 - std::mem::replace(&mut self.shown_waiting, waiting) as i64;
        if change != 0 {
            host.report(Report::Waiting(change), now.get());
        }
    }
}
