//! Many worlds, each drawn from a seed: clients, Envoys, a store, a network and a service, and whatever can go
//! wrong between them.
//!
//! `cargo test --test simulation` goes through the same 40,000 worlds each time, and `make soak` through new
//! ones for as long as it is told. `SEED=… cargo test --test simulation one_world -- --nocapture` tells what
//! happens in one.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test bench: an assumption that does not hold must fail the test"
)]

#[path = "../proof/mod.rs"]
mod proof;

mod plan;
mod random;
mod shrink;
mod walk;
mod worlds;
