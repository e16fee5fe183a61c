//! dynalite in DynamoDB's place, with its items on disk.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    bench::{DynamoDbServer, TABLE, TempDir},
    fault::Fault,
    stage::is_silent,
};

/// Where they are.
const ITEMS: &str = "items";

#[derive(Debug)]
pub(crate) struct DynamoDb {
    server: DynamoDbServer,
    directory: TempDir,
}

impl DynamoDb {
    pub(super) fn start() -> Self {
        let directory = TempDir::new();
        Self { server: DynamoDbServer::with_table_on_disk(&directory.join(ITEMS)), directory }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Gives whether it was silent meanwhile.
    pub(super) async fn fail(&mut self, fault: Fault, time: Duration) -> bool {
        match fault {
            Fault::StoreKilled => {
                self.server.kill();
                let is_silent = is_silent(self.address(), time).await;
                // Which takes a while, and others go on.
                let (address, items) = (self.server.address, self.directory.join(ITEMS));
                let restarted = spawn_blocking(move || DynamoDbServer::start_at(address, Some(&items)));
                self.server = restarted.await.expect("no panic").expect("the port is free again");
                is_silent
            }
            Fault::StorePaused => {
                self.server.pause();
                let is_silent = is_silent(self.address(), time).await;
                self.server.resume();
                is_silent
            }
            _ => panic!("{fault} does not befall DynamoDB"),
        }
    }

    pub(super) fn forget(&self) {
        let found = self.server.call("Scan", &json!({ "TableName": TABLE, "AttributesToGet": ["k"] }));
        for key in found["Items"].as_array().into_iter().flatten() {
            self.server.call("DeleteItem", &json!({ "TableName": TABLE, "Key": key }));
        }
    }

    /// Its items; it has no log.
    pub(super) fn keep_files(&mut self) -> &Path {
        self.directory.keep()
    }
}
