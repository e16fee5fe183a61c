//! What must hold whatever the bytes: one property for each decoder of the filter.
//!
//! `check` panics where the property does not hold. `cargo fuzz` looks for such bytes (`fuzz_targets/`), and
//! `tests/fuzz_regressions.rs` of the filter tries the seeds and all that was ever found, without a fuzzer. `seeds` makes
//! the few inputs from which a fuzzer starts: real ones, so that it need not discover the formats.

#![allow(unreachable_pub, reason = "public for the fuzzers, private to the regression tests")]

pub mod admin;
pub mod body_key;
mod calls;
pub mod configuration;
pub mod dynamodb;
mod input;
pub mod json;
pub mod key;
pub mod multipart;
pub mod postgres;
pub mod record;
pub mod redis;
pub mod resp;
pub mod routes;
mod sealed;
pub mod table;
#[path = "../../src/store/shared_data/tests/model.rs"]
mod table_model;

/// One decoder under test.
#[derive(Debug)]
pub struct Target {
    /// As `cargo fuzz` and the folders call it.
    pub name: &'static str,
    /// Panics unless the property holds for these bytes.
    pub check: fn(&[u8]),
    /// The inputs to start from, each with the name of its file; always the same.
    pub seeds: fn() -> Vec<Seed>,
}

/// The name of a file, and what it contains.
pub type Seed = (&'static str, Vec<u8>);

/// All of them.
pub const TARGETS: [Target; 13] = [
    Target { name: "admin", check: admin::check, seeds: admin::seeds },
    Target { name: "body_key", check: body_key::check, seeds: body_key::seeds },
    Target { name: "configuration", check: configuration::check, seeds: configuration::seeds },
    Target { name: "dynamodb", check: dynamodb::check, seeds: dynamodb::seeds },
    Target { name: "json", check: json::check, seeds: json::seeds },
    Target { name: "key", check: key::check, seeds: key::seeds },
    Target { name: "multipart", check: multipart::check, seeds: multipart::seeds },
    Target { name: "postgres", check: postgres::check, seeds: postgres::seeds },
    Target { name: "record", check: record::check, seeds: record::seeds },
    Target { name: "redis", check: redis::check, seeds: redis::seeds },
    Target { name: "resp", check: resp::check, seeds: resp::seeds },
    Target { name: "routes", check: routes::check, seeds: routes::seeds },
    Target { name: "table", check: table::check, seeds: table::seeds },
];

/// Seeds of text.
fn texts<const N: usize>(seeds: [(&'static str, &str); N]) -> Vec<Seed> {
    seeds.map(|(name, text)| (name, text.as_bytes().to_vec())).to_vec()
}
