//! The calls that the stores are asked in the properties, all about one operation.

use std::time::Duration;

use idemgate::{
    config::Share,
    headers::Headers,
    record::{Claim, Owner, StoredResponse},
    request::{Caller, Fingerprint, OperationId},
    store::{Call, Ending},
    time::Timestamp,
};

pub(crate) const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([9; 32]);
pub(crate) const OWNER: Owner = Owner::new(7);
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(60);

pub(crate) fn operation() -> OperationId {
    OperationId::from_bytes(std::array::from_fn(|index| index as u8))
}

pub(crate) fn response() -> StoredResponse {
    StoredResponse { status: 201, headers: Headers::from_iter([("etag", "\"1\"")]), body: b"{\"id\":17}".to_vec() }
}

pub(crate) fn claim() -> Call {
    Call::Claim(Claim {
        operation: operation(),
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

pub(crate) fn renew() -> Call {
    Call::Renew { operation: operation(), owner: OWNER, lease: LEASE, ttl: TTL }
}

pub(crate) fn settle(ending: Ending) -> Call {
    Call::Settle { operation: operation(), fingerprint: FINGERPRINT, owner: OWNER, ending, lease: LEASE, ttl: TTL }
}
