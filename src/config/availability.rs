//! What can be written but is not built yet: refused, never silently ignored. To lift a refusal, remove its row.

use super::document::{Document, Role};
use super::error::{ConfigError, JsonPath};
use super::value::Word;

/// Refuses what this version does not do.
pub(super) fn check(document: &Document) -> Result<(), ConfigError> {
    match REFUSALS.iter().find(|(_, _, _, asks_for)| asks_for(document)) {
        Some((path, found, allowed, _)) => {
            Err(ConfigError::NotAvailable { path: JsonPath::from(*path), found, allowed })
        }
        None => Ok(()),
    }
}

/// A path, the value that is refused there, what to use instead, and whether a document asks for that value.
type Refusal = (&'static str, &'static str, &'static str, fn(&Document) -> bool);

#[rustfmt::skip]
const REFUSALS: &[Refusal] = &[
    ("role", "\"admin\"", "\"redis_bridge\", or no role, which is the filter", |document| document.role.map(Word::get) == Some(Role::Admin)),
];
