//! JSON text as a tree, from which serde reads the document.
//!
//! The errors of serde_json are text, with a line instead of a path. Those of the tree are [`ConfigError`]s: a path, what
//! was found there and what is allowed. The tree keeps the path itself:
//! `serde_path_to_error` would save 16 lines here, and wrap every visitor once more.

use std::{fmt, iter, slice};

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::{ConfigError, JsonPath};

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
        let not_text = |found| {
            ConfigError::new(JsonPath::default(), found, "a JSON object as text in a google.protobuf.StringValue")
        };
        if text.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace()) {
            return Err(not_text("binary data, such as a google.protobuf.Struct"));
        }
        let Ok(text) = str::from_utf8(text) else {
            return Err(not_text("bytes that are not UTF-8, such as a google.protobuf.Struct"));
        };
        match text.trim_ascii_start().as_bytes().first() {
            None => Ok(Self::Object(Vec::new())),
            Some(b'{') => serde_json::from_str(text).map_err(|error| {
                let found = format!("malformed JSON ({error})");
                ConfigError::new(JsonPath::default(), found, "one JSON object (RFC 8259)")
            }),
            Some(_) => Err(not_text("text that does not start with {")),
        }
    }

    /// Makes of the value what serde makes of it.
    pub(super) fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, ConfigError> {
        T::deserialize(self)
    }

    /// The keys of an object, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match self {
            Self::Object(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    }

    /// A member of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(entries) = self else { return None };
        entries.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The members of an object, in order; `allowed` says which objects.
    pub(super) fn members(&self, allowed: &str) -> Result<&[(String, Self)], ConfigError> {
        match self {
            Self::Object(members) => Ok(members),
            _ => Err(ConfigError::invalid_type(self.unexpected(), &allowed)),
        }
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

    /// What an error says that it found.
    pub(super) fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Fraction(value) => Unexpected::Float(*value),
            Self::List(_) => Unexpected::Seq,
            Self::Negative(value) => Unexpected::Signed(*value),
            Self::Null => Unexpected::Unit,
            Self::Object(_) => Unexpected::Map,
            Self::Text(text) => Unexpected::Str(text),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
        }
    }
}

/// Reads a value with `read`; `allowed` says which values it takes.
pub(super) fn read_value<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &str,
    read: impl FnOnce(&Node) -> Option<T>,
) -> Result<T, D::Error> {
    let node = Node::deserialize(deserializer)?;
    read(&node).ok_or_else(|| D::Error::invalid_value(node.unexpected(), &allowed))
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Fraction(value) => visitor.visit_f64(*value),
            Node::List(entries) => visitor.visit_seq(Entries(entries.iter().enumerate())),
            Node::Negative(value) => visitor.visit_i64(*value),
            Node::Null => visitor.visit_unit(),
            Node::Object(members) => visitor.visit_map(Members { rest: members.iter(), member: None }),
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::Unsigned(value) => visitor.visit_u64(*value),
        }
    }

    /// A key that is there has a value: `null` is refused by the value's type and not read as an absent key.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    /// Serde would also read a struct from a list of its values.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self {
            Node::Object(members) => visitor.visit_map(Members { rest: members.iter(), member: None }),
            _ => Err(ConfigError::invalid_type(self.unexpected(), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The entries of a list; an error is told with the place of its entry.
struct Entries<'de>(iter::Enumerate<slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Entries<'de> {
    type Error = ConfigError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ConfigError> {
        let Some((index, entry)) = self.0.next() else { return Ok(None) };
        seed.deserialize(entry).map(Some).map_err(|error| error.within(JsonPath::default().entry(index)))
    }
}

/// The members of an object; an error is told with the key of its member.
struct Members<'de> {
    rest: slice::Iter<'de, (String, Node)>,
    member: Option<&'de (String, Node)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ConfigError> {
        self.member = self.rest.next();
        let Some((key, _)) = self.member else { return Ok(None) };
        let key = IntoDeserializer::<ConfigError>::into_deserializer(key.as_str());
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ConfigError> {
        let Some((key, value)) = self.member else { return Err(ConfigError::custom("a value before its key")) };
        seed.deserialize(value).map_err(|error| error.within(JsonPath::default().key(key)))
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
