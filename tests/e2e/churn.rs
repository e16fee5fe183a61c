//! Clients that come, wait, leave and retry at random, before an upstream that succeeds, fails, resets and stalls at
//! random; what may have happened at the end (design, invariants 1 to 6), and what it costs in memory. `tests/chaos/` does
//! the same for a moment each time, in more ways.
//!
//! `IDEMGATE_SEED` repeats a run's decisions, `IDEMGATE_CHURN_SECONDS` makes it longer. What the machine makes of them
//! differs from run to run, so that a seed that has failed may have to be run more than once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::bench::{
    AnnouncedSeed, Answer, Bench, Gate, Lot, Mode, Protocol, Request, Response, Setup, assert_problem,
    assert_replay_of, from_environment, patiently,
};

/// How many clients act at the same time, and on how many keys of the moment.
const CLIENTS: u64 = 48;
const KEYS_AT_A_TIME: u64 = 32;
/// How long a key is used for.
const KEY_LIFE: Duration = Duration::from_millis(1_000);
/// More executions of one key than it can come to; the last answers are all of success.
const ANSWERS: u64 = 8;
/// What a detached call may take: far longer than an answer that is not to stall, because such an answer
/// must not be lost.
const DETACHED_TIMEOUT: &str = "1s";
/// When a machine stands still for this long, an answer that was given in time can come too late.
const STANDSTILL: Duration = Duration::from_millis(300);
/// What Envoy's resident memory may grow by after its first third, in bytes.
const GROWTH: u64 = 8 << 20;

#[tokio::test]
async fn whatever_clients_and_upstreams_do_each_key_executes_as_often_as_it_may() {
    let seed = from_environment("IDEMGATE_SEED", 0x1de3_9a7e);
    let duration = Duration::from_secs(from_environment("IDEMGATE_CHURN_SECONDS", 20));
    let announced = AnnouncedSeed { seed, test: "churn" };
    let mut configuration = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "700ms" } });
    if Mode::current() == Mode::Detached {
        // Inline it is the route's that counts.
        configuration["execution"] = json!({ "timeout": DETACHED_TIMEOUT });
    }
    let bench = Arc::new(Bench::start(Setup::new(&configuration).alone()).await);
    let end = Instant::now() + duration;

    let (mut keys, mut timely) = (Vec::new(), 0);
    let mut memory = Vec::new();
    let mut lot = Lot::new(seed);
    for turn in 0.. {
        if Instant::now() >= end {
            break;
        }
        let scenes: Vec<_> =
            (0..KEYS_AT_A_TIME).map(|number| Scene::new(turn * KEYS_AT_A_TIME + number, &mut lot)).collect();
        let scenes: Arc<[Scene]> = scenes.into();
        let standstill = longest_standstill_during(play(&bench, &scenes, &mut lot)).await;
        let is_timely = standstill < STANDSTILL;
        timely += u64::from(is_timely);
        keys.extend(scenes.iter().cloned().map(|scene| (scene, is_timely)));
        memory.push(bench.envoy.resident_bytes());
    }
    patiently("the end of every call", async {
        for gauge in ["wasmcustom.idemgate.waiting", "wasmcustom.idemgate.detached"] {
            bench.envoy.reaches_stat(gauge, 0).await;
        }
        for gauge in ["http.ingress.downstream_rq_active", "cluster.upstream.upstream_rq_active"] {
            bench.envoy.reaches_stat(gauge, 0).await;
        }
    })
    .await;

    let (mut stored, mut unknown) = (0, 0);
    for (scene, is_timely) in &keys {
        match scene.ends(&bench, *is_timely).await {
            End::Stored => stored += 1,
            End::Unknown => unknown += 1,
        }
    }
    assert_every_claim_has_ended(&bench).await;
    let executions = bench.upstream.executions();
    println!(
        "{:?}, seed {seed}: {} keys, {executions} executions; {stored} keys stored, {unknown} unknown; \
         {timely} of {} turns without a standstill; resident memory {memory:?}",
        Mode::current(),
        keys.len(),
        memory.len()
    );
    assert!(stored > 0 && unknown > 0 && executions > keys.len(), "not much of a churn");
    assert!(timely > 0, "the machine stood still in every turn: no answer could be called lost");
    let (early, late) = (memory[memory.len() / 3], memory[memory.len() - 1]);
    assert!(late.saturating_sub(early) < GROWTH, "Envoy grew from {early} to {late} bytes");
    drop(announced);
}

/// Runs `future`, and says how long this process was kept from running meanwhile, at the longest.
///
/// What stops the test stops Envoy and the upstream, too: they share the machine.
async fn longest_standstill_during(future: impl Future<Output = ()>) -> Duration {
    const STEP: Duration = Duration::from_millis(5);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    tokio::pin!(future);
    loop {
        let is_over = tokio::select! {
            () = &mut future => true,
            () = sleep(STEP) => false,
        };
        longest = longest.max(last.elapsed().saturating_sub(STEP));
        last = Instant::now();
        if is_over {
            return longest;
        }
    }
}

/// Lets clients loose on these keys for a while, and has the upstream answer them.
async fn play(bench: &Arc<Bench>, scenes: &Arc<[Scene]>, lot: &mut Lot) {
    let end = Instant::now() + KEY_LIFE;
    let mut tasks = Vec::new();
    for scene in scenes.iter() {
        bench.upstream.script(&scene.path, scene.answers());
        tasks.push(tokio::spawn(answer(Arc::clone(bench), scene.clone(), lot.branch(), end)));
    }
    for _ in 0..CLIENTS {
        tasks.push(tokio::spawn(act(Arc::clone(bench), Arc::clone(scenes), lot.branch(), end)));
    }
    for task in tasks {
        // A task that fails fails the test, and says which key it was about.
        task.await.unwrap();
    }
}

/// A client: sends requests for random keys, and waits for the answer or leaves.
async fn act(bench: Arc<Bench>, scenes: Arc<[Scene]>, mut lot: Lot, end: Instant) {
    while Instant::now() < end {
        let scene = &scenes[lot.below(KEYS_AT_A_TIME) as usize];
        let protocol = Protocol::BOTH[lot.below(2) as usize];
        let client = bench.send_aside(protocol, &scene.request());
        if lot.below(100) < 30 {
            sleep(Duration::from_millis(lot.below(150))).await;
            client.abort();
        } else {
            scene.check(&client.await.unwrap());
        }
        sleep(Duration::from_millis(lot.below(30))).await;
    }
}

/// The upstream's part of a key: each execution ends when its time has come, and not before it was alone.
async fn answer(bench: Arc<Bench>, scene: Scene, mut lot: Lot, end: Instant) {
    for (number, (act, gate)) in scene.acts.iter().enumerate() {
        while bench.upstream.executions_of(&scene.key) <= number {
            if Instant::now() >= end {
                // Whatever still comes is answered at once.
                for (_, gate) in &*scene.acts {
                    gate.open();
                }
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
        let too_long = if Mode::current() == Mode::Detached { 1_150 } else { 450 };
        let time = if *act == Act::Stall { too_long + lot.below(200) } else { lot.below(120) };
        sleep(Duration::from_millis(time)).await;
        let executions = bench.upstream.executions_of(&scene.key);
        assert_eq!(executions, number + 1, "{} runs again while execution {number} is under way: {scene:?}", scene.key);
        gate.open();
    }
}

/// One key, and what the upstream makes of each execution.
#[derive(Clone, Debug)]
struct Scene {
    key: String,
    path: String,
    acts: Arc<[(Act, Gate)]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    /// An answer that ends in the middle.
    Cut,
    /// 502, after which nobody knows.
    Gateway,
    HangUp,
    /// 503, which says that nothing was executed.
    Refuse,
    /// An answer that comes too late for Envoy.
    Stall,
    Succeed,
}

enum End {
    Stored,
    Unknown,
}

impl Scene {
    fn new(number: u64, lot: &mut Lot) -> Self {
        let mut acts: Vec<_> = (1..ANSWERS).map(|_| (Act::draw(lot), Gate::closed())).collect();
        acts.push((Act::Succeed, Gate::closed()));
        let key = format!("churn-{number}");
        Self { path: format!("/impatient/{key}"), key, acts: acts.into() }
    }

    fn request(&self) -> Request {
        Request::post(&self.path).key(self.key.as_str())
    }

    fn answers(&self) -> Vec<Answer> {
        let answers = self.acts.iter().enumerate().map(|(number, (act, gate))| {
            let body = self.body(number);
            match act {
                Act::Cut => Answer::new(201).header("content-length", "1000").chunk(body).then_cut(),
                Act::Gateway => Answer::new(502).json(&body),
                Act::HangUp => Answer::hang_up(),
                Act::Refuse => Answer::new(503).json(&body),
                Act::Stall | Act::Succeed => Answer::new(201).json(&body),
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
            // Inline, the route's timeout can also fall between an answer's headers and its body.
            (201, "executed") if !response.complete => {
                assert!(self.has(Act::Cut) || Mode::current() == Mode::Inline, "{response:?}");
            }
            (201, "executed" | "replayed") => {
                let said = String::from_utf8_lossy(&response.body).into_owned();
                let execution = self.acts.iter().enumerate().find(|(number, _)| self.body(*number) == said);
                let (_, (act, _)) = execution.unwrap_or_else(|| panic!("no answer of the upstream: {response:?}"));
                assert!([Act::Stall, Act::Succeed].contains(act), "an answer of another kind: {response:?}");
            }
            (409, "in-flight") => {
                assert_problem(response, 409, "request-in-flight");
            }
            (409, "unknown") => {
                assert_problem(response, 409, "outcome-unknown");
            }
            (503, "executed") => assert!(self.has(Act::Refuse), "{response:?}"),
            // Lost on the way, whichever way it was lost.
            (502..=504, "unknown") => {}
            _ => panic!("no answer that the contract has, to {}: {response:?}", self.key),
        }
    }

    fn has(&self, wanted: Act) -> bool {
        self.acts.iter().any(|(act, _)| *act == wanted)
    }

    /// Fails unless the executions that the upstream has seen, and what a retry gets, agree with each other.
    async fn ends(&self, bench: &Bench, is_timely: bool) -> End {
        let last = bench.upstream.executions_of(&self.key);
        for (act, _) in self.acts.iter().take(last.saturating_sub(1)) {
            assert_eq!(*act, Act::Refuse, "{} was executed again after something else: {last} of {self:?}", self.key);
        }
        let retry = bench.send_once_settled(&self.request()).await;
        let now = bench.upstream.executions_of(&self.key);
        if retry.status == 409 {
            assert_problem(&retry, 409, "outcome-unknown");
            assert_eq!(now, last, "executions of {} by a retry that was refused", self.key);
            let act = last.checked_sub(1).map(|index| self.acts[index].0);
            // Detached, an answer that came in time is never lost, even if no client was there to get it.
            let in_time = matches!(act, Some(Act::Succeed | Act::Refuse)) && is_timely;
            assert!(
                !in_time || Mode::current() == Mode::Inline,
                "the answer to {} is lost: {last} of {self:?}",
                self.key
            );
            return End::Unknown;
        }
        self.check(&retry);
        if retry.text("idempotency-status") == "replayed" {
            assert_eq!(now, last, "executions of {} by a replay", self.key);
            assert_eq!(retry.body, self.body(last - 1).as_bytes(), "the answer of another execution: {self:?}");
            assert_replay_of(&retry, &bench.send(&self.request()).await);
            End::Stored
        } else {
            assert_eq!(now, last + 1, "executions of {} by one that says it was executed", self.key);
            let refused = last.checked_sub(1).is_none_or(|index| self.acts[index].0 == Act::Refuse);
            assert!(refused, "{} was executed once more after something else: {last} of {self:?}", self.key);
            match self.acts[last].0 {
                Act::Stall | Act::Succeed => End::Stored,
                _ => End::Unknown,
            }
        }
    }
}

impl Act {
    fn draw(lot: &mut Lot) -> Self {
        match lot.below(100) {
            0..35 => Self::Succeed,
            35..75 => Self::Refuse,
            75..80 => Self::Gateway,
            80..88 => Self::HangUp,
            88..92 => Self::Cut,
            _ => Self::Stall,
        }
    }
}

/// Every execution that was let through has come to an end, each to one, and the store knows of it.
async fn assert_every_claim_has_ended(bench: &Bench) {
    let stats = bench.envoy.stats_like("wasmcustom.idemgate.").await;
    let count = |name: &str| -> u64 {
        let start = format!("wasmcustom.idemgate.{name}: ");
        let line = stats.lines().find_map(|line| line.strip_prefix(start.as_str()));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    let ended: u64 = ["stored", "released", "unknown"].iter().map(|end| count(&format!("outcomes.{end}"))).sum();
    assert_eq!(ended, count("requests.executed"), "claims that ended, and claims that were granted\n{stats}");
    for never in ["outcomes.fenced", "outcomes.tombstoned", "store.errors", "store.evicted", "requests.bypassed"] {
        assert_eq!(count(never), 0, "{never}\n{stats}");
    }
    assert!(count("requests.replayed") > 0 && count("outcomes.released") > 0, "not much of a churn\n{stats}");
}

crate::bench::also_detached! {
    whatever_clients_and_upstreams_do_each_key_executes_as_often_as_it_may,
}
