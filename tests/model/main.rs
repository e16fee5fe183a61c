//! The protocol, checked in every interleaving of small worlds: the real exchanges and stores, and Stateright
//! to choose each next step.
//!
//! `cargo test --test model -- --nocapture` says how many states each world has.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test bench: an assumption that does not hold must fail the test"
)]

#[path = "../proof/mod.rs"]
mod proof;

mod checker;
mod dynamodb;
mod mutations;
mod redis;
mod shared_data;
