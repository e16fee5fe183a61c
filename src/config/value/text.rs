//! Free text.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected};

use crate::config::json::{Node, leaf};

/// Text that is not empty and bears no control character: names of clusters, prefixes, patterns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Text(String);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        leaf(deserializer, &"text that is not empty, without control characters", |node| {
            node.text().filter(|text| is_plain_text(text)).map(|text| Self(text.to_owned()))
        })
    }
}

/// Text that neither `Debug` nor an error shows.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::config) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Text(text) if !text.is_empty() => Ok(Self(text)),
            _ => Err(de::Error::invalid_value(Unexpected::Other("a hidden value"), &"text that is not empty")),
        }
    }
}

fn is_plain_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
