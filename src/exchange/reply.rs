//! Answers that the filter gives itself: problems and replays.

use std::{ops::Deref, sync::Arc};

use super::vocabulary::{EXPIRES_HEADER, POLICY_HEADER, STATUS_HEADER, Status};
use crate::{
    config::Policy,
    headers::{Headers, is_framing},
    record::StoredResponse,
    time::Timestamp,
};

/// A whole response of the filter's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// All fields but those that the host adds (`content-length`, `date`, `server`).
    pub headers: Headers,
    /// The body's bytes.
    pub body: ReplyBody,
    /// What access logs show as the response code's details.
    pub details: &'static str,
}

/// The bytes of a body.
#[derive(Clone, Debug)]
pub enum ReplyBody {
    /// Of an answer that is given once.
    Own(Vec<u8>),
    /// Of a response that may be replayed again: it is not copied.
    Stored(Arc<StoredResponse>),
}

impl Reply {
    /// The stored response, marked as a replay.
    #[must_use]
    pub fn replay(response: Arc<StoredResponse>, expires: Timestamp, policy: &Policy) -> Self {
        // Filtered when it was stored, and again by the policy of today.
        let mut headers = replayable(&response.headers, policy);
        headers.push(policy.replay.header.as_str(), "true");
        headers.push(EXPIRES_HEADER, expires.to_rfc3339());
        if policy.status_header {
            headers.push(STATUS_HEADER, Status::Replayed.as_str());
        }
        let (status, body) = (response.status, ReplyBody::Stored(response));
        Self { status, headers, body, details: "idemgate_replay" }
    }

    /// What it takes, here or in Envoy's hands.
    pub(super) fn footprint(&self) -> u64 {
        (self.body.len() + self.headers.byte_len()) as u64
    }
}

impl Deref for ReplyBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Stored(response) => &response.body,
        }
    }
}

impl From<Vec<u8>> for ReplyBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes)
    }
}

/// Bodies are equal if their bytes are, whether owned or shared.
impl PartialEq for ReplyBody {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ReplyBody {}

/// Whether the host can send these fields, and the marks of a replay, in a local reply. Envoy sends none of more than
/// 1,024 fields or 1 MiB, and says that it did.
pub(super) fn is_sendable(headers: &Headers) -> bool {
    const MOST_FIELDS: usize = 1024;
    const MOST_BYTES: usize = 1 << 20;
    /// Of each field besides its name and value.
    const FRAME: usize = 10;
    let fields = headers.len() + MARKS;
    fields <= MOST_FIELDS && headers.byte_len() + MARKS * MARK_BYTES + fields * FRAME <= MOST_BYTES
}

/// The names of the fields by which the filter speaks of a response. No request takes them to the service.
pub(super) fn own_fields(policy: &Policy) -> [&str; 4] {
    [STATUS_HEADER, POLICY_HEADER, EXPIRES_HEADER, &policy.replay.header]
}

/// The fields of a response that a replay may carry, in their order.
#[must_use]
pub fn replayable(headers: &Headers, policy: &Policy) -> Headers {
    let mut replayable = Headers::with_capacity(headers.len() + MARKS, headers.byte_len() + MARKS * MARK_BYTES);
    for (name, value) in end_to_end(headers).filter(|(name, _)| policy.replay.allows(name)) {
        replayable.push(name, value);
    }
    replayable
}

/// How many fields a replay has besides those that were stored.
const MARKS: usize = 3;

/// What such a field takes, as a rule.
const MARK_BYTES: usize = 40;

/// The fields of a message that are not for one hop alone (RFC 9110, section 7.6.1), without those that
/// frame its body: they are made anew when it is sent on.
pub(super) fn end_to_end(headers: &Headers) -> impl Iterator<Item = (&[u8], &[u8])> {
    let named_by_connection: Vec<Vec<u8>> = headers
        .get_all("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect();
    headers.iter().filter(move |(name, _)| {
        !is_framing(name)
            && *name != b":status"
            && !named_by_connection.iter().any(|other| name.eq_ignore_ascii_case(other))
    })
}
