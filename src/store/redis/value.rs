//! What Redis keeps under one key.
//!
//! ```text
//! bytes  0      1      2..18   18..50       50..63             63..
//!       "1"   state    owner   fingerprint  end of the lease   the seal, then the stored response
//! ```
//!
//! The head is what the scripts read and compare; the end of the lease, in milliseconds of Redis's own
//! clock, is the only part that a script makes. What stands behind it is what every remote store keeps
//! ([`entry`](crate::store::entry)).

use crate::{
    record::CodecError,
    request::OperationId,
    store::{
        entry::{Head, RecordSummary, RemoteRecord, Unreadable},
        integrity::Integrity,
    },
    time::Timestamp,
};

/// Reads the value that was found for `operation`.
pub(super) fn decode(value: &[u8], operation: &OperationId, integrity: &Integrity) -> Result<RemoteRecord, Unreadable> {
    let (head, tail) = split(value)?;
    RemoteRecord::read(&head, tail, operation, integrity)
}

/// Reads the `beginning` of the value of `length` bytes that was found for `operation`; `None` if the operation was given
/// back.
pub(super) fn summary(
    beginning: &[u8],
    length: u64,
    operation: &OperationId,
    integrity: &Integrity,
) -> Result<Option<RecordSummary>, Unreadable> {
    let (head, signed) = split(beginning)?;
    let head_length = beginning.len() - signed.len();
    RecordSummary::read(&head, signed, length.saturating_sub(head_length as u64), operation, integrity)
}

/// Up to which byte of a value a summary reads, as Lua counts: head and seal, and the status behind them; to the last one,
/// if that is where the hash of all of it ends.
pub(super) fn last_byte(integrity: &Integrity) -> i64 {
    if integrity.is_configured() { -1 } else { 256 }
}

fn split(value: &[u8]) -> Result<(Head<'_>, &[u8]), Unreadable> {
    match value.split_first() {
        Some((&LAYOUT, _)) => {}
        // The layouts of other releases begin with other digits.
        Some((digit @ b'2'..=b'9', _)) => return Err(CodecError::Version(digit - b'0').into()),
        _ => return Err(Unreadable::Foreign),
    }
    let parts = || {
        let (&state, rest) = value.get(1..)?.split_first()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (fingerprint, rest) = rest.split_first_chunk()?;
        let (lease, rest) = rest.split_first_chunk::<LEASE_DIGITS>()?;
        let digits = lease.iter().all(u8::is_ascii_digit).then_some(lease)?;
        let lease_until = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
        Some((Head { state, owner, fingerprint, lease_until: Timestamp::from_millis(lease_until) }, rest))
    };
    parts().ok_or(Unreadable::Foreign)
}

/// The first byte of a value.
const LAYOUT: u8 = b'1';

/// Enough for the milliseconds until the year 2286.
const LEASE_DIGITS: usize = 13;

#[cfg(test)]
mod tests;
