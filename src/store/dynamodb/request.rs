//! What is sent to DynamoDB, and what is kept beside it until it is answered.
//!
//! ```text
//! bytes  0        1..14                       14      15..
//!        action   ms when it was written      round   the JSON, and behind a line break what it is asked for
//! ```

use super::item::Item;
use crate::{store::base64, time::Timestamp};

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
        base64::decode(value(self.body, r#"":me":{"B":""#)?)?.try_into().ok()
    }

    /// Whether an item says already what this says of the end of an execution.
    pub(super) fn settles(&self, item: &Item) -> bool {
        let state = value(self.body, r#"":s":{"S":""#);
        self.owner() == Some(item.owner) && state.is_some_and(|state| state.as_bytes() == [item.state])
    }

    /// The same once more.
    pub(super) fn again(self) -> Vec<u8> {
        Self { round: self.round + 1, ..self }.to_bytes()
    }

    /// The same by a clock that says `clock` now, on the condition that `item` is still what is in its way.
    pub(super) fn in_place_of(self, item: &Item, clock: Timestamp) -> Option<Vec<u8>> {
        const CONDITION: &str = r#""ConditionExpression":""#;
        const VALUES: &str = r#""ExpressionAttributeValues":{"#;
        const PLACE: &str = "(o = :xo AND s = :xs AND l = :xl AND e = :xe) OR ";
        let body = self.timed(clock)?;
        let (before, rest) = body.split_once(CONDITION)?;
        let (condition, rest) = rest.split_once(VALUES)?;
        let condition = condition.strip_prefix(PLACE).unwrap_or(condition);
        // Those of another item that was in its way before.
        let values = match rest.split_once(LAST_OF_PLACE) {
            Some((_, rest)) => rest.split_once("},")?.1,
            None => rest,
        };
        let (owner, state) = (base64::encode(&item.owner), char::from(item.state));
        let Item { lease_until, expires, .. } = item;
        let body = format!(
            r#"{before}{CONDITION}{PLACE}{condition}{VALUES}":xo":{{"B":"{owner}"}},":xs":{{"S":"{state}"}},":xl":{{"N":"{lease_until}"}},{LAST_OF_PLACE}"{expires}"}},{values}"#
        );
        Some(Request { written: clock, body: &body, ..self }.again())
    }

    /// The same with all times as they are by a clock that says `clock` now.
    pub(super) fn written_at(self, clock: Timestamp) -> Option<Vec<u8>> {
        let body = self.timed(clock)?;
        Some(Request { written: clock, body: &body, ..self }.again())
    }

    /// The body, with all times as they are by a clock that says `clock` now.
    fn timed(&self, clock: Timestamp) -> Option<String> {
        const MOST: &str = r#"":m""#;
        let mut body = self.body.to_owned();
        let names = [(r#""l""#, 1), (r#"":l""#, 1), (r#"":n""#, 1), (MOST, 1), (r#""e""#, 1000), (r#"":e""#, 1000)];
        for (name, unit) in names {
            let start = format!(r#"{name}:{{"N":""#);
            let Some(number) = value(&body, &start) else { continue };
            let since = number.parse::<u64>().ok()?.checked_sub(self.written.as_millis() / unit)?;
            let corrected = (clock.as_millis() / unit).checked_add(since)?;
            // What it has written itself by a clock that was ahead is not in its way.
            let corrected = if name == MOST { corrected.max(number.parse().ok()?) } else { corrected };
            body = body.replacen(&format!("{start}{number}"), &format!("{start}{corrected}"), 1);
        }
        Some(body)
    }
}

/// What stands behind `start`, up to the next quotation mark. No value that is looked for has one in it.
fn value<'a>(body: &'a str, start: &str) -> Option<&'a str> {
    Some(body.split_once(start)?.1.split_once('"')?.0)
}

/// The beginning of the last value that says what is in the way of a write.
const LAST_OF_PLACE: &str = r#"":xe":{"N":"#;

/// Of milliseconds until the year 2286.
const DIGITS: usize = 13;

/// How often a write may be written anew: a clock that was wrong, and items that change while they are judged.
const ROUNDS: u8 = 5;
