//! The store in a DynamoDB table: one truth for any number of Envoys, on a service that nobody has to run.
//!
//! A [call](Call) is one conditional write; Envoy signs it. If it is refused, the refusal shows the item that is in the
//! way, and that is judged here: most of the time it is the answer.
//!
//! **Clocks.** A condition can compare with no clock of the server's, and a clock of the caller's may be wrong. So no
//! condition has the time in it. Whether an item has expired, or its lease is over, is judged when it is seen, by the
//! `Date` of the very reply that shows it; then the write is asked for again, on the condition that the item is still
//! that one. What a write says of times is compared with the `Date` of its reply, and written again if it was wrong,
//! before anything is done on the strength of it. An owner that has a claim does not even for a moment take back what it
//! said of times: a write whose lease would be over before the one that stands there comes late, or by a clock that is
//! behind, and is refused.
//!
//! What can go wrong between two steps, and what then holds, is as with Redis ([`redis`](super::redis)): the same owner
//! may repeat each write, and each may be late.

mod checkup;
mod clock;
mod dialect;
mod failure;
mod item;
mod request;

use std::{sync::Arc, time::Duration};

pub use clock::ahead;
use dialect::DynamoDbDialect;
pub use failure::DynamoDbError;
use request::{Action, Request};

use super::{
    Answer, Call, StoreError,
    dialect::Heard,
    inquiry::Inquiry,
    pool::Pool,
    remote::{Finding, Holdings, RemoteStore},
    review::Review,
};
use crate::{config::DynamoDbConfig, record::Amendment, request::OperationId, time::Timestamp};

/// The store of one worker; all workers of all Envoys see the same records.
#[derive(Debug)]
pub struct DynamoDbStore {
    cluster: String,
    timeout: Duration,
    dialect: Arc<DynamoDbDialect>,
}

impl DynamoDbStore {
    /// The store behind a cluster; nothing is sent yet.
    #[must_use]
    pub fn new(config: DynamoDbConfig) -> Self {
        Self {
            cluster: config.cluster.clone(),
            timeout: config.timeout,
            dialect: Arc::new(DynamoDbDialect::new(config)),
        }
    }
}

impl RemoteStore for DynamoDbStore {
    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn inquire(&self, call: &Call, now: Timestamp) -> Result<Inquiry, Answer> {
        let ask = self.dialect.ask(call, now)?;
        let bytes = self.dialect.encode(call, &ask.rule, now);
        Ok(ask.inquiry(call, bytes, self.dialect.clone(), self.timeout, now))
    }

    fn review(&self, operation: OperationId, amendment: Option<Amendment>) -> Review {
        Review::new(operation, amendment, self.dialect.clone(), self.timeout)
    }

    fn checkup(&self) -> Vec<u8> {
        let body = format!(r#"{{"TableName":"{}"}}"#, self.dialect.table());
        Request::new(Action::Describe, Timestamp::default(), &body).to_bytes()
    }

    fn findings(&self, heard: Heard<'_>) -> Vec<Finding> {
        self.found(heard)
    }

    fn all_is_well(&self) -> String {
        let (table, max_record) = (self.dialect.table(), self.dialect.max_record());
        format!(
            "the table {table:?} in DynamoDB answers; responses over {max_record} bytes are kept as tombstones; see that \
             its TTL attribute is \"e\""
        )
    }

    fn holdings(&self, heard: Heard<'_>) -> Result<Holdings, StoreError> {
        let table = self.dialect.table();
        Ok(Holdings {
            store: "dynamodb",
            place: ("table", table.to_owned()),
            figures: self.figures(heard)?,
            count_by_state: format!(
                "aws dynamodb scan --table-name {table} --projection-expression s --query 'Items[].s.S' --output text | \
                 tr '\\t' '\\n' | sort | uniq -c # i: in flight, or unknown if its lease is over, c: completed, n: not \
                 kept, u: unknown, r: given back; it reads the whole table"
            ),
        })
    }

    fn pool(&self, _: u128) -> Option<Pool> {
        None
    }

    fn how_to_find(&self) -> String {
        "DynamoDB finds an item by its whole key alone. Look the operation up by its key and caller.".to_owned()
    }

    fn call<'a>(&self, question: &'a [u8]) -> (&'static [(&'static str, &'static str)], &'a [u8]) {
        match Request::read(question) {
            Some(request) => (request.action.fields(), request.body.as_bytes()),
            None => (Action::Describe.fields(), question),
        }
    }

    fn has_clock(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
