//! The store in PostgreSQL: one truth for any number of Envoys, kept as long and as safely as the database keeps anything.
//!
//! The rules of a record are functions of the database (`schema.sql`, which operators apply). A [call](Call) is a call of
//! one of them over a persistent connection ([`pool`](super::pool)): one round trip, one transaction on one row, judged by
//! the clock of the database.
//!
//! What can go wrong between two steps is what can with any remote store ([`inquiry`](super::inquiry)). Besides:
//! - *A connection is given up while its server is at work*: the server may carry out what is pending long afterwards. So a
//!   claim that was given up is given back with a mark, as in Redis, and the role should have a `statement_timeout`.
//! - *A standby answers*: it says so when the connection begins, or refuses to write; either way nothing was done, and the
//!   next server is asked.

mod checkup;
mod dialect;
mod failure;
mod login;
mod message;
mod scram;
#[cfg(test)]
mod speech;

use std::{sync::Arc, time::Duration};

use dialect::{PostgresDialect, integer, malformed, number, since};
pub use failure::PostgresError;
pub use message::SqlState;
use message::Value;

use super::{
    Answer, Call, StoreError,
    dialect::{Failure, Heard},
    inquiry::Inquiry,
    pool::{Pool, PoolLimits},
    remote::{Finding, Holdings, Listed, Lists, RemoteStore, Sweeps},
    review::Review,
};
use crate::{config::PostgresConfig, record::Amendment, request::OperationId, time::Timestamp};

/// The file that operators apply.
pub const SCHEMA_SQL: &str = include_str!("schema.sql");

/// The store of one worker; all workers of all Envoys see the same records.
#[derive(Debug)]
pub struct PostgresStore {
    cluster: String,
    timeout: Duration,
    connections: usize,
    sweeps: bool,
    dialect: Arc<PostgresDialect>,
}

impl PostgresStore {
    /// The store behind a cluster; nothing is sent yet.
    #[must_use]
    pub fn new(config: PostgresConfig) -> Self {
        Self {
            cluster: config.cluster.clone(),
            timeout: config.timeout,
            connections: config.connections as usize,
            sweeps: config.sweep,
            dialect: Arc::new(PostgresDialect::new(config)),
        }
    }
}

impl RemoteStore for PostgresStore {
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
        self.dialect.call("about_v1", &[])
    }

    fn findings(&self, heard: Heard<'_>) -> Vec<Finding> {
        self.found(heard)
    }

    fn all_is_well(&self) -> String {
        let max_record = self.dialect.max_record();
        format!("the store in PostgreSQL answers; responses over {max_record} bytes are kept as tombstones")
    }

    fn holdings(&self, heard: Heard<'_>) -> Result<Holdings, StoreError> {
        let (about, schema) = (self.about(heard)?, self.dialect.schema());
        Ok(Holdings {
            store: "postgres",
            place: ("schema", schema.to_owned()),
            figures: vec![("records_about", about.records), ("bytes", about.bytes)],
            count_by_state: format!(
                "psql -c 'SELECT state, lease_until <= now() AS lease_is_over, count(*) FROM {schema}.records WHERE \
                 expires > now() GROUP BY 1, 2' # i: in flight, or unknown if its lease is over, c: completed, n: not \
                 kept, u: unknown, r: given back"
            ),
        })
    }

    fn pool(&self, seed: u128) -> Option<Pool> {
        let limits = PoolLimits { connections: self.connections, patience: self.timeout, seed };
        Some(Pool::new(self.dialect.clone(), limits))
    }

    fn how_to_find(&self) -> String {
        format!(
            "To find an operation by its beginning takes a look at all of them. Look it up by its key and caller, or find \
             all digits: psql -c \"SELECT encode(operation, 'hex') FROM {}.records WHERE encode(operation, 'hex') LIKE \
             'DIGITS%'\".",
            self.dialect.schema()
        )
    }

    fn lists(&self) -> Option<&dyn Lists> {
        Some(self)
    }

    fn sweeps(&self) -> Option<&dyn Sweeps> {
        self.sweeps.then_some(self)
    }
}

impl Lists for PostgresStore {
    fn list(&self, most: u16) -> Vec<u8> {
        self.dialect.call("unfinished_v1", &[Value::Integer(most.into())])
    }

    fn listed(&self, heard: Heard<'_>) -> Result<Vec<Listed>, StoreError> {
        let rows = self.dialect.rows_heard(heard)?;
        let listed = |row: &message::Row<'_>| {
            let [Some(operation), Some([state]), Some(_), lease_left, lives] = row.as_slice() else {
                return Err(malformed());
            };
            let lease_left = since(number(*lease_left)?);
            Ok(Listed {
                operation: OperationId::from_bytes((*operation).try_into().map_err(|_| malformed())?),
                is_running: *state == b'i' && !lease_left.is_zero(),
                lease_left,
                lives: since(number(*lives)?),
            })
        };
        rows.iter().map(listed).collect::<Result<_, Failure>>().map_err(|failure| failure.error)
    }
}

impl Sweeps for PostgresStore {
    fn sweep(&self) -> Vec<u8> {
        self.dialect.call("sweep_v1", &[Value::Integer(BATCH)])
    }

    fn is_more_left(&self, heard: Heard<'_>) -> Result<bool, StoreError> {
        let rows = self.dialect.rows_heard(heard)?;
        let swept = match rows.as_slice() {
            [row] => match row.as_slice() {
                [swept] => integer(*swept),
                _ => Err(malformed()),
            },
            _ => Err(malformed()),
        };
        Ok(swept.map_err(|failure| failure.error)? >= BATCH)
    }
}

/// How many records a sweep removes at a time: few enough that a claim for one of them hardly waits.
const BATCH: i32 = 500;

#[cfg(test)]
mod tests;
