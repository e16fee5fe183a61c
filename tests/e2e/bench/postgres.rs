//! Real PostgreSQL servers, and pgbouncer in front of them, each a process of its own on a free port.
//!
//! A server is the copy of a template, which is made once for all test runs: Idemgate's schema in the database `idemgate`,
//! the one for shadow mode beside it, and the role that docs/postgres.md tells operators to make.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, io, process, thread};

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::redis::free_port;
use super::temp_dir::TempDir;
use super::{PATIENCE, patiently};

/// How often the state of a server is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What operators apply.
pub(crate) const SCHEMA: &str = include_str!("../../../src/store/postgres/schema.sql");

/// The role and the database that operators make.
pub(crate) const ROLE: &str = "envoy";
pub(crate) const PASSWORD: &str = "s3cret";
pub(crate) const DATABASE: &str = "idemgate";

/// Which PostgreSQL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    /// The one that most servers of these tests are.
    Debian,
    /// The newest, which speaks TLS from the first byte.
    Newest,
}

impl Release {
    pub(crate) const BOTH: [Self; 2] = [Self::Debian, Self::Newest];

    /// The folder of its programs.
    fn programs(self) -> PathBuf {
        match (self, env::var_os("POSTGRES_BIN").filter(|named| !named.is_empty())) {
            (Self::Debian, Some(named)) => PathBuf::from(named),
            (Self::Debian, None) => newest_of("/usr/lib/postgresql"),
            (Self::Newest, _) => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/postgres/bin"),
        }
    }

    /// A program of it, which no superuser may run.
    fn program(self, name: &str) -> Command {
        let path = self.programs().join(name);
        assert!(path.exists(), "{} is not there; `make tools` installs it", path.display());
        unprivileged(&path)
    }

    /// The folder that a server is a copy of.
    async fn template(self) -> &'static Path {
        static DEBIAN: OnceCell<PathBuf> = OnceCell::const_new();
        static NEWEST: OnceCell<PathBuf> = OnceCell::const_new();

        let template = match self {
            Self::Debian => &DEBIAN,
            Self::Newest => &NEWEST,
        };
        template.get_or_init(|| make_template(self)).await
    }
}

/// The `bin` of the newest release below `folder`.
fn newest_of(folder: &str) -> PathBuf {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let releases = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = releases.filter(|path| number(path).is_some()).max_by_key(number);
    newest.unwrap_or_else(|| panic!("there is no PostgreSQL in {folder}; `make tools` installs it")).join("bin")
}

/// A running server, ended when dropped.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    child: Child,
    directory: TempDir,
    options: Vec<String>,
    port: u16,
    release: Release,
}

impl PostgresServer {
    /// Debian's, which keeps nothing through a failure of the machine.
    pub(crate) async fn start() -> Self {
        Self::with(Release::Debian, &["fsync=off"]).await
    }

    /// A server with these settings.
    pub(crate) async fn with(release: Release, settings: &[&str]) -> Self {
        let directory = TempDir::new();
        copy(release.template().await, &directory.join("data"));
        Self::launched(release, directory, settings).await
    }

    /// A server in TLS with this certificate and its key, as files.
    pub(crate) async fn with_tls(release: Release, certificate: &Path, key: &Path) -> Self {
        let directory = TempDir::new();
        copy(release.template().await, &directory.join("data"));
        for (file, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let copied = directory.join("data").join(name);
            fs::copy(file, &copied).unwrap_or_else(|error| panic!("cannot copy {}: {error}", file.display()));
            fs::set_permissions(&copied, PermissionsExt::from_mode(0o600)).expect("a file of this test's own");
            give_away(&copied);
        }
        Self::launched(release, directory, &["fsync=off", "ssl=on"]).await
    }

    async fn launched(release: Release, directory: TempDir, settings: &[&str]) -> Self {
        let options: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let (child, port) = loop {
            let port = free_port();
            let mut child = launch(release, &directory, port, &options);
            // Somebody else may have taken the port in between.
            if says(&mut child, "postgres", || log(&directory), READY).await {
                break (child, port);
            }
            fs::remove_file(directory.join(LOG)).expect("a file of this test's own");
        };
        Self { child, directory, options, port, release }
    }

    /// From now on nothing is confirmed that this standby does not have as well.
    pub(crate) async fn waits_for_its_standby(&self) {
        // Not from its start on, for the standby would take that over.
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        self.sql("SELECT pg_reload_conf()").await;
        patiently("a synchronous standby", async {
            while self.number("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await == 0 {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// This standby gets nothing more from its primary.
    pub(crate) async fn is_cut_off(&self) {
        self.sql("ALTER SYSTEM SET primary_conninfo = ''").await;
        self.sql("SELECT pg_reload_conf()").await;
        patiently("the end of the stream of its primary", async {
            while self.number("SELECT count(*) FROM pg_stat_wal_receiver").await > 0 {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// A standby that streams what this server writes.
    pub(crate) async fn standby(&self) -> Self {
        let directory = TempDir::new();
        give_away(directory.path());
        let copied = self
            .release
            .program("pg_basebackup")
            .args([
                "--host=127.0.0.1",
                "--username=postgres",
                "--checkpoint=fast",
                "--no-sync",
                "--write-recovery-conf",
            ])
            .args([format!("--port={}", self.port), format!("--pgdata={}", directory.join("data").display())])
            .output()
            .expect("pg_basebackup runs");
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let settings: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Self::launched(self.release, directory, &settings).await
    }

    /// Ends the recovery of a standby.
    pub(crate) async fn promote(&self) {
        self.sql("SELECT pg_promote(true)").await;
    }

    /// Waits until this standby has replayed all that its primary has written.
    pub(crate) async fn has_all_of(&self, primary: &Self) {
        let written = primary.texts("SELECT pg_current_wal_insert_lsn()").await.concat();
        let replayed = format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::int");
        patiently("a standby in step", async {
            while self.number(&replayed).await == 0 {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// Asks all but the superuser for their passwords in this way, as `pg_hba.conf` calls it.
    pub(crate) async fn ask_for_password(&self, method: &str) {
        let file = self.directory.join("data/pg_hba.conf");
        fs::write(file, HBA.replace("scram-sha-256", method)).expect("a file of this test's own");
        self.sql("SELECT pg_reload_conf()").await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Ends it at once, as a crash does: what it had promised is in its log alone.
    pub(crate) fn kill(&mut self) {
        // Those that stand still find this before anything else when they go on.
        for process in self.processes() {
            signal(process, "QUIT");
        }
        self.resume();
        self.child.wait().expect("postgres is a child of this process");
    }

    /// Ends it as an operator does who does not wait for clients.
    pub(crate) async fn shut_down(&mut self) {
        signal(self.child.id(), "INT");
        patiently("the end of postgres", async {
            while self.child.try_wait().expect("a child of this process").is_none() {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
    }

    /// Starts it again on the same port once it has ended, with what it has on disk.
    pub(crate) async fn restart(&mut self) {
        let from = self.log().len();
        self.child = launch(self.release, &self.directory, self.port, &self.options);
        let directory = &self.directory;
        let since = || log(directory).get(from..).unwrap_or_default().to_owned();
        let is_back = says(&mut self.child, "postgres", since, READY).await;
        assert!(is_back, "postgres does not come back\n{}", self.log());
    }

    /// Stands still from now on, with all that works for it: the kernel takes connections, and nobody answers.
    pub(crate) fn pause(&self) {
        for process in self.processes() {
            signal(process, "STOP");
        }
    }

    pub(crate) fn resume(&self) {
        for process in self.processes() {
            signal(process, "CONT");
        }
    }

    /// There is no room on its disk for another page of the records from now on: no file may grow beyond the end of theirs.
    ///
    /// Releases before 16 say of that what they say of a full disk.
    pub(crate) async fn fill_disk(&self) {
        // Other files do not reach that size.
        let enough =
            format!("{BALLAST} LIMIT (SELECT CASE WHEN count(*) < 20000 THEN 20000 ELSE 0 END FROM idemgate.records)");
        self.sql(&enough).await;
        // Room that would be found later is found now.
        self.sql("VACUUM idemgate.records").await;
        let size = self.number("SELECT pg_relation_size('idemgate.records')").await;
        // Half a page more, which may be there already: what is written in part tells of a full disk, and what cannot be
        // begun of a file that is too large.
        let bytes = (size / PAGE * PAGE + PAGE / 2).to_string();
        // Once more for those that the server has started before it was under the limit itself.
        for process in self.processes().into_iter().chain(self.processes()) {
            limit(process, "fsize", &bytes);
        }
        let admin = self.admin().await;
        let full = patiently("a full table", async {
            loop {
                if let Err(error) = admin.batch_execute(&format!("{BALLAST} LIMIT 1")).await {
                    return error;
                }
            }
        })
        .await;
        assert_eq!(full.code(), Some(&SqlState::DISK_FULL), "{full:?}");
    }

    /// There is no memory for another connection from now on.
    pub(crate) fn exhaust_memory(&self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
        let size: u64 = size.and_then(|size| size.parse().ok()).unwrap_or_else(|| panic!("{status}"));
        limit(self.child.id(), "as", &(size << 10).to_string());
    }

    /// There is room and memory again.
    pub(crate) fn lift_limits(&self) {
        for process in self.processes().into_iter().chain(self.processes()) {
            limit(process, "fsize", "unlimited");
            limit(process, "as", "unlimited");
        }
    }

    /// The server's own, and those that it has started.
    fn processes(&self) -> Vec<u32> {
        let server = self.child.id();
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let children = children.split_whitespace().map(|id| id.parse().expect("the number of a process"));
        [server].into_iter().chain(children).collect()
    }

    /// A connection of the superuser to the database with the schema.
    pub(crate) async fn admin(&self) -> Client {
        self.connect("postgres", "", DATABASE).await
    }

    /// The same, or why there is none.
    pub(crate) async fn try_admin(&self) -> Result<Client, tokio_postgres::Error> {
        connect(self.address(), "postgres", "", DATABASE).await
    }

    /// A connection as Envoy has it.
    pub(crate) async fn client(&self) -> Client {
        self.connect(ROLE, PASSWORD, DATABASE).await
    }

    pub(crate) async fn connect(&self, role: &str, password: &str, database: &str) -> Client {
        let connected = connect(self.address(), role, password, database).await;
        connected.unwrap_or_else(|error| panic!("no connection as {role}: {error:?}\n{}", self.log()))
    }

    /// Runs statements of the superuser.
    pub(crate) async fn sql(&self, statements: &str) {
        let run = patiently(statements, async { self.admin().await.batch_execute(statements).await });
        run.await.unwrap_or_else(|error| panic!("{statements}: {error:?}\n{}", self.log()));
    }

    /// The first column of the rows that a query of the superuser's gives, as text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let messages = patiently(query, async { self.admin().await.simple_query(query).await });
        let messages = messages.await.unwrap_or_else(|error| panic!("{query}: {error:?}\n{}", self.log()));
        let text = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        };
        messages.iter().filter_map(text).collect()
    }

    /// The only such text, as a number.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let texts = self.texts(query).await;
        texts.first().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{query}: {texts:?}"))
    }

    /// How many operations it has records of.
    pub(crate) async fn records(&self) -> i64 {
        self.number("SELECT count(*) FROM idemgate.records").await
    }

    /// The backends that have come from Envoy.
    pub(crate) async fn backends(&self) -> Vec<String> {
        self.texts(&format!("SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}' ORDER BY pid")).await
    }

    /// Its files stay when it is dropped; where they are.
    pub(crate) fn keep_files(&mut self) -> &Path {
        self.directory.keep()
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        log(&self.directory)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the log of postgres on port {} ---\n{}--- end ---", self.port, self.log());
        }
        // It may have ended already; its number may be another process's then.
        if let Ok(None) = self.child.try_wait() {
            self.kill();
        }
    }
}

/// A running pgbouncer that gives connections to a server for a transaction at a time, ended when dropped.
#[derive(Debug)]
pub(crate) struct Pgbouncer {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Pgbouncer {
    pub(crate) async fn start(server: &PostgresServer) -> Self {
        let directory = TempDir::new();
        fs::write(directory.join("users.txt"), format!("\"{ROLE}\" \"{PASSWORD}\"\n")).expect("a file of its own");
        let file = |name: &str| directory.join(name).display().to_string();
        loop {
            let port = free_port();
            let configuration = format!(
                "[databases]\n{DATABASE} = host=127.0.0.1 port={server} dbname={DATABASE}\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
                 auth_file = {users}\nadmin_users = {ROLE}\npool_mode = transaction\ndefault_pool_size = 4\n\
                 max_client_conn = 200\nserver_login_retry = 1\n",
                server = server.port,
                users = file("users.txt"),
            );
            fs::write(directory.join("pgbouncer.ini"), configuration).expect("a file of its own");
            let log_file = File::create(directory.join(LOG)).expect("a file of its own");
            let binary = env::var_os("PGBOUNCER").filter(|named| !named.is_empty());
            let binary = binary.map_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"), PathBuf::from);
            let mut child = unprivileged(&binary)
                .arg(file("pgbouncer.ini"))
                .stdin(Stdio::null())
                .stdout(log_file.try_clone().expect("a file of its own"))
                .stderr(log_file)
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {}: {error}; `make tools` installs it", binary.display()));
            if says(&mut child, "pgbouncer", || log(&directory), "process up").await {
                return Self { child, directory, port };
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A command of its console.
    pub(crate) async fn command(&self, command: &str) {
        let console = connect(self.address(), ROLE, PASSWORD, "pgbouncer").await;
        let console = console.unwrap_or_else(|error| panic!("no console: {error:?}\n{}", log(&self.directory)));
        console.simple_query(command).await.unwrap_or_else(|error| panic!("{command}: {error:?}"));
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the log of pgbouncer ---\n{}--- end ---", log(&self.directory));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new connection; who it is may not be wanted.
pub(crate) async fn connect(
    address: SocketAddr,
    role: &str,
    password: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user(role).password(password).dbname(database);
    let (client, connection) = patiently("a connection to PostgreSQL", config.connect(NoTls)).await?;
    // It ends with its client, or with its server, which the client says then.
    tokio::spawn(connection);
    Ok(client)
}

// === the template ===

/// Makes the folder that servers are copies of, unless there is one from another test run.
async fn make_template(release: Release) -> PathBuf {
    let version = release.program("postgres").arg("--version").output().expect("postgres runs").stdout;
    let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_digit).collect();
    let made_of = hash_of(&[SCHEMA, PREPARED, HBA, SETTINGS]);
    let user = user().map_or_else(|| "own".to_owned(), |(user, _)| user.to_string());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = folder.join(format!("postgres-{version}-{user}-{made_of:016x}"));
    if template.exists() {
        return template;
    }
    let directory = TempDir::new();
    give_away(directory.path());
    let data = directory.join("data");
    let made = release
        .program("initdb")
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"])
        .arg("--pgdata")
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    for (name, text) in [("pg_hba.conf", HBA), ("postgresql.conf", SETTINGS)] {
        fs::write(data.join(name), text).expect("a file of this test's own");
    }
    let mut server = PostgresServer::launched(release, directory, &["fsync=off"]).await;
    let admin = server.connect("postgres", "", "postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.expect("a database");
    let shadow = SCHEMA.replace("idemgate", "idemgate_shadow");
    for statements in [SCHEMA, &shadow, PREPARED] {
        server.sql(statements).await;
    }
    server.shut_down().await;
    // Whole or not at all, and whoever was faster has made the same.
    let unfinished = folder.join(format!("postgres-unfinished-{}-{release:?}", process::id()));
    copy(&server.directory.join("data"), &unfinished);
    if fs::rename(&unfinished, &template).is_err() {
        fs::remove_dir_all(&unfinished).expect("a folder of this test's own");
    }
    template
}

/// As docs/postgres.md tells operators, with the timeout of these tests: below that of their stores, and above what a busy
/// machine stands still for.
const PREPARED: &str = "
    CREATE ROLE envoy LOGIN PASSWORD 's3cret';
    ALTER ROLE envoy SET statement_timeout = '9s';
    GRANT USAGE ON SCHEMA idemgate, idemgate_shadow TO envoy;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA idemgate, idemgate_shadow TO envoy;
";

/// The superuser is the test's own.
const HBA: &str = "
    host all         postgres 127.0.0.1/32 trust
    host replication postgres 127.0.0.1/32 trust
    host all         all      127.0.0.1/32 scram-sha-256
";

const SETTINGS: &str = "
    listen_addresses = '127.0.0.1'
    unix_socket_directories = ''
    shared_buffers = 16MB
    max_connections = 200
";

/// A number for what a template is made of.
fn hash_of(texts: &[&str]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    hasher.finish()
}

// === processes ===

fn launch(release: Release, directory: &TempDir, port: u16, options: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(directory.join(LOG)).expect("a file of this test's own");
    release
        .program("postgres")
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string()])
        .args(options.iter().flat_map(|option| ["-c", option]))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file of this test's own"))
        .stderr(log)
        .spawn()
        .expect("postgres runs")
}

/// The bytes of one of its pages.
const PAGE: i64 = 8_192;

/// Rows as small as they can be, as many as are asked for.
const BALLAST: &str = "
    INSERT INTO idemgate.records
    SELECT decode(lpad(md5(random()::text), 64, '0'), 'hex'), 'c', gen_random_uuid(), decode(lpad('', 64, '0'), 'hex'),
        now(), now() + interval '1 day', 'x'
    FROM generate_series(1, 20000)";

const LOG: &str = "server.log";
const READY: &str = "ready to accept";

/// Waits until a server has logged `state`; false if it cannot have its port.
async fn says(child: &mut Child, name: &str, log: impl Fn() -> String, state: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if log().contains(state) {
            return true;
        }
        if let Some(exit) = child.try_wait().expect("a child of this process") {
            let log = log();
            assert!(log.contains("ddress already in use"), "{name} ended with {exit}\n{log}");
            return false;
        }
        assert!(Instant::now() < deadline, "{name} is not there after {PATIENCE:?}\n{}", log());
        tokio::time::sleep(POLL).await;
    }
}

fn log(directory: &TempDir) -> String {
    String::from_utf8_lossy(&fs::read(directory.join(LOG)).unwrap_or_default()).into_owned()
}

fn signal(process: u32, name: &str) {
    // One that has ended meanwhile needs none, which is no news.
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).stderr(Stdio::null()).status();
    sent.expect("sh runs");
}

/// Limits what a process may have of this, and those that it starts from now on.
fn limit(process: u32, resource: &str, bytes: &str) {
    // One that has ended meanwhile needs no limit.
    let limited = unprivileged(Path::new("/usr/bin/prlimit"))
        .args([format!("--pid={process}"), format!("--{resource}={bytes}:")])
        .stderr(Stdio::null())
        .status();
    limited.expect("prlimit runs");
}

/// A copy of a folder, with its owner.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]).output().expect("cp runs");
    // A running server removes files of its own meanwhile.
    let errors = String::from_utf8_lossy(&copied.stderr);
    assert!(errors.lines().all(|line| line.contains("No such file")), "cp: {errors}");
}

/// A command for a program that no superuser may run.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user() {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// Makes a file that of the user who is to read it.
fn give_away(path: &Path) {
    if let Some((user, group)) = user() {
        chown(path, Some(user), Some(group)).unwrap_or_else(|error| panic!("cannot give {}: {error}", path.display()));
    }
}

/// Whom servers run as if this process is the superuser's.
fn user() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| -> io::Result<u32> {
        let output = Command::new("id").args(arguments).output()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().map_err(io::Error::other)
    };
    (number(&["-u"]).expect("id runs") == 0).then(|| {
        let of = |flag| number(&[flag, "nobody"]).expect("there is a user who may do nothing");
        (of("-u"), of("-g"))
    })
}
