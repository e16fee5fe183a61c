//! RESP2, the protocol of Redis: what is sent, what comes back, and how much of it has come back.
//!
//! A reply comes over transports that cut it and give no sign of it, from a server that may be anything. So reading
//! tells a good beginning whose rest is missing ([`RespError::Cut`]: the outcome is open, ask again) from what no
//! server says ([`RespError::Malformed`]). It accepts one spelling of each value, the one that Redis writes, and takes
//! memory in proportion to the bytes that are there, whatever lengths they announce.
//!
//! Why not the crate `redis-protocol` (6.0): its RESP2 decoder adds 11,663 bytes to the module, this one 3,439 (measured
//! in the whole module, at opt-level 3). It takes any two bytes for the end of a bulk string and `+1`
//! for a length, and it follows arrays to any depth: 20,000 bytes of `*1\r\n` are the end of a stack of 1 MiB, and so of
//! the worker's VM. The tests read with both and compare.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::ops::RangeInclusive;

/// Appends a command: an array of bulk strings, the one form in which every server and `redis_proxy` take it.
pub fn push_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().fold(FRAMING, |sum, part| sum + part.len() + FRAMING));
    push_header(out, b'*', parts.len());
    for part in parts {
        push_bulk(out, part);
    }
}

/// One value of a reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// `+`: a word without a line break, such as `OK`.
    Simple(Vec<u8>),
    /// `-`: why a command failed. The first word is its kind, such as `WRONGTYPE`.
    Error(Vec<u8>),
    /// `:`: a number.
    Integer(i64),
    /// `$`: any bytes; `None` is nil.
    Bulk(Option<Vec<u8>>),
    /// `*`: values; `None` is nil.
    Array(Option<Vec<Value>>),
}

impl Value {
    /// Those of a bulk string.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bulk(Some(bytes)) = self { Some(bytes) } else { None }
    }
}

/// Why bytes are not the values that were asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum RespError {
    /// All that is there is right, and the rest is missing.
    #[error("the reply ends early")]
    Cut,
    /// No beginning of any reply.
    #[error("the reply is not RESP")]
    Malformed,
    /// Something stands behind the last value.
    #[error("the reply has more values than commands were sent")]
    Trailing,
}

/// Reads exactly `count` values and nothing behind them.
///
/// # Errors
///
/// [`RespError`]: of several things that are wrong, the first one in the bytes.
pub fn decode_all(bytes: &[u8], count: usize) -> Result<Vec<Value>, RespError> {
    let mut values = Vec::new();
    let mut rest = bytes;
    for _ in 0..count {
        let (value, behind) = read_value(rest, DEEPEST)?;
        values.push(value);
        rest = behind;
    }
    if rest.is_empty() { Ok(values) } else { Err(RespError::Trailing) }
}

/// How many bytes the first value takes.
///
/// # Errors
///
/// [`RespError::Cut`] if it is not all there, [`RespError::Malformed`] if it never will be.
pub fn first_length(bytes: &[u8]) -> Result<usize, RespError> {
    let (mut rest, mut lacking) = (bytes, 1_usize);
    while lacking > 0 {
        let (token, behind) = read_token(rest)?;
        let inside = if let RespToken::Array(length) = token { length } else { 0 };
        lacking = (lacking - 1).saturating_add(inside);
        rest = behind;
    }
    Ok(bytes.len() - rest.len())
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn push_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A value, or the head of an array whose elements follow.
enum RespToken<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
    NoBulk,
    Array(usize),
    NoArray,
}

/// Reads one value; `depth` is how many arrays may be inside one another.
fn read_value(bytes: &[u8], depth: usize) -> Result<(Value, &[u8]), RespError> {
    let (token, mut rest) = read_token(bytes)?;
    let value = match token {
        RespToken::Simple(line) => Value::Simple(line.to_vec()),
        RespToken::Error(line) => Value::Error(line.to_vec()),
        RespToken::Integer(number) => Value::Integer(number),
        RespToken::Bulk(bytes) => Value::Bulk(Some(bytes.to_vec())),
        RespToken::NoBulk => Value::Bulk(None),
        RespToken::NoArray => Value::Array(None),
        RespToken::Array(length) => {
            let depth = depth.checked_sub(1).ok_or(RespError::Malformed)?;
            // Not reserved: the length is a claim, the elements are bytes that came.
            let mut values = Vec::new();
            for _ in 0..length {
                let (value, behind) = read_value(rest, depth)?;
                values.push(value);
                rest = behind;
            }
            Value::Array(Some(values))
        }
    };
    Ok((value, rest))
}

fn read_token(bytes: &[u8]) -> Result<(RespToken<'_>, &[u8]), RespError> {
    let (&kind, rest) = bytes.split_first().ok_or(RespError::Cut)?;
    match kind {
        b'+' => read_line(rest).map(|(line, rest)| (RespToken::Simple(line), rest)),
        b'-' => read_line(rest).map(|(line, rest)| (RespToken::Error(line), rest)),
        b':' => read_number(rest, i64::MIN..=i64::MAX).map(|(number, rest)| (RespToken::Integer(number), rest)),
        b'$' => match read_length(rest)? {
            (Some(length), rest) => {
                let (bytes, rest) = rest.split_at_checked(length).ok_or(RespError::Cut)?;
                Ok((RespToken::Bulk(bytes), read_break(rest)?))
            }
            (None, rest) => Ok((RespToken::NoBulk, rest)),
        },
        b'*' => match read_length(rest)? {
            (Some(length), rest) => Ok((RespToken::Array(length), rest)),
            (None, rest) => Ok((RespToken::NoArray, rest)),
        },
        _ => Err(RespError::Malformed),
    }
}

/// Reads a length; `None` is -1, which stands for nil.
fn read_length(bytes: &[u8]) -> Result<(Option<usize>, &[u8]), RespError> {
    let (number, rest) = read_number(bytes, -1..=LARGEST_LENGTH)?;
    Ok((usize::try_from(number).ok(), rest))
}

/// Reads a number and its line break: no plus sign, no zero in front, nothing out of `range`.
fn read_number(bytes: &[u8], range: RangeInclusive<i64>) -> Result<(i64, &[u8]), RespError> {
    let (sign, digits) = match bytes.split_first() {
        Some((b'-', digits)) => (-1, digits),
        _ => (1, bytes),
    };
    let mut number = None;
    for (index, &byte) in digits.iter().enumerate() {
        let digit = match (byte, number) {
            (b'\r', Some(number)) => {
                return Ok((number, read_break(digits.get(index..).unwrap_or_default())?));
            }
            (b'0', None) if sign < 0 => return Err(RespError::Malformed),
            (b'0'..=b'9', Some(0)) => return Err(RespError::Malformed),
            (b'0'..=b'9', _) => i64::from(byte - b'0') * sign,
            _ => return Err(RespError::Malformed),
        };
        // Checked with each digit: what is out of range does not come back with more of them.
        number = number
            .unwrap_or(0_i64)
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(digit))
            .filter(|number| *number >= *range.start() && *number <= *range.end())
            .map(Some)
            .ok_or(RespError::Malformed)?;
    }
    Err(RespError::Cut)
}

fn read_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), RespError> {
    let length = bytes.iter().take(LONGEST_LINE + 1).position(|byte| matches!(byte, b'\r' | b'\n'));
    match length.and_then(|length| bytes.split_at_checked(length)) {
        Some((line, rest)) => Ok((line, read_break(rest)?)),
        None if bytes.len() > LONGEST_LINE => Err(RespError::Malformed),
        None => Err(RespError::Cut),
    }
}

/// Reads a line break and nothing else.
fn read_break(bytes: &[u8]) -> Result<&[u8], RespError> {
    match bytes {
        [b'\r', b'\n', rest @ ..] => Ok(rest),
        [] | [b'\r'] => Err(RespError::Cut),
        _ => Err(RespError::Malformed),
    }
}

/// What stands around a part of a command at most, in bytes, as long as the part has less than a megabyte.
const FRAMING: usize = 12;

/// How many arrays may be inside one another. Nothing that is asked here is answered with more than two.
const DEEPEST: usize = 4;

/// The largest length of a bulk string or an array, 512 MiB: what Redis allows by default (`proto-max-bulk-len`), and
/// so small that it fits into any `usize`.
const LARGEST_LENGTH: i64 = 512 * 1024 * 1024;

/// The longest simple string or error, in bytes. Far more than Redis ever says in one line.
const LONGEST_LINE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
