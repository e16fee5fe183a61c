//! Streams of a worker that cannot use its configuration.
//!
//! Envoy refuses a listener whose configuration the main thread's VM refuses. What is wrong in a worker alone, such as one VM
//! for two roles, leaves the listener as it is, and Envoy lets requests pass a plugin that a worker has refused: 1.40.0 does
//! so with the default `failure_policy`. So the worker takes such a configuration, and refuses the requests.

use proxy_wasm::traits::{Context, HttpContext};

use super::host::{self, Action};
use crate::headers::Headers;

/// One stream.
#[derive(Debug)]
pub(super) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let fields = [("content-type", "application/problem+json"), ("idempotency-status", "rejected")];
        let headers = Headers::from_iter(fields);
        match host::send_local_response(500, "idemgate_unconfigured", &headers, PROBLEM) {
            Ok(()) => {}
            Err(refused) => log::error!("idemgate: the host refused a local reply of status 500 ({refused:?})"),
        }
        Action::Pause
    }
}

const PROBLEM: &[u8] = br#"{"type":"urn:idemgate:host-unsupported","title":"Idempotency is misconfigured at the proxy","status":500,"detail":"Nothing was executed. The proxy has refused its configuration; its log says why. Retrying does not help until the operator corrects it."}"#;
