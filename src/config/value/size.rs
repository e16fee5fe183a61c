//! Sizes in bytes.

use serde::de::{Deserialize, Deserializer};

use super::quantity::{self, Unit};
use crate::config::json::leaf;

/// A size of `MIN` to `MAX` bytes, written as a number of bytes or as digits and a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Size<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    /// What is allowed, in words.
    pub(in crate::config) fn allowed() -> String {
        let (smallest, largest) = (bytes_text(MIN), bytes_text(MAX));
        format!(
            "a size from {smallest} to {largest}, a whole number of bytes or digits and one of the units KiB, MiB, GiB"
        )
    }

    pub(in crate::config) fn get(self) -> u64 {
        self.0
    }
}

/// `bytes` as a size is written: `"64KiB"`, or a number where no unit divides it.
pub(in crate::config) fn bytes_text(bytes: u64) -> String {
    let text = quantity::write(bytes, &UNITS);
    if text.ends_with("iB") { format!("\"{text}\"") } else { text }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        leaf(deserializer, &Self::allowed().as_str(), |node| {
            let bytes = node.unsigned().or_else(|| quantity::read(node.text()?, &UNITS))?;
            (MIN..=MAX).contains(&bytes).then_some(Self(bytes))
        })
    }
}

const UNITS: [Unit; 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
