//! Entries of the outcome lists.

use std::fmt;

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A status code or a class of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) enum StatusEntry {
    /// `Class(0)` is `1xx`, `Class(4)` is `5xx`.
    Class(usize),
    Code(u16),
}

impl StatusEntry {
    fn code(value: u64) -> Option<Self> {
        u16::try_from(value).ok().filter(|code| (100..=599).contains(code)).map(Self::Code)
    }

    fn class(text: &str) -> Option<Self> {
        CLASSES.iter().position(|class| class.eq_ignore_ascii_case(text)).map(Self::Class)
    }
}

/// As the configuration writes it.
impl fmt::Display for StatusEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "\"{}\"", CLASSES.get(*class).unwrap_or(&"")),
            Self::Code(code) => code.fmt(f),
        }
    }
}

impl Read for StatusEntry {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let entry = match node {
            Node::Unsigned(value) => Self::code(*value),
            Node::Text(text) => Self::class(text),
            _ => None,
        };
        entry.ok_or_else(|| node.refused("a status code from 100 to 599 or a class from \"1xx\" to \"5xx\""))
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
