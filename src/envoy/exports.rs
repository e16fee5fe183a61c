//! What the host calls: the exports of proxy-wasm ABI 0.2.1, as far as this filter has a use for them.
//!
//! Natively they are plain functions, for tests that play the host.
//!
//! Signatures: <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>.

#![allow(unsafe_code, reason = "the host finds these functions by their names")]

use super::{
    context::{Action, HttpContext},
    contexts::Contexts,
    logger,
    root::Root,
};

thread_local! {
    /// One VM has one thread.
    static CONTEXTS: Contexts = const { Contexts::new() };
}

macro_rules! exports {
    ($(
        $(#[$doc:meta])*
        fn $name:ident as $symbol:literal($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block
    )*) => {
        $(
            $(#[$doc])*
            #[cfg_attr(target_arch = "wasm32", unsafe(export_name = $symbol))]
            pub extern "C" fn $name($($argument: $type),*) $(-> $result)? $body
        )*
    };
}

exports! {
    /// Which version of the ABI the exports are of.
    fn abi_version as "proxy_abi_version_0_2_1"() {}

    /// The VM has been made.
    fn initialize as "_initialize"() {
        logger::open();
    }

    /// The host is to hand over `size` bytes: where to. They become a `Vec` of just that capacity.
    fn allocate as "malloc"(size: usize) -> *mut u8 {
        Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
    }

    /// A context begins.
    fn context_create as "proxy_on_context_create"(context: u32, parent: u32) {
        CONTEXTS.with(|contexts| contexts.create(context, parent));
    }

    /// A root context gets its configuration, of `size` bytes; whether it is accepted.
    fn configure as "proxy_on_configure"(root: u32, size: usize) -> bool {
        with_root(root, |root| root.on_configure(size)).unwrap_or(false)
    }

    /// The tick period of a root context has passed.
    fn tick as "proxy_on_tick"(root: u32) {
        with_root(root, |root| root.on_tick());
    }

    /// There are messages in a queue of a root context.
    fn queue_ready as "proxy_on_queue_ready"(root: u32, queue: u32) {
        with_root(root, |root| root.on_queue_ready(queue));
    }

    /// A call of a root context is answered, or over: then there are no fields.
    fn call_response as "proxy_on_http_call_response"(root: u32, token: u32, fields: usize, size: usize, _end: usize) {
        with_root(root, |root| root.on_call_response(token, fields, size));
    }

    /// The request's fields are there.
    fn request_headers as "proxy_on_request_headers"(stream: u32, _fields: usize, end_of_stream: bool) -> u32 {
        hear(stream, |stream| stream.on_request_headers(end_of_stream))
    }

    /// There is more of the request's body.
    fn request_body as "proxy_on_request_body"(stream: u32, size: usize, end_of_stream: bool) -> u32 {
        hear(stream, |stream| stream.on_request_body(size, end_of_stream))
    }

    /// The request ends with trailers.
    fn request_trailers as "proxy_on_request_trailers"(stream: u32, _fields: usize) -> u32 {
        hear(stream, |stream| stream.on_request_trailers())
    }

    /// The response's fields are there.
    fn response_headers as "proxy_on_response_headers"(stream: u32, fields: usize, end_of_stream: bool) -> u32 {
        hear(stream, |stream| stream.on_response_headers(fields, end_of_stream))
    }

    /// There is more of the response's body.
    fn response_body as "proxy_on_response_body"(stream: u32, size: usize, end_of_stream: bool) -> u32 {
        hear(stream, |stream| stream.on_response_body(size, end_of_stream))
    }

    /// The response ends with trailers.
    fn response_trailers as "proxy_on_response_trailers"(stream: u32, _fields: usize) -> u32 {
        hear(stream, |stream| stream.on_response_trailers())
    }

    /// A stream has ended and is logged.
    fn log as "proxy_on_log"(stream: u32) {
        CONTEXTS.with(|contexts| contexts.log(stream));
    }

    /// Nothing follows for a context; `false` if it asks for time.
    fn done as "proxy_on_done"(context: u32) -> bool {
        CONTEXTS.with(|contexts| contexts.end(context))
    }
}

/// Lets a root context work.
fn with_root<R>(id: u32, work: impl FnOnce(&mut Root) -> R) -> Option<R> {
    CONTEXTS.with(|contexts| contexts.with_root(id, work))
}

/// Hands a part of a message to its stream; what becomes of it, as the host reads it.
fn hear(stream: u32, hear: impl FnOnce(&mut dyn HttpContext) -> Action) -> u32 {
    CONTEXTS.with(|contexts| contexts.with_stream(stream, hear)) as u32
}
