//! What `bench/run` measures with: a client that sends one kind of load, and the service behind every proxy.
//!
//! ```text
//! load serve                           # on a free port of 127.0.0.1; the line that it prints says which
//! load send ADDRESS kind=unique …      # sends, and prints what came back as one line of JSON; see `Plan`
//! ```
//!
//! Both write and read HTTP/1.1 by hand, as little of it as they need, so that on a machine with two cores the proxy is
//! what is short of CPU. The service answers POST with 201 and as many bytes as it was sent, GET with 200 and as many
//! bytes as the path says, and `GET /executions` with how many POSTs it has answered.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

type Failure = Box<dyn Error + Send + Sync>;

// One thread is enough to keep a proxy's worker busy, and leaves it the rest of a small machine.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve"] => serve().await,
        ["send", address, settings @ ..] => send(Plan::new(address, settings)?).await,
        _ => Err("load: either `serve` or `send ADDRESS SETTING=VALUE…`".into()),
    }
}

async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("load: listening on {}", listener.local_addr()?);
    let executions = Arc::new(AtomicU64::new(0));
    loop {
        let connection = Connection::of(listener.accept().await?.0)?;
        // An error is a client that went away.
        tokio::spawn(answer(connection, Arc::clone(&executions)));
    }
}

async fn answer(mut connection: Connection, executions: Arc<AtomicU64>) -> Result<(), Failure> {
    loop {
        let (status, body) = connection
            .receive(|head| match head.start.split(' ').collect::<Vec<_>>().as_slice() {
                ["GET", "/executions", ..] => ("200 OK", executions.load(Ordering::Relaxed).to_string()),
                ["GET", path, ..] => ("200 OK", content(path.trim_start_matches('/').parse().unwrap_or_default())),
                _ => {
                    executions.fetch_add(1, Ordering::Relaxed);
                    ("201 Created", content(head.body_length))
                }
            })
            .await?;
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        connection.stream.write_all((head + &body).as_bytes()).await?;
    }
}

/// A JSON object of `length` bytes, 11 at least.
fn content(length: usize) -> String {
    format!(r#"{{"item":"{}"}}"#, "x".repeat(length.saturating_sub(11)))
}

/// What to send, as `setting=value` each.
#[derive(Clone)]
struct Plan {
    address: SocketAddr,
    kind: Kind,
    /// Where keyed requests go.
    path: String,
    /// Bytes of each request's body, and of each response's.
    body: usize,
    /// Kept alive; what else a setting counts is shared among them.
    connections: u64,
    /// How many requests in all; without it `seconds` is the end.
    requests: Option<u64>,
    seconds: f64,
    /// Requests per second, sent when they are due even if others are unanswered; without it each connection sends as
    /// soon as it has its answer.
    rate: Option<f64>,
    /// A number that no other run has sent to this proxy: keys are made of it.
    run: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// GET without a key.
    Get,
    /// Each first request is followed by its retry, on the same connection.
    Half,
    /// One key for all requests. It is executed before the run begins, and not counted.
    Hot,
    /// A key for each request.
    Unique,
}

impl Plan {
    fn new(address: &str, settings: &[&str]) -> Result<Self, Failure> {
        let mut plan = Self {
            address: address.parse()?,
            kind: Kind::Unique,
            path: "/orders".to_owned(),
            body: 200,
            connections: 16,
            requests: None,
            seconds: 1.0,
            rate: None,
            run: 0,
        };
        for setting in settings {
            match setting.split_once('=').ok_or_else(|| format!("load: {setting} has no value"))? {
                ("kind", "get") => plan.kind = Kind::Get,
                ("kind", "half") => plan.kind = Kind::Half,
                ("kind", "hot") => plan.kind = Kind::Hot,
                ("kind", "unique") => plan.kind = Kind::Unique,
                ("path", value) => value.clone_into(&mut plan.path),
                ("body", value) => plan.body = value.parse()?,
                ("connections", value) => plan.connections = value.parse()?,
                ("requests", value) => plan.requests = Some(value.parse()?),
                ("seconds", value) => plan.seconds = value.parse()?,
                ("rate", value) => plan.rate = Some(value.parse()?),
                ("run", value) => plan.run = value.parse()?,
                _ => return Err(format!("load: {setting} is no setting").into()),
            }
        }
        Ok(plan)
    }

    /// The request that a connection sends as its `number`th.
    fn request(&self, connection: u64, number: u64) -> String {
        const HEADERS: &str = "host: bench\r\nuser-agent: load\r\naccept: */*\r\nauthorization: Bearer bench\r\n";
        let (own, number) = match self.kind {
            Kind::Get => return format!("GET /{} HTTP/1.1\r\n{HEADERS}\r\n", self.body),
            Kind::Half => (connection, number / 2),
            Kind::Hot => (0, 0),
            Kind::Unique => (connection, number),
        };
        // In the form of a UUID, as most keys are.
        format!(
            "POST {} HTTP/1.1\r\n{HEADERS}content-type: application/json\r\ncontent-length: {}\r\n\
             idempotency-key: {:08x}-{own:04x}-4000-8000-{number:012x}\r\n\r\n{}",
            self.path,
            self.body,
            self.run,
            content(self.body)
        )
    }
}

async fn send(plan: Plan) -> Result<(), Failure> {
    if plan.kind == Kind::Hot {
        let mut tally = Tally::default();
        Connection::open(&plan).await?.exchange(&plan.request(0, 0), None, &mut tally).await?;
    }
    let mut clients = JoinSet::new();
    let begin = Instant::now();
    for connection in 0..plan.connections {
        clients.spawn(client(plan.clone(), connection, begin));
    }
    let mut tally = Tally::default();
    while let Some(one) = clients.join_next().await {
        tally.add(one??);
    }
    println!("{}", tally.report(begin.elapsed()));
    Ok(())
}

/// What one connection does from `begin` to the end of the plan.
async fn client(plan: Plan, connection: u64, begin: Instant) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut to = Connection::open(&plan).await?;
    let end = begin + Duration::from_secs_f64(plan.seconds);
    let share = plan.requests.map(|all| (all + plan.connections - 1 - connection) / plan.connections);
    let mut number = 0;
    while share.map_or_else(|| Instant::now() < end, |share| number < share) {
        let mut due = None;
        if let Some(rate) = plan.rate {
            let at = begin + Duration::from_secs_f64((number * plan.connections + connection) as f64 / rate);
            if share.is_none() && at >= end {
                break;
            }
            // A connection that is still busy when a request is due is the proxy's doing, so the wait counts. That the
            // timer fires up to a millisecond late is not.
            if at > Instant::now() {
                sleep_until(at).await;
            } else {
                due = Some(at);
            }
        }
        to.exchange(&plan.request(connection, number), due, &mut tally).await?;
        number += 1;
    }
    Ok(tally)
}

/// What came back.
#[derive(Default)]
struct Tally {
    /// Microseconds of each request.
    latencies: Vec<f64>,
    /// By status, a blank, and how the proxy says that it came about: `201 executed`.
    answers: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
    }

    fn report(mut self, elapsed: Duration) -> String {
        self.latencies.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let rank = (self.latencies.len() as f64 * share).ceil().max(1.0) as usize;
            self.latencies.get(rank - 1).copied()
        };
        json!({
            "requests": self.latencies.len(),
            "seconds": elapsed.as_secs_f64(),
            "answers": self.answers,
            "p50_us": quantile(0.50),
            "p99_us": quantile(0.99),
        })
        .to_string()
    }
}

/// One connection of HTTP/1.1, from either side.
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    async fn open(plan: &Plan) -> Result<Self, Failure> {
        Self::of(TcpStream::connect(plan.address).await?)
    }

    fn of(stream: TcpStream) -> Result<Self, Failure> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(32 << 10) })
    }

    /// Sends a request and counts its answer, with the time since it was due, or else since now.
    async fn exchange(&mut self, request: &str, due: Option<Instant>, tally: &mut Tally) -> Result<(), Failure> {
        let begin = due.unwrap_or_else(Instant::now);
        self.stream.write_all(request.as_bytes()).await?;
        let answer = self
            .receive(|head| {
                let status = head.start.split(' ').nth(1).unwrap_or_default();
                let replayed = head.field("idempotency-replayed").map(|_| "replayed");
                format!("{status} {}", head.field("idempotency-status").or(replayed).unwrap_or("unmarked"))
            })
            .await?;
        tally.latencies.push(begin.elapsed().as_secs_f64() * 1e6);
        *tally.answers.entry(answer).or_default() += 1;
        Ok(())
    }

    /// Reads a message to its end, and returns what `look` sees in its head.
    async fn receive<T>(&mut self, look: impl FnOnce(&Head<'_>) -> T) -> Result<T, Failure> {
        let length = loop {
            match self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(length) => break length + 4,
                None => self.read_more().await?,
            }
        };
        let head = Head::new(self.received.get(..length).unwrap_or_default())?;
        let end = length + head.body_length;
        let seen = look(&head);
        while self.received.len() < end {
            self.read_more().await?;
        }
        self.received.drain(..end);
        Ok(seen)
    }

    async fn read_more(&mut self) -> Result<(), Failure> {
        self.received.reserve(16 << 10);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("load: the connection was closed".into()),
            _ => Ok(()),
        }
    }
}

/// The head of a request or of a response.
struct Head<'a> {
    /// The request line or the status line.
    start: &'a str,
    fields: &'a str,
    body_length: usize,
}

impl<'a> Head<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Failure> {
        let (start, fields) = str::from_utf8(bytes)?.split_once("\r\n").unwrap_or_default();
        let mut head = Self { start, fields, body_length: 0 };
        head.body_length = match head.field("content-length") {
            Some(length) => length.parse()?,
            None if start.starts_with("GET ") => 0,
            None => return Err(format!("load: no length in {start} {fields}").into()),
        };
        Ok(head)
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        let fields = self.fields.split("\r\n").filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
