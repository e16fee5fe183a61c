//! Names of header fields.

use serde::de::{Deserialize, Deserializer};

use super::is_token;
use crate::config::json::leaf;

/// The name of a header field, in lower case; pseudo-headers (`:path`) are no fields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct FieldName(String);

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        leaf(deserializer, &"the name of a header (an RFC 9110 token, so no pseudo-header)", |node| {
            node.text().filter(|text| is_token(text)).map(|text| Self(text.to_ascii_lowercase()))
        })
    }
}
