//! Workers of one Envoy, interleaved at every call to the host.

use std::time::Duration;

use idemgate::config::{OnFull, SharedDataConfig};

use crate::{
    checker::{Worlds, worker},
    proof::scenario::{Conduct, Faults, Scenario},
};

/// Milliseconds: two steps of time, so that a lease is renewed at each of them, or lapses at the second.
const LEASE: u64 = 200;
const TTL: u64 = 400;
const STEP: u64 = 100;

fn two_workers() -> Scenario {
    Scenario::new(LEASE, TTL).request(0, 0, worker(0)).request(1, 0, worker(1))
}

#[test]
fn two_requests_at_two_workers_whatever_the_service_does() {
    let scenario = two_workers().deeds(&Conduct::ALL);
    Worlds::new(scenario, 4, STEP).keep_every_promise(80_000);
}

#[test]
fn another_request_under_the_same_key() {
    let scenario = two_workers().request(1, 1, worker(1)).deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario, 2, STEP).keep_every_promise(130_000);
}

#[test]
fn takeovers_and_late_owners() {
    let faults = Faults { stalls: 1, ..Faults::default() };
    let scenario = two_workers().retries_unknown().deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(120_000);
}

#[test]
fn a_worker_that_dies_at_any_step() {
    let faults = Faults { deaths: 1, ..Faults::default() };
    let scenario =
        two_workers().retries_unknown().request(0, 0, worker(1)).deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(110_000);
}

#[test]
fn clients_that_hang_up() {
    let faults = Faults { hangups: 2, ..Faults::default() };
    let scenario = two_workers().request(0, 0, worker(1)).deeds(&[Conduct::Answers, Conduct::Breaks]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(15_000);
}

#[test]
fn detached_calls_whose_clients_hang_up() {
    let faults = Faults { hangups: 1, deaths: 1, ..Faults::default() };
    let scenario =
        two_workers().detached().retries_unknown().deeds(&[Conduct::Answers, Conduct::Unreachable, Conduct::TimesOut]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(110_000);
}

#[test]
fn duplicates_that_wait() {
    let faults = Faults { hangups: 1, ..Faults::default() };
    let scenario = two_workers().waits(150).deeds(&[Conduct::Answers, Conduct::Refuses]);
    Worlds::new(scenario.faults(faults), 3, STEP).keep_every_promise(40_000);
}

#[test]
fn a_dead_owner_for_whom_a_duplicate_waits() {
    let faults = Faults { deaths: 1, ..Faults::default() };
    let scenario = two_workers().waits(250).retries_unknown();
    Worlds::new(scenario.faults(faults), 4, STEP).keep_every_promise(60_000);
}

#[test]
fn records_that_expire_under_the_sweeper_and_late_owners() {
    let faults = Faults { sweeps: 1, ..Faults::default() };
    let scenario = Scenario::new(100, 100).request(0, 0, worker(0)).request(1, 0, worker(1)).retries_unknown();
    Worlds::new(scenario.faults(faults), 2, STEP).keep_every_promise(60_000);
}

#[test]
fn three_requests_at_three_workers() {
    let scenario = two_workers().workers(3).request(2, 0, worker(2)).retries_unknown();
    let scenario = Scenario { stops_at_totals: false, ..scenario.deeds(&[Conduct::Answers, Conduct::Refuses]) };
    Worlds::new(scenario, 2, STEP).keep_every_promise(90_000);
}

#[test]
fn a_response_that_is_remembered_until_its_record_ends() {
    let scenario = Scenario::new(100, 100).request(0, 0, worker(0)).request(1, 0, worker(1)).request(1, 0, worker(1));
    Worlds::new(scenario, 2, STEP).keep_every_promise(85_000);
}

#[test]
fn a_record_in_whose_place_others_want_to_be_before_it_is_old_enough_and_after() {
    let scenario = Scenario::new(LEASE, TTL).evicted_and_run_again().keeping(LEASE);
    Worlds::new(scenario, 2, STEP).keep_every_promise(13_000);
}

#[test]
fn a_response_for_which_there_are_no_bytes_any_more() {
    let limits = SharedDataConfig {
        max_entries: 100,
        max_bytes: 900,
        on_full: OnFull::EvictOldest,
        keep_at_least: Duration::from_millis(LEASE),
    };
    let scenario = Scenario::new(LEASE, TTL).evicted_and_run_again().in_table(limits);
    Worlds::new(scenario, 0, STEP).keep_every_promise(5_400);
}

#[test]
fn a_response_that_is_remembered_when_its_record_is_evicted_and_the_operation_runs_again() {
    Worlds::new(Scenario::new(LEASE, TTL).evicted_and_run_again(), 0, STEP).keep_every_promise(90_000);
}

/// One that runs, and more that wait for it at each worker than have a turn in one callback.
pub(crate) fn crowd() -> Scenario {
    let scenario = Scenario::new(LEASE, TTL).waits(10_000).request(0, 0, worker(0));
    let scenario = (1..4).fold(scenario, |scenario, client| scenario.request(client, 0, worker(1)));
    Scenario { stops_at_totals: false, ..scenario }
}

#[test]
fn a_crowd_of_which_some_leave() {
    let faults = Faults { hangups: 1, ..Faults::default() };
    Worlds::new(crowd().faults(faults), 0, STEP).keep_every_promise(10_000);
}
