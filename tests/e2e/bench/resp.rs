//! A client of Redis, made by hand so that the tests judge the filter's own encoder and parser by another one.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One value of RESP2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Reply {
    Array(Vec<Reply>),
    Bulk(Vec<u8>),
    Error(String),
    Integer(i64),
    Nil,
    Simple(String),
}

impl Reply {
    /// The bytes of a string; fails the test on anything else.
    #[track_caller]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bulk(bytes) => bytes,
            Self::Simple(text) => text.into_bytes(),
            other => panic!("no string: {other:?}"),
        }
    }

    /// The values of an array; fails the test on anything else.
    #[track_caller]
    pub(crate) fn into_values(self) -> Vec<Self> {
        match self {
            Self::Array(values) => values,
            other => panic!("no array: {other:?}"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// One command and its reply. An error of Redis is a reply; an error here is one of the connection.
    pub(super) async fn command(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        self.stream.write_all(&encode(words)).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, rest)) = parse(&self.received) {
                self.received.drain(..self.received.len() - rest);
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A command as Redis wants it: an array of bulk strings.
fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The first value of `bytes`, and how many bytes are left behind it; None until all of it is there.
fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let (line, rest) = (&bytes[1..end], &bytes[end + 2..]);
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || text().parse::<i64>().unwrap_or_else(|_| panic!("no number: {:?}", text()));
    match bytes[0] {
        b'+' => Some((Reply::Simple(text()), rest.len())),
        b'-' => Some((Reply::Error(text()), rest.len())),
        b':' => Some((Reply::Integer(number()), rest.len())),
        b'$' => match usize::try_from(number()) {
            Ok(length) => {
                let data = rest.get(..length + 2)?;
                Some((Reply::Bulk(data[..length].to_vec()), rest.len() - length - 2))
            }
            Err(_) => Some((Reply::Nil, rest.len())),
        },
        b'*' => {
            let Ok(count) = usize::try_from(number()) else { return Some((Reply::Nil, rest.len())) };
            let (mut values, mut rest) = (Vec::new(), rest);
            for _ in 0..count {
                let (value, left) = parse(rest)?;
                rest = &rest[rest.len() - left..];
                values.push(value);
            }
            Some((Reply::Array(values), rest.len()))
        }
        other => panic!("no RESP: {:?} in {:?}", char::from(other), text()),
    }
}
