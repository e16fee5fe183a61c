//! What is sent to DynamoDB, and what is kept beside it until it is answered.
//!
//! ```text
//! bytes  0        1..14                       14      15..
//!        action   ms when it was written      round   the JSON, and behind a line break what it is asked for
//! ```

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::item::Item;
use crate::time::Timestamp;

/// One call of DynamoDB's API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Request<'a> {
    pub(super) action: Action,
    /// By which time the times in it were reckoned.
    pub(super) written: Timestamp,
    /// How often it was written anew.
    round: u8,
    /// JSON on one line.
    pub(super) body: &'a str,
    /// The write that was refused, for which this asks what is in its way.
    pub(super) refused: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Describe,
    Get,
    Put,
    Update,
}

impl Action {
    const fn byte(self) -> u8 {
        match self {
            Self::Describe => b'D',
            Self::Get => b'G',
            Self::Put => b'P',
            Self::Update => b'U',
        }
    }

    /// The fields of the call. The authority is what is signed; the signing filter puts the service's own in its place.
    pub(super) const fn fields(self) -> &'static [(&'static str, &'static str)] {
        macro_rules! fields {
            ($target:literal) => {
                &[
                    (":method", "POST"),
                    (":path", "/"),
                    (":authority", "dynamodb"),
                    ("content-type", "application/x-amz-json-1.0"),
                    ("x-amz-target", concat!("DynamoDB_20120810.", $target)),
                ]
            };
        }
        match self {
            Self::Describe => fields!("DescribeTable"),
            Self::Get => fields!("GetItem"),
            Self::Put => fields!("PutItem"),
            Self::Update => fields!("UpdateItem"),
        }
    }
}

impl<'a> Request<'a> {
    pub(super) const fn new(action: Action, written: Timestamp, body: &'a str) -> Self {
        Self { action, written, round: 0, body, refused: None }
    }

    /// The same, to find out what is in the way of this write.
    pub(super) const fn instead_of(self, refused: &'a [u8]) -> Self {
        Self { refused: Some(refused), ..self }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Self { action, written, round, body, refused } = self;
        let written = format!("{:0DIGITS$}", written.as_millis());
        let refused: [&[u8]; 2] = refused.map_or([b"", b""], |refused| [b"\n", refused]);
        [&[action.byte()], written.as_bytes(), &[b'0' + round], body.as_bytes(), refused.concat().as_slice()].concat()
    }

    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&action, rest) = bytes.split_first()?;
        let (written, rest) = rest.split_first_chunk::<DIGITS>()?;
        let (&round, rest) = rest.split_first()?;
        let (body, refused) = match memchr::memchr(b'\n', rest) {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)),
            None => (rest, None),
        };
        Some(Self {
            action: [Action::Describe, Action::Get, Action::Put, Action::Update]
                .into_iter()
                .find(|known| known.byte() == action)?,
            written: Timestamp::from_millis(std::str::from_utf8(written).ok()?.parse().ok()?),
            round: round.checked_sub(b'0')?,
            body: std::str::from_utf8(body).ok()?,
            refused,
        })
    }

    /// Whether it may be written anew once more.
    pub(super) const fn has_rounds(&self) -> bool {
        self.round < ROUNDS
    }

    /// In whose name it is sent.
    pub(super) fn owner(&self) -> Option<[u8; 16]> {
        decoded(&self.value(":me", "B")?)?.try_into().ok()
    }

    /// Whether an item says already what this says of the end of an execution.
    pub(super) fn settles(&self, item: &Item) -> bool {
        self.owner() == Some(item.owner) && self.value(":s", "S").is_some_and(|state| state.as_bytes() == [item.state])
    }

    fn value(&self, name: &str, kind: &str) -> Option<String> {
        let body: Value = serde_json::from_str(self.body).ok()?;
        Some(body.get("ExpressionAttributeValues")?.get(name)?.get(kind)?.as_str()?.to_owned())
    }

    /// The same once more.
    pub(super) fn again(self) -> Vec<u8> {
        Self { round: self.round + 1, ..self }.to_bytes()
    }

    /// The same on the condition that `item` is still what is in its way.
    pub(super) fn in_place_of(self, item: &Item) -> Option<Vec<u8>> {
        const PLACE: &str = " OR (o = :xo AND s = :xs AND l = :xl AND e = :xe)";
        let mut body: Value = serde_json::from_str(self.body).ok()?;
        let condition = body.get_mut("ConditionExpression")?;
        let plain = condition.as_str()?;
        *condition = format!("{}{PLACE}", plain.strip_suffix(PLACE).unwrap_or(plain)).into();
        let values = body.get_mut("ExpressionAttributeValues")?.as_object_mut()?;
        values.insert(":xo".to_owned(), json!({"B": encoded(&item.owner)}));
        values.insert(":xs".to_owned(), json!({"S": char::from(item.state).to_string()}));
        values.insert(":xl".to_owned(), json!({"N": item.lease_until.to_string()}));
        values.insert(":xe".to_owned(), json!({"N": item.expires.to_string()}));
        Some(Request { body: &body.to_string(), ..self }.again())
    }

    /// The same with all times as they are by a clock that says `clock` now.
    pub(super) fn written_at(self, clock: Timestamp) -> Option<Vec<u8>> {
        let behind = |number: &str, unit: u64| -> Option<String> {
            let since = number.parse::<u64>().ok()?.checked_sub(self.written.as_millis() / unit)?;
            Some((clock.as_millis() / unit).checked_add(since)?.to_string())
        };
        let mut body: Value = serde_json::from_str(self.body).ok()?;
        let places = [("Item", "l", 1), ("Item", "e", 1000)];
        let values = [(":l", 1), (":n", 1), (":e", 1000)].map(|(name, unit)| ("ExpressionAttributeValues", name, unit));
        for (part, name, unit) in places.into_iter().chain(values) {
            if let Some(Value::String(number)) =
                body.get_mut(part).and_then(|part| part.get_mut(name)).and_then(|value| value.get_mut("N"))
            {
                *number = behind(number, unit)?;
            }
        }
        Some(Request { written: clock, body: &body.to_string(), ..self }.again())
    }
}

/// Bytes as JSON has them.
pub(super) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Of milliseconds until the year 2286.
const DIGITS: usize = 13;

/// How often a write may be written anew: a clock that was wrong, and items that change while they are judged.
const ROUNDS: u8 = 5;
