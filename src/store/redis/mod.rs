//! The store in Redis or Valkey: one truth for any number of Envoys.
//!
//! Nothing here speaks to a network. A [call](Call) becomes an
//! [`Inquiry`](super::inquiry::Inquiry): bytes for the host to send,
//! and a reader for what comes back. Envoy carries the bytes, over a connection for each call or over
//! pooled ones (docs/redis.md); to this code both look the same.
//!
//! What can go wrong between two steps, and what then holds:
//! - *The reply to a claim is lost*: it is asked again with the same owner, and Redis takes it for the
//!   same claim. If no reply comes at all, the claim is given back in the background, with a mark that
//!   makes it void should Redis carry it out later.
//! - *The owner dies*: its claim outlives its lease, so that the operation is found unknown, and does
//!   not vanish and run again.
//! - *The end of an execution cannot be recorded*: it is tried as long as the record would be kept. From the
//!   end of the lease until it is there the operation is found unknown ([`inquiry`](super::inquiry)).
//! - *Redis loses a record*: what its owner says at the end is written all the same.

mod checkup;
mod dialect;
mod entry;
mod failure;
pub mod resp;
mod script;

use std::{sync::Arc, time::Duration};

use dialect::RedisDialect;
pub use failure::RedisError;

use super::{
    Answer, Call, StoreError,
    dialect::Heard,
    inquiry::Inquiry,
    pool::{Pool, PoolLimits},
    remote::{Finding, Holdings, RemoteStore},
    review::Review,
};
use crate::{config::RedisConfig, record::Amendment, request::OperationId, time::Timestamp};

/// The store of one worker; all workers of all Envoys see the same records.
#[derive(Debug)]
pub struct RedisStore {
    cluster: String,
    timeout: Duration,
    database: u32,
    connections: usize,
    dialect: Arc<RedisDialect>,
}

impl RedisStore {
    /// The store behind a cluster; nothing is sent yet.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        Self {
            cluster: config.cluster.clone(),
            timeout: config.timeout,
            database: config.database,
            connections: config.connections as usize,
            dialect: Arc::new(RedisDialect::new(config)),
        }
    }
}

impl RemoteStore for RedisStore {
    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn inquire(&self, call: &Call, now: Timestamp) -> Result<Inquiry, Answer> {
        let ask = self.dialect.ask(call, now)?;
        let bytes = self.dialect.encode(call.operation(), &ask.rule);
        Ok(ask.inquiry(call, bytes, self.dialect.clone(), self.timeout, now))
    }

    fn review(&self, operation: OperationId, amendment: Option<Amendment>) -> Review {
        Review::new(operation, amendment, self.dialect.clone(), self.timeout)
    }

    fn checkup(&self) -> Vec<u8> {
        self.dialect.info()
    }

    fn findings(&self, heard: Heard<'_>) -> Vec<Finding> {
        self.found(heard)
    }

    fn all_is_well(&self) -> String {
        let max_record = self.dialect.max_record();
        format!("the store in Redis answers; responses over {max_record} bytes are kept as tombstones")
    }

    fn holdings(&self, heard: Heard<'_>) -> Result<Holdings, StoreError> {
        let prefix = self.dialect.prefix();
        Ok(Holdings {
            store: "redis",
            figures: self.usage(heard)?,
            count_by_state: format!(
                "redis-cli --scan --pattern '{prefix}[0-9a-f]*' | while read -r key; do redis-cli getrange \"$key\" 1 1; \
                 done | sort | uniq -c # i: in flight, or unknown if its lease is over, c: completed, n: not kept, \
                 u: unknown, r: given back"
            ),
            place: ("prefix", prefix.to_owned()),
        })
    }

    fn pool(&self, seed: u128) -> Option<Pool> {
        let limits = PoolLimits { connections: self.connections, patience: self.timeout, seed };
        (self.connections > 0).then(|| Pool::new(self.dialect.clone(), limits))
    }

    fn how_to_find(&self) -> String {
        let prefix = self.dialect.prefix();
        format!(
            "To find a key in Redis by its beginning takes a walk through all of them. Look the operation up by its key \
             and caller, or find all digits: redis-cli --scan --pattern '{prefix}DIGITS*'."
        )
    }
}
