//! PostgreSQL, as far as the store sees it: the model of Redis behind another protocol, since the rules are the same.
//!
//! That the functions of a real server say what the model says is a test of its own (`tests/postgres_store.rs`).

use idemgate::store::redis::resp::{Value, decode_all};

use super::redis::{Command, Script};

/// Whether this begins a connection.
pub(crate) fn is_startup(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(&[0, 3, 0, 0])
}

/// What a server says that trusts everybody.
pub(crate) fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'S', b"in_hot_standby\0off\0"), message(b'Z', b"I")].concat()
}

/// What a server says that does not let a connection in.
pub(crate) fn starting() -> Vec<u8> {
    message(b'E', b"VFATAL\0C57P03\0Mthe database system is starting up\0\0")
}

/// What a server says that has become a standby.
pub(crate) fn read_only() -> Vec<u8> {
    [message(b'E', b"VERROR\0C25006\0Mcannot execute INSERT\0\0"), message(b'Z', b"I")].concat()
}

/// Reads what the store sends: one statement, which calls one function.
pub(crate) fn read(bytes: &[u8]) -> Command {
    let (parse, behind) = split(bytes);
    let (bind, _) = split(behind);
    let sql = String::from_utf8_lossy(parse);
    let values = values(bind);
    let digits = |place: usize| i64::from_be_bytes(values[place].try_into().unwrap()).to_string().into_bytes();
    let flag = |place: usize| vec![b'0' + values[place][0]];
    let bytes = |place: usize| values[place].to_vec();
    let (script, arguments) = if sql.contains(".claim_v1(") {
        (Script::Claim, vec![bytes(2), digits(3), digits(4), flag(5), bytes(6)])
    } else if sql.contains(".renew_v1(") {
        (Script::Renew, vec![digits(2), digits(3)])
    } else {
        assert!(sql.contains(".settle_v1("), "{sql}");
        (Script::Settle, vec![bytes(3), bytes(2), digits(4), bytes(5)])
    };
    let key: String = values[0].iter().map(|byte| format!("{byte:02x}")).collect();
    Command::of_statement(script, format!("idemgate:{key}").into_bytes(), values[1].try_into().unwrap(), arguments)
}

/// What the functions say where the scripts say this.
pub(crate) fn reply(script: Script, said: &[u8]) -> Vec<u8> {
    let said = decode_all(said, 1).unwrap().remove(0);
    let row = match (script, said) {
        (Script::Claim, Value::Integer(1)) => vec![Some(vec![1]), None, None, None, None, None, None],
        (Script::Claim, Value::Array(Some(found))) => {
            let [Value::Integer(left), Value::Integer(lives), Value::Bulk(Some(value))] = found.as_slice() else {
                panic!("{found:?}")
            };
            vec![
                Some(vec![0]),
                Some(value[1..2].to_vec()),
                Some(value[2..18].to_vec()),
                Some(value[18..50].to_vec()),
                Some(left.to_be_bytes().to_vec()),
                Some(lives.to_be_bytes().to_vec()),
                Some(value[63..].to_vec()),
            ]
        }
        (Script::Renew | Script::Settle, Value::Integer(done)) => vec![Some(vec![u8::from(done == 1)])],
        (script, said) => panic!("{script:?}: {said:?}"),
    };
    let mut body = (row.len() as u16).to_be_bytes().to_vec();
    for value in row {
        body.extend_from_slice(&value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    let parts = [(b'1', b"".as_slice()), (b'2', b""), (b'D', &body), (b'C', b"SELECT 1\0"), (b'Z', b"I")];
    parts.iter().flat_map(|(kind, body)| message(*kind, body)).collect()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], (body.len() as u32 + 4).to_be_bytes().as_slice(), body].concat()
}

/// The body of the first message, and what is behind it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    (&bytes[5..=length], &bytes[length + 1..])
}

/// The values that a statement is given: behind two empty names and one format.
fn values(bind: &[u8]) -> Vec<&[u8]> {
    let count = u16::from_be_bytes(bind[6..8].try_into().unwrap());
    let mut rest = &bind[8..];
    let next = |_| {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let value = &rest[4..4 + length];
        rest = &rest[4 + length..];
        value
    };
    (0..count).map(next).collect()
}
