//! Redis or Valkey behind an Envoy cluster: what is said to it and what its replies mean.

pub mod bridge;
pub mod resp;
