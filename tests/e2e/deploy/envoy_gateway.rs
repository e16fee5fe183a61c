//! What Envoy Gateway makes of its objects, as far as `deploy/envoy-gateway/` asks for it.
//!
//! An `EnvoyExtensionPolicy` becomes a filter that is off in the listener and on in the policy's routes
//! (`internal/xds/translator/wasm.go`): the configuration as JSON in a `StringValue`, the policy's name as `vm_id`. Its
//! place is one of a fixed order (`httpfilters.go`) that an `EnvoyProxy` may change. Last of all, an `EnvoyPatchPolicy`
//! changes the outcome (`jsonpatch.go`).

use serde::Deserialize;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

use super::manifest::{Manifest, Spec, assert_digest};
use super::proxy::{Proxy, RBAC, ROUTER, Tokens, fetch_module};

const WASM: &str = "envoy.filters.http.wasm";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetRef {
    group: String,
    kind: String,
    name: String,
}

impl TargetRef {
    fn assert_is(&self, kind: &str, name: &str) {
        let found = (self.group.as_str(), self.kind.as_str(), self.name.as_str());
        assert_eq!(found, ("gateway.networking.k8s.io", kind, name), "what the policy is about");
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EnvoyExtensionPolicy {
    target_refs: Vec<TargetRef>,
    wasm: Vec<Wasm>,
}

impl Spec for EnvoyExtensionPolicy {
    const API_VERSION: &'static str = "gateway.envoyproxy.io/v1alpha1";
    const KIND: &'static str = "EnvoyExtensionPolicy";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wasm {
    name: String,
    #[serde(rename = "rootID")]
    root_id: String,
    code: Code,
    fail_open: bool,
    config: Value,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Code {
    Image { image: Image, pull_policy: PullPolicy },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    url: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
enum PullPolicy {
    IfNotPresent,
}

impl Manifest<EnvoyExtensionPolicy> {
    /// The proxy of Gateway `eg` with the policy's filter for its route `orders`, in the order that `order` says.
    pub(super) fn apply(file: &str, order: &Manifest<EnvoyProxy>) -> Proxy {
        let policy = Self::of(file);
        let [target] = policy.spec.target_refs.as_slice() else { panic!("{file}: one target, found {policy:?}") };
        target.assert_is("HTTPRoute", "orders");

        // The `jwt` of a `SecurityPolicy` (`internal/xds/translator/jwt.go`), whose provider is called example.
        let mut proxy = Proxy::new("default/eg/http", Tokens { payload: "example", are_forwarded: true });
        for (index, wasm) in policy.spec.wasm.iter().enumerate() {
            let name =
                format!("envoyextensionpolicy/{}/{}/wasm/{index}", policy.metadata.namespace, policy.metadata.name);
            let filter_name = format!("{WASM}/{name}");
            proxy.filters().push(json!({
                "name": filter_name,
                "disabled": true,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                    "config": wasm.plugin_config(&name),
                },
            }));
            let route = &mut proxy.connection_manager()["route_config"]["virtual_hosts"][0]["routes"][0];
            route["typed_per_filter_config"][filter_name] = json!({
                "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                "config": {},
            });
        }
        order.spec.sort(proxy.filters());
        proxy
    }
}

impl Wasm {
    fn plugin_config(&self, vm_id: &str) -> Value {
        let Code::Image { image, pull_policy: PullPolicy::IfNotPresent } = &self.code;
        assert!(!image.url.contains("://"), "a reference to an image is no URL: {image:?}");
        assert_digest(&image.sha256);
        let mut config = json!({
            "name": self.name,
            "root_id": self.root_id,
            "vm_config": { "vm_id": vm_id, "runtime": "envoy.wasm.runtime.v8", "code": {} },
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": self.config.to_string(),
            },
            "fail_open": self.fail_open,
        });
        fetch_module(&mut config["vm_config"]["code"]);
        config
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EnvoyProxy {
    filter_order: Vec<FilterPosition>,
}

impl Spec for EnvoyProxy {
    const API_VERSION: &'static str = "gateway.envoyproxy.io/v1alpha1";
    const KIND: &'static str = "EnvoyProxy";
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterPosition {
    name: String,
    before: String,
}

impl EnvoyProxy {
    fn sort(&self, filters: &mut Vec<Value>) {
        filters.sort_by_key(place);
        for FilterPosition { name, before } in &self.filter_order {
            for name in [name, before] {
                assert!(ORDER.contains(&name.as_str()), "Envoy Gateway has no filter {name}");
            }
            let (moved, mut others): (Vec<Value>, Vec<Value>) =
                filters.drain(..).partition(|filter| kind(filter) == name);
            let place = others.iter().position(|filter| kind(filter) == before).unwrap_or(others.len());
            others.splice(place..place, moved);
            *filters = others;
        }
    }
}

/// The order of those that matter here.
const ORDER: [&str; 6] = [
    "envoy.filters.http.jwt_authn",
    WASM,
    RBAC,
    "envoy.filters.http.local_ratelimit",
    "envoy.filters.http.ratelimit",
    ROUTER,
];

fn place(filter: &Value) -> usize {
    let place = ORDER.iter().position(|known| kind(filter) == *known);
    place.unwrap_or_else(|| panic!("the place of {filter:#}"))
}

/// `envoy.filters.http.wasm` of `envoy.filters.http.wasm/envoyextensionpolicy/...`.
fn kind(filter: &Value) -> &str {
    filter["name"].as_str().and_then(|name| name.split('/').next()).unwrap_or_default()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientTrafficPolicy {
    target_refs: Vec<TargetRef>,
    connection: Connection,
}

impl Spec for ClientTrafficPolicy {
    const API_VERSION: &'static str = "gateway.envoyproxy.io/v1alpha1";
    const KIND: &'static str = "ClientTrafficPolicy";
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    buffer_limit: String,
}

impl Manifest<ClientTrafficPolicy> {
    pub(super) fn apply(file: &str, proxy: &mut Proxy) {
        let policy = Self::of(file);
        let [target] = policy.spec.target_refs.as_slice() else { panic!("{file}: one target, found {policy:?}") };
        target.assert_is("Gateway", "eg");
        let limit = &policy.spec.connection.buffer_limit;
        let mebibytes: Option<u32> = limit.strip_suffix("Mi").and_then(|number| number.parse().ok());
        let bytes = mebibytes.unwrap_or_else(|| panic!("{file}: {limit:?} is no number of MiB")) << 20;
        proxy.listener["per_connection_buffer_limit_bytes"] = json!(bytes);
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EnvoyPatchPolicy {
    target_ref: TargetRef,
    r#type: PatchType,
    json_patches: Vec<JsonPatch>,
}

impl Spec for EnvoyPatchPolicy {
    const API_VERSION: &'static str = "gateway.envoyproxy.io/v1alpha1";
    const KIND: &'static str = "EnvoyPatchPolicy";
}

#[derive(Debug, Deserialize)]
enum PatchType {
    #[serde(rename = "JSONPatch")]
    JsonPatch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPatch {
    r#type: Resource,
    name: String,
    operation: Operation,
}

#[derive(Debug, Deserialize, Eq, PartialEq)]
enum Resource {
    #[serde(rename = "type.googleapis.com/envoy.config.cluster.v3.Cluster")]
    Cluster,
    #[serde(rename = "type.googleapis.com/envoy.config.listener.v3.Listener")]
    Listener,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Operation {
    op: Op,
    json_path: Option<String>,
    #[serde(default)]
    path: String,
    value: Value,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Add,
    Replace,
}

impl Manifest<EnvoyPatchPolicy> {
    /// Changes the proxy as the file says; each of its patches must find something to change.
    pub(super) fn patch(file: &str, proxy: &mut Proxy) {
        let policy = Self::of(file);
        policy.spec.target_ref.assert_is("Gateway", "eg");
        let PatchType::JsonPatch = policy.spec.r#type;
        for patch in &policy.spec.json_patches {
            patch.apply(proxy);
        }
    }
}

impl JsonPatch {
    fn apply(&self, proxy: &mut Proxy) {
        let Operation { op, json_path, path, value } = &self.operation;
        match (&self.r#type, op, json_path) {
            (Resource::Cluster, Op::Add, None) if path.is_empty() => {
                assert_eq!(value["name"], self.name.as_str(), "{self:#?}");
                proxy.clusters.push(value.clone());
            }
            (Resource::Listener, _, Some(json_path)) => {
                assert_eq!(proxy.listener["name"], self.name.as_str(), "{self:#?}");
                let found = JsonPath::parse(json_path).unwrap_or_else(|error| panic!("{json_path}: {error}"));
                let found = found.query_located(&proxy.listener).exactly_one();
                let found = found.unwrap_or_else(|error| panic!("{json_path}: {error}"));
                let pointer = format!("{}{path}", found.location().to_json_pointer());
                self.operation.set(&mut proxy.listener, &pointer);
            }
            _ => panic!("Envoy Gateway would not do this, or the test does not know how: {self:#?}"),
        }
    }
}

impl Operation {
    /// RFC 6902, sections 4.1 and 4.3: adding needs the object that is added to, replacing also the member.
    fn set(&self, document: &mut Value, pointer: &str) {
        let (parent, member) = pointer.rsplit_once('/').expect("a pointer to a member");
        let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
        let parent = parent.unwrap_or_else(|| panic!("there is no object for {pointer}"));
        let before = parent.insert(member.to_owned(), self.value.clone());
        assert_eq!(before.is_some(), self.op == Op::Replace, "{pointer}: whether there was a value before");
    }
}
