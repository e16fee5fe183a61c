//! What an operator sees of the table, and changes in it.

use super::{
    super::{TableScan, Totals},
    fixture::*,
    memory::Host,
};
use crate::{
    config::SharedDataConfig,
    record::{Amended, Amendment, Conflict, Mailbox, Standing, Verb},
    request::OperationPrefix,
    store::{Claimed, Ending, Renewed, Settled},
    time::Timestamp,
};

fn table() -> (Host, Store) {
    let host = Host::default();
    let store = open(&host, ROOMY);
    (host, store)
}

impl Store {
    fn amend_at(&self, number: u32, verb: Verb, force: bool, now: Timestamp) -> Amended {
        self.amend(&operation(number), Amendment { verb, force }, now).unwrap()
    }

    fn state_at(&self, number: u32, now: Timestamp) -> Option<Standing> {
        self.look(&operation(number), now).unwrap().map(|view| view.standing)
    }
}

#[track_caller]
fn assert_done(amended: &Amended) {
    assert!(matches!(amended, Amended::Done { .. }), "{amended:?}");
}

#[test]
fn an_operator_sees_what_there_is_and_nothing_that_has_ended() {
    let (_, store) = table();
    assert_eq!(store.state_at(1, NOW), None);
    store.claim_at(1, 1, NOW);
    assert_eq!(store.state_at(1, NOW), Some(Standing::InFlight { lease_left: LEASE }));
    assert_eq!(store.state_at(1, lapsed()), Some(Standing::Lapsed));
    store.complete_at(1, 1, 100, NOW);
    let seen = store.look(&operation(1), NOW).unwrap().unwrap();
    assert_eq!((seen.standing, seen.response_bytes), (Standing::Completed { status: 201 }, stored_size(1, 1, 100)));
    assert_eq!(store.state_at(1, ended()), None);
    assert_eq!(store.amend_at(1, Verb::Purge, true, ended()), Amended::NoRecord);
}

#[test]
fn what_is_taken_away_gives_back_its_room_and_its_late_owner_is_fenced() {
    let (host, store) = table();
    for verb in [Verb::Release, Verb::Purge] {
        store.claim_at(1, 1, NOW);
        let alive = store.amend_at(1, verb, false, NOW);
        assert_eq!(alive, Amended::Refused(Conflict::Alive { lease_left: LEASE }));
        assert_done(&store.amend_at(1, verb, true, NOW));
        assert_eq!(store.totals().unwrap(), Totals::default());
        assert_eq!(store.amend_at(1, verb, true, NOW), Amended::NoRecord);
        assert_eq!(store.renew_at(1, 1, NOW), Renewed::Fenced);
        assert_eq!(store.complete_at(1, 1, 10, NOW), Settled::Fenced);
        assert_eq!(store.state_at(1, NOW), None);

        assert_eq!(store.claim_at(1, 2, NOW), Claimed::Granted);
        assert_eq!(store.complete_at(1, 1, 10, NOW), Settled::Fenced);
        assert_eq!(store.complete_at(1, 2, 10, NOW), Settled::Completed);
        assert_eq!(store.amend_at(1, Verb::Release, true, NOW), Amended::Refused(Conflict::Ran));
        assert_done(&store.amend_at(1, Verb::Purge, false, NOW));
        assert_eq!(store.totals().unwrap(), Totals::default());
        store.check(&host);
    }
}

#[test]
fn what_is_told_to_have_run_loses_its_response_and_stays_as_long_as_it_would_have() {
    let (host, store) = table();
    store.execute_at(1, 1, 100, NOW);
    assert_done(&store.amend_at(1, Verb::NotKept { status: 201 }, false, NOW.after(LEASE)));
    store.claim_at(2, 1, NOW);
    assert_done(&store.amend_at(2, Verb::NotKept { status: 200 }, true, NOW));
    assert_eq!(store.complete_at(2, 1, 10, NOW), Settled::Fenced);
    for (number, status) in [(1, 201), (2, 200)] {
        assert_eq!(store.claim_at(number, 2, NOW), Claimed::NotKept { status });
    }
    assert_eq!(store.totals().unwrap(), Totals::of_entry(0).plus(Totals::of_entry(0)));
    assert_eq!(store.state_at(1, NOW.after(TTL)), None, "retention is counted from the first completion");
    store.check(&host);
}

#[test]
fn those_who_wait_for_what_is_changed_are_handed_over() {
    let (_, store) = table();
    store.claim_at(1, 1, NOW);
    store.call(watches(1, 2, 7), NOW);
    match store.amend_at(1, Verb::Release, true, NOW) {
        Amended::Done { before, watchers } => {
            assert_eq!((before.standing, watchers), (Standing::InFlight { lease_left: LEASE }, vec![Mailbox(7)]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_another_worker_does_between_the_look_and_the_write_is_judged_anew() {
    let (host, store) = table();
    let other = open(&host, ROOMY);
    other.claim_at(1, 1, NOW);
    // The owner completes just before the operator's write.
    let bucket = store.bucket_key(1);
    let is_first = std::cell::Cell::new(true);
    store.memory.hook(move |access| {
        if access.writes && access.key == bucket && is_first.take() {
            assert_eq!(other.complete_at(1, 1, 10, NOW), Settled::Completed);
        }
        Ok(())
    });
    assert_eq!(store.amend_at(1, Verb::Release, true, NOW), Amended::Refused(Conflict::Ran));
    store.memory.unhook();
    assert_eq!(store.state_at(1, NOW), Some(Standing::Completed { status: 201 }));
    store.check(&host);
}

#[test]
fn a_survey_counts_every_record_once_in_stretches() {
    let host = Host::default();
    let store = open(&host, SharedDataConfig { max_entries: 20_000, ..ROOMY });
    for number in 0..40 {
        store.claim_at(number, 1, NOW);
        match number % 4 {
            0 => store.complete_at(number, 1, 10, NOW),
            1 => store.settle_at(number, 1, Ending::NotKept(200), NOW),
            2 => store.settle_at(number, 1, Ending::Unknown, NOW),
            _ => continue,
        };
    }
    let walk = |sought, now| {
        let mut scan = TableScan::new(sought);
        let mut stretches = 1;
        while !store.scan(&mut scan, now) {
            stretches += 1;
        }
        (scan, stretches)
    };
    let (scan, stretches) = walk(None, NOW);
    assert_eq!((scan.completed, scan.not_kept, scan.unknown, scan.in_flight), (10, 10, 10, 10));
    assert!(stretches > 1, "5000 buckets in one stretch");
    assert!(scan.found.is_empty());
    let (scan, _) = walk(None, lapsed());
    assert_eq!((scan.unknown, scan.in_flight), (20, 0), "a lapsed claim is unknown");
    let (scan, _) = walk(None, ended());
    assert_eq!(scan.completed + scan.not_kept + scan.unknown + scan.in_flight, 0);

    let hash = operation(5).to_string();
    let prefix = OperationPrefix::parse(hash.get(..8).unwrap()).unwrap();
    let (scan, _) = walk(Some(prefix), NOW);
    let found: Vec<_> = scan.found.iter().map(|(operation, view)| (*operation, view.standing)).collect();
    assert_eq!(found, [(operation(5), Standing::NotKept { status: 200 })]);
}

#[test]
fn a_bucket_that_cannot_be_read_is_counted_as_such_and_not_changed() {
    let (host, store) = table();
    store.claim_at(1, 1, NOW);
    host.overwrite(&store.bucket_key(1), b"damaged");
    let mut scan = TableScan::new(None);
    assert!(store.scan(&mut scan, NOW));
    assert_eq!((scan.unreadable, scan.in_flight), (1, 0));
    assert!(store.look(&operation(1), NOW).is_err());
    assert!(store.amend(&operation(1), Amendment { verb: Verb::Purge, force: true }, NOW).is_err());
    assert_eq!(host.value(&store.bucket_key(1)), b"damaged");
}
