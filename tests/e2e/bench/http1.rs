//! An HTTP/1.1 client that sends exactly the bytes it is given and shows exactly those it gets.
//!
//! Hand-made, because well-behaved clients refuse to send what a hostile one does, and tidy up what they receive.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::{Framing, Request, Response};
use super::patiently;

/// One connection, kept alive between requests.
#[derive(Debug)]
pub(crate) struct Http1 {
    stream: TcpStream,
    /// What came and was not consumed yet.
    received: Vec<u8>,
}

impl Http1 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("Envoy does not accept connections")
    }

    /// The same to an Envoy that may be gone.
    pub(super) async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// One request and its response; None if the connection ends before the head of that has come.
    pub(super) async fn try_send(&mut self, request: &Request) -> Option<Response> {
        self.write(&encode(request)).await;
        patiently("an HTTP/1.1 response, or the end of its connection", self.read_response(request.method)).await
    }

    /// Whether the response to `request` begins to come.
    pub(super) async fn is_answered(&mut self, request: &Request) -> bool {
        self.write(&encode(request)).await;
        patiently("the beginning of an HTTP/1.1 response", self.receive()).await
    }

    /// One request and its response.
    pub(crate) async fn send(&mut self, request: &Request) -> Response {
        self.write(&encode(request)).await;
        self.response_to(request.method).await
    }

    /// Sends everything in front of a request's body.
    pub(crate) async fn begin_head(&mut self, request: &Request) {
        let bytes = encode(request);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends");
        self.write(&bytes[..end + 4]).await;
    }

    /// Sends a request without waiting for the response.
    pub(crate) async fn begin(&mut self, request: &Request) {
        self.write(&encode(request)).await;
    }

    /// Sends these bytes. That the peer has closed shows when the response is read, not here.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads the response to a request with `method`.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let what = format!("the HTTP/1.1 response to {method}");
        patiently(&what, self.read_response(method))
            .await
            .unwrap_or_else(|| panic!("the connection ended instead of {what}; received {:?}", self.seen()))
    }

    /// The same from a server that may end the connection instead; None if it does.
    pub(crate) async fn try_response_to(&mut self, method: &str) -> Option<Response> {
        self.read_response(method).await
    }

    /// Reads until `expected` has come, and leaves all of it to be read as a response.
    pub(crate) async fn sees(&mut self, expected: &[u8]) {
        let what = format!("{:?} on the wire", expected.escape_ascii().to_string());
        patiently(&what, async {
            while !self.received.windows(expected.len()).any(|window| window == expected) {
                assert!(self.receive().await, "the connection ended instead of {what}; received {:?}", self.seen());
            }
        })
        .await;
    }

    /// Takes `count` bytes and forgets them.
    pub(crate) async fn skips(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            self.received.clear();
            assert!(
                patiently("more of the response", self.receive()).await,
                "the connection ended with {left} to come"
            );
            left = left.saturating_sub(self.received.len());
        }
        self.received.clear();
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn is_closed(&mut self) {
        patiently("the end of an HTTP/1.1 connection", async { while self.receive().await {} }).await;
    }

    /// Closes the connection, whatever is still to come on it.
    pub(crate) fn hang_up(self) {
        drop(self);
    }

    async fn read_response(&mut self, method: &str) -> Option<Response> {
        let (status, headers) = loop {
            let head = self.until(b"\r\n\r\n").await?;
            let (status, headers) = parse_head(&head);
            // RFC 9110, section 15.2: interim responses come before the final one.
            if status >= 200 {
                break (status, headers);
            }
        };
        let mut response = Response { status, headers, body: Vec::new(), complete: false };
        // RFC 9112, section 6.3: how long a message is, in the order of precedence.
        let (body, complete) = if method == "HEAD" || status == 204 || status == 304 {
            (Vec::new(), true)
        } else if response.text("transfer-encoding").contains("chunked") {
            self.chunks().await
        } else if let Ok(length) = response.text("content-length").parse() {
            self.exactly(length).await
        } else {
            while self.receive().await {}
            (std::mem::take(&mut self.received), true)
        };
        response.body = body;
        response.complete = complete;
        Some(response)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.until(b"\r\n").await else { return (body, false) };
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
            if size == 0 {
                break;
            }
            let (data, complete) = self.exactly(size).await;
            body.extend(data);
            if !complete || self.until(b"\r\n").await.is_none() {
                return (body, false);
            }
        }
        // The trailer section ends with an empty line.
        loop {
            match self.until(b"\r\n").await {
                Some(line) if line == b"\r\n" => return (body, true),
                Some(_) => {}
                None => return (body, false),
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.received.len() < length {
            if !self.receive().await {
                return (std::mem::take(&mut self.received), false);
            }
        }
        (self.received.drain(..length).collect(), true)
    }

    /// Everything up to and including `end`; None if the connection ends before.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                return Some(self.received.drain(..at + end.len()).collect());
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    /// Waits for more bytes; false if there will be none, by a close or by a reset.
    async fn receive(&mut self) -> bool {
        self.stream.read_buf(&mut self.received).await.is_ok_and(|count| count > 0)
    }

    fn seen(&self) -> String {
        self.received.escape_ascii().to_string()
    }
}

/// The request's bytes on the wire.
pub(crate) fn encode(request: &Request) -> Vec<u8> {
    let framing = match request.framing {
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::ContentLength if request.body.is_empty() && request.method == "GET" => String::new(),
        Framing::ContentLength | Framing::Unfinished => format!("content-length: {}\r\n", request.body.len()),
    };
    let mut bytes = encode_fields(request, &framing);
    match request.framing {
        Framing::Chunked => {
            // Uneven pieces, so that the receiver has to put them together.
            for chunk in request.body.chunks(700) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Framing::ContentLength => bytes.extend_from_slice(&request.body),
        Framing::Unfinished => bytes.extend_from_slice(request.half()),
    }
    bytes
}

/// The bytes in front of a body whose framing is among the request's fields.
pub(super) fn encode_head(request: &Request) -> Vec<u8> {
    encode_fields(request, "")
}

fn encode_fields(request: &Request, framing: &str) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    if request.headers.iter().all(|(name, _)| *name != "host") {
        bytes.push_str(&format!("host: {}\r\n", super::AUTHORITY));
    }
    bytes.push_str(framing);
    let mut bytes = bytes.into_bytes();
    for (name, value) in &request.headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn parse_head(head: &[u8]) -> (u16, Vec<(String, Vec<u8>)>) {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let status_line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("not an HTTP/1.1 status line: {status_line:?}"));
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a header line has a colon");
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii().to_vec())
        })
        .collect();
    (status, headers)
}
