//! No caller takes the table from another.

use super::{
    super::{
        Sweep,
        shares::{Sketch, Tag},
        slots::{self, BucketIndex},
    },
    fixture::*,
    memory::Host,
};
use crate::{
    config::{OnFull, Share, SharedDataConfig},
    record::{Amendment, Claim, Verb},
    request::Caller,
    store::{Claimed, Ending, Scarce, Settled},
    time::Timestamp,
};

const QUARTER: Share = Share::percent(25);
const ATTACKER: u8 = 1;

/// Of 16 buckets, looked at whole.
const SMALL: SharedDataConfig = SharedDataConfig { max_entries: 64, ..ROOMY };

fn claim_of(caller: u8, number: u32, owner: u128) -> Claim {
    Claim { caller: Caller::from_bytes([caller; 32]), share: QUARTER, ..claim(number, owner) }
}

fn refused() -> Claimed {
    Claimed::OverShare(Scarce::Records)
}

impl Store {
    fn claim_as(&self, caller: u8, number: u32, now: Timestamp) -> Claimed {
        self.run(claim_of(caller, number, 1), now)
    }

    fn leave_unknown(&self, caller: u8, number: u32, now: Timestamp) -> Claimed {
        let claimed = self.claim_as(caller, number, now);
        if claimed == Claimed::Granted {
            assert_eq!(self.settle_at(number, 1, Ending::Unknown, now), Settled::Unknown);
        }
        claimed
    }

    fn execute_as(&self, caller: u8, number: u32, now: Timestamp) -> Claimed {
        let claimed = self.claim_as(caller, number, now);
        if claimed == Claimed::Granted {
            assert_eq!(self.complete_at(number, 1, 10, now), Settled::Completed);
        }
        claimed
    }

    /// How many records each caller has, by looking at every bucket.
    pub(super) fn count_callers(&self) -> Sketch {
        let mut sketch = Sketch::default();
        for index in (0..self.table.buckets).map(BucketIndex) {
            let (bucket, _) = self.read_bucket(index).unwrap();
            bucket.entries().iter().filter_map(|entry| entry.caller).for_each(|tag| sketch.add(tag));
        }
        sketch
    }
}

/// An attempt to fill the table with records that are never evicted.
fn attacked(store: &Store, share: Share) -> Vec<Claimed> {
    let attack = |number| {
        let claimed = store.run(Claim { share, ..claim_of(ATTACKER, number, 1) }, NOW);
        if claimed == Claimed::Granted {
            store.settle_at(number, 1, Ending::Unknown, NOW);
        }
        claimed
    };
    (1000..1200).map(attack).collect()
}

#[test]
fn who_fills_the_table_with_unknown_outcomes_is_refused_alone() {
    let store = open(&Host::default(), SMALL);
    for number in 0..10 {
        assert_eq!(store.execute_as(2, number, NOW), Claimed::Granted);
    }
    let attack = attacked(&store, QUARTER);
    // Half of the table is nobody's as long as nobody needs it.
    let granted = attack.iter().filter(|claimed| **claimed == Claimed::Granted).count();
    assert_eq!(granted, 22);
    assert!(attack[granted..].iter().all(|claimed| *claimed == refused()), "{attack:?}");

    // Everybody else is served, and nothing that ran is forgotten.
    for number in 0..10 {
        assert!(matches!(store.execute_as(2, number, NOW), Claimed::Completed { .. }));
    }
    for number in 10..42 {
        assert_eq!(store.execute_as(2 + (number % 8) as u8, number, NOW), Claimed::Granted, "{number}");
    }
    assert_eq!(store.totals().unwrap().entries, 64);
    assert_eq!(store.claim_as(ATTACKER, 1300, NOW), refused());

    // Without shares it is everybody who is refused.
    let store = open(&Host::default(), SMALL);
    assert!(attacked(&store, Share::WHOLE).contains(&Claimed::Full));
    assert_eq!(store.execute_as(2, 1, NOW), Claimed::Full);
}

#[test]
fn its_own_oldest_completed_record_makes_room_for_a_callers_next_one() {
    let store = open(&Host::default(), SMALL);
    let at = |number: u32| NOW.after(MOMENT * number);
    for number in 0..20 {
        store.execute_as(2, 500 + number, NOW);
    }
    for number in 0..30 {
        assert_eq!(store.execute_as(ATTACKER, number, at(number + 1)), Claimed::Granted);
    }
    let has: Vec<_> = (0..30).filter(|number| store.knows(*number)).collect();
    assert_eq!(has, (14..30).collect::<Vec<_>>());
    assert!((500..520).all(|number| store.knows(number)));
}

#[test]
fn what_is_too_young_to_go_makes_no_room_for_its_own_caller_either() {
    let limits = SharedDataConfig { keep_at_least: LEASE, ..SMALL };
    for (limits, then) in
        [(limits, Claimed::Granted), (SharedDataConfig { on_full: OnFull::Reject, ..limits }, refused())]
    {
        let store = open(&Host::default(), limits);
        for number in 0..32 {
            assert_eq!(store.execute_as(ATTACKER, number, NOW), Claimed::Granted);
        }
        assert_eq!(store.execute_as(ATTACKER, 32, lapsed_before()), refused());
        assert_eq!(store.execute_as(ATTACKER, 32, lapsed()), then);
        assert_eq!(store.execute_as(2, 33, lapsed_before()), Claimed::Granted);
    }
}

fn lapsed_before() -> Timestamp {
    Timestamp::from_millis(lapsed().as_millis() - 1)
}

#[test]
fn a_full_table_gives_up_the_records_of_those_who_have_their_share_first() {
    let store = open(&Host::default(), SMALL);
    let at = |number: u32| NOW.after(MOMENT * number);
    // The oldest are of others.
    for number in 0..32 {
        store.execute_as(10 + (number % 16) as u8, number, at(0));
    }
    for number in 100..116 {
        store.execute_as(ATTACKER, number, at(number));
    }
    for number in 200..216 {
        assert_eq!(store.execute_as(30, number, at(number)), Claimed::Granted);
    }
    assert_eq!(store.totals().unwrap().entries, 64);
    assert_eq!(store.execute_as(40, 300, at(300)), Claimed::Granted);
    assert!(!store.knows(100), "the oldest of those who have a quarter goes");
    // Now it has one less than its share, and the other one is the only one that has.
    assert_eq!(store.execute_as(41, 301, at(301)), Claimed::Granted);
    assert!(!store.knows(200) && store.knows(101));
    // Nobody is above: the oldest goes, of any caller.
    assert_eq!(store.execute_as(42, 302, at(302)), Claimed::Granted);
    assert_eq!((0..32).filter(|number| store.knows(*number)).count(), 31);
}

#[test]
fn a_caller_alone_has_half_of_the_table_and_all_of_it_if_nobody_is_bound() {
    for (share, most) in [(QUARTER, 32), (Share::percent(75), 48), (Share::WHOLE, 64)] {
        let store = open(&Host::default(), SMALL);
        let granted = attacked(&store, share).into_iter().filter(|claimed| *claimed == Claimed::Granted).count();
        assert_eq!(granted, most, "{share:?}");
    }
}

#[test]
fn a_share_is_free_again_when_a_record_is_released_ends_or_is_purged() {
    let host = Host::default();
    let store = open(&host, SMALL);
    for number in 0..32 {
        assert_eq!(store.claim_as(ATTACKER, number, NOW), Claimed::Granted);
    }
    assert_eq!(store.claim_as(ATTACKER, 32, NOW), refused());
    assert_eq!(store.settle_at(0, 1, Ending::Released, NOW), Settled::Released);
    assert_eq!(store.claim_as(ATTACKER, 32, NOW), Claimed::Granted);
    assert_eq!(store.claim_as(ATTACKER, 33, NOW), refused());
    store.check(&host);
    store.sweep_at(1, ended());
    store.check(&host);
    assert_eq!(store.claim_as(ATTACKER, 33, ended()), Claimed::Granted);
}

#[test]
fn a_share_holds_over_all_workers_of_a_large_table_but_for_what_they_have_not_told() {
    const LARGE: SharedDataConfig = SharedDataConfig { max_entries: 16 * 4096, max_bytes: 64 << 20, ..ROOMY };
    let host = Host::default();
    let [one, two] = [open(&host, LARGE), open(&host, LARGE)];
    let half = LARGE.max_entries / 2;
    let granted = (0..half + 200)
        .filter(|number| {
            let store = if number % 2 == 0 { &one } else { &two };
            store.leave_unknown(ATTACKER, *number, NOW) == Claimed::Granted
        })
        .count() as u32;
    // Each may have 16 that the other does not know of.
    assert!((half..=half + 32).contains(&granted), "{granted} of {half}");
    for (number, store) in [(1 << 20, &one), (1 << 21, &two)] {
        store.give_back_room().unwrap();
        assert_eq!(store.leave_unknown(ATTACKER, number, NOW), refused());
        assert_eq!(store.execute_as(2, number + 1, NOW), Claimed::Granted);
    }
    one.give_back_room().unwrap();
    two.give_back_room().unwrap();
    one.check(&host);
}

#[test]
fn damaged_counts_bind_nobody_until_the_sweeper_has_counted_anew() {
    let host = Host::default();
    let [store, sweeper] = [open(&host, SMALL), open(&host, SMALL)];
    attacked(&store, QUARTER);
    let whole = host.value(slots::SHARES);
    let mut changed = whole.clone();
    changed[5] ^= 1;
    for damaged in [Vec::new(), b"junk".to_vec(), whole[1..].to_vec(), [whole.clone(), vec![0]].concat(), changed] {
        host.overwrite(slots::SHARES, &damaged);
        assert_eq!(store.leave_unknown(ATTACKER, 1300, NOW), Claimed::Granted);
        store.give_back_room().unwrap();
        // By one that has seen no request.
        assert!(matches!(sweeper.sweep_at(1, NOW), Sweep::Swept(_)));
        store.check(&host);
        assert_eq!(store.leave_unknown(ATTACKER, 1301, NOW), refused());
        store.amend(&operation(1300), Amendment { verb: Verb::Purge, force: true }, NOW).unwrap();
    }
}

#[test]
fn a_worker_that_dies_with_what_it_has_not_told_makes_the_sweeper_count_anew() {
    const LARGE: SharedDataConfig = SharedDataConfig { max_entries: 4 * 4096, max_bytes: 64 << 20, ..ROOMY };
    let host = Host::default();
    let [dead, store] = [open(&host, LARGE), open(&host, LARGE)];
    for number in 0..3 {
        assert_eq!(dead.claim_as(7, number, NOW), Claimed::Granted);
    }
    drop(dead);
    // What it has added is taken away, and was never there.
    for number in 0..2 {
        assert_eq!(store.settle_at(number, 1, Ending::Released, NOW), Settled::Released);
    }
    store.give_back_room().unwrap();
    for _ in 0..=LARGE.max_entries / 4 / 256 {
        store.sweep_at(1, NOW);
    }
    assert_eq!(Sketch::from_bytes(&host.value(slots::SHARES)), Some(store.count_callers()));
}

#[test]
fn counts_that_stay_too_high_because_workers_died_are_set_right_on_a_walk_on_which_little_changes() {
    const LARGE: SharedDataConfig = SharedDataConfig { max_entries: 4 * 4096, max_bytes: 64 << 20, ..ROOMY };
    let host = Host::default();
    let store = open(&host, LARGE);
    for number in 0..10 {
        assert_eq!(store.claim_as(8, 1000 + number, NOW), Claimed::Granted);
    }
    for death in 0..40 {
        let dead = open(&host, LARGE);
        for number in 3 * death..3 * death + 3 {
            assert_eq!(store.claim_as(7, number, NOW), Claimed::Granted);
            assert_eq!(dead.settle_at(number, 1, Ending::Released, NOW), Settled::Released);
        }
        // It has told nobody that they are gone.
        drop(dead);
    }
    store.give_back_room().unwrap();
    let told = || Sketch::from_bytes(&host.value(slots::SHARES)).unwrap();
    let is_too_high = || told() != store.count_callers();
    assert!(is_too_high());

    let walk = |busy: bool| {
        for tick in 0..LARGE.max_entries / 4 / 256 {
            if busy {
                // Nobody can tell whether these are what was counted and is not told, or the other way round.
                (0..10).for_each(|number| drop(store.claim_as(9, 2000 + 10 * tick + number, NOW)));
                store.give_back_room().unwrap();
            }
            store.sweep_at(1, NOW);
        }
    };
    walk(true);
    assert!(is_too_high());
    walk(false);
    assert!(!is_too_high());
    walk(true);
    assert!(!is_too_high());
}

#[test]
fn a_caller_whose_own_record_was_not_given_up_after_all_gets_no_place_for_it() {
    let host = Host::default();
    let [store, other] = [open(&host, SMALL), open(&host, SMALL)];
    let at = |number: u32| NOW.after(MOMENT * number);
    for number in 0..32 {
        assert_eq!(store.execute_as(ATTACKER, number, at(number)), Claimed::Granted);
    }
    let oldest = store.bucket_key(0);
    let same = (1000..).find(|number| store.bucket_key(*number) == oldest).unwrap();
    let next = (32..).find(|number| store.bucket_key(*number) != oldest).unwrap();
    // Another caller's claim comes in the way of the write that gives up the oldest.
    let is_first = std::cell::Cell::new(true);
    store.memory.hook(move |access| {
        if access.writes && access.key == oldest && is_first.take() {
            assert_eq!(other.claim_as(2, same, at(40)), Claimed::Granted);
        }
        Ok(())
    });
    assert_eq!(store.claim_as(ATTACKER, next, at(40)), Claimed::Granted);
    store.memory.unhook();
    assert!(store.knows(same) && !store.knows(0));
    let tag = store.tag_of(&claim_of(ATTACKER, 0, 1)).unwrap();
    assert_eq!(store.count_callers().count(tag), 32);
    store.check(&host);
}

#[test]
fn a_count_is_never_too_low_and_those_of_others_hardly_count() {
    let mut sketch = Sketch::default();
    // Three callers with a quarter each of 40,000, and 10,000 with one each, at random tags.
    let tag = |number: u64| Tag::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
    for caller in 0..3 {
        (0..10_000).for_each(|_| sketch.add(tag(caller)));
    }
    (3..10_003).for_each(|caller| sketch.add(tag(caller)));
    for caller in 0..3 {
        assert!((10_000..10_100).contains(&sketch.count(tag(caller))));
    }
    assert!((3..10_003).all(|caller| (1..100).contains(&sketch.count(tag(caller)))));
    for caller in 3..10_003 {
        assert!(sketch.remove(tag(caller)));
    }
    assert_eq!(sketch.count(tag(0)), 10_000);
    assert!(!sketch.remove(tag(77_777)));
    assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Some(sketch));
}
