//! Settings: what the operator wrote, checked once and compiled for the request path.
//!
//! JSON text becomes a tree (`json`), serde makes of it a document whose every value is in range (`document`, `value`),
//! and the document, laid over the defaults and checked as a whole, a [`Config`] (`compile`). What is wrong is said in one
//! line, [`ConfigError`].
//!
//! ```
//! use idemgate::config::Config;
//!
//! let config = Config::parse(br#"{"ttl": "1h"}"#).unwrap();
//! assert_eq!(config.policy.ttl.as_secs(), 3600);
//!
//! let error = Config::parse(br#"{"outcome": {"store": [200, 700]}}"#).unwrap_err();
//! assert!(error.to_string().starts_with("outcome.store[1]: found 700; allowed: a status code from 100 to 599"));
//! ```

mod compile;
mod defaults;
mod document;
mod error;
mod glob;
pub(crate) mod json;
mod pointers;
mod policy;
mod problems;
mod routes;
#[cfg(not(target_arch = "wasm32"))]
mod schema;
mod share;
mod store;
mod suggestion;
mod summary;
mod value;
mod warnings;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use pointers::{Branch, PointerTree};
pub use policy::{
    BodyFingerprint, CallerPolicy, Disposition, DuplicatesPolicy, ExecutionMode, ExecutionPolicy, FingerprintPolicy,
    IdentitySource, InFlight, KeyFormat, KeyPolicy, KeySyntax, Limits, Mode, OnStoreError, OnUnknown, OutcomePolicy,
    Policy, ReplayPolicy, Resource,
};
pub use problems::{BodyTemplate, PROBLEM_NAMES, ProblemsPolicy};
pub use routes::Route;
#[cfg(not(target_arch = "wasm32"))]
pub use schema::json_schema;
pub use share::Share;
pub use store::{
    DynamoDbConfig, ENTRY_BYTES, IntegrityConfig, OnFull, PostgresConfig, RedisConfig, SharedDataConfig, StoreConfig,
    Unsigned,
};

use std::sync::Arc;

use crate::headers::Headers;
use crate::normal_form;
use document::{Document, Role};
pub(crate) use json::Node;
pub(crate) use value::NEVER_GUARDED;
use value::Word;

/// The environment variables of the host that the filter is shown, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

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

/// What keeps others away from an admin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// The operator's own filters, as the metadata of the listener says.
    Filters,
    /// The addresses of each connection.
    Loopback,
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

/// Everything that a filter's configuration says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// How requests are guarded that fall under no route.
    pub policy: Arc<Policy>,
    /// Other policies for some requests; the first that matches counts.
    pub routes: Vec<Route>,
    /// Where the records are kept.
    pub store: StoreConfig,
    /// How many bytes a worker takes besides those.
    pub memory: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { policy: Arc::default(), routes: Vec::new(), store: StoreConfig::default(), memory: DEFAULT_MEMORY }
    }
}

/// `limits.memory`, unless it is set.
const DEFAULT_MEMORY: u64 = 256 << 20;

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

    /// The route that a request falls under, by its place in [`routes`](Self::routes); `None` if there is none.
    ///
    /// All are as the request has them; the query of `path` does not count. `authority` and `headers` are only looked at if
    /// some route looks at them ([`Route::looks_at_authority`], [`Route::looks_at_headers`]).
    #[must_use]
    pub fn route(&self, method: &[u8], authority: &[u8], path: &[u8], headers: &Headers) -> Option<usize> {
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let (method, path) = (normal_form::method(method), normal_form::path(path));
        self.routes.iter().position(|route| route.matches(&method, authority, &path, headers))
    }

    /// The policy that a request falls under.
    #[must_use]
    pub fn policy_for(&self, method: &[u8], authority: &[u8], path: &[u8], headers: &Headers) -> &Policy {
        let route = self.route(method, authority, path, headers).and_then(|index| self.routes.get(index));
        route.map_or(&self.policy, |route| &route.policy)
    }
}
