//! The service behind Envoy: does what its script says, and counts every request that reaches it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{self, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{mpsc, watch};

use super::answer::{Answer, Head, Step};
use super::{PATIENCE, Protocol};

/// One request as it reached the upstream. Its head is an execution, whether or not its body came whole.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// None until the body has come whole.
    pub(crate) body: Option<Vec<u8>>,
    /// What followed the body.
    pub(crate) trailers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn key(&self) -> &[u8] {
        self.header("idempotency-key").unwrap_or_default()
    }
}

/// A scripted HTTP server of this process.
///
/// Without a script each path answers `201` with `{"execution":N}`, N being the number of the request, so that
/// an answer tells which execution it came from.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    protocol: Protocol,
    entrance: Entrance,
    shared: Arc<Shared>,
}

/// What the upstream does with connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Door {
    /// Neither accepts nor refuses them.
    Deaf,
    Open,
    /// Refuses them.
    Shut,
}

/// What is behind each kind of door.
#[derive(Debug)]
enum Entrance {
    /// Listens with a queue that one connection fills, so that the kernel drops whatever else wants in.
    Deaf {
        listener: TcpListener,
        queued: net::TcpStream,
    },
    Open,
    /// Bound and not listening.
    Shut(TcpSocket),
}

impl Upstream {
    /// A server that has its address and refuses connections until it is opened.
    pub(crate) fn shut(protocol: Protocol) -> Self {
        let socket = TcpSocket::new_v4().expect("a TCP socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("no free port on 127.0.0.1");
        let address = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { state: Mutex::default(), count: watch::Sender::new(0) });
        Self { address, protocol, entrance: Entrance::Shut(socket), shared }
    }

    pub(super) fn with_door(protocol: Protocol, door: Door) -> Self {
        let mut upstream = Self::shut(protocol);
        match door {
            Door::Deaf => upstream.turn_deaf(),
            Door::Open => upstream.open(),
            Door::Shut => {}
        }
        upstream
    }

    /// Neither accepts nor refuses connections from now on.
    fn turn_deaf(&mut self) {
        let Entrance::Shut(socket) = std::mem::replace(&mut self.entrance, Entrance::Open) else {
            panic!("the upstream listens already");
        };
        let listener = socket.listen(0).expect("the upstream cannot listen");
        let queued = net::TcpStream::connect(self.address).expect("the queue takes one connection");
        self.entrance = Entrance::Deaf { listener, queued };
    }

    /// Accepts connections from now on.
    pub(crate) fn open(&mut self) {
        let listener = match std::mem::replace(&mut self.entrance, Entrance::Open) {
            Entrance::Deaf { listener, queued } => {
                drop(queued);
                listener
            }
            Entrance::Open => panic!("the upstream is open already"),
            Entrance::Shut(socket) => socket.listen(4096).expect("the upstream cannot listen"),
        };
        let (shared, protocol) = (Arc::clone(&self.shared), self.protocol);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Small answers over many connections: delayed acknowledgements would be most of a test's time.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, protocol, Arc::clone(&shared)));
            }
        });
    }

    /// Accepts connections to the Unix domain socket `path` as well.
    pub(super) fn open_pipe(&self, path: &Path) {
        let listener = UnixListener::bind(path).expect("the upstream cannot listen on a pipe");
        let (shared, protocol) = (Arc::clone(&self.shared), self.protocol);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, protocol, Arc::clone(&shared)));
            }
        });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests for `path` (without query) get these answers in turn; the last one is repeated.
    pub(crate) fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().scripts.insert(path.to_owned(), answers.into_iter().collect());
    }

    /// Each request for which `director` has an answer gets that one.
    pub(crate) fn directed_by(&self, director: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static) {
        self.shared.lock().director = Some(Director(Arc::new(director)));
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// How many requests came so far.
    pub(crate) fn executions(&self) -> usize {
        self.shared.lock().seen.len()
    }

    /// How many requests came with `key` as the bytes of their `idempotency-key`.
    pub(crate) fn executions_of(&self, key: &str) -> usize {
        self.shared.lock().seen.iter().filter(|seen| seen.key() == key.as_bytes()).count()
    }

    /// How many requests came with each `idempotency-key`.
    pub(crate) fn executions_by_key(&self) -> BTreeMap<Vec<u8>, usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.shared.lock().seen {
            *counts.entry(seen.key().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Fails unless exactly this many requests have come.
    #[track_caller]
    pub(crate) fn assert_executions(&self, expected: usize) {
        let seen = self.seen();
        let last = seen.get(seen.len().saturating_sub(20)..).unwrap_or_default();
        assert_eq!(seen.len(), expected, "executions at the upstream; the last that it saw: {last:#?}");
    }

    /// Returns once `count` requests have come in all.
    pub(crate) async fn reached(&self, count: usize) {
        let mut arrivals = self.shared.count.subscribe();
        if tokio::time::timeout(PATIENCE, arrivals.wait_for(|seen| *seen >= count)).await.is_err() {
            panic!("the upstream waits for request {count}, and saw {:#?}", self.seen());
        }
    }
}

// === shared between connections ===

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    director: Option<Director>,
    scripts: BTreeMap<String, VecDeque<Answer>>,
    seen: Vec<Seen>,
}

/// Decides request by request.
#[derive(Clone)]
struct Director(Arc<DirectorFn>);

type DirectorFn = dyn Fn(&Seen) -> Option<Answer> + Send + Sync;

impl fmt::Debug for Director {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Director")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread panics while it holds this")
    }

    /// Files the request's head; gives its number and the answer it gets.
    fn admit(&self, head: &hyper::http::request::Parts) -> (usize, Answer) {
        let mut state = self.lock();
        let path = head.uri.path().to_owned();
        let number = state.seen.len() + 1;
        let seen = Seen { path: path.clone(), headers: head.headers.clone(), body: None, trailers: HeaderMap::new() };
        let directed = state.director.as_ref().and_then(|director| (director.0)(&seen));
        let scripted = match state.scripts.get_mut(&path) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None => None,
        };
        let answer =
            directed.or(scripted).unwrap_or_else(|| Answer::new(201).json(&format!("{{\"execution\":{number}}}")));
        state.seen.push(seen);
        drop(state);
        self.count.send_replace(number);
        (number, answer)
    }
}

// === one connection ===

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, protocol: Protocol, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let io = TokioIo::new(stream);
    // Connections end by being cut in half of the tests; that is not the upstream's failure. Names of fields have capitals, as
    // many services write them.
    let _ = match protocol {
        Protocol::Http1 => http1::Builder::new().title_case_headers(true).serve_connection(io, service).await,
        Protocol::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
    };
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Script>, Cut> {
    let (head, body) = request.into_parts();
    let (number, answer) = shared.admit(&head);
    let body = body.collect().await.map_err(|_| Cut)?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = body.to_bytes();
    if let Some(seen) = shared.lock().seen.get_mut(number - 1) {
        seen.body = Some(body.to_vec());
        seen.trailers = trailers;
    }
    if let Some(gate) = &answer.held_by {
        gate.passed().await;
    }
    let Head { status, headers } = answer.head.ok_or(Cut)?;
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, HeaderValue::from_bytes(&value).expect("a script's header value"));
    }
    Ok(response.body(Script::play(answer.steps)).expect("a script's response head"))
}

/// A body that is made while it is sent.
#[derive(Debug)]
struct Script {
    frames: Option<mpsc::Receiver<Result<Frame<Bytes>, Cut>>>,
}

impl Script {
    fn play(steps: Vec<Step>) -> Self {
        if steps.is_empty() {
            return Self { frames: None };
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut steps = VecDeque::from(steps);
            while let Some(step) = steps.pop_front() {
                let frame = match step {
                    Step::Endless(data) => {
                        steps.push_front(Step::Endless(data.clone()));
                        Ok(Frame::data(data))
                    }
                    Step::Cut => Err(Cut),
                    Step::Data(data) => Ok(Frame::data(data)),
                    Step::Hold(gate) => {
                        gate.passed().await;
                        continue;
                    }
                    Step::Trailer(name, value) => Ok(Frame::trailers(HeaderMap::from_iter([(
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )]))),
                };
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Self { frames: Some(receiver) }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.frames {
            Some(frames) => frames.poll_recv(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_none()
    }
}

/// The script says that the message ends before it is complete.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("cut by the script")
    }
}

impl std::error::Error for Cut {}
