//! What the host knows of the call to the upstream. To be asked with the stream's context in effect.

use super::host;
use crate::{
    exchange::{Evidence, outcome},
    headers::Headers,
    worker::ActiveExchange,
};

/// What it knows now.
pub(super) fn of_stream(active: &ActiveExchange) -> Evidence {
    evidence(active, details(), attempts())
}

/// The same as far as it matters for a response that begins: each attribute costs the host about as much as all
/// fields of a message.
pub(super) fn of_response(active: &ActiveExchange, status: u16, headers: &Headers) -> Evidence {
    let details = if outcome::shows_upstream(headers) { Some(outcome::VIA_UPSTREAM.to_vec()) } else { details() };
    let asks_for_attempts =
        !outcome::is_answer(details.as_deref()) || outcome::may_release(status, headers, &active.policy().outcome);
    evidence(active, details, asks_for_attempts.then(attempts).flatten())
}

fn evidence(active: &ActiveExchange, details: Option<Vec<u8>>, attempts: Option<u64>) -> Evidence {
    Evidence {
        // An answer came over a connection; asking the host about it would cost as much as the rest.
        connected: outcome::is_answer(details.as_deref()) || has_connection(),
        details,
        attempts,
        redirected: active.was_redirected(),
    }
}

/// Where a response comes from, or why there is none.
fn details() -> Option<Vec<u8>> {
    host::property("response\0code_details")
}

/// How often the proxy has tried to send the request.
fn attempts() -> Option<u64> {
    host::integer_property("upstream\0request_attempt_count")
}

/// Whether the request has got a connection to the upstream.
///
/// Over a Unix domain socket there is no local address. The other attribute is as old as the attempt
/// count (Envoy 1.33), without which nothing counts as never sent.
fn has_connection() -> bool {
    host::property("upstream\0cx_pool_ready_duration").is_some() || host::property("upstream\0local_address").is_some()
}
