//! A dynalite of a test's own: atomic, as DynamoDB is, but for the item in a refusal, which it never shows.
#![allow(clippy::disallowed_methods, reason = "time is natural in a test")]

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
pub(crate) struct Dynalite {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

/// What it answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) date: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Dynalite {
    pub(crate) fn start() -> Self {
        Self::with(None)
    }

    /// With its items in this folder, or in memory alone.
    pub(crate) fn with(path: Option<&Path>) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);

        let first = 22_000 - u16::try_from(std::process::id() % 9_000).unwrap();
        loop {
            let port = first - NEXT.fetch_add(1, Ordering::Relaxed);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if TcpListener::bind(address).is_ok()
                && let Some(dynalite) = Self::start_at(address, path)
            {
                return dynalite;
            }
        }
    }

    /// On this port, with what is in the folder; `None` if somebody else has taken it.
    pub(crate) fn start_at(address: SocketAddr, path: Option<&Path>) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/dynamodb/node_modules/dynalite/cli.js");
        assert!(program.exists(), "there is no dynalite: run tools/setup-dynamodb");
        let mut child = Command::new("node")
            .arg(&program)
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--createTableMs", "0"])
            .args(path.into_iter().flat_map(|path| [Path::new("--path"), path]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run node: {error}; run tools/setup-dynamodb"));
        let deadline = Instant::now() + Duration::from_secs(60);
        // Somebody else who has taken the port in between makes it end.
        while child.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some(Self { child, address });
            }
            assert!(Instant::now() < deadline, "dynalite does not answer");
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

impl Drop for Dynalite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a call; dynalite takes any signature, but wants one.
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
