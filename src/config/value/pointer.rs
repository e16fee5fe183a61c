//! JSON Pointers.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::Read;

/// A JSON Pointer (RFC 6901) into a body, as its unescaped reference tokens.
///
/// The empty pointer is refused: a body of which nothing counts is `fingerprint.body: "none"`, which need not hold it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Pointer(Vec<String>);

impl From<Pointer> for Vec<String> {
    fn from(pointer: Pointer) -> Self {
        pointer.0
    }
}

impl Read for Pointer {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let allowed = "a JSON Pointer to a part of the body (RFC 6901), such as \"/meta/sent_at\"";
        node.text().and_then(tokens).map(Self).ok_or_else(|| node.refused(allowed))
    }
}

fn tokens(pointer: &str) -> Option<Vec<String>> {
    pointer.strip_prefix('/')?.split('/').map(unescaped).collect()
}

/// RFC 6901, section 4: `~1` is `/` and `~0` is `~`, in this order; any other `~` is an error.
fn unescaped(token: &str) -> Option<String> {
    let stray = token.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
    (!stray).then(|| token.replace("~1", "/").replace("~0", "~"))
}
