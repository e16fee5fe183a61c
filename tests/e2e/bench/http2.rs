//! An HTTP/2 client, prior knowledge over clear text.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::message::{Request, Response};
use super::{AUTHORITY, patiently};

/// One connection; requests on it share it.
#[derive(Clone, Debug)]
pub(crate) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("Envoy does not accept connections");
        stream.set_nodelay(true).expect("no TCP_NODELAY");
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("no HTTP/2 connection");
        // Ends with the last handle on the sender; how it ends shows in the responses.
        tokio::spawn(async move { connection.await.ok() });
        Self { sender }
    }

    /// One request and its response. Dropping the future resets the stream.
    pub(crate) async fn send(&mut self, request: &Request) -> Response {
        let what = format!("the HTTP/2 response to {} {}", request.method, request.target);
        let response = patiently(&what, self.sender.send_request(encode(request)))
            .await
            .unwrap_or_else(|error| panic!("the stream ended instead of {what}: {error:?}"));
        let (head, mut incoming) = response.into_parts();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        let (mut body, mut complete) = (Vec::new(), true);
        while let Some(frame) = patiently(&what, incoming.frame()).await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => body.extend_from_slice(&data),
                // Trailers.
                Ok(Err(_)) => {}
                Err(_) => {
                    complete = false;
                    break;
                }
            }
        }
        Response { status: head.status.as_u16(), headers, body, complete }
    }
}

fn encode(request: &Request) -> hyper::Request<Full<Bytes>> {
    let mut head =
        hyper::Request::builder().method(request.method).uri(format!("http://{AUTHORITY}{}", request.target));
    for (name, value) in &request.headers {
        head = head.header(*name, HeaderValue::from_bytes(value).expect("a value that HTTP/2 can carry"));
    }
    head.body(Full::new(request.body.clone().into())).expect("a request that HTTP/2 can carry")
}
