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
    /// It loses nothing that was ever acknowledged.
    Postgres {
        /// Whether it gives up statements when the filter does.
        gives_up: bool,
        is_wired: bool,
    },
    /// A dynalite, which loses nothing either.
    DynamoDb {
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

/// How long clients are let loose, and longer if not all that fails has done so by then.
pub(crate) const PLAY: Duration = Duration::from_secs(5);

/// What the start of an Envoy or of dynalite may take, roughly.
const START: Duration = Duration::from_millis(1_200);

/// What an answer of the store may take at least.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// How many combinations there are of shared data or a way to Redis, a mode of execution, and a mode for duplicates.
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
        of_others.splice(0..0, deployment.can_have(Fault::StoreSlow).then(|| slow_at_a_death(&of_envoys)).flatten());
        Self { seed, deployment, of_envoys, of_others, clients: lot.below(u64::MAX) }
    }
}

/// The store is slow from shortly before the first Envoy is killed: some answers are there, and not yet recorded.
fn slow_at_a_death(of_envoys: &[Mishap]) -> Option<Mishap> {
    let killed = of_envoys.iter().position(|mishap| mishap.fault == Fault::EnvoyKilled)?;
    let before = of_envoys[..killed].iter().map(|mishap| mishap.calm + mishap.time).sum::<Duration>();
    let at = before + of_envoys[killed].calm;
    let (calm, time) = (at.saturating_sub(Duration::from_millis(1_000)), Duration::from_millis(1_200));
    Some(Mishap { calm, fault: Fault::StoreSlow, time, draw: 0 })
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
        let is_dynalite = matches!(deployment.store, StoreKind::DynamoDb { .. });
        if fault == Fault::EnvoyKilled || fault == Fault::StoreKilled && is_dynalite {
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
        let is_peaceful = seed % 5 == 3 || seed % 50 == 32 || seed % 50 == 37;
        let store = match (seed % 10, combination % 3) {
            (2, _) => StoreKind::Postgres { gives_up: lot.chance(75), is_wired: lot.chance(75) },
            (7, _) => StoreKind::DynamoDb { is_wired: lot.chance(75) },
            (_, 0) => StoreKind::SharedData,
            (_, transport) => {
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
            StoreKind::Redis { keeps_records, .. } => fault == Fault::StoreKilled && !keeps_records,
            StoreKind::Postgres { .. } | StoreKind::DynamoDb { .. } => false,
        }
    }

    /// After which time an execution whose end nobody reported shows by its lease.
    pub(crate) fn lease_is_over(&self) -> Duration {
        // To others a lease in DynamoDB is over later than to its owner, by two seconds of a clock of whole ones.
        let later = if matches!(self.store, StoreKind::DynamoDb { .. }) { 3_000 } else { 0 };
        self.lease + Duration::from_millis(500 + later)
    }

    fn can_have(&self, fault: Fault) -> bool {
        match fault {
            _ if self.is_peaceful => false,
            Fault::EnvoyKilled | Fault::EnvoyPaused | Fault::Starved => true,
            Fault::VmPanicked => self.can_crash,
            // Another worker has to end it.
            Fault::VmStalled => self.can_crash && self.workers > 1,
            fault if fault.befalls_the_store() => self.store.can_have(fault),
            // Clients decide on that by themselves.
            _ => false,
        }
    }

    /// How long a fault lasts; some outlast a lease.
    fn time_of(&self, fault: Fault, lot: &mut Lot) -> Duration {
        let long = self.lease + Duration::from_millis(400);
        let short = Duration::from_millis(100 + lot.below(700));
        match fault {
            Fault::VmPanicked => Duration::ZERO,
            Fault::VmStalled => long + Duration::from_millis(500),
            Fault::EnvoyPaused | Fault::StorePaused if lot.chance(30) => long,
            // It takes others a while to have all.
            Fault::ConnectionsTaken => short + Duration::from_millis(300),
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
            StoreKind::Postgres { .. } => Setup::postgres(&in_time(configuration, "postgres", STORE_TIMEOUT)),
            // dynalite does one thing after the other, and on a busy machine slowly: who asks again after less makes it
            // slower still.
            StoreKind::DynamoDb { .. } => Setup::dynamodb(&in_time(configuration, "dynamodb", 4 * STORE_TIMEOUT)),
        };
        // Each fault is an Envoy's own, and nothing is to be left behind.
        let setup = setup.workers(self.workers).alone();
        if self.can_crash { setup.that_can_crash() } else { setup }
    }
}

/// The filter with its records in a Redis that has to answer in time.
pub(crate) fn on_redis(transport: Transport, configuration: Value) -> Setup {
    Setup::redis(transport, &in_time(configuration, "redis", STORE_TIMEOUT))
}

fn in_time(mut configuration: Value, store: &str, timeout: Duration) -> Value {
    configuration["store"] = json!({ store: { "timeout": format!("{}ms", timeout.as_millis()) } });
    configuration
}

impl StoreKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SharedData => "shared data",
            Self::Redis { .. } => "Redis",
            Self::Postgres { .. } => "PostgreSQL",
            Self::DynamoDb { .. } => "DynamoDB",
        }
    }

    /// Whether there is a wire to it that can be slow, and break.
    pub(crate) fn is_wired(self) -> bool {
        match self {
            Self::SharedData => false,
            Self::Redis { is_wired, .. } | Self::Postgres { is_wired, .. } | Self::DynamoDb { is_wired } => is_wired,
        }
    }

    /// Whether such a fault can befall it, or the way to it.
    pub(crate) fn can_have(self, fault: Fault) -> bool {
        let is_postgres = matches!(self, Self::Postgres { .. });
        match fault {
            Fault::StoreKilled | Fault::StorePaused => self != Self::SharedData,
            Fault::StoreFull => is_postgres || matches!(self, Self::Redis { .. }),
            Fault::StoreRestarted | Fault::TableLocked | Fault::ConnectionsEnded | Fault::ConnectionsTaken => {
                is_postgres
            }
            Fault::StoreSlow | Fault::RepliesLost => self.is_wired(),
            _ => false,
        }
    }
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
        formatter.write_str(self.store.name())?;
        if let StoreKind::Redis { is_pooled, .. } = self.store {
            formatter.write_str(either(is_pooled, " pooled", " direct"))?;
        }
        formatter.write_str(either(self.store.is_wired(), " over a wire", ""))?;
        match self.store {
            StoreKind::SharedData | StoreKind::DynamoDb { .. } => {}
            StoreKind::Redis { keeps_records, .. } => {
                formatter.write_str(either(keeps_records, " that keeps its records", " that forgets"))?;
            }
            StoreKind::Postgres { gives_up, .. } => {
                formatter.write_str(either(gives_up, " that gives up in time", " that gives up late"))?;
            }
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
