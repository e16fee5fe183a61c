//! The rules of a record, row by row, and the stored form of everything that is stored.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    config::Share,
    headers::Headers,
    request::{Caller, Fingerprint, OperationId},
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_hours(24);
const MOMENT: Duration = Duration::from_millis(1);
const OPERATION: OperationId = OperationId::from_bytes([7; 32]);
const OWNER: Owner = Owner::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
const OTHER_OWNER: Owner = Owner::new(2);

fn claim() -> Claim {
    Claim {
        operation: OPERATION,
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: Fingerprint::from_bytes([9; 32]),
        owner: OTHER_OWNER,
        lease: LEASE,
        ttl: TTL,
        retry_unknown: false,
        watcher: None,
    }
}

fn claim_that_retries_unknown() -> Claim {
    Claim { retry_unknown: true, ..claim() }
}

fn claim_for_something_else() -> Claim {
    Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..claim() }
}

fn in_flight() -> Record {
    Claim { owner: OWNER, ..claim() }.granted(NOW)
}

fn settled(ending: Ending<KeptResponse>) -> Record {
    in_flight().settle(OWNER, ending, TTL, NOW).unwrap().unwrap()
}

fn completed() -> Record {
    settled(Ending::Completed(KeptResponse { status: 201, size: 77 }))
}

fn tombstone() -> Record {
    settled(Ending::NotKept(201))
}

fn unknown() -> Record {
    settled(Ending::Unknown)
}

fn every_phase() -> [Record; 4] {
    [in_flight(), completed(), tombstone(), unknown()]
}

mod admission {
    use super::*;

    #[test]
    fn a_granted_claim_runs_under_its_lease_and_ends_a_retention_period_after_it() {
        let lease_until = NOW.after(LEASE);
        assert_eq!(
            in_flight().phase,
            Phase::InFlight { at: NOW, lease_until, expires: lease_until.after(TTL), watchers: Vec::new() }
        );
        assert_eq!(in_flight().owner, OWNER);
        assert_eq!(in_flight().fingerprint, claim().fingerprint);
    }

    #[test]
    fn a_running_operation_is_refused_with_what_is_left_of_its_lease() {
        let standing = |now| in_flight().admit(&claim(), now);

        assert_eq!(standing(NOW), Decision::Refuse(Standing::InFlight { lease_left: LEASE }));
        let last = NOW.after(LEASE - MOMENT);
        assert_eq!(standing(last), Decision::Refuse(Standing::InFlight { lease_left: MOMENT }));
    }

    #[test]
    fn a_lapsed_lease_leaves_the_outcome_unknown() {
        let end = NOW.after(LEASE);
        assert_eq!(in_flight().admit(&claim(), end), Decision::Refuse(Standing::Lapsed));
    }

    #[test]
    fn a_policy_that_retries_takes_over_only_once_the_lease_has_run_out() {
        let claim = claim_that_retries_unknown();
        let before = NOW.after(LEASE - MOMENT);

        assert_eq!(in_flight().admit(&claim, before), Decision::Refuse(Standing::InFlight { lease_left: MOMENT }));
        assert_eq!(in_flight().admit(&claim, NOW.after(LEASE)), Decision::Take);
        assert_eq!(unknown().admit(&claim, before), Decision::Refuse(Standing::Unknown { lease_left: MOMENT }));
        assert_eq!(unknown().admit(&claim, NOW.after(LEASE)), Decision::Take);
    }

    #[test]
    fn a_late_copy_of_an_owners_own_claim_takes_nothing_over() {
        let copy = Claim { owner: OWNER, ..claim_that_retries_unknown() };
        let over = Standing::Unknown { lease_left: Duration::ZERO };
        for (record, standing) in [(in_flight(), Standing::Lapsed), (unknown(), over)] {
            assert_eq!(record.admit(&copy, NOW.after(LEASE)), Decision::Refuse(standing), "{record:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_stays_blocked_until_the_record_ends() {
        let last = NOW.after(TTL - MOMENT);
        assert_eq!(unknown().admit(&claim(), last), Decision::Refuse(Standing::Unknown { lease_left: Duration::ZERO }));
        assert_eq!(unknown().admit(&claim(), NOW.after(TTL)), Decision::Take);
    }

    #[test]
    fn what_completed_is_never_run_again_before_it_ends_even_by_a_policy_that_retries() {
        let last = NOW.after(TTL - MOMENT);
        for claim in [claim(), claim_that_retries_unknown()] {
            assert_eq!(completed().admit(&claim, last), Decision::Refuse(Standing::Completed { status: 201 }));
            assert_eq!(tombstone().admit(&claim, last), Decision::Refuse(Standing::NotKept { status: 201 }));
        }
    }

    #[test]
    fn another_fingerprint_is_refused_in_every_phase_and_even_where_the_same_one_would_take_over() {
        let claim = Claim { retry_unknown: true, ..claim_for_something_else() };
        for record in every_phase() {
            for now in [NOW, NOW.after(LEASE), NOW.after(TTL - MOMENT)] {
                assert_eq!(record.admit(&claim, now), Decision::KeyReused, "{record:?} at {now:?}");
            }
        }
    }

    #[test]
    fn a_record_that_has_ended_binds_nobody() {
        for record in every_phase() {
            let end = record.phase.expires();
            for claim in [claim(), claim_for_something_else()] {
                assert_eq!(record.admit(&claim, end), Decision::Take, "{record:?}");
            }
            assert!(record.is_expired(end));
            assert!(!record.is_expired(Timestamp::from_millis(end.as_millis() - 1)));
        }
    }

    #[test]
    fn only_a_claim_under_its_lease_is_live() {
        assert!(in_flight().is_live(NOW.after(LEASE - MOMENT)));
        assert!(!in_flight().is_live(NOW.after(LEASE)));
        for record in [completed(), tombstone(), unknown()] {
            assert!(!record.is_live(NOW), "{record:?}");
        }
    }

    #[test]
    fn a_clock_that_steps_backwards_lengthens_what_is_left_and_frees_nothing() {
        let before = Timestamp::from_millis(NOW.as_millis() - 60_000);
        let lease_left = LEASE + Duration::from_mins(1);

        assert_eq!(in_flight().admit(&claim(), before), Decision::Refuse(Standing::InFlight { lease_left }));
        for record in every_phase() {
            assert_ne!(record.admit(&claim_that_retries_unknown(), before), Decision::Take, "{record:?}");
        }
    }
}

mod renewal {
    use super::*;

    #[test]
    fn starts_the_lease_anew_and_moves_the_end_along() {
        let later = NOW.after(LEASE / 2);
        let renewed = in_flight().renew(OWNER, LEASE, TTL, later).unwrap();

        let lease_until = later.after(LEASE);
        assert_eq!(
            renewed.phase,
            Phase::InFlight { at: NOW, lease_until, expires: lease_until.after(TTL), watchers: Vec::new() }
        );
        assert_eq!((renewed.owner, renewed.fingerprint), (OWNER, in_flight().fingerprint));
    }

    #[test]
    fn revives_a_lapsed_lease_that_nobody_took_over() {
        let late = NOW.after(LEASE * 2);
        assert!(in_flight().renew(OWNER, LEASE, TTL, late).unwrap().is_live(late));
    }

    #[test]
    fn is_refused_to_another_owner() {
        assert_eq!(in_flight().renew(OTHER_OWNER, LEASE, TTL, NOW), Err(Fenced));
    }

    #[test]
    fn is_refused_once_the_execution_has_ended() {
        for record in [completed(), tombstone(), unknown()] {
            assert_eq!(record.renew(OWNER, LEASE, TTL, NOW), Err(Fenced), "{record:?}");
        }
    }
}

mod watching {
    use super::*;

    const FIRST: Mailbox = Mailbox(3);
    const SECOND: Mailbox = Mailbox(4);

    fn watches(mailbox: Mailbox) -> Claim {
        Claim { watcher: Some(mailbox), ..claim() }
    }

    fn watched(record: &Record, mailbox: Mailbox, now: Timestamp) -> Record {
        match record.admit(&watches(mailbox), now) {
            Decision::Watch { record, .. } => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_worker_is_added_once_and_nothing_else_changes() {
        let later = NOW.after(MOMENT);
        let both = watched(&watched(&in_flight(), FIRST, NOW), SECOND, later);
        assert_eq!(both.watchers(), [FIRST, SECOND]);
        let lease_left = LEASE - MOMENT;
        for mailbox in [FIRST, SECOND] {
            let refused = Decision::Refuse(Standing::InFlight { lease_left });
            assert_eq!(both.admit(&watches(mailbox), later), refused);
        }
        let Phase::InFlight { lease_until, expires, .. } = both.phase else { panic!("{both:?}") };
        assert_eq!((lease_until, expires), (NOW.after(LEASE), NOW.after(LEASE).after(TTL)));
        assert_eq!((both.owner, both.fingerprint), (OWNER, in_flight().fingerprint));
    }

    #[test]
    fn only_a_running_execution_of_the_same_request_is_watched() {
        let end = NOW.after(LEASE);
        let other = Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..watches(FIRST) };
        assert_eq!(in_flight().admit(&other, NOW), Decision::KeyReused);
        assert!(!matches!(in_flight().admit(&watches(FIRST), end), Decision::Watch { .. }));
        for record in [completed(), tombstone(), unknown()] {
            assert!(!matches!(record.admit(&watches(FIRST), NOW), Decision::Watch { .. }), "{record:?}");
            assert_eq!(record.watchers(), []);
        }
    }

    #[test]
    fn it_runs_from_its_claim_on_however_often_it_is_renewed_or_watched() {
        let age = |record: &Record, now| record.running_for(now);
        let later = NOW.after(LEASE - MOMENT);
        let renewed = watched(&in_flight(), FIRST, NOW).renew(OWNER, LEASE, TTL, later).unwrap();
        assert_eq!(age(&renewed, later), LEASE - MOMENT);
        // By the clock of another Envoy it begins a moment later.
        assert_eq!(age(&renewed, Timestamp::from_millis(NOW.as_millis() - 1)), Duration::ZERO);
        // Who takes it over begins anew.
        let taken = Claim { owner: Owner::new(99), ..claim() }.granted(later);
        assert_eq!(age(&taken, later), Duration::ZERO);
        for record in [completed(), tombstone(), unknown()] {
            assert_eq!(age(&record, later), Duration::ZERO, "{record:?}");
        }
    }

    #[test]
    fn watchers_outlast_renewals() {
        let renewed = watched(&in_flight(), FIRST, NOW).renew(OWNER, LEASE, TTL, NOW.after(LEASE)).unwrap();
        assert_eq!(renewed.watchers(), [FIRST]);
    }

    #[test]
    fn an_execution_that_takes_over_begins_without_watchers_as_they_look_again_when_the_lease_is_over() {
        let lapsed = watched(&in_flight(), FIRST, NOW);
        let Decision::Watch { lease_left, .. } = in_flight().admit(&watches(FIRST), NOW) else { panic!() };
        let retries = claim_that_retries_unknown();
        // Not a moment before they were told to look again.
        assert_ne!(lapsed.admit(&retries, NOW.after(lease_left - MOMENT)), Decision::Take);
        assert_eq!(lapsed.admit(&retries, NOW.after(lease_left)), Decision::Take);
        assert_eq!(retries.granted(NOW.after(lease_left)).watchers(), []);
    }

    #[test]
    fn what_the_owner_says_leaves_no_watchers_in_the_record() {
        for ending in [Ending::Completed(KeptResponse { status: 200, size: 1 }), Ending::NotKept(200), Ending::Unknown]
        {
            let settled = watched(&in_flight(), FIRST, NOW).settle(OWNER, ending, TTL, NOW).unwrap().unwrap();
            assert_eq!(settled.watchers(), [], "{ending:?}");
        }
    }
}

mod ending {
    use super::*;

    const EVERY: [Ending<KeptResponse>; 4] = [
        Ending::Completed(KeptResponse { status: 201, size: 77 }),
        Ending::NotKept(201),
        Ending::Released,
        Ending::Unknown,
    ];

    #[test]
    fn a_response_is_retained_from_its_completion() {
        let later = NOW.after(LEASE / 2);
        let record = in_flight()
            .settle(OWNER, Ending::Completed(KeptResponse { status: 201, size: 77 }), TTL, later)
            .unwrap()
            .unwrap();

        let expires = later.after(TTL);
        assert_eq!(record.phase, Phase::Completed { status: 201, at: later, expires, size: 77 });
        assert_eq!((record.owner, record.fingerprint), (OWNER, in_flight().fingerprint));
    }

    #[test]
    fn a_response_that_is_not_kept_leaves_its_status() {
        assert_eq!(tombstone().phase, Phase::NotKept { status: 201, at: NOW, expires: NOW.after(TTL) });
    }

    #[test]
    fn a_released_operation_leaves_nothing() {
        assert_eq!(in_flight().settle(OWNER, Ending::Released, TTL, NOW), Ok(None));
    }

    #[test]
    fn an_unknown_outcome_keeps_the_lease_and_does_not_end_before_it() {
        let lease_until = NOW.after(LEASE);
        assert_eq!(unknown().phase, Phase::Unknown { at: NOW, lease_until, expires: NOW.after(TTL) });

        let short = in_flight().settle(OWNER, Ending::Unknown, MOMENT, NOW).unwrap().unwrap();
        assert_eq!(short.phase, Phase::Unknown { at: NOW, lease_until, expires: lease_until });
    }

    #[test]
    fn a_late_owner_still_has_its_word_while_nobody_took_over() {
        let late = NOW.after(LEASE * 2);
        for ending in EVERY {
            assert!(in_flight().settle(OWNER, ending, TTL, late).is_ok(), "{ending:?}");
        }
    }

    #[test]
    fn is_refused_to_another_owner_whatever_it_says() {
        for ending in EVERY {
            assert_eq!(in_flight().settle(OTHER_OWNER, ending, TTL, NOW), Err(Fenced), "{ending:?}");
        }
    }

    #[test]
    fn is_said_once() {
        for record in [completed(), tombstone(), unknown()] {
            for ending in EVERY {
                assert_eq!(record.settle(OWNER, ending, TTL, NOW), Err(Fenced), "{ending:?} of {record:?}");
            }
        }
    }

    #[test]
    fn an_owner_that_was_taken_over_from_is_fenced() {
        let taken = claim_that_retries_unknown().granted(NOW.after(LEASE));
        assert_eq!(taken.renew(OWNER, LEASE, TTL, NOW.after(LEASE)), Err(Fenced));
        assert_eq!(taken.settle(OWNER, Ending::Released, TTL, NOW.after(LEASE)), Err(Fenced));
    }
}

mod tombstones {
    use super::*;

    #[test]
    fn a_completed_record_without_its_response_stands_as_before() {
        let record = completed();
        let without = record.without_response().unwrap();

        assert_eq!(without, tombstone());
        assert_eq!(without.phase.response_size(), 0);
        assert_eq!(without.phase.expires(), record.phase.expires());
        assert_eq!(without.phase.since(), record.phase.since());
    }

    #[test]
    fn only_a_completed_record_has_a_response_to_lose() {
        assert_eq!(completed().phase.response_size(), 77);
        for record in [in_flight(), tombstone(), unknown()] {
            assert_eq!(record.without_response(), None, "{record:?}");
            assert_eq!(record.phase.response_size(), 0, "{record:?}");
        }
    }
}

mod codec {
    use super::*;

    fn response() -> StoredResponse {
        let mut headers = Headers::new();
        headers.push("content-type", "application/json");
        headers.push("x-latin", b"caf\xe9".as_slice());
        headers.push("link", "a");
        headers.push("link", "");
        StoredResponse { status: 201, headers, body: b"{\"id\":1}\0\xff".to_vec() }
    }

    fn encoded() -> Vec<u8> {
        response().encode(&OPERATION, OWNER).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// Bytes that release 0.1.0 wrote: every later reader of version 3 must read them so.
    const GOLDEN_RESPONSE: &str = "03200707070707070707070707070707070707070707070707070707070707070707100123456789abcdef0011223344556677c901040c636f6e74656e742d74797065106170706c69636174696f6e2f6a736f6e07782d6c6174696e04636166e9046c696e6b0161046c696e6b000a3a0346d87b226964223a317d00ff";

    /// As [`GOLDEN_RESPONSE`], for [`every_phase`].
    const GOLDEN_RECORDS: [&str; 4] = [
        "03200909090909090909090909090909090909090909090909090909090909090909100123456789abcdef00112233445566770080d095ffbc31b0ba97ffbc31b0f2b0a8bd31006eb2a049",
        "03200909090909090909090909090909090909090909090909090909090909090909100123456789abcdef001122334455667702c90180d095ffbc318088afa8bd314deebbbfe0",
        "03200909090909090909090909090909090909090909090909090909090909090909100123456789abcdef001122334455667703c90180d095ffbc318088afa8bd31815d5fa3",
        "03200909090909090909090909090909090909090909090909090909090909090909100123456789abcdef00112233445566770180d095ffbc31b0ba97ffbc318088afa8bd310184a8b6",
    ];

    #[test]
    fn the_format_of_a_response_is_that_of_version_3() {
        assert_eq!(hex(&encoded()), GOLDEN_RESPONSE);
        assert_eq!(StoredResponse::decode(&bytes_of(GOLDEN_RESPONSE), &OPERATION, OWNER), Ok(response()));
    }

    #[test]
    fn the_format_of_a_record_is_that_of_version_3() {
        assert_eq!(every_phase().map(|record| hex(&encode(&record).unwrap())), GOLDEN_RECORDS);
        for (record, golden) in every_phase().into_iter().zip(GOLDEN_RECORDS) {
            assert_eq!(decode::<Record>(&bytes_of(golden)), Ok(record));
        }
    }

    #[test]
    fn an_empty_response_survives_the_round_trip() {
        let empty = StoredResponse { status: 204, headers: Headers::new(), body: Vec::new() };
        let bytes = empty.encode(&OPERATION, OWNER).unwrap();
        assert_eq!(StoredResponse::decode(&bytes, &OPERATION, OWNER), Ok(empty));
    }

    #[test]
    fn a_response_is_read_only_as_that_of_its_own_execution() {
        let other = OperationId::from_bytes([8; 32]);
        assert_eq!(StoredResponse::decode(&encoded(), &other, OWNER), Err(CodecError::Damaged));
        assert_eq!(StoredResponse::decode(&encoded(), &OPERATION, OTHER_OWNER), Err(CodecError::Damaged));
        assert!(StoredResponse::belongs_to(&encoded(), OWNER));
        assert!(!StoredResponse::belongs_to(&encoded(), OTHER_OWNER));
        assert!(!StoredResponse::belongs_to(&[], OWNER));
    }

    #[test]
    fn a_response_that_was_cut_anywhere_is_damaged() {
        let whole = encoded();
        for length in 0..whole.len() {
            let cut = StoredResponse::decode(&whole[..length], &OPERATION, OWNER);
            assert_eq!(cut, Err(CodecError::Damaged), "first {length} bytes");
        }
    }

    #[test]
    fn a_response_with_anything_behind_it_is_damaged() {
        let mut longer = encoded();
        longer.push(0);
        assert_eq!(StoredResponse::decode(&longer, &OPERATION, OWNER), Err(CodecError::Damaged));
    }

    #[test]
    fn a_response_with_any_bit_of_its_head_changed_is_refused() {
        let whole = encoded();
        for at in 0..whole.len() - response().body.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let read = StoredResponse::decode(&changed, &OPERATION, OWNER);
                let expected = if at == 0 { CodecError::Version(changed[0]) } else { CodecError::Damaged };
                assert_eq!(read, Err(expected), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_record_with_any_bit_changed_or_any_byte_missing_is_refused() {
        for record in every_phase() {
            let whole = encode(&record).unwrap();
            for at in 0..whole.len() {
                assert!(decode::<Record>(&whole[..at]).is_err(), "first {at} bytes of {record:?}");
                for bit in 0..8 {
                    let mut changed = whole.clone();
                    changed[at] ^= 1 << bit;
                    assert!(decode::<Record>(&changed).is_err(), "bit {bit} of byte {at} of {record:?}");
                }
            }
        }
    }

    #[test]
    fn every_other_version_is_refused_by_its_number() {
        let mut bytes = encoded();
        for version in (0..=u8::MAX).filter(|version| *version != FORMAT_VERSION) {
            bytes[0] = version;
            let read = StoredResponse::decode(&bytes, &OPERATION, OWNER);
            assert_eq!(read, Err(CodecError::Version(version)));
            assert!(!StoredResponse::belongs_to(&bytes, OWNER));
        }
    }

    #[test]
    fn debug_shows_neither_fields_nor_body() {
        let shown = format!("{:?}", response());
        assert_eq!(shown, "StoredResponse { status: 201, headers: 4, body: 10 }");
    }

    #[test]
    fn a_response_that_http_does_not_know_is_damaged_however_well_it_is_sealed() {
        let read = |status, fields: &[(&[u8], &[u8])], body: &[u8]| {
            let headers = fields.iter().copied().collect();
            let response = StoredResponse { status, headers, body: body.to_vec() };
            let sealed = response.encode(&OPERATION, OWNER).unwrap();
            StoredResponse::decode(&sealed, &OPERATION, OWNER).map(|read| assert_eq!(read, response))
        };
        for status in [0, 99, 100, 101, 199, 600, 999, u16::MAX] {
            assert_eq!(read(status, &[], b""), Err(CodecError::Damaged), "{status}");
        }
        for status in [200, 204, 304, 599] {
            assert_eq!(read(status, &[], b""), Ok(()), "{status}");
        }
        for (status, expected) in [(204, Err(CodecError::Damaged)), (304, Err(CodecError::Damaged)), (205, Ok(()))] {
            assert_eq!(read(status, &[], b"HTTP/1.1 200 OK\r\n\r\nEVIL!"), expected, "{status}");
        }
        for name in [b"".as_slice(), b"a b", b"a:", b":status", b"a\r\nb", b"a\0", b"caf\xe9", b"a\x7f", b"(a)"] {
            assert_eq!(read(200, &[(b"etag", b"1"), (name, b"1")], b""), Err(CodecError::Damaged), "{name:?}");
        }
        for value in [b"b\r\nset-cookie: sid=evil".as_slice(), b"\r", b"\n", b"\0", b"\x0b", b"\x1b[0m", b"\x7f"] {
            assert_eq!(read(200, &[(b"etag", b"1"), (b"a", value)], b""), Err(CodecError::Damaged), "{value:?}");
        }
        for value in [b"".as_slice(), b"a\tb", b" ", b"\x80\xff", b"\"~\""] {
            assert_eq!(read(200, &[(b"X-!#$%&'*+-.^_`|~9", value)], b"body"), Ok(()), "{value:?}");
        }
    }

    fn any_response() -> impl Strategy<Value = StoredResponse> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let value = prop::collection::vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8], 0..40);
        let headers = prop::collection::vec(("[a-z][a-z0-9!#$_~.-]{0,20}", value), 0..6);
        let headers = headers.prop_map(Headers::from_iter);
        let responses = (200_u16..600, headers, bytes()).prop_map(|(status, headers, body)| StoredResponse {
            status,
            headers,
            body,
        });
        responses.prop_filter("no content", |response| response.is_well_formed())
    }

    proptest! {
        #[test]
        fn every_response_survives_the_round_trip(
            response in any_response(),
            operation in any::<[u8; 32]>(),
            token in any::<u128>(),
        ) {
            let (operation, owner) = (OperationId::from_bytes(operation), Owner::new(token));
            let bytes = response.encode(&operation, owner).unwrap();
            prop_assert!(StoredResponse::belongs_to(&bytes, owner));
            prop_assert_eq!(StoredResponse::decode(&bytes, &operation, owner), Ok(response));
        }

        #[test]
        fn no_bytes_panic_a_reader(mut bytes in prop::collection::vec(any::<u8>(), 0..200), ours in any::<bool>()) {
            if let Some(first) = bytes.first_mut().filter(|_| ours) {
                *first = FORMAT_VERSION;
            }
            prop_assert!(StoredResponse::decode(&bytes, &OPERATION, OWNER).is_err());
            prop_assert!(decode::<Record>(&bytes).is_err());
        }
    }
}

mod operator {
    use super::*;

    const VERBS: [Verb; 3] = [Verb::Release, Verb::Purge, Verb::NotKept { status: 201 }];

    fn amend(record: &Record, verb: Verb, force: bool, now: Timestamp) -> Result<Option<Record>, Conflict> {
        record.amended(Amendment { verb, force }, now)
    }

    #[test]
    fn a_view_says_how_far_it_got_for_how_long_and_until_when() {
        let later = NOW.after(Duration::from_secs(10));
        let view = |standing, expires, response_bytes| View {
            standing,
            age: Duration::from_secs(10),
            expires,
            response_bytes,
        };
        let (lease_left, ends) = (Duration::from_secs(20), NOW.after(TTL));
        assert_eq!(in_flight().view(later), view(Standing::InFlight { lease_left }, NOW.after(LEASE).after(TTL), 0));
        assert_eq!(unknown().view(later), view(Standing::Unknown { lease_left }, ends, 0));
        assert_eq!(completed().view(later), view(Standing::Completed { status: 201 }, ends, 77));
        assert_eq!(tombstone().view(later), view(Standing::NotKept { status: 201 }, ends, 0));
    }

    #[test]
    fn the_age_of_a_running_operation_is_counted_from_its_claim_and_of_a_lapsed_one_from_the_end_of_its_lease() {
        let renewed = in_flight().renew(OWNER, LEASE, TTL, NOW.after(LEASE)).unwrap();
        assert_eq!(renewed.view(NOW.after(LEASE)).age, LEASE);
        let lapsed = in_flight().view(NOW.after(LEASE * 3));
        assert_eq!((lapsed.standing, lapsed.age), (Standing::Lapsed, LEASE * 2));
        assert_eq!(lapsed.lease_left(), Duration::ZERO);
    }

    #[test]
    fn what_may_still_run_is_amended_only_by_force() {
        let alive = Err(Conflict::Alive { lease_left: LEASE });
        for verb in VERBS {
            assert_eq!(amend(&in_flight(), verb, false, NOW), alive, "{verb:?}");
            assert!(amend(&in_flight(), verb, true, NOW).is_ok(), "{verb:?}");
            assert!(amend(&in_flight(), verb, false, NOW.after(LEASE)).is_ok(), "{verb:?} of a lapsed one");
        }
        for verb in [Verb::Release, Verb::Purge] {
            assert_eq!(amend(&unknown(), verb, false, NOW), alive, "{verb:?}");
            assert_eq!(amend(&unknown(), verb, false, NOW.after(LEASE)), Ok(None), "{verb:?}");
        }
        assert!(amend(&unknown(), Verb::NotKept { status: 201 }, false, NOW).is_ok(), "that it ran is safe to say");
    }

    #[test]
    fn what_ran_is_purged_and_never_released() {
        for record in [completed(), tombstone()] {
            for force in [false, true] {
                assert_eq!(amend(&record, Verb::Release, force, NOW), Err(Conflict::Ran));
                assert_eq!(amend(&record, Verb::Purge, force, NOW), Ok(None));
            }
        }
    }

    #[test]
    fn what_ran_keeps_its_status_and_its_end() {
        let later = NOW.after(LEASE);
        let left = |record: &Record| amend(record, Verb::NotKept { status: 201 }, false, later);
        for record in [in_flight(), unknown(), completed()] {
            let phase = Phase::NotKept { status: 201, at: later, expires: record.phase.expires() };
            assert_eq!(left(&record), Ok(Some(Record { phase, ..record })));
        }
        assert_eq!(left(&tombstone()), Err(Conflict::AlreadyNotKept));
        let other = amend(&completed(), Verb::NotKept { status: 500 }, true, later);
        assert_eq!(other, Err(Conflict::OtherStatus { status: 201 }));
    }

    #[test]
    fn the_owner_of_what_was_amended_is_fenced() {
        let told = amend(&in_flight(), Verb::NotKept { status: 201 }, true, NOW).unwrap().unwrap();
        assert_eq!(told.renew(OWNER, LEASE, TTL, NOW), Err(Fenced));
        for ending in [Ending::Completed(KeptResponse { status: 200, size: 1 }), Ending::Released, Ending::Unknown] {
            assert_eq!(told.settle(OWNER, ending, TTL, NOW), Err(Fenced));
        }
    }
}
