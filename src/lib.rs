//! Idemgate: an Envoy proxy-wasm filter that makes any HTTP service safe to retry.

pub mod admin;
pub mod config;
mod envoy;
pub mod exchange;
pub mod headers;
mod normal_form;
pub mod record;
pub mod request;
pub mod store;
pub mod time;

// For tests that play the host.
#[doc(hidden)]
pub use envoy::exports;

// For the model that the tests of the table share with the fuzzers, which see the crate from outside.
#[cfg(test)]
extern crate self as idemgate;
