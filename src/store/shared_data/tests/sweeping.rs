//! The sweeper: one at a time, and the table gets clean without anybody asking for its records.

use std::time::Duration;

use super::{
    super::{Sweep, Tally, Totals, slots},
    fixture::*,
    memory::Host,
};
use crate::{
    config::SharedDataConfig,
    record::{Owner, encode},
    store::StoreError,
    time::Timestamp,
};

/// As long as a worker that does not tick stays the sweeper.
const TERM: Duration = Duration::from_secs(10);

fn table() -> (Host, Store) {
    let host = Host::default();
    let store = open(&host, ROOMY);
    (host, store)
}

#[test]
fn what_has_ended_is_swept_without_being_asked_for() {
    let (host, store) = table();
    for number in 0..200 {
        store.execute_at(number, 1, 10, NOW);
    }
    store.claim_at(200, 1, NOW);
    let now = NOW.after(TTL);

    assert_eq!(store.sweep_at(1, now), Sweep::Swept(Totals::of_entry(0)));
    assert_eq!(store.take_tally(), Tally { expired: 200, ..Tally::default() });
    store.check(&host);
}

#[test]
fn a_table_of_many_buckets_is_swept_in_a_few_ticks_and_then_again() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_entries: 4000, ..ROOMY });
    for round in 0..2 {
        for number in 0..1000 {
            store.execute_at(number, round, 10, NOW);
        }
        for _ in 0..4 {
            store.sweep_at(1, NOW.after(TTL));
        }
        assert_eq!(store.totals(), Ok(Totals::default()), "round {round}");
    }
    store.check(&host);
}

#[test]
fn one_worker_at_a_time_is_the_sweeper() {
    let (host, store) = table();
    let other = open(&host, ROOMY);

    assert!(matches!(store.sweep_at(1, NOW), Sweep::Swept(_)));
    assert_eq!(other.sweep_at(2, NOW), Sweep::NotElected);
    assert!(matches!(store.sweep_at(1, NOW.after(TERM / 2)), Sweep::Swept(_)));
    assert_eq!(other.sweep_at(2, NOW.after(TERM)), Sweep::NotElected, "each tick starts the term anew");
}

#[test]
fn two_workers_that_stand_at_once_do_not_both_win() {
    for vacant_at_first in [true, false] {
        let host = Host::default();
        let store = open(&host, ROOMY);
        if !vacant_at_first {
            store.sweep_at(3, NOW);
        }
        let now = NOW.after(TERM);
        let other = open(&host, ROOMY);
        store.memory.hook(move |access| {
            if access.writes && access.key == slots::SWEEPER && access.number == 1 {
                assert!(matches!(other.sweep_at(2, now), Sweep::Swept(_)));
            }
            Ok(())
        });
        assert_eq!(store.sweep_at(1, now), Sweep::NotElected);
    }
}

#[test]
fn a_dead_sweeper_is_followed_by_another_where_it_stopped() {
    let host = Host::default();
    let many = SharedDataConfig { max_entries: 4000, ..ROOMY };
    let (store, other) = (open(&host, many), open(&host, many));
    for number in 0..1000 {
        store.execute_at(number, 1, 10, NOW);
    }
    let now = NOW.after(TTL);
    store.sweep_at(1, now);
    store.sweep_at(1, now);

    for _ in 0..2 {
        other.sweep_at(2, now.after(TERM));
    }
    assert_eq!(store.totals(), Ok(Totals::default()), "four quarters were swept by two workers");
}

#[test]
fn a_clock_that_steps_backwards_does_not_leave_sweeping_to_the_dead() {
    let (_, store) = table();
    store.sweep_at(1, NOW);
    let before = Timestamp::from_millis(NOW.as_millis() - 3_600_000);
    assert!(matches!(store.sweep_at(2, before), Sweep::Swept(_)));
}

#[test]
fn who_cannot_be_read_is_no_sweeper() {
    for sweeper in [b"".as_slice(), b"garbage", &encode(&7_u8).unwrap(), &[99; 40]] {
        let (host, store) = table();
        store.execute_at(1, 1, 10, NOW);
        host.overwrite(slots::SWEEPER, sweeper);
        assert_eq!(store.sweep_at(1, NOW.after(TTL)), Sweep::Swept(Totals::default()));
    }
}

#[test]
fn a_bucket_that_cannot_be_read_does_not_keep_the_others_from_being_swept() {
    let (host, store) = table();
    for number in 0..100 {
        store.execute_at(number, 1, 10, NOW);
    }
    let damaged = (0..100).filter(|number| store.bucket_key(*number) == store.bucket_key(5)).count();
    host.overwrite(&store.bucket_key(5), b"garbage");

    let swept = store.sweep(Owner::new(1), NOW.after(TTL));
    assert!(matches!(swept, Err(StoreError::Unreadable(_))), "{swept:?}");
    assert_eq!(store.totals().unwrap().entries, damaged as u64, "all but those in the damaged bucket are gone");
}
