//! The host's shared data as the store sees it.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    record::{decode, encode},
    store::StoreError,
};

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

/// What a change does with the value under a key.
#[derive(Debug)]
pub enum Change<R> {
    /// It stays as it is; this is the result.
    Keep(R),
    /// It becomes this; then that is the result.
    Write(Vec<u8>, R),
}

/// Changes the value under `key` by compare-and-swap. `change` is asked with the value that was found, and anew whenever
/// somebody else has written first.
///
/// # Errors
/// [`StoreError`] if the host refuses, if others write first each time, or that of `change`.
pub fn update<R>(
    memory: &impl SharedMemory,
    key: &str,
    mut change: impl FnMut(Option<&[u8]>) -> Result<Change<R>, StoreError>,
) -> Result<R, StoreError> {
    retry(|| {
        let found = memory.get(key)?;
        match change(found.as_ref().map(|(bytes, _)| bytes.as_slice()))? {
            Change::Keep(result) => Ok(Some(result)),
            Change::Write(bytes, result) => {
                let cas = found.map_or(Cas::NEVER_ISSUED, |(_, cas)| cas);
                Ok((memory.set(key, &bytes, cas)? == Written::Done).then_some(result))
            }
        }
    })
}

/// The same for a value that is a hint: what is not there, or cannot be read, is the default. `false` if `change` leaves
/// it as it is.
///
/// # Errors
/// As above.
pub fn update_hint<T: Default + DeserializeOwned + Serialize>(
    memory: &impl SharedMemory,
    key: &str,
    mut change: impl FnMut(T) -> Option<T>,
) -> Result<bool, StoreError> {
    update(memory, key, |found| {
        let value = found.and_then(|bytes| decode(bytes).ok()).unwrap_or_default();
        Ok(match change(value) {
            Some(changed) => Change::Write(encode(&changed)?, true),
            None => Change::Keep(false),
        })
    })
}

/// Tries until an attempt comes to something; `None` says that somebody else has written first.
pub(super) fn retry<R>(mut attempt: impl FnMut() -> Result<Option<R>, StoreError>) -> Result<R, StoreError> {
    for _ in 0..ATTEMPTS {
        if let Some(result) = attempt()? {
            return Ok(result);
        }
    }
    Err(StoreError::Contended)
}

/// How often a compare-and-swap is tried before it is given up.
///
/// Each lost try means that another worker's write succeeded, so this many in a row take that many
/// writes to one key within microseconds.
const ATTEMPTS: usize = 64;
