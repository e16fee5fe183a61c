//! Envoys on one Redis, interleaved at every message.

use idemgate::store::admission::AdmissionLimits;

use crate::{
    checker::{Worlds, envoy},
    proof::scenario::{Conduct, Faults, Scenario},
};

/// Milliseconds: of a lease, and how long Redis is given.
const LEASE: u64 = 200;
const TIMEOUT: u64 = 100;
const STEP: u64 = 100;

fn two_envoys() -> Scenario {
    Scenario::new(LEASE, 400).on_redis(2, 1, TIMEOUT).request(0, 0, envoy(0)).request(1, 0, envoy(1))
}

#[test]
fn two_requests_at_two_envoys_whatever_the_service_does() {
    Worlds::new(two_envoys().deeds(&Conduct::ALL), 3, STEP).keep_every_promise(60_000);
}

#[test]
fn another_request_under_the_same_key() {
    let scenario = two_envoys().request(1, 1, envoy(1)).deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario, 2, STEP).keep_every_promise(27_000);
}

#[test]
fn replies_that_get_lost_and_messages_that_come_late() {
    let faults = Faults { losses: 2, ..Faults::default() };
    Worlds::new(two_envoys().faults(faults), 1, STEP).keep_every_promise(25_000);
}

#[test]
fn takeovers_and_late_owners() {
    let faults = Faults { losses: 1, ..Faults::default() };
    Worlds::new(two_envoys().retries_unknown().faults(faults), 2, STEP).keep_every_promise(38_000);
}

#[test]
fn clients_that_hang_up_and_workers_that_die() {
    let faults = Faults { hangups: 1, deaths: 1, ..Faults::default() };
    let scenario = two_envoys().retries_unknown().deeds(&[Conduct::Answers, Conduct::Breaks]);
    Worlds::new(scenario.faults(faults), 2, STEP).keep_every_promise(25_000);
}

#[test]
fn a_late_copy_of_a_claim_whose_execution_has_ended() {
    let faults = Faults { losses: 1, ..Faults::default() };
    let scenario = Scenario::new(LEASE, 400).on_redis(1, 1, TIMEOUT).retries_unknown().request(0, 0, envoy(0));
    Worlds::new(scenario.deeds(&[Conduct::Answers, Conduct::Refuses, Conduct::Breaks]).faults(faults), 3, STEP)
        .keep_every_promise(17_000);
}

#[test]
fn a_redis_that_refuses_and_loses_its_data() {
    let faults = Faults { refusals: 1, flushes: 1, ..Faults::default() };
    Worlds::new(two_envoys().faults(faults), 2, STEP).keep_every_promise(65_000);
}

#[test]
fn duplicates_that_wait_at_another_envoy() {
    let faults = Faults { hangups: 1, ..Faults::default() };
    let scenario = two_envoys().waits(250).deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(110_000);
}

#[test]
fn detached_calls_whose_clients_hang_up() {
    let faults = Faults { hangups: 1, losses: 1, ..Faults::default() };
    Worlds::new(two_envoys().detached().faults(faults), 2, STEP).keep_every_promise(90_000);
}

/// One worker with two connections, which asks two questions at a time.
fn two_connections() -> Scenario {
    let scenario = Scenario::new(LEASE, 400).on_redis(1, 1, TIMEOUT).over_streams();
    let limits = AdmissionLimits { calls: 2, ..scenario.limits };
    Scenario { limits, ..scenario }
}

#[test]
fn two_questions_at_a_time_on_two_connections() {
    let scenario = two_connections().attempt(0, 0, 0, 0, envoy(0)).attempt(1, 1, 0, 0, envoy(0));
    Worlds::new(scenario, 0, STEP).keep_every_promise(500);
}

#[test]
fn connections_that_break_and_carry_out_later_what_they_were_asked() {
    let faults = Faults { losses: 1, ..Faults::default() };
    let scenario = two_connections().request(0, 0, envoy(0)).deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario.faults(faults), 1, STEP).keep_every_promise(100);
}

#[test]
fn connections_that_are_refused_or_stand_still() {
    let faults = Faults { losses: 1, refusals: 1, ..Faults::default() };
    let scenario = two_connections().request(0, 0, envoy(0));
    Worlds::new(scenario.faults(faults), 2, STEP).keep_every_promise(100);
}

#[test]
fn postgresql_that_turns_connections_away_breaks_them_and_carries_out_late() {
    let faults = Faults { losses: 1, refusals: 1, ..Faults::default() };
    let scenario = two_connections().on_postgres().request(0, 0, envoy(0));
    Worlds::new(scenario.faults(faults), 2, STEP).keep_every_promise(100);
}

#[test]
fn duplicates_that_join_a_claim_of_their_worker() {
    let faults = Faults { losses: 1, ..Faults::default() };
    let scenario = Scenario::new(LEASE, 400).on_redis(1, 1, TIMEOUT);
    let scenario = scenario.request(0, 0, envoy(0)).request(1, 0, envoy(0)).request(2, 1, envoy(0));
    Worlds::new(scenario.faults(faults), 0, STEP).keep_every_promise(1_000);
}

#[test]
fn duplicates_that_join_a_claim_and_wait_while_another_envoy_runs_it() {
    let scenario = Scenario::new(LEASE, 400).on_redis(2, 1, TIMEOUT).waits(250).deeds(&[Conduct::Answers]);
    let scenario = scenario.request(0, 0, envoy(0)).request(1, 0, envoy(1)).request(2, 0, envoy(1));
    Worlds::new(scenario, 1, STEP).keep_every_promise(10_000);
}

#[test]
fn an_end_that_is_recorded_when_its_lease_is_over() {
    let faults = Faults { refusals: 2, ..Faults::default() };
    Worlds::new(two_envoys().retries_unknown().faults(faults), 3, STEP).keep_every_promise(39_000);
}

#[test]
fn an_end_that_is_recorded_late_and_blocks_until_then() {
    let faults = Faults { refusals: 2, ..Faults::default() };
    let scenario = two_envoys().request(1, 0, envoy(1)).deeds(&[Conduct::Answers]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(83_000);
}
