//! The host calls of proxy-wasm ABI 0.2.1 that this filter uses, each checked and none of them able to panic.
//!
//! The wrappers of the Rust SDK panic on a header value that is not UTF-8, on a map that is not there in the
//! present phase, and on every status that they do not list; one such panic kills the worker's VM. So
//! these are imports of our own. They return the raw status, because a status outside of the SDK's enum
//! would be undefined behaviour there.
//!
//! Signatures: <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>.

#![allow(
    unsafe_code,
    reason = "this is the C ABI of the host, whose other half is `exports.rs`; nothing else in the crate is unsafe"
)]

use std::{ptr, time::Duration};

use log::LevelFilter;

use crate::{headers::Headers, time::Timestamp};

/// A host call was refused, with this status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused(pub(crate) u32);

/// Which message's fields.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
#[allow(clippy::enum_variant_names, reason = "the maps of trailers, which nothing here needs, have the same prefixes")]
pub(crate) enum Map {
    RequestHeaders = 0,
    ResponseHeaders = 2,
    CallResponseHeaders = 6,
}

/// Which bytes.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    CallResponseBody = 4,
    PluginConfiguration = 7,
}

/// Which kind of metric.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Severity {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// What became of a write to shared data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SharedWrite {
    Done,
    CasMismatch,
}

/// The wall clock of the host; the epoch if the host has none.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(nanos() / 1_000_000)
}

/// The wall clock of the host in microseconds, to measure with.
pub(crate) fn micros() -> u64 {
    nanos() / 1_000
}

fn nanos() -> u64 {
    let mut nanos = 0_u64;
    // SAFETY: the host writes one u64.
    unsafe { imports::proxy_get_current_time_nanoseconds(&mut nanos) };
    nanos
}

/// The level from which on the host logs what this filter says.
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

/// Writes a line to the host's log.
pub(crate) fn log(severity: Severity, line: &str) {
    // SAFETY: the host only reads. A line that cannot be written is no reason to fail a request.
    unsafe { imports::proxy_log(severity as u32, line.as_ptr(), line.len()) };
}

/// All fields of a message; none outside of its phase.
pub(crate) fn headers(map: Map) -> Headers {
    // SAFETY: the host allocates the value in this VM and hands it over.
    let bytes = unsafe { returned(|data, size| imports::proxy_get_header_map_pairs(map as u32, data, size)) };
    bytes.ok().flatten().and_then(Headers::from_pairs).unwrap_or_default()
}

/// The first value of one field.
pub(crate) fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    // SAFETY: as above; the name is only read.
    let value = unsafe {
        returned(|data, size| imports::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size))
    };
    value.ok().flatten()
}

/// The status code among the fields of a response; 0 if there is none.
pub(crate) fn status(headers: &Headers) -> u16 {
    parse_status(headers.get(":status"))
}

/// The status code of a response, without its other fields; 0 if there is none.
pub(crate) fn status_of(map: Map) -> u16 {
    parse_status(header(map, ":status").as_deref())
}

fn parse_status(value: Option<&[u8]>) -> u16 {
    value.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or_default()
}

/// How many bytes the names and values of a message's fields have; `None` outside of its phase.
pub(crate) fn header_bytes(map: Map) -> Option<usize> {
    let mut size = 0_usize;
    // SAFETY: the host writes one usize.
    check(unsafe { imports::proxy_get_header_map_size(map as u32, &mut size) }).ok().map(|()| size)
}

/// Puts these fields in the place of all that a message has.
pub(crate) fn set_headers(map: Map, headers: &Headers) -> Result<(), Refused> {
    let pairs = serialize_pairs(headers.iter());
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_set_header_map_pairs(map as u32, pairs.as_ptr(), pairs.len()) })
}

/// Sets a field in place of all that have its name.
pub(crate) fn set_header(map: Map, name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe {
        imports::proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Takes a field out.
pub(crate) fn remove_header(map: Map, name: &str) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// `length` bytes of a buffer from `start` on, or fewer if it ends before.
pub(crate) fn buffer(buffer: Buffer, start: usize, length: usize) -> Vec<u8> {
    if length == 0 {
        // Envoy often tells the end of a body apart from its bytes.
        return Vec::new();
    }
    // SAFETY: the host allocates the value in this VM and hands it over.
    let bytes =
        unsafe { returned(|data, size| imports::proxy_get_buffer_bytes(buffer as u32, start, length, data, size)) };
    bytes.ok().flatten().unwrap_or_default()
}

/// Puts `bytes` in the place of all `length` bytes of a buffer.
pub(crate) fn set_buffer(buffer: Buffer, length: usize, bytes: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_set_buffer_bytes(buffer as u32, 0, length, bytes.as_ptr(), bytes.len()) })
}

/// An attribute of the host, as its raw bytes. Zero bytes separate the parts of its path.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: as above.
    let value = unsafe { returned(|data, size| imports::proxy_get_property(path.as_ptr(), path.len(), data, size)) };
    value.ok().flatten()
}

/// An integer attribute: eight bytes, little-endian.
pub(crate) fn integer_property(path: &str) -> Option<u64> {
    property(path).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

/// Writes the filter state `wasm.<name>`.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads.
    check(unsafe { imports::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// A value of the shared data and its version; `None` if the key was never written.
pub(crate) fn shared_data(key: &str) -> Result<Option<(Vec<u8>, u32)>, Refused> {
    let mut cas = 0_u32;
    // SAFETY: as above, and the host writes one u32.
    let value = unsafe {
        returned(|data, size| imports::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas))
    }?;
    // An emptied value has no bytes, but it has a version: zero is never one.
    Ok(match value {
        None if cas == 0 => None,
        value => Some((value.unwrap_or_default(), cas)),
    })
}

/// Writes shared data if `cas` is the present version of it (the rules: `store/shared_data/memory.rs`).
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<SharedWrite, Refused> {
    // SAFETY: the host only reads.
    let status = unsafe { imports::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    match status {
        STATUS_CAS_MISMATCH => Ok(SharedWrite::CasMismatch),
        status => check(status).map(|()| SharedWrite::Done),
    }
}

/// Answers the client in place of the upstream. Never from `on_log`: that brings down Envoy.
pub(crate) fn send_local_response(status: u16, details: &str, headers: &Headers, body: &[u8]) -> Result<(), Refused> {
    let pairs = serialize_pairs(headers.iter());
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

/// Sends a request to a cluster; the token by which the context in effect will hear of its answer.
///
/// A `timeout` of zero is none.
pub(crate) fn http_call<'a>(
    cluster: &str,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    body: &[u8],
    timeout: Duration,
) -> Result<u32, Refused> {
    let pairs = serialize_pairs(fields);
    let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let mut token = 0_u32;
    // SAFETY: the host reads, and writes one u32.
    let status = unsafe {
        imports::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            pairs.as_ptr(),
            pairs.len(),
            body.as_ptr(),
            body.len(),
            NO_PAIRS.as_ptr(),
            NO_PAIRS.len(),
            timeout,
            &mut token,
        )
    };
    check(status).map(|()| token)
}

/// Makes the following calls act on another context of this VM.
pub(crate) fn set_effective_context(context_id: u32) -> Result<(), Refused> {
    // SAFETY: a plain value.
    check(unsafe { imports::proxy_set_effective_context(context_id) })
}

/// Lets the request of the effective context go on.
pub(crate) fn resume_request() -> Result<(), Refused> {
    // SAFETY: a plain value.
    check(unsafe { imports::proxy_continue_stream(STREAM_HTTP_REQUEST) })
}

/// Lets the response of the effective context go on.
pub(crate) fn resume_response() -> Result<(), Refused> {
    // SAFETY: a plain value.
    check(unsafe { imports::proxy_continue_stream(STREAM_HTTP_RESPONSE) })
}

/// Opens the queue with this name, of which the active root context is told from now on.
pub(crate) fn register_queue(name: &str) -> Result<u32, Refused> {
    let mut token = 0_u32;
    // SAFETY: the host reads the name and writes one u32.
    check(unsafe { imports::proxy_register_shared_queue(name.as_ptr(), name.len(), &mut token) }).map(|()| token)
}

/// Puts a message into a queue of any worker. A queue that is gone needs no message.
pub(crate) fn enqueue(token: u32, message: &[u8]) {
    // SAFETY: the host only reads.
    unsafe { imports::proxy_enqueue_shared_queue(token, message.as_ptr(), message.len()) };
}

/// Takes the next message out of a queue; `None` if it is empty.
pub(crate) fn dequeue(token: u32) -> Option<Vec<u8>> {
    // SAFETY: the host allocates the value in this VM and hands it over.
    let message = unsafe { returned(|data, size| imports::proxy_dequeue_shared_queue(token, data, size)) };
    message.ok().flatten()
}

/// Says that a root context whose `on_done` asked for time needs no more of it.
pub(crate) fn done() {
    // SAFETY: no values. It fails only if nobody waits for it.
    unsafe { imports::proxy_done() };
}

/// Asks for `on_tick` every `millis` milliseconds.
pub(crate) fn set_tick_period(millis: u32) -> Result<(), Refused> {
    // SAFETY: a plain value.
    check(unsafe { imports::proxy_set_tick_period_milliseconds(millis) })
}

/// Defines a metric and returns its id; the same name gives the same metric in every worker.
pub(crate) fn define_metric(kind: MetricKind, name: &str) -> Result<u32, Refused> {
    let mut id = 0_u32;
    // SAFETY: the host reads the name and writes one u32.
    check(unsafe { imports::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) }).map(|()| id)
}

/// Adds to a counter (more than zero) or a gauge.
pub(crate) fn increment_metric(id: u32, offset: i64) {
    // SAFETY: plain values. A metric that cannot be counted is no reason to fail a request.
    unsafe { imports::proxy_increment_metric(id, offset) };
}

/// Sets a gauge, or adds a value to a histogram.
pub(crate) fn record_metric(id: u32, value: u64) {
    // SAFETY: plain values.
    unsafe { imports::proxy_record_metric(id, value) };
}

const STATUS_OK: u32 = 0;
const STATUS_NOT_FOUND: u32 = 1;
const STATUS_CAS_MISMATCH: u32 = 8;

/// The number of no fields.
const NO_PAIRS: [u8; 4] = [0; 4];

const NO_GRPC_STATUS: i32 = -1;
const STREAM_HTTP_REQUEST: u32 = 0;
const STREAM_HTTP_RESPONSE: u32 = 1;

fn check(status: u32) -> Result<(), Refused> {
    if status == STATUS_OK { Ok(()) } else { Err(Refused(status)) }
}

/// Takes over a value that the host returns by pointer and size; `None` if there is none.
///
/// # Safety
/// `call` must hand both pointers to a host call that, when it writes to them, has allocated that many
/// bytes with this VM's `proxy_on_memory_allocate`, which is a `Vec` of that capacity.
unsafe fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Option<Vec<u8>>, Refused> {
    let mut data: *mut u8 = ptr::null_mut();
    let mut size = 0_usize;
    match call(&mut data, &mut size) {
        STATUS_OK if data.is_null() => Ok(None),
        // SAFETY: by the contract of this function.
        STATUS_OK => Ok(Some(unsafe { Vec::from_raw_parts(data, size, size) })),
        STATUS_NOT_FOUND => Ok(None),
        status => Err(Refused(status)),
    }
}

fn serialize_pairs<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Vec<u8> {
    // Per field two sizes and two zero bytes, and the number of fields.
    let size = fields.clone().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>() + NO_PAIRS.len();
    let mut bytes = Vec::with_capacity(size);
    let push_u32 = |bytes: &mut Vec<u8>, number: usize| {
        bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    };
    push_u32(&mut bytes, fields.clone().count());
    for (name, value) in fields.clone() {
        push_u32(&mut bytes, name.len());
        push_u32(&mut bytes, value.len());
    }
    for (name, value) in fields {
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
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub(super) fn proxy_dequeue_shared_queue(token: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_done() -> u32;
        pub(super) fn proxy_enqueue_shared_queue(token: u32, message: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            length: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_current_time_nanoseconds(nanos: *mut u64) -> u32;
        pub(super) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_log_level(level: *mut u32) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_http_call(
            cluster: *const u8,
            cluster_size: usize,
            headers: *const u8,
            headers_size: usize,
            body: *const u8,
            body_size: usize,
            trailers: *const u8,
            trailers_size: usize,
            timeout: u32,
            token: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_log(level: u32, line: *const u8, size: usize) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_register_shared_queue(name: *const u8, name_size: usize, token: *mut u32) -> u32;
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
        pub(super) fn proxy_get_header_map_size(map: u32, size: *mut usize) -> u32;
        pub(super) fn proxy_set_header_map_pairs(map: u32, pairs: *const u8, size: usize) -> u32;
        pub(super) fn proxy_set_effective_context(context_id: u32) -> u32;
        pub(super) fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize)
        -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(millis: u32) -> u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_pairs_survive_the_way_to_the_host_and_back() {
        let headers: Headers = [("a", &b"\xe9\x00"[..]), ("a", b""), (":status", b"200")].into_iter().collect();
        assert_eq!(Headers::from_pairs(serialize_pairs(headers.iter())), Some(headers));
    }

    #[test]
    fn header_pairs_that_do_not_add_up_are_refused() {
        let bytes = serialize_pairs([(&b"name"[..], &b"value"[..])].into_iter());
        for length in 0..bytes.len() {
            assert_eq!(Headers::from_pairs(bytes[..length].to_vec()), None, "cut to {length} bytes");
        }
        assert_eq!(Headers::from_pairs(vec![0xff; 12]), None);
    }
}
