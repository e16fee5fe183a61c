//! Settings: what the operator wrote, checked once and compiled for the request path.

mod policy;

pub use policy::{
    BodyFingerprint, CallerPolicy, Disposition, DuplicatesPolicy, ExecutionMode, ExecutionPolicy, FingerprintPolicy,
    IdentitySource, InFlight, KeyFormat, KeyPolicy, Limits, Mode, OnStoreError, OnUnknown, OutcomePolicy, Policy,
    ReplayPolicy, Resource,
};
