//! From a seed to a world: who is in it, under which policy, and what may go wrong.

use std::time::Duration;

use idemgate::{
    config::{OnFull, OnStoreError, Share, SharedDataConfig},
    store::admission::AdmissionLimits,
};

use crate::{
    proof::scenario::{Conduct, Faults, Mutation, Scenario},
    random::Random,
};

/// What a seed stands for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    /// How many steps are taken before everything is let come to its end.
    pub(crate) steps: u64,
    /// How many of a hundred steps are faults, as long as there may be any.
    pub(crate) misfortune: u64,
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keeping {
    SharedData,
    /// Or PostgreSQL, if no rule is taken out.
    Redis,
    DynamoDb,
}

/// Which worlds are drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) keeping: Option<Keeping>,
    pub(crate) mutation: Option<Mutation>,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random, wish: Wish) -> Self {
        let keeping = random.of(&[Keeping::SharedData, Keeping::SharedData, Keeping::Redis, Keeping::DynamoDb]);
        let keeping = wish.keeping.unwrap_or(keeping);
        let lease = random.of(&[300, 3_000, 30_000]);
        // Shorter ones are none to DynamoDB, whose clock has whole seconds.
        let lease = if keeping == Keeping::DynamoDb { lease.max(10_000) } else { lease };
        let ttl = lease * random.of(&[2, 10, 2_880]);
        let mut scenario = Scenario::new(lease, ttl);
        if keeping == Keeping::SharedData {
            scenario.envoys = if random.chance(10) { 2 } else { 1 };
            scenario.workers = random.between(1, 3);
            scenario.skews = vec![0; usize::from(scenario.envoys) + 1];
            scenario = scenario.in_table(table(random, ttl));
        } else {
            scenario = scenario.on_redis(random.between(1, 3), random.between(1, 2), random.of(&[100, 500]));
        }
        if keeping == Keeping::DynamoDb {
            scenario = scenario.on_dynamodb(random.chance(50));
        }
        if random.chance(if keeping == Keeping::DynamoDb { 70 } else { 30 }) {
            let skews = [0, 40, 1_500, 5_000, 60_000, 3_600_000];
            scenario.skews = scenario.skews.iter().map(|_| random.of(&skews)).collect();
        }
        scenario = Self::policy(random, scenario, lease);
        scenario = Self::clients(random, scenario);
        scenario.deeds = Conduct::ALL.into_iter().filter(|_| random.chance(40)).collect();
        scenario.deeds.push(Conduct::Answers);
        scenario.faults = Self::faults(random);
        scenario.turns = random.of(&[1, 2, 32]);
        scenario.limits = AdmissionLimits {
            calls: random.of(&[1, 2, 64]),
            reserve: random.of(&[1, 32]),
            waiting: random.of(&[1, 2, 2_048]),
            joined: random.of(&[1, 8_192]),
        };
        if let Some(mutation) = wish.mutation {
            scenario = scenario.mutated(mutation);
            if !scenario.is_remote() {
                // Of one bucket: who is mutated has to find the record.
                let limits = SharedDataConfig {
                    max_entries: 4,
                    max_bytes: 1 << 20,
                    on_full: OnFull::Reject,
                    keep_at_least: Duration::ZERO,
                };
                // And in which records make way for others, if that has to be found out.
                let evicting = SharedDataConfig { max_entries: 2, on_full: OnFull::EvictOldest, ..limits };
                scenario = scenario.in_table(match mutation {
                    Mutation::StaleReplay => evicting,
                    Mutation::NoFloor => SharedDataConfig { keep_at_least: Duration::from_millis(lease), ..evicting },
                    _ => limits,
                });
            }
        }
        let (steps, misfortune) = (40 + random.below(260), random.of(&[0, 3, 10]));
        let needs_streams = wish.mutation == Some(Mutation::WrongQuestion);
        if needs_streams || keeping == Keeping::Redis && random.chance(50) {
            scenario = scenario.over_streams();
            if wish.mutation.is_none() && random.chance(50) {
                scenario = scenario.on_postgres();
            }
        }
        Self { scenario, steps, misfortune }
    }

    fn policy(random: &mut Random, mut scenario: Scenario, lease: u64) -> Scenario {
        if random.chance(50) {
            scenario = scenario.retries_unknown();
        }
        if random.chance(40) {
            scenario = scenario.waits(random.of(&[lease / 3, lease * 2, 10_000]));
        }
        if random.chance(40) {
            scenario = scenario.detached();
        }
        if random.chance(10) {
            scenario = scenario.change_policy(|policy| policy.on_store_error = OnStoreError::Bypass);
        }
        if random.chance(10) {
            scenario = scenario.change_policy(|policy| policy.duplicates.max_waiting = 1);
        }
        if random.chance(10) {
            scenario = scenario.change_policy(|policy| policy.limits.response_body = 8);
        }
        if random.chance(40) {
            let share = Share::percent(random.of(&[1, 25, 60]));
            scenario = scenario.change_policy(|policy| policy.limits.caller_share = share);
        }
        scenario
    }

    fn clients(random: &mut Random, mut scenario: Scenario) -> Scenario {
        let (keys, callers) = (random.between(1, 3), random.between(1, 2));
        for client in 0..random.between(2, 6) {
            let (key, caller) = (random.between(1, keys), random.between(1, callers));
            for _ in 0..random.between(1, 5) {
                let body = u8::from(random.chance(8));
                scenario = scenario.attempt(client, key, caller, body, None);
            }
        }
        scenario
    }

    fn faults(random: &mut Random) -> Faults {
        let mut up_to = |most: u8, percent: u64| if random.chance(percent) { random.between(1, most) } else { 0 };
        Faults {
            deaths: up_to(2, 40),
            restarts: up_to(1, 15),
            hangups: up_to(3, 50),
            losses: up_to(8, 60),
            refusals: up_to(6, 25),
            flushes: up_to(1, 10),
            sweeps: up_to(3, 30),
            stalls: up_to(3, 40),
        }
    }
}

/// Roomy, or so small that it evicts: for want of places, or of bytes, which end first in a table of many places.
fn table(random: &mut Random, ttl: u64) -> SharedDataConfig {
    SharedDataConfig {
        max_entries: random.of(&[100, 100, 2]),
        max_bytes: random.of(&[1 << 20, 1 << 20, 1_400, 900]),
        on_full: random.of(&[OnFull::EvictOldest, OnFull::EvictOldest, OnFull::Reject]),
        keep_at_least: Duration::from_millis(random.of(&[0, 0, ttl / 4, 2 * ttl])),
    }
}
