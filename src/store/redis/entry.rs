//! What Redis keeps under one key.
//!
//! ```text
//! bytes  0      1      2..18   18..50       50..63             63..
//!       "1"   state    owner   fingerprint  end of the lease   the seal, then the stored response
//! ```
//!
//! The head is what the scripts read and compare; the end of the lease, in milliseconds of Redis's own clock, is the only
//! part that a script makes. What is behind it is in [`seal`](crate::store::seal).

use crate::{
    record::CodecError,
    request::OperationId,
    store::{
        integrity::Integrity,
        seal::{Head, SealedRecord, SealedSummary},
    },
    time::Timestamp,
};

/// Why a value is not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unreadable {
    /// It does not look like one of ours.
    Foreign,
    /// It does, and cannot be trusted.
    Codec(CodecError),
}

impl From<CodecError> for Unreadable {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

/// Reads the value that was found for `operation`.
pub(super) fn record(value: &[u8], operation: &OperationId, integrity: &Integrity) -> Result<SealedRecord, Unreadable> {
    let (head, _, signed) = split(value)?;
    Ok(SealedRecord::open(&head, signed, operation, integrity)?)
}

/// Up to which byte of a value [`summary`] reads, as Lua counts.
pub(super) fn last_byte(integrity: &Integrity) -> i64 {
    SealedSummary::length(integrity).map_or(-1, |length| HEAD as i64 + i64::from(length))
}

/// Reads the `beginning` of the value of `length` bytes that was found for `operation`, and the end of its lease by the
/// clock of Redis; `None` if the operation was given back.
pub(super) fn summary(
    beginning: &[u8],
    length: u64,
    operation: &OperationId,
    integrity: &Integrity,
) -> Result<Option<(Timestamp, SealedSummary)>, Unreadable> {
    let (head, lease_until, signed) = split(beginning)?;
    let summary = SealedSummary::read(&head, signed, length.saturating_sub(HEAD as u64), operation, integrity)?;
    Ok(summary.map(|summary| (lease_until, summary)))
}

/// The head of a value, the end of the lease, and what is behind them.
fn split(value: &[u8]) -> Result<(Head<'_>, Timestamp, &[u8]), Unreadable> {
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
        Some((Head { state, owner, fingerprint }, Timestamp::from_millis(lease_until), rest))
    };
    parts().ok_or(Unreadable::Foreign)
}

/// The first byte of a value.
const LAYOUT: u8 = b'1';

/// Bytes of a head.
const HEAD: usize = 63;

/// Enough for the milliseconds until the year 2286.
const LEASE_DIGITS: usize = 13;

#[cfg(test)]
mod tests;
