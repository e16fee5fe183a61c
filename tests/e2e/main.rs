//! End to end: the built module in a real Envoy with two workers, section by section of the contract.
//!
//! Needs Envoy (`make tools`) and the module in both builds (`make crash-test`). Each test has an Envoy to itself, most of
//! them one that others have had before (`bench/spares.rs`), an upstream in this process that counts what reaches it, and
//! clients that send and show exact bytes. Times are never asserted, only order and counts; where the contract itself
//! names a time the test says so. Which test shows which row of the contract: `README.md`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod admin;
mod attacks;
mod bench;
mod body_keys;
mod bursts;
mod callers;
mod churn;
mod compression;
mod configuration;
mod crashes;
mod crowds;
mod departures;
mod deploy;
mod detached;
mod drains;
mod dynamodb;
mod expectations;
mod held_memory;
mod hops;
mod hosts;
mod in_flight;
mod jwt_example;
mod keys;
mod late_records;
mod leases;
mod limits;
mod memory;
mod observability;
mod observability_files;
mod outcomes;
mod pair;
mod passing;
mod postgres_errors;
mod postgres_examples;
mod postgres_races;
mod postgres_upkeep;
mod races;
mod redirects;
mod redis_bench;
mod redis_errors;
mod redis_examples;
mod redis_fleet;
mod redis_forgeries;
mod redis_races;
mod redis_upgrades;
mod replays;
mod retention;
mod reuse;
mod route_features;
mod routes;
mod shadow;
mod shares;
mod shipped;
mod streaming;
mod surroundings;
mod uploads;
mod waiting;
