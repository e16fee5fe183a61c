//! Names of routes.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// The name of a route: a part of the names of its metrics, between dots.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct RouteName(String);

impl From<RouteName> for String {
    fn from(name: RouteName) -> Self {
        name.0
    }
}

impl Read for RouteName {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let is_name = |text: &&str| {
            (1..=LONGEST).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
        };
        node.text()
            .filter(is_name)
            .map(|text| Self(text.to_owned()))
            .ok_or_else(|| node.refused("a name of up to 32 lower-case letters, digits, _ and -"))
    }
}

/// In bytes.
const LONGEST: usize = 32;
