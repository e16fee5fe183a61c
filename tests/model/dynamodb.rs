//! Envoys on one table in DynamoDB, interleaved at every call. Clocks differ, and the `Date` of replies has whole seconds.

use crate::{
    checker::{Worlds, envoy},
    proof::scenario::{Conduct, Faults, Scenario},
};

/// Milliseconds: of the shortest lease that is one to DynamoDB, and how long DynamoDB is given.
const LEASE: u64 = 10_000;
const TIMEOUT: u64 = 100;
/// In one step a lease is over, to others as well.
pub(crate) const STEP: u64 = 13_000;

/// How far the clocks of the two Envoys and of DynamoDB are ahead of the true time.
const RIGHT: [u64; 3] = [0; 3];
pub(crate) const BEHIND: [u64; 3] = [0, 3_600_000, 3_600_000];
const AHEAD: [u64; 3] = [3_600_000, 0, 0];

pub(crate) fn two_envoys(hides_items: bool, clocks: [u64; 3]) -> Scenario {
    let scenario = Scenario::new(LEASE, 2 * LEASE).on_redis(2, 1, TIMEOUT).on_dynamodb(hides_items);
    let scenario = scenario.request(0, 0, envoy(0)).request(1, 0, envoy(1));
    Scenario { skews: clocks.to_vec(), ..scenario }
}

#[test]
fn two_requests_at_two_envoys_whatever_the_service_does() {
    Worlds::new(two_envoys(false, RIGHT).deeds(&Conduct::ALL), 1, STEP).keep_every_promise(7_000);
    let deeds = [Conduct::Answers, Conduct::Refuses, Conduct::Breaks];
    Worlds::new(two_envoys(true, RIGHT).deeds(&deeds), 1, STEP).keep_every_promise(8_000);
}

#[test]
fn takeovers_by_wrong_clocks() {
    for (hides_items, clocks) in [(false, BEHIND), (false, AHEAD), (true, BEHIND)] {
        Worlds::new(two_envoys(hides_items, clocks).retries_unknown(), 1, STEP).keep_every_promise(1_000);
    }
}

#[test]
fn replies_that_get_lost_and_calls_that_come_late() {
    let faults = Faults { losses: 1, ..Faults::default() };
    Worlds::new(two_envoys(false, BEHIND).retries_unknown().faults(faults), 0, STEP).keep_every_promise(1_000);
}

#[test]
fn a_late_copy_of_a_claim_whose_execution_has_ended() {
    let faults = Faults { losses: 1, ..Faults::default() };
    let scenario = Scenario::new(LEASE, 2 * LEASE).on_redis(1, 1, TIMEOUT).on_dynamodb(false).retries_unknown();
    let scenario = scenario.request(0, 0, envoy(0)).deeds(&[Conduct::Answers, Conduct::Refuses, Conduct::Breaks]);
    Worlds::new(scenario.faults(faults), 2, STEP).keep_every_promise(11_000);
}

#[test]
fn a_dynamodb_that_throttles_and_workers_that_die() {
    let faults = Faults { refusals: 1, deaths: 1, ..Faults::default() };
    Worlds::new(two_envoys(false, BEHIND).retries_unknown().faults(faults), 1, STEP).keep_every_promise(19_000);
}
