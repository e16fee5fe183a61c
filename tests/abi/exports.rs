//! What a guest exports: the SDK's callbacks and allocator, and what the filter has in the place of some.

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
        // SAFETY: it takes nothing and sets up what the SDK keeps for this thread.
        Guest::Idemgate => unsafe { _initialize() },
        Guest::Probe => crate::probe::initialize(),
    }
}

/// The request's fields are there.
pub(crate) fn request_headers(stream: u32, count: usize, end: bool) -> Action {
    let action = match GUEST.get() {
        Guest::Idemgate => idemgate::exports::request_headers(stream, count, end),
        // SAFETY: as in `callbacks!`.
        Guest::Probe => unsafe { proxy_on_request_headers(stream, count, end) },
    };
    action.into()
}

/// There are messages in a queue that was registered by `root`.
pub(crate) fn queue_ready(root: u32, queue: u32) {
    match GUEST.get() {
        Guest::Idemgate => idemgate::exports::queue_ready(root, queue),
        // SAFETY: as in `callbacks!`.
        Guest::Probe => unsafe { proxy_on_queue_ready(root, queue) },
    }
}

unsafe extern "C" {
    fn _initialize();
    fn proxy_on_queue_ready(root: u32, queue: u32);
    fn proxy_on_request_headers(stream: u32, count: usize, end: bool) -> u32;
}

macro_rules! callbacks {
    ($($name:ident = $export:ident($($argument:ident: $type:ty),*) $(-> $result:ty as $shown:ty)?;)*) => {
        unsafe extern "C" {
            $(fn $export($($argument: $type),*) $(-> $result)?;)*
        }
        $(
            pub(crate) fn $name($($argument: $type),*) $(-> $shown)? {
                // SAFETY: the signature is the SDK's own (its `dispatcher.rs`); the guest only reaches memory that
                // it owns or that `imports.rs` gave it.
                let result = unsafe { $export($($argument),*) };
                #[allow(clippy::useless_conversion, reason = "only some results need it")]
                result.into()
            }
        )*
    };
}

callbacks! {
    context_create = proxy_on_context_create(context: u32, root: u32);
    vm_start = proxy_on_vm_start(root: u32, size: usize) -> bool as bool;
    configure = proxy_on_configure(root: u32, size: usize) -> bool as bool;
    tick = proxy_on_tick(root: u32);
    call_response = proxy_on_http_call_response(root: u32, token: u32, headers: usize, body: usize, trailers: usize);
    request_body = proxy_on_request_body(stream: u32, size: usize, end: bool) -> u32 as Action;
    request_trailers = proxy_on_request_trailers(stream: u32, count: usize) -> u32 as Action;
    response_headers = proxy_on_response_headers(stream: u32, count: usize, end: bool) -> u32 as Action;
    response_body = proxy_on_response_body(stream: u32, size: usize, end: bool) -> u32 as Action;
    response_trailers = proxy_on_response_trailers(stream: u32, count: usize) -> u32 as Action;
    log = proxy_on_log(context: u32);
    done = proxy_on_done(context: u32) -> bool as bool;
    delete = proxy_on_delete(context: u32);
    allocate = proxy_on_memory_allocate(size: usize) -> *mut u8 as *mut u8;
}
