//! Streams through one worker, told as scenarios.
//!
//! A [`World`] is a policy, a clock and a store. A request that is [sent](Request::send) becomes a
//! [`Stream`], which carries out effects the way the host layer does, keeps all of them for the test
//! to look at, and fails the test if they contradict each other.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{Policy, SharedDataConfig},
    exchange::{
        Attributes, CallFailure, Counter, DetachedCall, Effect, Event, Evidence, Exchange, Problem, Reply, Status,
        needs_mailbox,
    },
    headers::Headers,
    record::{Mailbox, Owner},
    store::{
        Answer, Call, Claimed, Ending, StoreError,
        shared_data::{Cas, SharedDataStore, SharedMemory, Written},
    },
    time::Timestamp,
};

#[derive(Debug)]
pub(super) struct World {
    pub(super) policy: Arc<Policy>,
    store: Store,
    clock: Cell<Timestamp>,
    owners: Cell<u128>,
}

#[derive(Debug)]
enum Store {
    /// The real one, over memory of this process.
    Table(Box<SharedDataStore<Memory>>),
    /// Answers as told, one call after the other, and then not at all.
    Told(RefCell<VecDeque<Answer>>),
}

impl World {
    /// Defaults and a real store.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Defaults changed by `change`, and a real store.
    pub(super) fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let store = SharedDataStore::open(Memory::default(), SharedDataConfig::default(), 7).unwrap();
        Self::build(change, Store::Table(store.into()))
    }

    /// Defaults changed by `change`, and a store that gives `answers`.
    pub(super) fn answering(change: impl FnOnce(&mut Policy), answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::build(change, Store::Told(RefCell::new(answers.into_iter().collect())))
    }

    /// A store that gives no answer before the test does, with [`Stream::answer`].
    pub(super) fn silent() -> Self {
        Self::answering(|_| {}, [])
    }

    /// A store that grants the claim, and then leaves every call to the test.
    pub(super) fn granting() -> Self {
        Self::answering(|_| {}, [Answer::Claimed(Claimed::Granted)])
    }

    fn build(change: impl FnOnce(&mut Policy), store: Store) -> Self {
        let mut policy = Policy::default();
        change(&mut policy);
        Self {
            policy: Arc::new(policy),
            store,
            clock: Cell::new(Timestamp::from_millis(1_700_000_000_000)),
            owners: Cell::new(0),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.get()
    }

    pub(super) fn pass(&self, time: Duration) {
        self.clock.set(self.now().after(time));
    }

    pub(super) fn request(&self, method: &str, path: &str) -> Request<'_> {
        let headers = Headers::from_iter([
            (":method", method),
            (":authority", "api.example"),
            (":path", path),
            ("authorization", "Bearer ann"),
        ]);
        let mailbox = needs_mailbox(&self.policy).then_some(MAILBOX);
        Request {
            world: self,
            headers,
            subject: Subject("ann"),
            chunks: Vec::new(),
            trailers: false,
            mailbox,
            is_store_remote: false,
        }
    }

    /// The request that most tests send.
    pub(super) fn order(&self) -> Request<'_> {
        self.request("POST", "/orders").key("k-1").body("{\"item\":1}")
    }

    /// That request, answered with 201 by an upstream that saw it.
    pub(super) fn ordered(&self) -> Stream<'_> {
        self.order().send().answered(&Response::created())
    }

    fn answer(&self, call: &Call) -> Option<Answer> {
        match &self.store {
            Store::Table(table) => Some(table.call(call.clone(), self.now())),
            Store::Told(answers) => answers.borrow_mut().pop_front(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Request<'w> {
    world: &'w World,
    headers: Headers,
    subject: Subject,
    chunks: Vec<Vec<u8>>,
    trailers: bool,
    mailbox: Option<Mailbox>,
    is_store_remote: bool,
}

/// That of the worker.
pub(super) const MAILBOX: Mailbox = Mailbox(7);

impl<'w> Request<'w> {
    /// With a store whose answers take their time.
    pub(super) fn with_remote_store(self) -> Self {
        Self { is_store_remote: true, ..self }
    }

    /// In a worker that cannot be reached from elsewhere.
    pub(super) fn without_mailbox(self) -> Self {
        Self { mailbox: None, ..self }
    }

    pub(super) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(super) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(name, value);
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers = self.headers.iter().filter(|(field, _)| *field != name.as_bytes()).collect();
        self
    }

    pub(super) fn subject(mut self, subject: &'static str) -> Self {
        self.subject = Subject(subject);
        self
    }

    /// The whole body, instead of what was set before.
    pub(super) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunks = vec![body.as_ref().to_vec()];
        self
    }

    pub(super) fn chunks(mut self, chunks: impl IntoIterator<Item = &'static str>) -> Self {
        self.chunks = chunks.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn no_body(mut self) -> Self {
        self.chunks.clear();
        self
    }

    pub(super) fn with_trailers(mut self) -> Self {
        self.trailers = true;
        self
    }

    /// Its headers have arrived, the rest has not.
    pub(super) fn begin(&self) -> Stream<'w> {
        self.begin_in(u64::MAX)
    }

    /// The same in a worker that has so much memory left.
    pub(super) fn begin_in(&self, room: u64) -> Stream<'w> {
        let owner = self.world.owners.get() + 1;
        self.world.owners.set(owner);
        let mut stream = Stream::idle(self.world);
        stream.exchange.set_room(room);
        stream.on(Event::RequestHeaders {
            headers: &self.headers,
            attribute: &self.subject,
            owner: Owner::new(owner),
            mailbox: self.mailbox,
            is_store_remote: self.is_store_remote,
            end_of_stream: self.chunks.is_empty() && !self.trailers,
        });
        stream
    }

    /// It has arrived as a whole, unless it was answered before its end.
    pub(super) fn send(&self) -> Stream<'w> {
        let mut stream = self.begin();
        for (index, chunk) in self.chunks.iter().enumerate() {
            // The host layer hands over no more than is waited for.
            if stream.exchange.awaits_body() {
                let end_of_stream = index + 1 == self.chunks.len() && !self.trailers;
                stream.on(Event::RequestBody { chunk, end_of_stream });
            }
        }
        if self.trailers {
            stream.on(Event::RequestTrailers);
        }
        stream
    }
}

#[derive(Clone, Debug)]
pub(super) struct Response {
    status: u16,
    pub(super) headers: Headers,
    chunks: Vec<Vec<u8>>,
    evidence: Evidence,
    end: End,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    WithLastChunk,
    Trailers,
    /// It never comes.
    Cut,
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Headers::from_iter([(":status", status.to_string())]),
            chunks: Vec::new(),
            evidence: via_upstream(),
            end: End::WithLastChunk,
        }
    }

    /// An answer to a detached call, as the router hands it over.
    pub(super) fn of_call(status: u16) -> Self {
        Self::new(status).header("x-envoy-upstream-service-time", "5")
    }

    pub(super) fn created() -> Self {
        Self::new(201).header("content-type", "application/json").body("{\"id\":1}")
    }

    pub(super) fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(name, value);
        self
    }

    pub(super) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunks = vec![body.as_ref().to_vec()];
        self
    }

    pub(super) fn chunks<C: Into<Vec<u8>>>(mut self, chunks: impl IntoIterator<Item = C>) -> Self {
        self.chunks = chunks.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    pub(super) fn with_trailers(mut self) -> Self {
        self.end = End::Trailers;
        self
    }

    pub(super) fn cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }
}

/// The answer of the upstream's only attempt.
pub(super) fn via_upstream() -> Evidence {
    evidence("via_upstream", 1, true)
}

pub(super) fn evidence(details: &str, attempts: u64, connected: bool) -> Evidence {
    Evidence { details: Some(details.into()), attempts: Some(attempts), connected, redirected: false }
}

#[derive(Debug)]
pub(super) struct Stream<'w> {
    pub(super) world: &'w World,
    pub(super) exchange: Exchange,
    /// All effects, or those since they were last taken.
    pub(super) effects: Vec<Effect>,
    history: Vec<Effect>,
    /// Whether the host layer has it among those that wait.
    pub(super) is_waiting: bool,
    wakes: usize,
}

impl<'w> Stream<'w> {
    /// A stream whose request has not arrived.
    pub(super) fn idle(world: &'w World) -> Self {
        Self {
            world,
            exchange: Exchange::new(world.policy.clone()),
            effects: Vec::new(),
            history: Vec::new(),
            is_waiting: false,
            wakes: 0,
        }
    }
}

impl Stream<'_> {
    /// An event, and what follows from it.
    pub(super) fn on(&mut self, event: Event<'_>) {
        let now = self.world.now();
        let mut pending = VecDeque::new();
        // A request that is woken, or for which there was no place, does not wait.
        if matches!(event, Event::Woken | Event::NoRoomToWait(_)) {
            self.is_waiting = false;
        }
        self.wakes += usize::from(matches!(event, Event::Woken));
        let due = self.exchange.is_due(now);
        let is_tick = matches!(event, Event::Tick);
        let handle = |exchange: &mut Exchange, event: Event<'_>, pending: &mut VecDeque<Effect>| {
            let mut effects = Vec::new();
            exchange.handle(event, &now.into(), &mut effects);
            pending.extend(effects);
        };
        handle(&mut self.exchange, event, &mut pending);
        assert!(!is_tick || due != pending.is_empty(), "a tick that was due ({due}) led to {pending:?}");
        while let Some(effect) = pending.pop_front() {
            match effect {
                Effect::Wait { .. } => {
                    assert!(!std::mem::replace(&mut self.is_waiting, true), "waits twice");
                }
                Effect::StopWaiting(_) => self.is_waiting = false,
                _ => {}
            }
            if let Effect::Call(call) = &effect
                && let Some(answer) = self.world.answer(call)
            {
                handle(&mut self.exchange, Event::Answered(answer), &mut pending);
            }
            self.history.push(effect.clone());
            self.effects.push(effect);
        }
        self.check();
    }

    /// The store's answer, when the test is the store.
    pub(super) fn answer(mut self, answer: Answer) -> Self {
        self.on(Event::Answered(answer));
        self
    }

    /// An execution that it waits for may have ended.
    pub(super) fn woken(mut self) -> Self {
        self.on(Event::Woken);
        self
    }

    /// The detached call is answered with `response`, by the upstream if it has been [there](Response::of_call).
    pub(super) fn call_answered(mut self, response: &Response) -> Self {
        let body = response.chunks.concat();
        self.on(Event::CallAnswered { status: response.status, headers: &response.headers, body });
        self
    }

    pub(super) fn call_failed(mut self, failure: CallFailure) -> Self {
        self.on(Event::CallFailed(failure));
        self
    }

    pub(super) fn answered(mut self, response: &Response) -> Self {
        let headers_only = response.chunks.is_empty() && response.end == End::WithLastChunk;
        self.on(Event::ResponseHeaders {
            status: response.status,
            headers: &response.headers,
            evidence: &response.evidence,
            end_of_stream: headers_only,
        });
        for (index, chunk) in response.chunks.iter().enumerate() {
            let end_of_stream = index + 1 == response.chunks.len() && response.end == End::WithLastChunk;
            self.on(Event::ResponseBody { chunk, end_of_stream });
        }
        if response.end == End::Trailers {
            self.on(Event::ResponseTrailers);
        }
        self
    }

    /// Its own reply passes by, as local replies do on Envoy, and the stream ends.
    pub(super) fn own_reply_passes(mut self) -> Self {
        let evidence = evidence(self.reply().details, 0, false);
        assert!(self.exchange.outgoing().is_some(), "the host layer has nothing to hold the reply against");
        self.gone(&evidence)
    }

    pub(super) fn tick(mut self) -> Self {
        self.on(Event::Tick);
        self
    }

    pub(super) fn gone(mut self, evidence: &Evidence) -> Self {
        self.on(Event::Gone { evidence });
        self
    }

    /// The effects so far, which are then forgotten.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn was_forwarded(&self) -> bool {
        self.effects.contains(&Effect::Forward)
    }

    /// Whether it was let through under a claim, and nothing else.
    pub(super) fn was_executed(&self) -> bool {
        self.was_forwarded() && self.counted(Counter::RequestsExecuted)
    }

    /// The call that executes the request, if it was ordered.
    pub(super) fn job(&self) -> Option<&DetachedCall> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Execute(job) => Some(job),
            _ => None,
        })
    }

    /// How long it waited, each time that was recorded.
    pub(super) fn waits(&self) -> Vec<Duration> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Waited(time) => Some(*time),
                _ => None,
            })
            .collect()
    }

    pub(super) fn reply(&self) -> &Reply {
        self.find_reply().expect("the exchange replies")
    }

    pub(super) fn find_reply(&self) -> Option<&Reply> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Reply(reply) => Some(&**reply),
            _ => None,
        })
    }

    /// Passes if this is what the exchange replies.
    #[track_caller]
    pub(super) fn assert_refused(&self, problem: &Problem) {
        assert_eq!(*self.reply(), problem.reply(&self.world.policy));
        assert!(self.counted(problem.counter()), "counted: {:?}", self.counters());
        assert_eq!(self.told(), Some(problem.status()));
        assert!(!self.was_forwarded());
    }

    pub(super) fn counters(&self) -> Vec<Counter> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Count(counter) => Some(*counter),
                _ => None,
            })
            .collect()
    }

    pub(super) fn counted(&self, counter: Counter) -> bool {
        self.counters().iter().filter(|other| **other == counter).count() == 1
    }

    /// What access logs say in the end.
    pub(super) fn told(&self) -> Option<Status> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Tell(status) => Some(*status),
            _ => None,
        })
    }

    /// What the client reads in `idempotency-status` on the upstream's response.
    pub(super) fn status_header(&self) -> Option<&'static str> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::AddResponseHeader("idempotency-status", value) => Some(*value),
            _ => None,
        })
    }

    pub(super) fn removed_headers(&self) -> Vec<&str> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::RemoveResponseHeader(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Call(call) => Some(call),
            _ => None,
        })
    }

    pub(super) fn renewals(&self) -> usize {
        self.calls().filter(|call| matches!(call, Call::Renew { .. })).count()
    }

    pub(super) fn endings(&self) -> Vec<&Ending> {
        self.calls()
            .filter_map(|call| match call {
                Call::Settle { ending, .. } => Some(ending),
                _ => None,
            })
            .collect()
    }

    /// How the execution ended.
    #[track_caller]
    pub(super) fn ending(&self) -> &Ending {
        match self.endings().as_slice() {
            [ending] => ending,
            endings => panic!("one ending expected, found {endings:?}"),
        }
    }

    /// What may never be, whatever happens.
    fn check(&self) {
        let all = &self.history;
        let count = |wanted: fn(&Effect) -> bool| all.iter().filter(|effect| wanted(effect)).count();
        let replies = count(|effect| matches!(effect, Effect::Reply(_)));
        let forwards = count(|effect| *effect == Effect::Forward);
        let executions = count(|effect| matches!(effect, Effect::Execute(_)));
        let waits = count(|effect| matches!(effect, Effect::Wait { .. }));
        let claims = count(|effect| matches!(effect, Effect::Call(Call::Claim(_))));
        let endings = count(|effect| matches!(effect, Effect::Call(Call::Settle { .. })));
        assert!(replies + forwards <= 1, "answered and forwarded, or one of them twice: {all:?}");
        assert!(executions + forwards <= 1, "executed twice, or in two ways: {all:?}");
        assert!(claims <= 1 + self.wakes.min(waits), "claimed more than once in a turn: {all:?}");
        assert!(endings <= claims.min(1), "settled without a claim, or twice: {all:?}");
        assert!(!self.is_waiting || replies + forwards + executions == 0, "in the waiting room for ever: {all:?}");
        assert!(!self.is_waiting || !self.exchange.is_finished(), "in the waiting room for ever: {all:?}");
    }
}

/// A host whose attributes are `metadata.sub` and the route's cluster, which is `orders`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject(pub(super) &'static str);

impl Attributes for Subject {
    fn get(&self, path: &[String]) -> Option<Vec<u8>> {
        match path {
            [first, second] if (first.as_str(), second.as_str()) == ("metadata", "sub") => Some(self.0.into()),
            [first, second] if (first.as_str(), second.as_str()) == ("xds", "cluster_name") => Some("orders".into()),
            _ => None,
        }
    }
}

/// Shared data by the rules of [`SharedMemory`].
#[derive(Debug, Default)]
struct Memory {
    values: RefCell<BTreeMap<String, (Vec<u8>, Cas)>>,
    last_cas: Cell<u32>,
}

impl SharedMemory for Memory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        Ok(self.values.borrow().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        let mut values = self.values.borrow_mut();
        if values.get(key).is_some_and(|(_, current)| cas.0 != 0 && *current != cas) {
            return Ok(Written::Lost);
        }
        self.last_cas.set(self.last_cas.get() + 1);
        values.insert(key.to_owned(), (value.to_vec(), Cas(self.last_cas.get())));
        Ok(Written::Done)
    }
}
