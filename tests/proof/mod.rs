//! A world around the real exchanges and the real stores, in which every step is a choice.
//!
//! The model checker (`tests/model/`) makes every choice, in worlds of two or three requests; the simulation
//! (`tests/simulation/`) makes many, in larger ones. What is real in it and what is imitated:
//! `docs/internals/proof.md`.

#![allow(dead_code, reason = "each of the tests that share this uses a part of it")]

pub(crate) mod dynamodb;
pub(crate) mod history;
pub(crate) mod law;
pub(crate) mod memory;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod worker;
pub(crate) mod world;
