//! Idemgate: an Envoy proxy-wasm filter that makes any HTTP service safe to retry.

pub mod config;
mod envoy;
pub mod headers;
pub mod request;
