//! Sizes in bytes.

use super::quantity::{self, Unit};
use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A size of `MIN` to `MAX` bytes, written as a number of bytes or as digits and a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Size<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    /// What is allowed, in words, for the schema.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::config) fn allowed() -> String {
        allowed(MIN, MAX)
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

impl<const MIN: u64, const MAX: u64> Read for Size<MIN, MAX> {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        bytes(node, MIN, MAX).map(Self)
    }
}

fn bytes(node: &Node, min: u64, max: u64) -> Result<u64, ConfigError> {
    let bytes = node.unsigned().or_else(|| quantity::read(node.text()?, &UNITS));
    bytes.filter(|bytes| (min..=max).contains(bytes)).ok_or_else(|| node.refused(&allowed(min, max)))
}

fn allowed(min: u64, max: u64) -> String {
    let (smallest, largest) = (bytes_text(min), bytes_text(max));
    format!("a size from {smallest} to {largest}, a whole number of bytes or digits and one of the units KiB, MiB, GiB")
}

const UNITS: [Unit; 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
