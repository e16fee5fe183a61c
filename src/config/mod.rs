//! Settings: what the operator wrote, checked once and compiled for the request path.
//!
//! JSON text becomes a tree (`json`), the tree a document whose every value is in range (`read`, `document`, `value`),
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

mod availability;
mod compile;
mod defaults;
mod document;
mod error;
mod json;
mod policy;
mod read;
#[cfg(not(target_arch = "wasm32"))]
mod schema;
mod store;
mod suggestion;
mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, JsonPath};
pub use policy::{
    BodyFingerprint, CallerPolicy, Disposition, DuplicatesPolicy, ExecutionMode, ExecutionPolicy, FingerprintPolicy,
    IdentitySource, InFlight, KeyFormat, KeyPolicy, Limits, Mode, OnStoreError, OnUnknown, OutcomePolicy, Policy,
    ReplayPolicy, Resource,
};
#[cfg(not(target_arch = "wasm32"))]
pub use schema::json_schema;
pub use store::{OnFull, SharedDataConfig, StoreConfig};

use document::Document;

/// Everything that one plugin configuration says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// How requests are guarded.
    pub policy: Policy,
    /// Where the records are kept.
    pub store: StoreConfig,
}

impl Config {
    /// Reads the plugin configuration as the host hands it over: JSON text, or nothing at all for the defaults.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for text that is not one JSON object, for a key that is unknown or given twice, for a value
    /// that is malformed or out of range, for settings that contradict each other or would be ignored, and for what
    /// this version does not do yet.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        Document::parse(text)?.compile()
    }
}
