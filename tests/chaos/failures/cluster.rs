//! A Redis Cluster of three masters, which `redis_proxy` follows.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    cost::{Allowed, Cost},
    scene::{ON_POOLED_REDIS, Scene},
};
use crate::{
    bench::{PATIENCE, RedisCluster, RedisServer, Reply, Setup, Transport},
    plan::on_redis,
};

const CALM: Duration = Duration::from_millis(2_000);

/// How long the cluster waits for a node before it is taken for gone.
const NODE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long before a master is gone it may have granted what its replica did not have yet, and how long after that the
/// service may see it first, on a busy machine.
const NEARBY: u64 = 1_000;

fn setup() -> Setup {
    on_redis(Transport::Sharded, ON_POOLED_REDIS.configuration())
}

async fn scene(cluster: &RedisCluster) -> Scene {
    Scene::begin(ON_POOLED_REDIS, &setup(), &[cluster.addresses(), cluster.addresses()]).await
}

pub(crate) async fn loses_a_master() -> Cost {
    let mut cluster = RedisCluster::start(3).await;
    let replica = cluster.replica_of(0, NODE_TIMEOUT).await;
    let scene = scene(&cluster).await;
    sleep(CALM).await;
    let killed = scene.now();
    cluster.masters[0].kill();
    let deadline = Instant::now() + PATIENCE;
    while replica.info("role").await.as_deref() != Some("master") {
        assert!(Instant::now() < deadline, "the replica does not take over in {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
    sleep(CALM).await;
    scene.end(Allowed::TwiceOf(vec![(killed.saturating_sub(NEARBY), killed + NEARBY)])).await
}

/// Slots move from the first master to the second, and stand between both for a while.
pub(crate) async fn moves_slots() -> Cost {
    const SLOTS: u16 = 400;

    let cluster = RedisCluster::start(3).await;
    let [from, to, _] = cluster.masters.as_slice() else { panic!("three masters") };
    let (giver, taker) = (from.id().await, to.id().await);
    let scene = scene(&cluster).await;
    sleep(CALM).await;
    for slot in 0..SLOTS {
        let slot = slot.to_string();
        to.must(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &giver]).await;
        from.must(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &taker]).await;
    }
    sleep(CALM).await;
    for slot in 0..SLOTS {
        let slot = slot.to_string();
        migrate(from, to, &slot).await;
        for master in [to, from, &cluster.masters[2]] {
            master.must(&["CLUSTER", "SETSLOT", &slot, "NODE", &taker]).await;
        }
    }
    sleep(CALM / 2).await;
    scene.end_as_promised().await
}

/// Moves all keys of a slot, also those that come meanwhile.
async fn migrate(from: &RedisServer, to: &RedisServer, slot: &str) {
    let port = to.address().port().to_string();
    loop {
        let keys = from.must(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]).await.into_values();
        if keys.is_empty() {
            return;
        }
        let mut words: Vec<Vec<u8>> =
            ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(|word| word.as_bytes().to_vec()).into();
        words.extend(keys.into_iter().map(Reply::into_bytes));
        from.must(&words).await;
    }
}
