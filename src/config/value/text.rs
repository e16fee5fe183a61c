//! Texts that have a form: names, methods, paths and pointers.

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected};

use crate::config::json::{Node, read_value};
use crate::config::store::LONGEST_SCHEMA;

/// Declares texts: their contents, how these are made of the text, and which texts are allowed.
macro_rules! texts {
    ($($(#[$attribute:meta])* $name:ident($content:ty) = $read:ident, $allowed:literal;)+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub(in crate::config) struct $name($content);

        impl From<$name> for $content {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_value(deserializer, $allowed, |node| node.text().and_then($read).map(Self))
            }
        }
    )+};
}

texts! {
    /// The name of a header field, in lower case; pseudo-headers (`:path`) are no fields.
    FieldName(String) = field_name,
        "the name of a header (an RFC 9110 token, so no pseudo-header)";

    /// A URI, or an absolute path on the same host, that can stand between `<` and `>` in a `Link` field (RFC 8288,
    /// section 3) because it is made of the characters of RFC 3986, appendix A, alone.
    LinkTarget(String) = link_target,
        "a URI with a scheme, or a path that starts with one /, of at most 2048 characters (RFC 3986)";

    /// A media type (RFC 9110, section 8.3.1), with or without parameters.
    MediaType(String) = media_type,
        "a media type, such as \"application/json\"";

    /// A method that can be guarded, in upper case.
    Method(String) = method,
        "a method other than GET, HEAD, OPTIONS, TRACE, CONNECT and QUERY, which are never guarded";

    /// A JSON Pointer (RFC 6901) into a body, as its unescaped reference tokens.
    ///
    /// The empty pointer is refused: a body that does not count is `fingerprint.body: "none"`, which need not hold
    /// it.
    Pointer(Vec<String>) = pointer,
        "a JSON Pointer to a part of the body (RFC 6901), such as \"/meta/sent_at\"";

    /// The name of a route: a part of the names of its metrics, between dots.
    RouteName(String) = route_name,
        "a name of up to 32 lower-case letters, digits, _ and -";

    /// The name of a schema in PostgreSQL that needs no quotes.
    SchemaName(String) = schema_name,
        "the name of a schema: up to 56 lower-case letters, digits and _, beginning with no digit";

    /// The name of a table in DynamoDB, or its ARN.
    TableName(String) = table_name,
        "3 characters or more of letters, digits, _, ., - and, in an ARN, : and /";

    /// Text that is not empty and has no control character: names of clusters, prefixes.
    Text(String) = plain_text,
        "text that is not empty, without control characters";
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html>
fn table_name(text: &str) -> Option<String> {
    let is_name = (3..=1024).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-:/".contains(&byte));
    is_name.then(|| text.to_owned())
}

fn schema_name(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = (1..=LONGEST_SCHEMA).contains(&text.len())
        && text.bytes().all(is_plain)
        && !text.starts_with(|first: char| first.is_ascii_digit());
    is_name.then(|| text.to_owned())
}

fn field_name(text: &str) -> Option<String> {
    is_token(text).then(|| text.to_ascii_lowercase())
}

fn link_target(text: &str) -> Option<String> {
    let is_link_target = text.len() <= 2048
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte))
        && (has_scheme(text) || (text.starts_with('/') && !text.starts_with("//")));
    is_link_target.then(|| text.to_owned())
}

/// RFC 3986, section 3.1.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn media_type(text: &str) -> Option<String> {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let (kind, subtype) = essence.trim_ascii_end().split_once('/')?;
    let is_printable = parameters.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    (is_token(kind) && is_token(subtype) && is_printable).then(|| text.to_owned())
}

fn method(text: &str) -> Option<String> {
    let method = text.to_ascii_uppercase();
    (is_token(text) && !NEVER_GUARDED.contains(&method.as_str())).then_some(method)
}

fn pointer(text: &str) -> Option<Vec<String>> {
    text.strip_prefix('/')?.split('/').map(unescaped).collect()
}

/// RFC 6901, section 4: `~1` is `/` and `~0` is `~`, in this order; any other `~` is an error.
fn unescaped(token: &str) -> Option<String> {
    let stray = token.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
    (!stray).then(|| token.replace("~1", "/").replace("~0", "~"))
}

fn route_name(text: &str) -> Option<String> {
    let is_name = (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    is_name.then(|| text.to_owned())
}

fn plain_text(text: &str) -> Option<String> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Whether `text` is a token (RFC 9110, section 5.6.2): what methods and field names are made of.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The path of an Envoy attribute. The host separates its parts with zero bytes, so no part may contain one.
///
/// All metadata in one would be a protobuf message, and not a map whose entries could be told apart and sorted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct PropertyPath(Vec<String>);

impl From<PropertyPath> for Vec<String> {
    fn from(path: PropertyPath) -> Self {
        path.0
    }
}

impl<'de> Deserialize<'de> for PropertyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "the path of an Envoy attribute, a list such as [\"connection\",\"uri_san_peer_certificate\"]";
        let path: Vec<String> = read_value(deserializer, allowed, |node| match node {
            Node::List(parts) if !parts.is_empty() => parts.iter().map(|part| plain_text(part.text()?)).collect(),
            _ => None,
        })?;
        if path == ["metadata"] {
            return Err(D::Error::invalid_value(
                Unexpected::Other("all metadata, which Envoy serialises in another order from request to request"),
                &"a path that goes on, such as [\"metadata\",\"filter_metadata\",\"envoy.filters.http.jwt_authn\",\"jwt\",\"sub\"]",
            ));
        }
        Ok(Self(path))
    }
}

/// Safe methods (RFC 9110, section 9.2.1; RFC 10008 for QUERY) need no guard; CONNECT opens a tunnel, whose answer has
/// no end.
pub(crate) const NEVER_GUARDED: [&str; 6] = ["CONNECT", "GET", "HEAD", "OPTIONS", "QUERY", "TRACE"];
