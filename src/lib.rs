//! Idemgate: an Envoy proxy-wasm filter that makes any HTTP service safe to retry.
//!
//! This crate is what runs in Envoy, and its core runs anywhere. An [`Exchange`](exchange::Exchange) is one request and its
//! response, from headers to end: it takes [`Event`](exchange::Event)s in and gives [`Effect`](exchange::Effect)s back. A
//! [`store`] keeps one [`record`] per operation; a [`Config`](config::Config) is what an operator wrote. None of them is a
//! proxy, opens a socket, reads a clock or draws a random number: the host does, which is `envoy` in Envoy, and a test in a
//! test.
//!
//! ```
//! use idemgate::{
//!     config::Config,
//!     exchange::{Attributes, Effect, Event, Exchange},
//!     headers::Headers,
//!     record::Owner,
//!     store::Call,
//!     time::Timestamp,
//! };
//!
//! #[derive(Debug)]
//! struct NoAttributes;
//! impl Attributes for NoAttributes {
//!     fn get(&self, _: &[String]) -> Option<Vec<u8>> {
//!         None
//!     }
//! }
//!
//! let config = Config::parse(b"{}").unwrap();
//! let mut exchange = Exchange::new(config.policy);
//! let pairs = [(":method", "POST"), (":authority", "shop"), (":path", "/orders"), ("idempotency-key", "k-1")];
//! let (headers, mut effects) = (Headers::from_iter(pairs), Vec::new());
//! let event = Event::RequestHeaders {
//!     headers: &headers,
//!     attribute: &NoAttributes,
//!     owner: Owner::new(7),
//!     mailbox: None,
//!     is_store_remote: false,
//!     end_of_stream: true,
//! };
//! exchange.handle(event, &Timestamp::from_millis(1_700_000_000_000).into(), &mut effects);
//! // May this request run the operation? The host hands the store's answer back as `Event::Answered`.
//! assert!(matches!(effects.last(), Some(Effect::Call(Call::Claim(_)))), "{effects:?}");
//! ```

pub mod admin;
pub mod config;
mod envoy;
pub mod exchange;
pub mod headers;
mod normal_form;
pub mod record;
pub mod request;
pub mod store;
pub mod time;
pub mod worker;

// For tests that play the host.
#[doc(hidden)]
pub use envoy::abi::exports;

// For the model that the tests of the table share with the fuzzers, which see the crate from outside.
#[cfg(test)]
extern crate self as idemgate;
