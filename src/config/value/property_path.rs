//! Paths of Envoy attributes.

use serde::de::{Deserialize, Deserializer};

use crate::config::json::{Node, leaf};

/// The path of an Envoy attribute. The host separates its parts with zero bytes, so no part may bear one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct PropertyPath(Vec<String>);

impl From<PropertyPath> for Vec<String> {
    fn from(path: PropertyPath) -> Self {
        path.0
    }
}

impl<'de> Deserialize<'de> for PropertyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "the path of an Envoy attribute, a list such as [\"connection\",\"uri_san_peer_certificate\"]";
        leaf(deserializer, &allowed, |node| match node {
            Node::List(parts) if !parts.is_empty() => parts.iter().map(part).collect::<Option<_>>().map(Self),
            _ => None,
        })
    }
}

fn part(node: &Node) -> Option<String> {
    node.text().filter(|text| !text.is_empty() && !text.chars().any(char::is_control)).map(str::to_owned)
}
