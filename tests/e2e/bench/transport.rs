//! The ways from the filter to Redis through Envoy, configured as users are told to.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::bootstrap::{HTTP_OPTIONS, address, cluster, wasm_filter};

/// The cluster that the filter's configuration names.
pub(super) const REDIS_CLUSTER: &str = "redis";
pub(super) const POSTGRES_CLUSTER: &str = "postgres";

/// How the filter's commands reach Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// A raw TCP cluster: one call, one connection.
    Direct,
    /// The same cluster with the module's role `store_stream`, and persistent connections.
    Streams,
    /// The same to `redis_proxy`, which keeps connections of its own.
    Pooled,
    /// The same to a Redis Cluster behind it.
    Sharded,
}

impl Transport {
    /// The largest response that it carries safely. A direct connection over loopback carries more than elsewhere.
    pub(super) fn max_record(self) -> &'static str {
        match self {
            Self::Direct => "1MiB",
            Self::Streams | Self::Pooled | Self::Sharded => "16MiB",
        }
    }

    /// How many persistent connections a worker has.
    pub(super) fn connections(self) -> u32 {
        match self {
            Self::Streams | Self::Pooled | Self::Sharded => 2,
            Self::Direct => 0,
        }
    }

    pub(super) fn clusters(self, module: &Path, redis: &Redis) -> Vec<Value> {
        match self {
            Self::Direct => vec![direct(redis)],
            Self::Streams => vec![streams(direct(redis), module)],
            Self::Pooled | Self::Sharded => {
                let mut cluster = direct(redis);
                let hosts = json!({ "endpoint": { "address": internal_address(POOL) } });
                cluster["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": [hosts] }]);
                vec![streams(cluster, module), pooled(self, redis)]
            }
        }
    }

    pub(super) fn listeners(self) -> Vec<Value> {
        match self {
            Self::Direct | Self::Streams => Vec::new(),
            Self::Pooled | Self::Sharded => vec![pool(self)],
        }
    }
}

/// The way to PostgreSQL, or to a pgbouncer in front of it: the same for both.
pub(super) fn postgres(module: &Path, servers: &[SocketAddr]) -> Value {
    let servers = Redis { addresses: servers.to_vec(), connections: None, password: None };
    let mut cluster = streams(direct(&servers), module);
    cluster["name"] = json!(POSTGRES_CLUSTER);
    cluster["load_assignment"]["cluster_name"] = json!(POSTGRES_CLUSTER);
    cluster
}

/// The servers, and how Envoy is to speak to them.
#[derive(Clone, Debug)]
pub(super) struct Redis {
    pub(super) addresses: Vec<SocketAddr>,
    /// How many connections Envoy may have at once; None for as many as anybody wants.
    pub(super) connections: Option<u32>,
    /// What `redis_proxy` logs in with; over other ways the filter does it.
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

// === the pooled transport ===

const POOL: &str = "redis_pool";

/// A listener of this Envoy.
fn internal_address(listener: &str) -> Value {
    json!({ "envoy_internal_address": { "server_listener_name": listener } })
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
