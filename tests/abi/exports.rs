//! What a guest exports: the filter's own callbacks and allocator, or the SDK's, on which the probe is written.

#![expect(unsafe_code, reason = "the C ABI of proxy-wasm, whose other side is linked into this binary")]

use std::cell::Cell;

/// The answer of a callback that may hold its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Continue,
    Pause,
    /// `StopAllIterationAndWatermark`, for headers only.
    PauseAll,
}

impl From<u32> for Action {
    fn from(action: u32) -> Self {
        match action {
            0 => Self::Continue,
            1 => Self::Pause,
            4 => Self::PauseAll,
            other => panic!("the guest answered with action {other}"),
        }
    }
}

/// Who is in the VM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Guest {
    Idemgate,
    Probe,
}

thread_local! {
    /// Of the worker whose thread this is.
    static GUEST: Cell<Guest> = const { Cell::new(Guest::Idemgate) };
}

/// Puts a guest into this worker's VM and lets it begin.
pub(crate) fn initialize(guest: Guest) {
    GUEST.set(guest);
    match guest {
        Guest::Idemgate => idemgate::exports::initialize(),
        Guest::Probe => crate::probe::initialize(),
    }
}

/// Whether the guest accepts that the VM has started. The filter has nothing to say to that.
pub(crate) fn vm_start(root: u32, size: usize) -> bool {
    match GUEST.get() {
        Guest::Idemgate => true,
        // SAFETY: as in `callbacks!`.
        Guest::Probe => unsafe { proxy_on_vm_start(root, size) },
    }
}

/// Tells the guest that a context is gone. The filter knows it by then: `proxy_on_done` came before.
pub(crate) fn delete(context: u32) {
    match GUEST.get() {
        Guest::Idemgate => {}
        // SAFETY: as in `callbacks!`.
        Guest::Probe => unsafe { proxy_on_delete(context) },
    }
}

unsafe extern "C" {
    fn proxy_on_vm_start(root: u32, size: usize) -> bool;
    fn proxy_on_delete(context: u32);
}

macro_rules! callbacks {
    ($($name:ident = $export:ident($($argument:ident: $type:ty),*) $(-> $result:ty as $shown:ty)?;)*) => {
        unsafe extern "C" {
            $(fn $export($($argument: $type),*) $(-> $result)?;)*
        }
        $(
            pub(crate) fn $name($($argument: $type),*) $(-> $shown)? {
                let result = match GUEST.get() {
                    Guest::Idemgate => idemgate::exports::$name($($argument),*),
                    // SAFETY: the signature is the SDK's own (its `dispatcher.rs`); the guest only reaches memory that
                    // it owns or that `imports.rs` gave it.
                    Guest::Probe => unsafe { $export($($argument),*) },
                };
                #[allow(clippy::useless_conversion, reason = "only some results need it")]
                result.into()
            }
        )*
    };
}

callbacks! {
    context_create = proxy_on_context_create(context: u32, root: u32);
    configure = proxy_on_configure(root: u32, size: usize) -> bool as bool;
    tick = proxy_on_tick(root: u32);
    queue_ready = proxy_on_queue_ready(root: u32, queue: u32);
    call_response = proxy_on_http_call_response(root: u32, token: u32, headers: usize, body: usize, trailers: usize);
    request_headers = proxy_on_request_headers(stream: u32, count: usize, end: bool) -> u32 as Action;
    request_body = proxy_on_request_body(stream: u32, size: usize, end: bool) -> u32 as Action;
    request_trailers = proxy_on_request_trailers(stream: u32, count: usize) -> u32 as Action;
    response_headers = proxy_on_response_headers(stream: u32, count: usize, end: bool) -> u32 as Action;
    response_body = proxy_on_response_body(stream: u32, size: usize, end: bool) -> u32 as Action;
    response_trailers = proxy_on_response_trailers(stream: u32, count: usize) -> u32 as Action;
    log = proxy_on_log(context: u32);
    done = proxy_on_done(context: u32) -> bool as bool;
    allocate = proxy_on_memory_allocate(size: usize) -> *mut u8 as *mut u8;
}
