//! What tests say and see: requests, the upstream's responses, and what came of them.

use crate::{fields::Fields, vm::LocalReply};

/// A client's request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    pub(crate) headers: Fields,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let headers = [(":method", method), (":path", path), (":authority", "shop.example"), (":scheme", "https")];
        Self { headers: headers.into(), body: Vec::new() }
    }

    /// A POST by a caller called `alice`.
    pub(crate) fn post(path: &str) -> Self {
        Self::new("POST", path).header("authorization", "Bearer alice").header("content-type", "application/json")
    }

    /// Adds a header line.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Leaves a header out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Adds an `Idempotency-Key` line.
    pub(crate) fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.header("idempotency-key", key)
    }

    /// Gives it a body.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }
}

/// A response as it comes to the filter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    status: u16,
    headers: Fields,
    pub(crate) body: Vec<u8>,
    /// `response.code_details`.
    pub(crate) details: Option<String>,
    /// `response.flags`.
    pub(crate) flags: i64,
    /// `upstream.request_attempt_count`.
    pub(crate) attempts: u64,
    /// Whether the last try got a connection, which `upstream.local_address` tells.
    pub(crate) connected: bool,
    origin: Origin,
}

/// Who made a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// The upstream.
    Upstream,
    /// Envoy, or another filter.
    Envoy,
    /// The filter under test.
    Filter,
}

impl Response {
    /// The upstream's answer.
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Fields::default(),
            body: Vec::new(),
            details: Some("via_upstream".to_owned()),
            flags: 0,
            attempts: 1,
            connected: true,
            origin: Origin::Upstream,
        }
    }

    /// A local reply of Envoy's, before it tried an upstream unless told otherwise.
    pub(crate) fn envoy(status: u16, details: &str) -> Self {
        let details = Some(details.to_owned());
        Self { details, attempts: 0, connected: false, origin: Origin::Envoy, ..Self::new(status) }
            .header("content-type", "text/plain")
    }

    /// The filter's reply, with what Envoy adds to it and corrects.
    pub(crate) fn filter(reply: LocalReply) -> Self {
        let status = u16::try_from(reply.status).unwrap_or_default();
        let mut headers = reply.headers;
        headers.remove(":status");
        headers.remove("transfer-encoding");
        headers.remove("content-length");
        if !reply.body.is_empty() {
            headers.add("content-length", reply.body.len().to_string());
            if headers.get("content-type").is_none() {
                headers.add("content-type", "text/plain");
            }
        }
        Self {
            headers,
            body: reply.body,
            details: reply.details,
            attempts: 0,
            connected: false,
            origin: Origin::Filter,
            ..Self::new(status)
        }
    }

    /// Adds a header line.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Gives it a body.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// How often the router tried.
    pub(crate) fn attempts(self, attempts: u64) -> Self {
        Self { attempts, ..self }
    }

    /// The last try had a connection: the request may have reached the upstream.
    pub(crate) fn connected(self) -> Self {
        Self { connected: true, ..self }
    }

    /// `response.flags`.
    pub(crate) fn flags(self, flags: i64) -> Self {
        Self { flags, ..self }
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The headers with `:status` in front.
    pub(crate) fn fields(&self) -> Fields {
        let mut fields = Fields::from([(":status", self.status.to_string())]);
        self.headers.iter().for_each(|(name, value)| fields.add(name, value));
        fields
    }
}

/// What the client has got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without `:status`.
    pub(crate) headers: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Fields>,
    /// Whether the end of the response went out.
    pub(crate) complete: bool,
    /// `response.code_details`.
    pub(crate) details: Option<String>,
    pub(crate) origin: Origin,
}

impl Answer {
    /// What `response` says, none of it gone out yet.
    pub(crate) fn new(response: &Response) -> Self {
        Self {
            status: response.status,
            headers: Fields::default(),
            body: Vec::new(),
            trailers: None,
            complete: false,
            details: response.details.clone(),
            origin: response.origin,
        }
    }

    /// The headers go out.
    pub(crate) fn take_headers(&mut self, headers: &Fields) {
        self.status = headers.text(":status").and_then(|status| status.parse().ok()).expect("a status");
        self.headers = headers.clone();
        self.headers.remove(":status");
    }

    /// The first value of a header as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.text(name)
    }
}

/// What the upstream has got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Forwarded {
    pub(crate) headers: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Fields>,
    /// Whether the end of the request went out.
    pub(crate) complete: bool,
}

/// What became of what arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It went on, with everything that was held before it.
    Continued,
    /// The filter holds it.
    Paused,
    /// The stream was answered; what the client has got.
    Replied(Option<Answer>),
    /// Envoy keeps it back, as it stops everything behind held headers.
    Withheld,
    /// Envoy dropped it, as the stream has its answer.
    Ignored,
}

impl Outcome {
    /// Whether the stream has its answer.
    pub(crate) fn is_replied(&self) -> bool {
        matches!(self, Self::Replied(_) | Self::Ignored)
    }

    /// The local reply.
    pub(crate) fn reply(self) -> Answer {
        match self {
            Self::Replied(Some(answer)) => answer,
            other => panic!("no reply but {other:?}"),
        }
    }
}
