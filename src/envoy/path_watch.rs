//! Finds out whether Envoy resolves the spellings of a path that many services take for one.
//!
//! The HTTP connection manager does so in front of all filters, if it is told to, and the filter cannot see how it is
//! set. What it can see is a path that would have been resolved.

use std::cell::Cell;

use crate::normal_form::{self, Unresolved};

/// What was seen so far. Each is said once: any client can send such paths.
#[derive(Debug, Default)]
pub(super) struct PathWatch {
    dots: Cell<bool>,
    empty_segment: Cell<bool>,
    encoded_slash: Cell<bool>,
}

impl PathWatch {
    /// Looks at the path of a request of a guarded method, as it is.
    pub(super) fn look_at(&self, path: &[u8]) {
        let Some(path) = path.split(|byte| *byte == b'?').next().filter(|path| may_be_unresolved(path)) else { return };
        let Some(found) = Unresolved::of(&normal_form::path(path)) else { return };
        let (said, what) = match found {
            Unresolved::Dots => (&self.dots, "a segment . or .., or a backslash"),
            Unresolved::EmptySegment => (&self.empty_segment, "two slashes in a row"),
            Unresolved::EncodedSlash => (&self.encoded_slash, "an encoded slash, %2F or %5C"),
        };
        if !said.replace(true) {
            log::warn!(
                "idemgate: the path of a request has {what}: the service may resolve it to another path than \
                 routes and keys see, so that a client can evade key.required or a route; set {} in Envoy's HTTP \
                 connection manager (docs/configuration.md, routes)",
                found.setting()
            );
        }
    }
}

/// What most paths are told by, in one look at each byte.
fn may_be_unresolved(path: &[u8]) -> bool {
    let mut last = 0;
    path.iter().any(|byte| {
        let is_sign = matches!(byte, b'%' | b'\\') || last == b'/' && matches!(byte, b'/' | b'.');
        last = *byte;
        is_sign
    })
}
