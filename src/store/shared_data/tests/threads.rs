//! Real threads on one memory.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

use super::{fixture::*, memory::Host};
use crate::{
    config::{ENTRY_BYTES, SharedDataConfig},
    record::{Claim, Phase},
    store::{Claimed, Ending, Settled},
    time::Timestamp,
};

const WORKERS: u32 = 4;

/// A small generator of numbers that look random, one per thread and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(sides)) as u32
    }
}

#[test]
fn of_four_workers_that_claim_at_once_exactly_one_runs_the_operation() {
    const OPERATIONS: u32 = 4000;
    let host = Host::default();
    let granted: Vec<_> = (0..OPERATIONS).map(|_| AtomicU32::new(0)).collect();
    let start = Barrier::new(WORKERS as usize);

    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (host, granted, start) = (host.clone(), &granted, &start);
            scope.spawn(move || {
                let store = open(&host, SharedDataConfig { max_entries: 8000, max_bytes: 1 << 24, ..ROOMY });
                for number in 0..OPERATIONS {
                    // All at once, every few keys, so that they do not drift apart.
                    if number % 16 == 0 {
                        start.wait();
                    }
                    match store.claim_at(number, u128::from(worker) + 1, NOW) {
                        Claimed::Granted => _ = granted[number as usize].fetch_add(1, Ordering::Relaxed),
                        Claimed::InFlight { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
                store.give_back_room().unwrap();
            });
        }
    });

    assert!(granted.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    let store = open(&host, ROOMY);
    store.check(&host);
    assert_eq!(store.recount().entries, u64::from(OPERATIONS));
}

#[test]
fn under_pressure_nothing_runs_twice_at_once_and_the_totals_do_not_drift() {
    const OPERATIONS: u32 = 60;
    const ROUNDS: u32 = 10_000;
    let limits = SharedDataConfig { max_entries: 24, max_bytes: 24_000, ..ROOMY };
    let host = Host::default();
    let running: Vec<_> = (0..OPERATIONS).map(|_| AtomicBool::new(false)).collect();
    let owners = AtomicU64::new(1);
    let millis = AtomicU64::new(NOW.as_millis());

    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (host, running, owners, millis) = (host.clone(), &running, &owners, &millis);
            scope.spawn(move || {
                let store = open(&host, limits);
                let mut dice = Dice(u64::from(worker) + 1);
                for _ in 0..ROUNDS {
                    // No lease lapses before its holder has spoken, but records end now and then.
                    let now = Timestamp::from_millis(millis.fetch_add(100, Ordering::Relaxed));
                    let number = dice.roll(OPERATIONS);
                    let owner = u128::from(owners.fetch_add(1, Ordering::Relaxed));
                    let claim = Claim { lease: TTL, ttl: LEASE, ..claim(number, owner) };
                    match store.run(claim, now) {
                        Claimed::Granted => {
                            let before = running[number as usize].swap(true, Ordering::SeqCst);
                            assert!(!before, "operation {number} runs twice");
                            let ending = match dice.roll(8) {
                                0 => Ending::Released,
                                1 => Ending::Unknown,
                                2 => Ending::NotKept(200),
                                _ => Ending::Completed(response(owner, dice.roll(3000) as usize)),
                            };
                            running[number as usize].store(false, Ordering::SeqCst);
                            let settled = store.settle_at(number, owner, ending, now);
                            assert!(!matches!(settled, Settled::Failed(_) | Settled::Fenced), "{settled:?}");
                        }
                        Claimed::Failed(error) => panic!("{error}"),
                        _ => {}
                    }
                    if dice.roll(50) == 0 {
                        store.sweep_at(u128::from(worker), now);
                    }
                }
            });
        }
    });

    let store = open(&host, limits);
    store.check(&host);
    let totals = store.totals().unwrap();
    assert!(totals.entries <= 24 && totals.bytes <= 24_000, "{totals:?}");
}

#[test]
fn workers_that_all_make_room_for_large_responses_share_the_queue_and_the_totals_do_not_drift() {
    const OPERATIONS: u32 = 4000;
    const SIZE: usize = 4 << 10;
    // Room for 400 responses and some, in 2,500 buckets.
    let limits = SharedDataConfig { max_entries: 10_000, max_bytes: 4 << 20, ..ROOMY };
    let host = Host::default();
    let next = AtomicU32::new(0);

    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (host, next) = (host.clone(), &next);
            scope.spawn(move || {
                let store = open(&host, limits);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= OPERATIONS {
                        break;
                    }
                    let now = Timestamp::from_millis(NOW.as_millis() + u64::from(number));
                    store.execute_at(number, u128::from(worker) + 1, SIZE, now);
                    assert!(store.totals().unwrap().bytes <= limits.max_bytes);
                }
                store.give_back_room().unwrap();
            });
        }
    });

    let store = open(&host, limits);
    store.check(&host);
    let kept = (0..OPERATIONS).filter(|number| matches!(store.phase_of(*number), Some(Phase::Completed { .. })));
    let kept: Vec<_> = kept.collect();
    let fit = (limits.max_bytes - u64::from(OPERATIONS) * ENTRY_BYTES) / stored_size(1, 1, SIZE);
    assert!(kept.len() as u64 * 10 >= fit * 9, "{} of {fit}", kept.len());
    // Those that each worker had not written yet, and what went in disorder, are few.
    let young = kept.iter().filter(|number| **number + 2 * (fit as u32) >= OPERATIONS).count();
    assert!(young * 10 >= kept.len() * 9, "{young} of {} are young: {kept:?}", kept.len());
}

#[test]
fn late_owners_and_their_successors_race_and_the_successor_is_replayed() {
    const OPERATIONS: u32 = 3000;
    let host = Host::default();
    let limits = SharedDataConfig { max_entries: 4000, max_bytes: 1 << 24, ..ROOMY };
    let store = open(&host, limits);
    for number in 0..OPERATIONS {
        assert_eq!(store.claim_at(number, 1, NOW), Claimed::Granted);
    }
    let start = Barrier::new(2);
    let taken_over: Vec<_> = (0..OPERATIONS).map(|_| AtomicBool::new(false)).collect();

    thread::scope(|scope| {
        let (late, start, taken_over) = (host.clone(), &start, &taken_over);
        scope.spawn(move || {
            let store = open(&late, limits);
            for number in 0..OPERATIONS {
                if number % 8 == 0 {
                    start.wait();
                }
                let settled = store.complete_at(number, 1, 10, lapsed());
                assert!(matches!(settled, Settled::Completed | Settled::Fenced), "{settled:?}");
            }
        });
        let successor = host.clone();
        scope.spawn(move || {
            let store = open(&successor, limits);
            for number in 0..OPERATIONS {
                if number % 8 == 0 {
                    start.wait();
                }
                if store.take_over_at(number, 2, lapsed()) == Claimed::Granted {
                    taken_over[number as usize].store(true, Ordering::Relaxed);
                    assert_eq!(store.complete_at(number, 2, 20, lapsed()), Settled::Completed);
                }
            }
        });
    });

    for number in 0..OPERATIONS {
        let expected =
            if taken_over[number as usize].load(Ordering::Relaxed) { response(2, 20) } else { response(1, 10) };
        match store.claim_at(number, 3, lapsed()) {
            Claimed::Completed { response, .. } => assert_eq!(*response, expected, "operation {number}"),
            other => panic!("{other:?} of operation {number}"),
        }
    }
    store.check(&host);
}
