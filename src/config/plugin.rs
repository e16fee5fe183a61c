//! What one plugin configuration makes of the module.

use super::document::{Document, Guard, Role};
use super::error::ConfigError;
use super::filter::Config;
use super::json::Node;
use super::value::{Environment, Word};

/// What one plugin configuration makes of the module.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Plugin {
    /// The filter: there is no `role`.
    Filter(Box<Config>),
    /// `{"role": "admin"}`: lets operators look up and change single operations of a filter.
    Admin {
        /// The filter's own settings, by which the same operations are found in the same store.
        config: Box<Config>,
        /// What keeps others away.
        guard: Guard,
    },
    /// `{"role": "store_stream"}`: lets the filter keep connections to its store.
    StoreStream,
}

impl Plugin {
    /// Reads the plugin configuration as the host hands it over: JSON text, or nothing at all for a filter with the
    /// defaults.
    ///
    /// # Errors
    ///
    /// As [`Config::parse`]; for any setting beside the role `store_stream`; for an admin without a guard; and for a secret
    /// that is not in the `environment`.
    pub fn parse(text: &[u8], environment: Environment<'_>) -> Result<Self, ConfigError> {
        let node = Node::parse(text)?;
        let document: Document = node.read()?;
        match document.role.map(Word::get) {
            Some(Role::StoreStream) => {
                stands_alone(&node)?;
                Ok(Self::StoreStream)
            }
            Some(Role::Admin) => admin(document, environment),
            None => document.compile(environment).map(|config| Self::Filter(Box::new(config))),
        }
    }
}

impl Config {
    /// Reads the configuration of a filter: JSON text, or nothing at all for the defaults. No environment variable is set.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for text that is not one JSON object, for a key that is unknown or given twice, for a value
    /// that is malformed or out of range, for settings that contradict each other or would be ignored, for a route that no
    /// request can fall under, and for another role than the filter's.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        Document::parse(text)?.compile(&|_| None)
    }
}

fn admin(mut document: Document, environment: Environment<'_>) -> Result<Plugin, ConfigError> {
    document.role = None;
    let Some(guard) = document.guard.take() else {
        return Err(ConfigError::new(
            "guard",
            "nothing, so that anyone who reaches the listener could make operations run twice",
            "\"loopback\" for a listener that is bound to a loopback address; \"filters\" for one whose own filters \
             authenticate operators, and whose metadata says so (docs/operations.md)",
        ));
    };
    document.compile(environment).map(|config| Plugin::Admin { config: Box::new(config), guard: guard.get() })
}

/// What else stands beside the role `store_stream` is meant for the filter.
fn stands_alone(node: &Node) -> Result<(), ConfigError> {
    match node.keys().find(|key| *key != "role") {
        None => Ok(()),
        Some(key) => Err(ConfigError::new(
            key,
            "a setting of the filter, which role \"store_stream\" does not have",
            "only role, if role is \"store_stream\"",
        )),
    }
}
