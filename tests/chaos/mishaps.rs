//! How each fault is made to happen, and to end.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    bench::{Envoy, Lot, PATIENCE, Protocol, Request, Setup, try_send},
    clients::draw,
    fault::Fault,
    plan::{Deployment, Mishap, PLAY},
    proof::history::Word,
    record::{Fact, Record},
    service::Intent,
    stage::{Attempt, Stage, is_silent},
    stores::{Sabotage, Server},
    wire::{State, Wire},
};

/// The Envoys, and those that were killed.
#[derive(Debug)]
pub(crate) struct Envoys {
    pub(crate) standing: Vec<Envoy>,
    pub(crate) fallen: Vec<Envoy>,
    pub(crate) setup: Setup,
    pub(crate) deployment: Deployment,
    pub(crate) stage: Arc<Stage>,
}

impl Envoys {
    /// Lets one mishap after the other befall them, and gives them back whole.
    pub(crate) async fn suffer(mut self, mishaps: Vec<Mishap>) -> Self {
        let beginning = Instant::now();
        for Mishap { calm, fault, time, draw } in mishaps {
            sleep(calm).await;
            let number = draw as usize % self.standing.len();
            self.stage.record.note(Fact::Begins(fault));
            let is_noticed = match fault {
                Fault::EnvoyKilled => self.kill(number, time).await,
                Fault::EnvoyPaused => self.pause(number, time).await,
                Fault::VmPanicked => self.panic(number, Lot::new(draw), beginning).await,
                Fault::VmStalled => self.stall(number, time).await,
                _ => panic!("{fault} does not befall an Envoy"),
            };
            self.stage.record.note(Fact::Ends(fault));
            self.stage.record.count(fault, is_noticed);
        }
        self
    }

    pub(crate) fn publish(&self) {
        self.stage.move_to(self.standing.iter().map(Envoy::address).collect());
    }

    async fn kill(&mut self, number: usize, time: Duration) -> bool {
        let record = Arc::clone(&self.stage.record);
        let since = record.now();
        self.standing[number].kill();
        if self.deployment.loses_records_with(Fault::EnvoyKilled) {
            record.note(Fact::RecordsLost);
        }
        sleep(time).await;
        self.fallen.push(self.standing[number].replace(&self.setup).await);
        self.publish();
        record.has(since, |fact| matches!(fact, Fact::Cut(_)))
    }

    async fn pause(&self, number: usize, time: Duration) -> bool {
        self.standing[number].pause();
        let is_silent = is_silent(self.standing[number].address(), time).await;
        self.standing[number].resume();
        is_silent
    }

    /// A request panics at one of the moments at which it can.
    async fn panic(&self, number: usize, mut lot: Lot, beginning: Instant) -> bool {
        let panics = || self.standing[number].log().matches("asked to by a test").count();
        let before = panics();
        self.stage
            .make(Attempt {
                asked: draw(beginning, &mut lot),
                envoy: number,
                protocol: lot.of(&Protocol::BOTH),
                intent: Intent::AT_ONCE,
                departure: None,
                crash: Some(lot.of(&["request-headers", "response-headers", "log"])),
            })
            .await;
        sleep(Duration::from_millis(100)).await;
        panics() > before
    }

    /// A worker stands still until another one ends that.
    async fn stall(&self, number: usize, time: Duration) -> bool {
        let address = self.stage.address(number);
        let asks = |what| {
            let request = Request::get("/").header("x-crash-test", what);
            async move { try_send(address, Protocol::Http1, &request).await }
        };
        let stalled = tokio::spawn(asks("stall"));
        sleep(time).await;
        let stood_still = !stalled.is_finished();
        let deadline = Instant::now() + PATIENCE;
        while !stalled.is_finished() {
            assert!(Instant::now() < deadline, "no worker is left to end the stall of another");
            // Half of the connections go to the one that stands still.
            let _ = timeout(Duration::from_millis(200), asks("resume")).await;
        }
        stood_still
    }
}

/// The store that is not in an Envoy, the way to it, and the machine.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) server: Option<Server>,
    pub(crate) wire: Option<Wire>,
    pub(crate) record: Arc<Record>,
}

impl Others {
    /// Lets one mishap after the other befall them, and gives them back whole.
    pub(crate) async fn suffer(mut self, mishaps: Vec<Mishap>) -> Self {
        for Mishap { calm, fault, time, draw } in mishaps {
            sleep(calm).await;
            self.record.note(Fact::Begins(fault));
            let is_noticed = match fault {
                Fault::Starved => self.starve(time).await,
                Fault::StoreSlow => {
                    let delay = [150, 80, 400][draw as usize % 3];
                    self.disturb(State::Slow(Duration::from_millis(delay)), time).await
                }
                Fault::RepliesLost => self.disturb(State::LosesReplies, time).await,
                _ => self.fail(fault, time, draw).await,
            };
            self.record.note(Fact::Ends(fault));
            self.record.count(fault, is_noticed);
        }
        self
    }

    /// The store breaks the rules while clients are let loose, and nothing else fails.
    pub(crate) async fn break_rules(self, sabotage: Sabotage) -> Self {
        let server = self.server.as_ref().expect("there is nobody else who could");
        let _ = timeout(PLAY, server.break_rules(sabotage)).await;
        self
    }

    /// Threads that do nothing, one more of them than there are cores.
    async fn starve(&self, time: Duration) -> bool {
        let (since, is_over) = (self.record.now(), Arc::new(AtomicBool::new(false)));
        let turns = Arc::new(AtomicU64::new(0));
        let threads = thread::available_parallelism().map_or(2, usize::from) + 1;
        for _ in 0..threads {
            let (is_over, turns) = (Arc::clone(&is_over), Arc::clone(&turns));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    (0..10_000).for_each(|_| hint::spin_loop());
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        sleep(time).await;
        is_over.store(true, Ordering::Relaxed);
        let is_answered = self.record.has(since, |fact| matches!(fact, Fact::Heard(..)));
        turns.load(Ordering::Relaxed) > 0 && is_answered
    }

    async fn disturb(&self, state: State, time: Duration) -> bool {
        let wire = self.wire.as_ref().expect("a plan without a wire has no such fault");
        let before = wire.disturbed();
        wire.becomes(state);
        sleep(time).await;
        // A busy machine may not have sent anything meanwhile.
        let deadline = Instant::now() + PLAY / 2;
        while wire.disturbed() == before && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        wire.becomes(State::Clear);
        wire.disturbed() > before
    }

    async fn fail(&mut self, fault: Fault, time: Duration, draw: u64) -> bool {
        let since = self.record.now();
        let server = self.server.as_mut().expect("a plan without a server has no such fault");
        let has_shown = server.fail(fault, time, draw, &self.record).await;
        let is_refusal = |fact: &Fact| {
            let Fact::Heard(_, told) = fact else { return false };
            told.word == Word::Rejected && told.body.windows(17).any(|part| part == b"store-unavailable")
        };
        has_shown || self.record.has(since, is_refusal)
    }
}
