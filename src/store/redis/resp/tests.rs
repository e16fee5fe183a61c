use proptest::prelude::*;
use redis_protocol::resp2::{decode::decode, types::OwnedFrame};

use super::*;

#[test]
fn a_command_is_an_array_of_bulk_strings() {
    let mut bytes = Vec::new();
    push_command(&mut bytes, &[b"SET", b"a key", b"\r\n\x00"]);
    push_command(&mut bytes, &[b"PING"]);
    assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$5\r\na key\r\n$3\r\n\r\n\x00\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(decode_all(&bytes, 2).map(|commands| commands.len()), Ok(2));
}

#[test]
fn each_kind_of_value_is_read() {
    let reply = b"+OK\r\n-NOAUTH Authentication required.\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n:1\r\n*0\r\n*-1\r\n+\r\n$0\r\n\r\n";
    let values = vec![
        Value::Simple(b"OK".to_vec()),
        Value::Error(b"NOAUTH Authentication required.".to_vec()),
        Value::Integer(-7),
        Value::Bulk(Some(b"a\r\n".to_vec())),
        Value::Bulk(None),
        Value::Array(Some(vec![Value::Integer(1), Value::Array(Some(Vec::new()))])),
        Value::Array(None),
        Value::Simple(Vec::new()),
        Value::Bulk(Some(Vec::new())),
    ];
    assert_eq!(decode_all(reply, values.len()), Ok(values));
}

#[test]
fn neither_fewer_nor_more_values_than_were_asked_for_are_taken() {
    assert_eq!(decode_all(b"+OK\r\n:1\r\n", 3), Err(RespError::Cut));
    assert_eq!(decode_all(b"+OK\r\n:1\r\n", 1), Err(RespError::Trailing));
    assert_eq!(decode_all(b"", 1), Err(RespError::Cut));
    assert_eq!(decode_all(b"", 0), Ok(Vec::new()));
    assert_eq!(decode_all(b"\r\n", 0), Err(RespError::Trailing));
}

#[test]
fn what_no_redis_writes_is_malformed() {
    let cases: [&[u8]; 30] = [
        b"OK\r\n",
        b"upstream connect error or disconnect/reset before headers",
        b"+O\nK\r\n",
        b"+O\rK\r\n",
        b"-\n",
        b":\r\n",
        b":-\r\n",
        b":+1\r\n",
        b":01\r\n",
        b":-0\r\n",
        b":1 \r\n",
        b":1\n",
        b":1\rx",
        b":9223372036854775808\r\n",
        b":-9223372036854775809\r\n",
        b"$\r\n",
        b"$-2\r\n",
        b"$-10\r\n",
        b"$536870913\r\n",
        b"$1\r\nab\r\n",
        b"$1\r\na\n",
        b"$1\r\na\rx",
        b"$-1\n",
        b"*-2\r\n",
        b"*536870913\r\n",
        b"*1\r\n?\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        b"%1\r\n+a\r\n:1\r\n",
        b"_\r\n",
        b"\x00",
    ];
    for bytes in cases {
        assert_eq!(decode_all(bytes, 1), Err(RespError::Malformed), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_length_that_cannot_be_is_known_before_its_line_ends() {
    for bytes in [&b"$5368709120"[..], b"*-3", b":92233720368547758070", b":-0", b"$00"] {
        assert_eq!(decode_all(bytes, 1), Err(RespError::Malformed), "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_largest_and_the_smallest_number_are_read() {
    let reply = b":9223372036854775807\r\n:-9223372036854775808\r\n:0\r\n";
    let values = vec![Value::Integer(i64::MAX), Value::Integer(i64::MIN), Value::Integer(0)];
    assert_eq!(decode_all(reply, 3), Ok(values));
}

#[test]
fn an_announced_length_reserves_no_memory() {
    // Reserved, these would be 16 GiB each, at four levels.
    let announced = b"*536870912\r\n*536870912\r\n*536870912\r\n*536870912\r\n$536870912\r\n";
    assert_eq!(decode_all(announced, usize::MAX), Err(RespError::Cut));
}

#[test]
fn a_line_has_a_longest_length() {
    let longest = [b"+", &vec![b'x'; LONGEST_LINE][..], b"\r\n"].concat();
    assert_eq!(decode_all(&longest, 1), Ok(vec![Value::Simple(vec![b'x'; LONGEST_LINE])]));
    assert_eq!(decode_all(&longest[..longest.len() - 2], 1), Err(RespError::Cut));
    let longer = [b"+x", &longest[1..]].concat();
    assert_eq!(decode_all(&longer, 1), Err(RespError::Malformed));
    assert_eq!(decode_all(&longer[..longer.len() - 2], 1), Err(RespError::Malformed));
}

#[test]
fn arrays_nest_four_deep_and_no_deeper() {
    let mut reply = b"*1\r\n".repeat(DEEPEST);
    reply.extend_from_slice(b":1\r\n");
    assert!(decode_all(&reply, 1).is_ok());
    // Following all of them would take more stack than any thread has.
    let deep = b"*1\r\n".repeat(1_000_000);
    assert_eq!(decode_all(&deep, 1), Err(RespError::Malformed));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(values in values()) {
        let bytes = encode_all(&values);
        prop_assert_eq!(decode_all(&bytes, values.len()), Ok(values));
    }

    #[test]
    fn a_reply_that_is_cut_anywhere_is_cut(
        values in prop::collection::vec(value(), 1..5),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = encode_all(&values);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(decode_all(cut, values.len()), Err(RespError::Cut));
    }

    #[test]
    fn whatever_is_read_was_written_in_its_one_spelling(bytes in mutated(), count in 0_usize..5) {
        if let Ok(values) = decode_all(&bytes, count) {
            prop_assert_eq!(encode_all(&values), bytes);
        }
    }

    #[test]
    fn what_is_read_takes_memory_in_proportion_to_its_bytes(bytes in mutated(), count in 0_usize..5) {
        if let Ok(values) = decode_all(&bytes, count) {
            let (slots, held) = room(&values, values.capacity());
            // A growing vector has at most twice the room that it needs, and four elements at least.
            prop_assert!(slots <= 4 * bytes.len().max(1) && held <= bytes.len(), "{slots} values, {held} bytes");
        }
    }

    #[test]
    fn whatever_is_cut_can_be_completed_or_is_malformed_for_good(bytes in mutated(), more in mutated()) {
        if decode_all(&bytes, 3) == Err(RespError::Malformed) {
            let longer = [bytes, more].concat();
            prop_assert_eq!(decode_all(&longer, 3), Err(RespError::Malformed));
        }
    }

    #[test]
    fn all_that_is_read_reads_the_same_to_another_parser(bytes in mutated()) {
        match (decode_one(&bytes), decode(&bytes)) {
            (Ok((value, length)), theirs) => {
                prop_assert_eq!(theirs.ok().flatten(), frame(&value).map(|frame| (frame, length)));
            }
            // What they cannot finish is cut, or something that they would see only at its end.
            (Err(RespError::Cut), theirs) => prop_assert_eq!(theirs, Ok(None)),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn the_first_value_ends_where_it_is_whole(first in value(), others in values()) {
        let (length, bytes) = (encode_all(std::slice::from_ref(&first)).len(), encode_all(&[vec![first], others].concat()));
        prop_assert_eq!(first_length(&bytes), Ok(length));
        for end in 0..length {
            prop_assert_eq!(first_length(&bytes[..end]), Err(RespError::Cut));
        }
    }

    #[test]
    fn whatever_is_one_value_has_its_length(bytes in mutated()) {
        match decode_all(&bytes, 1) {
            Ok(_) => prop_assert_eq!(first_length(&bytes), Ok(bytes.len())),
            Err(RespError::Cut) => prop_assert_eq!(first_length(&bytes), Err(RespError::Cut)),
            Err(_) => {}
        }
    }
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(value(), 0..5)
}

fn value() -> impl Strategy<Value = Value> {
    let line = prop::collection::vec(any::<u8>().prop_filter("no break", |byte| !b"\r\n".contains(byte)), 0..20);
    let leaf = prop_oneof![
        line.clone().prop_map(Value::Simple),
        prop_oneof![Just(b"ERR unknown".to_vec()), line].prop_map(Value::Error),
        prop_oneof![any::<i64>(), -20_i64..200].prop_map(Value::Integer),
        prop::option::of(bytes()).prop_map(Value::Bulk),
        Just(Value::Array(None)),
    ];
    leaf.prop_recursive(DEEPEST as u32, 24, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(|values| Value::Array(Some(values)))
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..30), Just(b"\r\n$-1\r\n*2\r\n".to_vec())]
}

/// Replies, most of them with something wrong, and bytes that look like replies.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit()), 0..3);
    let damaged = (values(), edits).prop_map(|(values, edits)| {
        let mut bytes = encode_all(&values);
        for (at, (removed, inserted)) in edits {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + removed);
            bytes.splice(at..end, inserted);
        }
        bytes
    });
    prop_oneof![4 => damaged, 1 => prop::collection::vec(prop::sample::select(b"+-:$*\r\n0123".as_slice()), 0..24)]
}

fn edit() -> impl Strategy<Value = (usize, Vec<u8>)> {
    (0_usize..4, prop::collection::vec(prop::sample::select(b"+-:$*\r\n019x".as_slice()), 0..3))
}

fn encode_all(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        encode(value, &mut out);
    }
    out
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    let line = |out: &mut Vec<u8>, kind, line: &[u8]| out.extend_from_slice(&[&[kind], line, b"\r\n"].concat());
    match value {
        Value::Simple(text) => line(out, b'+', text),
        Value::Error(text) => line(out, b'-', text),
        Value::Integer(number) => line(out, b':', number.to_string().as_bytes()),
        Value::Bulk(Some(bytes)) => push_bulk(out, bytes),
        Value::Bulk(None) => out.extend_from_slice(b"$-1\r\n"),
        Value::Array(Some(values)) => {
            push_header(out, b'*', values.len());
            out.extend_from_slice(&encode_all(values));
        }
        Value::Array(None) => out.extend_from_slice(b"*-1\r\n"),
    }
}

fn decode_one(bytes: &[u8]) -> Result<(Value, usize), RespError> {
    read_value(bytes, DEEPEST).map(|(value, rest)| (value, bytes.len() - rest.len()))
}

/// What the other parser makes of it: nothing, if it has an error that is no text.
fn frame(value: &Value) -> Option<OwnedFrame> {
    Some(match value {
        Value::Simple(line) => OwnedFrame::SimpleString(line.clone()),
        Value::Error(line) => OwnedFrame::Error(String::from_utf8(line.clone()).ok()?),
        Value::Integer(number) => OwnedFrame::Integer(*number),
        Value::Bulk(Some(bytes)) => OwnedFrame::BulkString(bytes.clone()),
        Value::Bulk(None) | Value::Array(None) => OwnedFrame::Null,
        Value::Array(Some(values)) => OwnedFrame::Array(values.iter().map(frame).collect::<Option<_>>()?),
    })
}

/// How many values and how many bytes there is room for.
fn room(values: &[Value], capacity: usize) -> (usize, usize) {
    values.iter().fold((capacity, 0), |(slots, held), value| {
        let (more_slots, more_held) = match value {
            Value::Simple(bytes) | Value::Error(bytes) | Value::Bulk(Some(bytes)) => (0, bytes.capacity()),
            Value::Array(Some(values)) => room(values, values.capacity()),
            Value::Integer(_) | Value::Bulk(None) | Value::Array(None) => (0, 0),
        };
        (slots + more_slots, held + more_held)
    })
}
