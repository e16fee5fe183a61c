//! The store of a configuration: one that answers at once, or one that has to be asked through Envoy.

use std::{borrow::Cow, time::Duration};

use super::host::{self, Refused, SharedWrite};
use crate::{
    config::StoreConfig,
    store::{
        Call, StoreError,
        dynamodb::DynamoDbStore,
        pool::{Pool, Streams},
        postgres::PostgresStore,
        redis::RedisStore,
        remote::RemoteStore,
        shared_data::{Cas, SharedDataStore, SharedMemory, Written},
    },
    time::Timestamp,
    worker::StoreReply,
};

/// Where the records are.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a worker has one or two, for as long as it lives")]
pub(super) enum Store {
    SharedData(SharedDataStore<HostMemory>),
    Remote(Box<dyn RemoteStore>),
}

impl Store {
    pub(super) fn open(config: StoreConfig, memory: HostMemory) -> Result<Self, StoreError> {
        Ok(match config {
            StoreConfig::SharedData(limits) => Self::SharedData(SharedDataStore::open(memory, limits, host::random())?),
            StoreConfig::DynamoDb(config) => Self::Remote(Box::new(DynamoDbStore::new(config))),
            StoreConfig::Postgres(config) => Self::Remote(Box::new(PostgresStore::new(config))),
            StoreConfig::Redis(config) => Self::Remote(Box::new(RedisStore::new(config))),
        })
    }

    pub(super) fn call(&self, call: Call, now: Timestamp) -> StoreReply {
        match self {
            Self::SharedData(store) => StoreReply::Answered(store.call(call, now)),
            Self::Remote(store) => match store.inquire(&call, now) {
                Ok(inquiry) => StoreReply::Asks(inquiry),
                Err(answer) => StoreReply::Answered(answer),
            },
        }
    }

    /// Sends bytes to the cluster of a remote store, over whichever transport it stands for; the token of the answer, or
    /// `None` if the host says at once that it cannot be sent. To be called with the root context in effect.
    pub(super) fn send(&self, bytes: &[u8], timeout: Duration) -> Option<u32> {
        let Self::Remote(store) = self else { return None };
        let (fields, body) = store.call(bytes);
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        host::http_call(store.cluster(), fields, body, timeout).ok()
    }

    /// Whether its replies say what time it is there.
    pub(super) fn has_clock(&self) -> bool {
        matches!(self, Self::Remote(store) if store.has_clock())
    }

    /// The persistent connections of a worker to a remote store that is to have them.
    pub(super) fn pool(&self) -> Option<Pool> {
        let Self::Remote(store) = self else { return None };
        store.pool(host::random())
    }

    /// Its streams, as long as the root context `root` lives.
    pub(super) fn streams(&self, root: u32) -> StoreStreams<'_> {
        let Self::Remote(store) = self else { return StoreStreams { cluster: "", root } };
        StoreStreams { cluster: store.cluster(), root }
    }

    /// Whether other Envoys see the same records, so that executions end without a word here.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }
}

/// The host's streams to a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreStreams<'a> {
    cluster: &'a str,
    root: u32,
}

impl Streams for StoreStreams<'_> {
    fn open_stream(&mut self) -> Option<u32> {
        self.enter_root();
        host::open_stream(self.cluster)
    }

    fn send(&mut self, stream: u32, bytes: &[u8]) -> bool {
        self.enter_root();
        host::send_message(stream, bytes)
    }

    fn close_stream(&mut self, stream: u32) {
        host::cancel_stream(self.root, stream);
    }
}

impl StoreStreams<'_> {
    /// A stream of the host's belongs to the context in effect.
    fn enter_root(self) {
        let _ = host::set_effective_context(self.root);
    }
}

/// Envoy's shared data.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostMemory {
    /// Whether its keys are those of shadow mode.
    is_shadow: bool,
}

impl HostMemory {
    /// What requests are decided by, and what the workers tell each other.
    pub(super) const ENFORCED: Self = Self { is_shadow: false };
    /// What decides nothing.
    pub(super) const SHADOW: Self = Self { is_shadow: true };

    /// The key by which the host knows `key`: one of the same length, which host strings hold as cheaply.
    fn name(self, key: &str) -> Cow<'_, str> {
        if self.is_shadow { Cow::Owned(key.replacen("/v1/", "/s1/", 1)) } else { Cow::Borrowed(key) }
    }
}

impl SharedMemory for HostMemory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        let found = host::shared_data(&self.name(key)).map_err(|Refused(status)| StoreError::Host(status))?;
        Ok(found.map(|(value, cas)| (value, Cas(cas))))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        match host::set_shared_data(&self.name(key), value, cas.0)
            .map_err(|Refused(status)| StoreError::Host(status))?
        {
            SharedWrite::Done => Ok(Written::Done),
            SharedWrite::CasMismatch => Ok(Written::Lost),
        }
    }
}
