//! Failures by name, each on real processes: what a key may cost in it, and what it costs.
//!
//! In most of them a key may run once. Where the documentation lets it run again, the scenario says which keys that is
//! about, and no other may. `cargo test --test chaos` plays those that say the most; `make failures` plays all, or those
//! whose name has `FAILURES` in it.

mod changes;
mod clocks;
mod cluster;
mod cost;
mod crashes;
mod postgres;
mod redis;
mod scene;
mod stores;

use std::{
    env,
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Mutex,
    thread,
    time::Instant,
};

use self::{
    clocks::{HOUR, ON_DYNAMODB_RETRYING},
    cost::Cost,
    crashes::{ON_DYNAMODB_WAITING, ON_POSTGRES_WAITING, ON_REDIS_WAITING},
    postgres::Standby,
    redis::Replica,
    scene::{ON_DYNAMODB, ON_POSTGRES, ON_REDIS, SHARED_DATA},
};
use crate::{
    bench::Transport,
    fault::Fault,
    rounds::{alone, children},
};

/// One of them.
struct Scenario {
    name: &'static str,
    /// Whether each run of the tests plays it.
    is_shared: bool,
    play: fn() -> Pin<Box<dyn Future<Output = Cost>>>,
}

macro_rules! scenarios {
    ($($name:literal, $is_shared:expr, $play:expr;)*) => {
        [$(Scenario { name: $name, is_shared: $is_shared, play: || Box::pin($play) }),*]
    };
}

const SCENARIOS: [Scenario; 61] = scenarios! {
    "Redis fails over, replica in step, raw", false, redis::fails_over(Transport::Direct, Replica::InStep);
    "Redis fails over, replica in step, pooled", false, redis::fails_over(Transport::Pooled, Replica::InStep);
    "Redis fails over, replica 300 ms behind, raw", true, redis::fails_over(Transport::Direct, Replica::Behind);
    "Redis fails over, replica 300 ms behind, pooled", false, redis::fails_over(Transport::Pooled, Replica::Behind);
    "the same with min-replicas-to-write 1", false, redis::fails_over(Transport::Direct, Replica::BehindAndRequired);
    "min-replicas-to-write 1, no replica for 1 s", false, redis::lacks_its_replica();
    "split brain for 2 s, one Envoy at the old master", false, redis::splits();
    "Redis AOF everysec, kill -9 x 4, raw", false, redis::is_killed(Transport::Direct);
    "Redis AOF everysec, kill -9 x 4, pooled", false, redis::is_killed(Transport::Pooled);
    "maxmemory, CLIENT PAUSE all and write, slow Lua, raw", false, redis::stalls(Transport::Direct);
    "maxmemory, CLIENT PAUSE all and write, slow Lua, pooled", false, redis::stalls(Transport::Pooled);
    "Redis Cluster, 400 slots moved (ASK, MOVED)", false, cluster::moves_slots();
    "Redis Cluster, master killed", true, cluster::loses_a_master();
    "PostgreSQL fails over, synchronous standby", true, postgres::fails_over(Standby::Synchronous);
    "PostgreSQL fails over, standby 300 ms behind", false, postgres::fails_over(Standby::Behind);
    "PostgreSQL, kill -9 x 3", false, stores::suffer(ON_POSTGRES, Fault::StoreKilled);
    "PostgreSQL restarted x 3", false, stores::suffer(ON_POSTGRES, Fault::StoreRestarted);
    "PostgreSQL frozen for 1 s x 3", false, stores::suffer(ON_POSTGRES, Fault::StorePaused);
    "PostgreSQL, table locked for 1 s x 3", false, stores::suffer(ON_POSTGRES, Fault::TableLocked);
    "PostgreSQL, connections ended for 1 s x 3", false, stores::suffer(ON_POSTGRES, Fault::ConnectionsEnded);
    "PostgreSQL out of connections for 1 s x 3", false, stores::suffer(ON_POSTGRES, Fault::ConnectionsTaken);
    "PostgreSQL, disk full for 1 s x 3", false, stores::suffer(ON_POSTGRES, Fault::StoreFull);
    "PgBouncer paused for 1 s x 3", false, postgres::pooler_is_paused();
    "PgBouncer, PostgreSQL behind it killed x 2", false, postgres::is_killed_behind_a_pooler();
    "DynamoDB (dynalite), kill -9 x 3", false, stores::suffer(ON_DYNAMODB, Fault::StoreKilled);
    "DynamoDB (dynalite) frozen for 1 s x 3", false, stores::suffer(ON_DYNAMODB, Fault::StorePaused);
    "clock of Envoy +1 h and back, shared data, block", true, clocks::of_the_only_envoy("block", "24h");
    "clock of Envoy +1 h and back, shared data, retry", false, clocks::of_the_only_envoy("retry", "24h");
    "clock of Envoy +1 h and back, shared data, ttl 30 min", false, clocks::of_the_only_envoy("block", "30m");
    "clock of one of two Envoys +1 h and back, Redis", false, clocks::of_one_envoy(ON_REDIS, HOUR);
    "clock of one of two Envoys +1 h and back, PostgreSQL", false, clocks::of_one_envoy(ON_POSTGRES, HOUR);
    "clock of one of two Envoys -1 h and back, PostgreSQL", false, clocks::of_one_envoy(ON_POSTGRES, -HOUR);
    "clock of one of two Envoys +1 s and back, DynamoDB", false, clocks::of_one_envoy(ON_DYNAMODB, 1);
    "clock of one of two Envoys -1 s and back, DynamoDB", false, clocks::of_one_envoy(ON_DYNAMODB, -1);
    "clock of one of two Envoys +1 h and back, DynamoDB", false, clocks::of_one_envoy(ON_DYNAMODB, HOUR);
    "clock of one of two Envoys -1 h and back, DynamoDB", false, clocks::of_one_envoy(ON_DYNAMODB, -HOUR);
    "clock of one of two Envoys +1 h and back, DynamoDB, retry", false, clocks::of_one_envoy(ON_DYNAMODB_RETRYING, HOUR);
    "clock of one of two Envoys -1 h and back, DynamoDB, retry", false, clocks::of_one_envoy(ON_DYNAMODB_RETRYING, -HOUR);
    "clock of Redis +1 h and back, block", false, clocks::of_redis("block");
    "clock of Redis +1 h and back, retry", false, clocks::of_redis("retry");
    "LDS: 14 updates (lease, ttl, wait, detached, limits), shared data", true, changes::of_settings(SHARED_DATA);
    "LDS: 14 updates (lease, ttl, wait, detached, limits), Redis", false, changes::of_settings(ON_REDIS);
    "LDS: 14 updates (lease, ttl, wait, detached, limits), PostgreSQL", false, changes::of_settings(ON_POSTGRES);
    "LDS: 14 updates (lease, ttl, wait, detached, limits), DynamoDB", false, changes::of_settings(ON_DYNAMODB);
    "LDS: caller.identity changed 6 times", false, changes::of_the_identity();
    "module swapped 6 times, same vm_id", false, changes::of_the_module();
    "drain and hot restart x 2, Redis, inline", false, changes::of_the_process(ON_REDIS, false);
    "drain and hot restart x 2, Redis, detached", false, changes::of_the_process(ON_REDIS, true);
    "drain and hot restart x 2, PostgreSQL, detached", false, changes::of_the_process(ON_POSTGRES, true);
    "drain and hot restart x 2, DynamoDB, detached", false, changes::of_the_process(ON_DYNAMODB, true);
    "VM panics x 8, inline", false, crashes::of_a_vm(crashes::INLINE);
    "VM panics x 8, wait", true, crashes::of_a_vm(crashes::WAITING);
    "VM panics x 8, detached and wait", false, crashes::of_a_vm(crashes::DETACHED);
    "VM panics x 8, Redis and wait", false, crashes::of_a_vm(ON_REDIS_WAITING);
    "VM panics x 8, PostgreSQL and wait", false, crashes::of_a_vm(ON_POSTGRES_WAITING);
    "VM panics x 8, DynamoDB and wait", false, crashes::of_a_vm(ON_DYNAMODB_WAITING);
    "500 detached in flight, SIGTERM, shared data", false, crashes::of_an_envoy(SHARED_DATA);
    "500 detached in flight, SIGTERM, Redis", false, crashes::of_an_envoy(ON_REDIS);
    "500 detached in flight, SIGTERM, PostgreSQL", false, crashes::of_an_envoy(ON_POSTGRES);
    "500 detached in flight, SIGTERM, DynamoDB", false, crashes::of_an_envoy(ON_DYNAMODB);
    "200 connections at 10 bytes/s", false, crashes::of_nobody_with_slow_clients();
};

/// How many are played at the same time.
const AT_A_TIME: usize = 2;

/// None if it did not come to its end; it has said so.
fn played(scenario: &Scenario) -> Option<Cost> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The others are played all the same.
    let cost = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on((scenario.play)()))).ok();
    let word = if cost.is_some() { "played" } else { "FAILED" };
    eprintln!("{word} in {:.1} s: {}", began.elapsed().as_secs_f32(), scenario.name);
    cost
}

/// With `FAILURES` in the environment, those with this in their name: with an empty one, all.
#[test]
fn whatever_fails_by_name_costs_no_more_than_is_documented() {
    let wanted = env::var("FAILURES").ok();
    let is_wanted = |scenario: &&Scenario| match &wanted {
        Some(part) => scenario.name.contains(part.as_str()),
        None => scenario.is_shared,
    };
    let _alone = alone();
    let scenarios: Vec<_> = SCENARIOS.iter().filter(is_wanted).collect();
    assert!(!scenarios.is_empty(), "no scenario has {wanted:?} in its name");
    let (next, costs) = (Mutex::new(scenarios.iter().enumerate()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((number, scenario)) = next.lock().unwrap().next() else { return };
                    let Some(cost) = played(scenario) else { continue };
                    costs.lock().unwrap().push((number, scenario.name, cost));
                }
            });
        }
    });
    let mut costs = costs.into_inner().unwrap();
    costs.sort_by_key(|(number, ..)| *number);
    println!("{}", Cost::HEAD);
    for (_, name, cost) in &costs {
        println!("| {name} {cost}");
    }
    let broken: Vec<String> =
        costs.iter().filter_map(|(_, name, cost)| Some(format!("{name}: {}", cost.excess()?))).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert_eq!(costs.len(), scenarios.len(), "scenarios that came to their end");
    assert_eq!(children(), Vec::<u32>::new(), "processes that were left behind");
}
