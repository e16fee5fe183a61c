//! Wall clocks that step: those of real processes, by a library that is loaded into them (`clock.c`).

use std::{fs::OpenOptions, io::Write as _, path::PathBuf, process::Command, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use super::{
    cost::{Allowed, Cost},
    scene::{ON_DYNAMODB, ON_REDIS, SHARED_DATA, Scene},
};
use crate::{
    bench::{RedisServer, TempDir},
    plan::Deployment,
    stores::Server,
};

pub(crate) const HOUR: i64 = 60 * 60;

/// Long enough for many a request to be in flight when a clock steps.
const WORK: Duration = Duration::from_millis(600);

const CALM: Duration = Duration::from_millis(1_500);

/// How long a request that is in flight when a clock steps may have been so, and how long it may take a lease to be
/// renewed after that.
const NEARBY: u64 = 1_500;

/// With a lease as docs/dynamodb.md asks for where what is unknown runs again.
pub(crate) const ON_DYNAMODB_RETRYING: Deployment =
    Deployment { retries_unknown: true, lease: Duration::from_secs(10), ..ON_DYNAMODB };

/// A clock that the test moves.
struct Clock {
    directory: TempDir,
}

impl Clock {
    /// At the right time, built with the C compiler that Rust links with, too.
    fn new() -> Self {
        let clock = Self { directory: TempDir::new() };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/failures/clock.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(clock.library())
            .arg(source)
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cc cannot build {source}");
        clock.steps_to(0);
        clock
    }

    fn library(&self) -> PathBuf {
        self.directory.join("clock.so")
    }

    fn file(&self) -> PathBuf {
        self.directory.join("step")
    }

    /// The seconds ahead of the right time. In place: the processes under it have the file mapped.
    fn steps_to(&self, seconds: i64) {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.file());
        let written = file.and_then(|mut file| file.write_all(&seconds.to_le_bytes()));
        written.expect("cannot write the step of the clock");
    }

    /// For a process that is to be under it.
    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library()), ("IDEMGATE_TEST_CLOCK", self.file())]
    }
}

/// By so many seconds, and back again; gives the times at which it stepped.
async fn step(clock: &Clock, by: i64, scene: &Scene) -> [u64; 2] {
    let mut steps = [0; 2];
    for (at, seconds) in steps.iter_mut().zip([by, 0]) {
        sleep(CALM).await;
        *at = scene.now();
        clock.steps_to(seconds);
    }
    sleep(CALM).await;
    steps
}

/// What was in flight at the steps.
fn nearby(steps: [u64; 2]) -> Allowed {
    Allowed::TwiceOf(steps.iter().map(|at| (at.saturating_sub(NEARBY), at + NEARBY)).collect())
}

pub(crate) async fn of_the_only_envoy(on_unknown: &str, ttl: &str) -> Cost {
    let clock = Clock::new();
    let deployment = Deployment { retries_unknown: on_unknown == "retry", ..SHARED_DATA };
    let mut configuration = deployment.configuration();
    configuration["ttl"] = json!(ttl);
    if ttl == "30m" {
        configuration["store"] = json!({ "shared_data": { "keep_at_least": "30m" } });
    }
    let setup = deployment.setup_with(configuration).environment(&clock.environment());
    let scene = Scene::of(deployment, &[(setup, vec![])], WORK).await;
    let steps = step(&clock, HOUR, &scene).await;
    match (on_unknown, ttl) {
        ("retry", _) => scene.end(nearby(steps)).await,
        // Records of before the step are over.
        (_, "30m") => scene.end(Allowed::TwiceAndSome(vec![(0, steps[0] + NEARBY)])).await,
        _ => scene.end(Allowed::Once).await,
    }
}

/// Of two on one store.
pub(crate) async fn of_one_envoy(deployment: Deployment, by: i64) -> Cost {
    let clock = Clock::new();
    let server = Server::start(deployment.store).await.expect("a store that has a server");
    let setup = deployment.setup();
    let setups = [setup.clone().environment(&clock.environment()), setup].map(|setup| (setup, vec![server.address()]));
    let scene = Scene::of(deployment, &setups, WORK).await;
    step(&clock, by, &scene).await;
    scene.end_as_promised().await
}

pub(crate) async fn of_redis(on_unknown: &str) -> Cost {
    let clock = Clock::new();
    let redis = RedisServer::with_environment(&[], &clock.environment()).await;
    let deployment = Deployment { retries_unknown: on_unknown == "retry", ..ON_REDIS };
    let setups = [(); 2].map(|()| (deployment.setup(), vec![redis.address()]));
    let scene = Scene::of(deployment, &setups, WORK).await;
    let steps = step(&clock, HOUR, &scene).await;
    scene.end(if on_unknown == "retry" { nearby(steps) } else { Allowed::Once }).await
}
