//! JSON text as a tree, and the tree as a source for serde whose errors name the path.
//!
//! serde_json's own errors know the line but not the path, accept a list where an object with fixed keys is meant, and
//! report a wrong type as a syntax error in places. Going through a tree gives one kind of error for everything, and
//! the types of the document are compiled into the module once, for one source.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::{ConfigError, Segment};

/// One JSON value. Objects keep order and repeated keys, so that a repetition can be refused where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
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
    pub(super) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
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
            Some(b'{') => {
                serde_json::from_str(text).map_err(|error| ConfigError::Syntax { problem: error.to_string() })
            }
            Some(_) => Err(ConfigError::NotJsonText { found: "text that does not start with {" }),
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an integer that is not negative.
    pub(super) fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    fn unexpected(&self) -> Unexpected<'_> {
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

/// Reads one value as `read` understands it; `allowed` is what the error says otherwise.
pub(super) fn leaf<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &dyn Expected,
    read: impl FnOnce(&Node) -> Option<T>,
) -> Result<T, D::Error> {
    let node = Node::deserialize(deserializer)?;
    read(&node).ok_or_else(|| de::Error::invalid_value(node.unexpected(), allowed))
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
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        let exact = value.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(&value);
        Ok(if exact { Node::Unsigned(value as u64) } else { Node::Fraction(value) })
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

impl<'de> Deserializer<'de> for Node {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match self {
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Fraction(value) => visitor.visit_f64(value),
            Self::List(entries) => visitor.visit_seq(ListEntries { entries: entries.into_iter(), index: 0 }),
            Self::Negative(value) => visitor.visit_i64(value),
            Self::Null => visitor.visit_unit(),
            Self::Object(entries) => visitor.visit_map(ObjectEntries::new(entries)),
            Self::Text(text) => visitor.visit_string(text),
            Self::Unsigned(value) => visitor.visit_u64(value),
        }
    }

    /// A key that is there has a value: `null` is refused by the value's type and not read as an absent key.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    /// serde's structs would also read a list, by position.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self {
            Self::Object(_) => self.deserialize_any(visitor),
            other => Err(de::Error::invalid_type(other.unexpected(), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct ListEntries {
    entries: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for ListEntries {
    type Error = ConfigError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ConfigError> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(entry).map(Some).map_err(|error| error.within(Segment::Index(index)))
    }
}

struct ObjectEntries {
    entries: std::vec::IntoIter<(String, Node)>,
    seen: BTreeSet<String>,
    /// The entry whose key has been given out.
    current: (String, Node),
}

impl ObjectEntries {
    fn new(entries: Vec<(String, Node)>) -> Self {
        Self { entries: entries.into_iter(), seen: BTreeSet::new(), current: (String::new(), Node::Null) }
    }

    fn at_current(&self, error: ConfigError) -> ConfigError {
        error.within(Segment::Key(self.current.0.clone()))
    }
}

impl<'de> MapAccess<'de> for ObjectEntries {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ConfigError> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        self.current = entry;
        if !self.seen.insert(self.current.0.clone()) {
            return Err(self.at_current(ConfigError::DuplicateKey { path: <_>::default() }));
        }
        let key: StrDeserializer<'_, ConfigError> = self.current.0.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| self.at_current(error))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ConfigError> {
        let value = std::mem::replace(&mut self.current.1, Node::Null);
        seed.deserialize(value).map_err(|error| self.at_current(error))
    }
}

/// 2^53: up to here every integer is its own double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
