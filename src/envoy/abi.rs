//! What the Rust SDK cannot do on Envoy, or does by panicking, which ends the worker's VM: imports of our own, and two
//! exports in the place of the SDK's. Nothing else in the crate is unsafe.
//!
//! The SDK's calls for header fields panic on a value that is not UTF-8, on a map that is not there in the present phase,
//! and on every status that they do not list; those that change something, on every failure. Its local reply has no code
//! details. The functions here return the raw status, because a status outside of the SDK's enum would be undefined
//! behaviour there. The rest of the SDK is used through [`host`](super::host); `clippy.toml` forbids what is not safe.
//!
//! Signatures: <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>.

#![allow(unsafe_code, reason = "the C ABI of the host, as far as the SDK does not cover it")]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ptr,
};

use log::LevelFilter;
use proxy_wasm::types::{Action, BufferType, MapType, StreamType};

use crate::headers::Headers;

/// A host call was refused, with this status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused(pub(crate) u32);

/// What the host calls in the place of the SDK's exports. `tools/build-module` sees to it: an export `over.NAME` becomes
/// `NAME`, and the SDK's own is left out. Natively they are plain functions, for tests that play the host.
///
/// It also leaves the SDK's exports for the first and the last fields of a gRPC stream out. Envoy tells of those at once, also
/// while another callback of this VM runs, and does then what that callback has put off, such as a local reply, so that the
/// SDK is called inside of itself and panics (seen on 1.40.0, as PostgreSQL ended a connection in the moment in which a
/// question was sent over it). Envoy tells nothing of what is not exported, and of a stream's end when no callback runs.
pub mod exports {
    use super::{Action, HOLDS_WHAT_FOLLOWS, KnownRoot};

    #[cfg(all(target_arch = "wasm32", not(renames_exports)))]
    compile_error!("build the module with tools/build-module, which puts the exports below in the place of the SDK's");

    unsafe extern "C" {
        fn proxy_on_queue_ready(root: u32, queue: u32);
        fn proxy_on_request_headers(stream: u32, fields: usize, end_of_stream: bool) -> u32;
    }

    /// Envoy's `StopAllIterationAndWatermark`, for which the SDK's `Action` has no word.
    const HOLD_ALL: u32 = 4;

    /// The request's fields are there.
    #[cfg_attr(target_arch = "wasm32", unsafe(export_name = "over.proxy_on_request_headers"))]
    pub extern "C" fn request_headers(stream: u32, fields: usize, end_of_stream: bool) -> u32 {
        // SAFETY: the SDK's own export, called as the host would.
        let action = unsafe { proxy_on_request_headers(stream, fields, end_of_stream) };
        if HOLDS_WHAT_FOLLOWS.take() && action == Action::Pause as u32 { HOLD_ALL } else { action }
    }

    /// There are messages in a queue of a root context.
    ///
    /// The host knows the context by its number alone. After a crash the number may be a stream's of the new VM, or
    /// nobody's, and the SDK would panic.
    #[cfg_attr(target_arch = "wasm32", unsafe(export_name = "over.proxy_on_queue_ready"))]
    pub extern "C" fn queue_ready(context: u32, queue: u32) {
        if KnownRoot::exists(context) {
            // SAFETY: as above.
            unsafe { proxy_on_queue_ready(context, queue) };
        }
    }
}

thread_local! {
    /// Whether the headers that are held are to stop all that follows them. One VM has one thread.
    static HOLDS_WHAT_FOLLOWS: Cell<bool> = const { Cell::new(false) };
    static KNOWN_ROOTS: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
}

/// A root context, as the host numbers it; messages in its queues are handed on as long as this is not dropped.
#[derive(Debug)]
pub(crate) struct KnownRoot(u32);

impl KnownRoot {
    pub(crate) fn new(context_id: u32) -> Self {
        KNOWN_ROOTS.with_borrow_mut(|roots| roots.insert(context_id));
        Self(context_id)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0
    }

    fn exists(context_id: u32) -> bool {
        KNOWN_ROOTS.with_borrow(|roots| roots.contains(&context_id))
    }
}

impl Drop for KnownRoot {
    fn drop(&mut self) {
        // A native thread that ends may have dropped the set before.
        let _ = KNOWN_ROOTS.try_with(|roots| roots.borrow_mut().remove(&self.0));
    }
}

/// What to answer the host in the callback for a request's headers, so that it holds them, and keeps what follows to
/// itself until they go on: no further than its buffer goes, and then it stops reading. After a plain `Pause` what follows
/// is handed over as it comes.
pub(crate) fn hold_what_follows() -> Action {
    HOLDS_WHAT_FOLLOWS.set(true);
    Action::Pause
}

/// The level from which on the host logs what this filter says. The SDK's enum has no word for "off".
pub(crate) fn log_level() -> LevelFilter {
    let mut level = 0_u32;
    // SAFETY: the host writes one u32.
    let status = unsafe { imports::proxy_get_log_level(&mut level) };
    match (check(status), level) {
        (Err(_), _) | (_, 2) => LevelFilter::Info,
        (_, 0) => LevelFilter::Trace,
        (_, 1) => LevelFilter::Debug,
        (_, 3) => LevelFilter::Warn,
        // The host has a level above errors, which the filter does not use.
        (_, 4 | 5) => LevelFilter::Error,
        _ => LevelFilter::Off,
    }
}

/// All fields of a message; none outside of its phase.
pub(crate) fn headers(map: MapType) -> Headers {
    // SAFETY: the host allocates the value in this VM and hands it over.
    let bytes = unsafe { returned(|data, size| imports::proxy_get_header_map_pairs(map as u32, data, size)) };
    bytes.and_then(Headers::from_pairs).unwrap_or_default()
}

/// The first value of one field.
pub(crate) fn header(map: MapType, name: &str) -> Option<Vec<u8>> {
    // SAFETY: as above; the name is only read.
    unsafe {
        returned(|data, size| imports::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size))
    }
}

/// How many bytes the names and values of a message's fields have; `None` outside of its phase.
pub(crate) fn header_bytes(map: MapType) -> Option<usize> {
    let mut size = 0_usize;
    // SAFETY: the host writes one usize.
    check(unsafe { imports::proxy_get_header_map_size(map as u32, &mut size) }).ok().map(|()| size)
}

/// Puts these fields in the place of all that a message has.
pub(crate) fn set_headers(map: MapType, headers: &Headers) -> Result<(), Refused> {
    let pairs = serialize_pairs(headers);
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_set_header_map_pairs(map as u32, pairs.as_ptr(), pairs.len()) })
}

/// Adds a field, whether or not there are others of its name.
pub(crate) fn add_header(map: MapType, name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe {
        imports::proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Sets a field in place of all that have its name.
pub(crate) fn set_header(map: MapType, name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe {
        imports::proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Takes a field out.
pub(crate) fn remove_header(map: MapType, name: &str) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Puts `bytes` in the place of the first `length` bytes of a buffer.
pub(crate) fn set_buffer(buffer: BufferType, length: usize, bytes: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_set_buffer_bytes(buffer as u32, 0, length, bytes.as_ptr(), bytes.len()) })
}

/// Writes the filter state `wasm.<name>`.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Answers the client in place of the upstream. Never from `on_log`: that brings down Envoy.
pub(crate) fn send_local_response(status: u16, details: &str, headers: &Headers, body: &[u8]) -> Result<(), Refused> {
    let pairs = serialize_pairs(headers);
    // SAFETY: the host only reads.
    check(unsafe {
        imports::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            pairs.as_ptr(),
            pairs.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// What the host says of the end of the gRPC stream that it calls for.
pub(crate) fn status_text() -> Vec<u8> {
    let mut code = 0_u32;
    // SAFETY: both pointers go to `proxy_get_status`, which allocates what it writes to them.
    unsafe { returned(|data, size| imports::proxy_get_status(&raw mut code, data, size)) }.unwrap_or_default()
}

/// Lets the request of the effective context go on.
pub(crate) fn resume_request() -> Result<(), Refused> {
    // SAFETY: a plain value.
    check(unsafe { imports::proxy_continue_stream(StreamType::HttpRequest as u32) })
}

/// Lets the response of the effective context go on.
pub(crate) fn resume_response() -> Result<(), Refused> {
    // SAFETY: a plain value.
    check(unsafe { imports::proxy_continue_stream(StreamType::HttpResponse as u32) })
}

/// 128 random bits, new at each call.
///
/// wasm32-unknown-unknown has no randomness of its own. A generator of ours would start alike in every VM, and two owners
/// with one token would be able to overwrite each other's records.
#[cfg(target_arch = "wasm32")]
pub(crate) fn random() -> u128 {
    let mut bytes = [0_u8; 16];
    // SAFETY: the host writes sixteen bytes. Envoy's implementation cannot fail.
    unsafe { wasi::random_get(bytes.as_mut_ptr(), bytes.len()) };
    u128::from_le_bytes(bytes)
}

/// 128 random bits, new at each call.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn random() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let [high, low] = [0_u8, 1].map(|salt| u128::from(RandomState::new().hash_one(salt)));
    high << 64 | low
}

/// The value of an environment variable: of those that `vm_config.environment_variables` lists.
#[cfg(target_arch = "wasm32")]
pub(crate) fn variable(name: &str) -> Option<String> {
    let (mut count, mut size) = (0, 0);
    // SAFETY: the host writes two numbers.
    if unsafe { wasi::environ_sizes_get(&raw mut count, &raw mut size) } != 0 {
        return None;
    }
    let mut entries = vec![ptr::null_mut(); count];
    let mut bytes = vec![0; size];
    // SAFETY: the host writes as many pointers and bytes as it has just said; the variables of a VM do not change.
    if unsafe { wasi::environ_get(entries.as_mut_ptr(), bytes.as_mut_ptr()) } != 0 {
        return None;
    }
    // NAME=value, and a zero byte behind each.
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    bytes.split(|byte| *byte == 0).find_map(value).and_then(|value| String::from_utf8(value).ok())
}

/// The value of an environment variable.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const STATUS_OK: u32 = 0;

const NO_GRPC_STATUS: i32 = -1;

fn check(status: u32) -> Result<(), Refused> {
    if status == STATUS_OK { Ok(()) } else { Err(Refused(status)) }
}

/// Takes over a value that the host returns by pointer and size; `None` if there is none.
///
/// # Safety
/// `call` must hand both pointers to a host call that, when it writes to them, has allocated that many bytes with this
/// VM's `malloc`, which is the SDK's and makes a `Vec` of that capacity.
unsafe fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data: *mut u8 = ptr::null_mut();
    let mut size = 0_usize;
    let status = call(&mut data, &mut size);
    // SAFETY: by the contract of this function.
    (status == STATUS_OK && !data.is_null()).then(|| unsafe { Vec::from_raw_parts(data, size, size) })
}

fn serialize_pairs(headers: &Headers) -> Vec<u8> {
    // The number of fields, and per field two sizes and two zero bytes.
    let mut bytes = Vec::with_capacity(4 + headers.byte_len() + headers.len() * 10);
    let push_u32 = |bytes: &mut Vec<u8>, number: usize| {
        bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    };
    push_u32(&mut bytes, headers.len());
    for (name, value) in headers.iter() {
        push_u32(&mut bytes, name.len());
        push_u32(&mut bytes, value.len());
    }
    for (name, value) in headers.iter() {
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

mod imports {
    #[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "env"))]
    unsafe extern "C" {
        pub(super) fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_get_header_map_size(map: u32, size: *mut usize) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_log_level(level: *mut u32) -> u32;
        pub(super) fn proxy_get_status(code: *mut u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            length: usize,
            data: *const u8,
            data_size: usize,
        ) -> u32;
        pub(super) fn proxy_set_header_map_pairs(map: u32, pairs: *const u8, size: usize) -> u32;
        pub(super) fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize)
        -> u32;
    }
}

#[cfg(target_arch = "wasm32")]
mod wasi {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn environ_get(entries: *mut *mut u8, bytes: *mut u8) -> u16;
        pub(super) fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u16;
        pub(super) fn random_get(buffer: *mut u8, size: usize) -> u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_pairs_survive_the_way_to_the_host_and_back() {
        let headers: Headers = [("a", &b"\xe9\x00"[..]), ("a", b""), (":status", b"200")].into_iter().collect();
        assert_eq!(Headers::from_pairs(serialize_pairs(&headers)), Some(headers));
    }

    #[test]
    fn header_pairs_that_do_not_add_up_are_refused() {
        let bytes = serialize_pairs(&[("name", "value")].into_iter().collect());
        for length in 0..bytes.len() {
            assert_eq!(Headers::from_pairs(bytes[..length].to_vec()), None, "cut to {length} bytes");
        }
        assert_eq!(Headers::from_pairs(vec![0xff; 12]), None);
    }
}
