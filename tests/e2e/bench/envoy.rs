//! A real Envoy with the built module.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, mem, thread};

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::bootstrap::{Backends, HotRestart, Module, WORKERS};
use super::http1::Http1;
use super::http2::Http2;
use super::message::{Request, Response};
use super::signal::signal;
use super::spares::{self, Lease};
use super::temp_dir::TempDir;
use super::{PATIENCE, Protocol, Setup, Upstream, discovery, try_send};

/// How often the state of something outside of this process is looked at.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// How long an Envoy may take until it answers, which it does when V8 has compiled the module: more than a second of a
/// core, and of a busy machine a good deal more.
const START: Duration = Duration::from_secs(120);

/// A running Envoy, stopped when dropped.
///
/// Dropping it is also a check: a passed test with a dead Envoy or a failed wasm VM is no passed test.
#[derive(Debug)]
pub(crate) struct Envoy {
    launched: Lease,
    admin: SocketAddr,
    listener: SocketAddr,
    backends: Backends,
    was_killed: bool,
    /// Whether VMs may fail because the test makes them.
    vms_may_fail: bool,
}

impl Envoy {
    pub(super) async fn start(setup: &Setup, backends: Backends) -> Self {
        let mut envoy = if setup.is_for_any_process() {
            Self::serving(spares::lend(setup, &backends).await, backends).await
        } else {
            Self::once_ready(Launched::with_setup(setup, &backends), backends).await
        };
        envoy.vms_may_fail = setup.module == Module::CrashTest;
        envoy
    }

    /// In front of this upstream, with a store at these addresses, which the test has started.
    pub(crate) async fn in_front_of(upstream: &Upstream, setup: &Setup, store: Vec<SocketAddr>) -> Self {
        Self::start(setup, Backends { store, upstream: upstream.address() }).await
    }

    /// Envoy with a file that users are told to copy, on ports of its own.
    pub(super) async fn shipped(file: &str, upstream: SocketAddr) -> Self {
        Self::shipped_with(file, upstream, &[]).await
    }

    /// The same with other texts in the file, too.
    pub(super) async fn shipped_with(file: &str, upstream: SocketAddr, replaced: &[(String, String)]) -> Self {
        let backends = Backends { store: Vec::new(), upstream };
        Self::once_ready(Launched::with_shipped_file(file, upstream, replaced), backends).await
    }

    /// Envoy with a bootstrap that the test makes by itself, with files in this directory.
    pub(crate) async fn with_bootstrap(bootstrap: impl FnOnce(&TempDir) -> Value, upstream: SocketAddr) -> Self {
        let directory = TempDir::new();
        let bootstrap = format!("{:#}", bootstrap(&directory));
        let backends = Backends { store: Vec::new(), upstream };
        Self::once_ready(Launched::run(directory, "bootstrap.json", bootstrap.as_bytes(), Process::default()), backends)
            .await
    }

    async fn once_ready(mut launched: Launched, backends: Backends) -> Self {
        launched.is_ready().await;
        Self::serving(Lease::of_its_own(launched), backends).await
    }

    async fn serving(launched: Lease, backends: Backends) -> Self {
        let admin = launched.admin().expect("an Envoy that serves has told its admin address");
        let listeners = ask(admin, "GET", "/listeners?format=json").await.json().unwrap_or_default();
        let ports = ports(&listeners);
        // Operators have a listener of their own.
        let port = ports.iter().find(|(name, _)| name != "admin").map(|(_, port)| *port);
        let port = port.unwrap_or_else(|| panic!("no port in /listeners: {listeners:#}\n{}", launched.log_tail()));
        let listener = SocketAddr::from(([127, 0, 0, 1], port));
        Self { launched, admin, listener, backends, was_killed: false, vms_may_fail: false }
    }

    /// VMs may fail, as the test makes them.
    pub(crate) fn lets_vms_fail(&mut self) {
        self.vms_may_fail = true;
    }

    /// Where operators connect.
    pub(crate) async fn admin_listener(&self) -> SocketAddr {
        let listeners = ask(self.admin, "GET", "/listeners?format=json").await.json().unwrap_or_default();
        let port = ports(&listeners).into_iter().find(|(name, _)| name == "admin").map(|(_, port)| port);
        SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_else(|| panic!("no admin in /listeners: {listeners:#}"))))
    }

    /// Makes Envoy replace its listener by that of `setup`, and waits until it has. Needs `Setup::discovered`.
    pub(crate) async fn reconfigure(&self, setup: &Setup) {
        const UPDATES: &str = "listener_manager.listener_create_success";

        let before = self.stat(UPDATES).await.unwrap_or_default();
        self.launched.discover(setup, &self.backends);
        let deadline = Instant::now() + PATIENCE;
        // Each worker counts the listener that it has begun to use.
        while self.stat(UPDATES).await.unwrap_or_default() < before + WORKERS {
            assert!(
                Instant::now() < deadline,
                "Envoy does not take the changed listener\n{}",
                self.launched.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends it as a failing machine does: no connection is closed properly, no claim is given back.
    pub(crate) fn kill(&mut self) {
        self.was_killed = true;
        self.launched.child.kill().expect("Envoy is a child of this process");
        self.launched.child.wait().expect("Envoy is a child of this process");
    }

    /// Ends it as an operator does, and waits until it has ended.
    pub(crate) async fn terminate(&mut self) {
        signal(&self.launched.child, "TERM");
        self.ends().await;
    }

    /// Waits until it has ended, as its successor has told it to.
    pub(crate) async fn ends(&mut self) {
        self.was_killed = true;
        let deadline = Instant::now() + PATIENCE;
        while self.launched.exit().is_none() {
            assert!(Instant::now() < deadline, "Envoy does not end in {PATIENCE:?}\n{}", self.launched.log_tail());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Another one of the same `setup` in its place, at another address; gives what is left of the old one.
    pub(crate) async fn replace(&mut self, setup: &Setup) -> Self {
        let successor = Self::start(setup, self.backends.clone()).await;
        mem::replace(self, successor)
    }

    /// Stands still from now on: connections are accepted by the kernel, and nothing is answered.
    pub(crate) fn pause(&self) {
        signal(&self.launched.child, "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(&self.launched.child, "CONT");
    }

    /// Its files stay when it is dropped; where they are.
    pub(crate) fn keep_files(&mut self) -> &Path {
        self.launched.directory.keep()
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener
    }

    /// One request over a new HTTP/1.1 connection, so that each may meet another worker.
    pub(crate) async fn send(&self, request: &Request) -> Response {
        self.send_over(Protocol::Http1, request).await
    }

    /// One request over a new connection.
    pub(crate) async fn send_over(&self, protocol: Protocol, request: &Request) -> Response {
        match protocol {
            Protocol::Http1 => self.http1().await.send(request).await,
            Protocol::Http2 => self.http2().await.send(request).await,
        }
    }

    /// One request over a new connection, while the test goes on. Aborting the task is hanging up.
    pub(crate) fn send_aside(&self, protocol: Protocol, request: &Request) -> JoinHandle<Response> {
        let (address, request) = (self.address(), request.clone());
        tokio::spawn(async move {
            match protocol {
                Protocol::Http1 => Http1::connect(address).await.send(&request).await,
                Protocol::Http2 => Http2::connect(address).await.send(&request).await,
            }
        })
    }

    /// The request, again as long as it is told that the operation is still in flight.
    ///
    /// The end of a stream without a complete answer reaches the filter after the client.
    pub(crate) async fn send_once_settled(&self, request: &Request) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.send(request).await;
            if response.text("idempotency-status") != "in-flight" {
                return response;
            }
            assert!(Instant::now() < deadline, "still in flight after {PATIENCE:?}: {response:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn http1(&self) -> Http1 {
        Http1::connect(self.address()).await
    }

    pub(crate) async fn http2(&self) -> Http2 {
        Http2::connect(self.address()).await
    }

    /// A connection to this worker, 0 or 1. Finding it takes GETs that the upstream counts, too.
    pub(crate) async fn http1_to_worker(&self, worker: usize) -> Http1 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.connections_by_worker().await;
            let mut client = self.http1().await;
            // The kernel accepts before the worker does.
            client.send(&Request::get("/which-worker")).await;
            if self.connections_by_worker().await[worker] > before[worker] {
                return client;
            }
            assert!(Instant::now() < deadline, "no connection to worker {worker} in {PATIENCE:?}");
        }
    }

    /// The counter or gauge `name` of `/stats`; None if Envoy does not know it.
    pub(crate) async fn stat(&self, name: &str) -> Option<u64> {
        let stats = ask(self.admin, "GET", "/stats").await;
        let stats = String::from_utf8_lossy(&stats.body).into_owned();
        stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
    }

    /// How many connections each of the two workers has accepted so far.
    pub(crate) async fn connections_by_worker(&self) -> [u64; 2] {
        let mut accepted = [0; 2];
        for (worker, accepted) in accepted.iter_mut().enumerate() {
            let name = format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total");
            *accepted = self.stat(&name).await.unwrap_or_else(|| panic!("no stat {name}"));
        }
        accepted
    }

    /// All of its configuration, as its admin shows it.
    pub(crate) async fn config_dump(&self) -> String {
        String::from_utf8_lossy(&ask(self.admin, "GET", "/config_dump").await.body).into_owned()
    }

    /// Every stat whose name contains `part`, a line each.
    pub(crate) async fn stats_like(&self, part: &str) -> String {
        let stats = ask(self.admin, "GET", "/stats").await;
        let stats = String::from_utf8_lossy(&stats.body).into_owned();
        stats.lines().filter(|line| line.contains(part)).collect::<Vec<_>>().join("\n")
    }

    /// What Prometheus sees.
    pub(crate) async fn prometheus(&self) -> String {
        let page = ask(self.admin, "GET", "/stats/prometheus").await;
        String::from_utf8_lossy(&page.body).into_owned()
    }

    /// Waits until Prometheus sees `series`, a name with its labels, at `expected`.
    pub(crate) async fn reaches_prometheus(&self, series: &str, expected: u64) {
        let deadline = Instant::now() + PATIENCE;
        let line = format!("{series} {expected}");
        loop {
            let page = self.prometheus().await;
            if page.lines().any(|found| found == line) {
                return;
            }
            let ours: Vec<&str> = page.lines().filter(|line| line.starts_with("idemgate_")).collect();
            assert!(Instant::now() < deadline, "{line:?} is not among\n{}", ours.join("\n"));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until `name` stands at `expected`: what is counted at the end of a stream may follow the response.
    pub(crate) async fn reaches_stat(&self, name: &str, expected: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.stat(name).await;
            if found == Some(expected) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{name} stands at {found:?}, expected {expected}; all of ours:\n{}",
                self.stats_like("idemgate").await
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// How many bytes clients have sent so far and Envoy has read.
    pub(crate) async fn received(&self) -> u64 {
        self.stat("http.ingress.downstream_cx_rx_bytes_total").await.unwrap_or_default()
    }

    /// Waits until it has read this number of bytes of its clients.
    pub(crate) async fn has_received(&self, bytes: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.received().await < bytes {
            assert!(Instant::now() < deadline, "Envoy has not read {bytes} bytes after {PATIENCE:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for the access log line of the request with this `x-tag`.
    pub(crate) async fn access_log_line(&self, tag: &str) -> String {
        self.access_log_line_with(&format!("tag={tag} ")).await
    }

    /// Waits for an access log line with this in it.
    pub(crate) async fn access_log_line_with(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.launched.access_log()).unwrap_or_default();
            // A line that has no end yet is still being written.
            let mut lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(line) = lines.find(|line| line.contains(part)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no access log line with {part:?} in:\n{log}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Makes Envoy log what wasm plugins say from this level on.
    pub(crate) async fn log_plugins_from(&self, level: &str) {
        let answer = ask(self.admin, "POST", &format!("/logging?wasm={level}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Waits until Envoy has logged a line with this in it.
    pub(crate) async fn logs(&self, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(expected) {
            assert!(Instant::now() < deadline, "{expected:?} is not logged\n{}", self.launched.log_tail());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Everything that Envoy has logged.
    pub(crate) fn log(&self) -> String {
        self.launched.log()
    }

    /// Resident memory of the process in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.launched.child.id());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.unwrap_or_else(|| panic!("no VmRSS in {path}:\n{status}")) * 1024
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let exit = self.launched.child.try_wait().ok().flatten();
        if thread::panicking() {
            eprintln!("{}", self.launched.log_tail());
            return;
        }
        assert!(exit.is_none() || self.was_killed, "Envoy has ended by itself, {exit:?}\n{}", self.launched.log_tail());
        let log = self.launched.log();
        if self.vms_may_fail {
            return;
        }
        let failure = log.lines().find(|line| VM_FAILURES.iter().any(|failure| line.contains(failure)));
        assert!(failure.is_none(), "a wasm VM failed: {failure:?}\n{}", self.launched.log_tail());
    }
}

/// What Envoy logs when a VM dies or a call into it fails.
const VM_FAILURES: [&str; 4] = ["Uncaught ", "panicked at", "wasm_fail", "Wasm VM failed"];

/// Starts Envoy with a configuration that it must refuse, and gives its log once it has ended.
pub(crate) async fn refusal(setup: &Setup) -> String {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut launched = Launched::with_setup(setup, &Backends { store: vec![nobody], upstream: nobody });
    let deadline = Instant::now() + START;
    let exit = loop {
        if let Some(exit) = launched.exit() {
            break exit;
        }
        assert!(Instant::now() < deadline, "Envoy accepts {setup:#?}\n{}", launched.log_tail());
        tokio::time::sleep(POLL).await;
    };
    assert!(!exit.success(), "Envoy ended with {exit}\n{}", launched.log_tail());
    launched.log()
}

/// The names and ports of Envoy's listeners; those within Envoy have no port.
fn ports(listeners: &Value) -> Vec<(String, u16)> {
    let statuses = listeners["listener_statuses"].as_array().into_iter().flatten();
    let port = |listener: &Value| {
        let port = listener.pointer("/local_address/socket_address/port_value")?.as_u64()?;
        Some((listener["name"].as_str()?.to_owned(), u16::try_from(port).ok()?))
    };
    statuses.filter_map(port).collect()
}

/// One request to the admin endpoint.
async fn ask(admin: SocketAddr, method: &'static str, target: &str) -> Response {
    Http1::connect(admin).await.send(&Request::new(method, target)).await
}

/// A variable in the environment of each Envoy, and its value.
pub(crate) const SECRET: (&str, &str) = ("IDEMGATE_TEST_SECRET", "a-secret-of-thirty-two-characters-or-more");

/// What is said to the process besides its configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process<'a> {
    /// What a change of the configuration has replaced goes after so many seconds.
    pub(super) drain_seconds: u32,
    pub(super) workers: u64,
    pub(super) environment: &'a [(&'static str, PathBuf)],
    pub(super) hot_restart: Option<HotRestart>,
}

impl Default for Process<'_> {
    fn default() -> Self {
        Self { drain_seconds: 1, workers: WORKERS, environment: &[], hot_restart: None }
    }
}

/// The process and its files.
#[derive(Debug)]
pub(super) struct Launched {
    child: Child,
    directory: TempDir,
    /// How many tests have had it before.
    uses: u32,
    /// What it had logged when this test got it.
    logged_before: usize,
}

impl Launched {
    fn with_setup(setup: &Setup, backends: &Backends) -> Self {
        let directory = TempDir::new();
        let mut bootstrap = setup.bootstrap(&module(setup.module), &access_log(directory.path(), 0), backends);
        if setup.is_discovered {
            discovery::take_listeners(&mut bootstrap, directory.path());
        }
        let bootstrap = format!("{bootstrap:#}");
        let process = Process {
            workers: setup.workers,
            environment: &setup.environment,
            hot_restart: setup.hot_restart,
            ..Process::default()
        };
        Self::run(directory, "bootstrap.json", bootstrap.as_bytes(), process)
    }

    fn discover(&self, setup: &Setup, backends: &Backends) {
        let mut bootstrap = setup.bootstrap(&module(setup.module), &self.access_log(), backends);
        discovery::take_listeners(&mut bootstrap, self.directory.path());
    }

    fn with_shipped_file(file: &str, upstream: SocketAddr, replaced: &[(String, String)]) -> Self {
        let render = Command::new(checkout().join("tools/render-config"))
            .args(["--file", file, "--bind", "127.0.0.1", "--listener", "0", "--admin", "0"])
            .args(["--upstream", &upstream.port().to_string()])
            .arg("--module")
            .arg(module(Module::Released))
            .args(replaced.iter().flat_map(|(old, new)| ["--replace", old, new]))
            .output()
            .expect("cannot run tools/render-config");
        assert!(render.status.success(), "tools/render-config: {}", String::from_utf8_lossy(&render.stderr));
        Self::run(TempDir::new(), "envoy.yaml", &render.stdout, Process::default())
    }

    pub(super) fn run(directory: TempDir, name: &str, configuration: &[u8], process: Process<'_>) -> Self {
        let Process { drain_seconds, workers, environment, hot_restart } = process;
        spares::keep();
        let envoy = binary();
        let bootstrap = directory.join(name);
        fs::write(&bootstrap, configuration).expect("cannot write Envoy's configuration");
        let log = File::create(directory.join("envoy.log")).expect("cannot write Envoy's log");
        let child = Command::new(&envoy)
            .env(SECRET.0, SECRET.1)
            .arg("--config-path")
            .arg(&bootstrap)
            .arg("--admin-address-path")
            .arg(directory.join("admin"))
            .args(["--concurrency", &workers.to_string()])
            .args(["--drain-strategy", "immediate", "--drain-time-s", &drain_seconds.to_string()])
            .args(match hot_restart {
                // Several Envoys on one machine would fight over one shared-memory segment.
                None => vec!["--disable-hot-restart".to_owned()],
                Some(HotRestart { id, epoch }) => {
                    let (id, epoch) = (id.to_string(), epoch.to_string());
                    ["--base-id", &id, "--restart-epoch", &epoch, "--parent-shutdown-time-s", "3"]
                        .map(str::to_owned)
                        .into()
                }
            })
            // What Envoy does not know is a mistake, also in what it discovers.
            .arg("--reject-unknown-dynamic-fields")
            .args(["--log-level", "warning", "--component-log-level", "wasm:info", "--file-flush-interval-msec", "50"])
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}; {ENVOY_REMEDY}", envoy.display()));
        Self { child, directory, uses: 0, logged_before: 0 }
    }

    /// Waits until it takes requests.
    pub(super) async fn is_ready(&mut self) {
        let deadline = Instant::now() + START;
        let admin = loop {
            if let Some(admin) = self.admin() {
                break admin;
            }
            self.must_run(deadline, "has no admin address");
            tokio::time::sleep(POLL).await;
        };
        // An Envoy that refuses its configuration ends in the middle of this.
        let ready = Request::get("/ready");
        loop {
            let asked = timeout(Duration::from_secs(1), try_send(admin, Protocol::Http1, &ready)).await;
            if asked.is_ok_and(|answer| answer.is_some_and(|answer| answer.status == 200)) {
                break;
            }
            self.must_run(deadline, "is not ready");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Another test has it from now on.
    pub(super) fn begins_anew(&mut self) {
        self.uses += 1;
        self.logged_before = fs::read(self.directory.join("envoy.log")).unwrap_or_default().len();
    }

    pub(super) fn uses(&self) -> u32 {
        self.uses
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// None until Envoy has written it whole.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.directory.join("admin")).ok()?.parse().ok()
    }

    pub(super) fn access_log(&self) -> PathBuf {
        access_log(self.directory.path(), self.uses)
    }

    fn log(&self) -> String {
        let log = fs::read(self.directory.join("envoy.log")).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.logged_before..).unwrap_or_default()).into_owned()
    }

    pub(super) fn log_tail(&self) -> String {
        const LINES: usize = 60;

        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        format!("--- the end of Envoy's log ---\n{}\n--- end ---", tail.join("\n"))
    }

    pub(super) fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("Envoy is a child of this process")
    }

    pub(super) fn must_run(&mut self, deadline: Instant, otherwise: &str) {
        if let Some(exit) = self.exit() {
            panic!("Envoy did not start: {exit}\n{}", self.log_tail());
        }
        assert!(Instant::now() < deadline, "Envoy {otherwise} in time\n{}", self.log_tail());
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The access log of the test that has an Envoy after so many others.
fn access_log(directory: &Path, uses: u32) -> PathBuf {
    directory.join(format!("access-{uses}.log"))
}

const ENVOY_REMEDY: &str = "`make tools` fetches Envoy, or name one in ENVOY";

fn binary() -> PathBuf {
    if let Some(named) = env::var_os("ENVOY").filter(|named| !named.is_empty()) {
        return PathBuf::from(named);
    }
    let fetched = checkout().join(".tools/envoy");
    assert!(fetched.exists(), "there is no {}; {ENVOY_REMEDY}", fetched.display());
    fetched
}

/// Whether the Envoy of the tests is of this version, 1.`minor`, or newer.
pub(crate) fn is_since(minor: u32) -> bool {
    let output =
        Command::new(binary()).arg("--version").output().unwrap_or_else(|error| panic!("{error}; {ENVOY_REMEDY}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // ".../envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
    let version = text.split("version: ").nth(1).and_then(|version| version.split('/').nth(1));
    let found = version.and_then(|version| version.strip_prefix("1.")?.split('.').next()?.parse::<u32>().ok());
    found.unwrap_or_else(|| panic!("no version in {text:?}")) >= minor
}

/// The module as users have it.
pub(crate) fn released_module() -> PathBuf {
    module(Module::Released)
}

pub(super) fn module(module: Module) -> PathBuf {
    let built = checkout().join("dist").join(match module {
        Module::CrashTest => "idemgate-crash-test.wasm",
        Module::Released => "idemgate.wasm",
    });
    assert!(built.exists(), "there is no {}; `make crash-test` builds it", built.display());
    built
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
