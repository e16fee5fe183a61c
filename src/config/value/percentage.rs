//! Parts of a whole.

use super::quantity;
use crate::config::Share;
use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A part from 1 to 100 percent, written with its sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Percentage(u8);

impl Percentage {
    pub(in crate::config) fn get(self) -> Share {
        Share::percent(self.0)
    }
}

impl Read for Percentage {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let percent = node.text().and_then(|text| quantity::read(text, &[("%", 1)]));
        let percent =
            percent.and_then(|percent| u8::try_from(percent).ok()).filter(|percent| (1..=100).contains(percent));
        percent.map(Self).ok_or_else(|| node.refused("a string from \"1%\" to \"100%\""))
    }
}
