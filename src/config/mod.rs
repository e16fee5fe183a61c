//! Settings: what the operator wrote, checked once and compiled for the request path.

mod policy;

pub use policy::{
    BodyFingerprint, CallerPolicy, Disposition, DuplicatesPolicy, ExecutionMode, ExecutionPolicy, FingerprintPolicy,
    IdentitySource, InFlight, KeyFormat, KeyPolicy, Limits, Mode, OnStoreError, OnUnknown, OutcomePolicy, Policy,
    ReplayPolicy, Resource,
};

// stub until merge
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    EvictOldest,
    Reject,
}
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SharedDataConfig {
    pub max_entries: u32,
    pub max_bytes: u64,
    pub on_full: OnFull,
}
