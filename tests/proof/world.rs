//! Clients, Envoys with their workers, a store, a network and a service, and every step that any of them can
//! take. The model checker takes all of them in every order; the simulation takes one order for each seed.

mod choices;
mod ending;
mod identity;
mod steps;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

pub(crate) use choices::Action;
use idemgate::{
    exchange::Counter,
    request::OperationId,
    store::{remote::RemoteStore, shared_data::SharedDataStore},
    time::Timestamp,
};

use super::{
    history::{AttemptId, Breach, History, Operation},
    law::Deed,
    memory::{self, Access, Alone, SharedData, TABLE},
    scenario::{Conduct, Faults, Place, Scenario, StoreKind},
    server::{Command, Reply, Server},
    worker::{Occasion, QuestionId, Worker},
};

/// All that there is at one moment.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) scenario: Arc<Scenario>,
    /// The true time, in milliseconds.
    now: u64,
    envoys: Vec<Envoy>,
    server: Server,
    /// The same for all workers: it is but a way to write and to read.
    remote_store: Arc<dyn RemoteStore + Send + Sync>,
    messages: BTreeMap<QuestionId, Message>,
    attempts: Vec<Progress>,
    faults: Faults,
    history: History,
    breach: Option<Breach>,
    /// How often each counter was counted; of no influence on anything.
    counts: [u16; Counter::ALL.len()],
}

#[derive(Clone)]
struct Envoy {
    shared_data: SharedData,
    table: Arc<[u8]>,
    workers: Vec<Seat>,
}

/// A worker, and what it is at.
#[derive(Clone)]
struct Seat {
    /// Common to all worlds in which nothing has happened to it since.
    worker: Arc<Worker>,
    /// The callback that is under way, between two host calls.
    callback: Option<Callback>,
    mailbox: VecDeque<OperationId>,
}

impl Seat {
    fn new(scenario: &Scenario) -> Self {
        Self { worker: Arc::new(Worker::new(scenario)), callback: None, mailbox: VecDeque::new() }
    }
}

#[derive(Clone)]
struct Callback {
    occasion: Occasion,
    /// When it began, in true time.
    began: u64,
    tape: Vec<memory::Said>,
    next: (Access, Option<Deed>),
}

/// A question to Redis on its way, or the reply to it.
#[derive(Clone, Debug, Hash)]
struct Message {
    place: Place,
    /// On which stream of its worker it was sent, and as which of those that are still on it; `None` if by a call.
    on: Option<(u32, u16)>,
    /// `None` of a greeting.
    command: Option<Arc<Command>>,
    /// When Envoy gives up.
    deadline: u64,
    state: Transit,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Transit {
    Sent,
    /// The server has carried it out.
    Replied(Reply),
    /// Neither it nor its reply ever comes.
    Lost,
    /// Nobody waits for the reply any more; it may still be carried out.
    Abandoned,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Progress {
    place: Option<Place>,
    client: Client,
    service: Service,
    /// When the store was asked last for the right to run.
    claimed: u64,
    /// What access logs show of the filter's own answer.
    answer: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Client {
    #[default]
    ToCome,
    Waits,
    /// Has an answer, or has gone.
    Over,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Service {
    #[default]
    Idle,
    Asked,
    /// The headers of its answer have gone.
    Answers(Conduct),
    Done,
}

/// The clocks begin here, far enough from zero for leases to be taken off, with 13 digits.
const EPOCH: u64 = 1_700_000_000_000;

impl World {
    pub(crate) fn new(scenario: Arc<Scenario>) -> Self {
        let (shared_data, table) = laid_out(&scenario);
        let workers = vec![Seat::new(&scenario); usize::from(scenario.workers)];
        Self {
            now: EPOCH,
            envoys: vec![Envoy { shared_data, table, workers }; usize::from(scenario.envoys)],
            server: Server::new(scenario.server),
            remote_store: scenario.remote_store(),
            messages: BTreeMap::new(),
            attempts: vec![Progress::default(); scenario.attempts.len()],
            faults: scenario.faults,
            history: History::default(),
            breach: None,
            counts: [0; Counter::ALL.len()],
            scenario,
        }
    }

    /// The promise that was broken, if one was.
    pub(crate) fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// How often each counter was counted, in the order of [`Counter::ALL`].
    pub(crate) fn counts(&self) -> &[u16] {
        &self.counts
    }

    /// How long the world has lasted, in milliseconds.
    pub(crate) fn age(&self) -> u64 {
        self.now - EPOCH
    }

    fn seats(&self) -> impl Iterator<Item = (Place, &Seat)> {
        self.envoys.iter().zip(0..).flat_map(|(envoy, number)| {
            envoy.workers.iter().zip(0..).map(move |(seat, worker)| (Place { envoy: number, worker }, seat))
        })
    }

    fn seat(&self, place: Place) -> &Seat {
        &self.envoys[usize::from(place.envoy)].workers[usize::from(place.worker)]
    }

    fn seat_mut(&mut self, place: Place) -> &mut Seat {
        &mut self.envoys[usize::from(place.envoy)].workers[usize::from(place.worker)]
    }

    /// What the Envoy's clock shows at `now`.
    fn clock(&self, envoy: u8, now: u64) -> Timestamp {
        Timestamp::from_millis(now + self.scenario.skews[usize::from(envoy)])
    }

    fn server_clock(&self) -> u64 {
        self.now + self.scenario.skews.last().copied().unwrap_or_default()
    }

    /// What an attempt's key stands for: the records of one Envoy are no other's.
    fn operation(&self, attempt: AttemptId, place: Place) -> Operation {
        let request = &self.scenario.attempts[attempt];
        let store = if self.scenario.is_remote() { 0 } else { place.envoy };
        Operation { store, caller: request.caller, key: request.key }
    }

    /// What is on a stream of a worker.
    fn on_stream(&self, place: Place, stream: u32) -> impl Iterator<Item = (QuestionId, u16, &Message)> {
        let all = self.messages.iter().filter(move |(_, message)| message.place == place);
        all.filter_map(move |(question, message)| match message.on {
            Some((other, order)) if other == stream => Some((*question, order, message)),
            _ => None,
        })
    }

    fn is_idle(&self, place: Place) -> bool {
        self.seat(place).callback.is_none()
    }

    fn place_of(&self, attempt: AttemptId) -> Option<Place> {
        self.attempts[attempt].place
    }

    /// Whether the attempt's worker can take its next callback.
    fn is_reachable(&self, attempt: AttemptId) -> bool {
        self.place_of(attempt).is_some_and(|place| self.is_idle(place))
    }
}

/// Shared data with an empty table in it.
fn laid_out(scenario: &Scenario) -> (SharedData, Arc<[u8]>) {
    let StoreKind::SharedData(limits) = scenario.store else { return (SharedData::default(), Arc::default()) };
    let memory = Alone::default();
    SharedDataStore::open(&memory, limits, 42).expect("room for a table");
    let table = memory.0.borrow().value(TABLE).cloned().unwrap_or_default();
    (memory.0.into_inner(), table)
}
