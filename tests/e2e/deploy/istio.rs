//! What Istio makes of its objects, as far as `deploy/istio/` asks for it.
//!
//! A `WasmPlugin` becomes a filter that ECDS sends (`pilot/pkg/model/extensions.go`): the configuration as JSON in a
//! `StringValue`, no `vm_id`, no `allow_on_headers_stop_iteration`. Its place follows from its phase
//! (`listener_builder.go`). An `EnvoyFilter` changes what Istio has made, patch by patch.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::manifest::{Manifest, Spec, assert_digest};
use super::proxy::{CONNECTION_MANAGER, Proxy, RBAC, ROUTER, Tokens, fetch_module};

/// The kinds of proxies that a file is written for, and the labels of their pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pod {
    Gateway,
    Sidecar,
}

impl Pod {
    pub(super) const BOTH: [Self; 2] = [Self::Gateway, Self::Sidecar];

    fn labels(self) -> BTreeMap<String, String> {
        let (name, value) = match self {
            Self::Gateway => ("istio", "ingressgateway"),
            Self::Sidecar => ("app", "orders"),
        };
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::Gateway => "istio-ingress",
            Self::Sidecar => "orders",
        }
    }

    /// With authentication and authorization in it, and nothing of ours.
    pub(super) fn proxy(self) -> Proxy {
        let listener = match self {
            Self::Gateway => "0.0.0.0_8080",
            Self::Sidecar => "virtualInbound",
        };
        // A `RequestAuthentication` (`pilot/pkg/security/authn/policy_applier.go`).
        Proxy::new(listener, Tokens { payload: "payload", are_forwarded: false })
    }

    /// Where the patches are that change a listener of such a proxy, and where those that change its clusters.
    fn contexts(self) -> [Context; 2] {
        match self {
            Self::Gateway => [Context::Gateway, Context::Gateway],
            Self::Sidecar => [Context::SidecarInbound, Context::SidecarOutbound],
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WasmPlugin {
    selector: Selector,
    url: String,
    sha256: String,
    image_pull_policy: PullPolicy,
    plugin_name: String,
    phase: Phase,
    priority: i32,
    fail_strategy: FailStrategy,
    #[serde(default)]
    r#match: Vec<Traffic>,
    plugin_config: Value,
}

impl Spec for WasmPlugin {
    const API_VERSION: &'static str = "extensions.istio.io/v1alpha1";
    const KIND: &'static str = "WasmPlugin";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
enum PullPolicy {
    IfNotPresent,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Phase {
    Authn,
    Authz,
    Stats,
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
}

#[derive(Debug, Deserialize)]
enum FailStrategy {
    #[serde(rename = "FAIL_CLOSE")]
    Close,
    #[serde(rename = "FAIL_OPEN")]
    Open,
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Traffic {
    mode: Mode,
}

#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    Server,
}

impl Manifest<WasmPlugin> {
    /// The proxy of such a pod, with the plugin that the file has for it.
    pub(super) fn apply(file: &str, pod: Pod) -> Proxy {
        let plugins = Self::all_of(file);
        let plugin = plugins.iter().find(|plugin| plugin.metadata.namespace == pod.namespace());
        let plugin = plugin.unwrap_or_else(|| panic!("{file} has no plugin for a {pod:?}"));
        assert_eq!(plugin.spec.selector.match_labels, pod.labels(), "{file}: the pods of the plugin");
        // A sidecar also has the requests that the service itself makes.
        let inbound_only = plugin.spec.r#match.iter().any(|traffic| traffic.mode == Mode::Server);
        assert_eq!(inbound_only, pod == Pod::Sidecar, "{file}: which requests the plugin guards");
        assert!(plugin.spec.priority < 0, "{file}: other plugins of the phase come before it");

        let mut proxy = pod.proxy();
        let extension = plugin.extension();
        proxy.insert_before(
            match plugin.spec.phase {
                Phase::Authn | Phase::Authz => RBAC,
                Phase::Stats | Phase::Unspecified => ROUTER,
            },
            json!({ "name": extension["name"], "config_discovery": {
                "config_source": { "ads": {}, "initial_fetch_timeout": "0s" },
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            } }),
        );
        proxy.extensions.push(extension);
        proxy
    }

    fn extension(&self) -> Value {
        let WasmPlugin { url, sha256, plugin_name, plugin_config, .. } = &self.spec;
        let PullPolicy::IfNotPresent = self.spec.image_pull_policy;
        let name = format!("{}.{}", self.metadata.namespace, self.metadata.name);
        let mut extension = json!({ "name": name, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "root_id": plugin_name,
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "remote": {
                        "http_uri": { "uri": url, "cluster": "_", "timeout": "30s" },
                        "sha256": sha256,
                    } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": plugin_config.to_string(),
                },
                "failure_policy": match self.spec.fail_strategy {
                    FailStrategy::Close => "FAIL_CLOSED",
                    FailStrategy::Open => "FAIL_OPEN",
                    FailStrategy::Reload => "FAIL_RELOAD",
                },
            },
        } });
        pull_image(&mut extension);
        extension
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EnvoyFilter {
    workload_selector: WorkloadSelector,
    config_patches: Vec<ConfigPatch>,
}

impl Spec for EnvoyFilter {
    const API_VERSION: &'static str = "networking.istio.io/v1alpha3";
    const KIND: &'static str = "EnvoyFilter";
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadSelector {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigPatch {
    apply_to: ApplyTo,
    r#match: Match,
    patch: Patch,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ApplyTo {
    Cluster,
    ExtensionConfig,
    HttpFilter,
    Listener,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    context: Context,
    listener: Option<ListenerMatch>,
    proxy: Option<ProxyMatch>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Context {
    Gateway,
    SidecarInbound,
    SidecarOutbound,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProxyMatch {
    proxy_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListenerMatch {
    name: Option<String>,
    filter_chain: Option<FilterChainMatch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterChainMatch {
    filter: FilterMatch,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilterMatch {
    name: String,
    sub_filter: Named,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    operation: Operation,
    value: Value,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operation {
    Add,
    InsertBefore,
    Merge,
}

impl Manifest<EnvoyFilter> {
    /// Changes the proxy of such a pod as the file says; each of its patches must find something to change.
    pub(super) fn patch(file: &str, pod: Pod, proxy: &mut Proxy) {
        let filters = Self::all_of(file);
        let filter = filters.iter().find(|filter| filter.metadata.namespace == pod.namespace());
        let filter = filter.unwrap_or_else(|| panic!("{file} has nothing for a {pod:?}"));
        assert_eq!(filter.spec.workload_selector.labels, pod.labels(), "{file}: the pods of the filter");
        for patch in &filter.spec.config_patches {
            patch.apply(pod, proxy);
        }
    }
}

impl ConfigPatch {
    fn apply(&self, pod: Pod, proxy: &mut Proxy) {
        let [listeners, clusters] = pod.contexts();
        let context = if self.apply_to == ApplyTo::Cluster { clusters } else { listeners };
        assert_eq!(self.r#match.context, context, "{self:#?}");
        if let Some(older) = &self.r#match.proxy {
            assert_eq!(older.proxy_version, SINCE_ENVOY_1_36, "{self:#?}");
        }
        let value = self.patch.value.clone();
        match (self.apply_to, self.patch.operation, &self.r#match.listener) {
            (ApplyTo::Cluster, Operation::Add, None) => proxy.clusters.push(value),
            (ApplyTo::ExtensionConfig, Operation::Add, None) => {
                let mut extension = value;
                pull_image(&mut extension);
                proxy.extensions.push(extension);
            }
            (
                ApplyTo::HttpFilter,
                Operation::InsertBefore,
                Some(ListenerMatch { name: None, filter_chain: Some(chain) }),
            ) => {
                assert_eq!(chain.filter.name, CONNECTION_MANAGER, "{self:#?}");
                proxy.insert_before(&chain.filter.sub_filter.name, value);
            }
            (ApplyTo::Listener, Operation::Merge, listener) => {
                let named = listener.as_ref().and_then(|listener| listener.name.as_deref());
                assert!(named.is_none_or(|name| proxy.listener["name"] == name), "{self:#?}");
                for (field, value) in value.as_object().expect("an object") {
                    proxy.listener[field] = value.clone();
                }
            }
            _ => panic!("Istio would not do this, or the test does not know how: {self:#?}"),
        }
    }
}

/// Istio 1.28 and newer, which have Envoy 1.36 and newer.
const SINCE_ENVOY_1_36: &str = r"^1\.(2[89]|[3-9][0-9])\.";

/// What the agent of a proxy does with an extension on its way to Envoy: the image becomes a local file.
fn pull_image(extension: &mut Value) {
    let code = &mut extension["typed_config"]["config"]["vm_config"]["code"];
    let remote = &code["remote"];
    let uri = remote["http_uri"]["uri"].as_str().unwrap_or_default();
    assert!(uri.starts_with("oci://"), "the agent fetches {uri:?}");
    assert_digest(remote["sha256"].as_str().unwrap_or_default());
    fetch_module(code);
}
