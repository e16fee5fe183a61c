//! The worlds, and what is asked of them.

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
    panic,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use idemgate::exchange::Counter;

use crate::{
    plan::{Keeping, Wish},
    proof::{history::Promise, scenario::Mutation},
    shrink::{shrink, story},
    walk::Walk,
};

/// How many worlds there are in each run of the tests.
const WORLDS: u64 = 40_000;

/// Which seeds are tried, and until when.
struct Seeds {
    first: u64,
    next: AtomicU64,
    number: u64,
    until: Option<SystemTime>,
}

impl Seeds {
    fn fixed(number: u64) -> Self {
        Self { first: 0, next: AtomicU64::new(0), number, until: None }
    }

    /// New ones, until so much time is over.
    fn fresh(time: Duration) -> Self {
        let first = RandomState::new().hash_one(0) >> 1;
        let until = Some(SystemTime::now() + time);
        Self { first, next: AtomicU64::new(0), number: u64::MAX, until }
    }

    fn next(&self) -> Option<u64> {
        let is_over = self.until.is_some_and(|until| SystemTime::now() >= until);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.number && !is_over).then(|| self.first.wrapping_add(number))
    }

    /// Walks through all of them, in as many threads as there are cores; the walk of the smallest seed that
    /// breaks a promise, if there is one, and how often each counter was counted.
    fn walk(&self, wish: Wish) -> (Option<(u64, Walk)>, Vec<u64>) {
        let found: Mutex<Option<(u64, Walk)>> = Mutex::default();
        let counts = Mutex::new(vec![0; Counter::ALL.len()]);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    let mut own = vec![0; Counter::ALL.len()];
                    while let Some(seed) = self.next() {
                        let walk = panic::catch_unwind(|| Walk::of_seed(seed, wish)).unwrap_or_else(|panic| {
                            eprintln!("the code panics in the world of SEED={seed}");
                            panic::resume_unwind(panic)
                        });
                        for (sum, count) in own.iter_mut().zip(walk.world.counts()) {
                            *sum += u64::from(*count);
                        }
                        if walk.breach.is_some() {
                            self.next.store(self.number, Ordering::Relaxed);
                            let mut found = found.lock().unwrap();
                            if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                                *found = Some((seed, walk));
                            }
                        }
                    }
                    for (sum, count) in counts.lock().unwrap().iter_mut().zip(own) {
                        *sum += count;
                    }
                });
            }
        });
        (found.into_inner().unwrap(), counts.into_inner().unwrap())
    }
}

/// With `SOAK_SECONDS` in the environment, new worlds for so long instead of the same ones.
#[test]
fn every_promise_is_kept_in_every_world() {
    let soak = env::var("SOAK_SECONDS").ok().map(|seconds| seconds.parse().expect("SOAK_SECONDS is a number"));
    let seeds = soak.map_or_else(|| Seeds::fixed(WORLDS), |seconds| Seeds::fresh(Duration::from_secs(seconds)));
    let (found, counts) = seeds.walk(Wish::default());
    if let Some((seed, walk)) = found {
        panic!("in the world of SEED={seed}:\n{}", story(&shrink(walk)));
    }
    let worlds = seeds.next.load(Ordering::Relaxed).min(seeds.number);
    println!("{worlds} worlds, the first of them SEED={}", seeds.first);
    for (counter, count) in Counter::ALL.iter().zip(&counts) {
        println!("{:>9} {}", count, counter.name());
    }
    // What never happens is not proven.
    for counter in [
        Counter::RequestsBypassed,
        Counter::RequestsExecuted,
        Counter::RequestsInFlight,
        Counter::RequestsKeyReused,
        Counter::RequestsNotKept,
        Counter::RequestsReplayed,
        Counter::RequestsUnknown,
        Counter::RequestsWaitTimeouts,
        Counter::OutcomesFenced,
        Counter::OutcomesReleased,
        Counter::OutcomesStored,
        Counter::OutcomesTombstoned,
        Counter::OutcomesUnknown,
        Counter::StoreErrors,
        Counter::StoreFull,
    ] {
        assert!(soak.is_some() || counts[counter as usize] >= 100, "{counter:?}: {}", counts[counter as usize]);
    }
}

#[test]
fn one_world_is_the_same_each_time() {
    let seeds =
        env::var("SEED").map_or_else(|_| (0..50).collect(), |seed| vec![seed.parse().expect("SEED is a number")]);
    for seed in seeds {
        let [first, second] = [(); 2].map(|()| story(&Walk::of_seed(seed, Wish::default())));
        println!("{first}");
        assert_eq!(first, second, "SEED={seed}");
    }
}

/// The number of worlds until a mutation is found out, in all stores.
fn find(mutation: Mutation, promises: &[Promise]) {
    find_in(&[Keeping::SharedData, Keeping::Redis, Keeping::DynamoDb], mutation, promises);
}

fn find_in(stores: &[Keeping], mutation: Mutation, promises: &[Promise]) {
    for keeping in stores.iter().copied() {
        let wish = Wish { keeping: Some(keeping), mutation: Some(mutation) };
        let (found, _) = Seeds::fixed(WORLDS).walk(wish);
        let Some((seed, walk)) = found else {
            panic!("{mutation:?} is not found out, {keeping:?}");
        };
        let length = walk.actions.len();
        let walk = shrink(walk);
        let promise = walk.breach.as_ref().map(|breach| breach.promise);
        println!(
            "{mutation:?}, {keeping:?}: world {seed} breaks {promise:?}, {length} steps shrunk to {}",
            walk.actions.len()
        );
        assert!(promise.is_some_and(|promise| promises.contains(&promise)), "{}", story(&walk));
    }
}

#[test]
fn a_blind_set_is_found_out() {
    find(Mutation::BlindSet, &[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn writes_without_fencing_are_found_out() {
    find(Mutation::NoFencing, &[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn releases_by_anyone_are_found_out() {
    find(Mutation::ReleaseByAnyone, &[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn records_that_are_given_up_too_young_are_found_out() {
    find_in(&[Keeping::SharedData], Mutation::NoFloor, &[Promise::Record, Promise::AtMostOnce]);
}

#[test]
fn responses_that_are_remembered_whatever_is_written_are_found_out() {
    find_in(&[Keeping::SharedData], Mutation::StaleReplay, &[Promise::Replay]);
}

#[test]
fn a_crowd_of_which_the_rest_is_forgotten_is_found_out() {
    find_in(&[Keeping::SharedData], Mutation::RestForgotten, &[Promise::Answer]);
}

#[test]
fn replays_without_a_look_at_the_fingerprint_are_found_out() {
    find(Mutation::NoFingerprint, &[Promise::Replay]);
}

#[test]
fn answers_for_the_wrong_exchange_are_found_out() {
    find(Mutation::WrongExchange, &[Promise::AtMostOnce, Promise::Record, Promise::Replay, Promise::Answer]);
}

#[test]
fn replies_for_the_wrong_question_of_a_connection_are_found_out() {
    find_in(
        &[Keeping::Redis],
        Mutation::WrongQuestion,
        &[Promise::AtMostOnce, Promise::Record, Promise::Replay, Promise::Answer],
    );
}

#[test]
fn a_worker_that_is_never_woken_is_found_out() {
    find_in(&[Keeping::SharedData], Mutation::NeverWoken, &[Promise::Answer]);
}

#[test]
fn leases_that_are_judged_by_the_clock_of_an_envoy_are_found_out() {
    find_in(&[Keeping::DynamoDb], Mutation::OwnClock, &[Promise::AtMostOnce, Promise::Record, Promise::Replay]);
}

#[test]
fn writes_in_the_place_of_what_was_not_judged_are_found_out() {
    find_in(&[Keeping::DynamoDb], Mutation::NoJudgement, &[Promise::AtMostOnce, Promise::Record]);
}

#[test]
fn marks_that_are_taken_for_records_are_found_out() {
    find_in(&[Keeping::DynamoDb], Mutation::MarkAsRecord, &[Promise::Record]);
}
