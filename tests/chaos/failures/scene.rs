//! What every scenario has: Envoys, a service behind them, and clients that ask until they know.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::cost::{Allowed, Cost};
use crate::{
    bench::{Envoy, Lot, PATIENCE, Setup, Upstream},
    clients::ask_again,
    judge::judge,
    plan::{Deployment, StoreKind},
    proof::history::Asked,
    record::{Fact, Record},
    service::{self, Intent, Intents},
    stage::{Attempt, Stage, is_final},
};

/// Two workers each, in the defaults but for a short lease.
pub(crate) const SHARED_DATA: Deployment = Deployment {
    store: StoreKind::SharedData,
    is_detached: false,
    waits: false,
    retries_unknown: false,
    envoys: 1,
    workers: 2,
    lease: Duration::from_millis(1_500),
    can_crash: false,
    is_peaceful: false,
};

/// The same on one Redis.
pub(crate) const ON_REDIS: Deployment = Deployment {
    store: StoreKind::Redis { is_pooled: false, keeps_records: true, is_wired: true },
    envoys: 2,
    ..SHARED_DATA
};

/// The same over connections that are kept.
pub(crate) const ON_POOLED_REDIS: Deployment =
    Deployment { store: StoreKind::Redis { is_pooled: true, keeps_records: true, is_wired: true }, ..ON_REDIS };

pub(crate) const ON_POSTGRES: Deployment =
    Deployment { store: StoreKind::Postgres { gives_up: true, is_wired: false }, ..ON_REDIS };

pub(crate) const ON_DYNAMODB: Deployment = Deployment { store: StoreKind::DynamoDb { is_wired: false }, ..ON_REDIS };

/// How many clients ask for new keys at the same time.
const CLIENTS: u64 = 8;

/// How long the service works at most.
const WORK: Duration = Duration::from_millis(100);

/// How long they wait for anything at all.
const HANGS: Duration = Duration::from_secs(18);

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) envoys: Vec<Envoy>,
    pub(crate) stage: Arc<Stage>,
    pub(crate) deployment: Deployment,
    /// It answers for as long as this is there.
    _upstream: Upstream,
    clients: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    resident: u64,
}

impl Scene {
    /// Envoys of one `setup`; each finds the store at one of these addresses.
    pub(crate) async fn begin(deployment: Deployment, setup: &Setup, stores: &[Vec<SocketAddr>]) -> Self {
        let setups: Vec<_> = stores.iter().map(|store| (setup.clone(), store.clone())).collect();
        Self::of(deployment, &setups, WORK).await
    }

    /// Envoys each of its own setup, with clients in front of them, and a service that works for so long at most.
    pub(crate) async fn of(deployment: Deployment, setups: &[(Setup, Vec<SocketAddr>)], work: Duration) -> Self {
        let mut scene = Self::without_clients(deployment, setups).await;
        let (numbers, mut lot) = (Arc::new(AtomicU64::new(0)), Lot::new(7));
        for _ in 0..CLIENTS {
            let client = Client {
                stage: Arc::clone(&scene.stage),
                deployment,
                numbers: Arc::clone(&numbers),
                is_over: Arc::clone(&scene.is_over),
                work: work.as_millis() as u64,
                lot: lot.branch(),
            };
            scene.clients.push(tokio::spawn(client.ask_for_one_key_after_the_other()));
        }
        scene
    }

    pub(crate) async fn without_clients(deployment: Deployment, setups: &[(Setup, Vec<SocketAddr>)]) -> Self {
        let (record, intents) = (Arc::new(Record::new()), Intents::default());
        let upstream = service::start(Arc::clone(&record), intents.clone());
        let mut envoys = Vec::new();
        for (setup, store) in setups {
            envoys.push(Envoy::in_front_of(&upstream, &setup.clone().alone(), store.clone()).await);
        }
        let stage = Arc::new(Stage::new(record, intents, Some(HANGS)));
        let resident = envoys[0].resident_bytes();
        let scene = Self {
            envoys,
            stage,
            deployment,
            _upstream: upstream,
            clients: Vec::new(),
            is_over: Arc::default(),
            resident,
        };
        scene.publish();
        scene
    }

    pub(crate) fn publish(&self) {
        self.stage.move_to(self.envoys.iter().map(Envoy::address).collect());
    }

    /// In milliseconds from the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.stage.record.now()
    }

    /// The store fails, or is back: what the history checker does not hold against the filter.
    pub(crate) fn note(&self, fact: Fact) {
        self.stage.record.note(fact);
    }

    /// Lets the clients end, asks once more for every key at each Envoy, and counts.
    pub(crate) async fn end(self, allowed: Allowed) -> Cost {
        let closed = self.now();
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("each request of a client ends");
        }
        // An execution whose end nobody reported shows by its lease.
        sleep(self.deployment.lease_is_over()).await;
        ask_again(&self.stage, self.deployment).await;

        let entries = self.stage.record.entries();
        let mut cost = Cost::of(&entries, closed, allowed);
        for envoy in &self.envoys {
            cost.fenced += envoy.stat("wasmcustom.idemgate.outcomes.fenced").await.unwrap_or_default();
        }
        cost.resident = (self.resident >> 20, self.envoys[0].resident_bytes() >> 20);
        cost
    }

    /// The same where every promise is kept, whatever fails: then the history checker has a word, too.
    pub(crate) async fn end_as_promised(self) -> Cost {
        let (stage, deployment) = (Arc::clone(&self.stage), self.deployment);
        let mut cost = self.end(Allowed::Once).await;
        // Connections may end: what is counted is what clients hear.
        let judged = judge(&Deployment { can_crash: true, ..deployment }, &stage.record.entries());
        cost.breach = judged.err().map(|verdict| verdict.to_string());
        cost
    }
}

struct Client {
    stage: Arc<Stage>,
    deployment: Deployment,
    numbers: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    /// In milliseconds.
    work: u64,
    lot: Lot,
}

impl Client {
    async fn ask_for_one_key_after_the_other(mut self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            self.ask_until_it_knows(asked(number)).await;
            // And once more, or for what somebody else has asked for.
            let other = if self.lot.chance(50) { number } else { self.lot.below(number + 1) };
            let attempt = self.attempt(asked(other));
            self.stage.make(attempt).await;
            sleep(Duration::from_millis(self.lot.below(20))).await;
        }
    }

    async fn ask_until_it_knows(&mut self, asked: Asked) {
        let deadline = Instant::now() + PATIENCE / 2;
        while !self.is_over.load(Ordering::Relaxed) && Instant::now() < deadline {
            // Some ask twice, at once or a moment later.
            let (attempt, duplicate) = (self.attempt(asked), self.attempt(asked));
            let moment = Duration::from_millis(self.lot.below(self.work));
            let (_, told) = if self.lot.chance(30) {
                let later = async {
                    sleep(moment).await;
                    self.stage.make(duplicate).await
                };
                tokio::join!(self.stage.make(attempt), later).0
            } else {
                self.stage.make(attempt).await
            };
            if told.as_ref().is_some_and(|told| is_final(told, self.deployment.retries_unknown)) {
                return;
            }
            let pause = if told.is_some() { 20 + self.lot.below(60) } else { 100 };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    fn attempt(&mut self, asked: Asked) -> Attempt {
        attempt(asked, self.deployment.envoys, Duration::from_millis(self.lot.below(self.work)), &mut self.lot)
    }
}

/// One that the service answers after so much work.
pub(crate) fn attempt(asked: Asked, envoys: usize, work: Duration, lot: &mut Lot) -> Attempt {
    Attempt { intent: Intent::answers_after(work), ..Attempt::draw(asked, envoys, lot) }
}

/// One key for each number, where Envoy has patience (`stage::is_impatient`).
pub(crate) fn asked(number: u64) -> Asked {
    const KEYS: u64 = 85;

    let caller = u8::try_from(number / KEYS).expect("no scenario asks for more keys than there are");
    Asked { caller, key: (number % KEYS * 3 + 1) as u8, body: 0 }
}
