//! Real Redis servers, each a process of its own on a free port.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use std::{env, io, process, thread};

use tokio::time::Instant;

use super::resp::{Connection, Reply};
use super::signal::signal;
use super::temp_dir::TempDir;
use super::{PATIENCE, patiently};

/// How often the state of a server is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Ports that the kernel gives to nobody by itself: a connection to a dead server in its range can meet itself.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A running `redis-server`, killed when dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    arguments: Vec<String>,
    child: Child,
    directory: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
    port: u16,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A server with these arguments besides, as on its command line.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        Self::with_environment(arguments, &[]).await
    }

    /// The same with these variables in its environment.
    pub(crate) async fn with_environment(arguments: &[&str], environment: &[(&'static str, PathBuf)]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let directory = TempDir::new();
        let (child, port) = loop {
            let port = free_port();
            let mut child = launch(&arguments, environment, &directory, port);
            // Somebody else may have taken the port in between.
            if says(&mut child, &directory, READY).await {
                break (child, port);
            }
        };
        Self { arguments, child, directory, environment: environment.to_vec(), port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Ends it as a failing machine does, without a chance to write anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("redis-server is a child of this process");
        self.child.wait().expect("redis-server is a child of this process");
    }

    /// Starts it again on the same port once it was killed, with what it has on disk.
    pub(crate) async fn restart(&mut self) {
        self.restart_until(READY).await;
    }

    /// Starts it again with its data and much more, and so slow at reading it that it does so as long as the test lasts.
    ///
    /// Not for a server that appends to a file, which answers nobody for a long time while it reads that.
    pub(crate) async fn restart_slowly(&mut self) {
        // It looks at its connections each time that it has read that many bytes, which is for each key.
        const BYTES: usize = 1_024;

        for number in 0..1_000 {
            self.set(format!("ballast-{number}").as_bytes(), &[b'x'; BYTES]).await;
        }
        self.must(&["CONFIG", "SET", "rdbcompression", "no"]).await;
        self.must(&["SAVE"]).await;
        self.kill();
        let delay = Duration::from_millis(30).as_micros().to_string();
        let slowly = ["--key-load-delay", &delay, "--loading-process-events-interval-bytes", &BYTES.to_string()];
        self.arguments.extend(slowly.map(str::to_owned));
        self.restart_until(LISTENS).await;
    }

    async fn restart_until(&mut self, state: &str) {
        self.child = launch(&self.arguments, &self.environment, &self.directory, self.port);
        let is_back = says(&mut self.child, &self.directory, state).await;
        assert!(is_back, "redis-server does not come back\n{}", self.log());
    }

    /// Starts it again on the same port once it was killed, with nothing.
    pub(crate) async fn restart_empty(&mut self) {
        for name in ["dump.rdb", "nodes.conf"] {
            let _ = fs::remove_file(self.directory.join(name));
        }
        let _ = fs::remove_dir_all(self.directory.join("appendonlydir"));
        self.restart().await;
    }

    /// Stands still from now on: connections are accepted by the kernel, and nothing is answered.
    pub(crate) fn pause(&self) {
        signal(&self.child, "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(&self.child, "CONT");
    }

    /// One command over a connection of its own.
    pub(crate) async fn command<W: AsRef<[u8]>>(&self, words: &[W]) -> Reply {
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        let shown = String::from_utf8_lossy(words.first().copied().unwrap_or_default()).into_owned();
        let what = format!("Redis' reply to {shown}");
        let reply = patiently(&what, async { self.connect().await?.command(&words).await });
        reply.await.unwrap_or_else(|error| panic!("{what}: {error}\n{}", self.log()))
    }

    /// The same for a server that has asked for a password only after it was started.
    pub(crate) async fn must_as(&self, password: &str, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let done = async {
            let mut connection = Connection::open(self.address()).await?;
            connection.command(&[b"AUTH", password.as_bytes()]).await?;
            connection.command(&words).await
        };
        let reply = patiently("Redis' reply", done).await.expect("Redis answers");
        assert!(!matches!(reply, Reply::Error(_)), "Redis says {reply:?}");
    }

    /// One command that must succeed.
    pub(crate) async fn must<W: AsRef<[u8]>>(&self, words: &[W]) -> Reply {
        match self.command(words).await {
            Reply::Error(error) => panic!("Redis says {error}"),
            reply => reply,
        }
    }

    /// The value of `field` in its `INFO`.
    pub(crate) async fn info(&self, field: &str) -> Option<String> {
        let info = String::from_utf8_lossy(&self.must(&["INFO", "everything"]).await.into_bytes()).into_owned();
        info.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }

    /// A server that follows the master at `address`, and has all that it had.
    pub(crate) async fn replica_of(address: SocketAddr, arguments: &[&str]) -> Self {
        let port = address.port().to_string();
        let replica = Self::with(&[&["--replicaof", "127.0.0.1", &port], arguments].concat()).await;
        replica.follows().await;
        replica
    }

    /// Waits until it follows its master.
    pub(crate) async fn follows(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.info("master_link_status").await.as_deref() != Some("up") {
            assert!(Instant::now() < deadline, "the replica does not follow after {PATIENCE:?}\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Every key that it has, in order.
    pub(crate) async fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> =
            self.must(&["KEYS", "*"]).await.into_values().into_iter().map(Reply::into_bytes).collect();
        keys.sort();
        keys
    }

    /// The only key that it has.
    pub(crate) async fn only_key(&self) -> Vec<u8> {
        let mut keys = self.keys().await;
        assert_eq!(keys.len(), 1, "keys: {keys:?}");
        keys.remove(0)
    }

    /// The bytes at `key`.
    pub(crate) async fn get(&self, key: &[u8]) -> Vec<u8> {
        self.must(&[b"GET", key]).await.into_bytes()
    }

    /// Puts these bytes at `key`, for as long as what was there would have stayed.
    pub(crate) async fn set(&self, key: &[u8], value: &[u8]) {
        self.must(&[b"SET", key, value, b"KEEPTTL"]).await;
    }

    /// How often each of these commands was called so far.
    pub(crate) async fn calls_of(&self, commands: &[&str]) -> u64 {
        let stats = String::from_utf8_lossy(&self.must(&["INFO", "commandstats"]).await.into_bytes()).into_owned();
        let calls = |command: &&str| -> Option<u64> {
            let start = format!("cmdstat_{command}:calls=");
            let line = stats.lines().find_map(|line| line.strip_prefix(start.as_str()))?;
            line.split(',').next()?.parse().ok()
        };
        commands.iter().filter_map(calls).sum()
    }

    /// Its name in a cluster.
    pub(crate) async fn id(&self) -> String {
        String::from_utf8_lossy(&self.must(&["CLUSTER", "MYID"]).await.into_bytes()).into_owned()
    }

    /// Its files stay when it is dropped; where they are.
    pub(crate) fn keep_files(&mut self) -> &Path {
        self.directory.keep()
    }

    /// Everything that it has logged since it was started.
    fn log(&self) -> String {
        log(&self.directory)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let mut connection = Connection::open(self.address()).await?;
        if let Some(password) = self.argument("--requirepass") {
            connection.command(&[b"AUTH", password.as_bytes()]).await?;
        }
        Ok(connection)
    }

    /// What follows `name` among its arguments.
    fn argument(&self, name: &str) -> Option<&str> {
        let position = self.arguments.iter().position(|argument| argument == name)?;
        self.arguments.get(position + 1).map(String::as_str)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the log of redis-server on port {} ---\n{}--- end ---", self.port, self.log());
        }
        // It may have ended already; there is nothing else to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Redis Cluster of masters that share the slots, without replicas.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    pub(crate) masters: Vec<RedisServer>,
}

impl RedisCluster {
    pub(crate) async fn start(masters: usize) -> Self {
        const SLOTS: usize = 16_384;

        let mut servers = Vec::new();
        for number in 0..masters {
            let server = cluster_node().await;
            let (first, behind) = (number * SLOTS / masters, (number + 1) * SLOTS / masters);
            let (first, last) = (first.to_string(), (behind - 1).to_string());
            server.must(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            server.must(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            if let Some(RedisServer { port, arguments, .. }) = servers.first() {
                let (port, bus) = (port.to_string(), arguments[3].clone());
                server.must(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
            servers.push(server);
        }
        let cluster = Self { masters: servers };
        cluster.knows_itself().await;
        cluster
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.masters.iter().map(RedisServer::address).collect()
    }

    /// A replica of one of the masters, which takes over when that one is gone for so long.
    pub(crate) async fn replica_of(&self, master: usize, node_timeout: Duration) -> RedisServer {
        let replica = cluster_node().await;
        let first = &self.masters[0];
        let (port, bus) = (first.port.to_string(), first.arguments[3].clone());
        replica.must(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        let id = self.masters[master].id().await;
        let deadline = Instant::now() + PATIENCE;
        // It cannot follow whom it does not know yet.
        while let Reply::Error(error) = replica.command(&["CLUSTER", "REPLICATE", &id]).await {
            assert!(Instant::now() < deadline, "no replica after {PATIENCE:?}: {error}");
            tokio::time::sleep(POLL).await;
        }
        replica.follows().await;
        let node_timeout = node_timeout.as_millis().to_string();
        for node in self.masters.iter().chain([&replica]) {
            node.must(&["CONFIG", "SET", "cluster-node-timeout", &node_timeout]).await;
        }
        replica
    }

    /// Waits until each master knows who has which slots.
    async fn knows_itself(&self) {
        let deadline = Instant::now() + PATIENCE;
        for master in &self.masters {
            loop {
                let slots = master.must(&["CLUSTER", "SLOTS"]).await.into_values().len();
                let info = master.must(&["CLUSTER", "INFO"]).await.into_bytes();
                let info = String::from_utf8_lossy(&info).into_owned();
                if slots == self.masters.len() && info.contains("cluster_state:ok") {
                    break;
                }
                assert!(Instant::now() < deadline, "{slots} ranges of slots known after {PATIENCE:?}\n{info}");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// A server with a bus of its own, which knows no other yet.
async fn cluster_node() -> RedisServer {
    let bus = free_port().to_string();
    let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-require-full-coverage", "no"];
    RedisServer::with(&arguments).await
}

/// A port that nobody has now, and that no other test asks for soon.
pub(crate) fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);

    // Test runs side by side begin at different places.
    let start = process::id() as usize * 97;
    loop {
        let step = start + usize::from(ASKED.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (step % PORTS.len()) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

const REMEDY: &str = "`make tools` installs it, or name one in REDIS_SERVER";

fn launch(arguments: &[String], environment: &[(&str, PathBuf)], directory: &TempDir, port: u16) -> Child {
    let named = env::var_os("REDIS_SERVER").filter(|named| !named.is_empty());
    let binary = named.unwrap_or_else(|| OsString::from("redis-server"));
    let log = File::create(directory.join("redis.log")).expect("cannot write the log of redis-server");
    let errors = log.try_clone().expect("cannot write the log of redis-server");
    Command::new(&binary)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory.path())
        // Enough for every connection of a test at once.
        .args(["--tcp-backlog", "4096"])
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}; {REMEDY}", binary.display()))
}

/// What it logs once it listens, and once it has read its data as well.
const LISTENS: &str = "Server initialized";
const READY: &str = "Ready to accept connections";

/// Waits until this server has logged `state`; false if it cannot have its port.
async fn says(child: &mut Child, directory: &TempDir, state: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if log(directory).contains(state) {
            return true;
        }
        if let Some(exit) = ended(child) {
            let log = log(directory);
            assert!(log.contains("Address already in use"), "redis-server ended with {exit}\n{log}");
            return false;
        }
        assert!(Instant::now() < deadline, "redis-server is not there after {PATIENCE:?}\n{}", log(directory));
        tokio::time::sleep(POLL).await;
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("redis-server is a child of this process")
}

fn log(directory: &TempDir) -> String {
    String::from_utf8_lossy(&fs::read(directory.join("redis.log")).unwrap_or_default()).into_owned()
}
