//! Makes bytes look like what the codec writes, so that a fuzzer gets past the checksum.

use std::hash::Hasher as _;

use idemgate::record::FORMAT_VERSION;
use siphasher::sip::SipHasher13;

/// `payload` with the version in front and the right checksum behind it.
pub(crate) fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[FORMAT_VERSION], payload].concat();
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes);
    bytes.extend_from_slice(&hasher.finish().to_le_bytes()[..4]);
    bytes
}

/// A record of a remote store, from its seal without the checksum, a `|`, and the stored response.
pub(crate) fn sealed_record(bytes: &[u8]) -> Vec<u8> {
    let (seal, response) = bytes.split_at(bytes.iter().position(|byte| *byte == b'|').unwrap_or(bytes.len()));
    [&sealed(seal), response.strip_prefix(b"|").unwrap_or_default()].concat()
}

/// What [`sealed`] was made from.
pub(crate) fn unsealed(bytes: &[u8]) -> &[u8] {
    &bytes[1..bytes.len() - 4]
}
