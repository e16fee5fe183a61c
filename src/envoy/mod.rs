//! The host layer: everything that knows proxy-wasm, and nothing else.
//!
//! It reads what the host shows, hands it to the [exchange](crate::exchange) as events, and carries
//! out the effects. What the host really does, where it surprises, stands at the code that depends on it.

mod body_watch;
mod crash_test;
mod driver;
mod filter;
mod host;
mod metrics;
mod random;
mod redirects;
mod root;
mod stream;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(root::Root::default()));
}}
