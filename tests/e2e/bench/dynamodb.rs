//! DynamoDB, as users are told to call it: over HTTP, signed by Envoy. Behind it is a dynalite.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::bootstrap::{HTTP_OPTIONS, address, cluster};
use super::signal::signal;

#[path = "../../dynamodb/server.rs"]
mod server;

pub(crate) use server::DynamoDbServer;
use server::Program;
pub(super) use server::send;

/// The cluster that the filter's configuration names.
pub(super) const DYNAMODB_CLUSTER: &str = "dynamodb";

/// The table.
pub(crate) const TABLE: &str = "idemgate";

/// How Envoy speaks to DynamoDB.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Signing {
    #[default]
    Signed,
    /// By a filter that finds nothing to sign with.
    WithoutCredentials,
    Unsigned,
}

impl DynamoDbServer {
    /// With the table of the scenarios.
    pub(crate) fn with_table() -> Self {
        Self::start().and_table()
    }

    /// The same with its items in a folder, where a restart finds them.
    pub(crate) fn with_table_on_disk(folder: &Path) -> Self {
        Self::with(Program::Dynalite, Some(folder)).and_table()
    }

    fn and_table(self) -> Self {
        self.create_table(TABLE, "k", "B");
        self
    }

    /// It stands still from now on.
    pub(crate) fn pause(&self) {
        signal(&self.child, "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(&self.child, "CONT");
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("dynalite is a child of this process");
        self.child.wait().expect("dynalite is a child of this process");
    }

    /// Starts it again on the same port once it was killed, with an empty table.
    pub(crate) fn restart(&mut self) {
        *self = Self::start_at(self.address, None).expect("the port is free again").and_table();
    }

    /// How many items there are.
    pub(crate) fn items(&self) -> u64 {
        let scanned = self.call("Scan", &json!({ "TableName": TABLE, "Select": "COUNT" }));
        scanned["Count"].as_u64().unwrap_or_else(|| panic!("{scanned}"))
    }
}

pub(super) fn dynamodb(server: SocketAddr, signing: Signing) -> Value {
    let mut dynamodb = cluster(DYNAMODB_CLUSTER, &[address(server)], &json!({ "http_protocol_options": {} }));
    dynamodb["connect_timeout"] = json!("5s");
    if signing == Signing::Unsigned {
        return dynamodb;
    }
    let credentials = match signing {
        Signing::WithoutCredentials => {
            json!({ "custom_credential_provider_chain": true, "environment_credential_provider": {} })
        }
        _ => json!({ "inline_credential": { "access_key_id": "AKIAEXAMPLE", "secret_access_key": "secret" } }),
    };
    dynamodb["typed_extension_protocol_options"][HTTP_OPTIONS]["http_filters"] = json!([
        {
            "name": "envoy.filters.http.aws_request_signing",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning",
                "service_name": "dynamodb",
                "region": "us-east-1",
                "host_rewrite": "dynamodb.us-east-1.amazonaws.com",
                "credential_provider": credentials,
            },
        },
        {
            "name": "codec",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            },
        },
    ]);
    dynamodb
}
