//! Which store keeps the records, validated.

use std::{fmt, time::Duration};

/// `store`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StoreConfig {
    /// proxy-wasm shared data of this Envoy process.
    SharedData(SharedDataConfig),
    /// A table in DynamoDB, for any number of Envoys.
    DynamoDb(DynamoDbConfig),
    /// PostgreSQL, for any number of Envoys.
    Postgres(PostgresConfig),
    /// Redis or Valkey, for any number of Envoys.
    Redis(RedisConfig),
}

impl StoreConfig {
    /// The same store for records that decide nothing: a remote one has keys of its own for them.
    #[must_use]
    pub fn in_shadow(self) -> Self {
        match self {
            Self::DynamoDb(config) => Self::DynamoDb(DynamoDbConfig { is_shadow: true, ..config }),
            Self::Postgres(config) => Self::Postgres(config.in_shadow()),
            Self::Redis(config) => Self::Redis(config.in_shadow()),
            Self::SharedData(_) => self,
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::SharedData(SharedDataConfig::default())
    }
}

/// `store.shared_data`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SharedDataConfig {
    /// How many operations are kept at most.
    pub max_entries: u32,
    /// How many bytes the records may take.
    pub max_bytes: u64,
    /// What a new operation does to a full store.
    pub on_full: OnFull,
    /// How long after its end an operation is kept in any case, unless its retention is shorter.
    pub keep_at_least: Duration,
}

/// What one record takes of `max_bytes` besides its response: its place in the index and the host's
/// own book-keeping for the keys of both (a map node and two strings each, measured on Envoy 1.40).
pub const ENTRY_BYTES: u64 = 384;

/// What there is of `max_bytes` for each record and its response, if nobody says how many records there are to be:
/// two fifths are for responses.
const BYTES_PER_ENTRY: u64 = 640;

/// The largest table.
pub(super) const MOST_ENTRIES: u32 = 10_000_000;

impl SharedDataConfig {
    /// How many operations are kept in `max_bytes`, unless `max_entries` says so.
    pub(super) fn entries_in(max_bytes: u64) -> u32 {
        u32::try_from(max_bytes / BYTES_PER_ENTRY).unwrap_or(u32::MAX).clamp(1, MOST_ENTRIES)
    }
}

impl Default for SharedDataConfig {
    fn default() -> Self {
        let max_bytes = 64 << 20;
        Self {
            max_entries: Self::entries_in(max_bytes),
            max_bytes,
            on_full: OnFull::EvictOldest,
            keep_at_least: Duration::from_hours(1),
        }
    }
}

/// `store.dynamodb`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DynamoDbConfig {
    /// Envoy's name of the cluster that leads to the service, and signs what goes there.
    pub cluster: String,
    /// The name of the table, or its ARN.
    pub table: String,
    /// How long a request waits for the store at most.
    pub timeout: Duration,
    /// The largest response, as it is stored, in bytes; of a larger one only the fact is kept.
    pub max_record: u64,
    /// What tells own records from forged ones.
    pub integrity: IntegrityConfig,
    /// Whether the records decide nothing: they have keys of their own.
    pub is_shadow: bool,
}

impl DynamoDbConfig {
    /// The defaults, for the table behind `cluster`.
    #[must_use]
    pub fn new(cluster: String, table: String) -> Self {
        Self {
            cluster,
            table,
            timeout: Duration::from_secs(1),
            max_record: 350 << 10,
            integrity: IntegrityConfig::default(),
            is_shadow: false,
        }
    }
}

/// `store.redis`.
#[derive(Clone, Eq, PartialEq)]
pub struct RedisConfig {
    /// Envoy's name of the cluster that leads to the servers.
    pub cluster: String,
    /// What each key begins with.
    pub prefix: String,
    /// How long a request waits for the store at most.
    pub timeout: Duration,
    /// The number of the database; 0 needs no command to choose it.
    pub database: u32,
    /// Who logs in; the default user if there is only a password.
    pub username: Option<String>,
    /// Logs in, if there is one.
    pub password: Option<String>,
    /// How many persistent connections a worker has at most; with 0 each call has one to itself.
    pub connections: u32,
    /// The largest response, as it is stored, in bytes; of a larger one only the fact is kept.
    pub max_record: u64,
    /// What tells own records from forged ones.
    pub integrity: IntegrityConfig,
}

/// `integrity_key` and `unsigned_records` of a store.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct IntegrityConfig {
    /// The first signs, all are accepted; without any, records are not signed.
    pub keys: Vec<String>,
    /// What happens to records that are not signed.
    pub unsigned: Unsigned,
}

impl fmt::Debug for IntegrityConfig {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegrityConfig").field("keys", &self.keys.len()).field("unsigned", &self.unsigned).finish()
    }
}

/// `unsigned_records`: the steps from a fleet that signs no records to one that reads no others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Unsigned {
    /// They count as damaged.
    #[default]
    Refuse,
    /// They are read; what is written is signed.
    Accept,
    /// They are read, and written.
    Write,
}

impl RedisConfig {
    /// The defaults, for the servers behind `cluster`.
    #[must_use]
    pub fn new(cluster: String) -> Self {
        Self {
            cluster,
            prefix: default_prefix(),
            timeout: Duration::from_millis(500),
            database: 0,
            username: None,
            password: None,
            connections: 2,
            max_record: 32 << 10,
            integrity: IntegrityConfig::default(),
        }
    }

    /// The same Redis with keys of its own, for records that decide nothing.
    #[must_use]
    pub fn in_shadow(mut self) -> Self {
        self.prefix.push_str("shadow:");
        self
    }
}

/// What each key begins with, if nobody says.
pub(super) fn default_prefix() -> String {
    "idemgate:".to_owned()
}

impl fmt::Debug for RedisConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("connections", &self.connections)
            .field("max_record", &self.max_record)
            .field("integrity", &self.integrity)
            .finish()
    }
}

/// `store.postgres`.
#[derive(Clone, Eq, PartialEq)]
pub struct PostgresConfig {
    /// Envoy's name of the cluster that leads to the servers.
    pub cluster: String,
    /// The database.
    pub database: String,
    /// The role that logs in.
    pub username: String,
    /// Its password, if the server asks for one.
    pub password: Option<String>,
    /// The schema with the table and the functions.
    pub schema: String,
    /// How many persistent connections a worker has at most.
    pub connections: u32,
    /// How long a request waits for the store at most.
    pub timeout: Duration,
    /// The largest response, as it is stored, in bytes; of a larger one only the fact is kept.
    pub max_record: u64,
    /// Whether this filter removes what has expired.
    pub sweep: bool,
    /// What tells own records from forged ones.
    pub integrity: IntegrityConfig,
}

impl PostgresConfig {
    /// The defaults, for a role in a database behind `cluster`.
    #[must_use]
    pub fn new(cluster: String, database: String, username: String) -> Self {
        Self {
            cluster,
            database,
            username,
            password: None,
            schema: "idemgate".to_owned(),
            connections: 4,
            timeout: Duration::from_millis(500),
            max_record: 1 << 20,
            sweep: true,
            integrity: IntegrityConfig::default(),
        }
    }

    /// The same database with another schema, for records that decide nothing.
    #[must_use]
    pub fn in_shadow(mut self) -> Self {
        self.schema.push_str(SHADOW_SCHEMA);
        self
    }
}

impl fmt::Debug for PostgresConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("cluster", &self.cluster)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .field("max_record", &self.max_record)
            .field("sweep", &self.sweep)
            .field("integrity", &self.integrity)
            .finish()
    }
}

/// What the name of a schema for shadow mode ends with.
const SHADOW_SCHEMA: &str = "_shadow";

/// How long the name of a schema may be: PostgreSQL's names have 63 bytes.
pub(super) const LONGEST_SCHEMA: usize = 63 - SHADOW_SCHEMA.len();

/// `store.shared_data.on_full`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    /// The oldest completed record goes; claims in flight, unknown outcomes and what is too young stay.
    EvictOldest,
    /// The new operation is refused.
    Reject,
}
