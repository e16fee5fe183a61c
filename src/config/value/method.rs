//! Request methods.

use serde::de::{Deserialize, Deserializer};

use super::is_token;
use crate::config::json::leaf;

/// A method that can be guarded, in upper case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Method(String);

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.0
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a method other than GET, HEAD, OPTIONS, TRACE and CONNECT, which are never guarded";
        leaf(deserializer, &allowed, |node| {
            let method = node.text().filter(|text| is_token(text))?.to_ascii_uppercase();
            (!NEVER_GUARDED.contains(&method.as_str())).then_some(Self(method))
        })
    }
}

/// Safe methods (RFC 9110, section 9.2.1) need no guard; CONNECT opens a tunnel, whose answer has no end.
const NEVER_GUARDED: [&str; 5] = ["CONNECT", "GET", "HEAD", "OPTIONS", "TRACE"];
