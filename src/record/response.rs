//! The upstream's response as it is kept for replays.

use serde::{Deserialize, Serialize};

use super::{
    codec::{CodecError, decode_beginning, decode_head, encode_into},
    owner::Owner,
};
use crate::{headers::Headers, request::OperationId};

/// A response that can be replayed.
///
/// Stored apart from its record, so it says whose it is: a reader that finds another operation or
/// owner here must not use it.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct StoredResponse {
    /// The status code.
    pub status: u16,
    /// The fields that may be replayed, in order.
    pub headers: Headers,
    /// The body's bytes, in the `content-encoding` that the fields name.
    pub body: Vec<u8>,
}

impl StoredResponse {
    /// The binary form, bound to the execution that it came from.
    ///
    /// # Errors
    /// [`CodecError`] if it cannot be encoded.
    pub fn encode(&self, operation: &OperationId, owner: Owner) -> Result<Vec<u8>, CodecError> {
        let head =
            Head { operation: *operation, owner, status: self.status, headers: &self.headers, body: self.body.len() };
        // The body is copied once: into memory that holds all of it.
        let fields = self.headers.byte_len() + self.headers.len() * FIELD_BYTES;
        let mut bytes = encode_into(Vec::with_capacity(HEAD_BYTES + fields + self.body.len()), &head)?;
        // The body follows as it is: a serializer would copy it byte by byte.
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not a whole response of this very execution, or none that HTTP knows.
    pub fn decode(bytes: &[u8], operation: &OperationId, owner: Owner) -> Result<Self, CodecError> {
        let (head, body) = decode_head::<OwnedHead>(bytes)?;
        if head.operation != *operation || head.owner != owner || head.body != body.len() {
            return Err(CodecError::Damaged);
        }
        let response = Self { status: head.status, headers: head.headers, body: body.to_vec() };
        // A checksum keeps out accidents. Somebody who can write to the store is kept from what is worse than a made-up
        // answer: one that splits the connection, and so answers the next request on it.
        if response.is_well_formed() { Ok(response) } else { Err(CodecError::Damaged) }
    }

    /// Whether it is a final response of HTTP (RFC 9110): its status, a body only where there can be one, names that are
    /// tokens, and values without control characters other than tabs.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        const NO_CONTENT: u16 = 204;
        const NOT_MODIFIED: u16 = 304;

        (200..=599).contains(&self.status)
            && (self.body.is_empty() || !matches!(self.status, NO_CONTENT | NOT_MODIFIED))
            && self.headers.iter().all(|(name, value)| is_field_name(name) && value.iter().all(is_in_field_value))
    }

    /// The status of the response that `bytes` begin with; the rest of it may be missing.
    ///
    /// # Errors
    /// [`CodecError`] if it is not one of this very execution.
    pub(crate) fn status_of(bytes: &[u8], operation: &OperationId, owner: Owner) -> Result<u16, CodecError> {
        let (beginning, _) = decode_beginning::<Beginning>(bytes)?;
        let is_its_own = beginning.operation == *operation && beginning.owner == owner;
        if is_its_own { Ok(beginning.status) } else { Err(CodecError::Damaged) }
    }

    /// Whether `bytes` look like a response of `owner`, without reading all of it.
    pub(crate) fn belongs_to(bytes: &[u8], owner: Owner) -> bool {
        decode_beginning::<Provenance>(bytes).is_ok_and(|(provenance, _)| provenance.owner == owner)
    }
}

impl std::fmt::Debug for StoredResponse {
    /// Neither fields nor body: they are the caller's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .finish()
    }
}

fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_in_field_value(byte: &u8) -> bool {
    !byte.is_ascii_control() || *byte == b'\t'
}

/// What a response takes besides its fields and its body, at most: operation, owner, numbers, version and checksum.
const HEAD_BYTES: usize = 96;

/// What a field takes besides its bytes, as a rule: the lengths of its name and its value.
const FIELD_BYTES: usize = 3;

// `Head` and `OwnedHead` share one layout, and `Provenance` and `Beginning` are how it begins.

#[derive(Serialize)]
struct Head<'a> {
    operation: OperationId,
    owner: Owner,
    status: u16,
    headers: &'a Headers,
    body: usize,
}

#[derive(Deserialize)]
struct OwnedHead {
    operation: OperationId,
    owner: Owner,
    status: u16,
    headers: Headers,
    body: usize,
}

#[derive(Deserialize)]
struct Provenance {
    #[serde(rename = "operation")]
    _operation: OperationId,
    owner: Owner,
}

#[derive(Deserialize)]
struct Beginning {
    operation: OperationId,
    owner: Owner,
    status: u16,
}
