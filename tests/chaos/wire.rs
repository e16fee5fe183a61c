//! The wire between the Envoys and their store, or between two of its servers, which can be slow, stand still, lead to
//! another server, and break when a reply comes.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
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
    /// Where it leads to.
    target: watch::Sender<SocketAddr>,
    /// How many of the first replies of each connection are never lost.
    spared: AtomicU32,
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
    /// Nothing arrives.
    Still,
}

impl Wire {
    /// To the server at `target`, which may come and go.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Clear),
            target: watch::Sender::new(target),
            spared: AtomicU32::new(0),
            disturbed: AtomicU64::new(0),
        });
        let passing = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let shared = Arc::clone(&passing);
                tokio::spawn(async move { shared.pass(near).await.ok() });
            }
        });
        Self { address, shared }
    }

    /// The first replies of each connection, so many of them, are never lost.
    pub(crate) fn sparing(self, replies: u32) -> Self {
        self.shared.spared.store(replies, Ordering::Relaxed);
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn becomes(&self, state: State) {
        *self.shared.state.lock().unwrap() = state;
    }

    /// It leads to another server from now on, and whatever leads to the one before is cut.
    pub(crate) fn leads_to(&self, target: SocketAddr) {
        self.shared.target.send_replace(target);
    }

    /// How many pieces were held up or lost so far.
    pub(crate) fn disturbed(&self) -> u64 {
        self.shared.disturbed.load(Ordering::Relaxed)
    }
}

/// How often a wire that stands still is looked at.
const STILLNESS: Duration = Duration::from_millis(5);

/// The number of delays that the pieces take turns with.
const STEPS: u32 = 8;

impl Shared {
    /// Until both sides have ended, one fails, or it leads elsewhere: then both are cut.
    async fn pass(&self, near: TcpStream) -> io::Result<()> {
        let mut targets = self.target.subscribe();
        let target = *targets.borrow_and_update();
        let far = TcpStream::connect(target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let carried =
            async { tokio::try_join!(self.carry(near_in, far_out, false), self.carry(far_in, near_out, true)) };
        tokio::select! {
            carried = carried => carried.map(drop),
            _ = targets.changed() => Ok(()),
        }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap()
    }

    async fn carry(
        &self,
        mut from: tcp::OwnedReadHalf,
        mut to: tcp::OwnedWriteHalf,
        are_replies: bool,
    ) -> io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        let mut spared = self.spared.load(Ordering::Relaxed);
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 {
                return to.shutdown().await;
            }
            while self.state() == State::Still {
                sleep(STILLNESS).await;
            }
            match self.state() {
                State::Clear | State::Still => {}
                State::LosesReplies if !are_replies || spared > 0 => {}
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
            spared = spared.saturating_sub(1);
            to.write_all(&piece[..length]).await?;
        }
    }
}
