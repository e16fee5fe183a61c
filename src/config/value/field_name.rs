//! Names of header fields.

use super::is_token;
use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// The name of a header field, in lower case; pseudo-headers (`:path`) are no fields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct FieldName(String);

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0
    }
}

impl Read for FieldName {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let name = node.text().filter(|text| is_token(text)).map(str::to_ascii_lowercase);
        name.map(Self).ok_or_else(|| node.refused("the name of a header (an RFC 9110 token, so no pseudo-header)"))
    }
}
