//! The server behind a remote store: what it is sent, in the bytes of the real store, and what it answers.

use std::sync::Arc;

use idemgate::store::remote::RemoteStore;

use super::{
    dynamodb::{self, table::Table},
    law::{Deed, Entry},
    redis::{self, Omissions, Redis},
    scenario::ServerKind,
};

/// A server, which takes one step at a time.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Server {
    /// Or PostgreSQL: the same rules behind another protocol.
    Redis(Redis),
    DynamoDb(Table),
}

/// What it is asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Command {
    Script(redis::Command),
    Request(dynamodb::Request),
}

/// What it answers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Arc<[u8]>,
    /// What its clock said, in milliseconds, if the reply has a date.
    pub(crate) date: Option<u64>,
}

impl From<Vec<u8>> for Reply {
    fn from(body: Vec<u8>) -> Self {
        Self { status: 200, body: body.into(), date: None }
    }
}

impl Command {
    /// Reads what the store sends.
    pub(crate) fn read(store: &dyn RemoteStore, kind: ServerKind, question: &[u8]) -> Self {
        match kind {
            ServerKind::Redis | ServerKind::Postgres => Self::Script(redis::Command::read(question)),
            ServerKind::DynamoDb { .. } => Self::Request(dynamodb::Request::read(store, question)),
        }
    }

    /// In whose name it is sent, and to what end; `None` if it only looks.
    pub(crate) fn deed(&self, now: u64) -> Option<Deed> {
        match self {
            Self::Script(command) => Some(command.deed(now)),
            Self::Request(request) => request.deed(now),
        }
    }
}

impl Server {
    pub(crate) fn new(kind: ServerKind) -> Self {
        match kind {
            ServerKind::Redis | ServerKind::Postgres => Self::Redis(Redis::default()),
            ServerKind::DynamoDb { hides_items } => Self::DynamoDb(Table { hides_items, ..Table::default() }),
        }
    }

    /// The record that a command is about.
    pub(crate) fn entry(&self, command: &Command, now: u64) -> Option<Entry> {
        match (self, command) {
            (Self::Redis(redis), Command::Script(command)) => redis.entry(&command.key, now),
            (Self::DynamoDb(table), Command::Request(request)) => request.entry(table),
            _ => panic!("{command:?} is for another server"),
        }
    }

    /// Carries out a command in one step.
    pub(crate) fn carry_out(&mut self, command: &Command, now: u64, omissions: Omissions) -> Reply {
        match (self, command) {
            (Self::Redis(redis), Command::Script(command)) => redis.eval(command, now, omissions).into(),
            (Self::DynamoDb(table), Command::Request(request)) => {
                let (status, body) = request.carry_out(table, omissions);
                Reply { status, body: body.into(), date: Some(now) }
            }
            (_, command) => panic!("{command:?} is for another server"),
        }
    }

    /// What it says if it cannot.
    pub(crate) fn unable(&self, now: u64) -> Reply {
        match self {
            Self::Redis(_) => redis::LOADING.to_vec().into(),
            Self::DynamoDb(_) => Reply { status: 400, body: dynamodb::THROTTLED.into(), date: Some(now) },
        }
    }

    /// Loses all data.
    pub(crate) fn flush(&mut self) {
        match self {
            Self::Redis(redis) => redis.flush(),
            Self::DynamoDb(table) => table.items.clear(),
        }
    }
}
