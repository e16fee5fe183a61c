//! The protocol of Redis, which leaves one way to write each value.

use idemgate::store::redis::resp::{RespError, Value, ValueCounter, decode_all};

use super::{Seed, texts};

/// Values that are read are written as they stood; what is cut asks for more; and counting finds as many.
pub fn check(bytes: &[u8]) {
    let (count, done) = counted(&[bytes]);
    assert_eq!((count, done), counted(&bytes.chunks(3).collect::<Vec<_>>()), "in pieces");
    let Ok(done) = done else {
        assert!(decode_all(bytes, count + 1).is_err());
        return;
    };
    let values = match decode_all(bytes, count) {
        Ok(values) => values,
        Err(error) => {
            assert_eq!(error, RespError::Trailing, "the counted number of values");
            assert_eq!(decode_all(bytes, count + 1), Err(RespError::Cut), "{done} bytes were counted");
            return;
        }
    };
    let mut written = Vec::new();
    values.iter().for_each(|value| write(&mut written, value));
    assert_eq!(written.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    for end in (0..bytes.len()).rev().take(40) {
        assert_eq!(decode_all(&bytes[..end], count), Err(RespError::Cut), "cut at {end}");
    }
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("arrays", "*3\r\n:29999\r\n:86400000\r\n$3\r\nabc\r\n*2\r\n*0\r\n*-1\r\n"),
        ("commands", "*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"),
        ("cut", "+OK\r\n$12\r\nabc"),
        ("lines", "+OK\r\n-NOAUTH Authentication required.\r\n:-9223372036854775808\r\n$-1\r\n$0\r\n\r\n"),
        ("no_resp", "HTTP/1.1 400 Bad Request\r\n"),
    ])
}

/// How many values there are in all `pieces`, and how many bytes of them are done with, if they are RESP.
fn counted(pieces: &[&[u8]]) -> (usize, Result<usize, RespError>) {
    let mut counter = ValueCounter::of_values();
    let (mut unread, mut done) = (Vec::new(), 0);
    for piece in pieces {
        unread.extend_from_slice(piece);
        match counter.advance(&unread) {
            Ok(read) => {
                unread.drain(..read);
                done += read;
            }
            Err(error) => return (counter.count(), Err(error)),
        }
    }
    (counter.count(), Ok(done))
}

pub(crate) fn write(out: &mut Vec<u8>, value: &Value) {
    let mut line = |kind: char, text: &[u8]| {
        out.push(kind as u8);
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    };
    match value {
        Value::Simple(text) => line('+', text),
        Value::Error(text) => line('-', text),
        Value::Integer(number) => line(':', number.to_string().as_bytes()),
        Value::Bulk(None) => line('$', b"-1"),
        Value::Bulk(Some(bytes)) => {
            line('$', bytes.len().to_string().as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Value::Array(None) => line('*', b"-1"),
        Value::Array(Some(values)) => {
            line('*', values.len().to_string().as_bytes());
            values.iter().for_each(|value| write(out, value));
        }
    }
}
