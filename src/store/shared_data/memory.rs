//! The host's shared data as the store sees it.

use crate::store::StoreError;

/// A key-value memory with compare-and-swap, common to all workers of an Envoy.
///
/// The rules are those of Envoy's host library (proxy-wasm-cpp-host, `shared_data.cc`):
/// - a write with a `cas` other than the current one fails, if the key is there;
/// - **a write to a key that is not there succeeds whatever its `cas`**, so that "get finds nothing,
///   then set without `cas`" lets two workers win, and a `cas` that is never current makes
///   insert-if-absent;
/// - keys can be emptied, never removed: an empty value is a free place with a `cas`;
/// - `cas` values come from one counter for the whole process and do not repeat.
pub trait SharedMemory {
    /// The value of `key` with its `cas`; `None` if the key was never written.
    ///
    /// # Errors
    /// [`StoreError::Host`] if the host refuses.
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError>;

    /// Writes `value` if `cas` is current, or if the key was never written.
    ///
    /// # Errors
    /// [`StoreError::Host`] if the host refuses.
    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError>;
}

/// A version of one value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Cas(pub u32);

impl Cas {
    /// A version that no value has: with it, a write succeeds only where the key was never written.
    ///
    /// The counter reaches it once in 4,294,967,295 writes; only then could the write overwrite, and
    /// only the very value that was written with it. Zero would mean "overwrite whatever is there".
    pub const NEVER_ISSUED: Self = Self(u32::MAX);
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// The value is there.
    Done,
    /// Somebody else wrote first; nothing was changed.
    Lost,
}
