//! The host layer: everything that knows proxy-wasm, and nothing else.
//!
//! It reads what the host shows, hands it to the [exchange](crate::exchange) as events, and carries
//! out the effects. What the host really does, where it surprises, stands at the code that depends on it.

mod admin;
mod announcement;
mod body_watch;
mod bridge;
mod calls;
mod checkup;
mod context;
mod contexts;
mod crash_test;
mod driver;
mod environment;
#[doc(hidden)]
pub mod exports;
mod filter;
mod guest;
mod host;
mod inquiries;
mod journal;
mod logger;
mod memory;
mod metrics;
mod path_watch;
mod post;
mod random;
mod realm;
mod redirects;
mod root;
mod route;
mod store;
mod stream;
mod turns;
mod waiting_room;
mod walks;
mod watch_board;
