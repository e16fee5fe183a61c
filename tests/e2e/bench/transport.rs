//! The ways from the filter to Redis through Envoy, configured as users are told to.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::bootstrap::{HTTP_OPTIONS, address, cluster, wasm_filter};

/// The cluster that the filter's configuration names.
pub(super) const REDIS_CLUSTER: &str = "redis";

/// How the filter's commands reach Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// A raw TCP cluster: one call, one connection.
    Direct,
    /// The same cluster with the module's role `store_stream`, and persistent connections.
    Streams,
    /// Persistent connections to `redis_proxy`, which keeps its own.
    PooledStreams,
    /// The module's second role in front of `redis_proxy`, which keeps its connections.
    Pooled,
    /// The same in front of a Redis Cluster.
    Sharded,
}

impl Transport {
    /// The largest response that it carries safely. A direct connection over loopback carries more than elsewhere.
    pub(super) fn max_record(self) -> &'static str {
        match self {
            Self::Direct => "1MiB",
            Self::Streams | Self::PooledStreams | Self::Pooled | Self::Sharded => "16MiB",
        }
    }

    /// How many persistent connections a worker has.
    pub(super) fn connections(self) -> u32 {
        match self {
            Self::Streams | Self::PooledStreams => 2,
            Self::Direct | Self::Pooled | Self::Sharded => 0,
        }
    }

    pub(super) fn clusters(self, module: &Path, redis: &Redis) -> Vec<Value> {
        match self {
            Self::Direct => vec![direct(redis)],
            Self::Streams => vec![streams(direct(redis), module)],
            Self::PooledStreams => {
                let mut cluster = direct(redis);
                let hosts = json!({ "endpoint": { "address": internal_address(POOL) } });
                cluster["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": [hosts] }]);
                vec![streams(cluster, module), pooled(self, redis)]
            }
            Self::Pooled | Self::Sharded => {
                vec![internal(REDIS_CLUSTER, HOLD), internal("to_redis_proxy", POOL), pooled(self, redis)]
            }
        }
    }

    pub(super) fn listeners(self, module: &Path) -> Vec<Value> {
        match self {
            Self::Direct | Self::Streams => Vec::new(),
            Self::PooledStreams => vec![pool(self)],
            Self::Pooled | Self::Sharded => vec![hold(module), pool(self)],
        }
    }
}

/// The servers, and how Envoy is to speak to them.
#[derive(Clone, Debug)]
pub(super) struct Redis {
    pub(super) addresses: Vec<SocketAddr>,
    /// How many connections Envoy may have at once; None for as many as anybody wants.
    pub(super) connections: Option<u32>,
    /// What `redis_proxy` logs in with; over a direct connection the filter does it.
    pub(super) password: Option<&'static str>,
}

fn direct(redis: &Redis) -> Value {
    let mut direct = tcp_cluster(REDIS_CLUSTER, redis);
    direct["upstream_config"] = json!({
        "name": "envoy.upstreams.http.tcp",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto",
        },
    });
    direct["typed_extension_protocol_options"] = json!({ HTTP_OPTIONS: {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        // Envoy would take the connection that has just been answered, and is closed by half, for another call.
        "common_http_protocol_options": { "max_requests_per_connection": 1 },
        "explicit_http_config": { "http_protocol_options": {} },
    } });
    direct
}

/// Puts the role that knows the filter's streams in front of a cluster.
fn streams(mut cluster: Value, module: &Path) -> Value {
    let role = json!({
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        "value": json!({ "role": "store_stream" }).to_string(),
    });
    cluster["typed_extension_protocol_options"][HTTP_OPTIONS]["http_filters"] = json!([
        // A VM of its own: the filter's would be called while it calls.
        wasm_filter(module, "store_stream", Some(&role)),
        {
            "name": "codec",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            },
        },
    ]);
    cluster
}

fn pooled(transport: Transport, redis: &Redis) -> Value {
    let mut pooled = tcp_cluster("redis_servers", redis);
    if transport == Transport::Sharded {
        pooled["lb_policy"] = json!("CLUSTER_PROVIDED");
        pooled["cluster_type"] = json!({
            "name": "envoy.clusters.redis",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.redis.v3.RedisClusterConfig",
                "cluster_refresh_rate": "1s",
                "cluster_refresh_timeout": "1s",
            },
        });
    }
    if let Some(password) = redis.password {
        pooled["typed_extension_protocol_options"] = json!({ "envoy.filters.network.redis_proxy": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions",
            "auth_password": { "inline_string": password },
        } });
    }
    pooled
}

fn tcp_cluster(name: &str, redis: &Redis) -> Value {
    let hosts: Vec<_> = redis.addresses.iter().map(|server| address(*server)).collect();
    let mut tcp = cluster(name, &hosts, &json!({}));
    tcp["connect_timeout"] = json!("5s");
    if let Some(connections) = redis.connections {
        let limits = json!({ "max_connections": connections, "max_pending_requests": connections });
        tcp["circuit_breakers"]["thresholds"] = json!([limits]);
    }
    if let Some(tcp) = tcp.as_object_mut() {
        tcp.remove("typed_extension_protocol_options");
    }
    tcp
}

// === the listeners of the pooled transport ===

const HOLD: &str = "redis_hold";
const POOL: &str = "redis_pool";

/// A cluster whose host is a listener of this Envoy.
fn internal(name: &str, listener: &str) -> Value {
    let mut internal = cluster(name, &[internal_address(listener)], &json!({ "http_protocol_options": {} }));
    if name != REDIS_CLUSTER
        && let Some(tcp) = internal.as_object_mut()
    {
        tcp.remove("typed_extension_protocol_options");
    }
    internal
}

fn internal_address(listener: &str) -> Value {
    json!({ "envoy_internal_address": { "server_listener_name": listener } })
}

/// Keeps the end of a request back until all replies are in.
fn hold(module: &Path) -> Value {
    let bridge = json!({ "role": "redis_bridge" }).to_string();
    let upgrade = json!([{ "upgrade_type": "CONNECT" }]);
    json!({
        "name": HOLD,
        // Replies larger than this would be answered with 500.
        "per_connection_buffer_limit_bytes": 32 << 20,
        "internal_listener": {},
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": HOLD,
                "upgrade_configs": upgrade,
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
                    "match": { "prefix": "/" },
                    "route": {
                        "cluster": "to_redis_proxy",
                        "timeout": "0s",
                        "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": { "allow_post": true } }],
                    },
                }] }] },
                "http_filters": [
                    wasm_filter(module, "redis_bridge", Some(&json!({
                        "@type": "type.googleapis.com/google.protobuf.StringValue", "value": bridge,
                    }))),
                    {
                        "name": "router",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        },
                    },
                ],
            },
        }] }],
    })
}

fn pool(transport: Transport) -> Value {
    json!({
        "name": POOL,
        "internal_listener": {},
        "filter_chains": [{ "filters": [{
            "name": "redis_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                "stat_prefix": POOL,
                // Below the store's timeout of these tests, and above what a crowded machine stands still for.
                "settings": { "op_timeout": "9s", "enable_redirection": transport == Transport::Sharded },
                "prefix_routes": { "catch_all_route": { "cluster": "redis_servers" } },
            },
        }] }],
    })
}
