//! Redis with a replica, with a file, and with nothing to give.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    cost::{Allowed, Cost},
    scene::{ON_POOLED_REDIS, ON_REDIS, Scene},
};
use crate::{
    bench::{PATIENCE, RedisServer, Transport},
    fault::Fault,
    plan::Deployment,
    record::Fact,
    wire::{State, Wire},
};

/// The replica that takes over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replica {
    /// It has all that the master had.
    InStep,
    /// It lacks what the master was told last.
    Behind,
    /// The same, and the master asks for a replica that is not far behind.
    BehindAndRequired,
}

/// How far behind.
const LAG: Duration = Duration::from_millis(300);

/// How long it may take a busy machine to let the service see what a master has granted, or the wire what it has written.
const LATE: u64 = 1_000;

const CALM: Duration = Duration::from_millis(2_000);

fn deployment(transport: Transport) -> Deployment {
    match transport {
        Transport::Direct | Transport::Streams => ON_REDIS,
        Transport::Pooled | Transport::Sharded => ON_POOLED_REDIS,
    }
}

/// A master with its replica, and the wire between them.
struct Pair {
    master: RedisServer,
    link: Wire,
    replica: RedisServer,
}

impl Pair {
    async fn start(arguments: &[&str]) -> Self {
        let master = RedisServer::with(&[&["--repl-diskless-sync-delay", "0"], arguments].concat()).await;
        let link = Wire::to(master.address()).await;
        let replica = RedisServer::replica_of(link.address(), &[]).await;
        Self { master, link, replica }
    }

    /// The replica is the master from now on.
    async fn promote(&self) {
        self.replica.must(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Nothing is written any more, and the replica has everything that was.
    async fn comes_in_step(&self) {
        self.master.must(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let written = self.master.info("master_repl_offset").await;
            if written.is_some() && self.replica.info("slave_repl_offset").await == written {
                return;
            }
            assert!(Instant::now() < deadline, "the replica does not come in step");
        }
    }
}

pub(crate) async fn fails_over(transport: Transport, replica: Replica) -> Cost {
    let required = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "10"];
    let mut pair = Pair::start(if replica == Replica::BehindAndRequired { &required } else { &[] }).await;
    let wire = Wire::to(pair.master.address()).await;
    let deployment = deployment(transport);
    let stores = [vec![wire.address()], vec![wire.address()]];
    let scene = Scene::begin(deployment, &deployment.setup(), &stores).await;
    sleep(CALM).await;
    let since = scene.now();
    scene.note(Fact::Begins(Fault::StoreKilled));
    if replica == Replica::InStep {
        pair.comes_in_step().await;
    } else {
        pair.link.becomes(State::Still);
        sleep(LAG).await;
    }
    pair.master.kill();
    let until = scene.now();
    pair.promote().await;
    wire.leads_to(pair.replica.address());
    scene.note(Fact::Ends(Fault::StoreKilled));
    sleep(CALM).await;
    if replica == Replica::InStep {
        return scene.end_as_promised().await;
    }
    scene.end(Allowed::TwiceAndSome(vec![(since.saturating_sub(LATE), until + LATE)])).await
}

/// One Envoy goes on with the old master, which is one no more.
pub(crate) async fn splits() -> Cost {
    let mut pair = Pair::start(&[]).await;
    let wires = [Wire::to(pair.master.address()).await, Wire::to(pair.master.address()).await];
    let stores = wires.each_ref().map(|wire| vec![wire.address()]);
    let scene = Scene::begin(ON_REDIS, &ON_REDIS.setup(), &stores).await;
    sleep(CALM).await;
    let since = scene.now();
    pair.promote().await;
    wires[1].leads_to(pair.replica.address());
    sleep(CALM).await;
    wires[0].leads_to(pair.replica.address());
    let until = scene.now();
    pair.master.kill();
    sleep(CALM).await;
    scene.end(Allowed::TwiceAndSome(vec![(since.saturating_sub(LATE), until + LATE)])).await
}

pub(crate) async fn lacks_its_replica() -> Cost {
    let mut pair = Pair::start(&["--min-replicas-to-write", "1", "--min-replicas-max-lag", "10"]).await;
    let deployment = Deployment { lease: Duration::from_secs(4), ..ON_REDIS };
    let stores = [vec![pair.master.address()], vec![pair.master.address()]];
    let scene = Scene::begin(deployment, &deployment.setup(), &stores).await;
    sleep(CALM).await;
    scene.note(Fact::Begins(Fault::StoreFull));
    pair.replica.kill();
    sleep(Duration::from_secs(1)).await;
    pair.replica.restart().await;
    pair.replica.follows().await;
    scene.note(Fact::Ends(Fault::StoreFull));
    sleep(CALM).await;
    scene.end_as_promised().await
}

pub(crate) async fn is_killed(transport: Transport) -> Cost {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let deployment = deployment(transport);
    let stores = [vec![redis.address()], vec![redis.address()]];
    let scene = Scene::begin(deployment, &deployment.setup(), &stores).await;
    for _ in 0..4 {
        sleep(CALM / 2).await;
        scene.note(Fact::Begins(Fault::StoreKilled));
        redis.kill();
        redis.restart().await;
        scene.note(Fact::Ends(Fault::StoreKilled));
    }
    sleep(CALM / 2).await;
    scene.end_as_promised().await
}

/// It has no memory left, then serves nobody, then lets nobody write, then runs somebody's script.
pub(crate) async fn stalls(transport: Transport) -> Cost {
    const STALL: Duration = Duration::from_secs(1);
    // About as long.
    const SLOW_SCRIPT: &str = "for i = 1, 1e8 do end";

    let redis = RedisServer::start().await;
    let deployment = Deployment { lease: Duration::from_secs(4), ..deployment(transport) };
    let stores = [vec![redis.address()], vec![redis.address()]];
    let scene = Scene::begin(deployment, &deployment.setup(), &stores).await;
    let milliseconds = STALL.as_millis().to_string();
    for what in ["maxmemory", "ALL", "WRITE", "script"] {
        sleep(CALM / 2).await;
        scene.note(Fact::Begins(Fault::StoreFull));
        match what {
            "maxmemory" => {
                redis.must(&["CONFIG", "SET", "maxmemory", "1"]).await;
                sleep(STALL).await;
                redis.must(&["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            "script" => drop(redis.must(&["EVAL", SLOW_SCRIPT, "0"]).await),
            who => {
                redis.must(&["CLIENT", "PAUSE", &milliseconds, who]).await;
                sleep(STALL).await;
            }
        }
        scene.note(Fact::Ends(Fault::StoreFull));
    }
    sleep(CALM / 2).await;
    scene.end_as_promised().await
}
