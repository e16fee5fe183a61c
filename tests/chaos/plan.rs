//! From a seed to a plan.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::{
    bench::{Lot, Setup, Transport},
    fault::Fault,
};

/// Everything about a round that its seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) deployment: Deployment,
    /// What befalls the Envoys, one after the other.
    pub(crate) of_envoys: Vec<Mishap>,
    /// What befalls the store and the machine, one after the other, at the same time.
    pub(crate) of_others: Vec<Mishap>,
    /// What clients draw their decisions from.
    pub(crate) clients: u64,
}

/// What is started.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Deployment {
    pub(crate) store: StoreKind,
    pub(crate) is_detached: bool,
    /// Whether a duplicate waits for the answer.
    pub(crate) waits: bool,
    pub(crate) retries_unknown: bool,
    pub(crate) envoys: usize,
    pub(crate) workers: u64,
    pub(crate) lease: Duration,
    /// Whether the module is the one that can be made to panic and to stand still.
    pub(crate) can_crash: bool,
    /// Whether only clients and the service misbehave, so that more can be promised.
    pub(crate) is_peaceful: bool,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum StoreKind {
    SharedData,
    Redis {
        is_pooled: bool,
        /// Whether a restart finds everything that was ever acknowledged.
        keeps_records: bool,
        /// Whether there is a wire to Redis that can be slow, and break.
        is_wired: bool,
    },
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mishap {
    /// How long nothing befalls them before.
    pub(crate) calm: Duration,
    pub(crate) fault: Fault,
    pub(crate) time: Duration,
    /// What decides on the rest: which Envoy, and how.
    pub(crate) draw: u64,
}

/// How long clients are let loose.
pub(crate) const PLAY: Duration = Duration::from_secs(5);

/// What the start of an Envoy may take, roughly.
const START: Duration = Duration::from_millis(1_200);

/// What an answer of the store may take.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// How many combinations there are of a store, a mode of execution, and a mode for duplicates: this number of seeds in
/// a row has each of them.
pub(crate) const COMBINATIONS: u64 = 12;

impl Plan {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut lot = Lot::new(seed);
        let deployment = Deployment::draw(seed, &mut lot);
        let (of_envoys, of_others) =
            Fault::ALL.into_iter().filter(|fault| deployment.can_have(*fault)).partition(|fault| {
                matches!(fault, Fault::EnvoyKilled | Fault::EnvoyPaused | Fault::VmPanicked | Fault::VmStalled)
            });
        let of_envoys = schedule(of_envoys, deployment, &mut lot);
        let mut of_others = schedule(of_others, deployment, &mut lot);
        of_others.splice(0..0, deployment.can_have(Fault::RedisSlow).then(|| slow_at_a_death(&of_envoys)).flatten());
        Self { seed, deployment, of_envoys, of_others, clients: lot.below(u64::MAX) }
    }
}

/// Redis is slow from shortly before the first Envoy is killed: some answers are there, and not yet recorded.
fn slow_at_a_death(of_envoys: &[Mishap]) -> Option<Mishap> {
    let killed = of_envoys.iter().position(|mishap| mishap.fault == Fault::EnvoyKilled)?;
    let before = of_envoys[..killed].iter().map(|mishap| mishap.calm + mishap.time).sum::<Duration>();
    let at = before + of_envoys[killed].calm;
    let (calm, time) = (at.saturating_sub(Duration::from_millis(1_000)), Duration::from_millis(1_200));
    Some(Mishap { calm, fault: Fault::RedisSlow, time, draw: 0 })
}

/// Each of these faults in an order drawn by lot, and again, until the time is over.
fn schedule(faults: Vec<Fault>, deployment: Deployment, lot: &mut Lot) -> Vec<Mishap> {
    let (mut mishaps, mut left, mut time) = (Vec::new(), Vec::new(), Duration::ZERO);
    if faults.is_empty() {
        return mishaps;
    }
    // Where little can happen it does not happen all the time.
    let calm = 1_800 / faults.len() as u64;
    let mut has_stalled = false;
    loop {
        if left.is_empty() {
            left.clone_from(&faults);
            // What was stopped once in a process cannot be stopped again (src/envoy/crash_test.rs).
            left.retain(|fault| *fault != Fault::VmStalled || !has_stalled);
        }
        let fault = left.remove(lot.below(left.len() as u64) as usize);
        has_stalled |= fault == Fault::VmStalled;
        let mishap = Mishap {
            calm: Duration::from_millis(calm / 2 + lot.below(calm)),
            fault,
            time: deployment.time_of(fault, lot),
            draw: lot.below(u64::MAX),
        };
        time += mishap.calm + mishap.time;
        if fault == Fault::EnvoyKilled {
            time += START;
        }
        if time > PLAY {
            return mishaps;
        }
        mishaps.push(mishap);
    }
}

impl Deployment {
    fn draw(seed: u64, lot: &mut Lot) -> Self {
        let combination = seed % COMBINATIONS;
        // Now this combination, now that one.
        let is_peaceful = seed % 5 == 3;
        let store = match combination % 3 {
            0 => StoreKind::SharedData,
            transport => {
                StoreKind::Redis { is_pooled: transport == 2, keeps_records: lot.chance(75), is_wired: lot.chance(75) }
            }
        };
        Self {
            store,
            is_detached: combination / 3 % 2 == 1,
            waits: combination / 6 == 1,
            retries_unknown: lot.chance(40),
            envoys: if store == StoreKind::SharedData { 1 } else { lot.of(&[1, 2, 2]) },
            workers: lot.of(&[1, 2, 2]),
            lease: Duration::from_millis(lot.of(&[1_000, 1_500])),
            can_crash: !is_peaceful && lot.chance(60),
            is_peaceful,
        }
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.store != StoreKind::SharedData
    }

    /// Whether what was recorded is lost with a process that is killed.
    pub(crate) fn loses_records_with(&self, fault: Fault) -> bool {
        match self.store {
            StoreKind::SharedData => fault == Fault::EnvoyKilled,
            StoreKind::Redis { keeps_records, .. } => fault == Fault::RedisKilled && !keeps_records,
        }
    }

    fn can_have(&self, fault: Fault) -> bool {
        match fault {
            _ if self.is_peaceful => false,
            Fault::EnvoyKilled | Fault::EnvoyPaused | Fault::Starved => true,
            Fault::VmPanicked => self.can_crash,
            // Another worker has to end it.
            Fault::VmStalled => self.can_crash && self.workers > 1,
            Fault::RedisKilled | Fault::RedisPaused | Fault::RedisFull => self.is_remote(),
            Fault::RedisSlow | Fault::RepliesLost => matches!(self.store, StoreKind::Redis { is_wired: true, .. }),
            // Clients decide on that by themselves.
            Fault::LeftUploading | Fault::LeftWaiting | Fault::LeftReading => false,
        }
    }

    /// How long a fault lasts; some outlast a lease.
    fn time_of(&self, fault: Fault, lot: &mut Lot) -> Duration {
        let long = self.lease + Duration::from_millis(400);
        let short = Duration::from_millis(100 + lot.below(700));
        match fault {
            Fault::VmPanicked => Duration::ZERO,
            Fault::VmStalled => long + Duration::from_millis(500),
            Fault::EnvoyPaused | Fault::RedisPaused if lot.chance(30) => long,
            Fault::EnvoyKilled => short / 3,
            _ => short,
        }
    }

    /// The Envoys of it.
    pub(crate) fn setup(&self) -> Setup {
        self.setup_with(self.configuration())
    }

    /// The filter's configuration, but for the store.
    pub(crate) fn configuration(&self) -> Value {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let mut configuration = json!({
            "lease": millis(self.lease),
            "outcome": { "on_unknown": if self.retries_unknown { "retry" } else { "block" } },
        });
        if self.waits {
            configuration["duplicates"] = json!({ "in_flight": "wait", "wait_timeout": "700ms" });
        }
        if self.is_detached {
            configuration["execution"] = json!({ "mode": "detached", "timeout": "2s" });
        }
        configuration
    }

    /// The Envoys of it, with another configuration.
    pub(crate) fn setup_with(&self, configuration: Value) -> Setup {
        let setup = match self.store {
            StoreKind::SharedData => Setup::new(&configuration),
            StoreKind::Redis { is_pooled: false, .. } => on_redis(Transport::Direct, configuration),
            StoreKind::Redis { is_pooled: true, .. } => on_redis(Transport::Pooled, configuration),
        };
        // Each fault is an Envoy's own, and nothing is to be left behind.
        let setup = setup.workers(self.workers).alone();
        if self.can_crash { setup.that_can_crash() } else { setup }
    }
}

/// The filter with its records in a Redis that has to answer in time.
pub(crate) fn on_redis(transport: Transport, mut configuration: Value) -> Setup {
    configuration["store"] = json!({ "redis": { "timeout": format!("{}ms", STORE_TIMEOUT.as_millis()) } });
    Setup::redis(transport, &configuration)
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CHAOS_SEED={}: {}", self.seed, self.deployment)?;
        for mishaps in [&self.of_envoys, &self.of_others] {
            let mut separator = ";";
            for Mishap { calm, fault, time, .. } in mishaps {
                write!(formatter, "{separator} {:.1} s, {fault}", calm.as_secs_f32())?;
                if !time.is_zero() {
                    write!(formatter, " for {:.1} s", time.as_secs_f32())?;
                }
                separator = ",";
            }
        }
        if self.deployment.is_peaceful {
            formatter.write_str("; nothing fails but clients and the service")?;
        }
        Ok(())
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let either = |is_it, one, other| if is_it { one } else { other };
        match self.store {
            StoreKind::SharedData => formatter.write_str("shared data")?,
            StoreKind::Redis { is_pooled, keeps_records, is_wired } => write!(
                formatter,
                "Redis {}{} that {}",
                either(is_pooled, "pooled", "direct"),
                either(is_wired, " over a wire", ""),
                either(keeps_records, "keeps its records", "forgets"),
            )?,
        }
        write!(
            formatter,
            ", {} x {} workers{}, {}, duplicates {}, unknown {}, lease {} ms",
            self.envoys,
            self.workers,
            either(self.can_crash, " that can crash", ""),
            either(self.is_detached, "detached", "inline"),
            either(self.waits, "wait", "are refused"),
            either(self.retries_unknown, "is retried", "blocks"),
            self.lease.as_millis(),
        )
    }
}
