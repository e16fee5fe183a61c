//! Free text.

use std::fmt;

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// Text that is not empty and bears no control character: names of clusters, prefixes, patterns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Text(String);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl Read for Text {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let text = node.text().filter(|text| is_plain_text(text));
        text.map(|text| Self(text.to_owned()))
            .ok_or_else(|| node.refused("text that is not empty, without control characters"))
    }
}

/// Text that neither `Debug` nor an error shows.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::config) struct Secret(String);

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Read for Secret {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        match node.text() {
            Some(text) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(ConfigError::invalid_value("a hidden value", "text that is not empty")),
        }
    }
}

fn is_plain_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
