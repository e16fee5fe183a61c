//! Targets of `Link` fields.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A URI, or an absolute path on the same host, that can stand between `<` and `>` in a `Link` field (RFC 8288,
/// section 3) because it is made of the characters of RFC 3986, appendix A, alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct LinkTarget(String);

impl From<LinkTarget> for String {
    fn from(target: LinkTarget) -> Self {
        target.0
    }
}

impl Read for LinkTarget {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let allowed = "a URI with a scheme, or a path that starts with one /, of at most 2048 characters (RFC 3986)";
        let target = node.text().filter(|text| is_link_target(text));
        target.map(|text| Self(text.to_owned())).ok_or_else(|| node.refused(allowed))
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
