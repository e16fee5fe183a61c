//! One plan from its beginning to its judgement.

use std::{collections::BTreeMap, fmt, fmt::Write as _, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    bench::Envoy,
    clients::{ask_again, let_loose},
    doctored::assert_each_doctored_is_found_out,
    fault::Fault,
    judge::judge,
    mishaps::{Envoys, Others},
    plan::{PLAY, Plan},
    proof::history::Word,
    record::{Count, Entry, Fact, Record},
    service::{self, Intents},
    stage::Stage,
    stores::{Sabotage, Server},
    wire::Wire,
};

/// What a round came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) faults: BTreeMap<Fault, Count>,
    /// How many requests of clients an Envoy saw go away.
    pub(crate) departures: u64,
    pub(crate) attempts: u64,
    pub(crate) executions: u64,
    pub(crate) replays: u64,
    pub(crate) unknowns: u64,
    /// How many owners came too late.
    pub(crate) fenced: u64,
    /// How many doctored versions of the round's history were found out.
    pub(crate) doctored: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { departures, attempts, executions, replays, unknowns, fenced, doctored, .. } = self;
        write!(
            formatter,
            "{attempts} attempts, {executions} executions, {replays} replays, {unknowns} unknown, {fenced} fenced, {departures} departures \
             seen; {doctored} doctored histories found out"
        )
    }
}

/// How long a client waits where requests can be lost in a VM that panics.
const PATIENCE_WITH_CRASHES: Duration = Duration::from_secs(3);

/// Plays a plan; an error tells which promise was broken, and how.
pub(crate) async fn play(plan: &Plan) -> Result<Report, String> {
    play_with(plan, None).await
}

/// Plays a plan with a store that does not keep what filters stand on, instead of what befalls it by plan.
pub(crate) async fn play_with(plan: &Plan, sabotage: Option<Sabotage>) -> Result<Report, String> {
    let deployment = plan.deployment;
    let (record, intents) = (Arc::new(Record::new()), Intents::default());
    let upstream = service::start(Arc::clone(&record), intents.clone());
    let server = Server::start(deployment.store).await;
    let mut wire = None;
    if let Some(server) = server.as_ref().filter(|_| deployment.store.is_wired()) {
        wire = Some(server.wire().await);
    }
    let address = wire.as_ref().map(Wire::address).or_else(|| server.as_ref().map(Server::address));
    let setup = deployment.setup();
    let mut standing = Vec::new();
    for _ in 0..deployment.envoys {
        standing.push(Envoy::in_front_of(&upstream, &setup, address.into_iter().collect()).await);
    }
    let patience = deployment.can_crash.then_some(PATIENCE_WITH_CRASHES);
    let stage = Arc::new(Stage::new(Arc::clone(&record), intents, patience));
    let envoys = Envoys { standing, fallen: Vec::new(), setup, deployment, stage: Arc::clone(&stage) };
    envoys.publish();
    let others = Others { server, wire, record: Arc::clone(&record) };

    let clients = let_loose(&stage, deployment, plan.clients);
    let of_others = async {
        match sabotage {
            None => others.suffer(plan.of_others.clone()).await,
            Some(sabotage) => others.break_rules(sabotage).await,
        }
    };
    // Whatever fails does so while clients ask, also where it takes longer than planned.
    let (envoys, others, ()) = tokio::join!(envoys.suffer(plan.of_envoys.clone()), of_others, sleep(PLAY));
    stage.close();
    for client in clients {
        client.await.expect("each request of a client ends");
    }
    come_to_rest(&envoys).await;
    assert_each_claim_has_ended(&envoys).await;
    // An execution whose end nobody reported shows by its lease.
    sleep(deployment.lease_is_over()).await;
    ask_again(&stage, deployment).await;

    let entries = record.entries();
    let mut report = report(&record, &entries);
    for envoy in &envoys.standing {
        for stat in ["http.ingress.downstream_cx_destroy_remote_active_rq", "http.ingress.downstream_rq_rx_reset"] {
            report.departures += envoy.stat(stat).await.unwrap_or_default();
        }
        report.fenced += envoy.stat("wasmcustom.idemgate.outcomes.fenced").await.unwrap_or_default();
    }
    match judge(&deployment, &entries) {
        Ok(()) => {
            report.doctored = assert_each_doctored_is_found_out(&deployment, &entries);
            Ok(report)
        }
        Err(verdict) if sabotage.is_some() => Err(verdict.to_string()),
        Err(verdict) => Err(format!("{verdict}{}", kept(envoys, others))),
    }
}

/// Waits until nothing is under way any more.
async fn come_to_rest(envoys: &Envoys) {
    let mut gauges = vec!["http.ingress.downstream_rq_active", "cluster.upstream.upstream_rq_active"];
    // What a VM has counted up, nobody counts down after its panic.
    if !envoys.deployment.can_crash {
        gauges.extend(["wasmcustom.idemgate.waiting", "wasmcustom.idemgate.detached"]);
    }
    for envoy in &envoys.standing {
        for gauge in &gauges {
            envoy.reaches_stat(gauge, 0).await;
        }
    }
}

/// Each execution that was let through has come to an end, and to one only.
///
/// Not where a VM has died with its claims, and not where a store could not be told.
async fn assert_each_claim_has_ended(envoys: &Envoys) {
    if envoys.deployment.can_crash || envoys.deployment.is_remote() {
        return;
    }
    for envoy in &envoys.standing {
        let stats = envoy.stats_like("wasmcustom.idemgate.").await;
        let count = |name: &str| -> u64 {
            let start = format!("wasmcustom.idemgate.{name}: ");
            let line = stats.lines().find_map(|line| line.strip_prefix(start.as_str()));
            line.and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        let outcomes = ["stored", "tombstoned", "released", "unknown", "fenced"];
        let ended: u64 = outcomes.iter().map(|outcome| count(&format!("outcomes.{outcome}"))).sum();
        assert_eq!(ended, count("requests.executed"), "claims that ended, and claims that were granted\n{stats}");
        for never in ["store.errors", "store.evicted", "requests.bypassed"] {
            assert_eq!(count(never), 0, "{never}\n{stats}");
        }
    }
}

fn report(record: &Record, entries: &[Entry]) -> Report {
    let count = |is_it: fn(&Fact) -> bool| entries.iter().filter(|entry| is_it(&entry.fact)).count() as u64;
    Report {
        faults: record.faults(),
        departures: 0,
        fenced: 0,
        doctored: 0,
        attempts: count(|fact| matches!(fact, Fact::Began { .. })),
        executions: count(|fact| matches!(fact, Fact::Ran(_))),
        replays: count(|fact| matches!(fact, Fact::Heard(_, told) if told.word == Word::Replayed)),
        unknowns: count(|fact| matches!(fact, Fact::Heard(_, told) if told.word == Word::Unknown)),
    }
}

/// Where the logs stay.
fn kept(mut envoys: Envoys, mut others: Others) -> String {
    let mut places = String::new();
    for envoy in envoys.standing.iter_mut().chain(&mut envoys.fallen) {
        let _ = writeln!(places, "the log of an Envoy: {}", envoy.keep_files().display());
    }
    if let Some(server) = &mut others.server {
        let _ = writeln!(places, "the files of the store: {}", server.keep_files().display());
    }
    places
}
