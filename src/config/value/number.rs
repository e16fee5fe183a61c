//! Whole numbers.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Number<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    pub(in crate::config) fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Read for Number<MIN, MAX> {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        whole_number(node, MIN, MAX).map(Self)
    }
}

fn whole_number(node: &Node, min: u32, max: u32) -> Result<u32, ConfigError> {
    let value = node.unsigned().and_then(|value| u32::try_from(value).ok());
    value
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| node.refused(&format!("a whole number from {min} to {max}")))
}
