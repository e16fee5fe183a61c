//! Who is asked, when, and who is told what without being asked.

use std::sync::Arc;

use super::*;
use crate::{
    config::{RedisConfig, Share},
    headers::Headers,
    record::{Claim, Owner, StoredResponse},
    request::{Caller, Fingerprint},
    store::{
        Call,
        redis::{RedisError, RedisStore},
        remote::RemoteStore as _,
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const TIMEOUT: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(30);
const LIMITS: AdmissionLimits = AdmissionLimits { calls: 2, reserve: 1, waiting: 4, joined: 4 };

/// A claim for an operation, by an asker of that number.
fn claim(operation: u8, asker: u32) -> PendingInquiry<u32> {
    claim_of(operation, asker, 9, false)
}

fn claim_of(operation: u8, asker: u32, fingerprint: u8, is_shadow: bool) -> PendingInquiry<u32> {
    let call = Call::Claim(Claim {
        operation: OperationId::from_bytes([operation; 32]),
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: Fingerprint::from_bytes([fingerprint; 32]),
        owner: Owner::new(asker.into()),
        lease: LEASE,
        ttl: Duration::from_secs(60),
        retry_unknown: false,
        watcher: None,
    });
    pending(&call, asker, is_shadow)
}

fn renewal(operation: u8, asker: u32) -> PendingInquiry<u32> {
    let operation = OperationId::from_bytes([operation; 32]);
    let call = Call::Renew { operation, owner: Owner::new(asker.into()), lease: LEASE, ttl: LEASE };
    pending(&call, asker, false)
}

fn pending(call: &Call, asker: u32, is_shadow: bool) -> PendingInquiry<u32> {
    let store =
        RedisStore::new(RedisConfig { timeout: TIMEOUT, connections: 0, ..RedisConfig::new("redis".to_owned()) });
    PendingInquiry { asker, inquiry: store.inquire(call, NOW).expect("a call that can be made"), is_shadow }
}

fn admission(inquiries: impl IntoIterator<Item = PendingInquiry<u32>>) -> Admission<u32> {
    let mut admission = Admission::new(LIMITS);
    for pending in inquiries {
        assert_eq!(admission.order(pending), Ok(()));
    }
    admission
}

/// The askers whose questions are asked, when `under_way` calls are under way.
fn asked(admission: &mut Admission<u32>, mut under_way: usize) -> Vec<u32> {
    let mut askers = Vec::new();
    while let Some(pending) = admission.next_to_ask(under_way) {
        askers.push(pending.asker);
        under_way += 1;
    }
    askers
}

fn told(admission: &mut Admission<u32>) -> Vec<(u32, Claimed)> {
    std::iter::from_fn(|| admission.next_to_tell())
        .map(|(asker, answer)| match answer {
            Answer::Claimed(claimed) => (asker, claimed),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn completed() -> Claimed {
    let response = StoredResponse { status: 201, headers: Headers::new(), body: Vec::new() };
    Claimed::Completed { response: Arc::new(response), expires: NOW.after(LEASE) }
}

#[test]
fn claims_are_asked_in_order_as_far_as_calls_may_be_under_way() {
    let mut admission = admission((0..4).map(|number| claim(number as u8, number)));
    assert_eq!(asked(&mut admission, 0), [0, 1]);
    assert!(!admission.has_next(2) && admission.has_next(1));
    assert_eq!(asked(&mut admission, 1), [2]);
    assert_eq!(asked(&mut admission, 1), [3]);
    assert!(admission.is_empty());
}

#[test]
fn whatever_is_no_new_claim_goes_first_and_has_room_of_its_own() {
    let mut admission = admission([claim(0, 0), claim(1, 1), renewal(7, 7), renewal(8, 8)]);
    assert_eq!(asked(&mut admission, 1), [7, 8], "and no claim beside them");
    assert_eq!(asked(&mut admission, 0), [0, 1]);
    admission.order_again(claim(2, 2));
    assert_eq!(admission.order(claim(3, 3)), Ok(()));
    assert_eq!(asked(&mut admission, 2), [2]);
    assert_eq!(asked(&mut admission, 1), [3]);
}

#[test]
fn a_granted_claim_answers_all_who_have_joined_it_before_or_after_it_was_asked() {
    let mut admission = admission([claim(0, 0), claim(0, 1), claim_of(0, 2, 8, false)]);
    let first = admission.next_to_ask(0).expect("a claim");
    assert_eq!(admission.order(claim(0, 3)), Ok(()));
    assert_eq!(asked(&mut admission, 0), [0_u32; 0]);
    admission.conclude(&first, &Claimed::Granted, NOW);
    let in_flight = Claimed::InFlight { age: Duration::ZERO, lease_left: LEASE };
    let expected = [(1, in_flight.clone()), (2, Claimed::KeyReused), (3, in_flight)];
    assert_eq!(told(&mut admission), expected);
    assert!(admission.is_empty());
}

#[test]
fn any_other_answer_is_shared_with_those_who_came_before_it_was_asked_for() {
    let mut admission = admission([claim(0, 0), claim(0, 1)]);
    let first = admission.next_to_ask(0).expect("a claim");
    for asker in 2..5 {
        assert_eq!(admission.order(claim(0, asker)), Ok(()));
    }
    admission.conclude(&first, &completed(), NOW);
    assert_eq!(told(&mut admission), [(1, completed())]);
    // Of those who came later the first one asks, and the others had come before that.
    let first = admission.next_to_ask(0).expect("a claim");
    assert_eq!(first.asker, 2);
    admission.conclude(&first, &completed(), NOW);
    assert_eq!(told(&mut admission), [(3, completed()), (4, completed())]);
    assert!(admission.is_empty());
}

#[test]
fn an_answer_to_another_question_is_shared_with_nobody() {
    // Another request under the same key, and one whose records decide nothing.
    let mut admission = admission([claim(0, 0), claim_of(0, 1, 8, false), claim_of(0, 2, 9, true)]);
    let first = admission.next_to_ask(0).expect("a claim");
    assert_eq!(asked(&mut admission, 1), [2], "of the other records");
    admission.conclude(&first, &Claimed::KeyReused, NOW);
    assert_eq!(told(&mut admission), []);
    assert_eq!(asked(&mut admission, 1), [1]);
}

#[test]
fn a_failure_is_shared_with_those_alone_who_have_waited_for_as_long_as_they_may() {
    let error = StoreError::Redis(RedisError::TimedOut);
    for claimed in [Claimed::InDoubt(error), Claimed::Failed(error)] {
        for (waited, shared) in [(TIMEOUT, true), (TIMEOUT / 2, false)] {
            let mut admission = admission([claim(0, 0), claim(0, 1)]);
            let first = admission.next_to_ask(0).expect("a claim");
            admission.conclude(&first, &claimed, NOW.after(waited));
            if shared {
                // It is in doubt whether the first one has the claim; the other has not.
                assert_eq!(told(&mut admission), [(1, Claimed::Failed(error))]);
            } else {
                assert_eq!(asked(&mut admission, 0), [1]);
            }
        }
    }
}

#[test]
fn of_a_claim_that_is_withdrawn_the_others_are_asked() {
    let mut admission = admission([claim(0, 0), claim(0, 1), claim(0, 2)]);
    let first = admission.next_to_ask(0).expect("a claim");
    admission.withdraw(&first);
    let first = admission.next_to_ask(0).expect("a claim");
    assert_eq!(first.asker, 1);
    admission.conclude(&first, &completed(), NOW);
    assert_eq!(told(&mut admission), [(2, completed())]);
    assert!(admission.is_empty());
}

#[test]
fn no_more_wait_than_may_and_renewals_always_do() {
    let mut admission = admission((0..4).map(|number| claim(number as u8, number)));
    assert_eq!(admission.order(claim(4, 4)), Err(OVERLOADED));
    for asker in 5..9 {
        assert_eq!(admission.order(claim(0, asker)), Ok(()));
    }
    assert_eq!(admission.order(claim(0, 9)), Err(OVERLOADED));
    assert_eq!(admission.order(renewal(0, 10)), Ok(()));
    // There is room again for as many as have been answered.
    assert_eq!(admission.next_to_ask(0).map(|pending| pending.asker), Some(10));
    let first = admission.next_to_ask(0).expect("a claim");
    admission.conclude(&first, &Claimed::Granted, NOW);
    for asker in 11..15 {
        assert_eq!(admission.order(claim(1, asker)), Ok(()));
    }
}

#[test]
fn a_caller_with_its_share_of_what_waits_is_refused_alone() {
    let claim = |caller: u8, operation: u8, asker: u32| {
        let call = Call::Claim(Claim {
            operation: OperationId::from_bytes([operation; 32]),
            caller: Caller::from_bytes([caller; 32]),
            share: Share::percent(25),
            fingerprint: Fingerprint::from_bytes([9; 32]),
            owner: Owner::new(asker.into()),
            lease: LEASE,
            ttl: LEASE,
            retry_unknown: false,
            watcher: None,
        });
        pending(&call, asker, false)
    };
    let mut admission = Admission::new(AdmissionLimits { waiting: 8, joined: 8, ..LIMITS });
    let over_share = Err(Claimed::OverShare(Scarce::Questions));
    for asker in 0..4 {
        assert_eq!(admission.order(claim(1, asker as u8, asker)), Ok(()));
    }
    assert_eq!(admission.order(claim(1, 4, 4)), over_share);
    // Two of eight are another's in any case, and those that join are counted by themselves.
    for asker in 10..12 {
        assert_eq!(admission.order(claim(2, asker as u8, asker)), Ok(()));
    }
    assert_eq!(admission.order(claim(2, 12, 12)), over_share);
    for asker in 20..24 {
        assert_eq!(admission.order(claim(1, 0, asker)), Ok(()));
    }
    assert_eq!(admission.order(claim(1, 0, 24)), over_share);
    assert_eq!(admission.order(claim(2, 10, 25)), Ok(()));
    // What is asked waits no longer.
    assert_eq!(asked(&mut admission, 0), [0, 1]);
    assert_eq!(admission.order(claim(1, 5, 5)), over_share);
    assert_eq!(asked(&mut admission, 1), [2]);
    assert_eq!(admission.order(claim(1, 5, 5)), Ok(()));
}

#[test]
fn a_claim_waits_as_long_as_the_server_answers_but_not_for_ever() {
    let after = |millis| NOW.after(Duration::from_millis(millis));
    let mut admission = admission([claim(0, 0), claim(1, 1), claim(1, 2), claim(2, 3)]);
    assert_eq!(asked(&mut admission, 1), [0]);
    admission.refuse_overdue(2, after(499));
    assert!(told(&mut admission).is_empty());
    admission.hear(after(400));
    admission.refuse_overdue(2, after(899));
    assert!(told(&mut admission).is_empty());
    // Where there is room it is about to be asked, however long the worker itself stood still.
    admission.refuse_overdue(1, after(10_000));
    assert!(told(&mut admission).is_empty());
    admission.hear(after(1_900));
    admission.refuse_overdue(2, after(1_999));
    assert!(told(&mut admission).is_empty());
    admission.refuse_overdue(2, after(2_000));
    assert_eq!(told(&mut admission), [(1, OVERLOADED), (2, OVERLOADED), (3, OVERLOADED)]);
    assert!(admission.is_empty());
}

#[test]
fn a_silent_server_is_waited_for_no_longer_than_for_an_answer() {
    let mut admission = admission([claim(0, 0), claim(1, 1)]);
    assert_eq!(asked(&mut admission, 1), [0]);
    admission.refuse_overdue(2, NOW.after(TIMEOUT));
    assert_eq!(told(&mut admission), [(1, OVERLOADED)]);
}

#[test]
fn the_time_of_a_claim_begins_when_it_is_asked() {
    let mut pending = claim(0, 0);
    let late = NOW.after(Duration::from_millis(1_500));
    assert_eq!(pending.inquiry.ask(late).1, TIMEOUT / 2);
}
