//! The single values of a configuration: each type reads itself and holds only what is allowed.

mod list;
mod pattern;
mod quantity;
mod secret;
mod text;
mod word;

pub(super) use list::List;
pub(super) use pattern::{AuthorityPattern, HeaderPatterns, PathPattern};
pub(super) use quantity::{Number, Percentage, Period, Size, bytes_text};
pub use secret::Environment;
pub(super) use secret::Secret;
pub(crate) use text::NEVER_GUARDED;
pub(super) use text::{
    FieldName, LinkTarget, MediaType, Method, Pointer, PropertyPath, RouteName, SchemaName, TableName, Text,
};
pub(super) use word::{StatusEntry, Word, Words};
