//! Real Envoys, real stores and real clients, while everything fails that can fail, and the history checker of the
//! simulation (`tests/proof/`) at the end.
//!
//! One seed is one plan: the deployment, the clients, what the service makes of each request, and when what fails.
//! The plan is the same each time; what the machine makes of it is not, so that a seed that has failed may have to be
//! played more than once.
//!
//! `cargo test --test chaos` plays the same plans each time, and `make chaos` new ones for as long as it is told.
//! `CHAOS_SEED=… make chaos` plays one of them again.
//!
//! What a plan cannot have, because it may cost what is promised otherwise or needs more servers, is played by name
//! (`failures.rs`): `cargo test --test chaos` plays some of it, and `make failures` all.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers, and real time is what it is about"
)]

#[path = "../e2e/bench/mod.rs"]
mod bench;
#[path = "../proof/mod.rs"]
mod proof;

mod clients;
mod doctored;
mod failures;
mod fault;
mod judge;
mod mishaps;
mod plan;
mod record;
mod round;
mod rounds;
mod service;
mod stage;
mod stores;
mod wire;
