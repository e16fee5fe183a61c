//! What a request says about itself: its key, whose it is, which operation it names, what it asks for.
//!
//! Nothing here knows a proxy, a clock or a store. Keys and callers leave this module as hashes only, and
//! every hash is taken over length-prefixed parts, so that no choice of bytes by one client can spell the
//! operation of another.

mod attribute;
mod authorization;
mod caller;
mod canonical_json;
mod digest;
mod fingerprint;
pub(crate) mod fixed_bytes;
mod key;
mod media_type;
mod multipart;
mod operation_id;
mod target;

pub use caller::{Caller, CallerUnknown, Doubt, Identified};
// For the fuzzers alone.
#[doc(hidden)]
pub use canonical_json::canonicalize;
pub use fingerprint::{Fingerprint, FingerprintBuilder};
pub use key::{InvalidKey, Key};
pub use operation_id::{OperationId, OperationPrefix, UnnamedOperation};
pub use target::Target;
