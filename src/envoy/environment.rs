//! The environment variables that the host shows: those that `vm_config.environment_variables` lists.

#![allow(unsafe_code, reason = "wasm32-unknown-unknown has no environment of its own; the host's is imported by hand")]

/// The value of the variable `name`.
#[cfg(target_arch = "wasm32")]
pub(crate) fn variable(name: &str) -> Option<String> {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u16;
        fn environ_get(entries: *mut *mut u8, bytes: *mut u8) -> u16;
    }
    let (mut count, mut size) = (0, 0);
    // SAFETY: the host writes two numbers.
    if unsafe { environ_sizes_get(&raw mut count, &raw mut size) } != 0 {
        return None;
    }
    let mut entries = vec![std::ptr::null_mut(); count];
    let mut bytes = vec![0; size];
    // SAFETY: the host writes as many pointers and bytes as it has just said; the variables of a VM do not change.
    if unsafe { environ_get(entries.as_mut_ptr(), bytes.as_mut_ptr()) } != 0 {
        return None;
    }
    // NAME=value, and a zero byte behind each.
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    bytes.split(|byte| *byte == 0).find_map(value).and_then(|value| String::from_utf8(value).ok())
}

/// The value of the variable `name`.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
