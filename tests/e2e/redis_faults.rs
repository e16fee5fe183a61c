//! Two Envoys on one Redis, while Redis is killed, paused and restarted, Envoys are killed, clients leave and the
//! upstream fails, all at random; and what may have happened at the end (contract, sections 4 and 6).
//!
//! `IDEMGATE_SEED` repeats a run's decisions, `IDEMGATE_FAULT_SECONDS` makes it longer. What the machine makes of them
//! differs from run to run, so that a seed that has failed may have to be run more than once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::bench::{
    AnnouncedSeed, Answer, Envoy, Fleet, Gate, Lot, Protocol, RedisServer, Request, Response, Setup, Transport,
    Upstream, assert_problem, assert_replay_of, from_environment, patiently, try_send,
};

/// How many clients act at the same time, and on how many keys of the moment.
const CLIENTS: u64 = 24;
const KEYS_AT_A_TIME: u64 = 24;
/// How long a key is used for: longer than a lease.
const KEY_LIFE: Duration = Duration::from_millis(3_000);
const LEASE: Duration = Duration::from_secs(2);
/// More executions of one key than it can come to; the last answers are all of success.
const ANSWERS: usize = 8;

#[tokio::test]
async fn whatever_fails_each_key_executes_as_often_as_it_may_over_direct_connections() {
    fail_at_random(Transport::Direct).await;
}

#[tokio::test]
async fn whatever_fails_each_key_executes_as_often_as_it_may_over_pooled_connections() {
    fail_at_random(Transport::Pooled).await;
}

async fn fail_at_random(transport: Transport) {
    let seed = from_environment("IDEMGATE_SEED", 0x1de3_9a7e);
    let duration = Duration::from_secs(from_environment("IDEMGATE_FAULT_SECONDS", 60));
    let announced = AnnouncedSeed { seed, test: "redis_faults" };
    let mut lot = Lot::new(seed);
    let configuration = json!({
        "lease": format!("{}s", LEASE.as_secs()),
        "duplicates": { "in_flight": "wait", "wait_timeout": "700ms" },
        "store": { "redis": { "timeout": "500ms" } },
    });
    let setup = Setup::redis(transport, &configuration);
    // Nothing that it has acknowledged is lost when it dies.
    let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let Fleet { envoys, upstream } = Fleet::start(&setup, vec![redis.address()]).await;
    let stage = Arc::new(Stage {
        addresses: Mutex::new(envoys.each_ref().map(Envoy::address)),
        answers: Mutex::default(),
        upstream,
    });

    let end = Instant::now() + duration;
    let faults = Faults { redis, envoys, setup, stage: Arc::clone(&stage), counts: BTreeMap::new() };
    let faults = tokio::spawn(faults.happen_until(end, lot.branch()));
    let mut keys = Vec::new();
    for turn in 0.. {
        if Instant::now() >= end {
            break;
        }
        let scenes: Vec<_> =
            (0..KEYS_AT_A_TIME).map(|number| Scene::new(turn * KEYS_AT_A_TIME + number, &mut lot)).collect();
        let scenes: Arc<[Scene]> = scenes.into();
        play(&stage, &scenes, &mut lot).await;
        keys.extend(scenes.iter().cloned());
    }
    let Faults { envoys, counts, redis, .. } = faults.await.unwrap();

    for envoy in &envoys {
        for gauge in ["wasmcustom.idemgate.waiting", "wasmcustom.idemgate.detached"] {
            envoy.reaches_stat(gauge, 0).await;
        }
        for gauge in ["http.ingress.downstream_rq_active", "cluster.upstream.upstream_rq_active"] {
            envoy.reaches_stat(gauge, 0).await;
        }
    }
    // Every owner has come to an end. Those that could not say so are found out by their leases.
    sleep(LEASE + Duration::from_millis(500)).await;
    let (mut stored, mut unknown) = (0, 0);
    for (scene, envoy) in keys.iter().zip(envoys.iter().cycle()) {
        match scene.ends(envoy, &stage.upstream).await {
            End::Stored => stored += 1,
            End::Unknown => unknown += 1,
        }
    }
    let executions = stage.upstream.executions();
    println!(
        "{transport:?}, seed {seed}: {counts:?}; {} keys, {executions} executions; {stored} keys stored, {unknown} \
         unknown; answers {:?}",
        keys.len(),
        stage.answers.lock().unwrap()
    );
    assert!(stored > 0 && unknown > 0 && executions > keys.len() / 2, "not much of a test");
    drop((announced, redis));
}

/// What clients and the upstream act on.
#[derive(Debug)]
struct Stage {
    addresses: Mutex<[SocketAddr; 2]>,
    /// How often each kind of answer was given.
    answers: Mutex<BTreeMap<String, u64>>,
    upstream: Upstream,
}

impl Stage {
    fn count(&self, response: Option<&Response>) {
        let kind = match response {
            Some(response) => format!("{} {}", response.status, response.text("idempotency-status")),
            None => "none".to_owned(),
        };
        *self.answers.lock().unwrap().entry(kind).or_default() += 1;
    }
}

/// What fails.
#[derive(Debug)]
struct Faults {
    redis: RedisServer,
    envoys: [Envoy; 2],
    setup: Setup,
    stage: Arc<Stage>,
    counts: BTreeMap<Fault, u64>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fault {
    EnvoyKilled,
    RedisKilled,
    /// By `CLIENT PAUSE`: connections are served, commands are not.
    RedisPaused,
    /// By SIGSTOP.
    RedisStopped,
}

impl Faults {
    const ALL: [Fault; 4] = [Fault::EnvoyKilled, Fault::RedisKilled, Fault::RedisPaused, Fault::RedisStopped];

    /// Lets one after the other happen, and gives everything back whole.
    async fn happen_until(mut self, end: Instant, mut lot: Lot) -> Self {
        let mut to_come = Vec::new();
        while Instant::now() < end {
            sleep(Duration::from_millis(300 + lot.below(900))).await;
            if to_come.is_empty() {
                to_come = Self::ALL.to_vec();
            }
            let fault = to_come.remove(lot.below(to_come.len() as u64) as usize);
            self.happens(fault, &mut lot).await;
            *self.counts.entry(fault).or_default() += 1;
        }
        self
    }

    async fn happens(&mut self, fault: Fault, lot: &mut Lot) {
        // Some of them outlast a lease.
        let time = Duration::from_millis(if lot.below(4) == 0 { 2_500 } else { 50 + lot.below(900) });
        match fault {
            Fault::EnvoyKilled => {
                let number = lot.below(2) as usize;
                self.envoys[number].kill();
                sleep(time / 4).await;
                self.envoys[number].replace(&self.setup).await;
                self.stage.addresses.lock().unwrap()[number] = self.envoys[number].address();
            }
            Fault::RedisKilled => {
                self.redis.kill();
                sleep(time).await;
                self.redis.restart().await;
            }
            Fault::RedisPaused => {
                self.redis.must(&["CLIENT", "PAUSE", &time.as_millis().to_string(), "ALL"]).await;
                sleep(time).await;
            }
            Fault::RedisStopped => {
                self.redis.pause();
                sleep(time).await;
                self.redis.resume();
            }
        }
    }
}

/// Lets clients loose on these keys for a while, and has the upstream answer them.
async fn play(stage: &Arc<Stage>, scenes: &Arc<[Scene]>, lot: &mut Lot) {
    let end = Instant::now() + KEY_LIFE;
    let mut tasks = Vec::new();
    for scene in scenes.iter() {
        stage.upstream.script(&scene.path(), scene.answers());
        tasks.push(tokio::spawn(answer(Arc::clone(stage), scene.clone(), lot.branch(), end)));
    }
    for _ in 0..CLIENTS {
        tasks.push(tokio::spawn(act(Arc::clone(stage), Arc::clone(scenes), lot.branch(), end)));
    }
    for task in tasks {
        // A task that fails fails the test, and says which key it was about.
        task.await.unwrap();
    }
}

/// A client: sends requests for random keys to either Envoy, and waits for the answer or leaves.
async fn act(stage: Arc<Stage>, scenes: Arc<[Scene]>, mut lot: Lot, end: Instant) {
    while Instant::now() < end {
        let scene = &scenes[lot.below(KEYS_AT_A_TIME) as usize];
        let address = stage.addresses.lock().unwrap()[lot.below(2) as usize];
        let (protocol, request) = (Protocol::BOTH[lot.below(2) as usize], scene.request());
        let client = tokio::spawn(async move { try_send(address, protocol, &request).await });
        if lot.below(100) < 20 {
            sleep(Duration::from_millis(lot.below(150))).await;
            client.abort();
        } else {
            let response = client.await.unwrap();
            stage.count(response.as_ref());
            if let Some(response) = &response {
                scene.check(response);
            }
        }
        sleep(Duration::from_millis(lot.below(60))).await;
    }
}

/// The upstream's part of a key: each execution ends when its time has come, and not before it was alone.
async fn answer(stage: Arc<Stage>, scene: Scene, mut lot: Lot, end: Instant) {
    for (number, (_, gate)) in scene.acts.iter().enumerate() {
        while stage.upstream.executions_of(&scene.key) <= number {
            if Instant::now() >= end {
                // Whatever still comes is answered at once.
                for (_, gate) in &*scene.acts {
                    gate.open();
                }
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        // Some go on for longer than a lease, while Redis fails and Envoys die.
        let time = if lot.below(10) == 0 { 2_300 } else { lot.below(150) };
        sleep(Duration::from_millis(time)).await;
        let executions = stage.upstream.executions_of(&scene.key);
        assert_eq!(executions, number + 1, "{} runs again while execution {number} is under way: {scene:?}", scene.key);
        gate.open();
    }
}

/// One key, and what the upstream makes of each execution.
#[derive(Clone, Debug)]
struct Scene {
    key: String,
    acts: Arc<[(Act, Gate)]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    HangUp,
    /// 503, which says that nothing was executed.
    Refuse,
    Succeed,
}

enum End {
    Stored,
    Unknown,
}

impl Scene {
    fn new(number: u64, lot: &mut Lot) -> Self {
        let draw = |lot: &mut Lot| match lot.below(100) {
            0..60 => Act::Succeed,
            60..92 => Act::Refuse,
            _ => Act::HangUp,
        };
        let mut acts: Vec<_> = (1..ANSWERS).map(|_| (draw(lot), Gate::closed())).collect();
        acts.push((Act::Succeed, Gate::closed()));
        Self { key: format!("faults-{number}"), acts: acts.into() }
    }

    fn path(&self) -> String {
        format!("/orders/{}", self.key)
    }

    fn request(&self) -> Request {
        Request::post(&self.path()).key(self.key.as_str())
    }

    fn answers(&self) -> Vec<Answer> {
        let answers = self.acts.iter().enumerate().map(|(number, (act, gate))| {
            match act {
                Act::HangUp => Answer::hang_up(),
                Act::Refuse => Answer::new(503).json(&self.body(number)),
                Act::Succeed => Answer::new(201).json(&self.body(number)),
            }
            .held_by(gate)
        });
        answers.collect()
    }

    fn body(&self, number: usize) -> String {
        format!("{{\"key\":\"{}\",\"execution\":{number}}}", self.key)
    }

    /// Fails if the contract has no such answer to a request for this key.
    #[track_caller]
    fn check(&self, response: &Response) {
        let word = response.text("idempotency-status");
        match (response.status, word.as_str()) {
            // The Envoy that answered was killed meanwhile.
            _ if !response.complete => {}
            (201, "executed" | "replayed") => {
                let execution = (0..ANSWERS).find(|number| self.body(*number).as_bytes() == response.body);
                let execution = execution.unwrap_or_else(|| panic!("no answer of the upstream: {response:?}"));
                assert_eq!(self.acts[execution].0, Act::Succeed, "an answer of another kind: {response:?}");
            }
            (409, "in-flight") => {
                assert_problem(response, 409, "request-in-flight");
            }
            (409, "unknown") => {
                assert_problem(response, 409, "outcome-unknown");
            }
            (503, "rejected") => {
                assert_problem(response, 503, "store-unavailable");
            }
            (503, "executed") => assert!(self.acts.iter().any(|(act, _)| *act == Act::Refuse), "{response:?}"),
            // Lost on the way, whichever way it was lost.
            (502..=504, "unknown") => {}
            _ => panic!("no answer that the contract has, to {}: {response:?}", self.key),
        }
    }

    /// Fails unless the executions that the upstream has seen, and what a retry gets, agree with each other.
    async fn ends(&self, envoy: &Envoy, upstream: &Upstream) -> End {
        let last = upstream.executions_of(&self.key);
        for (act, _) in self.acts.iter().take(last.saturating_sub(1)) {
            assert_eq!(*act, Act::Refuse, "{} was executed again after something else: {last} of {self:?}", self.key);
        }
        let retry = patiently("the answer to a retry", envoy.send(&self.request())).await;
        let now = upstream.executions_of(&self.key);
        let word = retry.text("idempotency-status");
        assert_ne!(word, "in-flight", "the claim of {} has outlived its lease: {retry:?}", self.key);
        self.check(&retry);
        match word.as_str() {
            "unknown" if retry.status == 409 => {
                // It need not have run at all: an Envoy may have died with nothing but the claim.
                assert_eq!(now, last, "executions of {} by a retry that was refused", self.key);
                End::Unknown
            }
            "replayed" => {
                assert_eq!(now, last, "executions of {} by a replay", self.key);
                assert_eq!(retry.body, self.body(last - 1).as_bytes(), "the answer of another execution: {self:?}");
                assert_replay_of(&retry, &envoy.send(&self.request()).await);
                End::Stored
            }
            "executed" | "unknown" => {
                assert_eq!(now, last + 1, "executions of {} by one that says it was executed", self.key);
                let refused = last.checked_sub(1).is_none_or(|index| self.acts[index].0 == Act::Refuse);
                assert!(refused, "{} was executed once more after something else: {last} of {self:?}", self.key);
                if self.acts[last].0 == Act::Succeed { End::Stored } else { End::Unknown }
            }
            _ => panic!("Redis and both Envoys are there, and {} is answered by {retry:?}", self.key),
        }
    }
}
