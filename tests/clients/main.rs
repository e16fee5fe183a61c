//! SDKs of real APIs, as their packages are, and a real browser against the built module in a real Envoy: what their user
//! sees when an answer is lost, late or a problem, and how often the service ran.
//!
//! Needs Envoy, the module and the packages (`tools/setup-clients`), and `browser::*` a Chromium
//! (`tools/setup-clients browser`): `make clients` runs all. Which SDKs: `sdks.rs`, and `docs/clients.md` for users.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

#[path = "../e2e/bench/mod.rs"]
mod bench;

mod browser;
mod cases;
mod cors;
mod cutter;
mod page;
mod player;
mod recipes;
mod sdks;
