//! One worker of an Envoy: the host layer (`src/envoy/`) in miniature around the real exchanges and stores.
//!
//! It has the same parts under the same names. `Callback::drive` is `driver.rs`, `take_turns`, `tick` and `go_on`
//! are `root.rs`, the groups that wait are `waiting_room.rs`, and errands are `inquiries.rs`. A callback gives as few turns
//! as the scenario says, and a tick, which is due as long as anything waits for its turn, goes on. What it leaves out: headers and buffers of the host, metrics, redirects, and the watch board, which is a hint only.

use std::{
    collections::{BTreeMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use idemgate::{
    exchange::{Attributes, CallFailure, Counter, Effect, Event, Evidence, Exchange, NoRoom, Reply, needs_mailbox},
    record::{Mailbox, Owner},
    request::{Fingerprint, OperationId},
    store::{
        Answer, Call, Claimed, Ending, Settled,
        redis::{
            Heard, Progress, RedisStore,
            admission::{self, Admission},
        },
        shared_data::{Cas, Recent, SharedDataStore},
    },
    time::Timestamp,
};

use super::{
    history::AttemptId,
    law::{Deed, DeedKind},
    memory::{BUCKET, Session},
    scenario::{Conduct, Mutation, Place, Scenario, StoreKind},
    service::Response,
};

/// The worker's VM.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    guests: BTreeMap<AttemptId, Guest>,
    waiting: BTreeMap<OperationId, Group>,
    /// The operations of which the first one is to ask again when its turn comes.
    called: VecDeque<OperationId>,
    /// The real one, as in `inquiries.rs`.
    admission: Admission<Asker>,
    under_way: BTreeMap<QuestionId, Errand>,
    resting: Vec<Errand>,
    /// How many questions were asked for each exchange.
    questions: BTreeMap<AttemptId, u16>,
    /// What its store remembers of shared data.
    recent: Recent,
}

/// Which attempt of which request asks Redis.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct QuestionId {
    pub(crate) attempt: AttemptId,
    pub(crate) number: u16,
}

#[derive(Clone, Debug)]
struct Guest {
    exchange: Exchange,
    /// Whether the client's stream is there.
    has_stream: bool,
    response: Passage,
    /// The exchange's state, by what it shows of itself when the last callback was over.
    digest: u64,
    has_changed: bool,
}

/// How far the response has passed by.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Passage {
    is_at_its_end: bool,
    is_held: bool,
}

#[derive(Clone, Debug, Hash)]
struct Group {
    guests: BTreeMap<AttemptId, ()>,
    recheck: Timestamp,
}

type Errand = admission::Errand<Asker>;

/// Who asks.
#[derive(Clone, Debug, Hash)]
struct Asker {
    attempt: AttemptId,
    /// Everything that happened to the inquiry, which is all that its state depends on.
    digest: Option<u64>,
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
    /// Time has passed.
    Tick,
    /// Time has passed, and the table may be swept.
    Sweep,
}

/// What the worker hears of Redis.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Said {
    Reply(Arc<[u8]>),
    /// No connection.
    Refused,
    /// Redis is there, and cannot.
    Loading,
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
    Wakes(Mailbox, OperationId),
    Counts(AttemptId, Counter),
}

impl Worker {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            guests: BTreeMap::new(),
            waiting: BTreeMap::new(),
            called: VecDeque::new(),
            admission: Admission::new(scenario.limits),
            under_way: BTreeMap::new(),
            resting: Vec::new(),
            questions: BTreeMap::new(),
            recent: Recent::default(),
        }
    }

    /// Whether a tick would do something.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.guests.values().any(|guest| guest.exchange.is_due(now))
            || self.waiting.values().any(|group| group.recheck <= now)
            || !self.called.is_empty()
            || self.admission.has_next(self.under_way.len())
            || !self.admission.is_empty() && {
                let mut admission = self.admission.clone();
                admission.tell_delayed(now);
                admission.refuse_overdue(self.under_way.len(), now);
                admission.answers().next().is_some()
            }
            || self
                .resting
                .iter()
                .any(|errand| errand.inquiry.is_due(now) || errand.inquiry.clone().becomes_delayed(now))
    }

    /// Whether nothing is left that could still lead to something.
    pub(crate) fn is_empty(&self) -> bool {
        self.guests.is_empty()
            && self.waiting.is_empty()
            && self.admission.is_empty()
            && self.under_way.is_empty()
            && self.resting.is_empty()
    }

    /// Whether an exchange is still at work.
    pub(crate) fn knows(&self, attempt: AttemptId) -> bool {
        self.guests.contains_key(&attempt) || self.errands().any(|errand| errand.guest.attempt == attempt)
    }

    fn errands(&self) -> impl Iterator<Item = &Errand> {
        let waiting = self.admission.waiting().map(|(_, errand)| errand);
        waiting.chain(&self.resting).chain(self.under_way.values())
    }

    /// Whether the worker waits for the answer to a question.
    pub(crate) fn awaits(&self, question: &QuestionId) -> bool {
        self.under_way.contains_key(question)
    }

    /// Runs a callback as far as the session goes.
    pub(crate) fn call(
        &mut self,
        scenario: &Scenario,
        redis: &RedisStore,
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
            StoreKind::Redis { .. } => Store::Redis(redis),
        };
        let mailbox = needs_mailbox(&scenario.policy).then_some(mailbox_of(place));
        let mut callback = Callback {
            worker: &mut *self,
            scenario,
            mailbox,
            now,
            session,
            store: &store,
            overdue: VecDeque::new(),
            outputs: Vec::new(),
        };
        callback.run(occasion);
        callback.take_turns();
        let outputs = callback.outputs;
        if let Store::SharedData(store) = store {
            self.recent = store.into_recent();
        }
        outputs
    }

    /// What its store remembers of shared data, and of which version that is.
    pub(crate) fn remembers(&self) -> Option<(Cas, impl Hash)> {
        self.recent.held()
    }

    /// Ends a callback that ran to its end.
    pub(crate) fn end_callback(&mut self, scenario: &Scenario) {
        self.guests.retain(|_, guest| guest.has_stream || !guest.exchange.is_finished());
        if !scenario.tells_states_apart {
            return;
        }
        for guest in self.guests.values_mut().filter(|guest| guest.has_changed) {
            guest.digest = digest_of(&guest.exchange);
            guest.has_changed = false;
        }
    }
}

/// The mailbox of a worker; those of one Envoy are no other's.
pub(crate) fn mailbox_of(place: Place) -> Mailbox {
    Mailbox(u32::from(place.worker) + 1)
}

impl Hash for Worker {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for (attempt, guest) in &self.guests {
            (attempt, guest.has_stream, guest.response, guest.digest).hash(hasher);
        }
        (&self.waiting, &self.called, &self.questions).hash(hasher);
        for (why, errand) in self.admission.waiting() {
            (why, &errand.guest).hash(hasher);
        }
        for (asker, answer) in self.admission.answers() {
            (asker, digest_of(answer)).hash(hasher);
        }
        for (question, errand) in &self.under_way {
            (question, &errand.guest).hash(hasher);
        }
        for errand in &self.resting {
            errand.guest.hash(hasher);
        }
    }
}

enum Store<'a> {
    SharedData(Box<SharedDataStore<&'a Session<'a>>>),
    Redis(&'a RedisStore),
}

/// A callback of the host's.
struct Callback<'a> {
    worker: &'a mut Worker,
    scenario: &'a Scenario,
    mailbox: Option<Mailbox>,
    now: Timestamp,
    session: &'a Session<'a>,
    store: &'a Store<'a>,
    /// Who has waited long enough. Whoever has no turn is due as before.
    overdue: VecDeque<AttemptId>,
    outputs: Vec<Output>,
}

impl Callback<'_> {
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
                if response.body.is_empty() {
                    self.end_response(*attempt);
                }
                self.drive(*attempt, event);
            }
            Occasion::ResponseEnd(attempt, conduct) => {
                let body = Response::of(*conduct, *attempt).body;
                self.end_response(*attempt);
                self.drive(*attempt, Event::ResponseBody { chunk: &body, end_of_stream: true });
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
            Occasion::Woken(operation) => self.summon(*operation),
            Occasion::Replied(question, said) => self.on_store_replied(*question, said),
            Occasion::Tick => self.tick(),
            Occasion::Sweep => {
                if let Store::SharedData(store) = self.store {
                    let _ = store.sweep(Owner::new(self.mailbox.map_or(1, |mailbox| u128::from(mailbox.0))), self.now);
                }
            }
        }
    }

    fn on_request(&mut self, attempt: AttemptId) {
        let request = &self.scenario.attempts[attempt];
        let exchange = Exchange::new(Arc::clone(&self.scenario.policy));
        self.worker.guests.insert(
            attempt,
            Guest { exchange, has_stream: true, response: Passage::default(), digest: 0, has_changed: false },
        );
        let event = Event::RequestHeaders {
            headers: &request.headers,
            attribute: &NoAttributes,
            owner: Scenario::owner(attempt),
            mailbox: self.mailbox,
            is_store_remote: false,
            end_of_stream: false,
        };
        self.drive(attempt, event);
        let body = [b'0' + request.body];
        self.drive(attempt, Event::RequestBody { chunk: &body, end_of_stream: true });
    }

    fn on_call_ended(&mut self, attempt: AttemptId, conduct: Conduct) {
        let response = Response::of_call(conduct, attempt);
        match conduct {
            Conduct::Unreachable => self.drive(attempt, Event::CallFailed(CallFailure::NotMade)),
            Conduct::Breaks => self.drive(attempt, Event::CallFailed(CallFailure::Reset)),
            _ => {
                let event =
                    Event::CallAnswered { status: response.status, headers: &response.headers, body: response.body };
                self.drive(attempt, event);
            }
        }
    }

    /// Hands an event to an exchange and does what it says, until nothing is left to do.
    fn drive(&mut self, attempt: AttemptId, event: Event<'_>) {
        let Some(guest) = self.worker.guests.get_mut(&attempt) else { return };
        let mut effects = Vec::new();
        guest.exchange.handle(event, self.now, &mut effects);
        let mut pending = VecDeque::from(effects);
        let mut is_protected = true;
        let mut was_answered = false;
        while let Some(effect) = pending.pop_front() {
            match effect {
                Effect::Call(call) => {
                    if let Some(answer) = self.ask_store(attempt, call) {
                        pending.extend(self.handle(attempt, Event::Answered(answer)));
                    }
                }
                Effect::Count(counter) => {
                    is_protected &= counter != Counter::RequestsBypassed;
                    self.outputs.push(Output::Counts(attempt, counter));
                }
                Effect::Execute(_) | Effect::Forward => {
                    self.outputs.push(Output::LetThrough { attempt, protected: is_protected });
                }
                Effect::ForwardResponse => self.hold_response(attempt, false),
                Effect::HoldResponse => self.hold_response(attempt, true),
                Effect::Reply(reply) => {
                    was_answered = true;
                    if self.has_stream(attempt) {
                        self.outputs.push(Output::Replied(attempt, Arc::unwrap_or_clone(reply)));
                    }
                }
                Effect::StopWaiting(operation) => self.leave(operation, attempt),
                Effect::Wait { operation, mut recheck } => {
                    if self.scenario.is_remote() {
                        recheck = recheck.min(self.now.after(POLL));
                    }
                    if let Err(no_room) = self.enter(operation, attempt, recheck) {
                        pending.extend(self.handle(attempt, Event::NoRoomToWait(no_room)));
                    }
                }
                Effect::Wake { operation, watchers } => {
                    self.outputs.extend(watchers.into_iter().map(|mailbox| Output::Wakes(mailbox, operation)));
                }
                Effect::Hold
                | Effect::Notice(_)
                | Effect::RemoveRequestHeader(_)
                | Effect::RemoveResponseHeader(_)
                | Effect::SetResponseHeader(..)
                | Effect::Tell(_)
                | Effect::Waited(_)
                | Effect::WarnStore(_) => {}
            }
        }
        if was_answered && self.has_stream(attempt) {
            // The filter's own reply passes by, and that was the stream.
            self.end_stream(attempt, &Evidence::default());
        }
        let has_passed = |guest: &Guest| guest.has_stream && guest.response.is_at_its_end && !guest.response.is_held;
        if self.worker.guests.get(&attempt).is_some_and(has_passed) {
            self.outputs.push(Output::Passed(attempt));
            self.end_stream(attempt, &Evidence::default());
        }
        if let Some(guest) = self.worker.guests.get_mut(&attempt) {
            guest.has_changed = true;
        }
    }

    fn end_response(&mut self, attempt: AttemptId) {
        if let Some(guest) = self.worker.guests.get_mut(&attempt) {
            guest.response.is_at_its_end = true;
        }
    }

    fn hold_response(&mut self, attempt: AttemptId, is_held: bool) {
        if let Some(guest) = self.worker.guests.get_mut(&attempt) {
            guest.response.is_held = is_held;
        }
    }

    fn handle(&mut self, attempt: AttemptId, event: Event<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(guest) = self.worker.guests.get_mut(&attempt) {
            guest.exchange.handle(event, self.now, &mut effects);
        }
        effects
    }

    /// The last word on a stream.
    fn end_stream(&mut self, attempt: AttemptId, evidence: &Evidence) {
        if self.has_stream(attempt) {
            if let Some(guest) = self.worker.guests.get_mut(&attempt) {
                guest.has_stream = false;
            }
            self.drive(attempt, Event::Gone { evidence });
        }
    }

    fn has_stream(&self, attempt: AttemptId) -> bool {
        self.worker.guests.get(&attempt).is_some_and(|guest| guest.has_stream)
    }

    fn enter(&mut self, operation: OperationId, attempt: AttemptId, recheck: Timestamp) -> Result<(), NoRoom> {
        let policy = &self.scenario.policy;
        let waiting = self.worker.waiting.values().flat_map(|group| group.guests.keys());
        let (taken, places) = (waiting.clone().count() as u64, policy.duplicates.max_waiting.into());
        if taken >= places {
            return Err(NoRoom::AllTaken);
        }
        let caller_of = |attempt: &AttemptId| self.scenario.attempts[*attempt].caller;
        let held = waiting.filter(|other| caller_of(other) == caller_of(&attempt)).count() as u64;
        if !policy.limits.caller_share.allows(held, taken, places) {
            return Err(NoRoom::OverShare);
        }
        let group = self.worker.waiting.entry(operation).or_insert(Group { guests: BTreeMap::new(), recheck });
        group.recheck = recheck;
        group.guests.insert(attempt, ());
        Ok(())
    }

    fn leave(&mut self, operation: OperationId, attempt: AttemptId) {
        if let Some(group) = self.worker.waiting.get_mut(&operation) {
            group.guests.remove(&attempt);
            if group.guests.is_empty() {
                self.worker.waiting.remove(&operation);
            }
        }
    }

    /// Those who wait for an operation are to ask again, one after the other, until one has to wait on.
    fn summon(&mut self, operation: OperationId) {
        if self.worker.waiting.contains_key(&operation) && !self.worker.called.contains(&operation) {
            self.worker.called.push_back(operation);
        }
    }

    /// So many of those who are to ask again, or have waited long enough, have a turn; a tick goes on with the rest.
    fn take_turns(&mut self) {
        let mut left = self.scenario.turns;
        loop {
            let before = left;
            for give_turn in [Self::wake_next, Self::give_up_next, Self::tell_next] {
                if left > 0 && give_turn(self) {
                    left -= 1;
                }
            }
            if left == before {
                break;
            }
        }
        if self.scenario.mutation == Some(Mutation::RestForgotten) {
            self.worker.called.clear();
        }
        self.ask_ordered();
    }

    fn tell_next(&mut self) -> bool {
        let Some((asker, answer)) = self.worker.admission.next_to_tell() else { return false };
        self.drive(asker.attempt, Event::Answered(answer));
        true
    }

    fn wake_next(&mut self) -> bool {
        while let Some(operation) = self.worker.called.pop_front() {
            let Some(group) = self.worker.waiting.get(&operation) else { continue };
            let Some(attempt) = group.guests.keys().next().copied() else { continue };
            self.leave(operation, attempt);
            self.drive(attempt, Event::Woken);
            let waits = self.worker.waiting.get(&operation).is_some_and(|group| group.guests.contains_key(&attempt));
            let asks = self.worker.guests.get(&attempt).is_some_and(|guest| guest.exchange.awaits_claim());
            if !waits && !asks {
                self.summon(operation);
            }
            return true;
        }
        false
    }

    fn give_up_next(&mut self) -> bool {
        let Some(attempt) = self.overdue.pop_front() else { return false };
        self.drive(attempt, Event::Tick);
        true
    }

    fn tick(&mut self) {
        if let Store::SharedData(store) = self.store {
            store.forget_recent();
        }
        let due: Vec<AttemptId> = self
            .worker
            .guests
            .iter()
            .filter(|(_, guest)| guest.exchange.is_due(self.now))
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in due {
            if self.worker.guests.get(&attempt).is_some_and(|guest| guest.exchange.awaits_turn()) {
                self.overdue.push_back(attempt);
            } else {
                self.drive(attempt, Event::Tick);
            }
        }
        let due = self.worker.waiting.iter().filter(|(_, group)| group.recheck <= self.now);
        let due: Vec<OperationId> = due.map(|(operation, _)| *operation).collect();
        for operation in due {
            if self.scenario.is_remote()
                && let Some(group) = self.worker.waiting.get_mut(&operation)
            {
                group.recheck = self.now.after(POLL);
            }
            self.summon(operation);
        }
        let now = self.now;
        let admission = &mut self.worker.admission;
        for errand in &mut self.worker.resting {
            if errand.inquiry.becomes_delayed(now) {
                note(errand, &("delayed", now));
                admission.tell(errand.guest.clone(), Answer::Delayed);
            }
        }
        admission.tell_delayed(now);
        for errand in self.worker.resting.extract_if(.., |errand| errand.inquiry.is_due(now)) {
            admission.order_again(errand);
        }
        admission.refuse_overdue(self.worker.under_way.len(), now);
    }

    /// The store's answer, if there is one at once.
    fn ask_store(&mut self, attempt: AttemptId, mut call: Call) -> Option<Answer> {
        if matches!(call, Call::Claim(_)) {
            self.outputs.push(Output::Claims(attempt));
        }
        if self.scenario.mutation == Some(Mutation::NoFingerprint) {
            blind(&mut call);
        }
        match self.store {
            Store::SharedData(store) => {
                let deed = deed_of(&call, self.now);
                self.session.act(Some(deed));
                if self.scenario.mutation == Some(Mutation::NoFencing)
                    || self.scenario.mutation == Some(Mutation::ReleaseByAnyone) && deed.kind == DeedKind::Release
                {
                    impersonate(&mut call, self.session);
                }
                let answer = store.call(call, self.now);
                self.session.act(None);
                Some(answer)
            }
            Store::Redis(store) => match store.inquire(&call, self.now) {
                Ok(inquiry) => {
                    let guest = Asker { attempt, digest: self.scenario.tells_states_apart.then_some(0) };
                    let mut errand = Errand { guest, inquiry, is_shadow: false };
                    note(&mut errand, &(&call, self.now));
                    self.worker.admission.order(errand).err().map(Answer::Claimed)
                }
                Err(answer) => Some(answer),
            },
        }
    }

    /// What the root context does before it returns.
    fn ask_ordered(&mut self) {
        while let Some(mut errand) = self.worker.admission.next_to_ask(self.worker.under_way.len()) {
            let attempt = errand.guest.attempt;
            let is_abandoned = self.worker.guests.get(&attempt).is_some_and(|guest| guest.exchange.is_abandoned());
            if errand.inquiry.is_new_claim() && is_abandoned {
                self.worker.admission.withdraw(&errand);
                self.drive(attempt, Event::Answered(Answer::Claimed(Claimed::Full)));
                continue;
            }
            let number = self.worker.questions.entry(attempt).or_default();
            *number += 1;
            let number = *number;
            let question = QuestionId { attempt, number };
            let (bytes, timeout) = errand.inquiry.ask(self.now);
            let (bytes, timeout) = (bytes.into(), u64::try_from(timeout.as_millis()).unwrap());
            note(&mut errand, &("asked", self.now));
            self.outputs.push(Output::Asks { question, bytes, timeout });
            self.worker.under_way.insert(question, errand);
        }
    }

    fn on_store_replied(&mut self, question: QuestionId, said: &Said) {
        let Some(mut errand) = self.worker.under_way.remove(&question) else { return };
        note(&mut errand, &(said, self.now));
        let heard = match said {
            Said::Reply(body) => Heard::Reply { status: 200, body },
            Said::Refused => Heard::Reply {
                status: 503,
                body: b"upstream connect error or disconnect/reset before headers. reset reason: connection failure",
            },
            Said::Loading => Heard::Reply { status: 200, body: b"-LOADING Redis is loading the dataset in memory\r\n" },
            Said::Nothing => Heard::Nothing,
        };
        if matches!(heard, Heard::Reply { status: 200, .. }) {
            self.worker.admission.hear(self.now);
        }
        let progress = errand.inquiry.hear(heard, self.now);
        self.go_on(errand, progress);
    }

    fn go_on(&mut self, mut errand: Errand, progress: Progress) {
        match progress {
            Progress::Answered(answer) => {
                let operation = errand.inquiry.operation();
                let is_over = says_that_it_is_over(&answer);
                if let Answer::Claimed(claimed) = &answer {
                    self.worker.admission.conclude(&errand, claimed, self.now);
                }
                self.drive(errand.guest.attempt, Event::Answered(answer));
                if is_over {
                    self.summon(operation);
                }
            }
            Progress::Again(_) => self.worker.admission.order_again(errand),
            Progress::Later(_) => {
                if errand.inquiry.becomes_delayed(self.now) {
                    note(&mut errand, &("delayed", self.now));
                    self.drive(errand.guest.attempt, Event::Answered(Answer::Delayed));
                }
                self.worker.resting.push(errand);
            }
        }
    }
}

fn note(errand: &mut Errand, what: &impl std::fmt::Debug) {
    let digest = &mut errand.guest.digest;
    *digest = digest.map(|digest| digest_of(&(digest, what)));
}

/// How often a worker asks about an execution that another Envoy may run (`watch_board.rs`).
const POLL: Duration = Duration::from_millis(100);

fn says_that_it_is_over(answer: &Answer) -> bool {
    match answer {
        Answer::Claimed(claimed) => {
            matches!(claimed, Claimed::Completed { .. } | Claimed::NotKept { .. } | Claimed::Unknown { .. })
        }
        Answer::Settled(ended) => !matches!(ended.settled, Settled::Failed(_)),
        Answer::Renewed(_) | Answer::Delayed => false,
    }
}

fn deed_of(call: &Call, now: Timestamp) -> Deed {
    let (owner, kind) = match call {
        Call::Claim(claim) => (claim.owner, DeedKind::Claim),
        Call::Renew { owner, .. } => (*owner, DeedKind::Renew),
        Call::Settle { owner, ending: Ending::Released, .. } => (*owner, DeedKind::Release),
        Call::Settle { owner, .. } => (*owner, DeedKind::Settle),
    };
    Deed { owner, kind, now: now.as_millis() }
}

/// A mutation: the call has one and the same fingerprint as any other.
fn blind(call: &mut Call) {
    match call {
        Call::Claim(claim) => claim.fingerprint = Fingerprint::from_bytes([0; 32]),
        Call::Settle { fingerprint, .. } => *fingerprint = Fingerprint::from_bytes([0; 32]),
        Call::Renew { .. } => {}
    }
}

/// A mutation: the call says that it comes from whoever owns the record. The table has one bucket.
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

fn digest_of(value: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    // As one text: it is written in pieces of a few letters, each of which would cost the hasher as much as a word.
    hasher.write(format!("{value:?}").as_bytes());
    hasher.finish()
}

#[derive(Debug)]
struct NoAttributes;

impl Attributes for NoAttributes {
    fn get(&self, _: &[String]) -> Option<Vec<u8>> {
        None
    }
}
