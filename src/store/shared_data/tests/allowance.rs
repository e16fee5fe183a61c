//! Room that a worker takes ahead: never past a bound, and never for good.

use proptest::prelude::*;

use super::{super::Totals, fixture::*, memory::Host};
use crate::{
    config::{ENTRY_BYTES, OnFull, SharedDataConfig},
    store::{Claimed, Ending, Settled},
};

/// A table in which a worker takes room for this many records ahead.
fn limits(ahead: u32, on_full: OnFull) -> SharedDataConfig {
    SharedDataConfig { max_entries: ahead * 4096, max_bytes: 64 << 20, on_full, ..ROOMY }
}

#[test]
fn one_step_takes_room_for_several_records() {
    let host = Host::default();
    let store = open(&host, limits(16, OnFull::Reject));
    store.claim_at(1, 1, NOW);
    let taken = store.totals().unwrap();
    assert_eq!(taken, Totals { entries: 17, bytes: ENTRY_BYTES + (16 << 10) }, "a part of 4096 of 64 MiB");
    for number in 2..=17 {
        assert_eq!(store.claim_at(number, 1, NOW), Claimed::Granted);
    }
    assert_eq!(store.totals().unwrap(), taken, "all of these had their room already");
    store.claim_at(18, 1, NOW);
    assert_eq!(store.totals().unwrap().entries, 34);
}

#[test]
fn what_was_not_used_is_given_back() {
    let host = Host::default();
    let store = open(&host, limits(16, OnFull::Reject));
    store.execute_at(1, 1, 300, NOW);
    assert_ne!(store.totals().unwrap(), store.recount());
    store.give_back_room().unwrap();
    store.check(&host);
    store.give_back_room().unwrap();
    store.check(&host);
}

#[test]
fn a_small_table_takes_room_record_by_record() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_entries: 4095, ..limits(1, OnFull::Reject) });
    store.execute_at(1, 1, 300, NOW);
    store.check(&host);
}

#[test]
fn a_full_table_is_full_to_the_last_record_of_one_worker_and_never_beyond() {
    let host = Host::default();
    let limits = limits(1, OnFull::Reject);
    let (store, other) = (open(&host, limits), open(&host, limits));
    other.claim_at(0, 1, NOW);
    let full = (1..)
        .take_while(|number| {
            let claimed = store.claim_at(*number, 1, NOW);
            assert!(store.totals().unwrap().entries <= 4096);
            assert!(matches!(claimed, Claimed::Granted | Claimed::Full), "{claimed:?}");
            claimed == Claimed::Granted
        })
        .count();
    // One record is the other worker's, and one it has room for.
    assert_eq!(full, 4094);
    assert_eq!(other.claim_at(5000, 1, NOW), Claimed::Granted, "it has taken that room");
    assert_eq!(other.claim_at(5001, 1, NOW), Claimed::Full);
    [&store, &other].into_iter().for_each(|store| store.give_back_room().unwrap());
    store.check(&host);
}

#[test]
fn a_response_for_which_too_little_is_left_takes_the_rest_from_the_table() {
    let host = Host::default();
    let store = open(&host, limits(2, OnFull::Reject));
    store.claim_at(1, 1, NOW);
    assert_eq!(store.complete_at(1, 1, 100_000, NOW), Settled::Completed);
    let totals = store.totals().unwrap();
    assert!(totals.entries <= 3, "room for records is not taken again: {totals:?}");
    store.give_back_room().unwrap();
    store.check(&host);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever several workers do, in whatever order: within the bounds, and nothing is lost.
    #[test]
    fn workers_that_take_room_ahead_keep_the_totals_true(
        steps in prop::collection::vec((0..3_usize, 0..40_u32, 0..5_u8, 0..40_000_usize), 1..200),
    ) {
        let host = Host::default();
        let limits = SharedDataConfig { max_bytes: 512 << 10, ..limits(2, OnFull::EvictOldest) };
        let workers = [open(&host, limits), open(&host, limits), open(&host, limits)];
        for (worker, number, step, size) in steps {
            let store = workers.get(worker).unwrap();
            match step {
                0 => drop(store.claim_at(number, 1, NOW)),
                1 | 2 => drop(store.complete_at(number, 1, size, NOW)),
                3 => drop(store.settle_at(number, 1, Ending::Released, NOW)),
                _ => store.give_back_room().unwrap(),
            }
            let totals = store.totals().unwrap();
            prop_assert!(totals.bytes <= limits.max_bytes && totals.entries <= u64::from(limits.max_entries));
            let used = store.recount();
            prop_assert!(used.entries <= totals.entries && used.bytes <= totals.bytes, "{used:?} of {totals:?}");
        }
        for store in &workers {
            store.give_back_room().unwrap();
        }
        workers[0].check(&host);
    }
}
