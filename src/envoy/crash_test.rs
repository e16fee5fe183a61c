//! Faults that a request asks for, so that tests can show what survives them.
//!
//! Only a build with the feature `crash-test` has them; in every other one [`Faults`] is nothing.

#[cfg(not(feature = "crash-test"))]
pub(super) use absent::Faults;
#[cfg(feature = "crash-test")]
pub(super) use present::Faults;

/// Where a fault may strike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Moment {
    Log,
    RequestHeaders,
    ResponseHeaders,
}

#[cfg(not(feature = "crash-test"))]
mod absent {
    use super::Moment;

    #[derive(Debug)]
    pub(in crate::envoy) struct Faults;

    impl Faults {
        pub(in crate::envoy) fn none() -> Self {
            Self
        }

        pub(in crate::envoy) fn of_request() -> Self {
            Self
        }

        pub(in crate::envoy) fn strike(&self, _: Moment) {}
    }
}

#[cfg(feature = "crash-test")]
mod present {
    #![allow(clippy::panic, reason = "this is what the feature is for")]

    use super::Moment;
    use crate::envoy::host::{self, MapType};

    /// What the request's header `x-crash-test` asks for: the name of a moment to panic at, or
    /// - `stall`: the worker stands still, as one that the system does not let run,
    /// - `resume`: until any worker sees this.
    #[derive(Debug, Default)]
    pub(in crate::envoy) struct Faults {
        wanted: Vec<u8>,
    }

    impl Faults {
        pub(in crate::envoy) fn none() -> Self {
            Self::default()
        }

        pub(in crate::envoy) fn of_request() -> Self {
            Self { wanted: host::header(MapType::HttpRequestHeaders, "x-crash-test").unwrap_or_default() }
        }

        pub(in crate::envoy) fn strike(&self, moment: Moment) {
            const RESUMED: &str = "crash-test/resumed";

            match (self.wanted.as_slice(), moment) {
                (b"log", Moment::Log)
                | (b"request-headers", Moment::RequestHeaders)
                | (b"response-headers", Moment::ResponseHeaders) => panic!("asked to by a test"),
                (b"stall", Moment::RequestHeaders) => while host::shared_data(RESUMED) == Ok(None) {},
                (b"resume", Moment::RequestHeaders) => {
                    let _ = host::set_shared_data(RESUMED, b"yes", 0);
                }
                _ => {}
            }
        }
    }
}
