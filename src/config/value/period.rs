//! Durations.

use std::time::Duration;

use super::quantity::{self, Unit};
use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A duration of `MIN` to `MAX` milliseconds, written as digits and a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Period<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Period<MIN, MAX> {
    /// What is allowed, in words, for the schema.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::config) fn allowed() -> String {
        allowed(MIN, MAX)
    }

    pub(in crate::config) fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<const MIN: u64, const MAX: u64> Read for Period<MIN, MAX> {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        millis(node, MIN, MAX).map(Self)
    }
}

fn millis(node: &Node, min: u64, max: u64) -> Result<u64, ConfigError> {
    let millis = node.text().and_then(|text| quantity::read(text, &UNITS));
    millis.filter(|millis| (min..=max).contains(millis)).ok_or_else(|| node.refused(&allowed(min, max)))
}

fn allowed(min: u64, max: u64) -> String {
    // No unit is the largest that divides zero.
    let shortest = if min == 0 { "0s".to_owned() } else { quantity::write(min, &UNITS) };
    let longest = quantity::write(max, &UNITS);
    format!("a duration from \"{shortest}\" to \"{longest}\", digits and one of the units ms, s, m, h, d")
}

const UNITS: [Unit; 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
