//! What a remote store keeps of one operation, whatever its shape there.
//!
//! The head is what the rules of the store read and compare: the state, the owner, the fingerprint, and the end of the
//! lease. The seal says all of it but the last again, in the codec of every store with its version and its checksum, and
//! names the operation: a record that was changed, copied under another key, or written by something else is found out,
//! and never replayed. The stored response stands behind it. With `integrity_key` a keyed hash of what is behind the head
//! ([`Integrity`]) stands at the end. Since the seal says again what the head says, it covers all but the end of the lease.

use std::{hash::Hasher as _, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{Claimed, Ending, Settled, integrity::Integrity};
use crate::{
    record::{CodecError, Owner, Standing, StoredResponse, View, decode_head, encode},
    request::{Fingerprint, OperationId},
    time::Timestamp,
};

/// What is known of an operation.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct RemoteRecord {
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

/// The byte by which the rules of a store know how far an execution got.
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

/// What the rules of a store read and compare.
pub(super) struct Head<'a> {
    pub(super) state: u8,
    pub(super) owner: &'a [u8; 16],
    pub(super) fingerprint: &'a [u8; 32],
    pub(super) lease_until: Timestamp,
}

/// Why a record is not read.
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

/// What stands behind the head of a claim.
pub(super) fn claimed(
    operation: &OperationId,
    fingerprint: &Fingerprint,
    owner: Owner,
    now: Timestamp,
) -> Result<Vec<u8>, CodecError> {
    seal(operation, fingerprint, owner, now, SealedPhase::InFlight)
}

/// How an execution ended: the state, what stands behind the head, and what that makes of it. A response of more than
/// `max_record` bytes is not kept.
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
    fn read<'a>(head: &Head<'_>, tail: &'a [u8], operation: &OperationId) -> Result<(Self, &'a [u8]), Unreadable> {
        let (seal, rest) = decode_head::<Self>(tail)?;
        let is_as_sealed = seal.operation == *operation
            && seal.owner.to_bytes() == *head.owner
            && seal.fingerprint.as_bytes() == head.fingerprint
            && seal.phase.byte() as u8 == head.state;
        if is_as_sealed { Ok((seal, rest)) } else { Err(CodecError::Damaged.into()) }
    }
}

impl RemoteRecord {
    /// Reads what was found for `operation`: its head, and what stands behind it.
    pub(super) fn read(
        head: &Head<'_>,
        signed: &[u8],
        operation: &OperationId,
        integrity: &Integrity,
    ) -> Result<Self, Unreadable> {
        let (seal, rest) = Seal::read(head, integrity.verify(operation, signed)?, operation)?;
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

    /// What a claim has met, by what is left of the lease and how long the record lives.
    pub(super) fn met_by(
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

/// What the beginning of a record tells an operator, without the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RecordSummary {
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    /// By the clock of the Envoy that wrote it.
    pub(super) at: Timestamp,
    /// By the clock of the store.
    pub(super) lease_until: Timestamp,
    pub(super) phase: PhaseByte,
    /// The status of the response, if it ran.
    pub(super) status: u16,
    /// Bytes of the stored response.
    pub(super) response_bytes: u64,
}

impl RecordSummary {
    /// Reads the head that was found for `operation`, and the beginning of the `length` bytes that stand behind it; `None`
    /// if the operation was given back. Without a key, whether the response is whole shows only when it is replayed.
    pub(super) fn read(
        head: &Head<'_>,
        signed: &[u8],
        length: u64,
        operation: &OperationId,
        integrity: &Integrity,
    ) -> Result<Option<Self>, Unreadable> {
        if head.state == PhaseByte::Released as u8 && signed.is_empty() {
            return Ok(None);
        }
        let (seal, rest) = Seal::read(head, integrity.verify(operation, signed)?, operation)?;
        let (status, response_bytes) = match seal.phase {
            SealedPhase::Completed(_) => {
                let status = StoredResponse::status_of(rest, operation, seal.owner)?;
                // Behind the seal, and before the hash.
                let others = signed.len() - rest.len();
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

    /// What an operator is told, by what is left of the lease, the store's clock and how long the record lives.
    pub(super) fn view(&self, lease_left: Duration, clock: Timestamp, lives: Duration, now: Timestamp) -> View {
        let standing = match self.phase {
            PhaseByte::InFlight if lease_left.is_zero() => Standing::Lapsed,
            PhaseByte::InFlight => Standing::InFlight { lease_left },
            PhaseByte::Completed => Standing::Completed { status: self.status },
            PhaseByte::NotKept => Standing::NotKept { status: self.status },
            PhaseByte::Unknown | PhaseByte::Released => Standing::Unknown { lease_left },
        };
        let age = match standing {
            Standing::Lapsed => clock.since(self.lease_until),
            _ => now.since(self.at),
        };
        View { standing, age, expires: now.after(lives), response_bytes: self.response_bytes }
    }
}

impl PhaseByte {
    /// The one that was judged as this.
    pub(super) fn of(standing: Standing) -> Self {
        match standing {
            Standing::InFlight { .. } | Standing::Lapsed => Self::InFlight,
            Standing::Unknown { .. } => Self::Unknown,
            Standing::Completed { .. } => Self::Completed,
            Standing::NotKept { .. } => Self::NotKept,
        }
    }

    /// The same as text.
    pub(super) const fn letter(self) -> &'static str {
        match self {
            Self::InFlight => "i",
            Self::Unknown => "u",
            Self::Completed => "c",
            Self::NotKept => "n",
            Self::Released => "r",
        }
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
