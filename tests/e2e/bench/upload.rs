//! Requests whose bodies a test sends piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::envoy::Envoy;
use super::http1::{Http1, encode_head};
use super::message::{Request, Response};
use super::{PATIENCE, Protocol, http2};

/// How the receiver learns where a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    Http1Chunked,
    Http1Length,
    Http1Trailers,
    Http2,
    Http2Length,
    Http2Trailers,
}

impl Way {
    pub(crate) const ALL: [Self; 6] = [
        Self::Http1Chunked,
        Self::Http1Length,
        Self::Http1Trailers,
        Self::Http2,
        Self::Http2Length,
        Self::Http2Trailers,
    ];

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Http1Chunked | Self::Http1Length | Self::Http1Trailers => Protocol::Http1,
            Self::Http2 | Self::Http2Length | Self::Http2Trailers => Protocol::Http2,
        }
    }

    fn has_length(self) -> bool {
        matches!(self, Self::Http1Length | Self::Http2Length)
    }

    pub(crate) fn has_trailers(self) -> bool {
        matches!(self, Self::Http1Trailers | Self::Http2Trailers)
    }
}

/// The one trailer that uploads with trailers end with.
pub(crate) const TRAILER: (&str, &str) = ("x-checksum", "abc");

/// A request under way.
#[derive(Debug)]
pub(crate) struct Upload {
    way: Way,
    client: Client,
}

#[derive(Debug)]
enum Client {
    Http1(Http1),
    Http2 { pieces: mpsc::Sender<Frame<Bytes>>, response: JoinHandle<Response> },
}

impl Upload {
    /// Sends everything in front of the body of `request`.
    pub(crate) async fn begin(envoy: &Envoy, way: Way, request: &Request) -> Self {
        let mut request = request.clone();
        if way.has_length() {
            let length = request.body.len().to_string();
            request = request.header("content-length", length);
        }
        let client = match way.protocol() {
            Protocol::Http1 => {
                if !way.has_length() {
                    request = request.header("transfer-encoding", "chunked");
                }
                let mut client = envoy.http1().await;
                client.write(&encode_head(&request)).await;
                Client::Http1(client)
            }
            Protocol::Http2 => {
                let (pieces, received) = mpsc::channel(1);
                let response = http2::upload(envoy.address(), request, Pieces(received)).await;
                Client::Http2 { pieces, response }
            }
        };
        Self { way, client }
    }

    /// Sends more of the body.
    pub(crate) async fn send(&mut self, piece: &[u8]) {
        match &mut self.client {
            Client::Http1(client) if self.way.has_length() => client.write(piece).await,
            Client::Http1(client) => {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                client.write(&chunk).await;
            }
            // That the stream is over shows in the response.
            Client::Http2 { pieces, .. } => {
                let _ = pieces.send(Frame::data(Bytes::copy_from_slice(piece))).await;
            }
        }
    }

    /// Ends the request.
    pub(crate) async fn end(self) -> Ended {
        let (name, value) = TRAILER;
        match self.client {
            Client::Http1(mut client) => {
                let end = match self.way {
                    Way::Http1Trailers => format!("0\r\n{name}: {value}\r\n\r\n"),
                    Way::Http1Chunked => "0\r\n\r\n".to_owned(),
                    _ => String::new(),
                };
                client.write(end.as_bytes()).await;
                Ended(Client::Http1(client))
            }
            Client::Http2 { pieces, response } => {
                if self.way.has_trailers() {
                    let trailers = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
                    let _ = pieces.send(Frame::trailers(HeaderMap::from_iter(trailers))).await;
                }
                // Nothing follows it.
                let pieces = mpsc::channel(1).0;
                Ended(Client::Http2 { pieces, response })
            }
        }
    }

    /// The response to a request that has not ended.
    pub(crate) async fn response_so_far(self) -> Response {
        Ended(self.client).response().await
    }
}

/// A request that was sent whole.
#[derive(Debug)]
pub(crate) struct Ended(Client);

impl Ended {
    pub(crate) async fn response(self) -> Response {
        match self.0 {
            Client::Http1(mut client) => client.response_to("POST").await,
            Client::Http2 { response, pieces } => {
                let response = tokio::time::timeout(PATIENCE, response).await;
                drop(pieces);
                response.expect("an HTTP/2 response to the upload in time").expect("no panic in the client")
            }
        }
    }
}

/// A body that comes from elsewhere.
#[derive(Debug)]
pub(super) struct Pieces(mpsc::Receiver<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
