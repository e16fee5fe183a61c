//! JSON text as a tree, and what an error says of a value in it.
//!
//! serde_json makes the tree and nothing else: its errors know the line but not the path, and documents that are read
//! by serde's derives take five times the room in the module that [`super::read`] takes.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::{ConfigError, quoted};

/// One JSON value. Objects keep order and repeated keys, so that a repetition can be refused where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Bool(bool),
    Fraction(f64),
    List(Vec<Node>),
    Negative(i64),
    Null,
    Object(Vec<(String, Node)>),
    Text(String),
    Unsigned(u64),
}

impl Node {
    /// Reads JSON text; only white space, as no configuration at all, is an empty object.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        if text.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace()) {
            return Err(ConfigError::NotJsonText { found: "binary data, such as a google.protobuf.Struct" });
        }
        let Ok(text) = str::from_utf8(text) else {
            return Err(ConfigError::NotJsonText {
                found: "bytes that are not UTF-8, such as a google.protobuf.Struct",
            });
        };
        match text.trim_ascii_start().as_bytes().first() {
            None => Ok(Self::Object(Vec::new())),
            // As bytes, which is the one form of serde_json's parser that the module has.
            Some(b'{') => serde_json::from_slice(text.as_bytes())
                .map_err(|error| ConfigError::Syntax { problem: error.to_string() }),
            Some(_) => Err(ConfigError::NotJsonText { found: "text that does not start with {" }),
        }
    }

    /// The keys of an object, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match self {
            Self::Object(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an integer that is not negative.
    pub(crate) fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    /// The error for this value where something else is `allowed`.
    #[cold]
    #[inline(never)]
    pub(super) fn refused(&self, allowed: &str) -> ConfigError {
        ConfigError::invalid_value(self.described(), allowed)
    }

    /// What an error says that it found.
    fn described(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            // Not the number itself: writing a double takes 14 KiB of module.
            Self::Fraction(value) if value.fract() == 0.0 => "a number beyond 2^53".to_owned(),
            Self::Fraction(_) => "a fraction".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Negative(value) => value.to_string(),
            Self::Null => "null".to_owned(),
            Self::Object(_) => "an object".to_owned(),
            Self::Text(text) => quoted(text),
            Self::Unsigned(value) => value.to_string(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Negative(value), Node::Unsigned))
    }

    /// Numbers that pass through a protobuf Struct on their way (Istio, Kubernetes) come as doubles: `5.0` is 5.
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        let exact = value.fract() == 0.0 && value.abs() <= LARGEST_EXACT;
        if exact { self.visit_i64(value as i64) } else { Ok(Node::Fraction(value)) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Node::Object(object))
    }
}

/// 2^53: up to here every integer is its own double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
