//! The native ABI host: the real filter, SDK included, run by a stand-in for Envoy that lives in this test binary.
//!
//! proxy-wasm's SDK keeps its dispatcher in a thread-local, so one thread is one worker VM. Here a [`worker::Worker`]
//! is a thread with its own VM, and a [`host::Host`] is the Envoy process around several of them: shared data with
//! the exact semantics of Envoy's C++ host, queues, metrics, logs and a clock that only the test moves. A
//! [`stream::Stream`] is one HTTP exchange, driven callback by callback the way Envoy's wasm filter drives it.
//!
//! ```ignore
//! let host = Host::new();
//! let worker = host.worker(r#"{"key": {"required": true}}"#);
//! let answer = worker.exchange(&Request::post("/orders").key("k1").body("{}"), || Response::new(201));
//! ```
//!
//! What Envoy punishes late or silently fails the test here at once, with the rule's name: answering twice, touching
//! headers outside of their phase, replying from `on_log`, and so on (`vm::Rule`).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "a test bench: an assumption that does not hold must fail the test"
)]

mod exchange;
mod exports;
mod fields;
mod host;
mod imports;
mod messages;
mod meter;
mod shared_data;
mod stream;
#[path = "../dynamodb/table.rs"]
mod table;
mod vm;
mod worker;

mod bench;
mod costs;
mod probe;
mod scenarios;
