//! What can be written but is not built yet: refused, never silently ignored. To lift a refusal, remove its row.

use super::document::Document;
use super::error::{ConfigError, JsonPath};
use super::policy::Mode;
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
    ("mode", "\"shadow\"", "\"enforce\", \"off\"", |document| document.mode.map(Word::get) == Some(Mode::Shadow)),
    ("routes", "a route", "an empty list", |document| document.routes.as_ref().is_some_and(|routes| !routes.is_empty())),
];
