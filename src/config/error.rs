//! Why a configuration is refused: one line with the place, what was found there and what is allowed.

use std::borrow::Cow;
use std::fmt;

use super::suggestion::Suggestion;

/// Why a configuration is refused.
///
/// `Display` is the one line that the operator reads: `PATH: found FOUND; allowed: ALLOWED`. It bears no control
/// character and no secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A good value that contradicts another setting, or that another setting would make the filter ignore.
    #[error("{path}: found {found}; allowed: {allowed}")]
    Conflict {
        /// The setting to change.
        path: JsonPath,
        /// The value and what it contradicts.
        found: String,
        /// How both can stand.
        allowed: String,
    },
    /// An object names a key twice, so that one of the values would be lost.
    #[error("{path}: found the key twice; allowed: each key once")]
    DuplicateKey {
        /// The key.
        path: JsonPath,
    },
    /// A value of the wrong type, out of range or malformed.
    #[error("{path}: found {found}; allowed: {allowed}")]
    InvalidValue {
        /// The setting.
        path: JsonPath,
        /// The value, shortened.
        found: String,
        /// The type, range or form of the setting.
        allowed: String,
    },
    /// An object lacks a key without which it means nothing.
    #[error("{path}: found nothing; allowed: this key must be given")]
    MissingKey {
        /// The key.
        path: JsonPath,
    },
    /// Something else than JSON text, such as the binary form in which a `google.protobuf.Struct` arrives.
    #[error("$: found {found}; allowed: a JSON object as text in a google.protobuf.StringValue")]
    NotJsonText {
        /// What the bytes look like.
        found: &'static str,
    },
    /// Text that is not well-formed JSON (RFC 8259).
    #[error("$: found malformed JSON ({problem}); allowed: one JSON object (RFC 8259)")]
    Syntax {
        /// The parser's complaint, with line and column.
        problem: String,
    },
    /// A key that the object does not have.
    #[error("{path}: found an unknown key{}; allowed: {}", Suggestion::for_key(path.last_key(), allowed), allowed.join(", "))]
    UnknownKey {
        /// The key.
        path: JsonPath,
        /// The keys that the object has.
        allowed: &'static [&'static str],
    },
}

impl ConfigError {
    /// The error for a good value that contradicts another setting.
    #[cold]
    #[inline(never)]
    pub(super) fn conflict(path: &str, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::Conflict { path: JsonPath::from(path), found: found.into(), allowed: allowed.into() }
    }

    /// The error for a value that is not what is `allowed`; its path gets its segments on the way out.
    pub(super) fn invalid_value(found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self::InvalidValue { path: JsonPath::default(), found: found.into(), allowed: allowed.into() }
    }

    /// The same error, seen from the object in which it is under `key`.
    #[cold]
    #[inline(never)]
    pub(super) fn within_key(self, key: &str) -> Self {
        self.within(Segment::Key(key.to_owned()))
    }

    /// The same error, seen from the object or list whose `segment` it is in.
    #[cold]
    #[inline(never)]
    pub(super) fn within(mut self, segment: Segment) -> Self {
        match &mut self {
            Self::Conflict { path, .. }
            | Self::DuplicateKey { path }
            | Self::InvalidValue { path, .. }
            | Self::MissingKey { path }
            | Self::UnknownKey { path, .. } => path.segments.insert(0, segment),
            Self::NotJsonText { .. } | Self::Syntax { .. } => {}
        }
        self
    }
}

/// Where in the configuration: `$` is the whole of it, `outcome.store[1]` the second entry of a list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JsonPath {
    segments: Vec<Segment>,
}

impl JsonPath {
    /// The value of `key` in the object at this path.
    pub(super) fn key(mut self, key: &str) -> Self {
        self.segments.push(Segment::Key(key.to_owned()));
        self
    }

    /// The entry `index` of the list at this path.
    pub(super) fn entry(mut self, index: usize) -> Self {
        self.segments.push(Segment::Index(index));
        self
    }

    fn last_key(&self) -> &str {
        match self.segments.last() {
            Some(Segment::Key(key)) => key,
            Some(Segment::Index(_)) | None => "",
        }
    }
}

/// Keys joined with dots, as the documentation writes them.
impl From<&str> for JsonPath {
    fn from(keys: &str) -> Self {
        Self { segments: keys.split('.').map(|key| Segment::Key(key.to_owned())).collect() }
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("$");
        }
        for (position, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if !is_plain(key) => write!(f, "[{}]", quoted(key))?,
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// One step of a [`JsonPath`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Segment {
    Index(usize),
    Key(String),
}

/// `text` in double quotes on one line, shortened: a log line is no place for a megabyte.
pub(super) fn quoted(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or_default()),
        None => format!("\"{text}\""),
    }
}

fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) { Cow::Owned(text.escape_default().to_string()) } else { Cow::Borrowed(text) }
}

/// Whether a key can stand in a path without quotes.
fn is_plain(key: &str) -> bool {
    (1..=LONGEST_QUOTE).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

const LONGEST_QUOTE: usize = 64;
