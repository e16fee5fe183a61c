//! JSON Pointers.

use serde::de::{Deserialize, Deserializer};

use crate::config::json::leaf;

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

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a JSON Pointer to a part of the body (RFC 6901), such as \"/meta/sent_at\"";
        leaf(deserializer, &allowed, |node| {
            let tokens = node.text()?.strip_prefix('/')?;
            tokens.split('/').map(unescaped).collect::<Option<_>>().map(Self)
        })
    }
}

/// RFC 6901, section 4: `~1` is `/` and `~0` is `~`, in this order; any other `~` is an error.
fn unescaped(token: &str) -> Option<String> {
    let stray = token.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
    (!stray).then(|| token.replace("~1", "/").replace("~0", "~"))
}
