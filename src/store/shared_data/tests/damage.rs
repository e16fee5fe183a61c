//! What is stored is damaged, foreign or of another release, or the host refuses a call: nothing runs
//! twice, and nothing panics.

use std::time::Duration;

use super::{
    super::{Sweep, slots},
    fixture::*,
    memory::Host,
};
use crate::{
    config::{OnFull, SharedDataConfig},
    record::{Claim, CodecError, FORMAT_VERSION, Owner},
    store::{Answer, Call, Claimed, Ending, Renewed, Settled, Settlement, StoreError},
};

fn table() -> (Host, Store) {
    let host = Host::default();
    let store = open(&host, ROOMY);
    (host, store)
}

/// Everything that `bytes` can turn into by accident: cut anywhere, one bit changed, lengthened.
fn accidents(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cuts = (1..bytes.len()).map(|length| bytes[..length].to_vec());
    let flips = (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    });
    cuts.chain(flips).chain([[bytes, b"\0"].concat(), b"another plugin's".to_vec(), vec![0xff; 300]])
}

#[test]
fn a_damaged_bucket_fails_every_call_on_it_and_grants_nothing() {
    let (host, store) = table();
    store.execute_at(1, 1, 10, NOW);
    let other = store.neighbours(1).nth(1).unwrap();
    store.claim_at(other, 1, NOW);
    let bucket = host.value(&store.bucket_key(1));

    for damaged in accidents(&bucket) {
        host.overwrite(&store.bucket_key(1), &damaged);
        for number in [1, other] {
            let claimed = store.claim_at(number, 2, NOW.after(LEASE / 2));
            assert!(matches!(claimed, Claimed::Failed(StoreError::Unreadable(_))), "{claimed:?} of {damaged:02x?}");
        }
        assert!(matches!(store.renew_at(other, 1, NOW), Renewed::Failed(StoreError::Unreadable(_))));
        assert!(matches!(store.complete_at(other, 1, 5, NOW), Settled::Failed(StoreError::Unreadable(_))));
    }

    host.overwrite(&store.bucket_key(1), &bucket);
    store.check(&host);
}

#[test]
fn a_bucket_of_another_release_is_refused_by_its_version() {
    let (host, store) = table();
    store.execute_at(1, 1, 10, NOW);
    let mut bucket = host.value(&store.bucket_key(1));
    bucket[0] = FORMAT_VERSION + 1;
    host.overwrite(&store.bucket_key(1), &bucket);

    let refused = StoreError::Unreadable(CodecError::Version(FORMAT_VERSION + 1));
    assert_eq!(store.claim_at(1, 2, NOW), Claimed::Failed(refused));
}

#[test]
fn a_completed_operation_whose_response_is_damaged_or_gone_is_known_to_have_run() {
    let (host, store) = table();
    store.execute_at(1, 1, 0, NOW);
    let key = store.response_key(1);
    let whole = host.value(&key);

    for damaged in accidents(&whole).chain([Vec::new()]) {
        host.overwrite(&key, &damaged);
        assert_eq!(store.claim_at(1, 2, NOW), Claimed::NotKept { status: 201 }, "{damaged:02x?}");
    }
}

#[test]
fn a_response_of_another_operation_is_not_replayed() {
    let (host, store) = table();
    store.execute_at(1, 1, 10, NOW);
    store.execute_at(2, 2, 10, NOW);
    store.execute_at(3, 1, 10, NOW);
    for other in [2, 3] {
        host.overwrite(&store.response_key(1), &host.value(&store.response_key(other)));
        assert_eq!(store.claim_at(1, 3, NOW), Claimed::NotKept { status: 201 });
    }
}

#[test]
fn a_damaged_response_is_replaced_by_the_next_at_its_place() {
    let (host, store) = table();
    store.execute_at(1, 1, 10, NOW);
    host.overwrite(&store.response_key(1), b"garbage");

    store.execute_at(1, 2, 20, NOW.after(TTL));
    assert!(matches!(store.claim_at(1, 3, NOW.after(TTL)), Claimed::Completed { .. }));
    store.check(&host);
}

#[test]
fn a_damaged_bucket_does_not_keep_a_full_table_from_making_room_elsewhere() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_entries: 40, ..ROOMY });
    for number in 0..40 {
        store.execute_at(number, 1, 10, NOW);
    }
    let damaged = store.bucket_key(0);
    host.overwrite(&damaged, b"garbage");

    for number in (100..150).filter(|number| store.bucket_key(*number) != damaged) {
        assert_eq!(store.claim_at(number, 1, NOW), Claimed::Granted, "operation {number}");
        store.settle_at(number, 1, Ending::NotKept(200), NOW);
    }
}

#[test]
fn damaged_totals_are_repaired_by_the_next_claim_and_bind_it() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_entries: 3, on_full: OnFull::Reject, ..ROOMY });
    store.execute_at(1, 1, 10, NOW);
    store.execute_at(2, 1, 20, NOW);
    for damaged in accidents(&host.value(slots::TOTALS)).chain([Vec::new()]) {
        host.overwrite(slots::TOTALS, &damaged);
        assert!(matches!(store.claim_at(1, 2, NOW), Claimed::Completed { .. }));
        assert_eq!(store.claim_at(3, 1, NOW), Claimed::Granted, "{damaged:02x?}");
        // Of a small table all is looked at, so that it is known to be full.
        store.check(&host);
        assert_eq!(store.claim_at(4, 1, NOW), Claimed::Full);
        assert_eq!(store.settle_at(3, 1, Ending::Released, NOW), Settled::Released);
        store.check(&host);
    }
}

#[test]
fn damaged_totals_are_repaired_by_the_sweeper_too() {
    let (host, store) = table();
    store.execute_at(1, 1, 10, NOW);
    host.overwrite(slots::TOTALS, b"junk");
    // What cannot be counted off now is not counted later.
    assert_eq!(store.claim_at(2, 2, NOW), Claimed::Granted);
    host.overwrite(slots::TOTALS, b"junk");
    assert_eq!(store.settle_at(2, 2, Ending::Released, NOW), Settled::Released);
    assert!(matches!(store.sweep_at(1, NOW), Sweep::Swept(_)));
    store.check(&host);
}

#[test]
fn a_large_table_is_estimated_at_once_and_counted_by_the_sweeper_while_claims_go_on() {
    const LARGE: SharedDataConfig = SharedDataConfig { max_entries: 8000, max_bytes: 16 << 20, ..ROOMY };
    let host = Host::default();
    let [store, other] = [open(&host, LARGE), open(&host, LARGE)];
    for number in 0..3000 {
        store.execute_at(number, 1, 100, NOW);
    }
    store.give_back_room().unwrap();
    host.overwrite(slots::TOTALS, b"junk");
    assert_eq!(other.claim_at(5000, 1, NOW), Claimed::Granted);
    let estimate = other.totals().unwrap();
    let there = other.recount();
    // An eighth too much, and what a sample may be off.
    assert!(
        there.entries < estimate.entries && estimate.entries < there.entries * 13 / 10,
        "{estimate:?} of {there:?}"
    );
    assert!(there.bytes < estimate.bytes && estimate.bytes < there.bytes * 13 / 10, "{estimate:?} of {there:?}");

    // Of 2000 buckets, 256 at each tick.
    for tick in 1..=8_u32 {
        let now = NOW.after(Duration::from_secs(tick.into()));
        assert_eq!(other.claim_at(5000 + tick, 1, now), Claimed::Granted);
        other.sweep_at(2, now);
        assert_eq!(store.sweep_at(1, now), Sweep::NotElected);
        other.give_back_room().unwrap();
    }
    let (counted, there) = (store.totals().unwrap(), store.recount());
    // What one worker takes ahead in such a table is one record; sixteen of them are allowed for.
    assert!(there.entries <= counted.entries && counted.entries <= there.entries + 32, "{counted:?} of {there:?}");
    assert!(there.bytes <= counted.bytes && counted.bytes <= there.bytes + (128 << 10), "{counted:?} of {there:?}");
}

#[test]
fn a_count_that_another_sweeper_takes_over_begins_anew() {
    const LARGE: SharedDataConfig = SharedDataConfig { max_entries: 4000, max_bytes: 16 << 20, ..ROOMY };
    let host = Host::default();
    let [store, other] = [open(&host, LARGE), open(&host, LARGE)];
    for number in 0..2000 {
        store.execute_at(number, 1, 100, NOW);
    }
    host.overwrite(slots::TOTALS, b"junk");
    store.sweep_at(1, NOW);
    store.sweep_at(1, NOW);
    let later = NOW.after(Duration::from_secs(11));
    // The first one has died, and the other one goes on where it stopped, for a whole round.
    for _ in 0..4 {
        assert!(store.totals().unwrap() != store.recount());
        other.sweep_at(2, later);
    }
    assert_eq!(store.totals().unwrap(), store.recount());
}

#[test]
fn a_damaged_table_is_not_opened() {
    let (host, _) = table();
    for damaged in accidents(&host.value(slots::TABLE)).chain([Vec::new()]) {
        host.overwrite(slots::TABLE, &damaged);
        let opened = Store::open(host.worker(), ROOMY, 42);
        assert!(matches!(opened, Err(StoreError::Unreadable(_))), "{damaged:02x?}");
    }
}

#[test]
fn a_refused_call_anywhere_grants_nothing_twice_and_never_makes_the_table_look_emptier() {
    const REFUSED: StoreError = StoreError::Host(10);
    let calls = [
        (claims(9, 9), NOW),
        (claims(9, 9), NOW.after(TTL)),
        (claims(2, 9), NOW),
        (renews(1, 1), NOW),
        (settles(1, 1, Ending::Completed(response(1, 900))), NOW),
        (settles(1, 1, Ending::NotKept(200)), NOW),
        (settles(1, 1, Ending::Released), NOW),
        (settles(1, 1, Ending::Unknown), NOW),
    ];
    for (call, now) in calls {
        let mut refused = true;
        let mut point = 0;
        while refused {
            let host = Host::default();
            let store = open(&host, SharedDataConfig { max_entries: 3, max_bytes: 2560, ..ROOMY });
            store.claim_at(1, 1, NOW);
            store.execute_at(2, 2, 300, NOW);
            store.execute_at(3, 3, 300, NOW);

            store.memory.hook(move |access| if access.number == point { Err(REFUSED) } else { Ok(()) });
            let answer = store.call(call.clone(), now);
            refused = store.memory.unhook() > point;
            point += 1;

            let (counted, there) = (store.totals().unwrap(), store.recount());
            assert!(counted.entries >= there.entries && counted.bytes >= there.bytes, "{counted:?} for {there:?}");
            match (&call, answer) {
                (Call::Claim(claim), Answer::Claimed(Claimed::Granted)) => {
                    assert!(matches!(
                        store.run(Claim { owner: Owner::new(10), ..claim.clone() }, now),
                        Claimed::InFlight { .. }
                    ));
                }
                (_, Answer::Claimed(Claimed::Completed { response: replayed, .. })) => {
                    assert_eq!(*replayed, response(2, 300));
                }
                (_, Answer::Settled(Settlement { settled: Settled::Completed, .. })) => {
                    let replay = store.claim_at(1, 10, now);
                    assert!(matches!(replay, Claimed::Completed { .. }), "{replay:?}");
                }
                (_, Answer::Settled(Settlement { settled: Settled::Failed(error), .. })) => {
                    assert_eq!(error, REFUSED);
                    assert!(!matches!(store.claim_at(1, 10, now), Claimed::Completed { .. }), "{call:?} at {point}");
                }
                _ => {}
            }
        }
        assert!(point > 1, "{call:?} made no call to refuse");
    }
}
