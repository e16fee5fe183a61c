//! The Envoy configuration that a control plane has made before our files change it, and what Envoy gets in the end.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bench::{Bench, Envoy, TempDir, Upstream, deny_header, jwt_authn, released_module};

pub(super) const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
pub(super) const RBAC: &str = "envoy.filters.http.rbac";
pub(super) const ROUTER: &str = "envoy.filters.http.router";

/// A request with this header is one that authorization refuses.
pub(super) const DENIED: &str = "x-denied";

/// What a control plane does with a token that it has had verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    /// Where the payload is, among the metadata of the filter.
    pub(super) payload: &'static str,
    /// Whether the service gets the token, too.
    pub(super) are_forwarded: bool,
}

/// One listener, which authenticates and authorizes requests and routes them to one service.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) listener: Value,
    pub(super) clusters: Vec<Value>,
    /// What ECDS sends: by these names, filters are found that the listener only refers to.
    pub(super) extensions: Vec<Value>,
}

impl Proxy {
    pub(super) fn new(listener: &str, tokens: Tokens) -> Self {
        let mut jwt_authn = jwt_authn();
        let provider = &mut jwt_authn["typed_config"]["providers"]["issuer"];
        provider["payload_in_metadata"] = json!(tokens.payload);
        provider["forward"] = json!(tokens.are_forwarded);
        let mut rbac = deny_header(DENIED);
        rbac["name"] = json!(RBAC);
        let router = json!({
            "name": ROUTER,
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        });
        let listener = json!({
            "name": listener,
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [{ "filters": [{
                "name": CONNECTION_MANAGER,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "ingress",
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "orders", "timeout": "30s" } }],
                    }] },
                    "http_filters": [jwt_authn, rbac, router],
                },
            }] }],
        });
        Self { listener, clusters: Vec::new(), extensions: Vec::new() }
    }

    pub(super) fn connection_manager(&mut self) -> &mut Value {
        &mut self.listener["filter_chains"][0]["filters"][0]["typed_config"]
    }

    pub(super) fn filters(&mut self) -> &mut Vec<Value> {
        self.connection_manager()["http_filters"].as_array_mut().expect("a list of filters")
    }

    /// Puts `filter` in front of the one called `name`.
    pub(super) fn insert_before(&mut self, name: &str, filter: Value) {
        let filters = self.filters();
        let place = filters.iter().position(|other| other["name"] == name);
        filters.insert(place.unwrap_or_else(|| panic!("there is no filter {name}")), filter);
    }

    /// Every plugin configuration in it, to be changed as a user would change the file.
    pub(super) fn reconfigure(&mut self, change: impl Fn(&mut Value)) {
        let mut changed = 0;
        let connection_manager = self.connection_manager().clone();
        let filters = connection_manager["http_filters"].as_array().cloned().unwrap_or_default();
        let mut places: Vec<Value> = filters.into_iter().chain(self.extensions.clone()).collect();
        for place in &mut places {
            if let Some(Value::String(text)) = place.pointer_mut("/typed_config/config/configuration/value") {
                let mut configuration = serde_json::from_str(text).expect("the configuration is JSON");
                change(&mut configuration);
                *text = configuration.to_string();
                changed += 1;
            }
        }
        assert_eq!(changed, 1, "plugin configurations in {self:#?}");
        self.extensions = places.split_off(self.filters().len());
        *self.filters() = places;
    }

    /// An Envoy with this configuration, in front of an upstream of its own.
    pub(super) async fn start(&self) -> Bench {
        Bench::with_bootstrap(|upstream, directory| self.bootstrap(upstream, directory)).await
    }

    /// Another one, in front of the same upstream.
    pub(super) async fn start_another(&self, upstream: &Upstream) -> Envoy {
        Envoy::with_bootstrap(|directory| self.bootstrap(upstream.address(), directory), upstream.address()).await
    }

    fn bootstrap(&self, upstream: SocketAddr, directory: &TempDir) -> Value {
        let mut proxy = self.clone();
        let resources: Vec<Value> = proxy.extensions.iter().map(discovered).collect();
        let discovered = directory.join("extensions.json");
        fs::write(&discovered, json!({ "resources": resources }).to_string()).expect("cannot write the extensions");
        for filter in proxy.filters() {
            if let Some(source) = filter.pointer_mut("/config_discovery/config_source") {
                assert_eq!(source["ads"], json!({}), "extensions come from the control plane");
                source.as_object_mut().expect("an object").remove("ads");
                source["resource_api_version"] = json!("V3");
                source["path_config_source"] = json!({ "path": discovered });
            }
        }
        let orders = json!({
            "name": "orders",
            "connect_timeout": "60s",
            "load_assignment": { "cluster_name": "orders", "endpoints": [{ "lb_endpoints": [{ "endpoint": {
                "address": { "socket_address": {
                    "address": upstream.ip().to_string(), "port_value": upstream.port(),
                } },
            } }] }] },
        });
        proxy.clusters.push(orders);
        json!({
            "node": { "id": "test", "cluster": "test" },
            "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
            "static_resources": { "listeners": [proxy.listener], "clusters": proxy.clusters },
        })
    }
}

/// Lets Envoy have the module from a file, instead of from where the control plane or its agent would fetch it.
pub(super) fn fetch_module(code: &mut Value) {
    *code = json!({ "local": { "filename": released_module() } });
}

fn discovered(extension: &Value) -> Value {
    let mut resource = extension.clone();
    resource["@type"] = json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    resource
}
