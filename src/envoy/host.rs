//! The host calls that this filter uses. None of them can panic on Envoy.
//!
//! These are the SDK's, as far as it lists every status that Envoy answers them with; the others are in
//! [`abi`](super::abi).

use std::{
    cell::RefCell,
    time::{Duration, UNIX_EPOCH},
};

use proxy_wasm::{hostcalls, types::Status};

pub(crate) use proxy_wasm::types::{Action, BufferType, MapType, MetricType};

use super::abi;
pub(crate) use super::abi::{
    KnownRoot, Refused, add_header, header, header_bytes, headers, hold_what_follows, random, remove_header,
    resume_request, resume_response, send_local_response, set_buffer, set_filter_state, set_header, set_headers,
    status_text, variable,
};
use crate::{exchange::Reply, headers::Headers, time::Timestamp};

/// What became of a write to shared data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SharedWrite {
    Done,
    CasMismatch,
}

/// The wall clock of the host; the epoch if the host has none.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(micros() / 1_000)
}

/// The wall clock of the host in microseconds, to measure with.
pub(crate) fn micros() -> u64 {
    let since_epoch = hostcalls::get_current_time().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since_epoch = since_epoch.unwrap_or_default();
    since_epoch.as_secs() * 1_000_000 + u64::from(since_epoch.subsec_micros())
}

/// Lets through to the host what it would log. It says so now and then only, as the level may change at any time.
pub(crate) fn follow_log_level() {
    log::set_max_level(abi::log_level());
}

/// The status code among the fields of a response; 0 if there is none.
pub(crate) fn status(headers: &Headers) -> u16 {
    parse_status(headers.get(":status"))
}

/// The status code of a response, without its other fields; 0 if there is none.
pub(crate) fn status_of(map: MapType) -> u16 {
    parse_status(header(map, ":status").as_deref())
}

fn parse_status(value: Option<&[u8]>) -> u16 {
    value.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or_default()
}

/// `length` bytes of a buffer from `start` on, or fewer if it ends before.
pub(crate) fn buffer(buffer: BufferType, start: usize, length: usize) -> Vec<u8> {
    if length == 0 {
        // Envoy often tells the end of a body apart from its bytes.
        return Vec::new();
    }
    hostcalls::get_buffer(buffer, start, length).ok().flatten().unwrap_or_default()
}

/// An attribute of the host, as its raw bytes. Zero bytes separate the parts of its path.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    hostcalls::get_property(path.split('\0').collect()).ok().flatten()
}

/// An integer attribute: eight bytes, little-endian.
pub(crate) fn integer_property(path: &str) -> Option<u64> {
    property(path).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

/// A value of the shared data and its version; `None` if the key was never written.
pub(crate) fn shared_data(key: &str) -> Result<Option<(Vec<u8>, u32)>, Refused> {
    // An emptied value has no bytes, but it has a version.
    match hostcalls::get_shared_data(key).map_err(refused)? {
        (None, None) => Ok(None),
        (value, version) => Ok(Some((value.unwrap_or_default(), version.unwrap_or_default()))),
    }
}

/// Writes shared data if `cas` is the present version of it (the rules: `store/shared_data/memory.rs`).
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<SharedWrite, Refused> {
    match hostcalls::set_shared_data(key, Some(value), Some(cas)) {
        Ok(()) => Ok(SharedWrite::Done),
        Err(Status::CasMismatch) => Ok(SharedWrite::CasMismatch),
        Err(status) => Err(refused(status)),
    }
}

/// Sends a request to a cluster; the token by which the root context whose callback runs will get its answer. Its
/// fields have to be text.
///
/// A `timeout` of zero is none.
pub(crate) fn http_call<'a>(
    cluster: &str,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    body: &[u8],
    timeout: Duration,
) -> Result<u32, Refused> {
    let text = |(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?));
    let fields = fields.map(text).collect::<Option<Vec<_>>>().ok_or(refused(Status::BadArgument))?;
    let timeout = timeout.min(Duration::from_millis(u32::MAX.into()));
    hostcalls::dispatch_http_call(cluster, fields, Some(body), Vec::new(), timeout).map_err(refused)
}

/// Opens a gRPC stream to a cluster, whose messages come to the root context whose callback runs. The context in effect
/// owns it, and has to be the root context as well.
pub(crate) fn open_stream(cluster: &str) -> Option<u32> {
    // Envoy refuses it with one of the statuses that the SDK lists.
    hostcalls::open_grpc_stream(cluster, "idemgate", "store", Vec::new()).ok()
}

/// Sends a message on a stream of the context in effect; `false` if there is no such stream any more.
pub(crate) fn send_message(stream: u32, message: &[u8]) -> bool {
    hostcalls::send_grpc_stream_message(stream, Some(message), false).is_ok()
}

/// Gives a stream of this root context up when the next tick comes. Envoy 1.36 dies of a stream that is cancelled in the very
/// callback that hands over its last bytes, as when a server refuses a login and hangs up (seen on 1.36.2, not on 1.40.0).
pub(crate) fn cancel_stream(root: u32, stream: u32) {
    LEFT_STREAMS.with_borrow_mut(|left| left.push((root, stream)));
}

/// Gives up those streams. To be called in a tick, or at the end of a configuration, of this context, which stays in effect.
pub(crate) fn cancel_left_streams(context_id: u32) {
    let left = LEFT_STREAMS.take();
    if left.is_empty() {
        return;
    }
    for (root, stream) in left {
        // One that has ended meanwhile is not found.
        if set_effective_context(root).is_ok() {
            let _ = hostcalls::cancel_grpc_stream(stream);
        }
    }
    let _ = set_effective_context(context_id);
}

thread_local! {
    /// With their root contexts.
    static LEFT_STREAMS: RefCell<Vec<(u32, u32)>> = const { RefCell::new(Vec::new()) };
}

/// Answers the client of the stream in effect.
pub(crate) fn reply(reply: &Reply) {
    if let Err(refused) = send_local_response(reply.status, reply.details, &reply.headers, &reply.body) {
        log::error!("idemgate: the host refused a local reply of status {} ({refused:?})", reply.status);
    }
}

/// Makes the following calls act on another context of this VM.
pub(crate) fn set_effective_context(context_id: u32) -> Result<(), Refused> {
    hostcalls::set_effective_context(context_id).map_err(refused)
}

/// Opens the queue with this name; the active root context is called for it from now on.
pub(crate) fn register_queue(name: &str) -> Result<u32, Refused> {
    hostcalls::register_shared_queue(name).map_err(refused)
}

/// Puts a message into a queue of any worker. A queue that is gone needs no message.
pub(crate) fn enqueue(token: u32, message: &[u8]) {
    let _ = hostcalls::enqueue_shared_queue(token, Some(message));
}

/// Takes the next message out of a queue; `None` if it is empty.
pub(crate) fn dequeue(token: u32) -> Option<Vec<u8>> {
    hostcalls::dequeue_shared_queue(token).ok().flatten()
}

/// Says that the root context in effect, whose `on_done` asked for time, needs no more of it. To be called once: the host
/// refuses it of any other, and the SDK panics then.
pub(crate) fn done() {
    let _ = hostcalls::done();
}

/// Asks for `on_tick` once in each `period` of whole milliseconds.
pub(crate) fn set_tick_period(period: Duration) {
    let _ = hostcalls::set_tick_period(period);
}

/// Defines a metric and returns its id; the same name gives the same metric in every worker.
pub(crate) fn define_metric(kind: MetricType, name: &str) -> Result<u32, Refused> {
    hostcalls::define_metric(kind, name).map_err(refused)
}

/// Adds to a counter (more than zero) or a gauge. A metric that cannot be counted is no reason to fail a request.
pub(crate) fn increment_metric(id: u32, offset: i64) {
    let _ = hostcalls::increment_metric(id, offset);
}

/// Sets a gauge, or adds a value to a histogram.
pub(crate) fn record_metric(id: u32, value: u64) {
    let _ = hostcalls::record_metric(id, value);
}

fn refused(status: Status) -> Refused {
    Refused(status as u32)
}
