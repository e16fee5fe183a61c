//! What a full table gives up, and what it never does.

use std::time::Duration;

use super::{
    super::{Tally, slots},
    fixture::*,
    memory::Host,
};
use crate::{
    config::{ENTRY_BYTES, OnFull, SharedDataConfig},
    record::{Amended, Amendment, Phase, Verb},
    store::{Claimed, Ending, Settled},
    time::Timestamp,
};

fn limits(max_entries: u32, max_bytes: u64) -> SharedDataConfig {
    SharedDataConfig { max_entries, max_bytes, ..ROOMY }
}

fn entries(max_entries: u32) -> SharedDataConfig {
    limits(max_entries, 1 << 20)
}

/// A moment before.
fn before(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis() - 1)
}

/// The given number of milliseconds after [`NOW`].
fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis)
}

fn table(limits: SharedDataConfig) -> (Host, Store) {
    let host = Host::default();
    let store = open(&host, limits);
    (host, store)
}

#[test]
fn what_has_ended_goes_before_anything_else() {
    let (host, store) = table(entries(3));
    store.claim_at(1, 1, NOW);
    store.settle_at(1, 1, Ending::NotKept(200), NOW);
    let now = NOW.after(TTL);
    store.execute_at(2, 1, 10, at(5));
    store.claim_at(3, 1, now);

    assert_eq!(store.claim_at(4, 1, now), Claimed::Granted);
    assert!(!store.knows(1) && store.knows(2) && store.knows(3));
    assert_eq!(store.take_tally(), Tally { expired: 1, ..Tally::default() });
    store.check(&host);
}

#[test]
fn the_oldest_completed_record_goes_first_with_its_response() {
    let (host, store) = table(entries(4));
    store.execute_at(1, 1, 10, at(3));
    store.execute_at(2, 1, 10, at(1));
    store.claim_at(3, 1, at(2));
    store.settle_at(3, 1, Ending::NotKept(200), at(2));
    store.claim_at(4, 1, at(0));
    store.settle_at(4, 1, Ending::Unknown, at(0));

    for (newcomer, victim) in [(11, 2), (12, 3), (13, 1)] {
        assert!(store.knows(victim));
        assert_eq!(store.claim_at(newcomer, 1, at(4)), Claimed::Granted);
        assert!(!store.knows(victim), "{victim} made no room for {newcomer}");
        store.check(&host);
    }
    assert_eq!(store.take_tally(), Tally { evicted: 3, ..Tally::default() });
    assert_eq!(store.claim_at(15, 1, at(4)), Claimed::Full);
}

#[test]
fn what_ended_within_the_time_that_all_is_kept_does_not_go() {
    let keep = Duration::from_hours(1);
    let (host, store) = table(SharedDataConfig { keep_at_least: keep, ..entries(3) });
    store.execute_at(1, 1, 10, at(0));
    store.claim_at(2, 1, at(0));
    store.settle_at(2, 1, Ending::NotKept(200), at(1));
    store.execute_at(3, 1, 10, at(2));

    for (newcomer, victim) in [(11, 1), (12, 2), (13, 3)] {
        let ended = at(u64::from(victim) - 1);
        assert_eq!(store.claim_at(newcomer, 1, before(ended.after(keep))), Claimed::Full, "{victim}");
        assert!(store.knows(victim));
        assert_eq!(store.claim_at(newcomer, 1, ended.after(keep)), Claimed::Granted, "{victim}");
        assert!(!store.knows(victim));
        store.check(&host);
    }
    assert_eq!(store.take_tally(), Tally { evicted: 3, ..Tally::default() });
}

#[test]
fn a_retention_shorter_than_the_time_that_all_is_kept_counts() {
    let (host, store) = table(SharedDataConfig { keep_at_least: TTL * 2, ..entries(1) });
    store.execute_at(1, 1, 10, NOW);
    assert_eq!(store.claim_at(2, 1, before(NOW.after(TTL))), Claimed::Full);
    assert_eq!(store.claim_at(2, 1, NOW.after(TTL)), Claimed::Granted);
    store.check(&host);
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_old() {
    let (_, store) = table(SharedDataConfig { keep_at_least: Duration::from_hours(1), ..entries(1) });
    store.execute_at(1, 1, 10, NOW);
    assert_eq!(store.claim_at(2, 1, Timestamp::from_millis(NOW.as_millis() - 7_200_000)), Claimed::Full);
    assert!(store.knows(1));
}

#[test]
fn a_response_may_go_within_the_time_that_all_is_kept_because_its_record_stays() {
    let fits = ENTRY_BYTES * 2 + stored_size(1, 1, 500);
    let (host, store) = table(SharedDataConfig { keep_at_least: TTL, ..limits(10, fits) });
    store.execute_at(1, 1, 500, at(0));
    store.execute_at(2, 1, 500, at(1));
    assert_eq!(store.claim_at(1, 2, at(2)), Claimed::NotKept { status: 201 });
    assert_eq!(store.take_tally(), Tally { dropped_responses: 1, ..Tally::default() });

    assert_eq!(store.claim_at(3, 1, at(3)), Claimed::Granted, "at the price of the other response");
    assert_eq!(store.claim_at(4, 1, at(3)), Claimed::Full);
    assert!(store.knows(1) && store.knows(2));
    store.check(&host);
}

#[test]
fn an_unknown_outcome_stays_until_it_ends() {
    let (host, store) = table(entries(2));
    store.claim_at(1, 1, NOW);
    store.settle_at(1, 1, Ending::Unknown, NOW);
    store.claim_at(2, 1, NOW);

    for now in [NOW, lapsed(), before(NOW.after(TTL))] {
        assert_eq!(store.claim_at(3, 1, now), Claimed::Full, "{now:?}");
        assert!(store.knows(1) && store.knows(2));
    }
    assert_eq!(store.claim_at(3, 1, NOW.after(TTL)), Claimed::Granted);
    assert!(!store.knows(1) && store.knows(2), "a lapsed claim ends later by its lease");
    assert_eq!(store.claim_at(4, 1, NOW.after(TTL)), Claimed::Full);
    assert_eq!(store.claim_at(4, 1, ended()), Claimed::Granted);
    store.check(&host);
}

#[test]
fn a_late_owner_of_a_full_table_finds_its_claim() {
    let (host, store) = table(entries(2));
    store.claim_at(1, 1, at(0));
    store.claim_at(2, 1, at(1));

    assert_eq!(store.claim_at(3, 1, before(ended())), Claimed::Full);
    assert_eq!(store.complete_at(1, 1, 10, before(ended())), Settled::Completed);
    store.check(&host);
}

#[test]
fn a_table_full_of_live_claims_refuses_and_recovers_as_they_end() {
    let (host, store) = table(entries(50));
    for number in 0..50 {
        assert_eq!(store.claim_at(number, 1, NOW), Claimed::Granted, "operation {number}");
    }
    assert_eq!(store.claim_at(50, 1, NOW), Claimed::Full);
    assert_eq!(store.take_tally(), Tally::default());

    store.settle_at(7, 1, Ending::Released, NOW);
    assert_eq!(store.claim_at(50, 1, NOW), Claimed::Granted);
    store.check(&host);
}

#[test]
fn a_table_that_rejects_gives_up_only_what_has_ended() {
    let (host, store) = table(SharedDataConfig { on_full: OnFull::Reject, ..entries(2) });
    store.execute_at(1, 1, 10, at(0));
    store.execute_at(2, 1, 10, at(1));

    assert_eq!(store.claim_at(3, 1, at(2)), Claimed::Full);
    assert!(matches!(store.claim_at(1, 2, at(2)), Claimed::Completed { .. }), "a full table still replays");
    assert_eq!(store.claim_at(3, 1, at(0).after(TTL)), Claimed::Granted);
    assert_eq!(store.claim_at(4, 1, at(0).after(TTL)), Claimed::Full);
    assert_eq!(store.take_tally(), Tally { expired: 1, ..Tally::default() });
    store.check(&host);
}

#[test]
fn a_table_that_rejects_keeps_the_responses_it_has_and_tombstones_the_one_that_does_not_fit() {
    let fits = ENTRY_BYTES * 2 + stored_size(1, 1, 500);
    let (host, store) = table(SharedDataConfig { on_full: OnFull::Reject, ..limits(10, fits) });
    store.execute_at(1, 1, 500, NOW);
    store.claim_at(2, 1, NOW);

    assert_eq!(store.complete_at(2, 1, 0, NOW), Settled::NotKept);
    assert!(matches!(store.claim_at(1, 2, NOW), Claimed::Completed { .. }));
    assert_eq!(store.claim_at(3, 1, NOW), Claimed::Full);
    store.check(&host);
}

#[test]
fn under_byte_pressure_the_oldest_response_goes_and_its_record_stays() {
    let fits = ENTRY_BYTES * 3 + 2 * stored_size(1, 1, 500);
    let (host, store) = table(limits(10, fits));
    store.execute_at(1, 1, 500, at(1));
    store.execute_at(2, 1, 500, at(0));
    store.execute_at(3, 1, 500, at(2));

    assert!(matches!(store.claim_at(1, 2, at(3)), Claimed::Completed { .. }));
    assert_eq!(store.claim_at(2, 2, at(3)), Claimed::NotKept { status: 201 });
    assert!(matches!(store.claim_at(3, 2, at(3)), Claimed::Completed { .. }));
    assert_eq!(store.take_tally(), Tally { dropped_responses: 1, ..Tally::default() });
    store.check(&host);
}

#[test]
fn a_claim_under_byte_pressure_costs_responses_before_records() {
    let fits = ENTRY_BYTES * 3 + stored_size(1, 1, 0);
    let (host, store) = table(limits(10, fits));
    store.claim_at(1, 1, at(0));
    store.settle_at(1, 1, Ending::NotKept(200), at(0));
    store.claim_at(2, 1, at(0));
    store.settle_at(2, 1, Ending::Unknown, at(0));
    store.execute_at(3, 1, 0, at(1));

    assert_eq!(store.claim_at(4, 1, at(2)), Claimed::Granted);
    assert!(store.knows(2), "an unknown outcome stays");
    assert!(matches!(store.phase_of(3), Some(Phase::NotKept { .. })), "the response goes first");
    assert!(!store.knows(1), "then the oldest completed record");
    store.check(&host);
}

#[test]
fn several_small_responses_make_room_for_one_large() {
    let fits = ENTRY_BYTES * 11 + 10 * stored_size(1, 1, 100);
    let (host, store) = table(limits(20, fits));
    for number in 1..=10 {
        store.execute_at(number, 1, 100, at(u64::from(number)));
    }
    store.execute_at(11, 1, 600, at(11));

    assert!(matches!(store.phase_of(1), Some(Phase::NotKept { .. })));
    assert!(matches!(store.phase_of(10), Some(Phase::Completed { .. })));
    assert_eq!(store.recount().entries, 11);
    store.check(&host);
}

#[test]
fn a_response_larger_than_the_whole_table_leaves_a_tombstone_and_costs_nobody_anything() {
    let (host, store) = table(limits(10, 4096));
    store.execute_at(1, 1, 100, NOW);
    store.claim_at(2, 1, NOW);

    assert_eq!(store.complete_at(2, 1, 4096, NOW), Settled::NotKept);
    assert_eq!(store.claim_at(2, 2, NOW), Claimed::NotKept { status: 201 });
    assert!(matches!(store.claim_at(1, 2, NOW), Claimed::Completed { .. }));
    assert_eq!(store.take_tally(), Tally::default());
    store.check(&host);
}

#[test]
fn a_late_completion_never_costs_its_own_record() {
    // The response does not fit beside its own record, and nothing else is there to give up.
    let (host, store) = table(limits(10, ENTRY_BYTES + 500));
    store.claim_at(1, 1, NOW);

    assert_eq!(store.complete_at(1, 1, 600, lapsed()), Settled::NotKept);
    assert_eq!(store.take_over_at(1, 2, lapsed()), Claimed::NotKept { status: 201 });
    store.check(&host);
}

#[test]
fn no_unknown_outcome_is_forgotten_for_the_sake_of_a_response() {
    let (host, store) = table(limits(10, ENTRY_BYTES * 3 + 100));
    store.claim_at(1, 1, NOW);
    store.settle_at(1, 1, Ending::Unknown, NOW);
    store.claim_at(2, 1, NOW);
    store.claim_at(3, 1, lapsed());

    assert_eq!(store.complete_at(3, 1, 200, lapsed()), Settled::NotKept);
    assert!(store.knows(1) && store.knows(2));
    store.check(&host);
}

#[test]
fn a_small_response_costs_the_oldest_tombstones_and_a_large_one_none() {
    let (host, store) = table(limits(30, ENTRY_BYTES * 20));
    for number in 1..=18 {
        store.claim_at(number, 1, at(u64::from(number)));
        store.settle_at(number, 1, Ending::NotKept(200), at(u64::from(number)));
    }
    store.claim_at(19, 1, at(19));
    store.claim_at(20, 1, at(19));

    assert_eq!(store.complete_at(19, 1, 6000, at(19)), Settled::NotKept);
    assert_eq!(store.recount().entries, 20);
    assert_eq!(store.complete_at(20, 1, 500, at(19)), Settled::Completed);
    assert!(!store.knows(1) && !store.knows(2) && store.knows(3));
    store.check(&host);
}

#[test]
fn an_owner_that_lost_its_claim_costs_nobody_anything() {
    let fits = ENTRY_BYTES * 2 + stored_size(1, 1, 500);
    let (host, store) = table(limits(10, fits));
    store.claim_at(1, 1, NOW);
    store.take_over_at(1, 2, lapsed());
    store.execute_at(2, 3, 500, lapsed());

    assert_eq!(store.complete_at(1, 1, 500, lapsed()), Settled::Fenced);
    assert!(matches!(store.claim_at(2, 4, lapsed()), Claimed::Completed { .. }));
    assert_eq!(store.take_tally(), Tally::default());
    store.check(&host);
}

#[test]
fn a_bucket_that_is_full_gives_up_its_own_oldest_record() {
    let (host, store) = table(entries(1000));
    let numbers: Vec<_> = store.neighbours(1).take(usize::from(slots::BUCKET_CAPACITY) + 1).collect();
    let (last, others) = numbers.split_last().unwrap();
    for (millis, number) in (0..).zip(others) {
        store.execute_at(*number, 1, 10, at(100 - millis));
    }
    assert_eq!(store.claim_at(*last, 1, at(101)), Claimed::Granted);

    let (oldest, kept) = others.split_last().unwrap();
    assert!(!store.knows(*oldest));
    assert!(kept.iter().all(|number| store.knows(*number)));
    store.check(&host);
}

#[test]
fn a_bucket_full_of_live_claims_refuses_another_and_leaves_the_rest_of_the_table_alone() {
    let (host, store) = table(entries(1000));
    let numbers: Vec<_> = store.neighbours(1).take(usize::from(slots::BUCKET_CAPACITY) + 1).collect();
    let (last, others) = numbers.split_last().unwrap();
    store.execute_at(2, 1, 10, NOW);
    for number in others {
        assert_eq!(store.claim_at(*number, 1, NOW), Claimed::Granted);
    }
    assert_eq!(store.claim_at(*last, 1, NOW), Claimed::Full);
    assert!(store.knows(2));
    store.check(&host);
}

#[test]
fn a_full_bucket_of_a_table_that_rejects_gives_up_nothing() {
    let (host, store) = table(SharedDataConfig { on_full: OnFull::Reject, ..entries(1000) });
    let numbers: Vec<_> = store.neighbours(1).take(usize::from(slots::BUCKET_CAPACITY) + 1).collect();
    let (last, others) = numbers.split_last().unwrap();
    for number in others {
        store.execute_at(*number, 1, 10, NOW);
    }
    assert_eq!(store.claim_at(*last, 1, NOW), Claimed::Full);
    assert!(others.iter().all(|number| store.knows(*number)));
    store.check(&host);
}

#[test]
fn a_table_of_one_entry_works() {
    let (host, store) = table(entries(1));
    for number in 0..20 {
        store.execute_at(number, 1, 10, at(u64::from(number)));
        assert_eq!(store.recount().entries, 1);
    }
    store.check(&host);
}

#[test]
fn in_a_large_table_with_few_responses_the_newest_is_not_the_one_that_goes() {
    let (host, store) = table(limits(100_000, 4 << 20));
    for number in 0..1500 {
        store.execute_at(number, 1, 16 << 10, at(u64::from(number)));
        if let Some(before) = number.checked_sub(1) {
            assert!(matches!(store.phase_of(before), Some(Phase::Completed { .. })), "{before} of {number}");
        }
    }
    store.give_back_room().unwrap();
    store.check(&host);
}

/// A table of 25,000 buckets that holds no more than a thousand responses of [`LARGE`] bytes.
fn sparse() -> SharedDataConfig {
    limits(100_000, 4 << 20)
}

const LARGE: usize = 4 << 10;

/// Large responses, a millisecond one after the other.
fn execute_large(store: &Store, owner: u128, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| store.execute_at(number, owner, LARGE, at(u64::from(number))));
}

/// The same where now and then none is within reach that may go, and a new one stays out. How many are stored.
fn execute_large_if_there_is_room(store: &Store, numbers: std::ops::Range<u32>) -> usize {
    let settled = numbers.map(|number| {
        assert_eq!(store.claim_at(number, 1, at(u64::from(number))), Claimed::Granted);
        store.complete_at(number, 1, LARGE, at(u64::from(number)))
    });
    let (stored, others): (Vec<_>, Vec<_>) = settled.partition(|settled| *settled == Settled::Completed);
    assert!(others.iter().all(|settled| *settled == Settled::NotKept), "{others:?}");
    stored.len()
}

fn kept(store: &Store, numbers: std::ops::Range<u32>) -> Vec<u32> {
    numbers.filter(|number| matches!(store.phase_of(*number), Some(Phase::Completed { .. }))).collect()
}

#[test]
fn responses_go_in_the_order_in_which_they_were_stored() {
    let (host, store) = table(sparse());
    let mut start = 0;
    for end in [1100, 1500, 2500] {
        execute_large(&store, 1, start..end);
        start = end;
        let kept = kept(&store, 0..end);
        let fit = (sparse().max_bytes - u64::from(end) * ENTRY_BYTES) / stored_size(1, 1, LARGE);
        assert!(kept.len() as u64 + 1 >= fit, "{} of {fit}", kept.len());
        assert_eq!(kept, (end - u32::try_from(kept.len()).unwrap()..end).collect::<Vec<_>>());
    }
    store.give_back_room().unwrap();
    store.check(&host);
}

#[test]
fn few_large_responses_in_a_large_table_are_not_searched_for() {
    let (_, store) = table(sparse());
    execute_large(&store, 1, 0..1200);
    let calls = (1200..1800).map(|number| {
        store.memory.hook(|_| Ok(()));
        execute_large(&store, 1, number..number + 1);
        store.memory.unhook()
    });
    let calls: Vec<_> = calls.collect();
    let mean = calls.iter().sum::<usize>() / calls.len();
    // Six for an execution; the totals, the queue, and what is given up.
    assert!(mean <= 14, "{mean} calls for each operation: {calls:?}");
}

#[test]
fn what_one_worker_stored_goes_for_what_another_stores() {
    let (host, idle) = table(sparse());
    execute_large(&idle, 1, 0..800);
    let busy = open(&host, sparse());
    execute_large(&busy, 2, 800..2000);
    let left = kept(&busy, 0..2000);
    assert!(left.len() > 750, "{}", left.len());
    assert!(left.iter().filter(|number| **number < 800).count() <= 4, "{left:?}");

    // Another one has few, and they stay as long as others do.
    let slow = open(&host, sparse());
    execute_large(&slow, 3, 2000..2010);
    execute_large(&busy, 2, 2010..2500);
    execute_large(&slow, 3, 2500..2510);
    assert_eq!(kept(&slow, 2000..2510).len(), 510);
    [&idle, &busy, &slow].into_iter().for_each(|store| store.give_back_room().unwrap());
    busy.check(&host);
}

#[test]
fn responses_that_are_gone_already_are_not_taken_for_the_oldest() {
    let (host, store) = table(sparse());
    execute_large(&store, 1, 0..700);
    for number in 0..500 {
        let amended = store.amend(&operation(number), Amendment { verb: Verb::Purge, force: false }, at(700)).unwrap();
        assert!(matches!(amended, Amended::Done { .. }), "{amended:?}");
    }
    let stored = execute_large_if_there_is_room(&store, 700..2000);

    // Not all that are gone are passed over at once: now and then a sample is looked at instead.
    assert!(stored > 1250, "{stored} of 1300");
    let kept = kept(&store, 0..2000);
    let oldest = *kept.first().unwrap();
    assert!(oldest > 1000 && kept.len() + 64 >= (oldest..2000).len(), "{} from {oldest} on", kept.len());
    store.give_back_room().unwrap();
    store.check(&host);
}

#[test]
fn what_the_queue_lost_is_found_without_it() {
    let (host, store) = table(sparse());
    execute_large(&store, 1, 0..1200);
    for (key, _) in host.values() {
        if key.starts_with("idemgate/v1/q") {
            host.overwrite(&key, b"damaged");
        }
    }
    let stored = execute_large_if_there_is_room(&store, 1200..1600);
    assert!(stored > 300, "{stored} of 400");
    assert!(kept(&store, 0..1600).len() > 700);
    store.give_back_room().unwrap();
    store.check(&host);
}

#[test]
fn the_room_of_a_victim_that_nobody_needs_goes_back_at_once() {
    let (host, store) = table(sparse());
    store.execute_at(1, 1, 3 << 20, at(1));
    store.execute_at(2, 1, (1 << 20) - 2000, at(2));
    store.execute_at(3, 1, 1000, at(3));

    assert!(matches!(store.phase_of(1), Some(Phase::NotKept { .. })), "the oldest one went");
    let ahead = store.totals().unwrap().bytes - store.recount().bytes;
    assert!(ahead <= 1024, "{ahead} bytes are taken ahead");
    store.give_back_room().unwrap();
    store.check(&host);
}
