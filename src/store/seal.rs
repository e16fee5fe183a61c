//! What a remote store keeps of an operation besides the few values that its rules read and compare, the [`Head`]: the
//! seal, and behind it the stored response.
//!
//! The seal says again what the head says, in the codec of every store with its version and its checksum, and names the
//! operation: a record that was changed, copied to another operation, or written by something else is found out, and never
//! replayed. With an `integrity_key` a keyed hash of all of it ([`Integrity`]) stands at the end. Since the seal says again
//! what the head says, it covers all but the times that the store keeps by its own clock.

use std::{hash::Hasher as _, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{Claimed, Ending, Settled, integrity::Integrity};
use crate::{
    record::{CodecError, Owner, Standing, StoredResponse, View, decode_head, encode},
    request::{Fingerprint, OperationId},
    time::Timestamp,
};

/// The part of a record that the rules of a store read, as it was found there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head<'a> {
    pub(super) state: u8,
    pub(super) owner: &'a [u8; 16],
    pub(super) fingerprint: &'a [u8; 32],
}

/// The byte by which the rules know how far an execution got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum PhaseByte {
    InFlight = b'i',
    Unknown = b'u',
    Completed = b'c',
    NotKept = b'n',
    /// Given back. The mark keeps a claim void that was asked for before, and reaches the store later.
    Released = b'r',
}

/// What is known of an operation.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct SealedRecord {
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

/// What stands in front of the stored response.
#[derive(Deserialize, Serialize)]
struct Seal {
    operation: OperationId,
    fingerprint: Fingerprint,
    owner: Owner,
    /// When it was claimed, or when it ended, by the clock of the Envoy that says so.
    at: Timestamp,
    phase: SealedPhase<Checksum>,
}

/// The seal of a claim.
pub(super) fn claimed(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    now: Timestamp,
) -> Result<Vec<u8>, CodecError> {
    seal(operation, fingerprint, owner, now, SealedPhase::InFlight)
}

/// How an execution ended: the state, what is sealed, and what that makes of it. A response of more than `max_record`
/// bytes is not kept.
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
            let mut sealed = seal(SealedPhase::Completed(Checksum::of(&bytes)))?;
            sealed.extend_from_slice(&bytes);
            Ok((PhaseByte::Completed, sealed, Settled::Completed))
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
    /// Reads the seal that belongs to a head; also gives what stands behind it.
    fn read<'a>(head: &Head<'_>, sealed: &'a [u8], operation: &OperationId) -> Result<(Self, &'a [u8]), CodecError> {
        let (seal, rest) = decode_head::<Self>(sealed)?;
        let is_as_sealed = seal.operation == *operation
            && seal.owner.to_bytes() == *head.owner
            && seal.fingerprint.as_bytes() == head.fingerprint
            && seal.phase.byte() as u8 == head.state;
        if is_as_sealed { Ok((seal, rest)) } else { Err(CodecError::Damaged) }
    }
}

impl SealedRecord {
    /// Reads what was found for `operation`.
    pub(super) fn open(
        head: &Head<'_>,
        signed: &[u8],
        operation: &OperationId,
        integrity: &Integrity,
    ) -> Result<Self, CodecError> {
        let (seal, rest) = Seal::read(head, integrity.verify(operation, signed)?, operation)?;
        let phase = match seal.phase {
            SealedPhase::Completed(checksum) if checksum == Checksum::of(rest) => {
                SealedPhase::Completed(StoredResponse::decode(rest, operation, seal.owner)?)
            }
            SealedPhase::Completed(_) => return Err(CodecError::Damaged),
            _ if !rest.is_empty() => return Err(CodecError::Damaged),
            SealedPhase::InFlight => SealedPhase::InFlight,
            SealedPhase::Unknown => SealedPhase::Unknown,
            SealedPhase::NotKept { status } => SealedPhase::NotKept { status },
        };
        Ok(Self { fingerprint: seal.fingerprint, at: seal.at, phase })
    }

    /// What it says to a claim with this fingerprint, by what the store says is left of its lease and its life.
    pub(super) fn answer(
        self,
        fingerprint: &Fingerprint,
        lease_left: Duration,
        lives: Duration,
        now: Timestamp,
    ) -> Claimed {
        if self.fingerprint != *fingerprint {
            return Claimed::KeyReused;
        }
        match self.phase {
            SealedPhase::InFlight if !lease_left.is_zero() => Claimed::InFlight { age: now.since(self.at), lease_left },
            SealedPhase::InFlight | SealedPhase::Unknown => Claimed::Unknown { lease_left },
            SealedPhase::Completed(response) => {
                Claimed::Completed { response: Arc::new(response), expires: now.after(lives) }
            }
            SealedPhase::NotKept { status } => Claimed::NotKept { status },
        }
    }
}

/// What a record tells an operator, without the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SealedSummary {
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    /// By the clock of the Envoy that wrote it.
    pub(super) at: Timestamp,
    pub(super) phase: PhaseByte,
    /// The status of the response, if it ran.
    pub(super) status: u16,
    /// Bytes of the stored response.
    pub(super) response_bytes: u64,
}

impl SealedSummary {
    /// How much of what is sealed it reads: the seal, and the status behind it; `None` for all of it, if that is where
    /// the hash of all of it ends.
    pub(super) fn length(integrity: &Integrity) -> Option<u32> {
        (!integrity.is_configured()).then_some(200)
    }

    /// Reads the `beginning` of the `length` bytes that were sealed for `operation`; `None` if the operation was given
    /// back. Without a key, whether the response is whole shows only when it is replayed.
    pub(super) fn read(
        head: &Head<'_>,
        beginning: &[u8],
        length: u64,
        operation: &OperationId,
        integrity: &Integrity,
    ) -> Result<Option<Self>, CodecError> {
        if head.state == PhaseByte::Released as u8 && beginning.is_empty() {
            return Ok(None);
        }
        let sealed = integrity.verify(operation, beginning)?;
        let (seal, rest) = Seal::read(head, sealed, operation)?;
        let (status, response_bytes) = match seal.phase {
            SealedPhase::Completed(_) => {
                let status = StoredResponse::status_of(rest, operation, seal.owner)?;
                // Behind the seal, and before the hash.
                let others = beginning.len() - rest.len();
                (status, length.saturating_sub(others as u64))
            }
            _ if !rest.is_empty() => return Err(CodecError::Damaged),
            SealedPhase::NotKept { status } => (status, 0),
            SealedPhase::InFlight | SealedPhase::Unknown => (0, 0),
        };
        Ok(Some(Self {
            owner: seal.owner,
            fingerprint: seal.fingerprint,
            at: seal.at,
            phase: seal.phase.byte(),
            status,
            response_bytes,
        }))
    }

    /// What an operator is told, by what the store says is left of the lease, or how long ago it ended, and how long the
    /// record lives.
    pub(super) fn view(&self, lease_left: Duration, lapsed: Duration, lives: Duration, now: Timestamp) -> View {
        let standing = match self.phase {
            PhaseByte::InFlight if lease_left.is_zero() => Standing::Lapsed,
            PhaseByte::InFlight => Standing::InFlight { lease_left },
            PhaseByte::Completed => Standing::Completed { status: self.status },
            PhaseByte::NotKept => Standing::NotKept { status: self.status },
            PhaseByte::Unknown | PhaseByte::Released => Standing::Unknown { lease_left },
        };
        let age = match standing {
            Standing::Lapsed => lapsed,
            _ => now.since(self.at),
        };
        View { standing, age, expires: now.after(lives), response_bytes: self.response_bytes }
    }
}

impl PhaseByte {
    /// The state of a record that an operator sees so.
    pub(super) fn of(standing: Standing) -> Self {
        match standing {
            Standing::InFlight { .. } | Standing::Lapsed => Self::InFlight,
            Standing::Unknown { .. } => Self::Unknown,
            Standing::Completed { .. } => Self::Completed,
            Standing::NotKept { .. } => Self::NotKept,
        }
    }

    /// What is stored behind a head in this state. Behind the mark of a release nothing is.
    pub(super) fn signed(self, operation: &OperationId, sealed: Vec<u8>, integrity: &Integrity) -> Vec<u8> {
        if self == Self::Released { sealed } else { integrity.sign(operation, sealed) }
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
    /// Detects corruption, not tampering: anyone who can write to the store can compute a valid checksum. See `integrity`.
    fn of(bytes: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(bytes);
        Self(hasher.finish())
    }
}

/// How long the mark of a record that was taken away is kept at least: as long as an execution may conceivably take
/// whose owner is to be fenced when it ends.
pub(super) const MARK_KEPT: Duration = Duration::from_hours(24);
