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
pub(super) struct Entry {
    pub(super) fingerprint: Fingerprint,
    pub(super) standing: Standing,
}

/// How far its execution got.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Standing {
    InFlight,
    Unknown,
    Completed(StoredResponse),
    NotKept { status: u16 },
}

/// The byte by which the scripts know how far an execution got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum State {
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
    phase: Phase,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
enum Phase {
    InFlight,
    Unknown,
    /// With the checksum of the response's bytes: the codec's own leaves out the body, which in shared data
    /// nobody but this filter can reach.
    Completed {
        checksum: u64,
    },
    NotKept {
        status: u16,
    },
}

/// The tail of a claim's value.
pub(super) fn claimed(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    now: Timestamp,
) -> Result<Vec<u8>, CodecError> {
    seal(operation, fingerprint, owner, now, Phase::InFlight)
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
) -> Result<(State, Vec<u8>, Settled), CodecError> {
    let seal = |phase| seal(operation, fingerprint, owner, now, phase);
    let not_kept = |status| Ok((State::NotKept, seal(Phase::NotKept { status })?, Settled::Tombstoned));
    match ending {
        Ending::Completed(response) => {
            let bytes = response.encode(operation, owner)?;
            if bytes.len() as u64 > max_record {
                return not_kept(response.status);
            }
            let checksum = checksum(&bytes);
            let mut tail = seal(Phase::Completed { checksum })?;
            tail.extend_from_slice(&bytes);
            Ok((State::Completed, tail, Settled::Stored))
        }
        Ending::NotKept(status) => not_kept(*status),
        Ending::Released => Ok((State::Released, Vec::new(), Settled::Released)),
        Ending::Unknown => Ok((State::Unknown, seal(Phase::Unknown)?, Settled::Unknown)),
    }
}

fn seal(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    at: Timestamp,
    phase: Phase,
) -> Result<Vec<u8>, CodecError> {
    encode(&Seal { operation: *operation, fingerprint: *fingerprint, owner, at, phase })
}

impl Seal {
    /// Reads the seal behind a head; also gives what stands behind the seal.
    fn read<'a>(head: &Head<'_>, tail: &'a [u8], operation: &OperationId) -> Result<(Self, &'a [u8]), Unreadable> {
        let (seal, rest) = decode_head::<Self>(tail)?;
        let is_as_sealed = seal.operation == *operation
            && seal.owner.to_bytes() == *head.owner
            && seal.fingerprint.as_bytes() == head.fingerprint
            && seal.phase.state() as u8 == head.state;
        if is_as_sealed { Ok((seal, rest)) } else { Err(CodecError::Damaged.into()) }
    }
}

impl Entry {
    /// Reads the value that was found for `operation`.
    pub(super) fn decode(value: &[u8], operation: &OperationId, integrity: &Integrity) -> Result<Self, Unreadable> {
        let (head, tail) = Head::split(value)?;
        let (seal, rest) = Seal::read(&head, integrity.verify(operation, tail)?, operation)?;
        let standing = match seal.phase {
            Phase::Completed { checksum: sum } if sum == checksum(rest) => {
                Standing::Completed(StoredResponse::decode(rest, operation, seal.owner)?)
            }
            Phase::Completed { .. } => return Err(CodecError::Damaged.into()),
            _ if !rest.is_empty() => return Err(CodecError::Damaged.into()),
            Phase::InFlight => Standing::InFlight,
            Phase::Unknown => Standing::Unknown,
            Phase::NotKept { status } => Standing::NotKept { status },
        };
        Ok(Self { fingerprint: seal.fingerprint, standing })
    }
}

/// What the beginning of a value tells an operator, without the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Glimpse {
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    /// By the clock of the Envoy that wrote it.
    pub(super) at: Timestamp,
    /// By the clock of Redis.
    pub(super) lease_until: Timestamp,
    pub(super) state: State,
    /// The status of the response, if it ran.
    pub(super) status: u16,
    /// Bytes of the stored response.
    pub(super) response_bytes: u64,
}

impl Glimpse {
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
        let (head, signed) = Head::split(beginning)?;
        if head.state == State::Released as u8 && signed.is_empty() {
            return Ok(None);
        }
        let tail = integrity.verify(operation, signed)?;
        let (seal, rest) = Seal::read(&head, tail, operation)?;
        let (status, response_bytes) = match seal.phase {
            Phase::Completed { .. } => {
                let status = StoredResponse::status_of(rest, operation, seal.owner)?;
                // Behind the head and the seal, and before the hash.
                let others = beginning.len() - rest.len();
                (status, length.saturating_sub(others as u64))
            }
            _ if !rest.is_empty() => return Err(CodecError::Damaged.into()),
            Phase::NotKept { status } => (status, 0),
            Phase::InFlight | Phase::Unknown => (0, 0),
        };
        Ok(Some(Self {
            owner: seal.owner,
            fingerprint: seal.fingerprint,
            at: seal.at,
            lease_until: head.lease_until,
            state: seal.phase.state(),
            status,
            response_bytes,
        }))
    }
}

impl Phase {
    fn state(self) -> State {
        match self {
            Self::InFlight => State::InFlight,
            Self::Unknown => State::Unknown,
            Self::Completed { .. } => State::Completed,
            Self::NotKept { .. } => State::NotKept,
        }
    }
}

/// Detects corruption, not tampering: anyone who can write to Redis can compute a valid checksum. See `integrity`.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

struct Head<'a> {
    state: u8,
    owner: &'a [u8; 16],
    fingerprint: &'a [u8; 32],
    lease_until: Timestamp,
}

impl<'a> Head<'a> {
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
            Some((Head { state, owner, fingerprint, lease_until: Timestamp::from_millis(lease_until) }, rest))
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
