//! How an array of bytes is stored: in one piece (`#[serde(with = "fixed_bytes")]`).
//!
//! By itself serde takes an array element by element, and every claim reads and writes several hashes.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; N], D::Error> {
    let bytes = <&[u8]>::deserialize(deserializer)?;
    bytes.try_into().map_err(|_| D::Error::invalid_length(bytes.len(), &"as many bytes as were written"))
}
