//! The protocol of Redis, which leaves one way to write each value.

use idemgate::store::redis::resp::{RespError, Value, decode_all, first_length};

use super::{Seed, texts};

/// Values that are read are written as they stood, what is cut asks for more, and the first value ends where it is whole.
pub fn check(bytes: &[u8]) {
    let (mut values, mut rest) = (Vec::new(), bytes);
    while let Ok(length) = first_length(rest) {
        let (first, behind) = rest.split_at(length);
        for end in (0..length).rev().take(40) {
            assert_eq!(first_length(&first[..end]), Err(RespError::Cut), "cut at {end}");
        }
        // It may be one that is nested too deep.
        let Ok(read) = decode_all(first, 1) else { return };
        values.extend(read);
        rest = behind;
    }
    let whole = &bytes[..bytes.len() - rest.len()];
    assert_eq!(decode_all(whole, values.len()).as_ref(), Ok(&values));
    let mut written = Vec::new();
    values.iter().for_each(|value| write(&mut written, value));
    assert_eq!(written.escape_ascii().to_string(), whole.escape_ascii().to_string());
    assert!(decode_all(rest, 1).is_err());
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
