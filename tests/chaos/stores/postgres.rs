//! PostgreSQL, which keeps what it has promised through whatever befalls its processes.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::{
    bench::{PATIENCE, PostgresServer, Release, SCHEMA},
    fault::Fault,
};

/// In how many pieces it answers a login: how to prove the password, the server's part of the proof, and that it holds.
pub(super) const REPLIES_OF_A_LOGIN: u32 = 3;

/// How often it is looked at, or asked for something again.
const POLL: Duration = Duration::from_millis(20);

/// What it logs of those who are no superusers: of each that finds no connection left, and of each that an end finds.
const NO_CONNECTION_LEFT: &str = "remaining connection slots are reserved";
const ENDED: &str = "terminating connection due to administrator command";

/// What it logs of whatever finds no room on the disk.
const NO_ROOM: &str = "could not extend file";

#[derive(Debug)]
pub(crate) struct Postgres {
    server: PostgresServer,
}

impl Postgres {
    pub(crate) async fn start(gives_up: bool) -> Self {
        // More than the Envoys of a plan ever have, and few enough for others to have all of them.
        let server = PostgresServer::with(Release::Debian, &["fsync=off", "max_connections=32"]).await;
        if gives_up {
            server.sql("ALTER ROLE envoy SET statement_timeout = '400ms'").await;
        }
        Self { server }
    }

    pub(crate) fn server(&self) -> &PostgresServer {
        &self.server
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Gives whether it has shown in the server.
    pub(super) async fn fail(&mut self, fault: Fault, time: Duration) -> bool {
        let from = self.server.log().len();
        match fault {
            Fault::StoreKilled => {
                self.server.kill();
                sleep(time).await;
                self.server.restart().await;
                false
            }
            Fault::StoreRestarted => {
                self.server.shut_down().await;
                sleep(time).await;
                self.server.restart().await;
                self.has_logged(from, ENDED)
            }
            Fault::StoreFull => {
                self.server.fill_disk().await;
                let from = self.server.log().len();
                sleep(time).await;
                self.server.lift_limits();
                self.has_logged(from, NO_ROOM)
            }
            Fault::StorePaused => {
                self.server.pause();
                sleep(time).await;
                self.server.resume();
                false
            }
            Fault::TableLocked => self.lock(time).await,
            Fault::ConnectionsEnded => self.end_connections(time).await,
            Fault::ConnectionsTaken => {
                self.take_connections(time).await;
                self.has_logged(from, NO_CONNECTION_LEFT)
            }
            _ => panic!("{fault} does not befall PostgreSQL"),
        }
    }

    /// Whether anybody has waited for the lock.
    async fn lock(&self, time: Duration) -> bool {
        let locking = self.server.admin().await;
        locking.batch_execute("BEGIN; LOCK TABLE idemgate.records IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let (end, mut have_waited) = (Instant::now() + time, false);
        while Instant::now() < end {
            sleep(POLL).await;
            have_waited |= self.server.number("SELECT count(*) FROM pg_locks WHERE NOT granted").await > 0;
        }
        locking.batch_execute("COMMIT").await.unwrap();
        have_waited
    }

    /// Whether there was any.
    async fn end_connections(&self, time: Duration) -> bool {
        let (admin, end, mut ended) = (self.server.admin().await, Instant::now() + time, 0);
        while Instant::now() < end {
            ended += end_connections(&admin).await;
            sleep(POLL).await;
        }
        ended > 0
    }

    /// Also those that Envoy has.
    async fn take_connections(&self, time: Duration) {
        let end = Instant::now() + time;
        let first = self.server.admin().await;
        let mut taken = Vec::new();
        while Instant::now() < end {
            match self.server.try_admin().await {
                Ok(connection) => taken.push(connection),
                Err(_) => {
                    end_connections(&first).await;
                    sleep(POLL).await;
                }
            }
        }
        drop(taken);
        let deadline = Instant::now() + PATIENCE;
        while self.server.try_admin().await.is_err() {
            assert!(Instant::now() < deadline, "no connection is free again");
            sleep(POLL).await;
        }
    }

    fn has_logged(&self, from: usize, text: &str) -> bool {
        self.server.log().get(from..).is_some_and(|since| since.contains(text))
    }

    pub(super) async fn grant_always(&self) {
        let doctored = SCHEMA
            .replace("IF FOUND THEN\n            granted := false", "IF false THEN\n            granted := false");
        let doctored = doctored.replacen("WHERE b.expires <= clock_timestamp()", "WHERE true", 1);
        assert_eq!(doctored.matches("WHERE true").count() + doctored.matches("IF false").count(), 2, "{doctored}");
        self.server.sql(&doctored).await;
    }

    pub(super) async fn forget(&self) {
        self.server.sql("DELETE FROM idemgate.records").await;
    }

    pub(super) fn keep_files(&mut self) -> &Path {
        self.server.keep_files()
    }
}

/// Ends those of Envoy; how many there were.
async fn end_connections(admin: &Client) -> usize {
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'envoy'";
    admin.query(ended, &[]).await.unwrap().len()
}
