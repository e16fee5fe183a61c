//! The calls that the tests of remote stores make, all about one operation.

use std::time::Duration;

use super::{Call, Ending};
use crate::{
    config::Share,
    headers::Headers,
    record::{Claim, Owner, StoredResponse},
    request::{Caller, Fingerprint, OperationId},
    time::Timestamp,
};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(super) const LEASE: Duration = Duration::from_secs(30);
pub(super) const TTL: Duration = Duration::from_secs(600);
pub(super) const OPERATION: OperationId = OperationId::from_bytes([1; 32]);
pub(super) const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([9; 32]);
pub(super) const OWNER: Owner = Owner::new(1);

pub(super) fn claim() -> Call {
    Call::Claim(Claim {
        operation: OPERATION,
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: FINGERPRINT,
        owner: OWNER,
        lease: LEASE,
        ttl: TTL,
        retry_unknown: false,
        watcher: None,
    })
}

pub(super) fn renew() -> Call {
    Call::Renew { operation: OPERATION, owner: OWNER, lease: LEASE, ttl: TTL }
}

pub(super) fn settle(ending: Ending) -> Call {
    Call::Settle { operation: OPERATION, fingerprint: FINGERPRINT, owner: OWNER, ending, lease: LEASE, ttl: TTL }
}

pub(super) fn completed() -> Call {
    settle(Ending::Completed(StoredResponse { status: 201, headers: Headers::new(), body: b"x".to_vec() }))
}
