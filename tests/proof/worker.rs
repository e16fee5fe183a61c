//! One worker of an Envoy: the real one (`src/worker/`), on a host that is in memory.
//!
//! The host is Envoy as far as a worker sees it: streams that can be answered or are over, calls to clusters that are made
//! and answered later, shared data, and a mailbox. A reply passes by when the callback is over, and then its stream
//! is. What is left out: headers and buffers of the host, redirects, and bodies in pieces.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use idemgate::{
    exchange::{Attributes, Counter, DetachedCall, Event, Evidence, Reply, Status, needs_mailbox},
    record::{Mailbox, Owner},
    request::{Fingerprint, OperationId},
    store::{
        Call, Ending, StoreError,
        dialect::Heard,
        dynamodb,
        pool::Streams,
        remote::RemoteStore,
        shared_data::{Cas, Recent, SharedDataStore},
    },
    time::Timestamp,
    worker::{self, Actions, CallAnswer, ExchangeId, Host, Opening, Passage, Report, StoreReply, WorkerLimits},
};

use super::{
    history::AttemptId,
    law::{Deed, DeedKind},
    memory::{BUCKET, Session},
    postgres,
    redis::Command,
    scenario::{Conduct, Mutation, Place, Scenario, StoreKind, millis},
    server,
    service::Response,
};

/// The worker's VM.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    worker: worker::Worker,
    streams: BTreeMap<AttemptId, Stream>,
    /// Who has a detached call under way.
    calls: Vec<AttemptId>,
    /// The questions that are under way.
    asked: Vec<QuestionId>,
    /// How many questions were asked for each exchange.
    questions: BTreeMap<AttemptId, u16>,
    /// How many streams to Redis were opened in its seat.
    opened: u32,
    /// What its store remembers of shared data.
    recent: Recent,
    /// The worker's state, by what it showed of itself when the last callback was over.
    digest: u64,
}

/// Which attempt of which request asks Redis.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct QuestionId {
    pub(crate) attempt: AttemptId,
    pub(crate) number: u16,
}

impl QuestionId {
    /// What is sent first on a stream.
    fn greeting(stream: u32) -> Self {
        Self { attempt: usize::MAX, number: u16::try_from(stream).unwrap() }
    }

    /// What the worker knows the question by.
    fn token(self) -> u32 {
        u32::try_from(self.attempt).unwrap() << 16 | u32::from(self.number)
    }
}

/// A stream of a client that is not over.
#[derive(Clone, Debug, Default, Hash)]
struct Stream {
    /// The filter has answered by itself, and that passes by.
    is_answered: bool,
    /// It goes on without the filter's protection.
    is_bypassed: bool,
    /// All of the response has come.
    is_at_its_end: bool,
    is_held: bool,
}

/// Why the host calls the worker.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Occasion {
    /// A request, all of it.
    Request(AttemptId),
    /// The service, or Envoy in its place, answers: the headers.
    Response(AttemptId, Conduct),
    /// The rest of the answer.
    ResponseEnd(AttemptId, Conduct),
    /// The answer to a detached call.
    CallEnded(AttemptId, Conduct),
    /// The stream is over before its time; whether the request was passed on, and whether an answer had begun.
    Gone { attempt: AttemptId, was_sent: bool, was_answered: bool },
    /// The worker is told that an operation has ended.
    Woken(OperationId),
    /// What became of a question to Redis.
    Replied(QuestionId, Said),
    /// Bytes have come on a stream to Redis.
    Received(u32, Arc<[u8]>),
    /// A stream to Redis has ended, and what Envoy says of it.
    StreamEnded(u32, &'static str),
    /// Time has passed.
    Tick,
    /// Time has passed, and the table may be swept.
    Sweep,
}

/// What the worker hears of Redis.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Said {
    Reply(server::Reply),
    /// No connection.
    Refused,
    /// Nothing.
    Nothing,
}

/// What a callback leads to outside of the worker.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// The store is asked for the right to run the operation.
    Claims(AttemptId),
    /// The request goes on to the service; under a claim, or unprotected.
    LetThrough {
        attempt: AttemptId,
        protected: bool,
    },
    /// The filter answers by itself.
    Replied(AttemptId, Reply),
    /// All of the response has passed by.
    Passed(AttemptId),
    Asks {
        question: QuestionId,
        bytes: Arc<[u8]>,
        timeout: u64,
    },
    /// The same over a stream; a greeting is no question.
    Sends {
        stream: u32,
        question: QuestionId,
        bytes: Arc<[u8]>,
    },
    Closes(u32),
    Wakes(Mailbox, OperationId),
    Counts(AttemptId, Counter),
    StoreFailed(StoreError),
}

impl Worker {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let limits =
            WorkerLimits { turns: scenario.turns, questions: scenario.limits, ..WorkerLimits::with_memory(u64::MAX) };
        let pool = scenario.remote_store().pool(0);
        Self {
            worker: worker::Worker::new(limits, scenario.is_remote(), pool),
            streams: BTreeMap::new(),
            calls: Vec::new(),
            asked: Vec::new(),
            questions: BTreeMap::new(),
            opened: 0,
            recent: Recent::default(),
            digest: 0,
        }
    }

    /// The one that comes after it in its seat. No stream has the number of another.
    pub(crate) fn successor(&self, scenario: &Scenario) -> Self {
        Self { opened: self.opened, ..Self::new(scenario) }
    }

    /// Whether a tick would do something.
    pub(crate) fn is_due(&self, scenario: &Scenario, now: Timestamp) -> bool {
        let hurries = scenario.mutation != Some(Mutation::RestForgotten);
        self.worker.is_due(now) || hurries && self.worker.has_turns_to_take()
    }

    /// Whether nothing is left that could still lead to something.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.worker.exchanges().next().is_none() && self.worker.has_no_calls()
    }

    /// Runs a callback as far as the session goes.
    pub(crate) fn call(
        &mut self,
        scenario: &Scenario,
        remote: &dyn RemoteStore,
        place: Place,
        occasion: &Occasion,
        now: Timestamp,
        session: &Session<'_>,
    ) -> Vec<Output> {
        let store = match scenario.store {
            StoreKind::SharedData(mut limits) => {
                if scenario.mutation == Some(Mutation::NoFloor) {
                    limits.keep_at_least = Duration::ZERO;
                }
                let store = SharedDataStore::open(session, limits, 0).expect("a table that is there");
                let recent = self.recent.clone();
                let recent = match session.bucket_version() {
                    Some(version) if scenario.mutation == Some(Mutation::StaleReplay) => recent.as_of(version),
                    _ => recent,
                };
                Store::SharedData(Box::new(store.remembering(recent)))
            }
            StoreKind::Remote { .. } => Store::Remote(remote),
        };
        let mut envoy = Envoy {
            streams: &mut self.streams,
            calls: &mut self.calls,
            asked: &mut self.asked,
            questions: &mut self.questions,
            opened: &mut self.opened,
            scenario,
            session,
            store: &store,
            at_work_for: None,
            is_called: false,
            outputs: Vec::new(),
        };
        let mailbox = needs_mailbox(&scenario.policy).then_some(mailbox_of(place));
        let mut callback = Callback { worker: &mut self.worker, envoy: &mut envoy, mailbox, now };
        callback.run(occasion);
        callback.end_streams();
        while std::mem::take(&mut callback.envoy.is_called) {
            callback.envoy.at_work_for = None;
            callback.worker.on_messages(callback.envoy, &[], now);
            callback.end_streams();
        }
        let outputs = envoy.outputs;
        if let Store::SharedData(store) = store {
            self.recent = store.into_recent();
        }
        outputs
    }

    /// What its store remembers of shared data, with its version.
    pub(crate) fn remembers(&self) -> Option<(Cas, impl Hash)> {
        self.recent.held()
    }

    /// Ends a callback that ran to its end.
    pub(crate) fn end_callback(&mut self, scenario: &Scenario) {
        let worker = &self.worker;
        if scenario.tells_states_apart {
            let mut hasher = DefaultHasher::new();
            // As one text: it is written in pieces of a few letters, and each would cost the hasher as much as a word.
            hasher.write(format!("{worker:?}").as_bytes());
            worker.inquiries().for_each(|(_, pending)| pending.inquiry.hash(&mut hasher));
            self.digest = hasher.finish();
        }
    }
}

/// The mailbox of a worker; those of one Envoy are no other's.
pub(crate) fn mailbox_of(place: Place) -> Mailbox {
    Mailbox(u32::from(place.worker) + 1)
}

/// The exchange of an attempt: they have the same numbers.
fn exchange_of(attempt: AttemptId) -> ExchangeId {
    ExchangeId(attempt as u64)
}

fn attempt_of(ExchangeId(exchange): ExchangeId) -> AttemptId {
    exchange as AttemptId
}

impl Hash for Worker {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.streams, &self.calls, &self.asked, &self.questions, self.opened, self.digest).hash(hasher);
    }
}

enum Store<'a> {
    SharedData(Box<SharedDataStore<&'a Session<'a>>>),
    Remote(&'a dyn RemoteStore),
}

/// The host, in one callback.
struct Envoy<'a> {
    streams: &'a mut BTreeMap<AttemptId, Stream>,
    calls: &'a mut Vec<AttemptId>,
    asked: &'a mut Vec<QuestionId>,
    questions: &'a mut BTreeMap<AttemptId, u16>,
    opened: &'a mut u32,
    scenario: &'a Scenario,
    session: &'a Session<'a>,
    store: &'a Store<'a>,
    /// The stream that is in effect.
    at_work_for: Option<AttemptId>,
    /// The worker has put something into its own mailbox.
    is_called: bool,
    outputs: Vec<Output>,
}

impl Envoy<'_> {
    fn stream(&mut self) -> (AttemptId, &mut Stream) {
        let attempt = self.at_work_for.expect("a stream is in effect");
        (attempt, self.streams.get_mut(&attempt).expect("the stream is not over"))
    }

    fn let_through(&mut self, attempt: AttemptId, protected: bool) {
        self.outputs.push(Output::LetThrough { attempt, protected });
    }

    /// The next question of an attempt.
    fn question(&mut self, attempt: AttemptId) -> QuestionId {
        let number = self.questions.entry(attempt).or_default();
        *number += 1;
        QuestionId { attempt, number: *number }
    }

    /// Does with the messages of the stream in effect what the worker says.
    fn take(&mut self, actions: Actions) {
        if actions.request == Some(Passage::Continues) {
            self.resume_request();
        }
        if let Some(passage) = actions.response {
            self.stream().1.is_held = passage == Passage::Held;
        }
    }

    /// The token of an answer; a mutation hands it to the wrong exchange, if another one waits for one.
    fn token_of(&self, own: u32, others: impl Iterator<Item = u32>) -> u32 {
        match self.scenario.mutation {
            Some(Mutation::WrongExchange) => others.into_iter().find(|other| *other != own).unwrap_or(own),
            _ => own,
        }
    }
}

impl Streams for Envoy<'_> {
    fn open_stream(&mut self) -> Option<u32> {
        *self.opened += 1;
        Some(*self.opened)
    }

    fn send(&mut self, stream: u32, bytes: &[u8]) -> bool {
        let is_greeting = bytes == b"*1\r\n$4\r\nPING\r\n" || postgres::is_startup(bytes);
        let question = match is_greeting {
            true => QuestionId::greeting(stream),
            false => self.question(Scenario::attempt_of(Command::read(bytes).owner)),
        };
        self.outputs.push(Output::Sends { stream, question, bytes: bytes.into() });
        true
    }

    fn close_stream(&mut self, stream: u32) {
        self.outputs.push(Output::Closes(stream));
    }
}

impl Host for Envoy<'_> {
    fn enter_stream(&mut self, stream: u32) -> bool {
        let attempt = stream as usize;
        let is_there = self.streams.contains_key(&attempt);
        if is_there {
            self.at_work_for = Some(attempt);
        }
        is_there
    }

    fn reply(&mut self, reply: &Reply) {
        let (attempt, stream) = self.stream();
        stream.is_answered = true;
        self.outputs.push(Output::Replied(attempt, reply.clone()));
    }

    fn resume_request(&mut self) {
        let (attempt, stream) = self.stream();
        let is_protected = !stream.is_bypassed;
        self.let_through(attempt, is_protected);
    }

    fn resume_response(&mut self) {
        self.stream().1.is_held = false;
    }

    fn remove_request_header(&mut self, _: &str) {}

    fn remove_response_header(&mut self, _: &str) {}

    fn add_response_header(&mut self, _: &str, _: &str) {}

    fn bytes_received(&mut self) -> u64 {
        0
    }

    fn log_status(&mut self, _: Status, _: Option<OperationId>, _: bool) {}

    fn ask_store(&mut self, mut call: Call, _: bool, now: Timestamp) -> StoreReply {
        if let Call::Claim(claim) = &call {
            self.outputs.push(Output::Claims(Scenario::attempt_of(claim.owner.to_bytes())));
        }
        if self.scenario.mutation == Some(Mutation::NoFingerprint) {
            blind(&mut call);
        }
        match self.store {
            Store::SharedData(store) => {
                let deed = deed_of(&call, now);
                self.session.act(Some(deed));
                if self.scenario.mutation == Some(Mutation::NoFencing)
                    || self.scenario.mutation == Some(Mutation::ReleaseByAnyone) && deed.kind == DeedKind::Release
                {
                    impersonate(&mut call, self.session);
                }
                let answer = store.call(call, now);
                self.session.act(None);
                StoreReply::Answered(answer)
            }
            Store::Remote(store) => store.inquire(&call, now).map_or_else(StoreReply::Answered, StoreReply::Asks),
        }
    }

    fn call_store(&mut self, exchange: ExchangeId, question: &[u8], timeout: Duration) -> Option<u32> {
        let id = self.question(attempt_of(exchange));
        self.asked.push(id);
        self.outputs.push(Output::Asks { question: id, bytes: question.into(), timeout: millis(timeout) });
        Some(id.token())
    }

    fn call_upstream(&mut self, exchange: ExchangeId, _: &DetachedCall, _: Duration) -> Option<u32> {
        let attempt = attempt_of(exchange);
        self.calls.push(attempt);
        self.let_through(attempt, true);
        u32::try_from(attempt).ok()
    }

    fn wake(&mut self, worker: Mailbox, operation: &OperationId) {
        if self.scenario.mutation != Some(Mutation::NeverWoken) {
            self.outputs.push(Output::Wakes(worker, *operation));
        }
    }

    fn call_back(&mut self) {
        self.is_called = true;
    }

    fn micros(&mut self) -> u64 {
        0
    }

    fn report(&mut self, report: Report<'_>, _: Timestamp) {
        match report {
            Report::Counted(counter, subject) => {
                let attempt = attempt_of(subject.exchange);
                if let (Counter::RequestsBypassed, Some(stream)) = (counter, self.streams.get_mut(&attempt)) {
                    stream.is_bypassed = true;
                }
                self.outputs.push(Output::Counts(attempt, counter));
            }
            Report::StoreFailed { error, .. } | Report::AttemptFailed { error, .. } => {
                self.outputs.push(Output::StoreFailed(error));
            }
            _ => {}
        }
    }
}

/// A callback of the host's.
struct Callback<'a, 'e> {
    worker: &'a mut worker::Worker,
    envoy: &'a mut Envoy<'e>,
    mailbox: Option<Mailbox>,
    now: Timestamp,
}

impl Callback<'_, '_> {
    fn run(&mut self, occasion: &Occasion) {
        match occasion {
            Occasion::Request(attempt) => self.on_request(*attempt),
            Occasion::Response(attempt, conduct) => {
                let response = Response::of(*conduct, *attempt);
                let event = Event::ResponseHeaders {
                    status: response.status,
                    headers: &response.headers,
                    evidence: &response.evidence,
                    end_of_stream: response.body.is_empty(),
                };
                self.on_response(*attempt, event, response.body.is_empty());
            }
            Occasion::ResponseEnd(attempt, conduct) => {
                let body = Response::of(*conduct, *attempt).body;
                self.on_response(*attempt, Event::ResponseBody { chunk: &body, end_of_stream: true }, true);
            }
            Occasion::CallEnded(attempt, conduct) => self.on_call_ended(*attempt, *conduct),
            Occasion::Gone { attempt, was_sent, was_answered } => {
                let details = if *was_answered { "via_upstream" } else { "downstream_remote_disconnect" };
                let evidence = Evidence {
                    details: Some(details.into()),
                    attempts: Some(u64::from(*was_sent)),
                    connected: *was_sent,
                    redirected: false,
                };
                self.end_stream(*attempt, &evidence);
            }
            Occasion::Woken(operation) => self.worker.on_messages(self.envoy, &[*operation], self.now),
            Occasion::Replied(question, said) => self.on_store_replied(*question, said),
            Occasion::Received(stream, bytes) => self.worker.on_received(self.envoy, *stream, bytes, self.now),
            Occasion::StreamEnded(stream, text) => {
                self.worker.on_stream_closed(self.envoy, *stream, text.as_bytes(), self.now);
            }
            Occasion::Tick => {
                let is_over = self.worker.is_due(self.now);
                if let (Store::SharedData(store), true) = (self.envoy.store, is_over) {
                    store.forget_recent();
                }
                self.worker.on_tick(self.envoy, is_over, self.now);
            }
            Occasion::Sweep => {
                if let Store::SharedData(store) = self.envoy.store {
                    let _ = store.sweep(Owner::new(self.mailbox.map_or(1, |mailbox| u128::from(mailbox.0))), self.now);
                }
            }
        }
    }

    fn on_request(&mut self, attempt: AttemptId) {
        self.envoy.streams.insert(attempt, Stream::default());
        self.envoy.at_work_for = Some(attempt);
        let request = &self.envoy.scenario.attempts[attempt];
        let opening = Opening {
            exchange: exchange_of(attempt),
            policy: &self.envoy.scenario.policy,
            route: 0,
            stream: u32::try_from(attempt).unwrap(),
            headers: &request.headers,
            attribute: &NoAttributes,
            owner: Scenario::owner(attempt),
            mailbox: self.mailbox,
            end_of_stream: false,
        };
        let body = [b'0' + request.body];
        let actions = self.worker.open(self.envoy, opening, &self.now.into());
        self.envoy.take(actions);
        self.drive(attempt, Event::RequestBody { chunk: &body, end_of_stream: true });
    }

    fn on_response(&mut self, attempt: AttemptId, event: Event<'_>, is_its_end: bool) {
        if let Some(stream) = self.envoy.streams.get_mut(&attempt) {
            stream.is_at_its_end = is_its_end;
            self.drive(attempt, event);
        }
    }

    /// Hands an event to the exchange of a stream, in the stream's own callback.
    fn drive(&mut self, attempt: AttemptId, event: Event<'_>) {
        self.envoy.at_work_for = Some(attempt);
        let actions = self.worker.drive(self.envoy, exchange_of(attempt), event, &self.now.into());
        self.envoy.take(actions);
    }

    fn on_call_ended(&mut self, attempt: AttemptId, conduct: Conduct) {
        let token = |attempt: AttemptId| u32::try_from(attempt).unwrap();
        let token = self.envoy.token_of(token(attempt), self.envoy.calls.iter().copied().map(token));
        self.envoy.calls.retain(|other| *other != token as usize);
        let Response { status, headers, body, .. } = Response::of_call(conduct, attempt);
        let answer = (conduct != Conduct::Breaks).then_some(CallAnswer { status, headers: &headers, body });
        self.worker.on_call_answer(self.envoy, token, answer, self.now);
    }

    fn on_store_replied(&mut self, question: QuestionId, said: &Said) {
        let heard = match said {
            Said::Reply(server::Reply { status, body, date }) => {
                let ahead = date.filter(|_| self.envoy.scenario.mutation != Some(Mutation::OwnClock));
                Heard::Reply { status: *status, body, ahead: ahead.and_then(|date| ahead_at(date, self.now)) }
            }
            Said::Refused => Heard::Reply {
                status: 503,
                body: b"upstream connect error or disconnect/reset before headers. reset reason: connection failure",
                ahead: None,
            },
            Said::Nothing => Heard::Nothing,
        };
        let token = self.envoy.token_of(question.token(), self.envoy.asked.iter().map(|other| other.token()));
        self.envoy.asked.retain(|other| other.token() != token);
        self.worker.on_store_answer(self.envoy, token, heard, self.now);
    }

    /// What the filter has answered by itself passes by, and so do responses that are let go to their ends: those streams
    /// are over.
    fn end_streams(&mut self) {
        let is_over = |stream: &Stream| stream.is_answered || stream.is_at_its_end && !stream.is_held;
        while let Some((attempt, stream)) = self.envoy.streams.iter().find(|(_, stream)| is_over(stream)) {
            let (attempt, is_answered) = (*attempt, stream.is_answered);
            if !is_answered {
                self.envoy.outputs.push(Output::Passed(attempt));
            }
            self.end_stream(attempt, &Evidence::default());
        }
    }

    /// The last word on a stream.
    fn end_stream(&mut self, attempt: AttemptId, evidence: &Evidence) {
        if self.envoy.streams.remove(&attempt).is_some() {
            self.envoy.at_work_for = None;
            self.worker.close(self.envoy, exchange_of(attempt), evidence, &self.now.into());
        }
    }
}

/// What a worker makes of the date of a reply, which has whole seconds.
fn ahead_at(date: u64, now: Timestamp) -> Option<i64> {
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(date));
    dynamodb::ahead(date.as_bytes(), now)
}

fn deed_of(call: &Call, now: Timestamp) -> Deed {
    let (owner, kind) = match call {
        Call::Claim(claim) => (claim.owner, DeedKind::Claim),
        Call::Renew { owner, .. } => (*owner, DeedKind::Renew),
        Call::Settle { owner, ending: Ending::Released, .. } => (*owner, DeedKind::Release),
        Call::Settle { owner, .. } => (*owner, DeedKind::Settle),
    };
    Deed { owner, kind, now: now.as_millis(), ahead: 0 }
}

/// A mutation: the call has one and the same fingerprint as any other.
fn blind(call: &mut Call) {
    match call {
        Call::Claim(claim) => claim.fingerprint = Fingerprint::from_bytes([0; 32]),
        Call::Settle { fingerprint, .. } => *fingerprint = Fingerprint::from_bytes([0; 32]),
        Call::Renew { .. } => {}
    }
}

/// A mutation: the call says that it comes from the owner of the record. The table has one bucket.
fn impersonate(call: &mut Call, session: &Session<'_>) {
    use idemgate::store::shared_data::SharedMemory as _;

    let (Call::Renew { operation, owner, .. } | Call::Settle { operation, owner, .. }) = call else { return };
    let bucket = session.get(&format!("{BUCKET}0")).ok().flatten().map(|(bytes, _)| bytes);
    for (of, entry) in super::law::entries_of(bucket.as_deref()) {
        if of == *operation {
            *owner = Owner::new(u128::from_be_bytes(entry.owner));
        }
    }
}

#[derive(Debug)]
struct NoAttributes;

impl Attributes for NoAttributes {
    fn get(&self, _: &[String]) -> Option<Vec<u8>> {
        None
    }
}
