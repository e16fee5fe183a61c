//! The role `redis_bridge`: lets the filter's calls to Redis use the pooled connections of Envoy's `redis_proxy`.
//!
//! The filter's call reaches an internal listener whose one route leads to a TCP upstream. What that upstream would do
//! with the request as it is: send its body, and close its half of the connection, which `redis_proxy` takes for the
//! end of its client. So this context lets the body pass and holds the end of it; the connection stays open until the
//! stream is answered here, with all that came back, when it is as many values as commands were sent.
//! What decides is in [`crate::store::redis::bridge`]; the listeners are in `examples/redis-pooled/envoy.yaml`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use proxy_wasm::traits::{Context, HttpContext};

use super::host::{self, Action, BufferType, MapType};
use crate::{
    headers::Headers,
    store::redis::{
        Passing,
        bridge::{Conversation, Refusal},
    },
};

/// What all calls of one configuration have in common.
#[derive(Debug)]
pub(super) struct Bridge {
    passing: Rc<Passing>,
    replies: ReplyWatch,
    /// What the log has a line about already: a wrong prefix, or requests over a socket, must not fill it.
    told: RefCell<Vec<Refusal>>,
}

/// One call.
#[derive(Debug)]
pub(super) struct BridgeStream {
    conversation: Conversation,
    bridge: Rc<Bridge>,
    stage: Stage,
    /// How many bytes that were read the host still keeps.
    kept: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The upstream has not begun to answer.
    Asking,
    /// The connection is there; the reply is collected.
    Listening,
    /// The answer is given, or somebody else's and passes by.
    Over,
}

impl Bridge {
    /// A bridge for records whose keys begin with `prefix`.
    pub(super) fn new(prefix: String) -> Self {
        let passing = Rc::new(Passing::new(prefix));
        Self { passing, replies: ReplyWatch::default(), told: RefCell::default() }
    }
}

impl BridgeStream {
    pub(super) fn new(bridge: Rc<Bridge>) -> Self {
        let conversation = Conversation::new(Rc::clone(&bridge.passing));
        Self { conversation, bridge, stage: Stage::Asking, kept: 0 }
    }

    /// Answers the call if there is something to answer it with.
    fn settle(&mut self, answer: Result<Option<Vec<u8>>, Refusal>) {
        match answer {
            Ok(None) => {}
            Ok(Some(reply)) => self.reply(200, "idemgate_redis_reply", "application/octet-stream", &reply),
            Err(refusal) => {
                // The filter that asks does not know that it speaks to a bridge.
                let mut told = self.bridge.told.borrow_mut();
                if !told.contains(&refusal) {
                    told.push(refusal);
                    log::warn!("{refusal}");
                }
                drop(told);
                self.reply(refusal.status(), "idemgate_redis_refused", "text/plain", refusal.to_string().as_bytes());
            }
        }
    }

    fn reply(&mut self, status: u16, details: &str, content_type: &str, body: &[u8]) {
        self.stage = Stage::Over;
        let headers: Headers = [("content-type", content_type)].into_iter().collect();
        if let Err(refused) = host::send_local_response(status, details, &headers, body) {
            log::error!("idemgate: the host refused the answer to a call of the bridge ({refused:?})");
        }
    }

    fn end_asking(&mut self) -> Action {
        let answer = self.conversation.end_asking();
        self.settle(answer);
        // Passed on, the end would become the end of the connection.
        Action::Pause
    }

    /// What is new in the response's body.
    fn read(&mut self, size: usize) -> Vec<u8> {
        let bytes = host::buffer(BufferType::HttpResponseBody, self.kept, size.saturating_sub(self.kept));
        // Taken out, it does not count against the listener's per_connection_buffer_limit_bytes.
        self.kept = if host::set_buffer(BufferType::HttpResponseBody, size, &[]).is_ok() { 0 } else { size };
        bytes
    }
}

impl Context for BridgeStream {}

impl HttpContext for BridgeStream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        if !is_within_envoy() {
            self.settle(Err(Refusal::FromSocket));
            return Action::Pause;
        }
        if end_of_stream { self.end_asking() } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.stage == Stage::Over {
            return Action::Pause;
        }
        if end_of_stream {
            if size > 0 {
                self.settle(Err(Refusal::EndWithData));
                return Action::Pause;
            }
            return self.end_asking();
        }
        match self.conversation.ask(&host::buffer(BufferType::HttpRequestBody, 0, size)) {
            Ok(()) => Action::Continue,
            Err(refusal) => {
                self.settle(Err(refusal));
                Action::Pause
            }
        }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if self.stage == Stage::Over { Action::Pause } else { self.end_asking() }
    }

    fn on_http_response_headers(&mut self, _fields: usize, end_of_stream: bool) -> Action {
        let is_connected = host::header(MapType::HttpResponseHeaders, ":status").is_some_and(|status| status == b"200");
        if self.stage == Stage::Over || !is_connected || end_of_stream {
            // The bridge's own, or Envoy's word on why there is no connection, or an end without a word.
            self.stage = Stage::Over;
            return Action::Continue;
        }
        // The 200 is Envoy's and says that the connection is there.
        self.stage = Stage::Listening;
        Action::Pause
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.stage == Stage::Over {
            return Action::Continue;
        }
        self.bridge.replies.is_heard.set(true);
        let bytes = self.read(size);
        let mut answer = self.conversation.answer(&bytes);
        if end_of_stream && answer == Ok(None) {
            answer = Ok(Some(self.conversation.end_answering()));
        }
        self.settle(answer);
        // The headers are held, too, so nothing is cut here: what is held is dropped for the answer.
        Action::Pause
    }

    fn on_log(&mut self) {
        if self.stage == Stage::Listening && self.conversation.awaits_answer() {
            self.bridge.replies.note_silence();
        }
    }
}

/// Whether the call came by an internal listener, which no client reaches unless a cluster leads to it.
fn is_within_envoy() -> bool {
    host::property("destination\0address").is_some_and(|address| address.starts_with(b"envoy://"))
}

/// Whether the host hands over the replies: a misconfigured one keeps them behind the held headers, and says nothing.
#[derive(Debug, Default)]
struct ReplyWatch {
    is_heard: Cell<bool>,
    has_warned: Cell<bool>,
}

impl ReplyWatch {
    /// A call was given up before a reply came. Said once, and not after the first reply that ever came.
    fn note_silence(&self) {
        if !self.is_heard.get() && !self.has_warned.replace(true) {
            log::error!(
                "idemgate: the bridge was connected, and no reply reached it before the call was given up; if none ever \
                 does, set allow_on_headers_stop_iteration: true in the Wasm filter's config (Envoy 1.36 or newer)"
            );
        }
    }
}
