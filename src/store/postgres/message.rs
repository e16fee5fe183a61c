//! The messages of PostgreSQL's protocol, version 3.0, as far as this store has them.
//!
//! A question is an unnamed statement (Parse, Bind, Execute) with a Sync behind it, so that it is a transaction of its own
//! and nothing is left of it in the session: any pooler may stand in between. All values are in the binary format.

use std::fmt;

/// An error code of PostgreSQL (its manual, appendix A): five characters; the first two are the class.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SqlState(pub(super) [u8; 5]);

impl Default for SqlState {
    /// That of an error without one: an internal error.
    fn default() -> Self {
        Self(*b"XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or("not ASCII"))
    }
}

/// Why bytes are not what they are to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MessageError {
    /// The rest is missing.
    Cut,
    /// They are something else.
    Malformed,
}

/// What a server says is wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ServerError {
    pub(super) state: SqlState,
    /// Whether it ends the connection, and not only the statement.
    pub(super) is_fatal: bool,
}

/// One message, without its length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first one of `bytes`, and what is behind it.
    pub(super) fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), MessageError> {
        let (&kind, rest) = bytes.split_first().ok_or(MessageError::Cut)?;
        let is_known = kind.is_ascii_alphanumeric();
        let Some((length, rest)) = rest.split_first_chunk() else {
            return Err(if is_known { MessageError::Cut } else { MessageError::Malformed });
        };
        // It counts itself.
        let length = u32::from_be_bytes(*length) as usize;
        if !is_known || !(4..=LONGEST).contains(&length) {
            return Err(MessageError::Malformed);
        }
        match rest.split_at_checked(length - 4) {
            Some((body, rest)) => Ok((Self { kind, body }, rest)),
            None => Err(MessageError::Cut),
        }
    }

    /// What an `ErrorResponse` says; `None` of any other message.
    pub(super) fn error(&self) -> Option<ServerError> {
        if self.kind != ERROR {
            return None;
        }
        let field = |name: u8| {
            let mut fields = self.body.split(|byte| *byte == 0);
            fields.find_map(|field| field.split_first().filter(|(first, _)| **first == name).map(|(_, text)| text))
        };
        // The first one is not translated; poolers leave it out, and do not translate.
        let severity = field(b'V').or_else(|| field(b'S')).unwrap_or_default();
        let state = field(b'C').and_then(|code| code.try_into().ok()).map(SqlState).unwrap_or_default();
        Some(ServerError { state, is_fatal: severity != b"ERROR" })
    }
}

/// How many bytes the reply to the first question takes: all up to the end of its transaction, or of the connection.
pub(super) fn reply_length(bytes: &[u8]) -> Result<usize, MessageError> {
    let mut rest = bytes;
    loop {
        let (message, behind) = Message::split(rest)?;
        rest = behind;
        if message.kind == READY || message.error().is_some_and(|error| error.is_fatal) {
            return Ok(bytes.len() - rest.len());
        }
    }
}

/// The columns of a row; `None` for NULL.
pub(super) type Row<'a> = Vec<Option<&'a [u8]>>;

/// Why a reply has no rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoRows {
    Malformed,
    Error(ServerError),
}

/// The rows of a whole reply.
pub(super) fn rows(reply: &[u8]) -> Result<Vec<Row<'_>>, NoRows> {
    let (mut rows, mut error, mut is_complete) = (Vec::new(), None, false);
    let mut rest = reply;
    loop {
        let (message, behind) = Message::split(rest).map_err(|_| NoRows::Malformed)?;
        rest = behind;
        match (message.kind, message.error()) {
            (_, Some(found)) => {
                error = error.or(Some(found));
                if found.is_fatal && rest.is_empty() {
                    return Err(NoRows::Error(found));
                }
            }
            (b'1' | b'2' | b'A' | b'N' | b'S', _) => {}
            (b'D', _) if !is_complete => rows.push(row(message.body).ok_or(NoRows::Malformed)?),
            (b'C', _) => is_complete = true,
            (READY, _) if rest.is_empty() => {
                return match error {
                    Some(error) => Err(NoRows::Error(error)),
                    None if is_complete => Ok(rows),
                    None => Err(NoRows::Malformed),
                };
            }
            _ => return Err(NoRows::Malformed),
        }
    }
}

fn row(body: &[u8]) -> Option<Row<'_>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk()?;
        rest = behind;
        row.push(match i32::from_be_bytes(*length) {
            -1 => None,
            length => {
                let (value, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = behind;
                Some(value)
            }
        });
    }
    rest.is_empty().then_some(row)
}

/// A value that a statement is given, or a row has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Char(u8),
    Flag(bool),
    Integer(i32),
    Number(i64),
    Uuid(&'a [u8; 16]),
}

impl Value<'_> {
    /// The number by which the server knows its type.
    fn type_id(self) -> u32 {
        match self {
            Self::Flag(_) => 16,
            Self::Bytes(_) => 17,
            Self::Char(_) => 18,
            Self::Number(_) => 20,
            Self::Integer(_) => 23,
            Self::Uuid(_) => 2950,
        }
    }

    fn push(self, bytes: &mut Vec<u8>) {
        let mut push = |value: &[u8]| {
            bytes.extend_from_slice(&length(value.len()));
            bytes.extend_from_slice(value);
        };
        match self {
            Self::Bytes(value) => push(value),
            Self::Char(value) => push(&[value]),
            Self::Flag(value) => push(&[u8::from(value)]),
            Self::Integer(value) => push(&value.to_be_bytes()),
            Self::Number(value) => push(&value.to_be_bytes()),
            Self::Uuid(value) => push(value),
        }
    }
}

/// The question that runs a statement once.
pub(super) fn statement(sql: &str, values: &[Value<'_>]) -> Vec<u8> {
    let count = (values.len() as u16).to_be_bytes();
    let mut bytes = Vec::new();
    push(&mut bytes, b'P', |body| {
        body.push(0);
        push_text(body, sql.as_bytes());
        body.extend_from_slice(&count);
        values.iter().for_each(|value| body.extend_from_slice(&value.type_id().to_be_bytes()));
    });
    push(&mut bytes, b'B', |body| {
        // No names; one format for all that it is given, and one for all that comes: binary.
        body.extend_from_slice(&[0, 0, 0, 1, 0, 1]);
        body.extend_from_slice(&count);
        values.iter().for_each(|value| value.push(body));
        body.extend_from_slice(&[0, 1, 0, 1]);
    });
    push(&mut bytes, b'E', |body| body.extend_from_slice(&[0; 5]));
    push(&mut bytes, b'S', |_| {});
    bytes
}

/// What a connection begins with.
pub(super) fn startup(username: &str, database: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&PROTOCOL.to_be_bytes());
    let parameters =
        [("user", username), ("database", database), ("application_name", "idemgate"), ("client_encoding", "UTF8")];
    for (name, value) in parameters {
        push_text(&mut bytes, name.as_bytes());
        push_text(&mut bytes, value.as_bytes());
    }
    bytes.push(0);
    put_length(&mut bytes, 0);
    bytes
}

/// A password as it is.
pub(super) fn password(password: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, b'p', |body| push_text(body, password.as_bytes()));
    bytes
}

/// The first word of a proof by a mechanism.
pub(super) fn sasl_begin(mechanism: &[u8], says: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, b'p', |body| {
        push_text(body, mechanism);
        body.extend_from_slice(&length(says.len()));
        body.extend_from_slice(says);
    });
    bytes
}

/// The next one.
pub(super) fn sasl(says: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, b'p', |body| body.extend_from_slice(says));
    bytes
}

fn push(bytes: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    bytes.push(kind);
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    body(bytes);
    put_length(bytes, start);
}

/// Puts the length of what begins at `start` there.
fn put_length(bytes: &mut [u8], start: usize) {
    if let Some((place, rest)) = bytes.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut) {
        *place = length(4 + rest.len());
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(text);
    bytes.push(0);
}

/// As the protocol counts. Nothing is as long as it cannot say: see `LONGEST`.
fn length(length: usize) -> [u8; 4] {
    (length as u32).to_be_bytes()
}

pub(super) const ERROR: u8 = b'E';
pub(super) const READY: u8 = b'Z';

const PROTOCOL: u32 = 3 << 16;

/// No record is as large, with what is around it.
const LONGEST: usize = 32 << 20;

#[cfg(test)]
mod tests;
