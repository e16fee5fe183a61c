//! JSON as answers are made of it.

use serde::Serializer as _;
use serde_json::Value;

/// An object with these members in this order; one that is null is left out.
pub(super) fn object(members: &[(&str, Value)]) -> Vec<u8> {
    let mut text = Vec::new();
    let members = members.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, value));
    // A vector takes all that is written; an empty body would still carry the status.
    let _ = serde_json::Serializer::new(&mut text).collect_map(members);
    text
}
