//! Paths of Envoy attributes.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// The path of an Envoy attribute. The host separates its parts with zero bytes, so no part may bear one.
///
/// All metadata in one would be a protobuf message, and not a map whose entries could be told apart and sorted.
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
        if path.as_ref().is_some_and(|path| path == &["metadata"]) {
            return Err(ConfigError::invalid_value(
                "all metadata, which Envoy serialises in another order from request to request",
                "a path that goes on, such as [\"metadata\",\"filter_metadata\",\"envoy.filters.http.jwt_authn\",\"jwt\",\"sub\"]",
            ));
        }
        path.map(Self).ok_or_else(|| node.refused(allowed))
    }
}

fn part(node: &Node) -> Option<String> {
    node.text().filter(|text| !text.is_empty() && !text.chars().any(char::is_control)).map(str::to_owned)
}
