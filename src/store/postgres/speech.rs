//! What a server says, for tests.

pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

pub(super) fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default());
    }
    message(b'D', &body)
}

pub(super) fn complete() -> Vec<u8> {
    message(b'C', b"SELECT 1\0")
}

pub(super) fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

pub(super) fn reply(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let rows: Vec<u8> = rows.iter().flat_map(|values| row(values)).collect();
    [message(b'1', b""), message(b'2', b""), rows, complete(), ready()].concat()
}

pub(super) fn error(severity: &str, state: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{state}\0Mno\0\0").as_bytes())
}

/// An error of a statement.
pub(super) fn refusal(state: &str) -> Vec<u8> {
    [error("ERROR", state), ready()].concat()
}

pub(super) fn authentication(kind: u32, says: &[u8]) -> Vec<u8> {
    message(b'R', &[kind.to_be_bytes().as_slice(), says].concat())
}

pub(super) fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

/// Behind the authentication.
pub(super) fn welcome() -> Vec<u8> {
    let key = message(b'K', &[0; 8]);
    [authentication(0, b""), parameter("server_version", "15.18"), parameter("in_hot_standby", "off"), key, ready()]
        .concat()
}
