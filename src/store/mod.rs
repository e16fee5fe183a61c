//! Where records live, and the calls by which the exchange asks for them.
//!
//! The exchange emits a [`Call`] and is handed the [`Answer`] to it. The shared-data store answers at
//! once, a remote one later. The exchange does not know which.

pub mod admission;
mod base64;
#[cfg(test)]
mod calls;
pub mod dialect;
pub mod dynamodb;
pub mod frame;
pub mod inquiry;
pub mod integrity;
pub mod pool;
pub mod postgres;
pub mod redis;
pub mod remote;
pub mod review;
mod rule;
mod seal;
pub mod shared_data;

use std::{sync::Arc, time::Duration};

// How an execution ended is said by its record, and by the exchange that tells a store of it.
pub use crate::record::Ending;
use crate::{
    record::{Claim, Mailbox, Owner, StoredResponse},
    request::{Fingerprint, OperationId},
    time::Timestamp,
};

/// What an exchange asks of the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// May this request run the operation?
    Claim(Claim),
    /// The owner is alive: its lease starts anew.
    Renew {
        /// Which operation.
        operation: OperationId,
        /// Whose claim.
        owner: Owner,
        /// How long the claim outlives the owner from now.
        lease: Duration,
        /// How long the record is kept behind the lease.
        ttl: Duration,
    },
    /// The owner's execution has ended.
    Settle {
        /// Which operation.
        operation: OperationId,
        /// What its owner asked for.
        fingerprint: Fingerprint,
        /// Whose claim.
        owner: Owner,
        /// How it ended.
        ending: Ending,
        /// How long the claim could outlive the owner: as long it makes sense to try.
        lease: Duration,
        /// How long the record is kept from now.
        ttl: Duration,
    },
}

impl Call {
    /// The operation that it is about.
    #[must_use]
    pub const fn operation(&self) -> &OperationId {
        match self {
            Self::Claim(claim) => &claim.operation,
            Self::Renew { operation, .. } | Self::Settle { operation, .. } => operation,
        }
    }

    /// How long the claim that it is about outlives its owner.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        match self {
            Self::Claim(claim) => claim.lease,
            Self::Renew { lease, .. } | Self::Settle { lease, .. } => *lease,
        }
    }
}

/// What the store says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// To [`Call::Claim`].
    Claimed(Claimed),
    /// To [`Call::Renew`].
    Renewed(Renewed),
    /// To [`Call::Settle`].
    Settled(Settlement),
    /// To [`Call::Settle`], for the time being: the store has not answered in time, and is asked on.
    Delayed,
}

/// What became of a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claimed {
    /// The request runs the operation.
    Granted,
    /// The key belongs to another request: the fingerprints differ.
    KeyReused,
    /// Another request is running it.
    InFlight {
        /// How long ago that one was granted its claim; by the clocks of both, where another Envoy runs it.
        age: Duration,
        /// What is left of its lease.
        lease_left: Duration,
    },
    /// It may have run.
    Unknown {
        /// How long until its lease has run out; zero if it has.
        lease_left: Duration,
    },
    /// It ran; this is the answer.
    Completed {
        /// The first response; the store may hold on to it.
        response: Arc<StoredResponse>,
        /// When the record ends.
        expires: Timestamp,
    },
    /// It ran; the answer is not kept.
    NotKept {
        /// The status of the first response.
        status: u16,
    },
    /// There is no room for another claim.
    Full,
    /// There is none for another claim of this caller, which has its share of this.
    OverShare(Scarce),
    /// The store cannot say, and granted nothing.
    Failed(StoreError),
    /// The store cannot say, and may have granted the claim: then it is to be given back.
    InDoubt(StoreError),
}

/// What all callers use, and one may have a share of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scarce {
    /// Detached calls of a worker.
    Calls,
    /// Places of a worker in which requests wait for executions.
    Places,
    /// Questions to a remote store that wait in a worker.
    Questions,
    /// Records in a table.
    Records,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewed {
    /// The lease started anew.
    Extended,
    /// The claim is no longer this owner's.
    Fenced,
    /// The store cannot say.
    Failed(StoreError),
}

/// How the store took the end of an execution, and who waits for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settlement {
    /// What the record says now.
    pub settled: Settled,
    /// The workers with requests that wait for the operation.
    pub watchers: Vec<Mailbox>,
}

impl From<Settled> for Settlement {
    /// Nobody waits for it.
    fn from(settled: Settled) -> Self {
        Self { settled, watchers: Vec::new() }
    }
}

/// How the store took the end of an execution.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It ran, and its response is kept.
    Completed,
    /// It ran; its response is not kept.
    NotKept,
    /// The operation counts as never run.
    Released,
    /// The operation counts as perhaps run.
    Unknown,
    /// The claim is no longer this owner's: nothing was changed.
    Fenced,
    /// The store cannot say.
    Failed(StoreError),
}

/// Why a store could not do what it was asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Other workers changed the same record at each of many attempts.
    #[error("too many workers changed the same record at once")]
    Contended,
    /// What is stored cannot be read: damaged, or of another release.
    #[error("stored data cannot be read: {0}")]
    Unreadable(#[from] crate::record::CodecError),
    /// The host refused the call.
    #[error("the host refused a shared-data call with status {0}")]
    Host(u32),
    /// Too much waits for a remote store in this worker already, or has waited too long: it was not asked.
    #[error(
        "the store, or the way to it, is too slow for what is asked of it: requests that waited were refused and never \
         sent; it needs a faster server, more workers, or fewer requests"
    )]
    Overloaded,
    /// DynamoDB, or the way to it.
    #[error(transparent)]
    DynamoDb(#[from] dynamodb::DynamoDbError),
    /// PostgreSQL, or the way to it.
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
    /// Redis, or the way to it.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

impl StoreError {
    /// The word by which metrics and logs tell it from others.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Contended => "contended",
            Self::Unreadable(_) => "unreadable",
            Self::Host(_) => "host",
            Self::Overloaded => "overloaded",
            Self::DynamoDb(error) => error.kind(),
            Self::Postgres(error) => error.kind(),
            Self::Redis(error) => error.kind(),
        }
    }

    /// Whether a record is there that cannot be read: the operation may have run, so nothing may run by this.
    #[must_use]
    pub const fn hides_a_record(&self) -> bool {
        use {dynamodb::DynamoDbError, redis::RedisError};

        matches!(
            self,
            Self::Unreadable(_)
                | Self::DynamoDb(DynamoDbError::Foreign | DynamoDbError::Unreadable(_))
                | Self::Redis(RedisError::Unreadable(_))
        )
    }

    /// Whether it may be gone at the next attempt, if nothing was done: others were faster, or the server was a standby and
    /// the next one is asked.
    #[must_use]
    pub const fn passes_at_once(&self) -> bool {
        matches!(self, Self::Contended | Self::Postgres(postgres::PostgresError::ReadOnly))
    }

    /// Whether the store did not answer in time.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        use postgres::PostgresError;

        matches!(
            self,
            Self::DynamoDb(dynamodb::DynamoDbError::TimedOut)
                | Self::Postgres(PostgresError::Cancelled | PostgresError::TimedOut)
                | Self::Redis(redis::RedisError::TimedOut)
        )
    }

    /// Whether the store had no capacity left for it, and will have some soon.
    #[must_use]
    pub const fn is_throttled(&self) -> bool {
        matches!(self, Self::DynamoDb(dynamodb::DynamoDbError::Throttled | dynamodb::DynamoDbError::Conflict))
    }

    /// All kinds.
    pub const KINDS: [&'static str; 22] = [
        "authentication",
        "contended",
        "cut",
        "foreign",
        "host",
        "internal",
        "loading",
        "malformed",
        "moved",
        "out_of_memory",
        "overloaded",
        "proxy",
        "read_only",
        "rejected",
        "rejected_request",
        "reset",
        "schema",
        "script",
        "throttled",
        "timed_out",
        "unreachable",
        "unreadable",
    ];
}
