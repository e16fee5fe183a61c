use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{
    config::IntegrityConfig,
    headers::Headers,
    record::{FORMAT_VERSION, Owner, StoredResponse},
    request::Fingerprint,
    store::{
        Ending, Settled,
        entry::{PhaseByte, SealedPhase, claimed, ended},
    },
};

const OPERATION: OperationId = OperationId::from_bytes([1; 32]);
const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([9; 32]);
const OWNER: Owner = Owner::new(7);
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const ROOM: u64 = 32 << 10;

static NO_KEY: LazyLock<Integrity> = LazyLock::new(|| integrity(&[]));

fn integrity(keys: &[&str]) -> Integrity {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Integrity::new(&IntegrityConfig { keys, ..IntegrityConfig::default() }, "idemgate:".to_owned())
}

fn response(body: Vec<u8>) -> StoredResponse {
    StoredResponse { status: 201, headers: Headers::from_iter([("etag", "1")]), body }
}

/// What a script makes of a state and a tail.
fn value(state: u8, owner: Owner, fingerprint: &Fingerprint, tail: &[u8]) -> Vec<u8> {
    [b"1", &[state][..], &owner.to_bytes(), fingerprint.as_bytes(), b"1700000000000", tail].concat()
}

fn ended_value(operation: &OperationId, owner: Owner, ending: &Ending) -> Vec<u8> {
    let (state, tail, _) = ended(operation, &FINGERPRINT, owner, ending, ROOM, NOW).unwrap();
    value(state as u8, owner, &FINGERPRINT, &tail)
}

fn running() -> Vec<u8> {
    value(b'i', OWNER, &FINGERPRINT, &claimed(&OPERATION, &FINGERPRINT, OWNER, NOW).unwrap())
}

fn samples() -> Vec<(Vec<u8>, SealedPhase<StoredResponse>)> {
    let of = |ending| ended_value(&OPERATION, OWNER, &ending);
    vec![
        (running(), SealedPhase::InFlight),
        (of(Ending::Unknown), SealedPhase::Unknown),
        (of(Ending::NotKept(418)), SealedPhase::NotKept { status: 418 }),
        (of(Ending::Completed(response(b"body".to_vec()))), SealedPhase::Completed(response(b"body".to_vec()))),
        (of(Ending::Completed(response(Vec::new()))), SealedPhase::Completed(response(Vec::new()))),
    ]
}

#[test]
fn what_was_written_is_read() {
    for (value, phase) in samples() {
        assert_eq!(decode(&value, &OPERATION, &NO_KEY), Ok(RemoteRecord { fingerprint: FINGERPRINT, at: NOW, phase }));
    }
}

#[test]
fn every_cut_every_changed_bit_and_every_addition_is_found_out() {
    const LEASE: std::ops::Range<usize> = 50..63;
    for (value, _) in samples() {
        for length in 0..value.len() {
            assert!(decode(&value[..length], &OPERATION, &NO_KEY).is_err(), "cut at {length}");
        }
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // The end of the lease is the scripts' own; here it has to be digits.
            let is_fine = LEASE.contains(&(bit / 8)) && changed[bit / 8].is_ascii_digit();
            assert_eq!(decode(&changed, &OPERATION, &NO_KEY).is_ok(), is_fine, "bit {bit}");
        }
        assert!(decode(&[value.as_slice(), b"\0"].concat(), &OPERATION, &NO_KEY).is_err());
    }
}

#[test]
fn a_value_of_another_key_or_another_state_is_refused() {
    for (value, _) in samples() {
        let other = OperationId::from_bytes([2; 32]);
        assert_eq!(decode(&value, &other, &NO_KEY), Err(Unreadable::Codec(CodecError::Damaged)));
        for state in 0..=u8::MAX {
            let mut changed = value.clone();
            changed[1] = state;
            assert_eq!(decode(&changed, &OPERATION, &NO_KEY).is_ok(), state == value[1], "{state}");
        }
    }
}

#[test]
fn another_layout_is_of_another_release_and_anything_else_is_foreign() {
    let mut value = running();
    for (first, unreadable) in [
        (b'2', Unreadable::Codec(CodecError::Version(2))),
        (b'9', Unreadable::Codec(CodecError::Version(9))),
        (b'0', Unreadable::Foreign),
        (b'{', Unreadable::Foreign),
    ] {
        value[0] = first;
        assert_eq!(decode(&value, &OPERATION, &NO_KEY), Err(unreadable));
    }
    let mut value = running();
    value[63] = FORMAT_VERSION + 1;
    let unreadable = Unreadable::Codec(CodecError::Version(FORMAT_VERSION + 1));
    assert_eq!(decode(&value, &OPERATION, &NO_KEY), Err(unreadable));
    let mark = ended_value(&OPERATION, OWNER, &Ending::Released);
    assert_eq!(mark.len(), 63);
    assert!(decode(&mark, &OPERATION, &NO_KEY).is_err());
}

#[test]
fn a_response_that_is_too_large_leaves_its_status() {
    let response = response(vec![b'.'; 100]);
    let size = response.encode(&OPERATION, OWNER).unwrap().len() as u64;
    let ending = Ending::Completed(response);
    let settled = |room| ended(&OPERATION, &FINGERPRINT, OWNER, &ending, room, NOW).unwrap().2;
    assert_eq!((settled(size), settled(size - 1)), (Settled::Completed, Settled::NotKept));
    let (_, tail, _) = ended(&OPERATION, &FINGERPRINT, OWNER, &ending, size - 1, NOW).unwrap();
    let record = decode(&value(b'n', OWNER, &FINGERPRINT, &tail), &OPERATION, &NO_KEY).unwrap();
    assert_eq!(record.phase, SealedPhase::NotKept { status: 201 });
}

proptest! {
    #[test]
    fn parts_of_two_values_make_no_third(
        first in 0_usize..5,
        second in 0_usize..5,
        cut in any::<prop::sample::Index>(),
        other_operation in any::<bool>(),
    ) {
        let operation = OperationId::from_bytes([if other_operation { 2 } else { 1 }; 32]);
        let first = samples().swap_remove(first).0;
        let endings = [
            Ending::Unknown,
            Ending::NotKept(500),
            Ending::Completed(response(b"other".to_vec())),
            Ending::Completed(response(b"body".to_vec())),
            Ending::Released,
        ];
        let second = ended_value(&operation, Owner::new(8), &endings[second]);
        let at = cut.index(first.len());
        let mixed = [&first[..at], second.get(at..).unwrap_or_default()].concat();
        prop_assume!(mixed != first && mixed != second);
        prop_assert!(decode(&mixed, &OPERATION, &NO_KEY).is_err());
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes, &OPERATION, &NO_KEY).is_err());
        prop_assert!(decode(&[b"1c", bytes.as_slice()].concat(), &OPERATION, &NO_KEY).is_err());
    }
}

#[test]
fn a_summary_tells_an_operator_what_the_whole_value_is() {
    let body = vec![b'x'; 5000];
    let of = |ending| ended_value(&OPERATION, OWNER, &ending);
    let response_bytes = response(body.clone()).encode(&OPERATION, OWNER).unwrap().len() as u64;
    for (value, phase, status, response_bytes) in [
        (running(), PhaseByte::InFlight, 0, 0),
        (of(Ending::Unknown), PhaseByte::Unknown, 0, 0),
        (of(Ending::NotKept(418)), PhaseByte::NotKept, 418, 0),
        (of(Ending::Completed(response(body))), PhaseByte::Completed, 201, response_bytes),
    ] {
        let beginning = &value[..value.len().min(256)];
        let expected = RecordSummary {
            owner: OWNER,
            fingerprint: FINGERPRINT,
            at: NOW,
            lease_until: Timestamp::from_millis(1_700_000_000_000),
            phase,
            status,
            response_bytes,
        };
        assert_eq!(summary(beginning, value.len() as u64, &OPERATION, &NO_KEY), Ok(Some(expected)));
        let other = OperationId::from_bytes([2; 32]);
        assert!(summary(beginning, value.len() as u64, &other, &NO_KEY).is_err(), "{phase:?} under another key");
        for length in 0..beginning.len() {
            // What is left behind the status is the response's, which a summary does not check.
            let read = summary(&beginning[..length], value.len() as u64, &OPERATION, &NO_KEY);
            assert!(read.is_err() || (phase == PhaseByte::Completed && length > 180), "{phase:?} cut at {length}");
        }
    }
}

#[test]
fn a_mark_of_what_was_given_back_is_no_record() {
    let mark = value(b'r', OWNER, &FINGERPRINT, b"");
    assert_eq!(summary(&mark, mark.len() as u64, &OPERATION, &NO_KEY), Ok(None));
    let more = value(b'r', OWNER, &FINGERPRINT, b"x");
    assert!(summary(&more, more.len() as u64, &OPERATION, &NO_KEY).is_err());
}

#[test]
fn with_a_key_nothing_is_read_but_what_was_signed_except_for_the_end_of_a_lease() {
    const LEASE: std::ops::Range<usize> = 50..63;
    let ours = integrity(&["a key of thirty-two bytes, no less"]);
    for (unsigned, phase) in samples() {
        assert!(decode(&unsigned, &OPERATION, &ours).is_err(), "it is not signed");
        let (head, tail) = unsigned.split_at(LEASE.end);
        let signed = [head, &ours.sign(&OPERATION, tail.to_vec())].concat();
        assert_eq!(decode(&signed, &OPERATION, &ours), Ok(RemoteRecord { fingerprint: FINGERPRINT, at: NOW, phase }));
        assert!(decode(&signed, &OPERATION, &NO_KEY).is_err(), "it is read without the key");
        for bit in 0..signed.len() * 8 {
            let mut changed = signed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let is_fine = LEASE.contains(&(bit / 8)) && changed[bit / 8].is_ascii_digit();
            assert_eq!(decode(&changed, &OPERATION, &ours).is_ok(), is_fine, "bit {bit}");
        }
        let summaries = [(&unsigned, &*NO_KEY), (&signed, &ours)]
            .map(|(value, integrity)| summary(value, value.len() as u64, &OPERATION, integrity));
        assert!(summaries[0].is_ok());
        assert_eq!(summaries[0], summaries[1]);
        assert!(summary(&unsigned, unsigned.len() as u64, &OPERATION, &ours).is_err());
    }
}
