//! The role `store_stream`: an upstream filter of a store's cluster, between the gRPC streams that are the filter's
//! persistent connections and a server that knows nothing of gRPC.
//!
//! It takes the frames off what is sent and puts one around each piece that comes. Calls without frames, one connection
//! each, pass through the same cluster as they are.

use proxy_wasm::traits::{Context, HttpContext};

use super::host::{self, Action, BufferType, MapType};
use crate::store::frame::{HEADER, Unframer, frame_header};

/// One stream to the store.
#[derive(Debug, Default)]
pub(super) struct StoreStream {
    /// `None` of a call without frames.
    unframer: Option<Unframer>,
}

impl Context for StoreStream {}

impl HttpContext for StoreStream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let content_type = host::header(MapType::HttpRequestHeaders, "content-type");
        self.unframer = content_type.is_some_and(|value| value == b"application/grpc").then(Unframer::default);
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, _: bool) -> Action {
        if let (Some(unframer), 1..) = (&mut self.unframer, size) {
            let beginning = host::buffer(BufferType::HttpRequestBody, 0, size.min(HEADER));
            let taken = if unframer.is_at_whole_frame(&beginning, size) {
                // As the host hands messages over, as a rule: nothing is copied.
                host::set_buffer(BufferType::HttpRequestBody, HEADER, b"")
            } else {
                let messages = unframer.take(&host::buffer(BufferType::HttpRequestBody, 0, size));
                host::set_buffer(BufferType::HttpRequestBody, size, &messages)
            };
            if let Err(refused) = taken {
                log::error!("idemgate: the host refused to take the frames off a question ({refused:?})");
            }
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, _: bool) -> Action {
        if self.unframer.is_some()
            && size > 0
            // In the place of no bytes at the beginning: in front of all.
            && let Err(refused) = host::set_buffer(BufferType::HttpResponseBody, 0, &frame_header(size))
        {
            log::error!("idemgate: the host refused to put a frame around an answer ({refused:?})");
        }
        Action::Continue
    }
}
