//! What can be found out about a PostgreSQL before it is needed: whether the functions are there and may be called, and
//! whether it keeps what it is given.

use std::time::Duration;

use super::{
    PostgresStore,
    dialect::{flag, integer, malformed, number, since},
    failure::PostgresError,
};
use crate::store::{
    StoreError,
    dialect::{Failure, Heard},
    remote::Finding,
};

/// What `about_v1` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct About {
    /// Of `schema.sql`.
    version: i32,
    /// As 150018 for 15.18.
    server: i32,
    is_standby: bool,
    /// The functions that the role may not call.
    forbidden: String,
    statement_timeout: Duration,
    isolation: String,
    synchronous_commit: String,
    does_fsync: bool,
    is_logged: bool,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// How long ago the oldest record expired that is still there.
    unswept: Duration,
}

impl PostgresStore {
    /// What the reply says that operators should know.
    pub(super) fn found(&self, heard: Heard<'_>) -> Vec<Finding> {
        match self.about(heard) {
            Ok(about) => self.judge(&about),
            Err(error) => vec![Finding::Failed(error)],
        }
    }

    pub(super) fn about(&self, heard: Heard<'_>) -> Result<About, StoreError> {
        let rows = self.dialect.rows_heard(heard)?;
        let [row] = rows.as_slice() else { return Err(PostgresError::Malformed.into()) };
        About::read(row).map_err(|failure| failure.error)
    }

    fn judge(&self, about: &About) -> Vec<Finding> {
        let schema = self.dialect.schema();
        let mut findings = Vec::new();
        let mut warn = |is_wrong: bool, text: &dyn Fn() -> String| {
            if is_wrong {
                findings.push(Finding::Warning(text()));
            }
        };
        warn(about.server < OLDEST, &|| {
            format!("PostgreSQL {} is too old: idemgate needs version 13 or newer", about.server / 10_000)
        });
        warn(about.version < SCHEMA, &|| {
            format!(
                "the schema {schema} in PostgreSQL is that of an older release (version {}, this one has {SCHEMA}): apply \
                 this release's schema.sql, and grant EXECUTE again",
                about.version
            )
        });
        warn(about.is_standby, &|| PostgresError::ReadOnly.to_string());
        warn(!about.forbidden.is_empty(), &|| {
            format!(
                "the role may not call {} of the schema {schema}: GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} to it",
                about.forbidden
            )
        });
        let has_timeout = !about.statement_timeout.is_zero() && about.statement_timeout < self.timeout;
        warn(!has_timeout, &|| {
            format!(
                "the role's statement_timeout is not below store.postgres.timeout: what takes longer is given up here \
                 and carried out there; ALTER ROLE ... SET statement_timeout = '{}ms'",
                (self.timeout * 4 / 5).as_millis()
            )
        });
        warn(about.isolation != "read committed", &|| {
            format!(
                "the role's transactions are {}, in which the loser of a race gets an error: ALTER ROLE ... SET \
                 default_transaction_isolation = 'read committed'",
                about.isolation
            )
        });
        let loses =
            |what: &str| format!("{what}, so that a crash of PostgreSQL loses records, and operations may run again");
        warn(about.synchronous_commit == "off", &|| loses("the role's synchronous_commit is off"));
        warn(!about.does_fsync, &|| loses("fsync is off"));
        warn(!about.is_logged, &|| loses("the table is unlogged"));
        warn(about.unswept > LONGEST_UNSWEPT, &|| {
            format!(
                "records that expired {} hours ago are still there: nothing sweeps the schema {schema}; set \
                 store.postgres.sweep, or have the database call sweep_v1",
                about.unswept.as_secs() / 3600
            )
        });
        findings
    }
}

impl About {
    fn read(row: &[Option<&[u8]>]) -> Result<Self, Failure> {
        let [
            version,
            server,
            is_standby,
            forbidden,
            statement_timeout,
            isolation,
            synchronous_commit,
            does_fsync,
            is_logged,
            records,
            bytes,
            unswept,
        ] = row
        else {
            return Err(malformed());
        };
        let text = |value: &Option<&[u8]>| {
            value.map(|value| String::from_utf8_lossy(value).into_owned()).ok_or_else(malformed)
        };
        let flag = |value: &Option<&[u8]>| value.ok_or_else(malformed).and_then(flag);
        Ok(Self {
            version: integer(*version)?,
            server: integer(*server)?,
            is_standby: flag(is_standby)?,
            forbidden: text(forbidden)?,
            statement_timeout: since(number(*statement_timeout)?),
            isolation: text(isolation)?,
            synchronous_commit: text(synchronous_commit)?,
            does_fsync: flag(does_fsync)?,
            is_logged: flag(is_logged)?,
            records: number(*records)?.unsigned_abs(),
            bytes: number(*bytes)?.unsigned_abs(),
            unswept: since(number(*unswept)?),
        })
    }
}

/// The version of `schema.sql` that this release needs.
const SCHEMA: i32 = 1;

const OLDEST: i32 = 130_000;

/// Sweeping takes its time after a crowd.
const LONGEST_UNSWEPT: Duration = Duration::from_hours(6);

#[cfg(test)]
mod tests;
