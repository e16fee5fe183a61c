//! Redis, with its records on disk or nowhere.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::time::sleep;

use crate::{
    bench::RedisServer,
    fault::Fault,
    record::{Fact, Record},
};

#[derive(Debug)]
pub(crate) struct Redis {
    server: RedisServer,
    /// Whether a restart finds everything that was ever acknowledged.
    keeps_records: bool,
}

impl Redis {
    pub(super) async fn start(keeps_records: bool) -> Self {
        let arguments: &[&str] = if keeps_records { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] };
        Self { server: RedisServer::with(arguments).await, keeps_records }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(super) async fn fail(&mut self, fault: Fault, time: Duration, draw: u64, record: &Record) {
        let redis = &mut self.server;
        match fault {
            Fault::StoreKilled => {
                redis.kill();
                if !self.keeps_records {
                    record.note(Fact::RecordsLost);
                }
                sleep(time).await;
                if self.keeps_records { redis.restart().await } else { redis.restart_empty().await }
            }
            Fault::StorePaused if draw.is_multiple_of(2) => {
                redis.must(&["CLIENT", "PAUSE", &time.as_millis().to_string(), "ALL"]).await;
                sleep(time).await;
            }
            Fault::StorePaused => {
                redis.pause();
                sleep(time).await;
                redis.resume();
            }
            Fault::StoreFull => {
                redis.must(&["CONFIG", "SET", "maxmemory", "1"]).await;
                sleep(time).await;
                redis.must(&["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            _ => panic!("{fault} does not befall Redis"),
        }
    }

    pub(super) async fn forget(&self) {
        self.server.must(&["FLUSHALL"]).await;
    }

    pub(super) fn keep_files(&mut self) -> &Path {
        self.server.keep_files()
    }
}
