//! Streams of a worker that cannot use its configuration.
//!
//! Envoy refuses a listener whose configuration the main thread's VM refuses. What is wrong in a worker alone, such as one VM
//! for two roles, leaves the listener as it is, and Envoy lets requests pass a plugin that a worker has refused: 1.40.0 does
//! so with the default `failure_policy`. So the worker takes such a configuration, and refuses the requests.

use proxy_wasm::traits::{Context, HttpContext};

use super::host::{self, Action};
use crate::{config::Policy, exchange::Problem};

/// One stream.
#[derive(Debug)]
pub(super) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        host::reply(&Problem::Unconfigured.reply(&Policy::default()));
        Action::Pause
    }
}
