//! Settings with a few named values.

use serde::de::{Deserialize, Deserializer};

use crate::config::json::leaf;

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
        let allowed = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        leaf(deserializer, &allowed.as_str(), |node| {
            let text = node.text()?;
            T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, meaning)| Self(*meaning))
        })
    }
}
