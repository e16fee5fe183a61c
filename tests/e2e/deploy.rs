//! `deploy/istio` and `deploy/envoy-gateway`: each file as its control plane hands it to Envoy, started and asked.
//!
//! No control plane runs here. What it does with our files is written down beside the types that read them, and is
//! strict: a key that the object does not have, a patch that finds nothing to change, or a field that Envoy does not know
//! fails the test.

mod envoy_gateway;
mod istio;
mod manifest;
mod proxy;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::envoy_gateway::{ClientTrafficPolicy, EnvoyExtensionPolicy, EnvoyPatchPolicy, EnvoyProxy};
use self::istio::{EnvoyFilter, Pod, WasmPlugin};
use self::manifest::{Manifest, files};
use self::proxy::{DENIED, Proxy};
use crate::bench::{
    Bench, Protocol, RedisServer, Request, assert_executed, assert_problem, assert_replay_of, assert_unguarded,
    released_module, token,
};

const WASM_PLUGIN: &str = "istio/wasmplugin.yaml";
const FILTER_SIDECAR: &str = "istio/envoyfilter-sidecar.yaml";
const FILTER_GATEWAY: &str = "istio/envoyfilter-gateway.yaml";
const FILTER_REDIS: &str = "istio/envoyfilter-redis.yaml";
const EXTENSION_POLICY: &str = "envoy-gateway/envoyextensionpolicy.yaml";
const FILTER_ORDER: &str = "envoy-gateway/envoyproxy.yaml";
const BUFFER_LIMIT: &str = "envoy-gateway/clienttrafficpolicy.yaml";
const PATCH_POLICY: &str = "envoy-gateway/envoypatchpolicy.yaml";
const PATCH_REDIS: &str = "envoy-gateway/envoypatchpolicy-redis.yaml";

#[test]
fn no_file_is_left_out_of_these_tests() {
    let visited = [WASM_PLUGIN, FILTER_SIDECAR, FILTER_GATEWAY, FILTER_REDIS];
    let visited = visited.iter().chain(&[EXTENSION_POLICY, FILTER_ORDER, BUFFER_LIMIT, PATCH_POLICY, PATCH_REDIS]);
    let visited: BTreeSet<String> = visited.map(|file| (*file).to_owned()).collect();
    assert_eq!(files(&["istio", "envoy-gateway"]), visited, "left: the files, right: those that are tested");
}

#[tokio::test]
async fn a_wasm_plugin_of_istio_guards_all_but_the_body() {
    for pod in Pod::BOTH {
        guards_all_but_the_body(&Manifest::<WasmPlugin>::apply(WASM_PLUGIN, pod)).await;
    }
}

#[tokio::test]
async fn an_envoy_filter_of_istio_guards_everything() {
    for pod in Pod::BOTH {
        guards_everything(&patched_by_istio(pod)).await;
    }
}

#[tokio::test]
async fn an_extension_policy_of_envoy_gateway_guards_all_but_the_body() {
    guards_all_but_the_body(&extended_by_envoy_gateway()).await;
}

#[tokio::test]
async fn a_patch_policy_of_envoy_gateway_guards_everything() {
    guards_everything(&patched_by_envoy_gateway()).await;
}

#[tokio::test]
async fn proxies_of_istio_that_are_patched_for_redis_share_their_records() {
    for pod in Pod::BOTH {
        let mut proxy = patched_by_istio(pod);
        Manifest::<EnvoyFilter>::patch(FILTER_REDIS, pod, &mut proxy);
        shares_records(proxy).await;
    }
}

#[tokio::test]
async fn proxies_of_envoy_gateway_that_are_patched_for_redis_share_their_records() {
    let mut proxy = patched_by_envoy_gateway();
    Manifest::<EnvoyPatchPolicy>::patch(PATCH_REDIS, &mut proxy);
    shares_records(proxy).await;
}

fn patched_by_istio(pod: Pod) -> Proxy {
    let mut proxy = pod.proxy();
    let file = match pod {
        Pod::Gateway => FILTER_GATEWAY,
        Pod::Sidecar => FILTER_SIDECAR,
    };
    Manifest::<EnvoyFilter>::patch(file, pod, &mut proxy);
    proxy
}

fn extended_by_envoy_gateway() -> Proxy {
    Manifest::<EnvoyExtensionPolicy>::apply(EXTENSION_POLICY, &Manifest::<EnvoyProxy>::of(FILTER_ORDER))
}

fn patched_by_envoy_gateway() -> Proxy {
    let mut proxy = extended_by_envoy_gateway();
    Manifest::<ClientTrafficPolicy>::apply(BUFFER_LIMIT, &mut proxy);
    Manifest::<EnvoyPatchPolicy>::patch(PATCH_POLICY, &mut proxy);
    proxy
}

/// What the file says that it gives up: the same key with another body gets the first answer.
async fn guards_all_but_the_body(proxy: &Proxy) {
    let bench = proxy.start().await;
    for protocol in Protocol::BOTH {
        let request = request_that_is_executed_once(&bench, protocol).await;
        let first = bench.send_over(protocol, &request).await;
        assert_replay_of(&first, &bench.send_over(protocol, &request.clone().body("another")).await);
        assert_problem(&bench.send_over(protocol, &request.content_type("text/plain")).await, 422, "key-reused");
    }
    let large = by("alice", "1").key("large").body(vec![b'x'; (1 << 20) + 1]);
    assert_executed(&bench.send(&large).await, 201);
    bench.assert_executions(5);
}

async fn guards_everything(proxy: &Proxy) {
    let bench = proxy.start().await;
    for protocol in Protocol::BOTH {
        let request = request_that_is_executed_once(&bench, protocol).await;
        assert_problem(&bench.send_over(protocol, &request.body("another")).await, 422, "key-reused");
    }
    // Envoy has room for what the filter holds, and for what it takes to see that a body is too large.
    let large = by("alice", "1").key("large").body(vec![b'x'; 1 << 20]).chunked();
    assert_executed(&bench.send(&large).await, 201);
    let too_large = large.key("too-large").body(vec![b'x'; (1 << 20) + 1]);
    assert_problem(&bench.send(&too_large).await, 413, "request-too-large");
    bench.assert_executions(5);
}

/// It is replayed to its caller, also with a refreshed token, and to nobody else: neither to another who sends the same,
/// nor to one whom authorization refuses.
async fn request_that_is_executed_once(bench: &Bench, protocol: Protocol) -> Request {
    let key = format!("{protocol:?}");
    let request = by("alice", "1").key(key.clone());
    let before = bench.upstream.executions();
    let first = bench.send_over(protocol, &request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send_over(protocol, &request).await);
    assert_replay_of(&first, &bench.send_over(protocol, &by("alice", "2").key(key.clone())).await);
    assert_unguarded(&bench.send_over(protocol, &request.clone().header(DENIED, "yes")).await, 403);
    bench.assert_executions(before + 1);
    assert_executed(&bench.send_over(protocol, &by("bob", "1").key(key)).await, 201);
    bench.assert_executions(before + 2);
    request
}

/// A request with a verified token of this subject.
fn by(subject: &str, id: &str) -> Request {
    Request::post("/orders").caller(&token(&json!({ "sub": subject, "jti": id })))
}

async fn shares_records(mut proxy: Proxy) {
    let redis = RedisServer::start().await;
    let mut cluster = proxy.clusters.pop().expect("a cluster for Redis");
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    let address = cluster.pointer_mut(address).expect("the address of Redis");
    *address = json!({ "address": redis.address().ip().to_string(), "port_value": redis.address().port() });
    let code = cluster.pointer_mut(STORE_STREAM_CODE).expect("the role store_stream");
    assert_eq!(*code, json!({ "local": { "filename": "/etc/idemgate/plugin.wasm" } }));
    *code = json!({ "local": { "filename": released_module() } });
    // What a busy machine may make of a call is no error of the store.
    cluster["connect_timeout"] = json!("10s");
    let store = json!({ "redis": { "cluster": cluster["name"], "timeout": "10s" } });
    proxy.clusters.push(cluster);
    proxy.reconfigure(|configuration: &mut Value| configuration["store"] = store.clone());

    let bench = proxy.start().await;
    let other = proxy.start_another(&bench.upstream).await;
    let request = by("alice", "1").key("k");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &other.send(&request).await);
    bench.assert_executions(1);
}

const STORE_STREAM_CODE: &str = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/\
                                 http_filters/0/typed_config/config/vm_config/code";
