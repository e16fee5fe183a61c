//! One worker: every row of claim, renew and settle.

use std::time::Duration;

use super::{fixture::*, memory::Host};
use crate::{
    config::SharedDataConfig,
    record::{Claim, Phase},
    request::Fingerprint,
    store::{
        Claimed, Ending, Renewed, Settled,
        shared_data::{Tally, Totals},
    },
    time::Timestamp,
};

fn store() -> (Host, Store) {
    let host = Host::default();
    let store = open(&host, ROOMY);
    (host, store)
}

fn replayed(owner: u128, size: usize, expires: Timestamp) -> Claimed {
    Claimed::Completed { response: response(owner, size).into(), expires }
}

#[test]
fn the_first_claim_is_granted_and_the_second_meets_it_in_flight() {
    let (host, store) = store();
    assert_eq!(store.claim_at(1, 1, NOW), Claimed::Granted);
    assert_eq!(store.claim_at(1, 2, NOW.after(MOMENT)), Claimed::InFlight { age: MOMENT, lease_left: LEASE - MOMENT });
    store.check(&host);
}

#[test]
fn every_worker_sees_the_same_records_whatever_its_seed() {
    let (host, store) = store();
    let other = Store::open(host.worker(), ROOMY, 7).unwrap();
    store.execute_at(1, 1, 10, NOW);
    assert_eq!(other.claim_at(1, 2, NOW), replayed(1, 10, NOW.after(TTL)));
}

#[test]
fn a_completed_operation_is_replayed_until_its_retention_ends_which_replays_do_not_extend() {
    let (host, store) = store();
    store.execute_at(1, 1, 1000, NOW);
    let expires = NOW.after(TTL);

    for now in [NOW, NOW.after(LEASE), NOW.after(TTL - MOMENT)] {
        assert_eq!(store.claim_at(1, 2, now), replayed(1, 1000, expires));
    }
    assert_eq!(store.claim_at(1, 2, expires), Claimed::Granted);
    store.check(&host);
}

#[test]
fn another_fingerprint_is_refused_in_flight_completed_unknown_and_as_tombstone() {
    let (_, store) = store();
    let other = Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..claim(1, 2) };
    for (number, ending) in [
        (1, None),
        (2, Some(Ending::Completed(response(1, 5)))),
        (3, Some(Ending::NotKept(200))),
        (4, Some(Ending::Unknown)),
    ] {
        assert_eq!(store.claim_at(number, 1, NOW), Claimed::Granted);
        if let Some(ending) = ending {
            store.settle_at(number, 1, ending, NOW);
        }
        let claim = Claim { operation: operation(number), ..other.clone() };
        assert_eq!(store.run(claim, NOW), Claimed::KeyReused, "operation {number}");
    }
}

#[test]
fn a_released_operation_may_run_again_at_once() {
    let (host, store) = store();
    assert_eq!(store.claim_at(1, 1, NOW), Claimed::Granted);
    assert_eq!(store.settle_at(1, 1, Ending::Released, NOW), Settled::Released);
    assert_eq!(store.totals().unwrap(), Totals::default());
    assert_eq!(store.claim_at(1, 2, NOW), Claimed::Granted);
    store.check(&host);
}

#[test]
fn an_unknown_outcome_blocks_or_is_retried_after_the_lease_as_the_policy_says() {
    let (host, store) = store();
    assert_eq!(store.claim_at(1, 1, NOW), Claimed::Granted);
    assert_eq!(store.settle_at(1, 1, Ending::Unknown, NOW), Settled::Unknown);

    assert_eq!(store.take_over_at(1, 2, NOW), Claimed::Unknown { lease_left: LEASE });
    assert_eq!(store.claim_at(1, 2, lapsed()), Claimed::Unknown { lease_left: Duration::ZERO });
    assert_eq!(store.take_over_at(1, 2, lapsed()), Claimed::Granted);
    assert_eq!(store.take_over_at(1, 3, lapsed()), Claimed::InFlight { age: Duration::ZERO, lease_left: LEASE });
    store.check(&host);
}

#[test]
fn a_response_that_is_not_kept_answers_with_its_status() {
    let (host, store) = store();
    assert_eq!(store.claim_at(1, 1, NOW), Claimed::Granted);
    assert_eq!(store.settle_at(1, 1, Ending::NotKept(418), NOW), Settled::NotKept);
    assert_eq!(store.claim_at(1, 2, NOW), Claimed::NotKept { status: 418 });
    store.check(&host);
}

#[test]
fn a_renewed_claim_outlives_its_first_lease() {
    let (_, store) = store();
    store.claim_at(1, 1, NOW);
    let later = NOW.after(LEASE / 2);
    assert_eq!(store.renew_at(1, 1, later), Renewed::Extended);
    assert_eq!(store.take_over_at(1, 2, lapsed()), Claimed::InFlight { age: LEASE, lease_left: LEASE / 2 });
}

#[test]
fn an_owner_that_was_taken_over_from_is_fenced_whatever_it_says() {
    let (host, store) = store();
    store.claim_at(1, 1, NOW);
    assert_eq!(store.take_over_at(1, 2, lapsed()), Claimed::Granted);

    assert_eq!(store.renew_at(1, 1, lapsed()), Renewed::Fenced);
    for ending in every_ending(1) {
        assert_eq!(store.settle_at(1, 1, ending, lapsed()), Settled::Fenced);
    }
    assert_eq!(store.complete_at(1, 2, 20, lapsed()), Settled::Completed);
    assert_eq!(store.claim_at(1, 3, lapsed()), replayed(2, 20, lapsed().after(TTL)));
    store.check(&host);
}

#[test]
fn nobody_can_speak_of_an_operation_that_is_not_there() {
    let (host, store) = store();
    assert_eq!(store.renew_at(1, 1, NOW), Renewed::Fenced);
    for ending in every_ending(1) {
        assert_eq!(store.settle_at(1, 1, ending, NOW), Settled::Fenced);
    }
    assert_eq!(store.totals().unwrap(), Totals::default());
    store.check(&host);
}

#[test]
fn an_ending_is_said_once() {
    let (host, store) = store();
    for (number, first) in (1..).zip(every_ending(1)) {
        store.claim_at(number, 1, NOW);
        assert_ne!(store.settle_at(number, 1, first.clone(), NOW), Settled::Fenced);
        for second in every_ending(1) {
            assert_eq!(store.settle_at(number, 1, second.clone(), NOW), Settled::Fenced, "{second:?} after {first:?}");
        }
    }
    store.check(&host);
}

#[test]
fn a_late_owner_makes_an_unknown_outcome_certain() {
    let (host, store) = store();
    store.claim_at(1, 1, NOW);
    assert_eq!(store.claim_at(1, 2, lapsed()), Claimed::Unknown { lease_left: Duration::ZERO });
    assert_eq!(store.complete_at(1, 1, 10, lapsed()), Settled::Completed);
    assert_eq!(store.claim_at(1, 2, lapsed()), replayed(1, 10, lapsed().after(TTL)));
    store.check(&host);
}

#[test]
fn an_empty_response_is_replayed_as_such() {
    let (host, store) = store();
    store.execute_at(1, 1, 0, NOW);
    assert_eq!(store.claim_at(1, 2, NOW), replayed(1, 0, NOW.after(TTL)));
    store.check(&host);
}

#[test]
fn what_has_ended_is_reclaimed_on_access_with_its_response_and_its_neighbours() {
    let (host, store) = store();
    let numbers: Vec<_> = store.neighbours(1).take(3).collect();
    for number in &numbers {
        store.execute_at(*number, 1, 100, NOW);
    }
    store.claim_at(2, 1, NOW);

    assert_eq!(store.claim_at(1, 2, NOW.after(TTL)), Claimed::Granted);
    assert_eq!(store.take_tally(), Tally { expired: 3, ..Tally::default() });
    assert_eq!(store.take_tally(), Tally::default());
    assert!(!store.knows(numbers[1]) && !store.knows(numbers[2]) && store.knows(2));
    store.check(&host);
}

#[test]
fn a_record_that_nobody_settles_ends_a_retention_period_after_its_lease() {
    let (host, store) = store();
    store.claim_at(1, 1, NOW);
    let last = Timestamp::from_millis(ended().as_millis() - 1);
    assert_eq!(store.claim_at(1, 2, last), Claimed::Unknown { lease_left: Duration::ZERO });
    assert_eq!(store.claim_at(1, 2, ended()), Claimed::Granted);
    assert_eq!(store.complete_at(1, 1, 5, ended()), Settled::Fenced);
    store.check(&host);
}

#[test]
fn records_are_still_found_after_the_limits_have_changed() {
    let (host, store) = store();
    for number in 0..100 {
        store.execute_at(number, 1, 10, NOW);
    }
    for max_entries in [100, 5, 100_000] {
        let reopened = open(&host, SharedDataConfig { max_entries, ..ROOMY });
        assert_eq!(reopened.has_capacity(), max_entries < 100_000);
        for number in 0..100 {
            assert_eq!(reopened.claim_at(number, 2, NOW), replayed(1, 10, NOW.after(TTL)), "operation {number}");
        }
    }
}

#[test]
fn a_clock_that_steps_backwards_lets_nothing_run_twice() {
    let (host, store) = store();
    store.claim_at(1, 1, NOW);
    store.execute_at(2, 1, 10, NOW);
    let before = Timestamp::from_millis(NOW.as_millis() - 3_600_000);

    assert!(matches!(store.take_over_at(1, 2, before), Claimed::InFlight { .. }));
    assert_eq!(store.take_over_at(2, 2, before), replayed(1, 10, NOW.after(TTL)));
    assert_eq!(store.renew_at(1, 1, before), Renewed::Extended);
    assert_eq!(store.take_over_at(1, 2, before), Claimed::InFlight { age: Duration::ZERO, lease_left: LEASE });
    assert_eq!(store.complete_at(1, 1, 10, before), Settled::Completed);
    assert!(matches!(store.phase_of(1), Some(Phase::Completed { expires, .. }) if expires == before.after(TTL)));
    store.check(&host);
}

fn every_ending(owner: u128) -> [Ending; 4] {
    [Ending::Completed(response(owner, 10)), Ending::NotKept(201), Ending::Released, Ending::Unknown]
}
