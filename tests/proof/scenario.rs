//! What a world is made of, and what may go wrong in it.

use std::{sync::Arc, time::Duration};

use idemgate::{
    config::{
        DynamoDbConfig, ExecutionMode, InFlight, Limits, OnFull, OnStoreError, OnUnknown, Policy, PostgresConfig,
        RedisConfig, Share, SharedDataConfig,
    },
    headers::Headers,
    record::Owner,
    store::{
        admission::AdmissionLimits, dynamodb::DynamoDbStore, postgres::PostgresStore, redis::RedisStore,
        remote::RemoteStore,
    },
};

use super::{
    history::{Asked, AttemptId, Terms},
    redis::Omissions,
};

/// Everything about a world that does not change.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) policy: Arc<Policy>,
    pub(crate) store: StoreKind,
    pub(crate) envoys: u8,
    /// In each Envoy.
    pub(crate) workers: u8,
    pub(crate) attempts: Vec<Attempt>,
    /// How many faults of each kind there may be.
    pub(crate) faults: Faults,
    /// What the service may do with a request.
    pub(crate) deeds: Vec<Conduct>,
    pub(crate) mutation: Option<Mutation>,
    /// How far each Envoy's clock is ahead of the true time, in milliseconds; the last one is that of Redis.
    pub(crate) skews: Vec<u64>,
    /// Whether the totals of the table are host calls like any other. If not, a worker is never stopped at
    /// them: another one cannot come in between.
    pub(crate) stops_at_totals: bool,
    /// How many replies, resumes and calls a worker asks of its host at a time.
    pub(crate) turns: u32,
    /// How much a worker asks of Redis at a time.
    pub(crate) limits: AdmissionLimits,
    /// How many persistent connections to Redis a worker has.
    pub(crate) connections: u32,
    /// What a remote store is asked.
    pub(crate) server: ServerKind,
    /// Whether states are told apart, for which exchanges and inquiries have to be digested.
    pub(crate) tells_states_apart: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StoreKind {
    SharedData(SharedDataConfig),
    /// A server for all Envoys, with this timeout in milliseconds.
    Remote {
        timeout: u64,
    },
}

/// What is behind a remote store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerKind {
    Redis,
    Postgres,
    DynamoDb {
        /// Whether it leaves out of a refusal the item that is in the way.
        hides_items: bool,
    },
}

/// One request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The attempts of one client come one after the other.
    pub(crate) client: u8,
    /// Which caller's which key.
    pub(crate) key: u8,
    pub(crate) caller: u8,
    /// What is asked for; attempts with one key and different bodies are reuse.
    pub(crate) body: u8,
    /// The one worker that it may reach, if it may not reach any.
    pub(crate) worker: Option<Place>,
    pub(crate) headers: Arc<Headers>,
}

/// A worker of an Envoy.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    pub(crate) envoy: u8,
    pub(crate) worker: u8,
}

/// How many of each are left.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Faults {
    /// A worker's VM dies.
    pub(crate) deaths: u8,
    /// An Envoy is killed, and starts anew.
    pub(crate) restarts: u8,
    /// A client hangs up.
    pub(crate) hangups: u8,
    /// A message to Redis, or its reply, gets lost, or a connection breaks.
    pub(crate) losses: u8,
    /// Redis says that it cannot.
    pub(crate) refusals: u8,
    /// Redis loses its data.
    pub(crate) flushes: u8,
    /// A worker sweeps.
    pub(crate) sweeps: u8,
    /// Time passes while a worker stands still between two host calls.
    pub(crate) stalls: u8,
}

/// What the service, or Envoy in its place, does with a request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Conduct {
    /// 201: to be stored.
    Answers,
    /// 200 with `idempotency-policy: no-store`.
    AnswersOnce,
    /// 503 of its own: declared not done.
    Refuses,
    /// 502 of its own: unknown.
    Stumbles,
    /// The connection breaks once the request was sent.
    Breaks,
    /// No answer within the time of the route, or of the call.
    TimesOut,
    /// There is no connection to it.
    Unreachable,
}

impl Conduct {
    pub(crate) const ALL: [Self; 7] = [
        Self::Answers,
        Self::AnswersOnce,
        Self::Refuses,
        Self::Stumbles,
        Self::Breaks,
        Self::TimesOut,
        Self::Unreachable,
    ];
}

/// A rule that is broken on purpose, from outside of the code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutation {
    /// Insert-if-absent overwrites what is there.
    BlindSet,
    /// Renewals and last words are not held against the owner of the claim.
    NoFencing,
    /// Nor are releases alone.
    ReleaseByAnyone,
    /// Shared data: what is young is given up as what is old.
    NoFloor,
    /// All requests look alike to the store.
    NoFingerprint,
    /// Shared data: what a worker remembers counts, whatever was written since.
    StaleReplay,
    /// Redis: a release leaves no mark, so that a late claim of its owner is granted.
    NoMark,
    /// Those who had no turn in the callback in which they were called have none later.
    RestForgotten,
    /// An answer goes to another exchange than the one that asked, if another one waits for an answer.
    WrongExchange,
    /// A worker that is to be told of an end is not.
    NeverWoken,
    /// Persistent connections: a reply is taken for that to another question on its connection.
    WrongQuestion,
    /// Persistent connections: of questions on a connection that is lost it is said that Redis refused them.
    CertainLoss,
    /// DynamoDB: an Envoy's own clock counts, whatever replies say.
    OwnClock,
    /// DynamoDB: a write in the place of an item that was judged is made whatever that item is by then.
    NoJudgement,
    /// DynamoDB: the mark of a release that is met by the look at what refused a write is read as a record.
    MarkAsRecord,
}

impl Scenario {
    /// Two workers on the shared data of one Envoy, two clients with one key, nothing goes wrong.
    pub(crate) fn new(lease: u64, ttl: u64) -> Self {
        // Counting callers takes steps of its own, which tell no two states apart that matter for one key.
        let limits = Limits { caller_share: Share::WHOLE, ..Limits::default() };
        let policy = Policy {
            lease: Duration::from_millis(lease),
            ttl: Duration::from_millis(ttl),
            limits,
            ..Policy::default()
        };
        Self {
            policy: Arc::new(policy),
            store: StoreKind::SharedData(SharedDataConfig {
                max_entries: 4,
                max_bytes: 1 << 20,
                on_full: OnFull::EvictOldest,
                keep_at_least: Duration::ZERO,
            }),
            envoys: 1,
            workers: 2,
            attempts: Vec::new(),
            faults: Faults::default(),
            deeds: vec![Conduct::Answers],
            mutation: None,
            skews: vec![0; 2],
            stops_at_totals: true,
            turns: 1,
            limits: AdmissionLimits { calls: 1, reserve: 1, ..AdmissionLimits::default() },
            connections: 0,
            server: ServerKind::Redis,
            tells_states_apart: false,
        }
    }

    pub(crate) fn on_redis(mut self, envoys: u8, workers: u8, timeout: u64) -> Self {
        self.store = StoreKind::Remote { timeout };
        (self.envoys, self.workers) = (envoys, workers);
        self.skews = vec![0; usize::from(envoys) + 1];
        // Of each request a question is asked, which is a turn, and may be asked again.
        self.turns = 3;
        self
    }

    /// The same over two persistent connections of each worker.
    pub(crate) fn over_streams(self) -> Self {
        Self { connections: 2, ..self }
    }

    /// The same with PostgreSQL.
    pub(crate) fn on_postgres(self) -> Self {
        Self { server: ServerKind::Postgres, ..self.over_streams() }
    }

    /// The same with DynamoDB.
    pub(crate) fn on_dynamodb(self, hides_items: bool) -> Self {
        Self { server: ServerKind::DynamoDb { hides_items }, ..self }
    }

    pub(crate) fn change_policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    pub(crate) fn retries_unknown(self) -> Self {
        self.change_policy(|policy| policy.outcome.on_unknown = OnUnknown::Retry)
    }

    pub(crate) fn waits(self, timeout: u64) -> Self {
        self.change_policy(|policy| {
            policy.duplicates.in_flight = InFlight::Wait;
            policy.duplicates.wait_timeout = Duration::from_millis(timeout);
        })
    }

    pub(crate) fn detached(self) -> Self {
        self.change_policy(|policy| {
            policy.execution.mode = ExecutionMode::Detached;
            policy.execution.cluster = Some("service".to_owned());
        })
    }

    pub(crate) fn workers(self, workers: u8) -> Self {
        Self { workers, ..self }
    }

    pub(crate) fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    pub(crate) fn deeds(self, deeds: &[Conduct]) -> Self {
        Self { deeds: deeds.to_vec(), ..self }
    }

    pub(crate) fn mutated(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    /// One more request: `body` under the first key.
    pub(crate) fn request(self, client: u8, body: u8, worker: Option<Place>) -> Self {
        self.attempt(client, 0, 0, body, worker)
    }

    pub(crate) fn attempt(mut self, client: u8, key: u8, caller: u8, body: u8, worker: Option<Place>) -> Self {
        let headers = Headers::from_iter([
            (":method", "POST"),
            (":authority", "shop"),
            (":path", "/payments"),
            ("authorization", &format!("Bearer {caller}")),
            ("content-type", "text/plain"),
            ("idempotency-key", &format!("key-{key}")),
        ]);
        self.attempts.push(Attempt { client, key, caller, body, worker, headers: Arc::new(headers) });
        self
    }

    /// Room for one record: of one client's two keys, each takes the other's place. Another client asks for the first
    /// one, twice, at another worker.
    pub(crate) fn evicted_and_run_again(self) -> Self {
        let scenario = self.in_table(SharedDataConfig {
            max_entries: 1,
            max_bytes: 1 << 20,
            on_full: OnFull::EvictOldest,
            keep_at_least: Duration::ZERO,
        });
        let scenario = Self { stops_at_totals: false, ..scenario };
        let [here, there] = [0, 1].map(|worker| Some(Place { envoy: 0, worker }));
        let scenario = [0, 1, 0].into_iter().fold(scenario, |scenario, key| scenario.attempt(0, key, 0, 0, here));
        scenario.attempt(1, 0, 0, 0, there).attempt(1, 0, 0, 0, there)
    }

    /// A token of its own for each attempt, however things are ordered.
    pub(crate) fn owner(attempt: usize) -> Owner {
        Owner::new(0x0db8 << 64 | (attempt as u128 + 1))
    }

    /// Whose token it is.
    pub(crate) fn attempt_of(owner: [u8; 16]) -> usize {
        let [.., a, b] = owner;
        usize::from(u16::from_be_bytes([a, b])) - 1
    }

    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.store, StoreKind::Remote { .. })
    }

    pub(crate) fn is_on_dynamodb(&self) -> bool {
        matches!(self.server, ServerKind::DynamoDb { .. }) && self.is_remote()
    }

    /// How much longer than it is to be the time is at most that is kept of a record, in milliseconds.
    pub(crate) fn rounding(&self) -> u64 {
        if self.is_on_dynamodb() { 1_000 } else { 0 }
    }

    /// By how much later a lease or a record may be over, by a clock that nobody has found to be wrong: who wrote it may be
    /// dead.
    pub(crate) fn late(&self) -> u64 {
        let most = self.skews.iter().max().copied().unwrap_or_default();
        if self.is_on_dynamodb() { most + LEASE_MARGIN + 1_000 } else { 0 }
    }

    /// The remote store, if there is one.
    pub(crate) fn remote_store(&self) -> Arc<dyn RemoteStore + Send + Sync> {
        let timeout = match self.store {
            StoreKind::Remote { timeout } => Duration::from_millis(timeout),
            StoreKind::SharedData(_) => Duration::from_millis(500),
        };
        let (connections, cluster) = (self.connections, "store".to_owned());
        match self.server {
            ServerKind::Redis => {
                Arc::new(RedisStore::new(RedisConfig { timeout, connections, ..RedisConfig::new(cluster) }))
            }
            ServerKind::Postgres => {
                let config = PostgresConfig::new(cluster, "db".to_owned(), "app".to_owned());
                Arc::new(PostgresStore::new(PostgresConfig { timeout, connections, ..config }))
            }
            ServerKind::DynamoDb { .. } => {
                let config = DynamoDbConfig::new(cluster, "idemgate".to_owned());
                Arc::new(DynamoDbStore::new(DynamoDbConfig { timeout, ..config }))
            }
        }
    }

    pub(crate) fn in_table(self, limits: SharedDataConfig) -> Self {
        Self { store: StoreKind::SharedData(limits), ..self }
    }

    /// The same, and what ran is not evicted for this number of milliseconds.
    pub(crate) fn keeping(mut self, time: u64) -> Self {
        if let StoreKind::SharedData(limits) = &mut self.store {
            limits.keep_at_least = Duration::from_millis(time);
        }
        self
    }

    /// How long a record of what ran is not given up.
    pub(crate) fn keep_at_least(&self) -> u64 {
        match self.store {
            StoreKind::SharedData(limits) => millis(limits.keep_at_least),
            StoreKind::Remote { .. } => 0,
        }
    }

    pub(crate) fn may_evict(&self) -> bool {
        matches!(self.store, StoreKind::SharedData(SharedDataConfig { on_full: OnFull::EvictOldest, .. }))
    }

    /// Whether how a world ends is the question: with most rules taken out it is the rule itself whose absence is to be
    /// found.
    pub(crate) fn is_to_end_well(&self) -> bool {
        matches!(self.mutation, None | Some(Mutation::RestForgotten | Mutation::NeverWoken | Mutation::CertainLoss))
    }

    /// Whether who waits is always woken, and never has to wait for a moment: as long as no worker dies or stands still,
    /// and no other Envoy runs the operation.
    pub(crate) fn wakes_all(&self) -> bool {
        let Faults { deaths, restarts, stalls, .. } = self.faults;
        !self.is_remote() && deaths == 0 && restarts == 0 && stalls == 0
    }

    /// Whether no claim stays that nobody uses: as long as no worker dies, Redis keeps what it has, and nothing is on its way
    /// for longer than a lease, as in the simulation, for which the mark of a release lives. And as long as nobody else asks:
    /// a release of another owner takes the place of the mark, and a late copy of a claim then meets none.
    pub(crate) fn leaves_no_claim_behind(&self) -> bool {
        let Faults { deaths, restarts, flushes, .. } = self.faults;
        let is_alone = self.attempts.len() == 1;
        self.tells_states_apart && self.is_remote() && is_alone && deaths == 0 && restarts == 0 && flushes == 0
    }

    pub(crate) fn bypasses(&self) -> bool {
        self.policy.on_store_error == OnStoreError::Bypass
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.policy.execution.mode == ExecutionMode::Detached
    }

    /// What is left out of the scripts of Redis.
    pub(crate) fn omissions(&self) -> Omissions {
        Omissions {
            absence: self.mutation == Some(Mutation::BlindSet),
            ownership: self.mutation == Some(Mutation::NoFencing),
            ownership_of_releases: self.mutation == Some(Mutation::ReleaseByAnyone),
            marks: self.mutation == Some(Mutation::NoMark),
            judgement: self.mutation == Some(Mutation::NoJudgement),
            looks_of_marks: self.mutation == Some(Mutation::MarkAsRecord),
        }
    }
}

impl Terms for Scenario {
    fn lease(&self) -> u64 {
        millis(self.policy.lease)
    }

    fn ttl(&self) -> u64 {
        millis(self.policy.ttl)
    }

    fn retries_unknown(&self) -> bool {
        self.policy.outcome.on_unknown == OnUnknown::Retry
    }

    fn early(&self) -> u64 {
        // As long as the clocks differ by no more than this, nobody minds; and a `Date` has whole seconds.
        if self.is_on_dynamodb() { (self.lease() / 6).max(2_000) + 1_000 } else { 0 }
    }

    fn asked(&self, attempt: AttemptId) -> Asked {
        let Attempt { caller, key, body, .. } = self.attempts[attempt];
        Asked { caller, key, body }
    }
}

/// How much later a lease in DynamoDB is over to others than to its owner, in milliseconds.
const LEASE_MARGIN: u64 = 2_000;

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}
