//! Settings with a few named values.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

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

impl<T: Words> Read for Word<T> {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let known = node.text().and_then(|text| T::WORDS.iter().find(|(word, _)| *word == text));
        known.map(|(_, meaning)| Self(*meaning)).ok_or_else(|| {
            let words: Vec<_> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            node.refused(&words.join(", "))
        })
    }
}
