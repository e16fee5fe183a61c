//! An HTTP/2 client, prior knowledge over clear text.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper::http::request::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::message::{Framing, Request, Response};
use super::upload::Pieces;
use super::{AUTHORITY, patiently};

/// One connection; requests on it share it.
#[derive(Clone, Debug)]
pub(crate) struct Http2 {
    sender: SendRequest<Upload>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("Envoy does not accept HTTP/2 connections")
    }

    /// The same to an Envoy that may be gone.
    pub(super) async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the last handle on the sender; how it ends shows in the responses.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender })
    }

    /// One request and its response; None if the connection ends before the head of that has come.
    pub(super) async fn try_send(&mut self, request: &Request) -> Option<Response> {
        let mut arriving = self.try_begin(request).await.ok()?;
        while arriving.receive().await {}
        Some(arriving.response)
    }

    /// Whether the response to `request` begins to come.
    pub(super) async fn is_answered(&mut self, request: &Request) -> bool {
        self.try_begin(request).await.is_ok()
    }

    /// One request and its response. Dropping the future resets the stream.
    pub(crate) async fn send(&mut self, request: &Request) -> Response {
        let mut arriving = self.begin(request).await;
        while arriving.receive().await {}
        arriving.response
    }

    /// One request and the head of its response. Dropping what is returned resets the stream.
    pub(crate) async fn begin(&mut self, request: &Request) -> Arriving {
        let arriving = self.try_begin(request).await;
        arriving.unwrap_or_else(|error| {
            panic!("the stream ended instead of the response to {} {}: {error:?}", request.method, request.target)
        })
    }

    async fn try_begin(&mut self, request: &Request) -> hyper::Result<Arriving> {
        let what = format!("the HTTP/2 response to {} {}", request.method, request.target);
        let response = patiently(&what, self.sender.send_request(encode(request))).await?;
        Ok(Arriving::new(response, request.method))
    }
}

/// A response whose body is on its way.
#[derive(Debug)]
pub(crate) struct Arriving {
    response: Response,
    incoming: Incoming,
    /// Its `content-length` is that of the body that it comes without.
    is_bodiless: bool,
}

impl Arriving {
    fn new(response: hyper::Response<Incoming>, method: &str) -> Self {
        let (head, incoming) = response.into_parts();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        let response = Response { status: head.status.as_u16(), headers, body: Vec::new(), complete: false };
        let is_bodiless = method == "HEAD" || response.status == 304;
        Self { response, incoming, is_bodiless }
    }

    /// Reads until `expected` has come.
    pub(crate) async fn sees(&mut self, expected: &[u8]) {
        while !self.response.body.windows(expected.len()).any(|window| window == expected) {
            assert!(self.receive().await, "the stream ended without {}: {:?}", expected.escape_ascii(), self.response);
        }
    }

    /// Waits for more; false if there is none.
    async fn receive(&mut self) -> bool {
        match patiently("more of an HTTP/2 response", self.incoming.frame()).await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.response.body.extend_from_slice(&data);
                }
                true
            }
            Some(Err(_)) => false,
            None => {
                // A reset without an error, by which Envoy 1.36 tells of a response cut short, is taken for an end here.
                let length = self.response.text("content-length").parse();
                let received = self.response.body.len();
                self.response.complete = self.is_bodiless || length.ok().is_none_or(|length: usize| length == received);
                false
            }
        }
    }
}

/// Begins a request whose `body` comes bit by bit, over a new connection.
pub(super) async fn upload(address: SocketAddr, request: Request, body: Pieces) -> JoinHandle<Response> {
    let stream = TcpStream::connect(address).await.expect("Envoy accepts connections");
    stream.set_nodelay(true).expect("a TCP connection");
    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("Envoy speaks HTTP/2");
    tokio::spawn(async move { connection.await.ok() });
    tokio::spawn(async move {
        let method = request.method;
        let request = encode_head(&request).body(body).expect("a request that HTTP/2 can carry");
        let response = sender.send_request(request).await.expect("a response to the upload");
        let mut arriving = Arriving::new(response, method);
        while arriving.receive().await {}
        arriving.response
    })
}

fn encode_head(request: &Request) -> Builder {
    let (host, headers): (Vec<_>, Vec<_>) = request.headers.iter().partition(|(name, _)| *name == "host");
    let authority = host.first().map_or(AUTHORITY.into(), |(_, value)| String::from_utf8_lossy(value));
    let mut head =
        hyper::Request::builder().method(request.method).uri(format!("http://{authority}{}", request.target));
    for (name, value) in headers {
        head = head.header(*name, HeaderValue::from_bytes(value).expect("a value that HTTP/2 can carry"));
    }
    head
}

fn encode(request: &Request) -> hyper::Request<Upload> {
    let upload = match request.framing {
        Framing::Unfinished => Upload { data: Some(Bytes::copy_from_slice(request.half())), ends: false },
        _ if request.body.is_empty() => Upload { data: None, ends: true },
        _ => Upload { data: Some(request.body.clone().into()), ends: true },
    };
    encode_head(request).body(upload).expect("a request that HTTP/2 can carry")
}

/// A request's body, in one piece.
#[derive(Debug)]
struct Upload {
    data: Option<Bytes>,
    /// Whether the end of the stream follows, or nothing ever.
    ends: bool,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.data.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None if self.ends => Poll::Ready(None),
            // Nobody is ever woken: the body just does not go on.
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ends && self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.ends {
            SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
        } else {
            SizeHint::default()
        }
    }
}
