//! What an upstream call came to: what the proxy knows and an application behind it cannot.
//!
//! Decided on the response code's details and the number of attempts, never on the status alone: a 503
//! of the upstream and a 503 that Envoy made up look alike to a client.

use crate::{
    config::{Disposition, OutcomePolicy},
    headers::Headers,
};

use super::POLICY_HEADER;

/// What the host says about the upstream call.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Evidence {
    /// `response.code_details`.
    pub details: Option<Vec<u8>>,
    /// `upstream.request_attempt_count`: 0 while nothing was tried, more than 1 after router retries.
    pub attempts: Option<u64>,
    /// Whether there is an `upstream.local_address`: a connection to the upstream was made.
    pub connected: bool,
}

/// How far the request got.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Delivery {
    /// The upstream answered.
    Answered,
    /// The request certainly never left the proxy, or was refused unprocessed.
    NeverSent,
    /// It left, or may have left, and nothing certain came back.
    Uncertain,
}

impl Evidence {
    /// What is known when response headers arrive: they are the upstream's or the proxy's own.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        let details = self.details.as_deref().unwrap_or_default();
        match self.attempts {
            // First of all, so that no count can turn an answer into a request that was never sent.
            _ if details == VIA_UPSTREAM => Delivery::Answered,
            Some(0) => Delivery::NeverSent,
            // Only the last attempt is described; an earlier one may have been executed.
            Some(1) if is_certainly_unprocessed(details) => Delivery::NeverSent,
            _ => Delivery::Uncertain,
        }
    }

    /// What is known when the stream ended before any response headers.
    #[must_use]
    pub fn delivery_without_response(&self) -> Delivery {
        match self.attempts {
            // The upstream answered, and its answer got lost on the way here.
            _ if self.details.as_deref() == Some(VIA_UPSTREAM) => Delivery::Uncertain,
            Some(0) => Delivery::NeverSent,
            // Chosen a host, still waiting for a connection to it.
            Some(1) if !self.connected => Delivery::NeverSent,
            _ => Delivery::Uncertain,
        }
    }

    /// Whether the stream ended because Envoy follows a redirect itself, with another stream.
    #[must_use]
    pub fn is_internal_redirect(&self) -> bool {
        self.details.as_deref() == Some(b"internal_redirect")
    }

    /// Whether the router tried more than once, so that an earlier attempt may have been executed.
    #[must_use]
    pub fn was_retried(&self) -> bool {
        self.attempts.is_none_or(|attempts| attempts > 1)
    }
}

/// The details of each answer that is the upstream's own.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// Whether details of a failed only attempt say that the upstream cannot have processed the request.
fn is_certainly_unprocessed(details: &[u8]) -> bool {
    /// Envoy's `StreamResetReason`s that precede the request: no connection, no room for one, or the
    /// upstream's promise that it did nothing (`REFUSED_STREAM`, RFC 9113, section 8.7).
    const REASONS: [&[u8]; 6] = [
        b"connection_failure",
        b"connection_timeout",
        b"local_connection_failure",
        b"overflow",
        b"remote_connection_failure",
        b"remote_refused_stream_reset",
    ];
    if matches!(details, b"cluster_not_found" | b"maintenance_mode" | b"no_healthy_upstream") {
        return true;
    }
    details
        .strip_prefix(b"upstream_reset_before_response_started{")
        .and_then(|rest| rest.split(|byte| matches!(byte, b'|' | b'}')).next())
        .is_some_and(|reason| REASONS.contains(&reason))
}

/// What is to be done with an answer of the upstream.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Keep the response.
    Store,
    /// Keep the fact that there was one.
    Tombstone,
    /// Let a retry execute.
    Release,
    /// It may have been executed, whatever the answer says.
    Unknown,
}

/// Judges an answer of the upstream: its own word first ([`POLICY_HEADER`]), else the policy's.
///
/// A `status` below 100 is none (RFC 9110, section 15): the host could not say what the answer was.
#[must_use]
pub fn judge(status: u16, headers: &Headers, evidence: &Evidence, policy: &OutcomePolicy) -> Verdict {
    if status < 100 {
        return Verdict::Unknown;
    }
    let declared = headers.get(POLICY_HEADER).and_then(|value| match value.trim_ascii() {
        b"store" => Some(Verdict::Store),
        b"no-store" => Some(Verdict::Tombstone),
        b"release" => Some(Verdict::Release),
        b"unknown" => Some(Verdict::Unknown),
        _ => None,
    });
    let verdict = declared.unwrap_or_else(|| match policy.disposition(status) {
        Disposition::Store => Verdict::Store,
        Disposition::Release => Verdict::Release,
        Disposition::Unknown => Verdict::Unknown,
    });
    match verdict {
        // "Not executed" is true of the last attempt only.
        Verdict::Release if evidence.was_retried() => Verdict::Unknown,
        verdict => verdict,
    }
}
