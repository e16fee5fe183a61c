//! Whole numbers.

use serde::de::{Deserialize, Deserializer};

use crate::config::json::leaf;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Number<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    pub(in crate::config) fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        leaf(deserializer, &format!("a whole number from {MIN} to {MAX}").as_str(), |node| {
            let value = node.unsigned().and_then(|value| u32::try_from(value).ok())?;
            (MIN..=MAX).contains(&value).then_some(Self(value))
        })
    }
}
