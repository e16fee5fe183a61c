//! Why PostgreSQL could not do what it was asked, told apart by what Envoy and PostgreSQL say.
//!
//! Questions go to connections that are ready alone. So whatever happens before is certain, and what is pending on a
//! connection that ends is in doubt, whatever the end. An error of a statement undoes all of it.

use super::message::{NoRows, ServerError, SqlState};
use crate::store::{
    StoreError,
    dialect::{Failure, Unwelcome},
};

/// What went wrong, and what an operator can do about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The login is refused.
    #[error(
        "PostgreSQL refuses the login (SQLSTATE {0}): check store.postgres.username, password and database, that the \
         role may log in and connect, and pg_hba.conf; or what PgBouncer knows of them"
    )]
    Authentication(SqlState),
    /// `statement_timeout`, or somebody cancelled it.
    #[error(
        "PostgreSQL gave a statement up after the role's statement_timeout: it is overloaded, or somebody has locked \
         the table"
    )]
    Cancelled,
    /// No room for another connection.
    #[error(
        "PostgreSQL has no connection left: lower store.postgres.connections, raise max_connections or the role's \
         connection limit, or put PgBouncer in between"
    )]
    TooManyConnections,
    /// It has not proven that it knows the password.
    #[error(
        "what answers in place of PostgreSQL does not know the password that it asks for: check what \
         store.postgres.cluster leads to"
    )]
    Impostor,
    /// It starts, or stops.
    #[error("PostgreSQL is not ready: it starts, stops, or recovers; it should pass by itself")]
    Loading,
    /// What came back is no reply of PostgreSQL.
    #[error(
        "what answers in place of PostgreSQL does not speak its protocol: check what store.postgres.cluster leads to"
    )]
    Malformed,
    /// It wants the password in another way than this filter has.
    #[error(
        "PostgreSQL asks for the password in a way that is not supported, such as md5: set password_encryption to \
         scram-sha-256, set the role's password again, and let pg_hba.conf say scram-sha-256"
    )]
    Method,
    /// It is full.
    #[error("PostgreSQL is out of disk space or memory (SQLSTATE {0}): make room, or shorten ttl")]
    OutOfMemory(SqlState),
    /// There is no password.
    #[error("PostgreSQL asks for a password: set store.postgres.password")]
    PasswordMissing,
    /// A standby.
    #[error(
        "PostgreSQL takes no writes: a standby answers, or default_transaction_read_only is on; lead \
         store.postgres.cluster to the primary"
    )]
    ReadOnly,
    /// Envoy did not open the connection.
    #[error(
        "Envoy cannot connect to store.postgres.cluster: there is no such cluster or no host in it, or its circuit \
         breaker is open (raise max_connections and max_requests)"
    )]
    Rejected,
    /// The connection broke before the reply was there.
    #[error("the connection to PostgreSQL broke before it answered")]
    Reset,
    /// What this filter calls is not there, or not for this role.
    #[error(
        "PostgreSQL does not let the role call idemgate's functions (SQLSTATE {0}): apply this release's schema.sql to \
         store.postgres.database and schema, and grant the role USAGE of the schema and EXECUTE of its functions"
    )]
    Schema(SqlState),
    /// Any other error.
    #[error("PostgreSQL refuses a statement (SQLSTATE {0}); its log says why")]
    Statement(SqlState),
    /// No reply in time.
    #[error(
        "PostgreSQL did not answer within store.postgres.timeout: it is overloaded, waits for a lock or a standby, or \
         the network is; if it never answers, store.postgres.cluster lacks the role store_stream"
    )]
    TimedOut,
    /// No connection.
    #[error(
        "PostgreSQL cannot be reached: check the hosts of store.postgres.cluster and its role store_stream, the network, \
         and TLS, which needs PostgreSQL 17 or newer"
    )]
    Unreachable,
}

impl PostgresError {
    /// The word by which metrics and logs tell it from others.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Authentication(_) | Self::Impostor | Self::Method | Self::PasswordMissing => "authentication",
            Self::Cancelled | Self::TimedOut => "timed_out",
            Self::TooManyConnections | Self::Loading => "loading",
            Self::Malformed => "malformed",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::ReadOnly => "read_only",
            Self::Rejected => "rejected",
            Self::Reset => "reset",
            Self::Schema(_) => "schema",
            Self::Statement(_) => "script",
            Self::Unreachable => "unreachable",
        }
    }
}

impl ServerError {
    /// Whether the server takes no writes.
    pub(super) fn is_read_only(self) -> bool {
        self.state.0 == *READ_ONLY
    }

    /// What it means of a login.
    pub(super) fn of_login(self) -> Unwelcome {
        let state = self.state;
        match &state.0 {
            // While a server stops or starts, or is a standby that takes no questions, another may be there.
            b"57P01" | b"57P02" | b"57P03" => {
                Unwelcome { error: PostgresError::Loading.into(), others_may_welcome: true }
            }
            b"53300" => StoreError::from(PostgresError::TooManyConnections).into(),
            b"53100" | b"53200" => StoreError::from(PostgresError::OutOfMemory(state)).into(),
            // The server's own trouble: resources, files, what it did not expect.
            [b'5', b'3' | b'8', ..] | [b'X', b'X', ..] => StoreError::from(PostgresError::Statement(state)).into(),
            _ => StoreError::from(PostgresError::Authentication(state)).into(),
        }
    }

    /// What it means of a statement.
    fn of_statement(self) -> Failure {
        let state = self.state;
        if self.is_fatal {
            return Failure::doubtful(PostgresError::Reset);
        }
        match &state.0 {
            // Of connections, and one that says that it is not known what became of the transaction.
            [b'0', b'8', ..] | b"40003" => Failure::doubtful(PostgresError::Reset),
            READ_ONLY => Failure::certain(PostgresError::ReadOnly),
            b"3F000" | b"42501" | b"42883" | b"42P01" => Failure::certain(PostgresError::Schema(state)),
            b"40001" | b"40P01" | b"55P03" => Failure::certain(StoreError::Contended),
            b"53100" | b"53200" => Failure::certain(PostgresError::OutOfMemory(state)),
            b"57014" => Failure::certain(PostgresError::Cancelled),
            _ => Failure::certain(PostgresError::Statement(state)),
        }
    }
}

impl From<NoRows> for Failure {
    fn from(reason: NoRows) -> Self {
        match reason {
            NoRows::Malformed => Self::doubtful(PostgresError::Malformed),
            NoRows::Error(error) => error.of_statement(),
        }
    }
}

const READ_ONLY: &[u8; 5] = b"25006";

/// Why a connection did not come about, by what Envoy says.
pub(super) fn unreachable(text: &[u8]) -> PostgresError {
    const OVERFLOW: &[u8] = b"overflow";
    let is_overflow = text.windows(OVERFLOW.len()).any(|window| window == OVERFLOW);
    if is_overflow { PostgresError::Rejected } else { PostgresError::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(state: &[u8; 5], is_fatal: bool) -> ServerError {
        ServerError { state: SqlState(*state), is_fatal }
    }

    #[test]
    fn what_a_login_is_refused_for_is_told_apart_and_another_server_is_tried_where_that_helps() {
        for (state, expected, others_may_welcome) in [
            (b"28P01", PostgresError::Authentication(SqlState(*b"28P01")), false),
            (b"28000", PostgresError::Authentication(SqlState(*b"28000")), false),
            (b"3D000", PostgresError::Authentication(SqlState(*b"3D000")), false),
            (b"08P01", PostgresError::Authentication(SqlState(*b"08P01")), false),
            (b"53300", PostgresError::TooManyConnections, false),
            (b"53200", PostgresError::OutOfMemory(SqlState(*b"53200")), false),
            (b"58P01", PostgresError::Statement(SqlState(*b"58P01")), false),
            (b"XX000", PostgresError::Statement(SqlState(*b"XX000")), false),
            (b"57P03", PostgresError::Loading, true),
            (b"57P01", PostgresError::Loading, true),
        ] {
            let unwelcome = Unwelcome { error: expected.into(), others_may_welcome };
            assert_eq!(error(state, true).of_login(), unwelcome);
        }
    }

    #[test]
    fn an_error_of_a_statement_is_certain_unless_it_is_the_end_of_the_connection() {
        let schema = |state: &[u8; 5]| PostgresError::Schema(SqlState(*state));
        for (state, expected) in [
            (b"25006", PostgresError::ReadOnly),
            (b"42883", schema(b"42883")),
            (b"3F000", schema(b"3F000")),
            (b"42501", schema(b"42501")),
            (b"42P01", schema(b"42P01")),
            (b"53100", PostgresError::OutOfMemory(SqlState(*b"53100"))),
            (b"53200", PostgresError::OutOfMemory(SqlState(*b"53200"))),
            (b"57014", PostgresError::Cancelled),
            (b"22023", PostgresError::Statement(SqlState(*b"22023"))),
        ] {
            assert_eq!(error(state, false).of_statement(), Failure::certain(expected));
            assert_eq!(error(state, true).of_statement(), Failure::doubtful(PostgresError::Reset));
        }
        for state in [b"40001", b"40P01", b"55P03"] {
            assert_eq!(error(state, false).of_statement(), Failure::certain(StoreError::Contended));
        }
        for state in [b"08006", b"08P01", b"40003"] {
            assert_eq!(error(state, false).of_statement(), Failure::doubtful(PostgresError::Reset));
        }
    }

    #[test]
    fn the_host_says_why_there_is_no_connection() {
        assert_eq!(unreachable(b"reset reason: overflow"), PostgresError::Rejected);
        for text in [b"reset reason: remote connection failure".as_slice(), b"no healthy upstream", b""] {
            assert_eq!(unreachable(text), PostgresError::Unreachable);
        }
    }

    #[test]
    fn an_error_names_its_code() {
        let text = PostgresError::Authentication(SqlState(*b"28P01")).to_string();
        assert!(text.contains("(SQLSTATE 28P01)"), "{text}");
        assert_eq!(SqlState([0xff; 5]).to_string(), "not ASCII");
    }
}
