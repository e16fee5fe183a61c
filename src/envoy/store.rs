//! The store of a configuration: one that answers at once, or one that has to be asked through Envoy.

use super::host::{self, Refused, SharedWrite};
use crate::{
    config::StoreConfig,
    store::{
        Answer, Call, StoreError,
        redis::{Inquiry, RedisStore},
        shared_data::{Cas, SharedDataStore, SharedMemory, Written},
    },
    time::Timestamp,
};

use super::random::random;

/// Where the records are.
#[derive(Debug)]
pub(super) enum Store {
    SharedData(SharedDataStore<HostMemory>),
    Redis(RedisStore),
}

/// What a store makes of a call.
#[derive(Debug)]
pub(super) enum Reaction {
    Answered(Answer),
    /// The answer is to be asked for.
    Asks(Inquiry),
}

impl Store {
    pub(super) fn open(config: StoreConfig) -> Result<Self, StoreError> {
        Ok(match config {
            StoreConfig::SharedData(limits) => Self::SharedData(SharedDataStore::open(HostMemory, limits, random())?),
            StoreConfig::Redis(config) => Self::Redis(RedisStore::new(config)),
        })
    }

    pub(super) fn call(&self, call: Call, now: Timestamp) -> Reaction {
        match self {
            Self::SharedData(store) => Reaction::Answered(store.call(call, now)),
            Self::Redis(store) => match store.inquire(&call, now) {
                Ok(inquiry) => Reaction::Asks(inquiry),
                Err(answer) => Reaction::Answered(answer),
            },
        }
    }

    /// Whether other Envoys see the same records, so that executions end without a word here.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Redis(_))
    }
}

/// Envoy's shared data.
#[derive(Debug)]
pub(super) struct HostMemory;

impl SharedMemory for HostMemory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        let found = host::shared_data(key).map_err(|Refused(status)| StoreError::Host(status))?;
        Ok(found.map(|(value, cas)| (value, Cas(cas))))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        match host::set_shared_data(key, value, cas.0).map_err(|Refused(status)| StoreError::Host(status))? {
            SharedWrite::Done => Ok(Written::Done),
            SharedWrite::CasMismatch => Ok(Written::Lost),
        }
    }
}
