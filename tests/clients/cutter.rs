//! What loses an answer: the network between a client and Envoy.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes connections on, and resets the first one, when its answer has come, before the client has any of it.
#[derive(Debug)]
pub(crate) struct Cutter {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Cutter {
    pub(crate) async fn in_front_of(envoy: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("no free port on 127.0.0.1");
        let address = listener.local_addr().expect("a bound socket has an address");
        let task = tokio::spawn(async move {
            let mut is_first = true;
            while let Ok((client, _)) = listener.accept().await {
                let envoy = TcpStream::connect(envoy).await.expect("Envoy accepts connections");
                if std::mem::take(&mut is_first) {
                    tokio::spawn(cut(client, envoy));
                } else {
                    tokio::spawn(pass(client, envoy));
                }
            }
        });
        Self { address, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, mut envoy: TcpStream) {
    // Either may go at any time.
    let _ = copy_bidirectional(&mut client, &mut envoy).await;
}

async fn cut(client: TcpStream, mut envoy: TcpStream) {
    let (mut requests, answers) = client.into_split();
    let (mut to_serve, mut to_send) = envoy.split();
    let mut lost = Vec::new();
    tokio::select! {
        _ = copy(&mut requests, &mut to_send) => {}
        _ = to_serve.read_buf(&mut lost) => {}
    }
    let _ = to_send.shutdown().await;
    let client = requests.reunite(answers).expect("both halves of one connection");
    client.set_zero_linger().expect("a connected socket");
}
