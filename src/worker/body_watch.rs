//! Finds out whether the host hands over request bodies while the headers are held.
//!
//! By default a paused request stops at its headers and no body callback ever comes: Istio's WasmPlugin, or a
//! configuration without `allow_on_headers_stop_iteration`. The host does not say so; the request would hang. What can
//! be seen is that bytes of the body have arrived (the
//! attribute `request.total_size` counts them with the headers) and were not handed over.
//!
//! One body callback proves the contrary for as long as the configuration lives, because the option is
//! part of it; then a client that is slow to send its body is left in peace.

use std::time::Duration;

use crate::{headers::Headers, time::Timestamp};

/// What is known of the host.
#[derive(Clone, Debug, Default)]
pub(super) struct BodyWatch {
    bodies: Bodies,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Bodies {
    #[default]
    Unknown,
    HandedOver,
    Withheld,
}

/// When a request began to wait for its body, and what had arrived of it: of no interest once that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyWait {
    /// The first tick that saw it wait.
    since: Option<Timestamp>,
    /// `request.total_size` of the headers alone.
    size: u64,
    has_length: bool,
}

impl BodyWatch {
    /// Notes that a request begins to wait; `received` says how many bytes of it have arrived.
    pub(super) fn begin(&self, headers: &Headers, received: impl FnOnce() -> u64) -> BodyWait {
        let size = if self.bodies == Bodies::Unknown { received() } else { 0 };
        BodyWait { since: None, size, has_length: headers.get("content-length").is_some() }
    }

    /// Notes that a body callback came while headers were held.
    pub(super) fn handed_over(&mut self) {
        self.bodies = Bodies::HandedOver;
    }

    /// Whether the host is known to withhold bodies.
    pub(super) fn is_withheld(&self) -> bool {
        self.bodies == Bodies::Withheld
    }

    /// Whether the body that a request waits for will never be handed over.
    pub(super) fn is_hopeless(&mut self, wait: &mut BodyWait, now: Timestamp, received: impl FnOnce() -> u64) -> bool {
        let waited = now.since(*wait.since.get_or_insert(now));
        match self.bodies {
            Bodies::HandedOver => false,
            Bodies::Withheld => true,
            Bodies::Unknown if waited < PATIENCE => false,
            Bodies::Unknown if received() > wait.size => {
                self.bodies = Bodies::Withheld;
                true
            }
            // Nothing has arrived. With a declared length the client is still to send it. Without one,
            // an empty chunked body may have ended already, which no attribute shows.
            Bodies::Unknown => !wait.has_length && waited >= PATIENCE_WITHOUT_LENGTH,
        }
    }
}

/// How long a request waits before the watch looks at it; a handed-over body comes at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one waits whose body may be empty. The contract's bound is 5 s; the ticks before and after take up to one
/// second each.
const PATIENCE_WITHOUT_LENGTH: Duration = Duration::from_millis(2_500);
