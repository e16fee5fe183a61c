//! The commands of the documentation, run as they stand: every `sh` block of `README.md`, `docs/` and `examples/`.
//!
//! The blocks of a page are one script, run by bash in a folder that looks like the top folder of a checkout. What a page
//! states is compared with what its commands print:
//!
//! - behind a command, `# => 201 Created, "number":1`: each of these texts stands in what was printed since the last one;
//! - a `json` block that follows a block of commands: it was printed so, but for digits and what `…` stands for.
//!
//! A page leaves neither processes nor files behind.
//!
//! Other than on a reader's machine are: the ports, so that tests can run side by side, and with them the files that name
//! them; the folders that only root may write; `make`, whose commands are checked only by name, and
//! `cargo run --example orders`, because this very test run has built both. [`NOT_RUN`] lists what no test can run.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Blocks that need what tests do not have: the page, how the block begins, and what it needs. Their syntax is checked.
const NOT_RUN: [(&str, &str, &str); 7] = [
    ("docs/deployment.md", "docker compose up", "Docker; `make compose-test` runs it"),
    ("docs/deployment.md", "docker build", "Docker, and a registry to push to"),
    ("docs/deployment.md", "kubectl -n orders create configmap", "a Kubernetes cluster"),
    ("docs/deployment.md", "cd deploy/envoy-gateway", "a Kubernetes cluster"),
    ("docs/deployment.md", "kubectl apply -f envoypatchpolicy.yaml", "a Kubernetes cluster"),
    ("docs/dynamodb.md", "aws dynamodb create-table", "an account of AWS"),
    ("examples/dynamodb/README.md", "make build", "an account of AWS; `make demo STORE=dynamodb` runs a stand-in"),
];

/// Pages that are read in one go, and what they take for granted.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// What is there before the first block.
    before: &'static str,
    pages: &'static [&'static str],
    /// What ends that which the pages leave running on purpose.
    after: &'static str,
}

const NAMES_OF_COMMANDS: Session = Session { before: "", pages: &["README.md", "docs/performance.md"], after: "" };
const FIRST_STEPS: Session = Session {
    before: "TOKEN=alice",
    pages: &[
        "docs/deployment.md",
        "docs/clients.md",
        "docs/metrics.md",
        "docs/dynamodb.md",
        "examples/dynamodb/README.md",
    ],
    after: "kill $(jobs -p); wait",
};
const OPERATIONS: Session = Session {
    before: "redis-server --save '' & until redis-cli ping; do sleep 0.1; done; redis-cli set idemgate:c0ffee 1c",
    pages: &["docs/operations.md"],
    after: "",
};
const RECORDS: Session = Session {
    before: "redis-server --save '' &
        cargo run --example orders &
        .tools/envoy -c examples/redis/envoy.yaml &
        curl -sf --retry 600 --retry-delay 1 --retry-connrefused localhost:8080/orders localhost:9901/ready
        curl -H 'content-type: application/json' -H 'idempotency-key: k' -d '{}' localhost:10000/orders
        key=$(redis-cli --scan --pattern 'idemgate:*')",
    pages: &["docs/redis.md"],
    after: "kill $(jobs -p); wait",
};
const ROWS: Session = Session {
    before: "export PGHOST=$(mktemp -d) PGUSER=postgres
        initdb --pgdata \"$PGHOST\" --username postgres --auth-local trust --auth-host scram-sha-256
        postgres -D \"$PGHOST\" -k \"$PGHOST\" &
        until pg_isready; do sleep 0.1; done",
    pages: &["docs/postgres.md"],
    after: "kill $(jobs -p); wait; rm -r \"$PGHOST\"",
};
const ADMIN: Session = of_its_own(&["examples/admin/README.md"]);
const JWT: Session = of_its_own(&["examples/jwt/README.md"]);
const POSTGRES: Session = of_its_own(&["examples/postgres/README.md"]);
const POSTGRES_PGBOUNCER: Session = of_its_own(&["examples/postgres-pgbouncer/README.md"]);
const POSTGRES_TLS: Session = of_its_own(&["examples/postgres-tls/README.md"]);
const REDIS: Session = of_its_own(&["examples/redis/README.md"]);
const REDIS_CLUSTER: Session = of_its_own(&["examples/redis-cluster/README.md"]);
const REDIS_ONE_SHOT: Session = of_its_own(&["examples/redis-one-shot/README.md"]);
const REDIS_TLS: Session = of_its_own(&["examples/redis-tls/README.md"]);
const REDIS_UNIX_SOCKET: Session = of_its_own(&["examples/redis-unix-socket/README.md"]);
const ROUTE_FEATURES: Session = of_its_own(&["examples/route-features/README.md"]);

const SESSIONS: [Session; 16] = [
    NAMES_OF_COMMANDS,
    FIRST_STEPS,
    OPERATIONS,
    RECORDS,
    ROWS,
    ADMIN,
    JWT,
    POSTGRES,
    POSTGRES_PGBOUNCER,
    POSTGRES_TLS,
    REDIS,
    REDIS_CLUSTER,
    REDIS_ONE_SHOT,
    REDIS_TLS,
    REDIS_UNIX_SOCKET,
    ROUTE_FEATURES,
];

const fn of_its_own(pages: &'static [&'static str]) -> Session {
    Session { before: "", pages, after: "" }
}

#[test]
fn names_of_commands() {
    run(NAMES_OF_COMMANDS);
}

#[test]
fn first_steps() {
    run(FIRST_STEPS);
}

#[test]
fn operations() {
    run(OPERATIONS);
}

#[test]
fn records_in_redis() {
    run(RECORDS);
}

#[test]
fn records_in_postgres() {
    run(ROWS);
}

#[test]
fn example_admin() {
    run(ADMIN);
}

#[test]
fn example_jwt() {
    run(JWT);
}

#[test]
fn example_postgres() {
    run(POSTGRES);
}

#[test]
fn example_postgres_pgbouncer() {
    run(POSTGRES_PGBOUNCER);
}

#[test]
fn example_postgres_tls() {
    run(POSTGRES_TLS);
}

#[test]
fn example_redis() {
    run(REDIS);
}

#[test]
fn example_redis_cluster() {
    run(REDIS_CLUSTER);
}

#[test]
fn example_redis_one_shot() {
    run(REDIS_ONE_SHOT);
}

#[test]
fn example_redis_tls() {
    run(REDIS_TLS);
}

#[test]
fn example_redis_unix_socket() {
    run(REDIS_UNIX_SOCKET);
}

#[test]
fn example_route_features() {
    run(ROUTE_FEATURES);
}

#[test]
fn every_page_with_commands_is_run_once() {
    let with_commands: BTreeSet<String> = pages().into_iter().filter(|page| !blocks(page).is_empty()).collect();
    let run: Vec<String> = SESSIONS.iter().flat_map(|session| session.pages).map(|page| (*page).to_owned()).collect();
    assert_eq!(run.iter().cloned().collect::<BTreeSet<_>>(), with_commands, "left: run, right: written");
    assert_eq!(run.len(), with_commands.len(), "a page is run twice");
}

#[test]
fn what_is_not_run_is_there_and_is_shell() {
    for (page, start, reason) in NOT_RUN {
        let found: Vec<Block> = blocks(page).into_iter().filter(|block| block.commands.starts_with(start)).collect();
        let [block] = found.as_slice() else { panic!("{page}: {} blocks begin with {start:?}", found.len()) };
        let checked = Command::new("bash").args(["-n", "-c", &block.commands]).output().expect("bash can be run");
        assert!(checked.status.success(), "{page}: not run ({reason}), and no shell: {checked:?}");
    }
}

/// A block of commands.
#[derive(Clone, Debug)]
struct Block {
    page: String,
    commands: String,
    /// The block that follows at once, if it is JSON: what is printed.
    printed: Option<String>,
}

impl Block {
    fn is_run(&self) -> bool {
        !NOT_RUN.iter().any(|(page, start, _)| self.page == *page && self.commands.starts_with(start))
    }
}

/// Runs the blocks of the session's pages, and compares what they state with what they print.
fn run(session: Session) {
    let blocks: Vec<Block> =
        session.pages.iter().flat_map(|page| blocks(page)).filter(|block| block.is_run()).collect();
    let checkout = Checkout::new();
    let found_before = files(&checkout.path);
    let mut script = format!("{}\nset +m; printf '\\n{BLOCK}\\n'\n", session.before);
    let mut stated = Vec::new();
    for block in &blocks {
        for line in block.commands.lines() {
            script += line;
            script += "\n";
            if let Some((_, texts)) = line.split_once("=> ") {
                script += &format!("printf '\\n{STATED}{}\\n'\n", stated.len());
                stated.push((block.page.as_str(), line, texts));
            }
        }
        script += &format!("printf '\\n{BLOCK}\\n'\n");
    }
    script += session.after;

    let Output { stdout, stderr } = checkout.run(&script);
    let told = || format!("\n--- printed:\n{stdout}\n--- errors:\n{stderr}");
    let outputs: Vec<&str> = stdout.split(BLOCK).skip(1).collect();
    assert_eq!(outputs.len(), blocks.len() + 1, "{:?} ended early{}", session.pages, told());
    let mut compared = BTreeSet::new();
    for (output, block) in outputs.iter().zip(&blocks) {
        let mut parts = output.split(STATED);
        let mut before = parts.next().unwrap_or_default();
        for part in parts {
            let (index, after) = part.split_once('\n').unwrap();
            let index: usize = index.parse().unwrap();
            let (page, line, texts) = stated[index];
            for text in checkout.commands(texts).split(", ") {
                assert!(before.contains(text), "{page}: {text:?} is not printed by\n{line}{}", told());
            }
            compared.insert(index);
            before = after;
        }
        if let Some(printed) = &block.printed {
            assert!(is_like(output, printed), "{}: this is not printed:\n{printed}{}", block.page, told());
        }
    }
    assert_eq!(compared.len(), stated.len(), "{:?}: a command was never reached{}", session.pages, told());
    let complaints = fs::read_to_string(checkout.complaints()).unwrap_or_default();
    assert!(complaints.is_empty(), "{:?}: {complaints}{}", session.pages, told());
    assert_eq!(files(&checkout.path), found_before, "{:?}: files stay behind{}", session.pages, told());
}

const BLOCK: &str = "<<end of a block>>";
const STATED: &str = "<<end of statement ";

/// Whether the output holds this text, whatever its digits are, and whatever `…` stands for.
fn is_like(output: &str, printed: &str) -> bool {
    let digits_alike = |text: &str| {
        let mut alike = String::new();
        for c in text.chars() {
            match c {
                '0'..='9' if alike.ends_with('0') => {}
                '0'..='9' => alike.push('0'),
                _ => alike.push(c),
            }
        }
        alike
    };
    let output = digits_alike(output);
    let mut rest = output.as_str();
    digits_alike(printed.trim()).split('…').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// A folder that looks like a checkout, with ports of its own.
#[derive(Debug)]
struct Checkout {
    path: PathBuf,
    /// By the numbers that the documentation has.
    ports: BTreeMap<&'static str, u16>,
}

/// What a script has printed.
#[derive(Debug)]
struct Output {
    stdout: String,
    stderr: String,
}

impl Checkout {
    fn new() -> Self {
        let ports = ["10000", "8080", "9901", "9902", "5432", "6379", "6380", "6432", "7000", "7001", "7002"];
        let ports = ports.map(|documented| (documented, free_port())).into();
        let path = env::temp_dir().join(format!("idemgate-documents-{}-{}", process::id(), free_port()));
        for folder in [".tools/postgres/bin", "bin", "etc/idemgate", "run", "tmp"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        let checkout = Self { path, ports };
        for name in ["Makefile", "demo", "dist", "docs", "src", "tools"] {
            symlink(root().join(name), checkout.path.join(name)).unwrap();
        }
        let examples = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
        let examples = examples.map(|folder| folder.join("envoy.yaml")).filter(|file| file.exists());
        for file in examples.chain([root().join("envoy.yaml")]) {
            let copy = checkout.path.join(file.strip_prefix(root()).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, checkout.configuration(&fs::read_to_string(file).unwrap())).unwrap();
        }
        checkout.stand_ins();
        checkout
    }

    /// An Envoy configuration, with the folder's own ports and addresses.
    fn configuration(&self, text: &str) -> String {
        let mut text = self.with_own_folders(text).replace("address: 0.0.0.0", "address: 127.0.0.1");
        for (documented, port) in &self.ports {
            text = text.replace(&format!("port_value: {documented} "), &format!("port_value: {port} "));
        }
        text
    }

    /// Commands, with the folder's own ports and addresses: each whole number that is a port of the documentation.
    fn commands(&self, text: &str) -> String {
        let text = self.with_own_folders(text).replace("https://api.example.com", "localhost:10000");
        let mut replaced = String::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let length = rest[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - start);
            let number = &rest[start..start + length];
            replaced += &rest[..start];
            replaced += &self.ports.get(number).map_or_else(|| number.to_owned(), u16::to_string);
            rest = &rest[start + length..];
        }
        replaced + rest
    }

    fn with_own_folders(&self, text: &str) -> String {
        ["/etc/idemgate", "/run/redis"]
            .iter()
            .fold(text.to_owned(), |text, folder| text.replace(folder, &format!("{}{folder}", self.path.display())))
    }

    /// Programs in place of those that a page calls, as far as they have to be others in a test. Servers print where their
    /// output cannot be taken for that of a command.
    fn stand_ins(&self) {
        let envoy = env::var("ENVOY").unwrap_or_else(|_| root().join(".tools/envoy").display().to_string());
        let redis_server = env::var("REDIS_SERVER").ok().filter(|named| !named.is_empty());
        let redis_server = redis_server.unwrap_or_else(|| "redis-server".to_owned());
        let complain =
            format!("echo \"$0 $*: no test knows that\" | tee -a '{}' >&2; exit 64", self.complaints().display());
        let orders = env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/orders");
        let programs = [
            (
                ".tools/envoy",
                format!(
                    "case \"$*\" in *'--mode validate'*) ;; *) exec >&2 ;; esac
                     exec '{envoy}' --disable-hot-restart --log-level warning --component-log-level wasm:info \"$@\""
                ),
            ),
            (
                "bin/cargo",
                format!(
                    "[ \"$*\" = 'run --example orders' ] || {{ {complain}; }}
                     ORDERS_ADDRESS=127.0.0.1:{} exec '{}' >&2",
                    self.ports["8080"],
                    orders.display()
                ),
            ),
            (
                "bin/make",
                format!(
                    "for name in \"$@\"; do
                         case $name in *=*) continue ;; esac
                         grep -q \"^$name:.*##\" Makefile || {{ {complain}; }}
                     done"
                ),
            ),
            (
                "bin/redis-server",
                format!("PATH=${{PATH#*:}} exec {redis_server} --port {} \"$@\" >&2", self.ports["6379"]),
            ),
            ("bin/redis-cli", format!("PATH=${{PATH#*:}} exec redis-cli -p {} \"$@\"", self.ports["6379"])),
            ("bin/sudo", "exec \"$@\"".to_owned()),
            ("bin/uuidgen", "cat /proc/sys/kernel/random/uuid".to_owned()),
        ];
        // PostgreSQL and PgBouncer do not run for root: there they run for a user who may do nothing else.
        let nobody =
            "[ \"$(id -u)\" = 0 ] && nobody='setpriv --reuid nobody --regid nogroup --clear-groups' || nobody=";
        let newest = root().join(".tools/postgres/bin");
        let of_postgres = [("bin", debians_postgres()), (".tools/postgres/bin", newest)].map(|(folder, programs)| {
            let programs = programs.display();
            [
                (
                    format!("{folder}/initdb"),
                    format!("{nobody}; [ -z \"$nobody\" ] || chown nobody:nogroup \"$2\"; exec $nobody '{programs}/initdb' \"$@\""),
                ),
                (
                    format!("{folder}/postgres"),
                    format!("{nobody}; [ -z \"$nobody\" ] || chown -R nobody:nogroup \"$2\"; exec $nobody '{programs}/postgres' \"$@\" >&2"),
                ),
            ]
        });
        let pgbouncer = ("bin/pgbouncer".to_owned(), format!("{nobody}; exec $nobody /usr/sbin/pgbouncer \"$@\" >&2"));
        let programs = programs.map(|(name, text)| (name.to_owned(), text));
        for (name, text) in programs.into_iter().chain(of_postgres.into_iter().flatten()).chain([pgbouncer]) {
            let file = self.path.join(name);
            fs::write(&file, format!("#!/usr/bin/env bash\n{text}\n")).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Where stand-ins write down what they do not know.
    fn complaints(&self) -> PathBuf {
        self.path.with_extension("complaints")
    }

    /// Runs a script, and ends what it leaves running, which it may not.
    fn run(&self, script: &str) -> Output {
        let file = |extension| self.path.with_extension(extension);
        fs::write(file("sh"), self.commands(script)).unwrap();
        let path = format!("{}:{}", self.path.join("bin").display(), env::var("PATH").unwrap());
        let mut child = Command::new("bash")
            .arg(file("sh"))
            .current_dir(&self.path)
            .env("PATH", path)
            .env("PGPORT", self.ports["5432"].to_string())
            .env("TMPDIR", self.path.join("tmp"))
            .env("USER", owner(&self.path))
            .stdin(Stdio::null())
            .stdout(File::create(file("stdout")).unwrap())
            .stderr(File::create(file("stderr")).unwrap())
            // A group of its own, by which all that it has started is found.
            .process_group(0)
            .spawn()
            .expect("bash can be run");
        let group = format!("-{}", child.id());
        let has_ended = within(PATIENCE, || child.try_wait().unwrap().is_some());
        let is_alone = has_ended && within(Duration::from_secs(20), || !signal("-0", &group));
        if !is_alone {
            signal("-KILL", &group);
            child.wait().unwrap();
        }
        let text = |extension| String::from_utf8_lossy(&fs::read(file(extension)).unwrap()).into_owned();
        let output = Output { stdout: text("stdout"), stderr: text("stderr") };
        let Output { stdout, stderr } = &output;
        assert!(has_ended, "the commands do not end\n--- printed:\n{stdout}\n--- errors:\n{stderr}");
        assert!(is_alone, "the commands leave processes behind\n--- printed:\n{stdout}\n--- errors:\n{stderr}");
        output
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        for extension in ["complaints", "sh", "stdout", "stderr"] {
            let _ = fs::remove_file(self.path.with_extension(extension));
        }
    }
}

/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal to a process or a group; `false` if there is none.
fn signal(signal: &str, whom: &str) -> bool {
    let sent = Command::new("bash").args(["-c", &format!("kill {signal} -- {whom}")]).stderr(Stdio::null()).status();
    sent.expect("bash can be run").success()
}

/// The programs of the newest PostgreSQL that Debian has, or those of `POSTGRES_BIN`.
fn debians_postgres() -> PathBuf {
    if let Some(named) = env::var_os("POSTGRES_BIN").filter(|named| !named.is_empty()) {
        return PathBuf::from(named);
    }
    let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let releases = releases.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = releases.max().expect("there is no PostgreSQL in /usr/lib/postgresql; `make tools` installs it");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

fn owner(path: &Path) -> String {
    let found = Command::new("stat").args(["-c", "%U"]).arg(path).output().expect("stat can be run");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// A port that nobody uses, nor the one that is ten thousand above it, which a server of a Redis Cluster also needs. Both
/// are below those that the system gives away by itself.
fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);

    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let step = process::id() as usize * 97 + usize::from(ASKED.fetch_add(1, Ordering::Relaxed));
        let port = 11_000 + (step % 4_000) as u16;
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// The blocks of commands of a page, in their order.
fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("cannot read {page}: {error}"));
    let mut fences = text.split("```");
    let mut blocks: Vec<Block> = Vec::new();
    let mut before = fences.next();
    let mut follows_commands = false;
    while let (Some(prose), Some(block)) = (before, fences.next()) {
        let (language, content) = block.split_once('\n').unwrap_or_default();
        let follows = follows_commands && prose.trim().is_empty();
        follows_commands = language == "sh";
        match (language, blocks.last_mut()) {
            ("sh", _) => {
                let commands = content.to_owned();
                blocks.push(Block { page: page.to_owned(), commands, printed: None });
            }
            ("json", Some(last)) if follows => last.printed = Some(content.to_owned()),
            _ => {}
        }
        before = fences.next();
    }
    blocks
}

/// `README.md`, the pages of `docs/` and `examples/*/README.md`, by their paths in the checkout.
fn pages() -> Vec<String> {
    let entries = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let docs = ["docs", "docs/internals"].into_iter().flat_map(|folder| {
        let names = entries(folder).into_iter().filter(|name| name.ends_with(".md"));
        names.map(move |name| format!("{folder}/{name}"))
    });
    let examples = entries("examples").into_iter().map(|name| format!("examples/{name}/README.md"));
    let pages = docs.chain(examples).chain(["README.md".to_owned()]);
    pages.filter(|page| root().join(page).is_file()).collect()
}

/// All that is in a folder, without what links lead to.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
