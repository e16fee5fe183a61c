//! The key in a body: a line of JSON Pointers, and a text in which they look for it, against a naive reading of both.

use std::fmt;

use idemgate::{
    config::{KeyFormat, KeyPolicy},
    request::{InvalidKey, Key},
};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    Seed,
    input::Input,
    key::{find, quoted},
    texts,
};

/// The first pointer that leads to anything has the key, which is the same in a header, or a reason why there is none.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let line = String::from_utf8_lossy(input.line()).into_owned();
    let tokens = |pointer: &str| pointer.split('/').skip(1).map(str::to_owned).collect();
    let policy = KeyPolicy { pointers: line.split(' ').map(tokens).collect(), ..KeyPolicy::default() };
    let body = input.rest();
    let found = Key::find_in_body(body, &policy);
    // The naive reading gives up on deep texts.
    if body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100 {
        return;
    }
    if std::str::from_utf8(body).is_err() || serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return assert_eq!(found, Ok(None), "no JSON");
    }
    // Only half of a surrogate pair is wrong now, which may be beside the way.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let first = policy.pointers.iter().map(|pointer| value.at(pointer)).find(|at| !matches!(at, Ok(None)));
    match first {
        None | Some(Ok(None)) => assert_eq!(found, Ok(None)),
        Some(Err(RepeatedName)) => assert_eq!(found, Err(InvalidKey::RepeatedName)),
        Some(Ok(Some(Value::Text(text)))) => {
            let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            let expected = is_printable.then(|| find(&quoted(text), KeyFormat::Any).ok()).flatten();
            assert_eq!(found.map(|key| key.expect("there is one")).ok(), expected, "{text:?}");
        }
        Some(Ok(Some(Value::Whole(number)))) => {
            assert_eq!(
                found.map(|key| key.expect("there is one")),
                find(number.to_string().as_bytes(), KeyFormat::Any)
            );
        }
        // It counts as it is written: with an exponent it is no key. Here it was read fast, and not to the last digit.
        Some(Ok(Some(Value::Number(number)))) => match found {
            Ok(key) if number.abs() < 1e9 => {
                assert!((number - number.round()).abs() < 1e-6, "{number} is no whole number");
                let digits = (number.round() as i64).to_string();
                assert_eq!(key.expect("there is one"), find(digits.as_bytes(), KeyFormat::Any).expect("a key"));
            }
            Ok(key) => assert!(key.is_some()),
            Err(reason) => assert!(matches!(reason, InvalidKey::NoScalar | InvalidKey::TooLong { .. })),
        },
        Some(Ok(Some(_))) => assert_eq!(found, Err(InvalidKey::NoScalar)),
    }
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("deep", "/params/_meta/key\n{\"params\":{\"_meta\":{\"key\":\"8e03978e-40d5-43e8-bc93-6894a57f9324\"}}}"),
        ("element", "/items/1/id\n{\"items\":[{\"id\":1},{\"id\":2}]}"),
        ("escaped", "/a\"b /c\n{\"\\u0061\\\"b\":\"k\\u0031, \\\"2\\\"\"}"),
        ("numbers", "/0 /1 /2\n[-0.0,17.50,1e3,9007199254740993]"),
        ("repeated", "/id\n{\"id\":\"a\",\"\\u0069d\":\"b\"}"),
        ("second", "/id /key\n{\"key\":\"order 17\",\"other\":1,\"other\":2}"),
        ("whole", "\n\"key\""),
    ])
}

/// An object on the way has a name twice.
struct RepeatedName;

/// What a text means, with each member that is there.
enum Value {
    Text(String),
    Whole(i64),
    Number(f64),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
    Other,
}

impl Value {
    fn at(&self, pointer: &[String]) -> Result<Option<&Self>, RepeatedName> {
        let Some((token, rest)) = pointer.split_first() else { return Ok(Some(self)) };
        let below = match self {
            Self::Object(members) => {
                let mut named = members.iter().filter(|(name, _)| name == token);
                match (named.next(), named.next()) {
                    (_, Some(_)) => return Err(RepeatedName),
                    (found, None) => found.map(|(_, value)| value),
                }
            }
            Self::Array(elements) => elements
                .iter()
                .enumerate()
                .find_map(|(index, element)| (index.to_string() == *token).then_some(element)),
            _ => None,
        };
        below.map_or(Ok(None), |value| value.at(rest))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Whole(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(i64::try_from(number).map_or(Value::Number(number as f64), Value::Whole))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    elements.push(element);
                }
                Ok(Value::Array(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Value::Object(members))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}
