//! What is written and read, against a client that others have written, and whatever the bytes are cut into.

use bytes::BytesMut;
use postgres_protocol::{
    IsNull,
    message::{backend, frontend},
};
use proptest::prelude::*;

use super::*;
use crate::store::postgres::speech::{self, complete, error, ready, row as row_bytes};

fn read_by_others(bytes: &[u8]) -> Option<usize> {
    let mut buffer = BytesMut::from(bytes);
    while !matches!(backend::Message::parse(&mut buffer).ok()??, backend::Message::ReadyForQuery(_)) {}
    Some(bytes.len() - buffer.len())
}

#[test]
fn a_question_is_written_as_others_write_it() {
    let values = [
        Value::Bytes(b"bytes"),
        Value::Char(b'i'),
        Value::Flag(true),
        Value::Integer(-7),
        Value::Number(1 << 40),
        Value::Uuid(&[9; 16]),
    ];
    let plain: [(u32, &[u8]); 6] = [
        (17, b"bytes"),
        (18, b"i"),
        (16, &[1]),
        (23, &(-7_i32).to_be_bytes()),
        (20, &(1_i64 << 40).to_be_bytes()),
        (2950, &[9; 16]),
    ];
    let mut expected = BytesMut::new();
    frontend::parse("", "SELECT $1", plain.iter().map(|(kind, _)| *kind), &mut expected).unwrap();
    let put = |(_, value): &(u32, &[u8]), buffer: &mut BytesMut| {
        buffer.extend_from_slice(value);
        Ok(IsNull::No)
    };
    assert!(frontend::bind("", "", [1], plain.iter(), put, [1], &mut expected).is_ok());
    frontend::execute("", 0, &mut expected).unwrap();
    frontend::sync(&mut expected);
    assert_eq!(statement("SELECT $1", &values), expected);
}

#[test]
fn a_login_is_written_as_others_write_it() {
    let mut expected = BytesMut::new();
    let parameters = [("user", "u"), ("database", "d"), ("application_name", "idemgate"), ("client_encoding", "UTF8")];
    frontend::startup_message(parameters, &mut expected).unwrap();
    assert_eq!(startup("u", "d"), expected);

    let mut expected = BytesMut::new();
    frontend::password_message(b"secret", &mut expected).unwrap();
    frontend::sasl_initial_response("SCRAM-SHA-256", b"n,,", &mut expected).unwrap();
    frontend::sasl_response(b"c=biws", &mut expected).unwrap();
    assert_eq!([password("secret"), sasl_begin(b"SCRAM-SHA-256", b"n,,"), sasl(b"c=biws")].concat(), expected);
}

#[test]
fn what_is_cut_is_told_from_what_is_no_message() {
    let message = complete();
    for length in 0..message.len() {
        assert_eq!(Message::split(&message[..length]), Err(MessageError::Cut), "{length}");
    }
    for other in [b"HTTP/1.1 400 Bad Request".as_slice(), b"C\0\0\0\x03", b"C\xff\xff\xff\xff", b"\0", b"+OK\r\n"] {
        assert_eq!(Message::split(other), Err(MessageError::Malformed), "{other:?}");
    }
}

#[test]
fn a_reply_has_its_rows_or_its_error() {
    let rows_of = |parts: &[Vec<u8>]| rows(&parts.concat()).map(|rows| rows.len());
    let (a_row, notice) = (row_bytes(&[Some(b"x"), None]), speech::message(b'N', b"SNOTICE\0\0"));
    assert_eq!(rows(&speech::reply(&[&[Some(b"x"), None]])), Ok(vec![vec![Some(b"x".as_slice()), None]]));
    assert_eq!(rows_of(&[complete(), ready()]), Ok(0));
    assert_eq!(rows_of(&[notice, a_row.clone(), a_row.clone(), complete(), ready()]), Ok(2));
    let refused = |severity: &str, is_fatal| {
        let server = ServerError { state: SqlState(*b"57014"), is_fatal };
        (error(severity, "57014"), Err(NoRows::Error(server)))
    };
    let (cancelled, expected) = refused("ERROR", false);
    assert_eq!(rows_of(&[cancelled.clone(), ready()]), expected);
    // A commit can fail behind the row.
    assert_eq!(rows_of(&[a_row.clone(), complete(), cancelled.clone(), ready()]), expected);
    for severity in ["FATAL", "PANIC"] {
        let (ended, expected) = refused(severity, true);
        assert_eq!(rows_of(&[a_row.clone(), ended]), expected);
    }
    for no_reply in [
        vec![],
        vec![ready()],
        vec![a_row.clone()],
        vec![a_row.clone(), ready()],
        vec![a_row.clone(), complete()],
        vec![complete(), a_row.clone(), ready()],
        vec![complete(), ready(), ready()],
        vec![cancelled],
        vec![speech::message(b'D', &[0, 1, 0, 0, 0, 9, 1]), complete(), ready()],
        vec![speech::message(b'D', &[0, 0, 0]), complete(), ready()],
        vec![speech::message(b'T', &[0, 0]), complete(), ready()],
        vec![speech::message(b'I', b""), ready()],
    ] {
        assert_eq!(rows_of(&no_reply), Err(NoRows::Malformed), "{no_reply:?}");
    }
}

#[test]
fn an_error_without_a_severity_that_is_not_translated_counts_by_the_other() {
    let of_pooler = |severity: &str| speech::message(b'E', format!("S{severity}\0C08P01\0Mno\0\0").as_bytes());
    for (severity, is_fatal) in [("ERROR", false), ("FATAL", true)] {
        let bytes = of_pooler(severity);
        let (message, _) = Message::split(&bytes).unwrap();
        assert_eq!(message.error(), Some(ServerError { state: SqlState(*b"08P01"), is_fatal }));
    }
    let bytes = speech::message(b'E', b"VERROR\0SFEHLER\0C22\0\0");
    let (message, _) = Message::split(&bytes).unwrap();
    assert_eq!(message.error(), Some(ServerError { state: SqlState::default(), is_fatal: false }));
}

/// Replies, none of which may be misread.
fn replies() -> impl Strategy<Value = Vec<u8>> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let rows = prop::collection::vec(prop::collection::vec(value, 0..8), 0..4);
    rows.prop_map(|rows| {
        let rows: Vec<Vec<Option<&[u8]>>> = rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
        speech::reply(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
    })
}

proptest! {
    #[test]
    fn a_reply_is_as_long_as_others_read_it_and_incomplete_up_to_there(
        first in replies(),
        behind in replies(),
    ) {
        let bytes = [first.as_slice(), &behind].concat();
        prop_assert_eq!(reply_length(&bytes), Ok(first.len()));
        prop_assert_eq!(read_by_others(&bytes), Some(first.len()));
        for length in 0..first.len() {
            prop_assert_eq!(reply_length(&first[..length]), Err(MessageError::Cut));
        }
        prop_assert!(rows(&first).is_ok());
    }

    #[test]
    fn any_bytes_have_a_length_that_others_see_or_none(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(length) = reply_length(&bytes) {
            prop_assert!(length <= bytes.len());
            if let Ok(rows) = rows(&bytes[..length]) {
                prop_assert!(rows.len() * 7 <= length);
                prop_assert_eq!(read_by_others(&bytes), Some(length));
            }
        }
    }
}
