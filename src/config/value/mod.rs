//! The single values of a configuration: each type reads itself from JSON and holds only what is allowed.

mod field_name;
mod link_target;
mod list;
mod method;
mod number;
mod pattern;
mod percentage;
mod period;
mod pointer;
mod property_path;
mod quantity;
mod route_name;
mod size;
mod status_entry;
mod text;
mod word;

pub(super) use field_name::FieldName;
pub(super) use link_target::LinkTarget;
pub(super) use list::List;
pub(super) use method::Method;
pub(crate) use method::NEVER_GUARDED;
pub(super) use number::Number;
pub(super) use pattern::{AuthorityPattern, PathPattern};
pub(super) use percentage::Percentage;
pub(super) use period::Period;
pub(super) use pointer::Pointer;
pub(super) use property_path::PropertyPath;
pub(super) use route_name::RouteName;
pub(super) use size::{Size, bytes_text};
pub(super) use status_entry::StatusEntry;
pub(super) use text::{Secret, Text};
pub(super) use word::{Word, Words};

/// Whether `text` is a token (RFC 9110, section 5.6.2): what methods and field names are made of.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
