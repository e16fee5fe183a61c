//! Two workers, interleaved at every call to the host.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{super::slots, fixture::*, memory::Host};
use crate::{
    config::{ENTRY_BYTES, SharedDataConfig},
    record::{Owner, Phase},
    store::{Answer, Call, Claimed, Ending, Renewed, Settled, Settlement, StoreError},
    time::Timestamp,
};

pub(super) type Step = (Call, Timestamp);

/// One worker's call, and what another worker does meanwhile, in order, each between any two of the
/// first one's calls to the host.
pub(super) struct Race {
    pub(super) limits: SharedDataConfig,
    pub(super) before: Vec<Step>,
    pub(super) act: Step,
    pub(super) meanwhile: Vec<Step>,
}

/// How one interleaving came out.
pub(super) struct Outcome {
    pub(super) act: Answer,
    pub(super) meanwhile: Vec<Answer>,
    /// A third worker, for a look at the result.
    pub(super) store: Store,
    /// After which of the first worker's calls the others came.
    pub(super) points: Vec<usize>,
}

/// How many calls more than undisturbed the first worker may make because of the others.
const RETRIES: usize = 8;

impl Race {
    /// Runs every interleaving, checks the table after each, and has `verify` judge it.
    pub(super) fn run(&self, verify: impl Fn(&Outcome)) {
        let (_, undisturbed) = self.run_one(&vec![usize::MAX; self.meanwhile.len()]);
        let last_point = undisturbed + RETRIES;
        let mut points = vec![0; self.meanwhile.len()];
        loop {
            verify(&self.run_one(&points).0);
            // The next sequence of points that never goes back.
            let Some(movable) = points.iter().rposition(|point| *point < last_point) else { break };
            let next = points[movable] + 1;
            points[movable..].fill(next);
        }
    }

    fn run_one(&self, points: &[usize]) -> (Outcome, usize) {
        let host = Host::default();
        let [first, other, observer] = [(); 3].map(|()| open(&host, self.limits));
        for (call, now) in &self.before {
            first.call(call.clone(), *now);
        }
        let mut steps: Vec<_> = points.iter().copied().zip(self.meanwhile.clone()).collect();
        steps.reverse();
        let steps = Rc::new(RefCell::new(steps));
        let answers = Rc::new(RefCell::new(Vec::new()));
        let hooked = (Rc::clone(&steps), Rc::clone(&answers));
        first.memory.hook(move |access| {
            let (steps, answers) = &hooked;
            while let Some((_, (call, now))) = steps.borrow_mut().pop_if(|(point, _)| *point <= access.number) {
                answers.borrow_mut().push(other.call(call, now));
            }
            Ok(())
        });
        let act = first.call(self.act.0.clone(), self.act.1);
        let calls = first.memory.unhook();
        while let Some((_, (call, now))) = steps.borrow_mut().pop() {
            answers.borrow_mut().push(observer.call(call, now));
        }
        observer.check(&host);
        let meanwhile = answers.take();
        (Outcome { act, meanwhile, store: observer, points: points.to_vec() }, calls)
    }
}

impl Outcome {
    pub(super) fn answers(&self) -> impl Iterator<Item = &Answer> {
        [&self.act].into_iter().chain(&self.meanwhile)
    }

    fn granted(&self) -> usize {
        self.answers().filter(|answer| **answer == Answer::Claimed(Claimed::Granted)).count()
    }

    fn act_stored(&self) -> bool {
        self.act == Answer::Settled(Settled::Completed.into())
    }

    #[track_caller]
    fn replays(&self, number: u32, owner: u128, size: usize, now: Timestamp) {
        match self.store.claim_at(number, 99, now) {
            Claimed::Completed { response: replayed, .. } => assert_eq!(*replayed, response(owner, size)),
            other => panic!("{other:?} instead of a replay, points {:?}", self.points),
        }
    }
}

/// A table of one bucket.
pub(super) const SMALL: SharedDataConfig = SharedDataConfig { max_entries: 4, ..ROOMY };

#[test]
fn of_two_claims_one_is_granted_whatever_was_there_before() {
    let nothing = vec![];
    let released = vec![(claims(1, 8), NOW), (settles(1, 8, Ending::Released), NOW)];
    let ended = vec![(claims(1, 8), NOW), (completes(1, 8, 10), NOW)];
    let unknown = vec![(claims(1, 8), NOW), (settles(1, 8, Ending::Unknown), NOW)];
    let dead = vec![(claims(1, 8), NOW)];
    for (before, now) in [
        (nothing, NOW),
        (released, NOW),
        (ended.clone(), NOW.after(TTL)),
        (unknown, lapsed()),
        (dead.clone(), lapsed()),
        (dead, self::ended()),
    ] {
        let race =
            Race { limits: SMALL, before, act: (takes_over(1, 1), now), meanwhile: vec![(takes_over(1, 2), now)] };
        race.run(|outcome| {
            assert_eq!(outcome.granted(), 1, "{:?}", outcome.points);
            let loser = outcome.answers().find(|answer| **answer != Answer::Claimed(Claimed::Granted));
            assert_eq!(loser, Some(&Answer::Claimed(Claimed::InFlight { age: Duration::ZERO, lease_left: LEASE })));
        });
    }
}

#[test]
fn a_claim_that_races_an_execution_is_granted_replayed_or_in_flight_but_nothing_runs_twice() {
    let race = Race {
        limits: SMALL,
        before: vec![],
        act: (claims(1, 1), NOW),
        meanwhile: vec![(claims(1, 2), NOW), (completes(1, 2, 10), NOW)],
    };
    race.run(|outcome| {
        assert_eq!(outcome.granted(), 1, "{:?}", outcome.points);
        if outcome.act != Answer::Claimed(Claimed::Granted) {
            outcome.replays(1, 2, 10, NOW);
        }
    });
}

#[test]
fn the_table_is_laid_out_once() {
    for point in 0..4 {
        let host = Host::default();
        let worker = host.worker();
        let later = host.clone();
        worker.hook(move |access| {
            if access.number == point {
                let other = Store::open(later.worker(), SMALL, 7).unwrap();
                assert_eq!(other.claim_at(1, 2, NOW), Claimed::Granted);
            }
            Ok(())
        });
        let store = Store::open(worker, ROOMY, 42).unwrap();
        let calls = store.memory.unhook();
        let expected =
            if point < calls { Claimed::InFlight { age: Duration::ZERO, lease_left: LEASE } } else { Claimed::Granted };
        assert_eq!(store.claim_at(1, 1, NOW), expected);
    }
}

#[test]
fn a_late_owner_never_replaces_the_response_of_the_one_that_took_over() {
    let race = Race {
        limits: SMALL,
        before: vec![(claims(1, 1), NOW)],
        act: (completes(1, 1, 10), lapsed()),
        meanwhile: vec![(takes_over(1, 2), lapsed()), (completes(1, 2, 20), lapsed())],
    };
    race.run(|outcome| {
        let taken_over = outcome.meanwhile[0] == Answer::Claimed(Claimed::Granted);
        assert_eq!(outcome.act_stored(), !taken_over, "{:?}", outcome.points);
        if taken_over {
            assert_eq!(outcome.act, Answer::Settled(Settled::Fenced.into()));
            assert_eq!(outcome.meanwhile[1], Answer::Settled(Settled::Completed.into()));
            outcome.replays(1, 2, 20, lapsed());
        } else {
            outcome.replays(1, 1, 10, lapsed());
        }
    });
}

#[test]
fn a_late_owner_meets_what_a_dead_worker_left_at_its_place_and_still_replaces_nobodys_response() {
    // Owner 8 wrote its response and died before its record: the bytes lie where owner 1 will write.
    let left = response(8, 30).encode(&operation(1), Owner::new(8)).unwrap();
    for point in 0..16 {
        for next in point..16 {
            let host = Host::default();
            let (first, other) = (open(&host, SMALL), open(&host, SMALL));
            first.claim_at(1, 1, NOW);
            host.overwrite(&first.response_key(1), &left);
            first.memory.hook(move |access| {
                if access.number == point {
                    other.take_over_at(1, 2, lapsed());
                }
                if access.number == next {
                    other.complete_at(1, 2, 20, lapsed());
                }
                Ok(())
            });
            let settled = first.complete_at(1, 1, 10, lapsed());
            first.memory.unhook();
            match (settled, first.claim_at(1, 3, lapsed())) {
                (Settled::Completed, Claimed::Completed { response: replayed, .. }) => {
                    assert_eq!(*replayed, response(1, 10))
                }
                (Settled::Fenced, Claimed::Completed { response: replayed, .. }) => {
                    assert_eq!(*replayed, response(2, 20))
                }
                (Settled::Fenced, Claimed::InFlight { .. }) => {}
                other => panic!("{other:?} at {point}, {next}"),
            }
        }
    }
}

#[test]
fn a_late_owner_never_harms_an_operation_that_was_given_its_place() {
    let race = Race {
        limits: SMALL,
        before: vec![(claims(1, 1), NOW)],
        act: (completes(1, 1, 10), NOW),
        meanwhile: vec![(claims(2, 2), ended()), (completes(2, 2, 20), ended())],
    };
    race.run(|outcome| {
        outcome.replays(2, 2, 20, ended());
    });
}

#[test]
fn a_late_owner_never_harms_an_operation_for_which_it_had_to_go() {
    let race = Race {
        limits: SharedDataConfig { max_entries: 1, ..ROOMY },
        before: vec![(claims(1, 1), NOW)],
        act: (completes(1, 1, 10), lapsed()),
        meanwhile: vec![(claims(2, 2), ended()), (completes(2, 2, 20), ended())],
    };
    race.run(|outcome| {
        assert_eq!(outcome.meanwhile[1], Answer::Settled(Settled::Completed.into()));
        outcome.replays(2, 2, 20, ended());
    });
}

#[test]
fn a_place_may_pass_through_two_hands_while_a_late_owner_writes() {
    let race = Race {
        limits: SMALL,
        before: vec![(claims(1, 1), NOW)],
        act: (completes(1, 1, 10), lapsed()),
        meanwhile: vec![
            (takes_over(1, 2), lapsed()),
            (settles(1, 2, Ending::Released), lapsed()),
            (claims(2, 3), lapsed()),
            (completes(2, 3, 30), lapsed()),
        ],
    };
    race.run(|outcome| {
        outcome.replays(2, 3, 30, lapsed());
        if outcome.act_stored() {
            outcome.replays(1, 1, 10, lapsed());
        }
    });
}

#[test]
fn of_a_late_owner_and_the_one_that_takes_over_exactly_one_has_its_word() {
    let endings = [Ending::Completed(response(1, 10)), Ending::NotKept(201), Ending::Released, Ending::Unknown];
    for ending in endings {
        let race = Race {
            limits: SMALL,
            before: vec![(claims(1, 1), NOW)],
            act: (settles(1, 1, ending.clone()), lapsed()),
            meanwhile: vec![(takes_over(1, 2), lapsed()), (settles(1, 2, Ending::NotKept(202)), lapsed())],
        };
        race.run(|outcome| {
            let granted = outcome.granted() == 1;
            if outcome.act == Answer::Settled(Settled::Fenced.into()) {
                assert!(granted, "{ending:?} was fenced by nobody, {:?}", outcome.points);
                assert_eq!(outcome.store.claim_at(1, 3, lapsed()), Claimed::NotKept { status: 202 });
            } else {
                let frees = matches!(ending, Ending::Released | Ending::Unknown);
                assert_eq!(granted, frees, "{ending:?}, {:?}", outcome.points);
            }
        });
    }
}

#[test]
fn of_a_renewal_and_a_take_over_exactly_one_holds() {
    let race = Race {
        limits: SMALL,
        before: vec![(claims(1, 1), NOW)],
        act: (renews(1, 1), lapsed()),
        meanwhile: vec![(takes_over(1, 2), lapsed())],
    };
    race.run(|outcome| {
        let renewed = outcome.act == Answer::Renewed(Renewed::Extended);
        assert_ne!(renewed, outcome.granted() == 1, "{:?}", outcome.points);
        let owner = if renewed { 1 } else { 2 };
        assert_eq!(outcome.store.complete_at(1, owner, 10, lapsed()), Settled::Completed);
    });
}

#[test]
fn a_replay_is_never_that_of_the_operation_that_took_the_place() {
    let now = NOW.after(LEASE);
    let race = Race {
        limits: SharedDataConfig { max_entries: 1, ..ROOMY },
        before: vec![(claims(1, 1), NOW), (completes(1, 1, 10), NOW)],
        act: (claims(1, 3), now),
        meanwhile: vec![(claims(2, 2), now), (completes(2, 2, 20), now)],
    };
    race.run(|outcome| match &outcome.act {
        Answer::Claimed(Claimed::Completed { response: replayed, .. }) => assert_eq!(**replayed, response(1, 10)),
        Answer::Claimed(Claimed::Granted | Claimed::Full) => {}
        other => panic!("{other:?} at {:?}", outcome.points),
    });
}

#[test]
fn reclaiming_a_record_does_not_harm_its_successor() {
    let now = NOW.after(TTL);
    let race = Race {
        limits: SMALL,
        before: vec![(claims(1, 1), NOW), (completes(1, 1, 10), NOW)],
        act: (claims(2, 3), now),
        meanwhile: vec![(claims(1, 2), now), (completes(1, 2, 20), now)],
    };
    race.run(|outcome| {
        assert_eq!(outcome.granted(), 2);
        outcome.replays(1, 2, 20, now);
    });
}

#[test]
fn a_record_that_was_made_anew_is_not_given_up_for_the_one_that_had_ended() {
    let limits = SharedDataConfig { max_entries: 5, ..ROOMY };
    let store = open(&Host::default(), limits);
    let ended = (2..).find(|number| store.bucket_key(*number) != store.bucket_key(1)).unwrap();
    let elsewhere: Vec<_> = store.neighbours(1).take(5).collect();
    let (newcomer, others) = elsewhere.split_first().unwrap();

    let now = NOW.after(TTL);
    let younger = now.after(MOMENT);
    let executed = |number, now| [(claims(number, 1), now), (completes(number, 1, 10), now)];
    let race = Race {
        limits,
        before: others.iter().flat_map(|number| executed(*number, now)).chain(executed(ended, NOW)).collect(),
        act: (claims(*newcomer, 3), now),
        meanwhile: vec![(claims(ended, 2), younger), (completes(ended, 2, 20), younger)],
    };
    race.run(|outcome| {
        assert_eq!(outcome.granted(), 2, "{:?}", outcome.points);
        outcome.replays(ended, 2, 20, younger);
    });
}

#[test]
fn giving_up_a_response_does_not_harm_the_next_one_at_its_place() {
    let (before, now) = (NOW.after(TTL - MOMENT), NOW.after(TTL));
    let fits = ENTRY_BYTES * 2 + stored_size(1, 1, 600);
    let race = Race {
        limits: SharedDataConfig { max_bytes: fits, ..SMALL },
        before: vec![(claims(1, 1), NOW), (completes(1, 1, 500), NOW), (claims(2, 1), before)],
        act: (completes(2, 1, 600), before),
        meanwhile: vec![(claims(1, 2), now), (completes(1, 2, 20), now)],
    };
    race.run(|outcome| {
        // Room may run out for either; what was stored is there or has become a tombstone.
        assert!(outcome.store.knows(2));
        if let (Answer::Settled(Settlement { settled: Settled::Completed, .. }), Some(phase)) =
            (&outcome.meanwhile[1], outcome.store.phase_of(1))
        {
            assert!(matches!(phase, Phase::Completed { .. } | Phase::NotKept { .. }), "{phase:?}");
        }
    });
}

#[test]
fn two_claims_that_make_room_at_once_both_get_it() {
    let host = Host::default();
    let numbers: Vec<_> = {
        let store = open(&host, ROOMY);
        store.neighbours(1).take(usize::from(slots::BUCKET_CAPACITY) + 2).collect()
    };
    let (newcomers, residents) = numbers.split_at(2);
    let before = residents.iter().flat_map(|number| [(claims(*number, 1), NOW), (completes(*number, 1, 10), NOW)]);
    let race = Race {
        limits: ROOMY,
        before: before.collect(),
        act: (claims(newcomers[0], 2), NOW),
        meanwhile: vec![(claims(newcomers[1], 3), NOW)],
    };
    race.run(|outcome| assert_eq!(outcome.granted(), 2, "{:?} {:?}", outcome.act, outcome.points));
}

#[test]
fn a_full_table_stays_within_its_bounds_when_two_claims_make_room_at_once() {
    let race = Race {
        limits: SharedDataConfig { max_entries: 2, ..ROOMY },
        before: vec![(claims(1, 1), NOW), (completes(1, 1, 10), NOW), (claims(2, 1), NOW)],
        act: (claims(3, 3), NOW),
        meanwhile: vec![(claims(4, 4), NOW)],
    };
    race.run(|outcome| {
        assert_eq!(outcome.granted(), 1, "{:?}", outcome.points);
        assert!(outcome.answers().any(|answer| *answer == Answer::Claimed(Claimed::Full)));
        assert_eq!(outcome.store.recount().entries, 2);
    });
}

#[test]
fn a_worker_that_always_loses_gives_up_without_a_trace() {
    let calls = [claims(2, 2), renews(1, 1), completes(1, 1, 10), settles(1, 1, Ending::Released), claims(3, 3)];
    for (call, slot) in calls.iter().flat_map(|call| ["idemgate/v1/i", slots::TOTALS].map(|slot| (call, slot))) {
        let host = Host::default();
        let store = open(&host, SMALL);
        store.claim_at(1, 1, NOW);
        let (before, other) = (store.totals().unwrap(), host.clone());
        store.memory.hook(move |access| {
            if access.writes && access.key.starts_with(slot) {
                other.overwrite(access.key, &other.value(access.key));
            }
            Ok(())
        });
        let answer = store.call(call.clone(), NOW);
        store.memory.unhook();

        let contended = StoreError::Contended;
        assert!(
            matches!(
                answer,
                Answer::Claimed(Claimed::Failed(error))
                | Answer::Renewed(Renewed::Failed(error))
                | Answer::Settled(Settlement { settled: Settled::Failed(error), .. }) if error == contended
            ) || (slot == slots::TOTALS && answer == Answer::Renewed(Renewed::Extended)),
            "{answer:?} to {call:?}",
        );
        if slot != slots::TOTALS {
            assert_eq!(store.totals().unwrap(), before, "{call:?}");
            store.check(&host);
            assert_eq!(store.complete_at(1, 1, 10, NOW), Settled::Completed, "the claim is still its owner's");
        }
    }
}
