//! What is made of replies, whether DynamoDB, a proxy or nobody sensible wrote them, and what is asked next because of them.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use idemgate::{
    config::DynamoDbConfig,
    record::{Amendment, Verb},
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, Settlement,
        dialect::Heard,
        dynamodb::{DynamoDbStore, ahead},
        inquiry::Progress,
        remote::RemoteStore as _,
    },
};
use serde_json::{Value, json};

use super::{
    Seed,
    calls::{FINGERPRINT, NOW, OWNER, claim, operation, renew, response, settle},
    input::Input,
    sealed::{sealed_record, unsealed},
};

/// By how much the clock of replies may be ahead, in milliseconds.
const AHEAD: [Option<i64>; 4] = [Some(0), None, Some(-3_600_000), Some(3_600_000)];

/// A byte that says what the rest is, and whose clock counts: replies, one on each line, behind a digit for its status; or
/// an item without its checksum, in the way of whatever is asked.
///
/// Nobody is let through unless a receipt says so; nothing is replayed that was not stored for this very operation; each
/// attempt has an end; and whatever is asked next is a call that DynamoDB understands.
pub fn check(bytes: &[u8]) {
    let _ = ahead(bytes, NOW);
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let clock = AHEAD[usize::from(kind >> 4) % AHEAD.len()];
    let replies = if kind.is_multiple_of(2) { lines(&mut input) } else { in_the_way(&mut input) };
    let heard = |round: usize| match replies.get(round % replies.len().max(1)) {
        Some((status, body)) => Heard::Reply { status: *status, body, ahead: clock },
        None => Heard::Nothing,
    };
    for call in [claim(), renew(), settle(Ending::Completed(response())), settle(Ending::Released)] {
        check_call(&call, heard);
    }
    check_operators(heard);
}

pub fn seeds() -> Vec<Seed> {
    let kept = response();
    let body = kept.encode(&operation(), OWNER).expect("a response");
    let completed = record(&settle(Ending::Completed(kept)));
    let (seal, stored) = completed.split_at(completed.len() - body.len());
    let item = |kind: u8, state: u8, seal: &[u8], stored: &[u8]| {
        // It expires in 2023, a second after now.
        [&[kind, state, 2], unsealed(seal), b"|", stored].concat()
    };
    let shown = |body: Value| [b"\x004", body.to_string().as_bytes()].concat();
    let error = |name: &str| json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "no"});
    let table = json!({"Table": {
        "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "B"}],
        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
        "Replicas": [{"RegionName": "eu-west-1"}],
        "ItemCount": 17,
    }});
    vec![
        ("claimed", item(1, b'i', &record(&claim()), b"")),
        ("completed", item(1, b'c', seal, stored)),
        ("expired", [&[1, b'c', 0], unsealed(seal), b"|", stored].concat()),
        ("granted", b"\x002{}".to_vec()),
        ("granted_by_a_wrong_clock", b"\x202{}".to_vec()),
        ("hidden", [b"\x00", shown(error("ConditionalCheckFailedException")).split_at(1).1, b"\n2{}"].concat()),
        ("local", b"\x005upstream connect error or disconnect/reset before headers".to_vec()),
        ("mark", b"\x01r\x02".to_vec()),
        ("table", [b"\x002", table.to_string().as_bytes()].concat()),
        ("throttled", shown(error("ThrottlingException"))),
        ("unknown", item(0x21, b'u', &record(&settle(Ending::Unknown)), b"")),
    ]
}

fn lines(input: &mut Input<'_>) -> Vec<(u16, Vec<u8>)> {
    let mut replies = Vec::new();
    while !input.is_empty() {
        let status = match input.byte() {
            b'2' => 200,
            b'4' => 400,
            b'5' => 503,
            _ => 500,
        };
        replies.push((status, input.line().to_vec()));
    }
    replies
}

/// A refusal that shows an item, and the reply to a look at it.
fn in_the_way(input: &mut Input<'_>) -> Vec<(u16, Vec<u8>)> {
    let (state, expires, rest) = (input.byte(), u64::from(input.byte()), input.rest());
    let mut item = json!({
        "s": {"S": char::from(state).to_string()},
        "o": {"B": STANDARD.encode(OWNER.to_bytes())},
        "f": {"B": STANDARD.encode(FINGERPRINT.as_bytes())},
        "l": {"N": "1700000030000"},
        "e": {"N": (NOW.as_millis() / 1000 + expires).to_string()},
    });
    if !rest.is_empty() {
        item["b"] = json!({"B": STANDARD.encode(sealed_record(rest))});
    }
    let refused = json!({"__type": "x#ConditionalCheckFailedException", "Item": item});
    vec![(400, refused.to_string().into_bytes()), (200, json!({"Item": item}).to_string().into_bytes())]
}

fn check_call<'a>(call: &Call, heard: impl Fn(usize) -> Heard<'a>) {
    let mut inquiry = STORE.inquire(call, NOW).expect("a call that can be made");
    for round in 0.. {
        assert!(round < 100, "it never ends");
        let now = NOW.after(Duration::from_millis(round * 1000));
        let heard = heard(usize::try_from(round).expect("a number"));
        assert_is_understood(inquiry.ask(now).0);
        let Progress::Answered(answer) = inquiry.hear(heard, now) else { continue };
        let (status, body) = match heard {
            Heard::Reply { status, body, .. } => (status, body),
            _ => (0, [].as_slice()),
        };
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_receipt =
            status == 200 && said.as_object().is_some_and(|said| said.keys().all(|key| key == "ConsumedCapacity"));
        let shown = |name: &str, kind: &str| said["Item"][name][kind].as_str().unwrap_or_default().to_owned();
        match answer {
            Answer::Claimed(Claimed::Granted) | Answer::Renewed(Renewed::Extended) => assert!(is_receipt),
            Answer::Claimed(Claimed::Completed { response, .. }) => {
                let kept = response.encode(&operation(), OWNER).expect("a response");
                assert!(STANDARD.decode(shown("b", "B")).is_ok_and(|shown| shown.ends_with(&kept)), "it was not kept");
            }
            Answer::Settled(Settlement { settled: Settled::Completed, .. }) => {
                assert!(is_receipt || shown("s", "S") == "c");
            }
            Answer::Settled(Settlement { settled: Settled::Released, .. }) => {
                assert!(is_receipt || shown("s", "S") == "r");
            }
            Answer::Renewed(Renewed::Fenced) | Answer::Settled(Settlement { settled: Settled::Fenced, .. }) => {
                assert!(status == 400 || !said.is_null());
            }
            _ => {}
        }
        break;
    }
}

/// One call, about this operation, in whose expressions each value is used and no other.
fn assert_is_understood(question: &[u8]) {
    let (_, body) = STORE.call(question);
    let body: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(body["TableName"], "idemgate");
    let key = body.get("Item").unwrap_or(&body["Key"]);
    assert_eq!(key["k"]["B"], STANDARD.encode(operation().as_bytes()));
    let expressions = ["ConditionExpression", "UpdateExpression"].map(|name| body[name].as_str().unwrap_or_default());
    let words = expressions.iter().flat_map(|text| text.split(|sign: char| !(sign == ':' || sign.is_alphanumeric())));
    let used: BTreeSet<&str> = words.filter(|word| word.starts_with(':')).collect();
    let given = body["ExpressionAttributeValues"].as_object().into_iter().flatten();
    assert_eq!(used, given.map(|(name, _)| name.as_str()).collect());
}

fn check_operators<'a>(heard: impl Fn(usize) -> Heard<'a>) {
    for finding in STORE.findings(heard(0)) {
        assert!(!finding.to_string().contains('\n'), "{finding}");
    }
    let _ = STORE.holdings(heard(0));
    for amendment in [None, Some(Amendment { verb: Verb::NotKept { status: 201 }, force: true })] {
        let mut review = STORE.review(operation(), amendment);
        let ends = (0..10).any(|round| {
            assert_is_understood(review.ask(NOW).0);
            review.hear(heard(round), NOW).is_some()
        });
        assert!(ends, "it never ends");
    }
}

static STORE: LazyLock<DynamoDbStore> =
    LazyLock::new(|| DynamoDbStore::new(DynamoDbConfig::new("aws".to_owned(), "idemgate".to_owned())));

/// What a call stores for nobody but this filter.
fn record(call: &Call) -> Vec<u8> {
    let mut inquiry = STORE.inquire(call, NOW).expect("a call that can be made");
    let (_, body) = STORE.call(inquiry.ask(NOW).0);
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let stored = body.get("Item").map_or(&body["ExpressionAttributeValues"][":b"], |item| &item["b"]);
    STANDARD.decode(stored["B"].as_str().expect("bytes")).expect("base64")
}
