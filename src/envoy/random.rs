//! Real randomness for owner tokens and the table's seed.

#![allow(unsafe_code, reason = "wasm32-unknown-unknown has no randomness of its own; the host's is imported by hand")]

/// 128 random bits, new at each call.
///
/// A generator of our own would start alike in every VM, and two owners with one token would be able
/// to overwrite each other's records.
#[cfg(target_arch = "wasm32")]
pub(crate) fn random() -> u128 {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn random_get(buffer: *mut u8, size: usize) -> u16;
    }
    let mut bytes = [0_u8; 16];
    // SAFETY: the host writes sixteen bytes. Envoy's implementation cannot fail.
    unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    u128::from_le_bytes(bytes)
}

/// 128 random bits, new at each call.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn random() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let [high, low] = [0_u8, 1].map(|salt| u128::from(RandomState::new().hash_one(salt)));
    high << 64 | low
}
