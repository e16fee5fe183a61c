//! Settings with a few named values.

use std::fmt;

use serde::de::{Deserialize, Deserializer};

use crate::config::json::{Node, read_value};

/// What is written as one of a few words.
pub(in crate::config) trait Words: Copy + 'static {
    /// Each word and what it means, in the documentation's order.
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of `T`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Word<T>(T);

impl<T: Words> Word<T> {
    pub(in crate::config) fn get(self) -> T {
        self.0
    }
}

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        read_value(deserializer, &words.join(", "), |node| {
            let text = node.text()?;
            T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, meaning)| Self(*meaning))
        })
    }
}

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

impl<'de> Deserialize<'de> for StatusEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a status code from 100 to 599 or a class from \"1xx\" to \"5xx\"";
        read_value(deserializer, allowed, |node| match node {
            Node::Unsigned(value) => Self::code(*value),
            Node::Text(text) => Self::class(text),
            _ => None,
        })
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
