//! What Redis keeps under one key.
//!
//! ```text
//! bytes  0      1      2..18   18..50       50..63             63..
//!       "1"   state    owner   fingerprint  end of the lease   the seal, then the stored response
//! ```
//!
//! The head is what the scripts read and compare; the end of the lease, in milliseconds of Redis's own
//! clock, is the only part that a script makes. The seal says all of the rest again, in the codec of
//! every store with its version and its checksum, and names the operation: a value that was changed,
//! copied under another key, or written by something else is found out, and never replayed. With
//! `store.redis.integrity_key` a keyed hash of what is behind the head ([`Integrity`]) stands at the end. Since the
//! seal says again what the head says, it covers all but the end of the lease.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::{
    record::{CodecError, Owner, StoredResponse, decode_head, encode},
    request::{Fingerprint, OperationId},
    store::{Ending, Settled, integrity::Integrity},
    time::Timestamp,
};

/// What is known of an operation, as Redis keeps it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct RedisRecord {
    pub(super) fingerprint: Fingerprint,
    /// When it was claimed, or when it ended, by the clock of the Envoy that says so.
    pub(super) at: Timestamp,
    pub(super) phase: SealedPhase<StoredResponse>,
}

/// How far its execution got, with what the seal says of its response, or what there is of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum SealedPhase<Response> {
    InFlight,
    Unknown,
    Completed(Response),
    NotKept { status: u16 },
}

/// The checksum of a response's bytes: the codec's own leaves out the body, which in shared data nobody but this filter
/// can reach.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
struct Checksum(u64);

/// The byte by which the scripts know how far an execution got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum PhaseByte {
    InFlight = b'i',
    Unknown = b'u',
    Completed = b'c',
    NotKept = b'n',
    /// Given back. The mark keeps a claim void that was asked for before, and reaches Redis later.
    Released = b'r',
}

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

/// What stands behind the head.
#[derive(Deserialize, Serialize)]
struct Seal {
    operation: OperationId,
    fingerprint: Fingerprint,
    owner: Owner,
    /// When it was claimed, or when it ended, by the clock of the Envoy that says so.
    at: Timestamp,
    phase: SealedPhase<Checksum>,
}

/// The tail of a claim's value.
pub(super) fn claimed(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    now: Timestamp,
) -> Result<Vec<u8>, CodecError> {
    seal(operation, fingerprint, owner, now, SealedPhase::InFlight)
}

/// How an execution ended: the state, the tail of the value, and what that makes of it. A response of
/// more than `max_record` bytes is not kept.
pub(super) fn ended(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    ending: &Ending,
    max_record: u64,
    now: Timestamp,
) -> Result<(PhaseByte, Vec<u8>, Settled), CodecError> {
    let seal = |phase| seal(operation, fingerprint, owner, now, phase);
    let not_kept = |status| Ok((PhaseByte::NotKept, seal(SealedPhase::NotKept { status })?, Settled::NotKept));
    match ending {
        Ending::Completed(response) => {
            let bytes = response.encode(operation, owner)?;
            if bytes.len() as u64 > max_record {
                return not_kept(response.status);
            }
            let mut tail = seal(SealedPhase::Completed(Checksum::of(&bytes)))?;
            tail.extend_from_slice(&bytes);
            Ok((PhaseByte::Completed, tail, Settled::Completed))
        }
        Ending::NotKept(status) => not_kept(*status),
        Ending::Released => Ok((PhaseByte::Released, Vec::new(), Settled::Released)),
        Ending::Unknown => Ok((PhaseByte::Unknown, seal(SealedPhase::Unknown)?, Settled::Unknown)),
    }
}

fn seal(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    at: Timestamp,
    phase: SealedPhase<Checksum>,
) -> Result<Vec<u8>, CodecError> {
    encode(&Seal { operation: *operation, fingerprint: *fingerprint, owner, at, phase })
}

impl Seal {
    /// Reads the seal behind a head; also gives what stands behind the seal.
    fn read<'a>(head: &ValueHead<'_>, tail: &'a [u8], operation: &OperationId) -> Result<(Self, &'a [u8]), Unreadable> {
        let (seal, rest) = decode_head::<Self>(tail)?;
        let is_as_sealed = seal.operation == *operation
            && seal.owner.to_bytes() == *head.owner
            && seal.fingerprint.as_bytes() == head.fingerprint
            && seal.phase.byte() as u8 == head.state;
        if is_as_sealed { Ok((seal, rest)) } else { Err(CodecError::Damaged.into()) }
    }
}

impl RedisRecord {
    /// Reads the value that was found for `operation`.
    pub(super) fn decode(value: &[u8], operation: &OperationId, integrity: &Integrity) -> Result<Self, Unreadable> {
        let (head, tail) = ValueHead::split(value)?;
        let (seal, rest) = Seal::read(&head, integrity.verify(operation, tail)?, operation)?;
        let phase = match seal.phase {
            SealedPhase::Completed(checksum) if checksum == Checksum::of(rest) => {
                SealedPhase::Completed(StoredResponse::decode(rest, operation, seal.owner)?)
            }
            SealedPhase::Completed(_) => return Err(CodecError::Damaged.into()),
            _ if !rest.is_empty() => return Err(CodecError::Damaged.into()),
            SealedPhase::InFlight => SealedPhase::InFlight,
            SealedPhase::Unknown => SealedPhase::Unknown,
            SealedPhase::NotKept { status } => SealedPhase::NotKept { status },
        };
        Ok(Self { fingerprint: seal.fingerprint, at: seal.at, phase })
    }
}

/// What the beginning of a value tells an operator, without the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RecordSummary {
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    /// By the clock of the Envoy that wrote it.
    pub(super) at: Timestamp,
    /// By the clock of Redis.
    pub(super) lease_until: Timestamp,
    pub(super) phase: PhaseByte,
    /// The status of the response, if it ran.
    pub(super) status: u16,
    /// Bytes of the stored response.
    pub(super) response_bytes: u64,
}

impl RecordSummary {
    /// Up to which byte of a value it reads, as Lua counts: head and seal, and the status behind them; to the last one,
    /// if that is where the hash of all of it ends.
    pub(super) fn last_byte(integrity: &Integrity) -> i64 {
        if integrity.is_configured() { -1 } else { 256 }
    }

    /// Reads the `beginning` of the value of `length` bytes that was found for `operation`; `None` if the operation was
    /// given back. Without a key, whether the response is whole shows only when it is replayed.
    pub(super) fn read(
        beginning: &[u8],
        length: u64,
        operation: &OperationId,
        integrity: &Integrity,
    ) -> Result<Option<Self>, Unreadable> {
        let (head, signed) = ValueHead::split(beginning)?;
        if head.state == PhaseByte::Released as u8 && signed.is_empty() {
            return Ok(None);
        }
        let tail = integrity.verify(operation, signed)?;
        let (seal, rest) = Seal::read(&head, tail, operation)?;
        let (status, response_bytes) = match seal.phase {
            SealedPhase::Completed(_) => {
                let status = StoredResponse::status_of(rest, operation, seal.owner)?;
                // Behind the head and the seal, and before the hash.
                let others = beginning.len() - rest.len();
                (status, length.saturating_sub(others as u64))
            }
            _ if !rest.is_empty() => return Err(CodecError::Damaged.into()),
            SealedPhase::NotKept { status } => (status, 0),
            SealedPhase::InFlight | SealedPhase::Unknown => (0, 0),
        };
        Ok(Some(Self {
            owner: seal.owner,
            fingerprint: seal.fingerprint,
            at: seal.at,
            lease_until: head.lease_until,
            phase: seal.phase.byte(),
            status,
            response_bytes,
        }))
    }
}

impl SealedPhase<Checksum> {
    fn byte(self) -> PhaseByte {
        match self {
            Self::InFlight => PhaseByte::InFlight,
            Self::Unknown => PhaseByte::Unknown,
            Self::Completed(_) => PhaseByte::Completed,
            Self::NotKept { .. } => PhaseByte::NotKept,
        }
    }
}

impl Checksum {
    /// Detects corruption, not tampering: anyone who can write to Redis can compute a valid checksum. See `integrity`.
    fn of(bytes: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(bytes);
        Self(hasher.finish())
    }
}

struct ValueHead<'a> {
    state: u8,
    owner: &'a [u8; 16],
    fingerprint: &'a [u8; 32],
    lease_until: Timestamp,
}

impl<'a> ValueHead<'a> {
    fn split(value: &'a [u8]) -> Result<(Self, &'a [u8]), Unreadable> {
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
            Some((ValueHead { state, owner, fingerprint, lease_until: Timestamp::from_millis(lease_until) }, rest))
        };
        parts().ok_or(Unreadable::Foreign)
    }
}

/// The first byte of a value.
const LAYOUT: u8 = b'1';

/// Enough for the milliseconds until the year 2286.
const LEASE_DIGITS: usize = 13;

#[cfg(test)]
mod tests;
