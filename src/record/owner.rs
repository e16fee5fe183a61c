//! The fencing token.

use serde::{Deserialize, Serialize};

/// Names one execution of an operation: the fencing token that every later write must carry.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Owner(#[serde(with = "crate::request::fixed_bytes")] [u8; 16]);

impl Owner {
    /// The owner with this token; tokens must never repeat, so they come from real randomness.
    #[must_use]
    pub const fn new(token: u128) -> Self {
        Self(token.to_be_bytes())
    }

    /// The token as a store keeps and compares it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}
