//! Which store keeps the records, validated.

/// `store`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StoreConfig {
    /// proxy-wasm shared data of this Envoy process.
    SharedData(SharedDataConfig),
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
}

impl Default for SharedDataConfig {
    fn default() -> Self {
        Self { max_entries: 100_000, max_bytes: 64 << 20, on_full: OnFull::EvictOldest }
    }
}

/// `store.shared_data.on_full`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    /// The oldest completed record goes; claims in flight stay.
    EvictOldest,
    /// The new operation is refused.
    Reject,
}
