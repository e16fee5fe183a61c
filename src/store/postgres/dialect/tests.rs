//! What is made of the rows and the errors of a server.

use super::*;
use crate::{
    config::IntegrityConfig,
    headers::Headers,
    record::{Amended, Amendment, Standing, StoredResponse, Verb, View},
    request::Fingerprint,
    store::{
        Settlement,
        calls::*,
        inquiry::{Inquiry, Progress},
        postgres::{
            PostgresStore, SqlState,
            speech::{self, error, ready, refusal, reply},
        },
        remote::RemoteStore as _,
        review::Reviewed,
    },
};

fn store() -> PostgresStore {
    PostgresStore::new(config())
}

fn config() -> PostgresConfig {
    PostgresConfig::new("pg".to_owned(), "db".to_owned(), "app".to_owned())
}

fn response() -> StoredResponse {
    StoredResponse { status: 201, headers: Headers::from_iter([("etag", "1")]), body: b"body".to_vec() }
}

fn asked(call: &Call) -> Inquiry {
    let mut inquiry = store().inquire(call, NOW).unwrap();
    inquiry.ask(NOW);
    inquiry
}

/// How a question goes on once this has come.
fn heard(call: &Call, body: &[u8]) -> Progress {
    asked(call).hear(Heard::Reply { status: 200, body, ahead: None }, NOW)
}

fn claimed(body: &[u8]) -> Claimed {
    match heard(&claim(), body) {
        Progress::Answered(Answer::Claimed(claimed)) => claimed,
        other => panic!("{other:?}"),
    }
}

fn flag_row(value: bool) -> Vec<u8> {
    reply(&[&[Some(&[u8::from(value)])]])
}

/// What is sealed of an execution that ended so, with its state.
fn sealed(ending: &Ending) -> (u8, Vec<u8>) {
    let (state, sealed, _) = seal::ended(&OPERATION, &FINGERPRINT, OWNER, ending, u64::MAX, NOW).unwrap();
    (state as u8, sealed)
}

/// The reply to a claim that finds this.
fn found(state: u8, sealed: &[u8], lease_left: i64) -> Vec<u8> {
    reply(&[&[
        Some(&[0]),
        Some(&[state]),
        Some(&OWNER.to_bytes()),
        Some(FINGERPRINT.as_bytes()),
        Some(&lease_left.to_be_bytes()),
        Some(&60_000_i64.to_be_bytes()),
        Some(sealed),
    ]])
}

#[test]
fn a_question_calls_the_function_of_its_rule() {
    for (call, expected) in [
        (claim(), "SELECT * FROM \"idemgate\".claim_v1($1,$2,$3,$4,$5,$6,$7)\0"),
        (renew(), "SELECT * FROM \"idemgate\".renew_v1($1,$2,$3,$4)\0"),
        (settle(Ending::Unknown), "SELECT * FROM \"idemgate\".settle_v1($1,$2,$3,$4,$5,$6)\0"),
    ] {
        let mut inquiry = store().inquire(&call, NOW).unwrap();
        let (bytes, _) = inquiry.ask(NOW);
        assert!(bytes.windows(expected.len()).any(|part| part == expected.as_bytes()), "{call:?}");
    }
    let about = "SELECT * FROM \"idemgate_shadow\".about_v1()\0";
    let checkup = PostgresStore::new(config().in_shadow()).checkup();
    assert!(checkup.windows(about.len()).any(|part| part == about.as_bytes()));
}

#[test]
fn a_claim_is_granted_or_told_what_it_has_met() {
    let granted = [Some([1].as_slice()), None, None, None, None, None, None];
    assert_eq!(claimed(&reply(&[&granted])), Claimed::Granted);
    let running = seal::claimed(&OPERATION, &FINGERPRINT, OWNER, NOW).unwrap();
    let left = Duration::from_secs(5);
    let in_flight = Claimed::InFlight { age: Duration::ZERO, lease_left: left };
    assert_eq!(claimed(&found(b'i', &running, 5_000)), in_flight);
    assert_eq!(claimed(&found(b'i', &running, 0)), Claimed::Unknown { lease_left: Duration::ZERO });
    let (state, unknown) = sealed(&Ending::Unknown);
    assert_eq!(claimed(&found(state, &unknown, 5_000)), Claimed::Unknown { lease_left: left });
    let (state, not_kept) = sealed(&Ending::NotKept(418));
    assert_eq!(claimed(&found(state, &not_kept, 0)), Claimed::NotKept { status: 418 });
    let (state, completed) = sealed(&Ending::Completed(response()));
    let expires = NOW.after(Duration::from_secs(60));
    assert_eq!(claimed(&found(state, &completed, 0)), Claimed::Completed { response: Arc::new(response()), expires });
    let Call::Claim(mut other) = claim() else { panic!("a claim") };
    other.fingerprint = Fingerprint::from_bytes([8; 32]);
    let reused = Progress::Answered(Answer::Claimed(Claimed::KeyReused));
    assert_eq!(heard(&Call::Claim(other), &found(state, &completed, 0)), reused);
}

#[test]
fn a_record_that_was_changed_or_moved_is_not_read() {
    let (state, completed) = sealed(&Ending::Completed(response()));
    let damaged = Claimed::Failed(StoreError::Unreadable(CodecError::Damaged));
    assert_eq!(claimed(&found(b'u', &completed, 0)), damaged);
    assert_eq!(claimed(&found(state, &completed[..completed.len() - 1], 0)), damaged);
    assert_eq!(claimed(&found(b'r', b"", 0)), damaged, "the mark of this very claim, which was given back");
    let other = OperationId::from_bytes([2; 32]);
    let (_, moved, _) =
        seal::ended(&other, &FINGERPRINT, OWNER, &Ending::Completed(response()), u64::MAX, NOW).unwrap();
    assert_eq!(claimed(&found(state, &moved, 0)), damaged);
}

#[test]
fn with_a_key_only_signed_records_of_this_schema_are_read() {
    let keyed = |config: PostgresConfig| {
        let keys = vec!["a key of thirty-two bytes, no less".to_owned()];
        PostgresStore::new(PostgresConfig {
            integrity: IntegrityConfig { keys, ..IntegrityConfig::default() },
            ..config
        })
    };
    let (state, unsigned) = sealed(&Ending::NotKept(418));
    let (ours, shadow) = (keyed(config()), keyed(config().in_shadow()));
    let signed = |by: &PostgresStore| by.dialect.integrity.sign(&OPERATION, unsigned.clone());
    for (sealed, is_read) in [(signed(&ours), true), (signed(&shadow), false), (unsigned.clone(), false)] {
        let mut inquiry = ours.inquire(&claim(), NOW).unwrap();
        inquiry.ask(NOW);
        let progress = inquiry.hear(Heard::Reply { status: 200, body: &found(state, &sealed, 0), ahead: None }, NOW);
        let is_answer = progress == Progress::Answered(Answer::Claimed(Claimed::NotKept { status: 418 }));
        assert_eq!(is_answer, is_read, "{progress:?}");
    }
}

#[test]
fn a_claim_that_another_attempt_may_decide_is_asked_again_and_was_not_granted() {
    let nulls = reply(&[&[None; 7]]);
    let contended = StoreError::Contended;
    for (lost, error) in [
        (nulls, contended),
        (refusal("40001"), contended),
        (refusal("40P01"), contended),
        (refusal("55P03"), contended),
        // The next server may be the primary.
        (refusal("25006"), PostgresError::ReadOnly.into()),
    ] {
        let mut inquiry = asked(&claim());
        let hear = |inquiry: &mut Inquiry| inquiry.hear(Heard::Reply { status: 200, body: &lost, ahead: None }, NOW);
        for _ in 0..2 {
            assert_eq!(hear(&mut inquiry), Progress::Again(error));
            inquiry.ask(NOW);
        }
        let failed = Progress::Answered(Answer::Claimed(Claimed::Failed(error)));
        assert_eq!(hear(&mut inquiry), failed, "certain, and not for ever");
    }
}

#[test]
fn what_a_statement_is_refused_for_was_not_done() {
    let state = |code: &[u8; 5]| SqlState(*code);
    for (code, error) in [
        ("42883", PostgresError::Schema(state(b"42883"))),
        ("53100", PostgresError::OutOfMemory(state(b"53100"))),
        ("57014", PostgresError::Cancelled),
        ("XX000", PostgresError::Statement(state(b"XX000"))),
    ] {
        assert_eq!(claimed(&refusal(code)), Claimed::Failed(error.into()), "{code}");
        let later = Progress::Later(error.into());
        assert_eq!(heard(&settle(Ending::Unknown), &refusal(code)), later, "{code}");
    }
}

#[test]
fn what_may_have_been_done_is_in_doubt() {
    for body in [
        error("FATAL", "57P01"),
        error("PANIC", "XX000"),
        refusal("08006"),
        refusal("40003"),
        b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
        b"".to_vec(),
        reply(&[]),
        reply(&[&[Some(&[1])]]),
        reply(&[&[Some(&[2]), None, None, None, None, None, None]]),
        reply(&[&[None; 7], &[None; 7]]),
        [reply(&[&[None; 7]]), ready()].concat(),
        found(b'i', b"", 0)[..40].to_vec(),
    ] {
        let mut inquiry = asked(&claim());
        let mut progress = inquiry.hear(Heard::Reply { status: 200, body: &body, ahead: None }, NOW);
        while matches!(progress, Progress::Again(_)) {
            inquiry.ask(NOW);
            progress = inquiry.hear(Heard::Reply { status: 200, body: &body, ahead: None }, NOW);
        }
        assert!(matches!(progress, Progress::Answered(Answer::Claimed(Claimed::InDoubt(_)))), "{progress:?}");
    }
}

#[test]
fn a_renewal_and_an_end_are_taken_or_fenced() {
    let renewed = |is_taken, renewed| {
        assert_eq!(heard(&renew(), &flag_row(is_taken)), Progress::Answered(Answer::Renewed(renewed)));
    };
    renewed(true, Renewed::Extended);
    renewed(false, Renewed::Fenced);
    for (ending, settled) in [
        (Ending::Completed(response()), Settled::Completed),
        (Ending::NotKept(200), Settled::NotKept),
        (Ending::Released, Settled::Released),
        (Ending::Unknown, Settled::Unknown),
    ] {
        let ends = |is_taken, settled: Settled| {
            let answer = Answer::Settled(Settlement::from(settled));
            assert_eq!(heard(&settle(ending.clone()), &flag_row(is_taken)), Progress::Answered(answer));
        };
        ends(true, settled);
        ends(false, Settled::Fenced);
    }
    let malformed = Progress::Answered(Answer::Renewed(Renewed::Failed(PostgresError::Malformed.into())));
    assert_eq!(heard(&renew(), &reply(&[&[None]])), malformed);
}

#[test]
fn an_operator_sees_a_record_and_changes_it() {
    let (state, unknown) = sealed(&Ending::Unknown);
    let shown = |state: u8, lease_left: i64, sealed: &[u8]| {
        reply(&[&[
            Some(&[state]),
            Some(&OWNER.to_bytes()),
            Some(FINGERPRINT.as_bytes()),
            Some(&lease_left.to_be_bytes()),
            Some(&60_000_i64.to_be_bytes()),
            Some(&(sealed.len() as i64).to_be_bytes()),
            Some(sealed),
        ]])
    };
    let look = |body: &[u8]| {
        let mut review = store().review(OPERATION, None);
        review.ask(NOW);
        review.hear(Heard::Reply { status: 200, body, ahead: None }, NOW)
    };
    let view = |standing, age| View { standing, age, expires: NOW.after(Duration::from_secs(60)), response_bytes: 0 };
    assert_eq!(look(&reply(&[])), Some(Reviewed::Seen(None)));
    let unknown_view = view(Standing::Unknown { lease_left: Duration::from_secs(3) }, Duration::ZERO);
    assert_eq!(look(&shown(state, 3_000, &unknown)), Some(Reviewed::Seen(Some(unknown_view))));
    let running = seal::claimed(&OPERATION, &FINGERPRINT, OWNER, NOW).unwrap();
    let lapsed = view(Standing::Lapsed, Duration::from_secs(4));
    assert_eq!(look(&shown(b'i', -4_000, &running)), Some(Reviewed::Seen(Some(lapsed))));
    assert_eq!(look(&shown(b'r', 0, b"")), Some(Reviewed::Seen(None)));
    let large = StoredResponse { body: vec![b'x'; 5_000], ..response() };
    let mut completed = sealed(&Ending::Completed(large)).1;
    completed.truncate(200);
    let Some(Reviewed::Seen(Some(seen))) = look(&shown(b'c', 0, &completed)) else { panic!("a response") };
    assert_eq!(seen.standing, Standing::Completed { status: 201 });

    let amendment = Amendment { verb: Verb::Release, force: true };
    let mut review = store().review(OPERATION, Some(amendment));
    review.ask(NOW);
    let body = shown(state, 3_000, &unknown);
    assert_eq!(review.hear(Heard::Reply { status: 200, body: &body, ahead: None }, NOW), None);
    let (bytes, _) = review.ask(NOW);
    assert!(bytes.windows(8).any(|part| part == b"amend_v1"));
    // Lost, and asked again.
    assert_eq!(review.hear(Heard::Nothing, NOW), None);
    review.ask(NOW);
    let done = review.hear(Heard::Reply { status: 200, body: &flag_row(true), ahead: None }, NOW);
    let amended = Amended::Done { before: unknown_view, watchers: Vec::new() };
    assert_eq!(done, Some(Reviewed::Amended(amended)));
}

#[test]
fn a_server_that_takes_no_writes_or_goes_is_asked_nothing_more() {
    let dialect = PostgresDialect::new(config());
    for (reply, is_farewell) in [
        (refusal("25006"), true),
        (error("FATAL", "57P01"), true),
        ([speech::message(b'N', b"SNOTICE\0\0"), error("FATAL", "57P01")].concat(), true),
        (refusal("57014"), false),
        (flag_row(true), false),
    ] {
        assert_eq!(dialect.is_farewell(&reply), is_farewell, "{reply:?}");
    }
}

#[test]
fn no_password_is_in_what_is_shown() {
    let config = PostgresConfig { password: Some("s3cret".to_owned()), ..config() };
    let store = PostgresStore::new(config.clone());
    let shown = format!("{config:?} {store:?} {:?}", store.pool(7));
    assert!(!shown.contains("s3cret"), "{shown}");
}
