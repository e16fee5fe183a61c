//! The server that keeps the records: how it is started, and how it fails.

mod dynamodb;
mod postgres;
mod redis;

use std::{net::SocketAddr, path::Path, time::Duration};

pub(crate) use self::postgres::Postgres;
use self::{dynamodb::DynamoDb, redis::Redis};
use crate::{fault::Fault, plan::StoreKind, record::Record, wire::Wire};

#[derive(Debug)]
pub(crate) enum Server {
    DynamoDb(DynamoDb),
    Postgres(Postgres),
    Redis(Redis),
}

/// What a store does that does not keep what filters stand on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    /// A claim takes the key.
    GrantsAlways,
    /// Every record is gone from time to time.
    Forgets,
}

/// How often it forgets.
const FORGETFULNESS: Duration = Duration::from_millis(50);

impl Server {
    pub(crate) async fn start(kind: StoreKind) -> Option<Self> {
        match kind {
            StoreKind::SharedData => None,
            StoreKind::Redis { keeps_records, .. } => Some(Self::Redis(Redis::start(keeps_records).await)),
            StoreKind::Postgres { gives_up, .. } => Some(Self::Postgres(Postgres::start(gives_up).await)),
            StoreKind::DynamoDb { .. } => Some(Self::DynamoDb(DynamoDb::start())),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::DynamoDb(server) => server.address(),
            Self::Postgres(server) => server.address(),
            Self::Redis(server) => server.address(),
        }
    }

    /// A wire to it, on which no login gets lost: what comes after it is of more interest.
    pub(crate) async fn wire(&self) -> Wire {
        let wire = Wire::to(self.address()).await;
        match self {
            Self::Postgres(_) => wire.sparing(postgres::REPLIES_OF_A_LOGIN),
            Self::DynamoDb(_) | Self::Redis(_) => wire,
        }
    }

    /// Lets a fault befall it for so long; whether it has shown there that it did.
    pub(crate) async fn fail(&mut self, fault: Fault, time: Duration, draw: u64, record: &Record) -> bool {
        match self {
            Self::DynamoDb(server) => server.fail(fault, time).await,
            Self::Postgres(server) => server.fail(fault, time).await,
            Self::Redis(server) => {
                server.fail(fault, time, draw, record).await;
                false
            }
        }
    }

    /// Breaks the rules from now on; to be dropped when it is to end.
    pub(crate) async fn break_rules(&self, sabotage: Sabotage) {
        match (self, sabotage) {
            (Self::Postgres(server), Sabotage::GrantsAlways) => server.grant_always().await,
            (_, Sabotage::GrantsAlways) => panic!("only what PostgreSQL grants is up to a function of its own"),
            (_, Sabotage::Forgets) => loop {
                match self {
                    Self::DynamoDb(server) => server.forget(),
                    Self::Postgres(server) => server.forget().await,
                    Self::Redis(server) => server.forget().await,
                }
                tokio::time::sleep(FORGETFULNESS).await;
            },
        }
    }

    /// Where its log stays, if it has one.
    pub(crate) fn keep_files(&mut self) -> &Path {
        match self {
            Self::DynamoDb(server) => server.keep_files(),
            Self::Postgres(server) => server.keep_files(),
            Self::Redis(server) => server.keep_files(),
        }
    }
}
