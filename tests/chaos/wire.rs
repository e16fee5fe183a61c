//! The wire between the Envoys and Redis, which can be slow, and break when a reply comes.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    time::sleep,
};

/// Passes connections on.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// How many pieces were held up or lost.
    disturbed: AtomicU64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Clear,
    /// Every other reply is lost with its connection.
    LosesReplies,
    /// Each piece takes longer by something between nothing and this, so that one overtakes the other.
    Slow(Duration),
}

impl Wire {
    /// To the server at `target`, which may come and go.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { state: Mutex::new(State::Clear), disturbed: AtomicU64::new(0) });
        let passing = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let shared = Arc::clone(&passing);
                tokio::spawn(async move { shared.pass(near, target).await.ok() });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn becomes(&self, state: State) {
        *self.shared.state.lock().unwrap() = state;
    }

    /// How many pieces were held up or lost so far.
    pub(crate) fn disturbed(&self) -> u64 {
        self.shared.disturbed.load(Ordering::Relaxed)
    }
}

/// Between so many delays the pieces take turns.
const STEPS: u32 = 8;

impl Shared {
    /// Until both sides have ended, or one fails: then both are cut.
    async fn pass(&self, near: TcpStream, target: SocketAddr) -> io::Result<()> {
        let far = TcpStream::connect(target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::try_join!(self.carry(near_in, far_out, false), self.carry(far_in, near_out, true)).map(drop)
    }

    async fn carry(
        &self,
        mut from: tcp::OwnedReadHalf,
        mut to: tcp::OwnedWriteHalf,
        are_replies: bool,
    ) -> io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 {
                return to.shutdown().await;
            }
            let state = *self.state.lock().unwrap();
            match state {
                State::Clear => {}
                State::LosesReplies if !are_replies => {}
                State::LosesReplies => {
                    if self.disturbed.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                }
                State::Slow(delay) => {
                    let turn = self.disturbed.fetch_add(1, Ordering::Relaxed);
                    sleep(delay / STEPS * (turn.wrapping_mul(5) % u64::from(STEPS)) as u32).await;
                }
            }
            to.write_all(&piece[..length]).await?;
        }
    }
}
