//! The host layer: everything that knows proxy-wasm, and nothing else.
//!
//! It reads what the host shows, hands it to the [worker](crate::worker) as events, and makes the host calls that the
//! worker asks for. What the host really does, where it surprises, stands at the code that depends on it.
//!
//! # The SDK's dispatcher
//!
//! The host's callbacks come through the dispatcher of the Rust SDK, which panics where it is asked for what it does not
//! have, and a panic ends the worker's VM. Why it never is on Envoy:
//!
//! - **Contexts it does not know.** Envoy creates a context before its first callback, also one that is only to be logged,
//!   and deletes it after its last (`on_log`, `on_done`, `proxy_on_delete`; a root context whose `on_done` asked for time,
//!   after `proxy_done`). Ticks and calls belong to an object of Envoy's that is gone with its context. Queues do not: they
//!   know a context by its number, so `abi::exports` looks whether there is such a root context.
//! - **Answers to calls.** The dispatcher hands an answer to the context whose callback made the call, and drops it if that
//!   context is gone. All calls are made in callbacks of the root context (a tick, a queue, an answer), so answers come to
//!   it, whatever became of the stream they are for; which exchange that is, the token says. The dispatcher knows every
//!   token, because all calls are made with [`host::http_call`], and it knows no answer that Envoy tells of at once: such a
//!   call was refused, and Envoy says nothing more of it. As long as answers are due, the root context asks for time.
//! - **Callbacks inside callbacks.** A context is borrowed while its callback runs, and all others of its kind with it.
//!   Envoy defers what could call back (a local reply, a resumed stream, an answer that is there at once) until the callback
//!   is over. So no host call comes back into the VM, but for the fields of gRPC streams, which are not passed on
//!   (`abi::exports`).
//!
//! gRPC streams, which are the persistent connections to a store, are dispatched as calls are: opened in a callback of the
//! root context, their messages come to it by their token, and those of a token that the dispatcher does not know are
//! ignored. It forgets a token when the stream ends by itself, and not when it is cancelled, which costs a few bytes.

pub(crate) mod abi;
mod admin;
mod announcement;
mod call_end;
mod checkup;
mod crash_test;
mod evidence;
mod filter;
mod host;
mod journal;
mod mailbox;
mod metrics;
mod path_watch;
mod realm;
mod redirects;
mod root;
mod store;
mod store_stream;
mod stream;
mod surroundings;
mod sweeper;
mod ticker;
mod unconfigured;
mod walks;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    // Nothing is hidden that an operator may look for, until the host has said what it logs.
    proxy_wasm::set_log_level(LogLevel::Debug);
    proxy_wasm::set_root_context(|context_id| Box::new(root::Root::new(context_id)));
}}
