//! What the guest imports: the 37 functions of proxy-wasm 0.2.1, as Envoy 1.40 answers them.
//!
//! The signatures are the SDK's (its `hostcalls.rs`), enums as their `u32`. Every pointer comes from the guest, which
//! is this very process; results are handed over in memory from the guest's own allocator, as on any host.

#![expect(unsafe_code, reason = "the C ABI of proxy-wasm: symbols that the SDK and the filter link to")]

use std::{
    fmt,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::Arc,
};

use crate::{
    exchange::{Closed, MapKind},
    exports,
    fields::Fields,
    host::{LogLine, MetricKind, Moment, Operation, SharedDataCall},
    meter,
    vm::{self, Callback, Callout, LocalReply, Rule, Status, Vm},
    worker,
};

/// Envoy's limit of a serialized map, both ways.
const MAP_BYTES: usize = 1 << 20;

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, data: *const u8, size: usize) -> u32 {
    const CRITICAL: u32 = 5;
    let _host = meter::host_call("log");
    // SAFETY: the guest's message.
    let message = String::from_utf8_lossy(unsafe { bytes(data, size) }).into_owned();
    let in_guest = vm::try_with(|vm| {
        vm.process.write_log(LogLine { worker: vm.id, level, message: message.clone() });
        vm.is_guest_code()
    });
    match in_guest {
        // The SDK reports panics here. One of the guest aborts the process, and what the test harness has captured
        // until then goes with it: so this goes to the real standard error.
        Some(true) if level >= CRITICAL => {
            let _lost = writeln!(std::io::stderr(), "the filter panicked, which kills its VM: {message}");
        }
        Some(true) => {}
        // The SDK's panic hook serves the whole process: this is a test that fails.
        Some(false) | None => eprintln!("{message}"),
    }
    Status::Ok as u32
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_log_level(level: *mut u32) -> u32 {
    // Envoy's own level, if nobody asks for another.
    const INFO: u32 = 2;
    let _host = meter::host_call("get_log_level");
    // SAFETY: the guest's variable.
    unsafe { answer(level, Ok(INFO)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    let _host = meter::host_call("get_current_time_nanoseconds");
    // SAFETY: the guest's variable.
    unsafe { answer(time, on_vm(|vm| Ok(vm.process.now()))) }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_tick_period_milliseconds(period: u32) -> u32 {
    let _host = meter::host_call("set_tick_period_milliseconds");
    status(on_vm(|vm| {
        vm.tick_period_ms = period;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    kind: u32,
    start: usize,
    size: usize,
    data_out: *mut *mut u8,
    size_out: *mut usize,
) -> u32 {
    let _host = meter::host_call("get_buffer_bytes");
    let part = on_vm(|vm| {
        if start.checked_add(size).is_none() {
            return Err(Status::BadArgument);
        }
        let buffer = buffer(vm, kind)?;
        let end = buffer.len().min(start + size);
        Ok(buffer.get(start..end).unwrap_or_default().to_vec())
    });
    match part {
        // Envoy leaves the guest's variables alone when there is nothing to hand over.
        Ok(part) if part.is_empty() => Status::Ok as u32,
        // SAFETY: the guest's variables.
        part => unsafe { hand_over(part.as_deref(), data_out, size_out) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_buffer_bytes(
    kind: u32,
    start: usize,
    size: usize,
    data: *const u8,
    data_size: usize,
) -> u32 {
    let _host = meter::host_call("set_buffer_bytes");
    // SAFETY: the guest's bytes.
    let data = unsafe { bytes(data, data_size) };
    status(on_vm(|vm| {
        let buffer = buffer_mut(vm, kind)?;
        match (start, size) {
            (0, 0) => drop(buffer.splice(0..0, data.iter().copied())),
            (0, size) if size >= buffer.len() => *buffer = data.to_vec(),
            (start, _) if start > 0 && start >= buffer.len() => buffer.extend(data),
            _ => return Err(Status::BadArgument),
        }
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(kind: u32, data_out: *mut *mut u8, size_out: *mut usize) -> u32 {
    let _host = meter::host_call("get_header_map_pairs");
    let pairs = on_vm(|vm| {
        let kind = map_kind(kind)?;
        // Envoy hands over an empty map where there is none.
        Ok(read_map(vm, kind, |map| if map.len() == 0 { Vec::new() } else { map.encode() }).unwrap_or_default())
    });
    // SAFETY: the guest's variables.
    unsafe { hand_over(pairs.as_deref(), data_out, size_out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_size(kind: u32, size_out: *mut usize) -> u32 {
    let _host = meter::host_call("get_header_map_size");
    let size = on_vm(|vm| {
        let kind = map_kind(kind)?;
        read_map(vm, kind, |map| map.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>())
    });
    // SAFETY: the guest's variable.
    unsafe { answer(size_out, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_header_map_pairs(kind: u32, data: *const u8, size: usize) -> u32 {
    let _host = meter::host_call("set_header_map_pairs");
    // SAFETY: the guest's bytes.
    let data = unsafe { bytes(data, size) };
    status(on_vm(|vm| {
        let pairs = pairs(vm, data);
        write_map(vm, kind, |map| *map = pairs)
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_value(
    kind: u32,
    name: *const u8,
    name_size: usize,
    data_out: *mut *mut u8,
    size_out: *mut usize,
) -> u32 {
    let _host = meter::host_call("get_header_map_value");
    // SAFETY: the guest's bytes.
    let name = unsafe { bytes(name, name_size) };
    let value = on_vm(|vm| {
        let kind = map_kind(kind)?;
        read_map(vm, kind, |map| map.first(name).map(<[u8]>::to_vec))?.ok_or(Status::NotFound)
    });
    // SAFETY: the guest's variables.
    unsafe { hand_over(value.as_deref(), data_out, size_out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_remove_header_map_value(kind: u32, name: *const u8, name_size: usize) -> u32 {
    let _host = meter::host_call("remove_header_map_value");
    // SAFETY: the guest's bytes.
    let name = unsafe { bytes(name, name_size) };
    status(on_vm(|vm| write_map(vm, kind, |map| map.remove(name))))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_replace_header_map_value(
    kind: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    let _host = meter::host_call("replace_header_map_value");
    // SAFETY: the guest's bytes.
    let (name, value) = unsafe { (bytes(name, name_size), bytes(value, value_size)) };
    status(on_vm(|vm| write_map(vm, kind, |map| map.set(name, value))))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_add_header_map_value(
    kind: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    let _host = meter::host_call("add_header_map_value");
    // SAFETY: the guest's bytes.
    let (name, value) = unsafe { (bytes(name, name_size), bytes(value, value_size)) };
    status(on_vm(|vm| write_map(vm, kind, |map| map.add(name, value))))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    data_out: *mut *mut u8,
    size_out: *mut usize,
) -> u32 {
    let _host = meter::host_call("get_property");
    // SAFETY: the guest's bytes.
    let path = unsafe { bytes(path, path_size) };
    let value = on_vm(|vm| {
        let of_plugin = match path {
            b"plugin_name" | b"plugin_vm_id" => Some(&b"idemgate"[..]),
            b"plugin_root_id" => Some(&b""[..]),
            _ => None,
        };
        let of_stream = vm.stream().and_then(|(stream, _)| stream.property(path).map(<[u8]>::to_vec));
        of_stream.or(of_plugin.map(<[u8]>::to_vec)).ok_or(Status::NotFound)
    });
    // SAFETY: the guest's variables.
    unsafe { hand_over(value.as_deref(), data_out, size_out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32 {
    let _host = meter::host_call("set_property");
    // SAFETY: the guest's bytes.
    let (path, value) = unsafe { (bytes(path, path_size), bytes(value, value_size)) };
    status(on_vm(|vm| {
        let (stream, _) = vm.stream().ok_or(Status::NotFound)?;
        stream.set_filter_state(path, value);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    key: *const u8,
    key_size: usize,
    data_out: *mut *mut u8,
    size_out: *mut usize,
    cas_out: *mut u32,
) -> u32 {
    let _host = meter::host_call("get_shared_data");
    // SAFETY: the guest's bytes.
    let key = unsafe { bytes(key, key_size) };
    let found = hooked(key, Operation::Get, |vm| vm.process.shared_data.get(key));
    // SAFETY: the guest's variables.
    unsafe {
        if let Ok((_, cas)) = found {
            cas_out.write(cas);
        }
        hand_over(found.as_ref().map(|(value, _)| value.as_slice()), data_out, size_out)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    key: *const u8,
    key_size: usize,
    value: *const u8,
    value_size: usize,
    cas: u32,
) -> u32 {
    let _host = meter::host_call("set_shared_data");
    // SAFETY: the guest's bytes.
    let (key, value) = unsafe { (bytes(key, key_size), bytes(value, value_size)) };
    status(hooked(key, Operation::Set { cas }, |vm| vm.process.shared_data.set(key, value, cas)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_register_shared_queue(name: *const u8, name_size: usize, token_out: *mut u32) -> u32 {
    let _host = meter::host_call("register_shared_queue");
    // SAFETY: the guest's bytes.
    let name = unsafe { bytes(name, name_size) };
    let token = on_vm(|vm| Ok(vm.process.register_queue(name, worker::mailbox())));
    // SAFETY: the guest's variable.
    unsafe { answer(token_out, token) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_resolve_shared_queue(
    _vm_id: *const u8,
    _vm_id_size: usize,
    name: *const u8,
    name_size: usize,
    token_out: *mut u32,
) -> u32 {
    let _host = meter::host_call("resolve_shared_queue");
    // SAFETY: the guest's bytes.
    let name = unsafe { bytes(name, name_size) };
    // SAFETY: the guest's variable.
    unsafe { answer(token_out, on_vm(|vm| vm.process.resolve_queue(name))) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_dequeue_shared_queue(token: u32, data_out: *mut *mut u8, size_out: *mut usize) -> u32 {
    let _host = meter::host_call("dequeue_shared_queue");
    let value = on_vm(|vm| vm.process.dequeue(token));
    // SAFETY: the guest's variables.
    unsafe { hand_over(value.as_deref(), data_out, size_out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_enqueue_shared_queue(token: u32, value: *const u8, value_size: usize) -> u32 {
    let _host = meter::host_call("enqueue_shared_queue");
    // SAFETY: the guest's bytes.
    let value = unsafe { bytes(value, value_size) };
    status(on_vm(|vm| vm.process.enqueue(token, value)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_continue_stream(stream_type: u32) -> u32 {
    let _host = meter::host_call("continue_stream");
    status(on_vm(|vm| vm.resume(stream_type)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_send_local_response(
    status_code: u32,
    details: *const u8,
    details_size: usize,
    body: *const u8,
    body_size: usize,
    headers: *const u8,
    headers_size: usize,
    _grpc_status: i32,
) -> u32 {
    let _host = meter::host_call("send_local_response");
    // SAFETY: the guest's bytes.
    let (details, body, headers) =
        unsafe { (bytes(details, details_size), bytes(body, body_size), bytes(headers, headers_size)) };
    status(on_vm(|vm| {
        let headers = pairs(vm, headers);
        let details = (!details.is_empty()).then(|| String::from_utf8_lossy(details).into_owned());
        vm.reply(LocalReply { status: status_code, details, headers, body: body.to_vec() })
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: *const u8,
    body_size: usize,
    trailers: *const u8,
    trailers_size: usize,
    timeout: u32,
    token_out: *mut u32,
) -> u32 {
    let _host = meter::host_call("http_call");
    // SAFETY: the guest's bytes.
    let (cluster, body) = unsafe { (bytes(cluster, cluster_size), bytes(body, body_size)) };
    // SAFETY: the guest's bytes.
    let (headers, trailers) = unsafe { (bytes(headers, headers_size), bytes(trailers, trailers_size)) };
    let token = on_vm(|vm| {
        let (headers, trailers) = (pairs(vm, headers), pairs(vm, trailers));
        let cluster = String::from_utf8_lossy(cluster).into_owned();
        vm.http_call(Callout { token: 0, cluster, headers, body: body.to_vec(), trailers, timeout_ms: timeout })
    });
    // SAFETY: the guest's variable.
    unsafe { answer(token_out, token) }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_done() -> u32 {
    let _host = meter::host_call("done");
    status(on_vm(Vm::done))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_set_effective_context(context: u32) -> u32 {
    let _host = meter::host_call("set_effective_context");
    status(on_vm(|vm| vm.set_effective(context)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id_out: *mut u32) -> u32 {
    let _host = meter::host_call("define_metric");
    // SAFETY: the guest's bytes.
    let name = String::from_utf8_lossy(unsafe { bytes(name, name_size) }).into_owned();
    let id = on_vm(|vm| {
        let kind = match kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        Ok(vm.process.define_metric(kind, &name))
    });
    // SAFETY: the guest's variable.
    unsafe { answer(id_out, id) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_metric(id: u32, value_out: *mut u64) -> u32 {
    let _host = meter::host_call("get_metric");
    // SAFETY: the guest's variable.
    unsafe { answer(value_out, on_vm(|vm| vm.process.metric(id))) }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_record_metric(id: u32, value: u64) -> u32 {
    let _host = meter::host_call("record_metric");
    status(on_vm(|vm| vm.process.record_metric(id, value)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_increment_metric(id: u32, by: i64) -> u32 {
    let _host = meter::host_call("increment_metric");
    status(on_vm(|vm| {
        let result = vm.process.increment_metric(id, by);
        if result == Err(Status::BadArgument) {
            vm.breaks(Rule::CounterIncrement, by);
        }
        result
    }))
}

/// Imports that a filter of this kind does not use; they must exist, because the SDK names them.
macro_rules! unimplemented_imports {
    ($($name:ident($($type:ty),*);)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $type),*) -> u32 {
                let _host = meter::host_call(stringify!($name));
                Status::Unimplemented as u32
            }
        )*
    };
}

type Data = *const u8;
type DataOut = *mut *mut u8;
type SizeOut = *mut usize;

unimplemented_imports! {
    proxy_close_stream(u32);
    proxy_call_foreign_function(Data, usize, Data, usize, DataOut, SizeOut);
    proxy_get_status(*mut u32, DataOut, SizeOut);
    proxy_grpc_call(Data, usize, Data, usize, Data, usize, Data, usize, Data, usize, u32, *mut u32);
    proxy_grpc_cancel(u32);
    proxy_grpc_close(u32);
    proxy_grpc_send(u32, Data, usize, bool);
    proxy_grpc_stream(Data, usize, Data, usize, Data, usize, Data, usize, *mut u32);
}

/// Runs `work` on this thread's VM. A guest that is torn down with its thread has none.
fn on_vm<R>(work: impl FnOnce(&mut Vm) -> Result<R, Status>) -> Result<R, Status> {
    vm::try_with(work).unwrap_or(Err(Status::Unimplemented))
}

/// Runs a shared-data call with the test's hooks around it.
fn hooked<R>(key: &[u8], operation: Operation, work: impl FnOnce(&mut Vm) -> Result<R, Status>) -> Result<R, Status> {
    run_hooks(key, operation, Moment::Before);
    let result = on_vm(work);
    run_hooks(key, operation, Moment::After);
    result
}

fn run_hooks(key: &[u8], operation: Operation, moment: Moment) {
    let Some((process, worker)) = vm::try_with(|vm| {
        vm.set_in_hook(true);
        (Arc::clone(&vm.process), vm.id)
    }) else {
        return;
    };
    let call = SharedDataCall { worker, moment, operation, key: key.to_vec() };
    let result = catch_unwind(AssertUnwindSafe(|| process.run_hooks(&call)));
    vm::with(|vm| {
        vm.set_in_hook(false);
        if let Err(payload) = result {
            vm.keep_panic(payload);
        }
    });
}

fn map_kind(kind: u32) -> Result<MapKind, Status> {
    Ok(match kind {
        0 => MapKind::RequestHeaders,
        1 => MapKind::RequestTrailers,
        2 => MapKind::ResponseHeaders,
        3 => MapKind::ResponseTrailers,
        6 => MapKind::CallHeaders,
        7 => MapKind::CallTrailers,
        _ => return Err(Status::BadArgument),
    })
}

fn read_map<R>(vm: &mut Vm, kind: MapKind, read: impl FnOnce(&Fields) -> R) -> Result<R, Status> {
    if matches!(kind, MapKind::CallHeaders | MapKind::CallTrailers) {
        let none = Fields::default();
        return match &vm.call_answer {
            Some((headers, _)) => Ok(read(if kind == MapKind::CallHeaders { headers } else { &none })),
            None => refuse(vm, Rule::HeadersOutsideTheirPhase, format_args!("{kind:?}")),
        };
    }
    let Some((stream, callback)) = vm.stream() else {
        return refuse(vm, Rule::HeadersOutsideTheirPhase, format_args!("{kind:?} of the root context"));
    };
    match stream.map(kind, callback) {
        Ok(map) => Ok(read(map)),
        Err(Closed::Absent) => Err(Status::BadArgument),
        Err(Closed::Outside) => refuse(vm, Rule::HeadersOutsideTheirPhase, format_args!("{kind:?} in {callback:?}")),
    }
}

fn write_map(vm: &mut Vm, kind: u32, write: impl FnOnce(&mut Fields)) -> Result<(), Status> {
    let kind = map_kind(kind)?;
    read_map(vm, kind, |_| ())?;
    let stream = vm.stream();
    if matches!(stream, Some((_, Some(Callback::Log)))) {
        return refuse(vm, Rule::HeadersWrittenInLog, format_args!("{kind:?}"));
    }
    write(stream.and_then(|(stream, _)| stream.map_mut(kind)).ok_or(Status::BadArgument)?);
    Ok(())
}

fn refuse<R>(vm: &mut Vm, rule: Rule, what: impl fmt::Display) -> Result<R, Status> {
    vm.breaks(rule, what);
    Err(Status::BadArgument)
}

/// The pairs that the guest serialized. Envoy takes a map that it cannot read for an empty one.
fn pairs(vm: &mut Vm, data: &[u8]) -> Fields {
    match Fields::decode(data) {
        Some(fields) if data.len() <= MAP_BYTES && fields.len() <= 1024 => fields,
        _ => {
            vm.breaks(Rule::HeaderMapForm, format_args!("{} bytes", data.len()));
            Fields::default()
        }
    }
}

fn buffer(vm: &mut Vm, kind: u32) -> Result<Vec<u8>, Status> {
    match kind {
        0 | 1 => buffer_mut(vm, kind).map(|body| body.clone()),
        4 => vm.call_answer.as_ref().map(|(_, body)| body.clone()).ok_or(Status::NotFound),
        6 => Ok(Vec::new()),
        7 if vm.callback_of(vm.root) == Some(Callback::Configure) => Ok(vm.configuration.clone()),
        _ => Err(Status::NotFound),
    }
}

fn buffer_mut(vm: &mut Vm, kind: u32) -> Result<&mut Vec<u8>, Status> {
    if kind > 1 {
        return Err(Status::BadArgument);
    }
    let seen = vm.stream().is_some_and(|(stream, callback)| {
        if kind == 0 { stream.request_body(callback).is_some() } else { stream.response_body(callback).is_some() }
    });
    if !seen {
        return refuse(vm, Rule::BodyOutsideItsPhase, if kind == 0 { "request" } else { "response" });
    }
    let (stream, callback) = vm.stream().ok_or(Status::BadArgument)?;
    let body = if kind == 0 { stream.request_body(callback) } else { stream.response_body(callback) };
    body.ok_or(Status::BadArgument)
}

fn status(result: Result<(), Status>) -> u32 {
    result.err().unwrap_or(Status::Ok) as u32
}

/// # Safety
///
/// `data` and `size` must be a guest's slice; an empty one may be null.
unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, size) }
}

/// Writes a number to a guest's variable.
///
/// # Safety
///
/// `out` must be valid for writing.
unsafe fn answer<T>(out: *mut T, value: Result<T, Status>) -> u32 {
    status(value.map(|value| {
        // SAFETY: the caller's promise.
        unsafe { out.write(value) }
    }))
}

/// Hands `value` over in the guest's own memory; an empty one is a null pointer.
///
/// # Safety
///
/// `data_out` and `size_out` must be valid for writing.
unsafe fn hand_over<E: Into<Status>>(value: Result<&[u8], E>, data_out: *mut *mut u8, size_out: *mut usize) -> u32 {
    status(value.map_err(Into::into).map(|value| {
        let _guest = meter::guest();
        let data = if value.is_empty() { ptr::null_mut() } else { exports::allocate(value.len()) };
        // SAFETY: the caller's promise; the allocator gave at least `value.len()` bytes.
        unsafe {
            data_out.write(data);
            size_out.write(value.len());
            if !data.is_null() {
                ptr::copy_nonoverlapping(value.as_ptr(), data, value.len());
            }
        }
    }))
}

impl From<&Status> for Status {
    fn from(status: &Status) -> Self {
        *status
    }
}
