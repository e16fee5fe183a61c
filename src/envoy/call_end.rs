//! The end of a call to a cluster, as the host shows it in its callback.

use super::host::{self, BufferType, MapType};
use crate::{
    headers::Headers,
    store::{dialect::Heard, dynamodb::ahead},
    time::Timestamp,
    worker::CallAnswer,
};

/// Without fields there is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallEnd {
    pub(super) fields: usize,
    pub(super) body_size: usize,
}

impl CallEnd {
    /// The whole body.
    pub(super) fn body(self) -> Vec<u8> {
        host::buffer(BufferType::HttpCallResponseBody, 0, self.body_size)
    }

    /// All fields.
    pub(super) fn headers(self) -> Headers {
        host::headers(MapType::HttpCallResponseHeaders)
    }

    /// What a store has answered, in this body; with the time of its clock, if that `has_clock`.
    pub(super) fn of_store(self, body: &[u8], has_clock: bool, now: Timestamp) -> Heard<'_> {
        if self.fields == 0 {
            return Heard::Nothing;
        }
        let fields = MapType::HttpCallResponseHeaders;
        if !has_clock {
            return Heard::Reply { status: host::status_of(fields), body, ahead: None };
        }
        // All fields cost the host less than two of them.
        let headers = self.headers();
        let ahead = headers.get("date").and_then(|date| ahead(date, now));
        Heard::Reply { status: host::status(&headers), body, ahead }
    }

    /// What an upstream has answered, with these fields.
    pub(super) fn of_upstream(self, headers: &Headers) -> Option<CallAnswer<'_>> {
        (self.fields > 0).then(|| CallAnswer { status: host::status(headers), headers, body: self.body() })
    }
}
