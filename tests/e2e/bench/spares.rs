//! Envoys that tests have one after the other.
//!
//! Most of what an Envoy costs is that V8 compiles the module when it starts. Another VM of the same module in the same
//! process takes what is compiled already, also under another `vm_id`. So an Envoy that a test has done with goes on: its
//! listeners and clusters are taken away, and with them its VMs, their shared data and their metrics. The next test gets
//! it once nothing of that is left; nobody else has it meanwhile.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::bootstrap::{Backends, Module, Resources, WORKERS, bootstrap, wasm_filter};
use super::discovery::{self, Kind};
use super::envoy::{Launched, POLL, Process, module};
use super::message::Request;
use super::temp_dir::TempDir;
use super::{PATIENCE, Protocol, Setup, try_send};

/// How long an Envoy may take to get rid of what a test had in it; one that takes longer is ended.
const REST: Duration = Duration::from_secs(5);

/// The VMs of [`keeper`]: the one that is copied, the main thread's, and the workers'.
const VMS: u64 = WORKERS + 2;

/// All that wait for a test. They end with the last test that could use them.
#[derive(Debug, Default)]
struct Spares {
    idle: Mutex<VecDeque<(Sort, Launched)>>,
    starting: tokio::sync::Mutex<()>,
}

/// What an Envoy keeps from one test to the next.
#[derive(Clone, Debug, PartialEq)]
struct Sort {
    /// The fields of its bootstrap that not all have.
    fields: Value,
    module: Module,
}

impl Sort {
    fn of(setup: &Setup) -> Self {
        Self { fields: setup.bootstrap_fields.clone(), module: setup.module }
    }
}

thread_local! {
    /// A test runs on a thread of its own, which holds on to the spare Envoys as long as it lives.
    static SPARES: Arc<Spares> = Spares::of_all_tests();
}

impl Spares {
    fn of_all_tests() -> Arc<Self> {
        static ALL: Mutex<Weak<Spares>> = Mutex::new(Weak::new());

        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.upgrade().unwrap_or_else(|| {
            let new = Arc::default();
            *all = Arc::downgrade(&new);
            new
        })
    }

    /// An Envoy with nothing in it but the keeper, and what `setup` says of its bootstrap.
    async fn take(&self, setup: &Setup) -> Launched {
        if let Some(launched) = self.next_at_rest(setup).await {
            return launched;
        }
        // One starts at a time, as each takes all cores. Whoever waits for its turn may get one that has come back.
        let _turn = self.starting.lock().await;
        if let Some(launched) = self.next_at_rest(setup).await {
            return launched;
        }
        let mut launched = launch(setup);
        launched.is_ready().await;
        let rest = timeout(PATIENCE, comes_to_rest(&launched)).await;
        assert!(rest.is_ok(), "a new Envoy does not come to rest\n{}", launched.log_tail());
        launched
    }

    async fn next_at_rest(&self, setup: &Setup) -> Option<Launched> {
        loop {
            let launched = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let wanted = Sort::of(setup);
                let index = idle.iter().position(|(sort, _)| *sort == wanted)?;
                idle.remove(index)?.1
            };
            // One that has ended, or does not come to rest, ends here.
            if timeout(REST, comes_to_rest(&launched)).await.is_ok() {
                return Some(launched);
            }
        }
    }

    fn give_back(&self, sort: Sort, launched: Launched) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back((sort, launched));
    }
}

/// Keeps those that are idle for as long as the test of this thread runs.
pub(super) fn keep() {
    SPARES.with(|_| ());
}

/// An Envoy for as long as a test has it.
#[derive(Debug)]
pub(super) struct Lease {
    /// None once it has gone back.
    launched: Option<Launched>,
    /// Where it goes back to, and as what; None if it ends with the test.
    spares: Option<(Arc<Spares>, Sort)>,
}

impl Lease {
    pub(super) fn of_its_own(launched: Launched) -> Self {
        Self { launched: Some(launched), spares: None }
    }
}

impl Deref for Lease {
    type Target = Launched;

    fn deref(&self) -> &Launched {
        self.launched.as_ref().expect("it goes back when this is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Launched {
        self.launched.as_mut().expect("it goes back when this is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut launched), Some((spares, sort))) = (self.launched.take(), self.spares.take()) else { return };
        // What has failed may have left something behind.
        if thread::panicking() || launched.exit().is_some() {
            return;
        }
        // Clusters first: Envoy 1.36 keeps the VMs of a listener that is taken away while they have streams to a store.
        discovery::publish(launched.directory(), Kind::Cluster, Vec::new());
        discovery::publish(launched.directory(), Kind::Listener, Vec::new());
        spares.give_back(sort, launched);
    }
}

/// An Envoy that serves what `setup` says, after a start or after other tests.
pub(super) async fn lend(setup: &Setup, backends: &Backends) -> Lease {
    const LISTENING: &str = "listener_manager.listener_create_success";

    let spares = SPARES.with(Arc::clone);
    let mut launched = spares.take(setup).await;
    launched.begins_anew();
    for target in ["/reset_counters", "/logging?wasm=info"] {
        let answer = ask(&launched, "POST", target).await;
        assert!(answer.is_some(), "Envoy does not answer {target}\n{}", launched.log_tail());
    }
    // A name space of shared data that nobody has had.
    let setup = setup.clone().in_name_space(launched.uses());
    let sort = Sort::of(&setup);
    let Resources { listeners, clusters } = setup.resources(&module(setup.module), &launched.access_log(), backends);
    let [listener_count, cluster_count] = [&listeners, &clusters].map(|resources| resources.len() as u64);

    discovery::publish(launched.directory(), Kind::Cluster, clusters);
    let has_clusters = |stats: &Stats| {
        stats.is("cluster_manager.active_clusters", cluster_count) && stats.is("cluster_manager.warming_clusters", 0)
    };
    becomes(&mut launched, "the clusters", has_clusters).await;
    discovery::publish(launched.directory(), Kind::Listener, listeners);
    // Each worker counts each listener that it has begun to use.
    let listens = |stats: &Stats| stats.is(LISTENING, WORKERS * listener_count);
    becomes(&mut launched, "the listeners", listens).await;
    Lease { launched: Some(launched), spares: Some((spares, sort)) }
}

/// Waits until Envoy uses what was published, and fails the test if it refuses that.
async fn becomes(launched: &mut Launched, what: &str, is_used: impl Fn(&Stats) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = Stats::of(launched).await;
        if is_used(&stats) {
            return;
        }
        let is_refused = ["cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"]
            .iter()
            .any(|refusals| stats.value(refusals) > Some(0));
        assert!(!is_refused, "Envoy refuses {what}\n{}", launched.log_tail());
        launched.must_run(deadline, &format!("does not take {what}"));
        sleep(POLL / 4).await;
    }
}

/// Waits until nothing is left of what Envoy served before.
async fn comes_to_rest(launched: &Launched) {
    while !Stats::of(launched).await.is_at_rest() {
        sleep(POLL).await;
    }
}

/// What `/stats` says; nothing if Envoy does not answer.
struct Stats(String);

impl Stats {
    async fn of(launched: &Launched) -> Self {
        Self(ask(launched, "GET", "/stats").await.unwrap_or_default())
    }

    fn value(&self, name: &str) -> Option<u64> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
    }

    fn is(&self, name: &str, expected: u64) -> bool {
        self.value(name) == Some(expected)
    }

    fn is_at_rest(&self) -> bool {
        let belongs_to_a_test = |line: &str| ["cluster.", "wasmcustom."].iter().any(|start| line.starts_with(start));
        self.is("cluster_manager.active_clusters", 0)
            && self.is("listener_manager.total_listeners_active", 1)
            && self.is("listener_manager.total_listeners_draining", 0)
            && self.is("wasm.envoy.wasm.runtime.v8.active", VMS)
            && !self.0.lines().any(belongs_to_a_test)
    }
}

/// What Envoy's own admin endpoint answers, if it does.
async fn ask(launched: &Launched, method: &'static str, target: &str) -> Option<String> {
    let answer = try_send(launched.admin()?, Protocol::Http1, &Request::new(method, target)).await?;
    (answer.status == 200).then(|| String::from_utf8_lossy(&answer.body).into_owned())
}

/// Starts an Envoy that discovers what it serves.
fn launch(setup: &Setup) -> Launched {
    let directory = TempDir::new();
    discovery::publish(directory.path(), Kind::Listener, Vec::new());
    discovery::publish(directory.path(), Kind::Cluster, Vec::new());
    let mut bootstrap = bootstrap(&[keeper(setup.module)], &[]);
    bootstrap["node"] = discovery::node();
    bootstrap["dynamic_resources"] = json!({
        "cds_config": Kind::Cluster.source(directory.path()),
        "lds_config": Kind::Listener.source(directory.path()),
    });
    setup.add_bootstrap_fields(&mut bootstrap);
    // Nobody uses what a test leaves.
    let process = Process { drain_seconds: 0, ..Process::default() };
    Launched::run(directory, "bootstrap.json", format!("{bootstrap:#}").as_bytes(), process)
}

/// A listener that nobody connects to. Its VMs keep what V8 has compiled.
fn keeper(kept: Module) -> Value {
    let configuration = json!({
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        "value": json!({ "role": "store_stream" }).to_string(),
    });
    json!({
        "name": "keeper",
        "internal_listener": {},
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "keeper",
                "route_config": {},
                "http_filters": [
                    wasm_filter(&module(kept), "keeper", Some(&configuration)),
                    {
                        "name": "router",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        },
                    },
                ],
            },
        }] }],
    })
}
