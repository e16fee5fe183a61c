//! Paths of Envoy attributes.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// The path of an Envoy attribute. The host separates its parts with zero bytes, so no part may bear one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct PropertyPath(Vec<String>);

impl From<PropertyPath> for Vec<String> {
    fn from(path: PropertyPath) -> Self {
        path.0
    }
}

impl Read for PropertyPath {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let allowed = "the path of an Envoy attribute, a list such as [\"connection\",\"uri_san_peer_certificate\"]";
        let path: Option<Vec<String>> = match node {
            Node::List(parts) if !parts.is_empty() => parts.iter().map(part).collect(),
            _ => None,
        };
        path.map(Self).ok_or_else(|| node.refused(allowed))
    }
}

fn part(node: &Node) -> Option<String> {
    node.text().filter(|text| !text.is_empty() && !text.chars().any(char::is_control)).map(str::to_owned)
}
