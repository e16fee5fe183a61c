//! No wake-up is lost: a worker that was told that an operation is in flight, and watches it, is named to the
//! one that ends the execution. In every interleaving of two workers, and on real threads.

use std::{
    collections::BTreeSet,
    sync::{Barrier, Mutex},
    thread,
};

use super::{
    fixture::*,
    memory::Host,
    races::{Race, SMALL},
};
use crate::{
    config::SharedDataConfig,
    record::{Claim, Mailbox},
    store::{Answer, Call, Claimed, Ending, Settled, Settlement},
};

/// The mailboxes of those among `calls` that were told to wait.
fn waiting<'a>(calls: impl IntoIterator<Item = (&'a Call, &'a Answer)>) -> BTreeSet<Mailbox> {
    calls
        .into_iter()
        .filter_map(|(call, answer)| match (call, answer) {
            (Call::Claim(claim), Answer::Claimed(Claimed::InFlight { .. })) => claim.watcher,
            _ => None,
        })
        .collect()
}

fn ended(answer: &Answer) -> &Settlement {
    match answer {
        Answer::Settled(ended) => ended,
        other => panic!("{other:?}"),
    }
}

fn every_ending() -> [Ending; 4] {
    [Ending::Completed(response(1, 10)), Ending::NotKept(201), Ending::Released, Ending::Unknown]
}

impl Race {
    /// Runs every interleaving in which `owner` 1 ends its execution of operation 1 once.
    fn loses_no_wake_up(&self) {
        self.run(|outcome| {
            let calls: Vec<_> = [&self.act].into_iter().chain(&self.meanwhile).map(|(call, _)| call).collect();
            let told: Vec<_> = calls.iter().copied().zip(outcome.answers()).collect();
            let end = told.iter().find(|(call, _)| matches!(call, Call::Settle { .. })).expect("an ending");
            let Settlement { settled, watchers } = ended(end.1);
            assert!(!matches!(settled, Settled::Fenced | Settled::Failed(_)), "{settled:?}");
            let named: BTreeSet<_> = watchers.iter().copied().collect();
            assert_eq!(named.len(), watchers.len(), "named twice: {watchers:?}");
            let waiting = waiting(told.iter().copied());
            // After a release, one who takes over may be watched in turn, by those that it finds.
            let next: BTreeSet<_> = outcome
                .store
                .phase_of(1)
                .and_then(|phase| match phase {
                    crate::record::Phase::InFlight { watchers, .. } => Some(watchers),
                    _ => None,
                })
                .into_iter()
                .flatten()
                .collect();
            let told_of_it: BTreeSet<_> = named.union(&next).copied().collect();
            assert_eq!(told_of_it, waiting, "points {:?}: {told:?}", outcome.points);
        });
    }
}

#[test]
fn who_was_told_to_wait_is_named_to_the_one_that_ends_the_execution_however_it_ends() {
    for ending in every_ending() {
        let before = vec![(claims(1, 1), NOW)];
        let (ends, watches) = ((settles(1, 1, ending), NOW), (watches(1, 2, 7), NOW));
        Race { limits: SMALL, before: before.clone(), act: watches.clone(), meanwhile: vec![ends.clone()] }
            .loses_no_wake_up();
        Race { limits: SMALL, before, act: ends, meanwhile: vec![watches] }.loses_no_wake_up();
    }
}

#[test]
fn several_workers_that_watch_at_once_are_all_named_and_each_once() {
    for ending in every_ending() {
        let (first, second, again) = ((watches(1, 2, 7), NOW), (watches(1, 3, 8), NOW), (watches(1, 4, 7), NOW));
        let ends = (settles(1, 1, ending), NOW);
        let before = vec![(claims(1, 1), NOW)];
        Race {
            limits: SMALL,
            before: before.clone(),
            act: ends.clone(),
            meanwhile: vec![first.clone(), second.clone(), again],
        }
        .loses_no_wake_up();
        Race { limits: SMALL, before, act: first, meanwhile: vec![second, ends] }.loses_no_wake_up();
    }
}

#[test]
fn a_renewal_that_races_a_watcher_does_not_lose_it() {
    let before = vec![(claims(1, 1), NOW)];
    let race = Race { limits: SMALL, before, act: (renews(1, 1), NOW), meanwhile: vec![(watches(1, 2, 7), NOW)] };
    race.run(|outcome| {
        let end = outcome.store.call(completes(1, 1, 10), NOW);
        assert_eq!(ended(&end).watchers, [Mailbox(7)], "points {:?}", outcome.points);
    });
}

#[test]
fn a_neighbour_in_the_same_bucket_changes_nothing() {
    let before = vec![(claims(1, 1), NOW), (claims(2, 9), NOW), (watches(2, 8, 5), NOW)];
    let race = Race {
        limits: SMALL,
        before,
        act: (watches(1, 2, 7), NOW),
        meanwhile: vec![(completes(2, 9, 10), NOW), (completes(1, 1, 10), NOW)],
    };
    race.run(|outcome| {
        assert_eq!(ended(&outcome.meanwhile[0]).watchers, [Mailbox(5)]);
        let waits = matches!(outcome.act, Answer::Claimed(Claimed::InFlight { .. }));
        assert_eq!(ended(&outcome.meanwhile[1]).watchers, if waits { vec![Mailbox(7)] } else { vec![] });
    });
}

#[test]
fn a_response_that_finds_no_room_wakes_all_the_same() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_bytes: 2000, ..SMALL });
    store.call(claims(1, 1), NOW);
    store.call(watches(1, 2, 7), NOW);
    let end = store.call(completes(1, 1, 5000), NOW);
    assert_eq!(*ended(&end), Settlement { settled: Settled::NotKept, watchers: vec![Mailbox(7)] });
}

#[test]
fn an_owner_that_was_taken_over_from_wakes_nobody_and_its_successor_wakes_its_own() {
    let host = Host::default();
    let store = open(&host, SMALL);
    store.call(claims(1, 1), NOW);
    store.call(watches(1, 2, 7), NOW);
    assert_eq!(store.call(takes_over(1, 3), lapsed()), Answer::Claimed(Claimed::Granted));
    store.call(watches(1, 4, 8), lapsed());
    for ending in every_ending() {
        assert_eq!(*ended(&store.call(settles(1, 1, ending), lapsed())), Settlement::from(Settled::Fenced));
    }
    let end = store.call(completes(1, 3, 10), lapsed());
    assert_eq!(*ended(&end), Settlement { settled: Settled::Completed, watchers: vec![Mailbox(8)] });
}

#[test]
fn a_late_owner_that_nobody_took_over_from_wakes_those_who_watched_it() {
    let host = Host::default();
    let store = open(&host, SMALL);
    store.call(claims(1, 1), NOW);
    store.call(watches(1, 2, 7), NOW);
    // Too late to wait for it: what became of it is unknown until it says so.
    assert_eq!(
        store.call(watches(1, 3, 8), lapsed()),
        Answer::Claimed(Claimed::Unknown { lease_left: std::time::Duration::ZERO })
    );
    assert_eq!(ended(&store.call(completes(1, 1, 10), lapsed())).watchers, [Mailbox(7)]);
}

/// Nobody is named to anybody when a record ends, because its lease is over by then, and that is when those who wait
/// look again.
#[test]
fn a_watched_record_is_there_until_its_watchers_look_again() {
    let host = Host::default();
    let limits = SharedDataConfig { max_entries: 1, ..SMALL };
    let store = open(&host, limits);
    store.call(claims(1, 1), NOW);
    let Answer::Claimed(Claimed::InFlight { lease_left, .. }) = store.call(watches(1, 2, 7), NOW) else { panic!() };
    let last = NOW.after(lease_left - MOMENT);
    assert_eq!(store.claim_at(2, 3, last), Claimed::Full);
    assert!(store.knows(1));
    let over = NOW.after(lease_left).after(TTL);
    assert_eq!(store.claim_at(2, 3, over), Claimed::Granted);
    assert!(!store.knows(1));
    assert_eq!(*ended(&store.call(completes(1, 1, 10), over)), Settlement::from(Settled::Fenced));
}

#[test]
fn workers_that_race_to_run_watch_and_end_the_same_operations_wake_every_one_that_waits() {
    const WORKERS: u32 = 4;
    const OPERATIONS: u32 = 1500;
    let host = Host::default();
    let start = Barrier::new(WORKERS as usize);
    let [waiting, woken] = [(); 2].map(|()| Mutex::new(BTreeSet::<(u32, Mailbox)>::new()));

    thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let (host, start, waiting, woken) = (host.clone(), &start, &waiting, &woken);
            scope.spawn(move || {
                let store = open(&host, SharedDataConfig { max_entries: 3000, max_bytes: 1 << 24, ..ROOMY });
                let (owner, mailbox) = (u128::from(worker), Mailbox(worker));
                for number in 0..OPERATIONS {
                    if number % 8 == 0 {
                        start.wait();
                    }
                    match store.run(Claim { watcher: Some(mailbox), ..claim(number, owner) }, NOW) {
                        Claimed::Granted => {
                            let ending = match number % 3 {
                                0 => Ending::Completed(response(owner, 10)),
                                1 => Ending::NotKept(200),
                                _ => Ending::Unknown,
                            };
                            let end = store.call(settles(number, owner, ending), NOW);
                            let names = ended(&end).watchers.iter().map(|watcher| (number, *watcher));
                            woken.lock().unwrap().extend(names);
                        }
                        Claimed::InFlight { .. } => _ = waiting.lock().unwrap().insert((number, mailbox)),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!(waiting.into_inner().unwrap(), woken.into_inner().unwrap());
    open(&host, ROOMY).check(&host);
}
