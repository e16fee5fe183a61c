//! That the bench's Redis servers do what other tests take for granted.

use crate::bench::{RedisCluster, RedisServer, Reply};

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test]
async fn a_server_comes_back_with_what_it_has_on_disk() {
    let mut redis = RedisServer::with(&DURABLE).await;
    redis.set(b"key", b"value").await;
    redis.kill();
    redis.restart().await;
    assert_eq!(redis.get(&redis.only_key().await).await, b"value");
    redis.kill();
    redis.restart_empty().await;
    assert_eq!(redis.keys().await, Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn a_server_that_stands_still_answers_later() {
    let redis = RedisServer::with(&["--requirepass", "secret"]).await;
    redis.pause();
    let ping = redis.command(&["PING"]);
    tokio::pin!(ping);
    tokio::select! {
        reply = &mut ping => panic!("it does not stand still: {reply:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(100)) => redis.resume(),
    }
    assert_eq!(ping.await, Reply::Simple("PONG".to_owned()));
}

#[tokio::test]
async fn a_server_that_reads_its_data_says_so() {
    let mut redis = RedisServer::start().await;
    redis.restart_slowly().await;
    let Reply::Error(error) = redis.command(&["GET", "key"]).await else { panic!("it has read its data already") };
    assert!(error.starts_with("LOADING "), "{error}");
}

#[tokio::test]
async fn the_masters_of_a_cluster_share_the_keys() {
    let cluster = RedisCluster::start(3).await;
    // Each key is another master's.
    for (master, key) in cluster.masters.iter().zip(["bar", "test", "foo"]) {
        let before = master.calls_of(&["set"]).await;
        master.set(key.as_bytes(), b"value").await;
        assert_eq!(master.calls_of(&["set"]).await, before + 1);
    }
}
