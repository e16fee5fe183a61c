//! The binary form of what is stored: a version byte, then `postcard`, then a checksum of both.
//!
//! The version stands first and alone, so that a reader knows a record of another release before it
//! reads on. A change of any encoded type is a new version; readers refuse what they do not know,
//! because a record that is misread could let an operation run twice. The checksum is there for the
//! same reason: `postcard` makes sense of most bytes, and a hash with one bit changed is another
//! operation's.

use std::hash::Hasher as _;

use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};
use siphasher::sip::SipHasher13;

/// The version that this release writes and reads.
pub const FORMAT_VERSION: u8 = 3;

/// Why stored bytes cannot be used.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are no record of this version: cut, changed, or written by something else.
    #[error("the stored bytes are damaged")]
    Damaged,
    /// Another release wrote the record.
    #[error("the record has format version {0}, this release reads {FORMAT_VERSION}")]
    Version(u8),
}

/// Encodes `value` behind the version byte.
///
/// # Errors
/// [`CodecError::Damaged`] for types that `postcard` cannot express.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    encode_into(Vec::with_capacity(SMALL), value)
}

/// The same in memory that has the right size already: `bytes` is empty, and what it can hold is kept.
pub(crate) fn encode_into(mut bytes: Vec<u8>, value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    bytes.push(FORMAT_VERSION);
    let mut bytes = postcard::serialize_with_flavor(value, Appended(bytes)).map_err(|_| CodecError::Damaged)?;
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

/// Decodes what [`encode`] wrote, and nothing else behind it.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match decode_head(bytes)? {
        (value, []) => Ok(value),
        _ => Err(CodecError::Damaged),
    }
}

/// Decodes what [`encode`] wrote; hands back the bytes behind it, too.
pub(crate) fn decode_head<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (value, rest) = decode_beginning(bytes)?;
    let encoded = bytes.get(..bytes.len() - rest.len()).ok_or(CodecError::Damaged)?;
    match rest.split_first_chunk() {
        Some((sum, rest)) if *sum == checksum(encoded) => Ok((value, rest)),
        _ => Err(CodecError::Damaged),
    }
}

/// Decodes the first fields of what [`encode`] wrote, unchecked: a hint, on which nothing may rest.
pub(crate) fn decode_beginning<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, rest)) => postcard::take_from_bytes(rest).map_err(|_| CodecError::Damaged),
        Some((&version, _)) => Err(CodecError::Version(version)),
        None => Err(CodecError::Damaged),
    }
}

/// Behind what the bytes are already. `postcard`'s own way to do this copies byte by byte.
struct Appended(Vec<u8>);

impl Flavor for Appended {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// What all but buckets and responses fit into, in bytes.
const SMALL: usize = 64;

/// Detects corruption, not tampering: anyone who can write to the store can compute a valid checksum.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    [a, b, c, d]
}
