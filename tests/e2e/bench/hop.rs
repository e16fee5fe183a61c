//! Another proxy between the filter and the upstream: a real Envoy of its own.

use serde_json::{Value, json};

use super::bootstrap::{address, cluster};
use super::{Envoy, Upstream};

/// How the other proxy is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hop {
    connection_manager: Value,
    filters: Vec<Value>,
    route: Value,
    virtual_host: Value,
}

impl Hop {
    /// A proxy that does nothing but pass on.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// These fields of its HTTP connection manager, too.
    pub(crate) fn connection_manager(mut self, fields: Value) -> Self {
        self.connection_manager = fields;
        self
    }

    /// An HTTP filter in front of its router.
    pub(crate) fn filter(mut self, filter: Value) -> Self {
        self.filters.push(filter);
        self
    }

    /// These fields of its route action, too.
    pub(crate) fn route(mut self, fields: Value) -> Self {
        self.route = fields;
        self
    }

    /// These fields of its virtual host, too.
    pub(crate) fn virtual_host(mut self, fields: Value) -> Self {
        self.virtual_host = fields;
        self
    }

    /// Starts it in front of `upstream`.
    pub(crate) async fn start(&self, upstream: &Upstream) -> Envoy {
        let bootstrap = self.bootstrap(upstream);
        Envoy::with_bootstrap(|_| bootstrap, upstream.address()).await
    }

    fn bootstrap(&self, upstream: &Upstream) -> Value {
        let loopback = || address(([127, 0, 0, 1], 0).into());
        let mut route = json!({ "cluster": "upstream", "timeout": "30s" });
        merge(&mut route, &self.route);
        let mut virtual_host = json!({
            "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": route }],
        });
        merge(&mut virtual_host, &self.virtual_host);
        let mut filters = self.filters.clone();
        filters.push(json!({
            "name": "router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }));
        let mut connection_manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "hop",
            "route_config": { "virtual_hosts": [virtual_host] },
            "http_filters": filters,
        });
        merge(&mut connection_manager, &self.connection_manager);
        json!({
            "admin": { "address": loopback() },
            "static_resources": {
                "listeners": [{
                    "name": "hop",
                    "address": loopback(),
                    "filter_chains": [{ "filters": [{ "name": "http", "typed_config": connection_manager }] }],
                }],
                "clusters": [cluster(
                    "upstream",
                    &[address(upstream.address())],
                    &json!({ "http_protocol_options": {} }),
                )],
            },
        })
    }
}

/// Puts the members of one object into another.
pub(super) fn merge(object: &mut Value, fields: &Value) {
    for (name, field) in fields.as_object().into_iter().flatten() {
        object[name] = field.clone();
    }
}
