//! Request methods.

use super::is_token;
use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A method that can be guarded, in upper case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Method(String);

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.0
    }
}

impl Read for Method {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let allowed = "a method other than GET, HEAD, OPTIONS, TRACE, CONNECT and QUERY, which are never guarded";
        let method = node.text().filter(|text| is_token(text)).map(str::to_ascii_uppercase);
        let guarded = method.filter(|method| !NEVER_GUARDED.contains(&method.as_str()));
        guarded.map(Self).ok_or_else(|| node.refused(allowed))
    }
}

/// Safe methods (RFC 9110, section 9.2.1; RFC 10008 for QUERY) need no guard; CONNECT opens a tunnel, whose answer has
/// no end.
pub(crate) const NEVER_GUARDED: [&str; 6] = ["CONNECT", "GET", "HEAD", "OPTIONS", "QUERY", "TRACE"];
