//! From the JSON tree to the types of the document, with errors that name the path.

use super::error::{ConfigError, JsonPath, Segment};
use super::json::Node;

/// What can be read from one JSON value.
///
/// Reading is written for a small module rather than for speed: it runs once per configuration.
pub(super) trait Read: Sized {
    /// Reads `node`; the path of an error starts there.
    fn read(node: &Node) -> Result<Self, ConfigError>;

    /// What it is in an object that lacks its `key`.
    fn absent(key: &'static str) -> Result<Self, ConfigError> {
        Err(ConfigError::MissingKey { path: JsonPath::from(key) })
    }
}

/// A key that is there has a value: `null` is refused by the value's type and not read as an absent key.
impl<T: Read> Read for Option<T> {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        T::read(node).map(Some)
    }

    fn absent(_: &'static str) -> Result<Self, ConfigError> {
        Ok(None)
    }
}

impl Read for bool {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        match node {
            Node::Bool(value) => Ok(*value),
            _ => Err(node.refused("a boolean")),
        }
    }
}

/// Reads every entry of a list.
pub(super) fn entries<T: Read>(node: &Node, allowed: &str) -> Result<Vec<T>, ConfigError> {
    let Node::List(entries) = node else {
        return Err(node.refused(allowed));
    };
    let read = |(index, entry)| T::read(entry).map_err(|error| error.within(Segment::Index(index)));
    entries.iter().enumerate().map(read).collect()
}

/// An object that has known keys only, and each of them once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a>(&'a [(String, Node)]);

impl<'a> Object<'a> {
    /// Takes `node` for an object with some of the `keys`; `allowed` says what it should have been.
    pub(super) fn read(node: &'a Node, allowed: &str, keys: &'static [&'static str]) -> Result<Self, ConfigError> {
        let Node::Object(entries) = node else {
            return Err(node.refused(allowed));
        };
        for (position, (key, _)) in entries.iter().enumerate() {
            let path = JsonPath::default();
            if !keys.contains(&key.as_str()) {
                return Err(ConfigError::UnknownKey { path, allowed: keys }.within_key(key));
            }
            if entries.iter().take(position).any(|(before, _)| before == key) {
                return Err(ConfigError::DuplicateKey { path }.within_key(key));
            }
        }
        Ok(Self(entries))
    }

    /// Reads the value of `key`.
    pub(super) fn get<T: Read>(self, key: &'static str) -> Result<T, ConfigError> {
        match self.value(key) {
            Some(node) => T::read(node).map_err(|error| error.within_key(key)),
            None => T::absent(key),
        }
    }

    // Not inlined: each key of each document would have a copy of its own in the module.
    #[inline(never)]
    fn value(self, key: &str) -> Option<&'a Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

/// Implements [`Read`] for a struct, as an object whose keys are the names of the fields.
macro_rules! read_as_object {
    ($document:ident, $allowed:literal: $($field:ident),+) => {
        impl Read for $document {
            fn read(node: &Node) -> Result<Self, ConfigError> {
                let object = Object::read(node, $allowed, &[$(stringify!($field)),+])?;
                Ok(Self { $($field: object.get(stringify!($field))?),+ })
            }
        }
    };
}

pub(super) use read_as_object;
