//! Short names for what the tests of the table do all the time.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{
        SharedDataStore, Sweep, Totals,
        shares::Sketch,
        slots::{self, BucketIndex},
    },
    memory::{Host, Worker},
};
use crate::{
    config::{OnFull, Share, SharedDataConfig},
    headers::Headers,
    record::{Claim, Mailbox, Owner, Phase, StoredResponse},
    request::{Caller, Fingerprint, OperationId},
    store::{Answer, Call, Claimed, Ending, Renewed, Settled},
    time::Timestamp,
};

pub(super) use super::model::{LEASE, TTL};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// When a claim of [`NOW`] has lapsed.
pub(super) fn lapsed() -> Timestamp {
    NOW.after(LEASE)
}

/// When everything of [`NOW`] has ended.
pub(super) fn ended() -> Timestamp {
    NOW.after(LEASE).after(TTL)
}

/// What has ended may go at once.
pub(super) const ROOMY: SharedDataConfig = SharedDataConfig {
    max_entries: 1000,
    max_bytes: 1 << 20,
    on_full: OnFull::EvictOldest,
    keep_at_least: Duration::ZERO,
};

pub(super) type Store = SharedDataStore<Worker>;

/// A worker's store on `host`, with a seed that makes every run the same.
pub(super) fn open(host: &Host, limits: SharedDataConfig) -> Store {
    Store::open(host.worker(), limits, 42).unwrap()
}

pub(super) fn operation(number: u32) -> OperationId {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    OperationId::from_bytes(hash)
}

/// What `owner` asks for `operation`.
pub(super) fn claim(number: u32, owner: u128) -> Claim {
    Claim {
        operation: operation(number),
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: Fingerprint::from_bytes([9; 32]),
        owner: Owner::new(owner),
        lease: LEASE,
        ttl: TTL,
        retry_unknown: false,
        watcher: None,
    }
}

/// The claim of `owner`, which takes over what has lapsed.
pub(super) fn takes_over(number: u32, owner: u128) -> Call {
    Call::Claim(Claim { retry_unknown: true, ..claim(number, owner) })
}

pub(super) fn claims(number: u32, owner: u128) -> Call {
    Call::Claim(claim(number, owner))
}

/// The claim of `owner`, which waits if the operation is running already, in the worker with `mailbox`.
pub(super) fn watches(number: u32, owner: u128, mailbox: u32) -> Call {
    Call::Claim(Claim { watcher: Some(Mailbox(mailbox)), ..claim(number, owner) })
}

pub(super) fn renews(number: u32, owner: u128) -> Call {
    Call::Renew { operation: operation(number), owner: Owner::new(owner), lease: LEASE, ttl: TTL }
}

pub(super) fn settles(number: u32, owner: u128, ending: Ending) -> Call {
    Call::Settle {
        operation: operation(number),
        fingerprint: Fingerprint::from_bytes([0; 32]),
        owner: Owner::new(owner),
        ending,
        lease: LEASE,
        ttl: TTL,
    }
}

pub(super) fn completes(number: u32, owner: u128, size: usize) -> Call {
    settles(number, owner, Ending::Completed(response(owner, size)))
}

/// The response of `owner`'s execution, with a body of `size` bytes.
pub(super) fn response(owner: u128, size: usize) -> StoredResponse {
    let headers = Headers::from_iter([("x-owner", owner.to_string())]);
    StoredResponse { status: 201, headers, body: vec![b'.'; size] }
}

/// What the table counts for the response of `owner` with a body of `size` bytes.
pub(super) fn stored_size(number: u32, owner: u128, size: usize) -> u64 {
    response(owner, size).encode(&operation(number), Owner::new(owner)).unwrap().len() as u64
}

impl Store {
    pub(super) fn run(&self, claim: Claim, now: Timestamp) -> Claimed {
        match self.call(Call::Claim(claim), now) {
            Answer::Claimed(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn claim_at(&self, number: u32, owner: u128, now: Timestamp) -> Claimed {
        self.run(claim(number, owner), now)
    }

    pub(super) fn take_over_at(&self, number: u32, owner: u128, now: Timestamp) -> Claimed {
        self.run(Claim { retry_unknown: true, ..claim(number, owner) }, now)
    }

    pub(super) fn renew_at(&self, number: u32, owner: u128, now: Timestamp) -> Renewed {
        match self.call(renews(number, owner), now) {
            Answer::Renewed(renewed) => renewed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn settle_at(&self, number: u32, owner: u128, ending: Ending, now: Timestamp) -> Settled {
        match self.call(settles(number, owner, ending), now) {
            Answer::Settled(ended) => ended.settled,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn complete_at(&self, number: u32, owner: u128, size: usize, now: Timestamp) -> Settled {
        self.settle_at(number, owner, Ending::Completed(response(owner, size)), now)
    }

    /// Claims and completes.
    pub(super) fn execute_at(&self, number: u32, owner: u128, size: usize, now: Timestamp) {
        assert_eq!(self.claim_at(number, owner, now), Claimed::Granted, "operation {number}");
        assert_eq!(self.complete_at(number, owner, size, now), Settled::Completed, "operation {number}");
    }

    pub(super) fn sweep_at(&self, worker: u128, now: Timestamp) -> Sweep {
        self.sweep(Owner::new(worker), now).unwrap()
    }

    /// What the record of an operation says; `None` if there is none.
    pub(super) fn phase_of(&self, number: u32) -> Option<Phase> {
        let (bucket, _) = self.read_bucket(self.index_of(&operation(number))).unwrap();
        bucket.find(&operation(number)).map(|entry| entry.record.phase.clone())
    }

    pub(super) fn knows(&self, number: u32) -> bool {
        self.phase_of(number).is_some()
    }

    /// The host's key of the bucket of an operation.
    pub(super) fn bucket_key(&self, number: u32) -> String {
        self.index_of(&operation(number)).key().to_string()
    }

    /// The host's key of the response of an operation that has a record.
    pub(super) fn response_key(&self, number: u32) -> String {
        let index = self.index_of(&operation(number));
        let (bucket, _) = self.read_bucket(index).unwrap();
        index.response_key(bucket.find(&operation(number)).unwrap().position).to_string()
    }

    /// Operations that share the bucket of `number`, itself first.
    pub(super) fn neighbours(&self, number: u32) -> impl Iterator<Item = u32> {
        let index = self.index_of(&operation(number));
        (number..).filter(move |other| self.index_of(&operation(*other)) == index)
    }

    /// What is in the table by looking at every bucket.
    pub(super) fn recount(&self) -> Totals {
        let buckets = (0..self.table.buckets).map(|index| self.read_bucket(BucketIndex(index)).unwrap().0);
        buckets.fold(Totals::default(), |totals, bucket| {
            bucket
                .entries()
                .iter()
                .fold(totals, |totals, entry| totals.plus(Totals::of_entry(entry.record.phase.response_size())))
        })
    }

    /// Checks what must hold whenever no call is under way.
    ///
    /// The totals are what is there; every record has a place of its own; every completed record has
    /// its whole response there, and no other place holds a byte.
    pub(super) fn check(&self, host: &Host) {
        assert_eq!(self.totals().unwrap(), self.recount(), "the totals have drifted");
        if let Some((_, counted)) = host.values().iter().find(|(key, _)| key == slots::SHARES) {
            let counted = Sketch::from_bytes(counted);
            assert_eq!(counted, Some(self.count_callers()), "the counts of callers have drifted");
        }
        let mut in_use = BTreeSet::new();
        for index in (0..self.table.buckets).map(BucketIndex) {
            let (bucket, _) = self.read_bucket(index).unwrap();
            let mut operations = BTreeSet::new();
            let mut positions = BTreeSet::new();
            for entry in bucket.entries() {
                assert!(operations.insert(entry.operation), "{entry:?} is there twice");
                assert!(positions.insert(entry.position), "{entry:?} shares its place");
                assert!(entry.position < slots::BUCKET_CAPACITY, "{entry:?}");
                assert_eq!(self.index_of(&entry.operation), index, "{entry:?} is in another's bucket");
                if let Phase::Completed { size, .. } = entry.record.phase {
                    let key = index.response_key(entry.position);
                    let bytes = host.value(&key);
                    assert_eq!(bytes.len(), size as usize, "{entry:?}");
                    StoredResponse::decode(&bytes, &entry.operation, entry.record.owner).unwrap();
                    in_use.insert(key.to_string());
                }
            }
        }
        for (key, value) in host.values() {
            let is_response = key.starts_with("idemgate/v1/r");
            assert!(!is_response || value.is_empty() || in_use.contains(&key), "{key} holds bytes of nobody");
        }
    }
}
