//! What stands in for DynamoDB: a process of a test's own.
#![allow(clippy::disallowed_methods, reason = "time is natural in a test")]
#![allow(dead_code, reason = "each of the tests that share this uses a part of it")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct DynamoDbServer {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    /// Atomic, as DynamoDB is; but it never shows the item that a condition did not hold for.
    Dynalite,
    /// It shows the item, and is not atomic: of claims at the same time it may grant two.
    Moto,
}

impl Program {
    fn command(self, address: SocketAddr, path: Option<&Path>) -> Command {
        let (program, setup) = match self {
            Self::Dynalite => ("node", ".tools/dynamodb/node_modules/dynalite/cli.js"),
            Self::Moto => ("python3", ".tools/moto/python"),
        };
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(setup);
        assert!(installed.exists(), "there is no {self:?}: run tools/setup-dynamodb moto");
        let (mut command, port) = (Command::new(program), address.port().to_string());
        match self {
            Self::Dynalite => command
                .arg(&installed)
                .args(["--host", "127.0.0.1", "--port", &port, "--createTableMs", "0"])
                .args(path.into_iter().flat_map(|path| [Path::new("--path"), path])),
            // It says there what it is asked for.
            Self::Moto => command
                .env("PYTHONPATH", &installed)
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port])
                .stderr(Stdio::null()),
        };
        command
    }
}

/// What it answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) date: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl DynamoDbServer {
    /// A dynalite with its items in memory.
    pub(crate) fn start() -> Self {
        Self::with(Program::Dynalite, None)
    }

    /// With its items in this folder, or in memory alone.
    pub(crate) fn with(program: Program, path: Option<&Path>) -> Self {
        const TRIES: u16 = 50;
        static NEXT: AtomicU16 = AtomicU16::new(0);

        let first = 22_000 - u16::try_from(std::process::id() % 9_000).unwrap();
        for _ in 0..TRIES {
            let port = first - NEXT.fetch_add(1, Ordering::Relaxed);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if TcpListener::bind(address).is_ok()
                && let Some(server) = Self::run(program, address, path)
            {
                return server;
            }
        }
        panic!("{program:?} ends as soon as it starts");
    }

    /// A dynalite on this port, with what is in the folder; `None` if somebody else has taken it.
    pub(crate) fn start_at(address: SocketAddr, path: Option<&Path>) -> Option<Self> {
        Self::run(Program::Dynalite, address, path)
    }

    fn run(program: Program, address: SocketAddr, path: Option<&Path>) -> Option<Self> {
        let mut child = program
            .command(address, path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {program:?}: {error}; run tools/setup-dynamodb moto"));
        let deadline = Instant::now() + Duration::from_secs(60);
        // Somebody else who has taken the port in between makes it end.
        while child.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some(Self { child, address });
            }
            assert!(Instant::now() < deadline, "{program:?} does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Makes a table with this attribute as its key.
    pub(crate) fn create_table(&self, table: &str, key: &str, kind: &str) {
        let created = self.call(
            "CreateTable",
            &json!({
                "TableName": table,
                "AttributeDefinitions": [{"AttributeName": key, "AttributeType": kind}],
                "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
                "BillingMode": "PAY_PER_REQUEST",
            }),
        );
        assert_eq!(created["TableDescription"]["TableName"], table, "{created}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.call("DescribeTable", &json!({"TableName": table}))["Table"]["TableStatus"] != "ACTIVE" {
            assert!(Instant::now() < deadline, "the table is not made");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A call of the test's own.
    pub(crate) fn call(&self, target: &str, body: &Value) -> Value {
        let target = format!("DynamoDB_20120810.{target}");
        let response = send(self.address, &target, body.to_string().as_bytes(), true).expect("an answer");
        serde_json::from_slice(&response.body).expect("JSON")
    }
}

impl Drop for DynamoDbServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a call; any signature will do, but dynalite wants one, and moto knows DynamoDB by it.
pub(crate) fn send(address: SocketAddr, target: &str, body: &[u8], is_signed: bool) -> std::io::Result<Response> {
    const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/dynamodb/aws4_request, \
                          SignedHeaders=host, Signature=b\r\nx-amz-date: 20260101T000000Z\r\n";

    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: dynamodb\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amz-target: {target}\r\n{}content-length: {}\r\n\r\n",
        if is_signed { SIGNED } else { "" },
        body.len()
    );
    connection.write_all(&[head.as_bytes(), body].concat())?;
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    assert!(field("content-length").is_some(), "a body of a known length: {head}");
    Ok(Response {
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"),
        date: field("date").unwrap_or_default().into_bytes(),
        body: bytes[end + 4..].to_vec(),
    })
}
