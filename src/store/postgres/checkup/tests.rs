//! What operators are told of a server, and of what it holds.

use super::*;
use crate::{
    config::PostgresConfig,
    request::OperationId,
    store::{
        postgres::{
            SqlState,
            speech::{refusal, reply},
        },
        remote::{Holdings, Listed, RemoteStore as _},
    },
};

/// What a server says that is as it should be.
fn about() -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        SCHEMA.to_be_bytes().to_vec(),
        150_018_i32.to_be_bytes().to_vec(),
        vec![0],
        text(""),
        400_i64.to_be_bytes().to_vec(),
        text("read committed"),
        text("on"),
        vec![1],
        vec![1],
        42_i64.to_be_bytes().to_vec(),
        65_536_i64.to_be_bytes().to_vec(),
        0_i64.to_be_bytes().to_vec(),
    ]
}

fn store() -> PostgresStore {
    PostgresStore::new(PostgresConfig::new("pg".to_owned(), "db".to_owned(), "app".to_owned()))
}

fn row(values: &[Vec<u8>]) -> Vec<u8> {
    reply(&[&values.iter().map(|value| Some(value.as_slice())).collect::<Vec<_>>()])
}

fn findings(body: &[u8]) -> Vec<Finding> {
    store().findings(Heard::Reply { status: 200, body, ahead: None })
}

#[test]
fn a_server_as_it_should_be_gives_no_cause_for_words() {
    assert_eq!(findings(&row(&about())), []);
}

#[test]
fn each_thing_that_is_wrong_is_told_with_what_to_do() {
    for (place, value, words) in [
        (0, 0_i32.to_be_bytes().to_vec(), "apply this release's schema.sql"),
        (1, 120_010_i32.to_be_bytes().to_vec(), "PostgreSQL 12 is too old"),
        (2, vec![1], "lead store.postgres.cluster to the primary"),
        (3, b"settle_v1,sweep_v1".to_vec(), "may not call settle_v1,sweep_v1"),
        (4, 0_i64.to_be_bytes().to_vec(), "statement_timeout = '400ms'"),
        (4, 500_i64.to_be_bytes().to_vec(), "statement_timeout = '400ms'"),
        (5, b"serializable".to_vec(), "default_transaction_isolation = 'read committed'"),
        (6, b"off".to_vec(), "synchronous_commit is off"),
        (7, vec![0], "fsync is off"),
        (8, vec![0], "the table is unlogged"),
        (11, (36_000_000_i64).to_be_bytes().to_vec(), "expired 10 hours ago are still there"),
    ] {
        let mut about = about();
        about[place] = value;
        let findings = findings(&row(&about));
        let [Finding::Warning(text)] = findings.as_slice() else { panic!("{findings:?}") };
        assert!(text.contains(words) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn a_server_that_does_not_say_is_told_apart() {
    let schema = PostgresError::Schema(SqlState(*b"42883"));
    for (body, error) in [
        (refusal("42883"), schema),
        (reply(&[]), PostgresError::Malformed),
        (row(&about()[1..]), PostgresError::Malformed),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), PostgresError::Malformed),
    ] {
        assert_eq!(findings(&body), [Finding::Failed(error.into())]);
    }
    assert_eq!(store().findings(Heard::NotMade), [Finding::Failed(PostgresError::Rejected.into())]);
}

#[test]
fn what_it_holds_is_told_in_figures() {
    let body = row(&about());
    let Holdings { store, place, figures, count_by_state } =
        self::store().holdings(Heard::Reply { status: 200, body: &body, ahead: None }).unwrap();
    assert_eq!((store, place), ("postgres", ("schema", "idemgate".to_owned())));
    assert_eq!(figures, [("records_about", 42), ("bytes", 65_536)]);
    assert!(count_by_state.contains("FROM idemgate.records"), "{count_by_state}");
}

#[test]
fn what_has_not_come_to_its_end_is_listed() {
    let (store, owner) = (store(), [7; 16]);
    let lists = store.lists().unwrap();
    let unfinished = |state: u8, lease_left: i64| {
        vec![
            vec![state; 32],
            vec![state],
            owner.to_vec(),
            lease_left.to_be_bytes().to_vec(),
            60_000_i64.to_be_bytes().to_vec(),
        ]
    };
    let rows = [unfinished(b'i', -1), unfinished(b'i', 5_000), unfinished(b'u', 5_000)];
    let rows: Vec<Vec<Option<&[u8]>>> =
        rows.iter().map(|row| row.iter().map(|value| Some(value.as_slice())).collect()).collect();
    let body = reply(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let listed = |state, is_running, lease_left| Listed {
        operation: OperationId::from_bytes([state; 32]),
        is_running,
        lease_left: Duration::from_secs(lease_left),
        lives: Duration::from_secs(60),
    };
    assert_eq!(
        lists.listed(Heard::Reply { status: 200, body: &body, ahead: None }),
        Ok(vec![listed(b'i', false, 0), listed(b'i', true, 5), listed(b'u', false, 5)])
    );
    assert_eq!(lists.listed(Heard::Reply { status: 200, body: &reply(&[]), ahead: None }), Ok(vec![]));
    let body = reply(&[&[Some(b"short"), None]]);
    let malformed = Err(PostgresError::Malformed.into());
    assert_eq!(lists.listed(Heard::Reply { status: 200, body: &body, ahead: None }), malformed);
}

#[test]
fn sweeping_goes_on_while_whole_batches_are_removed() {
    let store = store();
    let sweeps = store.sweeps().unwrap();
    for (swept, is_more_left) in [(500_i32, true), (499, false), (0, false), (-1, false)] {
        let body = reply(&[&[Some(&swept.to_be_bytes())]]);
        assert_eq!(
            sweeps.is_more_left(Heard::Reply { status: 200, body: &body, ahead: None }),
            Ok(is_more_left),
            "{swept}"
        );
    }
    let refused = sweeps.is_more_left(Heard::Reply { status: 200, body: &refusal("42501"), ahead: None });
    assert_eq!(refused, Err(PostgresError::Schema(SqlState(*b"42501")).into()));
    let config = PostgresConfig::new("pg".to_owned(), "db".to_owned(), "app".to_owned());
    assert!(PostgresStore::new(PostgresConfig { sweep: false, ..config }).sweeps().is_none());
}
