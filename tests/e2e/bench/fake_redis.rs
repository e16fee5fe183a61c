//! A server in place of Redis that fails in ways a healthy one does not.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one connection once something was asked on it.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// These bytes and the end.
    Says(Vec<u8>),
    /// These bytes and a reset.
    Resets(Vec<u8>),
    /// These bytes and nothing more, for as long as the client stays.
    Stalls(Vec<u8>),
    /// What Redis answers, as this makes it.
    Twists(Twist),
}

/// Makes another answer of one that Redis gave.
#[derive(Clone)]
pub(crate) struct Twist(Arc<TwistFn>);

type TwistFn = dyn Fn(&[u8], Vec<u8>) -> Vec<u8> + Send + Sync;

impl Twist {
    /// What was asked, and the answer.
    pub(crate) fn new(twist: impl Fn(&[u8], Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(twist))
    }
}

impl fmt::Debug for Twist {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Twist")
    }
}

/// Accepts connections on a port of its own, one ask on each, as the direct transport makes them.
#[derive(Debug)]
pub(crate) struct FakeRedis {
    address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
}

impl FakeRedis {
    /// Every connection ends like this.
    pub(crate) async fn start(fault: Fault) -> Self {
        Self::in_front_of(None, fault).await
    }

    /// The same with a real server behind it, to which everything that is asked is passed on.
    pub(crate) async fn in_front_of(redis: Option<SocketAddr>, fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("no free port on 127.0.0.1");
        let address = listener.local_addr().expect("a listener has an address");
        let fault = Arc::new(Mutex::new(fault));
        let faults = Arc::clone(&fault);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fault = faults.lock().expect("nobody panics while they hold this").clone();
                tokio::spawn(fail(stream, redis, fault));
            }
        });
        Self { address, fault }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens to the connections from now on.
    pub(crate) fn turn(&self, fault: Fault) {
        *self.fault.lock().expect("nobody panics while they hold this") = fault;
    }
}

/// Serves one connection. That the client is gone, or the server behind, is the end of it like any other.
async fn fail(mut client: TcpStream, redis: Option<SocketAddr>, fault: Fault) {
    let asked = read_to_end(&mut client).await;
    let answer = match redis {
        Some(redis) => ask(redis, &asked).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let _ = match fault {
        Fault::Says(bytes) => client.write_all(&bytes).await,
        Fault::Resets(bytes) => {
            let written = client.write_all(&bytes).await;
            // A reset is what the end of a connection becomes that does not linger.
            let _ = client.set_zero_linger();
            written
        }
        Fault::Stalls(bytes) => {
            let _ = client.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            return;
        }
        Fault::Twists(Twist(twist)) => client.write_all(&twist(&asked, answer)).await,
    };
}

/// What the client asks: all that comes until it has nothing more to say.
async fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut asked = Vec::new();
    let _ = client.read_to_end(&mut asked).await;
    asked
}

async fn ask(redis: SocketAddr, asked: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(redis).await?;
    stream.write_all(asked).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
