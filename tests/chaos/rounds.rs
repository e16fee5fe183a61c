//! Which plans are played, and what they have to come to.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs,
    hash::{BuildHasher as _, RandomState},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    doctored::VERSIONS,
    fault::Fault,
    plan::{COMBINATIONS, Deployment, Plan, StoreKind},
    record::Count,
    round::{Report, play, play_with},
    stores::Sabotage,
};

/// The plans that are played in each run of the tests: together they have every fault of every store and every deployment,
/// and workers that stand still for longer than a lease. Two of them are on PostgreSQL, and one on DynamoDB.
const SHARE: [u64; 21] = [1, 3, 4, 5, 6, 8, 9, 16, 24, 31, 33, 34, 39, 44, 47, 50, 54, 61, 71, 92, 2_212];

const ROUNDS: u64 = SHARE.len() as u64;

/// How many are played at the same time.
const AT_A_TIME: usize = 3;

/// Which seeds are played, one after the other.
struct Seeds(Mutex<Box<dyn Iterator<Item = u64> + Send>>);

impl Seeds {
    fn of(seeds: impl IntoIterator<Item = u64, IntoIter: Send + 'static>) -> Self {
        Self(Mutex::new(Box::new(seeds.into_iter())))
    }

    /// New ones, until so much time is over; on this store, if it is named.
    fn fresh(time: Duration, store: Option<String>) -> Self {
        let (first, end) = (RandomState::new().hash_one(0) >> 1, Instant::now() + time);
        let is_on_it = move |seed: &u64| {
            let name = Plan::of_seed(*seed).deployment.store.name();
            store.as_ref().is_none_or(|store| name.eq_ignore_ascii_case(store))
        };
        Self::of((first..).filter(is_on_it).take_while(move |_| Instant::now() < end))
    }

    fn next(&self) -> Option<u64> {
        self.0.lock().unwrap().next()
    }

    /// Plays all of them, or until one fails.
    fn play(&self) -> Result<Total, String> {
        let (total, failure) = (Mutex::new(Total::default()), Mutex::new(None));
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    while let Some(seed) = self.next().filter(|_| failure.lock().unwrap().is_none()) {
                        match play_seed(seed) {
                            Ok((plan, report)) => total.lock().unwrap().add(&plan, report),
                            Err(how) => *failure.lock().unwrap() = Some(how),
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap() {
            Some(how) => Err(how),
            None => Ok(total.into_inner().unwrap()),
        }
    }
}

fn play_seed(seed: u64) -> Result<(Plan, Report), String> {
    let plan = Plan::of_seed(seed);
    let announced = Announced(&plan);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let played = runtime.block_on(play(&plan));
    drop(announced);
    match played {
        Ok(report) => {
            println!("{plan}\n    {report}");
            Ok((plan, report))
        }
        Err(how) => Err(format!(
            "{plan}\n{how}\n`CHAOS_SEED={seed} make chaos` plays the same plan again, though not with the same timing"
        )),
    }
}

/// Says which plan it was if somebody panics.
struct Announced<'a>(&'a Plan);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("while playing {}", self.0);
        }
    }
}

/// What all rounds came to.
#[derive(Debug, Default)]
struct Total {
    /// With the names of the stores.
    faults: BTreeMap<(&'static str, Fault), Count>,
    deployments: BTreeSet<Deployment>,
    report: Report,
}

impl Total {
    fn add(&mut self, plan: &Plan, report: Report) {
        self.deployments.insert(plan.deployment);
        for (fault, count) in report.faults {
            let sum = self.faults.entry((plan.deployment.store.name(), fault)).or_default();
            sum.happened += count.happened;
            sum.noticed += count.noticed;
        }
        self.report.departures += report.departures;
        self.report.attempts += report.attempts;
        self.report.executions += report.executions;
        self.report.replays += report.replays;
        self.report.unknowns += report.unknowns;
        self.report.fenced += report.fenced;
        self.report.doctored += report.doctored;
    }
}

impl fmt::Display for Total {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.report)?;
        for ((store, fault), Count { happened, noticed }) in &self.faults {
            writeln!(formatter, "{happened:>9} {fault} on {store}, {noticed} of them noticed")?;
        }
        Ok(())
    }
}

/// With `CHAOS_SECONDS` in the environment, new plans for so long instead of the same ones, with `CHAOS_STORE` such on that
/// store alone; with `CHAOS_SEED`, that one.
#[test]
fn whatever_fails_every_promise_is_kept() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}?")));
    let (seed, seconds) = (number("CHAOS_SEED"), number("CHAOS_SECONDS"));
    let store = env::var("CHAOS_STORE").ok().filter(|store| !store.is_empty());
    let seeds = match (seed, seconds) {
        (Some(seed), _) => Seeds::of([seed]),
        (None, Some(seconds)) => Seeds::fresh(Duration::from_secs(seconds), store),
        (None, None) => Seeds::of(SHARE),
    };
    let _alone = alone();
    let total = seeds.play().unwrap_or_else(|how| panic!("{how}"));
    println!("{total}");
    assert_eq!(children(), Vec::<u32>::new(), "processes that were left behind");
    if seed.is_none() && seconds.is_none() {
        assert_everything_happened(&total);
    }
}

/// What a store must not do is found out where nothing else fails: what cannot fail proves nothing.
#[test]
fn a_store_that_breaks_the_rules_is_found_out() {
    // The seeds of plans in which nothing fails, on PostgreSQL and DynamoDB.
    const SABOTAGED: [(u64, Sabotage); 2] = [(32, Sabotage::GrantsAlways), (37, Sabotage::Forgets)];

    let _alone = alone();
    thread::scope(|scope| {
        for (seed, sabotage) in SABOTAGED {
            scope.spawn(move || {
                let plan = Plan::of_seed(seed);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let found = runtime.block_on(play_with(&plan, Some(sabotage))).expect_err("it was not found out");
                assert!(found.starts_with("AtMostOnce is broken"), "{sabotage:?} in {plan}: {found}");
            });
        }
    });
    assert_eq!(children(), Vec::<u32>::new(), "processes that were left behind");
}

/// Of those who start processes, one at a time: each looks for what it has left behind.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());

    // Who has failed before has said so.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What never happens is not proven.
fn assert_everything_happened(total: &Total) {
    let noticed = |is_it: &dyn Fn(&'static str, Fault) -> bool| -> u64 {
        let of_it = total.faults.iter().filter(|((store, fault), _)| is_it(store, *fault));
        of_it.map(|(_, count)| count.noticed).sum()
    };
    for fault in Fault::ALL {
        assert!(noticed(&|_, other| other == fault) > 0, "{fault}: {:?}", total.faults);
    }
    for kind in total.deployments.iter().map(|deployment| deployment.store) {
        for fault in Fault::ALL.into_iter().filter(|fault| kind.can_have(*fault)) {
            let name = kind.name();
            assert!(noticed(&|store, other| (store, other) == (name, fault)) > 0, "{fault} on {name}: {total}");
        }
    }
    let Report { departures, attempts, executions, replays, unknowns, fenced, doctored, .. } = total.report;
    assert!(departures > 0, "no Envoy has noticed that a client left");
    assert!(fenced > 0, "no owner came too late");
    assert!(doctored > VERSIONS * ROUNDS / 2, "only {doctored} histories were doctored");
    let few = [(attempts, 100), (executions, 50), (replays, 50), (unknowns, 5)];
    assert!(few.iter().all(|(count, least)| *count >= least * ROUNDS), "not much of a test: {:?}", total.report);

    let have = |what: fn(&Deployment) -> u64| total.deployments.iter().map(what).collect::<BTreeSet<_>>().len();
    let is_pooled = |deployment: &Deployment| matches!(deployment.store, StoreKind::Redis { is_pooled: true, .. });
    let combinations: BTreeSet<_> = total
        .deployments
        .iter()
        .filter(|deployment| matches!(deployment.store, StoreKind::SharedData | StoreKind::Redis { .. }))
        .map(|deployment| (deployment.is_remote(), is_pooled(deployment), deployment.is_detached, deployment.waits))
        .collect();
    assert_eq!(combinations.len() as u64, COMBINATIONS, "combinations: {combinations:?}");
    let of_others = [
        have(|deployment| deployment.envoys as u64),
        have(|deployment| deployment.workers),
        have(|deployment| u64::from(deployment.retries_unknown)),
        have(|deployment| u64::from(deployment.can_crash)),
        have(|deployment| u64::from(deployment.is_peaceful)),
        have(|deployment| u64::from(deployment.is_remote() && deployment.loses_records_with(Fault::StoreKilled))),
    ];
    assert_eq!(of_others, [2; 6], "each choice is there");
}

/// The processes that this one has started and that are still there.
pub(crate) fn children() -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| parent_of(*id) == Some(process::id())).collect()
}

/// What follows the name, which may have anything in it: the state and the parent (proc(5)).
fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
