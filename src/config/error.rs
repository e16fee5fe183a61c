//! Why a configuration is refused: one line with the place, what was found there and what is allowed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::suggestion::suggestion;

/// Why a configuration is refused.
///
/// `Display` is the one line that the operator reads: `PATH: found FOUND; allowed: ALLOWED`. It has no control
/// character and no secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: found {found}; allowed: {allowed}")]
pub struct ConfigError {
    path: JsonPath,
    found: String,
    allowed: String,
}

impl ConfigError {
    /// The error for what is at `path`, which is `found` where something else is `allowed`.
    pub(super) fn new(path: impl Into<JsonPath>, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { path: path.into(), found: found.into(), allowed: allowed.into() }
    }

    /// The same error, seen from the object or list in which its path begins at `outer`.
    pub(super) fn within(mut self, outer: impl Into<JsonPath>) -> Self {
        self.path = outer.into().join(&self.path);
        self
    }
}

/// The errors of serde's derives; their paths end with the value that was read.
impl de::Error for ConfigError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(JsonPath::default(), problem.to_string(), "what the documentation says")
    }

    fn invalid_type(found: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::invalid_value(found, allowed)
    }

    fn invalid_value(found: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::new(JsonPath::default(), described(found), allowed.to_string())
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let meant = suggestion(key, known).map(|key| format!(" (did you mean {key}?)"));
        let found = format!("an unknown key{}", meant.unwrap_or_default());
        Self::new(JsonPath::default().key(key), found, known.join(", "))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(key, "nothing", "this key must be given")
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::new(key, "the key twice", "each key once")
    }
}

/// What an error says that it found.
fn described(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Map => "an object".to_owned(),
        Unexpected::Other(words) => words.to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Str(text) => quoted(text),
        Unexpected::Unit => "null".to_owned(),
        Unexpected::Unsigned(value) => value.to_string(),
        other => other.to_string(),
    }
}

/// Where in the configuration: `$` is the whole of it, `outcome.store[1]` the second entry of a list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct JsonPath(String);

impl JsonPath {
    /// The value of `key` in the object at this path.
    pub(super) fn key(self, key: &str) -> Self {
        let step = if is_plain(key) { key.to_owned() } else { format!("[{}]", quoted(key)) };
        self.join(&Self(step))
    }

    /// The entry `index` of the list at this path.
    pub(super) fn entry(mut self, index: usize) -> Self {
        self.0 += &format!("[{index}]");
        self
    }

    fn join(mut self, inner: &Self) -> Self {
        if !self.0.is_empty() && !inner.0.is_empty() && !inner.0.starts_with('[') {
            self.0.push('.');
        }
        self.0 += &inner.0;
        self
    }
}

/// Keys joined with dots, as the documentation writes them.
impl From<String> for JsonPath {
    fn from(keys: String) -> Self {
        Self(keys)
    }
}

impl From<&str> for JsonPath {
    fn from(keys: &str) -> Self {
        Self(keys.to_owned())
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "$" } else { &self.0 })
    }
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
