//! What is made of a reply, whether Redis, a proxy or nobody sensible wrote it.

use std::{sync::LazyLock, time::Duration};

use idemgate::{
    config::RedisConfig,
    record::{Amendment, Verb},
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, Settlement,
        dialect::Heard,
        inquiry::Progress,
        redis::{
            RedisStore,
            resp::{Value, decode_all},
        },
        remote::RemoteStore as _,
    },
};

use super::{
    Seed,
    calls::{FINGERPRINT, NOW, OWNER, claim, operation, renew, response, settle},
    input::Input,
    resp,
    sealed::{sealed_record, unsealed},
};

const STATUSES: [u16; 4] = [200, 503, 504, 404];

/// A byte that says what the rest is: a reply, the value that a claim found, or such a value without its checksum.
///
/// Nobody is let through unless Redis says so in the one way it has; nothing is replayed that was not stored for this
/// very operation; and each attempt has an end.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let status = STATUSES[usize::from(kind >> 4) % STATUSES.len()];
    let body = match kind % 4 {
        0 | 1 => input.rest().to_vec(),
        2 => found(&value(input.byte(), input.rest())),
        _ => {
            let (state, rest) = (input.byte(), input.rest());
            found(&value(state, &sealed_record(rest)))
        }
    };
    check_calls(status, &body);
    check_operators(status, &body);
}

pub fn seeds() -> Vec<Seed> {
    let kept = response();
    let body = kept.encode(&operation(), OWNER).expect("a response");
    let completed = tail(&settle(Ending::Completed(kept)));
    let (seal, response) = completed.split_at(completed.len() - body.len());
    let sealed = |state: u8, seal: &[u8], response: &[u8]| [&[3, state], unsealed(seal), b"|", response].concat();
    vec![
        ("claimed", sealed(b'i', &tail(&claim()), b"")),
        ("completed", sealed(b'c', seal, response)),
        ("denied", b"\x00-NOAUTH Authentication required.\r\n".to_vec()),
        ("granted", b"\x00:1\r\n".to_vec()),
        ("info", b"\x00$56\r\nredis_version:4.0.1\r\nmaxmemory_policy:allkeys-lru\r\ndb0:k\r\n".to_vec()),
        ("local", b"\x10upstream connect error or disconnect/reset before headers".to_vec()),
        ("not_kept", sealed(b'n', &tail(&settle(Ending::NotKept(418))), b"")),
        ("unknown", sealed(b'u', &tail(&settle(Ending::Unknown)), b"")),
        ("value", [&[2, b'c'], completed.as_slice()].concat()),
    ]
}

fn check_calls(status: u16, body: &[u8]) {
    let heard = Heard::Reply { status, body, ahead: None };
    let is = |reply: &str| status == 200 && body == reply.as_bytes();
    for call in [claim(), renew(), settle(Ending::Completed(response()))] {
        let mut inquiry = STORE.inquire(&call, NOW).expect("a call that can be made");
        for attempt in 0.. {
            assert!(attempt < 100, "it never ends");
            inquiry.ask(NOW.after(Duration::from_millis(attempt * 1000)));
            let Progress::Answered(answer) = inquiry.hear(heard, NOW.after(Duration::from_millis(attempt * 1000 + 1)))
            else {
                continue;
            };
            match answer {
                Answer::Claimed(Claimed::Granted) => assert!(is(":1\r\n")),
                Answer::Claimed(Claimed::Completed { response, .. }) => {
                    let kept = response.encode(&operation(), OWNER).expect("a response");
                    assert!(body.windows(kept.len()).any(|part| part == kept), "it was not kept");
                }
                Answer::Renewed(Renewed::Extended)
                | Answer::Settled(Settlement { settled: Settled::Completed, .. }) => {
                    assert!(is(":1\r\n"));
                }
                Answer::Renewed(Renewed::Fenced) | Answer::Settled(Settlement { settled: Settled::Fenced, .. }) => {
                    assert!(is(":0\r\n"));
                }
                _ => {}
            }
            break;
        }
    }
}

fn check_operators(status: u16, body: &[u8]) {
    let heard = Heard::Reply { status, body, ahead: None };
    for finding in STORE.findings(heard) {
        assert!(!finding.to_string().contains('\n'), "{finding}");
    }
    let _ = STORE.holdings(heard);
    for amendment in [None, Some(Amendment { verb: Verb::NotKept { status: 201 }, force: true })] {
        let mut review = STORE.review(operation(), amendment);
        let ends = (0..10).any(|_| {
            review.ask(NOW);
            review.hear(heard, NOW).is_some()
        });
        assert!(ends, "it never ends");
    }
}

static STORE: LazyLock<RedisStore> = LazyLock::new(|| RedisStore::new(RedisConfig::new("redis".to_owned())));

/// What a call stores behind the head: the last argument of its script.
fn tail(call: &Call) -> Vec<u8> {
    let mut inquiry = STORE.inquire(call, NOW).expect("a call that can be made");
    let (command, _) = inquiry.ask(NOW);
    match decode_all(command, 1).expect("a command").pop() {
        Some(Value::Array(Some(mut arguments))) => match arguments.pop() {
            Some(Value::Bulk(Some(tail))) => tail,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// What stands in Redis, as the scripts make it of a state and a tail.
fn value(state: u8, tail: &[u8]) -> Vec<u8> {
    [b"1", [state].as_slice(), &OWNER.to_bytes(), FINGERPRINT.as_bytes(), b"1700000030000", tail].concat()
}

/// The reply to a claim that finds this value.
fn found(value: &[u8]) -> Vec<u8> {
    let found = [Value::Integer(29_999), Value::Integer(60_000), Value::Bulk(Some(value.to_vec()))];
    let mut reply = Vec::new();
    resp::write(&mut reply, &Value::Array(Some(found.to_vec())));
    reply
}
