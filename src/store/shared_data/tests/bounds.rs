//! The host's memory, byte by byte: keys can never be removed, so all of them count.

use super::{super::slots, fixture::*, memory::Host};
use crate::{
    config::{ENTRY_BYTES, SharedDataConfig},
    record::{Claim, Owner},
    store::{Claimed, Settled},
    time::Timestamp,
};

const LIMITS: SharedDataConfig = SharedDataConfig { max_entries: 5000, max_bytes: 8 << 20, ..ROOMY };

/// The longest key has 22 bytes ([`slots`]).
const KEY_BYTES: usize = 22;

/// Every key that the table can ever have: per bucket itself and its responses, the segments of the queue, and five of
/// the table.
const KEYS: usize = LIMITS.max_entries.div_ceil(slots::BUCKET_LOAD) as usize * (1 + slots::BUCKET_CAPACITY as usize)
    + LIMITS.max_entries as usize / 32
    + 256
    + 5;

/// Bytes of the body of the given operation: a few hundred to a few thousand, as APIs answer.
fn body_size(number: u32) -> usize {
    300 + (number.wrapping_mul(2_654_435_761) >> 20) as usize
}

#[test]
fn unique_keys_without_end_take_no_more_memory_than_the_limits_say() {
    let host = Host::default();
    let store = open(&host, LIMITS);
    let mut full_size = 0;
    for number in 0..30_000 {
        let now = Timestamp::from_millis(NOW.as_millis() + u64::from(number));
        assert_eq!(store.claim_at(number, 1, now), Claimed::Granted, "operation {number}");
        assert_eq!(store.complete_at(number, 1, body_size(number), now), Settled::Completed, "operation {number}");
        if number % 500 == 499 {
            let size = host.size();
            // What `max_bytes` counts per record is more than its encoded form, so the rest is keys.
            assert!(size <= LIMITS.max_bytes as usize + KEYS * KEY_BYTES, "{size} bytes at operation {number}");
            if number < 10_000 {
                full_size = full_size.max(size);
            } else {
                // Places that are used for the first time, and the difference that one response makes.
                let slack = KEYS * KEY_BYTES + 8192;
                assert!(size <= full_size + slack, "grew from {full_size} to {size} bytes by operation {number}");
            }
        }
    }
    store.give_back_room().unwrap();
    let totals = store.totals().unwrap();
    assert!(totals.entries <= 5000 && totals.bytes <= LIMITS.max_bytes, "{totals:?}");
    assert!(host.values().len() <= KEYS);
    store.check(&host);
}

#[test]
fn a_record_takes_less_than_is_counted_for_it() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_entries: 4, ..LIMITS });
    let empty = host.size();
    // The largest numbers make the longest encoding.
    let claim = Claim { owner: Owner::new(u128::MAX), ..claim(1, 1) };
    assert_eq!(store.run(claim, Timestamp::from_millis(u64::MAX - 200_000_000)), Claimed::Granted);

    let taken = (host.size() - empty) as u64 + KEY_BYTES as u64;
    assert!(taken <= ENTRY_BYTES, "{taken} bytes");
}

#[test]
fn no_key_is_longer_than_the_host_holds_without_an_allocation_of_its_own() {
    let last = slots::BucketIndex(u32::MAX);
    for key in [&*last.key(), &*last.response_key(slots::BUCKET_CAPACITY - 1), &*slots::segment_key(u32::MAX)] {
        assert!(key.len() <= KEY_BYTES + 1, "{key}");
    }
    assert!(
        [slots::HORIZON, slots::QUEUE, slots::SWEEPER, slots::TABLE, slots::TOTALS]
            .iter()
            .all(|key| key.len() <= KEY_BYTES)
    );
}
