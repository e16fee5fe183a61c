//! Durations.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer};

use super::quantity::{self, Unit};
use crate::config::json::leaf;

/// A duration of `MIN` to `MAX` milliseconds, written as digits and a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Period<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Period<MIN, MAX> {
    /// What is allowed, in words.
    pub(in crate::config) fn allowed() -> String {
        let (shortest, longest) = (quantity::write(MIN, &UNITS), quantity::write(MAX, &UNITS));
        format!("a duration from \"{shortest}\" to \"{longest}\", digits and one of the units ms, s, m, h, d")
    }

    pub(in crate::config) fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Period<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        leaf(deserializer, &Self::allowed().as_str(), |node| {
            let millis = quantity::read(node.text()?, &UNITS)?;
            (MIN..=MAX).contains(&millis).then_some(Self(millis))
        })
    }
}

const UNITS: [Unit; 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
