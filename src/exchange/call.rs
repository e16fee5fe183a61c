//! The call that executes an operation apart from its client's stream.

use super::reply::{end_to_end, own_fields};
use crate::{config::Policy, headers::Headers};

/// A call to be made.
#[derive(Clone, Eq, PartialEq)]
pub struct DetachedCall {
    /// Envoy's name of the cluster that executes.
    pub cluster: String,
    /// The request's fields as the upstream is to get them.
    pub headers: Headers,
    /// The whole body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for DetachedCall {
    /// Neither fields nor body: they are the caller's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DetachedCall")
            .field("cluster", &self.cluster)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl DetachedCall {
    /// The call that `request` asks for; its body is still to come.
    ///
    /// `None` if a field of the call is not UTF-8: the host layer's SDK sends no such field. The request then runs inline,
    /// which keeps every promise but the one to a client that hangs up.
    pub(super) fn new(cluster: String, request: &Headers, policy: &Policy) -> Option<Self> {
        let own = own_fields(policy);
        let is_own = |name: &[u8]| own.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        let drops = &policy.execution.drop_headers;
        let is_dropped = |name: &[u8]| drops.iter().any(|dropped| name.eq_ignore_ascii_case(dropped.as_bytes()));
        let passes_on = |name: &[u8]| !steers_router(name) && !is_own(name) && !is_dropped(name);
        let mut headers: Headers = end_to_end(request).filter(|(name, _)| passes_on(name)).collect();
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if !headers.iter().all(|(name, value)| is_text(name) && is_text(value)) {
            return None;
        }
        // A cluster may have a retry policy of its own. The router obeys this, and does not send it on.
        headers.push("x-envoy-max-retries", "0");
        Some(Self { cluster, headers, body: Vec::new() })
    }
}

/// Fields by which a client could make Envoy's router try a call again, or give up on it early: the
/// policy's own timeout and exactly one attempt are what the outcome is judged by.
fn steers_router(name: &[u8]) -> bool {
    const NAMES: [&str; 11] = [
        "expect",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-max-retries",
        "x-envoy-retriable-header-names",
        "x-envoy-retriable-status-codes",
        "x-envoy-retry-grpc-on",
        "x-envoy-retry-on",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-rq-timeout-ms",
    ];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}
