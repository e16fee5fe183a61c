//! Targets of `Link` fields.

use serde::de::{Deserialize, Deserializer};

use crate::config::json::leaf;

/// A URI, or an absolute path on the same host, that can stand between `<` and `>` in a `Link` field (RFC 8288,
/// section 3) because it is made of the characters of RFC 3986, appendix A, alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct LinkTarget(String);

impl From<LinkTarget> for String {
    fn from(target: LinkTarget) -> Self {
        target.0
    }
}

impl<'de> Deserialize<'de> for LinkTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a URI with a scheme, or a path that starts with one /, of at most 2048 characters (RFC 3986)";
        leaf(deserializer, &allowed, |node| {
            node.text().filter(|text| is_link_target(text)).map(|text| Self(text.to_owned()))
        })
    }
}

fn is_link_target(text: &str) -> bool {
    text.len() <= LONGEST
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte))
        && (has_scheme(text) || (text.starts_with('/') && !text.starts_with("//")))
}

/// RFC 3986, section 3.1.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

const LONGEST: usize = 2048;
