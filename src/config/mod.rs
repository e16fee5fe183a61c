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
mod filter;
mod glob;
pub(crate) mod json;
mod plugin;
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

pub use document::Guard;
pub use error::ConfigError;
pub use filter::Config;
pub(crate) use json::Node;
pub use plugin::Plugin;
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
pub use value::Environment;
pub(crate) use value::NEVER_GUARDED;

#[cfg(test)]
mod tests;
