//! Requests to send and responses to look at, as bytes.

use std::fmt;

use serde_json::Value;

/// A request for Envoy.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
}

/// How the receiver learns where an HTTP/1.1 body ends; HTTP/2 needs neither.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    Chunked,
    ContentLength,
    /// Half of the body is sent, and its end never comes.
    Unfinished,
}

impl Request {
    pub(crate) fn new(method: &'static str, target: &str) -> Self {
        let headers = Vec::new();
        Self { method, target: target.to_owned(), headers, body: Vec::new(), framing: Framing::ContentLength }
    }

    /// A POST with a small JSON body and without a key.
    pub(crate) fn post(target: &str) -> Self {
        Self::new("POST", target).header("content-type", "application/json").body(r#"{"amount":1200}"#)
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a header line.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Takes away every header line called `name`.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(field, _)| *field != name);
        self
    }

    pub(crate) fn key(self, key: impl Into<Vec<u8>>) -> Self {
        self.without("idempotency-key").header("idempotency-key", key)
    }

    /// Who sends it, as the default `caller.identity` sees it.
    pub(crate) fn caller(self, name: &str) -> Self {
        self.without("authorization").header("authorization", format!("Bearer {name}"))
    }

    pub(crate) fn content_type(self, media_type: &str) -> Self {
        self.without("content-type").header("content-type", media_type)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Only the first half of the body is ever sent.
    pub(crate) fn unfinished(mut self) -> Self {
        self.framing = Framing::Unfinished;
        self
    }

    /// The body's first half.
    pub(super) fn half(&self) -> &[u8] {
        &self.body[..self.body.len() / 2]
    }
}

/// A response as it came over the wire, names in lower case.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// False if the connection or stream ended inside of the message.
    pub(crate) complete: bool,
}

impl Response {
    /// The value of the first field called `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// The values of every field called `name`, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The value of the first field called `name` as text, empty if there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.header(name).unwrap_or_default()).into_owned()
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 600;

        writeln!(formatter, "HTTP {}{}", self.status, if self.complete { "" } else { " (cut short)" })?;
        for (name, value) in &self.headers {
            writeln!(formatter, "{name}: {}", value.escape_ascii())?;
        }
        let shown = self.body.get(..SHOWN).unwrap_or(&self.body);
        writeln!(formatter, "\n{}", String::from_utf8_lossy(shown))?;
        write!(formatter, "({} bytes of body)", self.body.len())
    }
}
