//! How soon a full table forgets, as its workers tell each other, and what it promises then.

use std::time::Duration;

use super::{
    super::{Forgotten, slots},
    fixture::*,
    memory::Host,
};
use crate::{config::SharedDataConfig, record::Claim, store::Claimed, time::Timestamp};

const MINUTE: Duration = Duration::from_mins(1);

/// Room for two.
const TINY: SharedDataConfig = SharedDataConfig { max_entries: 2, keep_at_least: MINUTE, ..ROOMY };

/// A number of minutes after [`NOW`].
fn minute(minutes: u32) -> Timestamp {
    NOW.after(MINUTE * minutes)
}

fn forgotten(age: Duration) -> Forgotten {
    Forgotten { age, ttl: TTL }
}

/// Until when a replay says that the operation is kept.
fn promised(store: &Store, number: u32, now: Timestamp) -> Timestamp {
    match store.claim_at(number, 9, now) {
        Claimed::Completed { expires, .. } => expires,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_that_has_given_up_nothing_has_no_horizon() {
    let host = Host::default();
    let store = open(&host, TINY);
    store.execute_at(1, 1, 10, NOW);
    // Its time is over, as it was to be.
    store.execute_at(2, 1, 10, minute(5));
    store.execute_at(3, 1, 10, NOW.after(TTL));

    assert_eq!(store.share_horizon(NOW.after(TTL)), Ok(None));
    assert_eq!(store.horizon(), None);
    assert_eq!(promised(&store, 2, NOW.after(TTL)), minute(5).after(TTL));
}

#[test]
fn the_youngest_key_that_any_worker_gave_up_is_known_to_all_after_a_tick_and_logged_once() {
    let host = Host::default();
    let [one, other] = [(); 2].map(|()| open(&host, TINY));
    one.execute_at(1, 1, 10, minute(0));
    one.execute_at(2, 1, 10, minute(1));
    one.execute_at(3, 1, 10, minute(10));
    assert_eq!(one.horizon(), Some(forgotten(MINUTE * 10)));
    assert_eq!(other.horizon(), None);

    assert_eq!(one.share_horizon(minute(10)), Ok(Some(forgotten(MINUTE * 10))), "the first one");
    assert_eq!(other.share_horizon(minute(10)), Ok(None));
    assert_eq!(other.horizon(), Some(forgotten(MINUTE * 10)));

    other.execute_at(4, 1, 10, minute(11));
    other.execute_at(5, 1, 10, minute(13));
    assert_eq!(other.share_horizon(minute(13)), Ok(None), "there is a line in the log already");
    assert_eq!(one.share_horizon(minute(13)), Ok(None));
    assert_eq!(one.horizon(), Some(forgotten(MINUTE * 3)), "3 went at its third minute, 2 at its tenth");
}

#[test]
fn what_was_given_up_more_than_an_hour_ago_says_nothing_any_more() {
    let host = Host::default();
    let store = open(&host, TINY);
    for number in 0..3 {
        store.execute_at(number, 1, 10, minute(number));
    }
    assert_eq!(store.share_horizon(minute(2)), Ok(Some(forgotten(MINUTE * 2))));
    assert_eq!(store.share_horizon(minute(61)), Ok(None));
    assert!(store.horizon().is_some());
    assert_eq!(store.share_horizon(minute(62)), Ok(None));
    assert_eq!(store.horizon(), None);

    store.execute_at(3, 1, 10, minute(90));
    assert_eq!(store.share_horizon(minute(90)), Ok(Some(forgotten(MINUTE * 89))), "a new hour has its line");
    // The clock is set back: when that was, nobody knows.
    assert_eq!(store.share_horizon(minute(10)), Ok(None));
    assert_eq!(store.horizon(), None);
}

#[test]
fn a_worker_that_reads_the_clock_a_moment_earlier_knows_it_as_well() {
    let host = Host::default();
    let [one, other] = [(); 2].map(|()| open(&host, TINY));
    for number in 0..3 {
        one.execute_at(number, 1, 10, minute(number));
    }
    assert_eq!(one.share_horizon(minute(2)), Ok(Some(forgotten(MINUTE * 2))));
    let earlier = Timestamp::from_millis(minute(2).as_millis() - 1);
    assert_eq!(other.share_horizon(earlier), Ok(None));
    assert_eq!(other.horizon(), Some(forgotten(MINUTE * 2)));
}

#[test]
fn what_cannot_be_told_is_told_at_the_next_tick_and_what_cannot_be_read_is_overwritten() {
    let host = Host::default();
    let store = open(&host, TINY);
    for number in 0..3 {
        store.execute_at(number, 1, 10, minute(number));
    }
    host.overwrite(slots::HORIZON, b"garbage");
    store.memory.hook(|access| if access.writes { Err(crate::store::StoreError::Contended) } else { Ok(()) });
    assert!(store.share_horizon(minute(2)).is_err());
    store.memory.unhook();
    assert_eq!(store.share_horizon(minute(2)), Ok(Some(forgotten(MINUTE * 2))));
}

#[test]
fn two_workers_that_tell_at_once_lose_nothing() {
    let host = Host::default();
    let [one, other] = [(); 2].map(|()| open(&host, TINY));
    for number in 0..3 {
        one.execute_at(number, 1, 10, minute(number));
    }
    other.execute_at(3, 1, 10, minute(4));
    let told = other.horizon();
    one.memory.hook(move |access| {
        if access.writes && access.key == slots::HORIZON && access.number == 1 {
            assert_eq!(other.share_horizon(minute(4)), Ok(told));
        }
        Ok(())
    });
    assert_eq!(one.share_horizon(minute(4)), Ok(None), "the other one was first");
    assert_eq!(one.horizon(), Some(forgotten(MINUTE * 2)));
}

#[test]
fn a_table_that_forgets_promises_no_more_than_it_keeps_in_any_case() {
    let host = Host::default();
    let store = open(&host, TINY);
    store.execute_at(1, 1, 10, minute(0));
    store.execute_at(2, 1, 10, minute(3));
    assert_eq!(promised(&store, 2, minute(3)), minute(3).after(TTL));

    store.execute_at(3, 1, 10, minute(5));
    assert_eq!(promised(&store, 3, minute(5)), minute(6));
    assert_eq!(promised(&store, 3, minute(5)), minute(6), "remembered");
    assert_eq!(promised(&store, 2, minute(5)), minute(5), "it may go at any moment");

    let soon = Claim { ttl: MOMENT, ..claim(4, 1) };
    assert_eq!(store.run(soon.clone(), minute(6)), Claimed::Granted);
    let (owner, ending) = (soon.owner, crate::store::Ending::Completed(response(1, 10)));
    let settle = crate::store::Call::Settle {
        operation: soon.operation,
        fingerprint: soon.fingerprint,
        owner,
        ending,
        lease: LEASE,
        ttl: MOMENT,
    };
    store.call(settle, minute(6));
    assert_eq!(promised(&store, 4, minute(6)), minute(6).after(MOMENT), "never more than the retention");
}

#[test]
fn the_advice_names_what_would_have_been_large_enough() {
    let limits = SharedDataConfig { max_entries: 100_000, max_bytes: 64 << 20, ..ROOMY };
    let advice = forgotten(Duration::from_secs(17 * 60)).advice(&limits);
    assert_eq!(
        advice,
        "store.shared_data is full and forgets keys 1020 s after their operations ended, not 86400 s (ttl) after: a \
         retry that comes later runs again. At this rate ttl takes max_bytes of about 5421 MiB (now 64 MiB) and \
         max_entries of about 8470589 (now 100000)"
    );
    assert!(forgotten(Duration::ZERO).advice(&limits).contains("keys 0 s after"));
}
