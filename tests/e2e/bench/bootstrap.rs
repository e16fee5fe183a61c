//! The Envoy configuration of a test: one listener, the filter, and a route for each way a request can end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::dynamodb::{Signing, dynamodb};
use super::envoy::released_module;
use super::hop::merge;
use super::store::Store;
use super::transport::{Redis, Transport, postgres};
use super::upstream::Door;
use super::{AUTHORITY, Mode, Protocol};

/// Two workers are two VMs: what is common to them is what the filter is about.
pub(super) const WORKERS: u64 = 2;

const DEFAULT_VM_ID: &str = "idemgate";

/// What a test may set; the default is how users are told to run the filter.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    admin: Option<AdminListener>,
    configuration: Configuration,
    connection_manager: Value,
    is_alone: bool,
    allow_on_headers_stop_iteration: bool,
    pub(super) bootstrap_fields: Value,
    has_no_store_cluster: bool,
    has_retrying_cluster: bool,
    proxies_100_continue: bool,
    buffer_limit: Option<u32>,
    pub(super) environment: Vec<(&'static str, PathBuf)>,
    filters_after: Vec<Value>,
    filters_before: Vec<Value>,
    pub(super) hot_restart: Option<HotRestart>,
    pub(super) is_discovered: bool,
    log_format: Value,
    pub(super) module: Module,
    pub(super) pipe: Option<PathBuf>,
    redis: RedisSettings,
    route_config: Value,
    route_fields: Value,
    signing: Signing,
    pub(super) store: Store,
    shown_variables: Vec<&'static str>,
    upstream_cluster: Value,
    upstream_options: Value,
    pub(super) upstream_door: Door,
    pub(super) upstream_protocol: Protocol,
    virtual_host: Value,
    vm_id: String,
    pub(super) workers: u64,
}

/// Processes that take the listener over from each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HotRestart {
    /// By which they find each other: nobody else on this machine may have it. It is their port, too.
    pub(crate) id: u16,
    /// How many were there before.
    pub(crate) epoch: u32,
}

impl HotRestart {
    /// Removes the memory that Envoys share, which they leave behind.
    pub(crate) fn leaves_nothing(self) {
        let _ = fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}0", self.id));
    }
}

/// How Envoy speaks to Redis, apart from where it is.
#[derive(Clone, Copy, Debug, Default)]
struct RedisSettings {
    connections: Option<u32>,
    password: Option<&'static str>,
}

/// A second listener, with the role `admin`.
#[derive(Clone, Debug)]
pub(crate) struct AdminListener {
    address: Value,
    configuration: Value,
    filters_before: Vec<Value>,
    is_declared: bool,
    allow_on_headers_stop_iteration: bool,
}

impl AdminListener {
    /// With the settings of a filter and this guard, at a loopback address.
    pub(crate) fn new(guard: &str, configuration: &Value) -> Self {
        let mut configuration = Store::current().apply(configuration.clone());
        configuration["role"] = json!("admin");
        configuration["guard"] = json!(guard);
        Self {
            address: address(SocketAddr::from(([127, 0, 0, 1], 0))),
            configuration,
            filters_before: Vec::new(),
            is_declared: false,
            allow_on_headers_stop_iteration: true,
        }
    }

    /// Its metadata declares that filters guard it.
    pub(crate) fn declared(mut self) -> Self {
        self.is_declared = true;
        self
    }

    /// An HTTP filter in front of it.
    pub(crate) fn filter_before(mut self, filter: Value) -> Self {
        self.filters_before.push(filter);
        self
    }

    /// At every address of this machine.
    pub(crate) fn everywhere(mut self) -> Self {
        self.address = address(SocketAddr::from(([0, 0, 0, 0], 0)));
        self
    }

    /// At a Unix socket.
    pub(crate) fn pipe(mut self, path: &Path) -> Self {
        self.address = json!({ "pipe": { "path": path } });
        self
    }

    /// A host that does not hand over the body while headers are held.
    pub(crate) fn without_stop_iteration(mut self) -> Self {
        self.allow_on_headers_stop_iteration = false;
        self
    }

    fn listener(&self, module: &Path, vm_id: &str) -> Value {
        let configuration = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": self.configuration.to_string(),
        });
        let mut filter = wasm_filter(module, vm_id, Some(&configuration));
        if !self.allow_on_headers_stop_iteration {
            filter["typed_config"]["config"]["allow_on_headers_stop_iteration"].take();
        }
        let mut filters = self.filters_before.clone();
        filters.push(filter);
        filters.push(json!({
            "name": "router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }));
        let mut listener = json!({
            "name": "admin",
            "address": self.address,
            "filter_chains": [{ "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "admin",
                    "http_protocol_options": { "enable_trailers": true },
                    "route_config": { "virtual_hosts": [{
                        // Whatever passes the admin would reach the service, and be counted there.
                        "name": "all", "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
                    }] },
                    "http_filters": filters,
                },
            }] }],
        });
        if self.is_declared {
            listener["metadata"] = json!({ "filter_metadata": { "idemgate": { "admin": true } } });
        }
        listener
    }
}

/// What a started Envoy has behind it.
#[derive(Clone, Debug)]
pub(super) struct Backends {
    /// Where the store is; empty if it is in Envoy.
    pub(super) store: Vec<SocketAddr>,
    pub(super) upstream: SocketAddr,
}

/// What an Envoy is made of for a test.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) listeners: Vec<Value>,
    pub(super) clusters: Vec<Value>,
}

/// Which build of the filter runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Module {
    /// The one that tests can make panic.
    CrashTest,
    Released,
}

#[derive(Clone, Debug)]
enum Configuration {
    Absent,
    Struct(Value),
    Text(String),
}

impl Setup {
    /// The filter with this configuration.
    pub(crate) fn new(configuration: &Value) -> Self {
        Self::with(Configuration::Text(Store::current().apply(Mode::apply(configuration)).to_string()))
    }

    /// The filter with this configuration, and its records in Redis.
    pub(crate) fn redis(transport: Transport, configuration: &Value) -> Self {
        Self::on(Store::Redis(transport), configuration)
    }

    /// The filter with this configuration, and its records in PostgreSQL.
    pub(crate) fn postgres(configuration: &Value) -> Self {
        Self::on(Store::Postgres, configuration)
    }

    /// The filter with this configuration, and its records in DynamoDB.
    pub(crate) fn dynamodb(configuration: &Value) -> Self {
        Self::on(Store::DynamoDb, configuration)
    }

    /// How Envoy speaks to DynamoDB, if not signed.
    pub(crate) fn signing(mut self, signing: Signing) -> Self {
        self.signing = signing;
        self
    }

    fn on(store: Store, configuration: &Value) -> Self {
        let mut setup = Self::with(Configuration::Text(store.apply(Mode::apply(configuration)).to_string()));
        setup.store = store;
        setup
    }

    /// The filter with a configuration that need not be JSON.
    pub(crate) fn with_text(configuration: &str) -> Self {
        Self::with(Configuration::Text(configuration.to_owned()))
    }

    /// The filter with a configuration given as a `google.protobuf.Struct`.
    pub(crate) fn with_struct(configuration: Value) -> Self {
        Self::with(Configuration::Struct(configuration))
    }

    /// The filter without any configuration.
    pub(crate) fn unconfigured() -> Self {
        Self::with(Configuration::Absent)
    }

    fn with(configuration: Configuration) -> Self {
        Self {
            admin: None,
            configuration,
            connection_manager: json!({}),
            is_alone: false,
            allow_on_headers_stop_iteration: true,
            bootstrap_fields: json!({}),
            has_no_store_cluster: false,
            signing: Signing::default(),
            has_retrying_cluster: false,
            proxies_100_continue: false,
            buffer_limit: None,
            environment: Vec::new(),
            filters_after: Vec::new(),
            filters_before: Vec::new(),
            hot_restart: None,
            is_discovered: false,
            log_format: json!({ "text_format_source": { "inline_string": ACCESS_LOG } }),
            module: Module::Released,
            pipe: None,
            redis: RedisSettings::default(),
            route_config: json!({}),
            route_fields: json!({}),
            store: Store::current(),
            shown_variables: Vec::new(),
            upstream_cluster: json!({}),
            upstream_options: json!({}),
            upstream_door: Door::Open,
            upstream_protocol: Protocol::Http1,
            virtual_host: json!({}),
            vm_id: DEFAULT_VM_ID.to_owned(),
            workers: WORKERS,
        }
    }

    /// A host that does not hand over the body while headers are held, as with Istio's own API.
    pub(crate) fn without_stop_iteration(mut self) -> Self {
        self.allow_on_headers_stop_iteration = false;
        self
    }

    /// There is a cluster `retrying` that leads to the upstream, with a retry policy of its own (Envoy 1.37).
    pub(crate) fn retrying_cluster(mut self) -> Self {
        self.has_retrying_cluster = true;
        self
    }

    /// `Expect: 100-continue` is left to the service (`proxy_100_continue`).
    pub(crate) fn proxying_100_continue(mut self) -> Self {
        self.proxies_100_continue = true;
        self
    }

    /// These fields of the bootstrap, too.
    pub(crate) fn bootstrap_with(mut self, fields: &Value) -> Self {
        self.bootstrap_fields = fields.clone();
        self
    }

    /// These fields of the HTTP connection manager, too.
    pub(crate) fn connection_manager(mut self, fields: Value) -> Self {
        self.connection_manager = fields;
        self
    }

    /// These fields of the route configuration, too.
    pub(crate) fn route_config(mut self, fields: Value) -> Self {
        self.route_config = fields;
        self
    }

    /// These fields of each route, too.
    pub(crate) fn every_route(mut self, fields: Value) -> Self {
        self.route_fields = fields;
        self
    }

    /// These fields of the virtual host, too.
    pub(crate) fn virtual_host(mut self, fields: Value) -> Self {
        self.virtual_host = fields;
        self
    }

    /// Fields of the upstream's cluster.
    pub(crate) fn upstream_cluster(mut self, fields: Value) -> Self {
        self.upstream_cluster = fields;
        self
    }

    /// Fields of its `HttpProtocolOptions`.
    pub(crate) fn upstream_options(mut self, fields: Value) -> Self {
        self.upstream_options = fields;
        self
    }

    /// The filter is shown this environment variable of Envoy's.
    pub(crate) fn shown_variable(mut self, name: &'static str) -> Self {
        self.shown_variables.push(name);
        self
    }

    /// Another listener for operators.
    pub(crate) fn admin(mut self, admin: AdminListener) -> Self {
        self.admin = Some(admin);
        self
    }

    /// The access log has this `log_format`.
    pub(crate) fn log_format(mut self, format: &Value) -> Self {
        self.log_format = format.clone();
        self
    }

    /// `per_connection_buffer_limit_bytes` of the listener.
    pub(crate) fn buffer_limit(mut self, bytes: u32) -> Self {
        self.buffer_limit = Some(bytes);
        self
    }

    /// Envoy has these variables in its environment, too.
    pub(crate) fn environment(mut self, variables: &[(&'static str, PathBuf)]) -> Self {
        self.environment.extend_from_slice(variables);
        self
    }

    /// It takes over from the process of the epoch before.
    pub(crate) fn hot_restart(mut self, restart: HotRestart) -> Self {
        self.hot_restart = Some(restart);
        self
    }

    /// An HTTP filter between Idemgate and the router.
    pub(crate) fn filter_after(mut self, filter: Value) -> Self {
        self.filters_after.push(filter);
        self
    }

    /// An HTTP filter in front of Idemgate.
    pub(crate) fn filter_before(mut self, filter: Value) -> Self {
        self.filters_before.push(filter);
        self
    }

    /// Another Idemgate in front of this one, with a VM and a configuration of its own, and the same store.
    pub(crate) fn behind_another(self, vm_id: &str, configuration: &Value) -> Self {
        let configuration = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": self.store.apply(configuration.clone()).to_string(),
        });
        self.filter_before(wasm_filter(&released_module(), vm_id, Some(&configuration)))
    }

    /// The listener comes from a file that can be changed while Envoy runs.
    pub(crate) fn discovered(mut self) -> Self {
        self.is_discovered = true;
        self
    }

    /// The upstream speaks HTTP/2.
    pub(crate) fn http2_upstream(mut self) -> Self {
        self.upstream_protocol = Protocol::Http2;
        self
    }

    /// `redis_proxy` logs in with this password; directly, the filter does so by its own configuration.
    pub(crate) fn redis_password(mut self, password: &'static str) -> Self {
        self.redis.password = Some(password);
        self
    }

    /// How many connections to Redis Envoy may have at once.
    pub(crate) fn redis_connections(mut self, connections: u32) -> Self {
        self.redis.connections = Some(connections);
        self
    }

    /// Envoy does not know the cluster that the filter is told to use.
    pub(crate) fn without_store_cluster(mut self) -> Self {
        self.has_no_store_cluster = true;
        self
    }

    /// The upstream refuses connections until the test opens it.
    pub(crate) fn upstream_shut(mut self) -> Self {
        self.upstream_door = Door::Shut;
        self
    }

    /// Connections to the upstream are neither accepted nor refused until the test opens it.
    pub(crate) fn upstream_deaf(mut self) -> Self {
        self.upstream_door = Door::Deaf;
        self
    }

    /// `/piped` is answered by the upstream too, over the Unix domain socket `path`.
    pub(crate) fn upstream_pipe(mut self, path: PathBuf) -> Self {
        self.pipe = Some(path);
        self
    }

    /// The build of the filter that panics when a request says so.
    pub(crate) fn that_can_crash(mut self) -> Self {
        self.module = Module::CrashTest;
        self
    }

    /// `vm_id`, which is the name space of shared data; Istio leaves it empty.
    pub(crate) fn vm_id(mut self, vm_id: &str) -> Self {
        self.vm_id = vm_id.to_owned();
        self
    }

    /// In a name space of shared data with this number, unless the test has chosen one.
    pub(super) fn in_name_space(mut self, number: u32) -> Self {
        if self.vm_id == DEFAULT_VM_ID {
            self.vm_id = format!("{DEFAULT_VM_ID}-{number}");
        }
        self
    }

    /// In a process that nobody has had before, for tests that look at its memory.
    pub(crate) fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// How many workers Envoy has.
    pub(crate) fn workers(mut self, workers: u64) -> Self {
        self.workers = workers;
        self
    }

    /// Whether all that it says, but for the fields of the bootstrap, can come and go while Envoy runs.
    pub(super) fn is_for_any_process(&self) -> bool {
        let is_of_the_process = self.is_alone
            || self.is_discovered
            || self.hot_restart.is_some()
            || self.workers != WORKERS
            || !self.environment.is_empty();
        !is_of_the_process
    }

    pub(super) fn bootstrap(&self, module: &Path, access_log: &Path, backends: &Backends) -> Value {
        let Resources { listeners, clusters } = self.resources(module, access_log, backends);
        let mut bootstrap = bootstrap(&listeners, &clusters);
        self.add_bootstrap_fields(&mut bootstrap);
        bootstrap
    }

    pub(super) fn add_bootstrap_fields(&self, bootstrap: &mut Value) {
        for (name, field) in self.bootstrap_fields.as_object().into_iter().flatten() {
            bootstrap[name] = field.clone();
        }
    }

    pub(super) fn resources(&self, module: &Path, access_log: &Path, backends: &Backends) -> Resources {
        let mut listeners = vec![self.listener(module, access_log)];
        listeners.extend(self.admin.iter().map(|admin| admin.listener(module, &self.vm_id)));
        let mut clusters = self.clusters(backends.upstream);
        match self.store {
            _ if self.has_no_store_cluster => {}
            Store::Postgres => clusters.push(postgres(module, &backends.store)),
            Store::Redis(transport) => {
                let redis = Redis {
                    addresses: backends.store.clone(),
                    connections: self.redis.connections,
                    password: self.redis.password,
                };
                listeners.extend(transport.listeners());
                clusters.extend(transport.clusters(module, &redis));
            }
            Store::DynamoDb => clusters.extend(backends.store.iter().map(|server| dynamodb(*server, self.signing))),
            Store::SharedData => {}
        }
        Resources { listeners, clusters }
    }

    fn listener(&self, module: &Path, access_log: &Path) -> Value {
        let mut filters = self.filters_before.clone();
        filters.push(self.filter(module));
        filters.extend(self.filters_after.iter().cloned());
        filters.push(json!({
            "name": "router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }));
        let mut routes = routes();
        routes.as_array_mut().into_iter().flatten().for_each(|route| merge(route, &self.route_fields));
        let mut virtual_host = json!({ "name": "all", "domains": ["*"], "routes": routes });
        merge(&mut virtual_host, &self.virtual_host);
        let mut route_config = json!({ "validate_clusters": false, "virtual_hosts": [virtual_host] });
        merge(&mut route_config, &self.route_config);
        let mut connection_manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "ingress",
            "http_protocol_options": { "enable_trailers": true },
            "proxy_100_continue": self.proxies_100_continue,
            "access_log": [{
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": access_log,
                    "log_format": self.log_format,
                },
            }],
            "route_config": route_config,
            "http_filters": filters,
        });
        merge(&mut connection_manager, &self.connection_manager);
        let mut listener = json!({
            "name": "ingress",
            "address": address(SocketAddr::from(([127, 0, 0, 1], self.hot_restart.map_or(0, |restart| restart.id)))),
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": connection_manager }] }],
        });
        if let Some(limit) = self.buffer_limit {
            listener["per_connection_buffer_limit_bytes"] = json!(limit);
        }
        listener
    }

    fn filter(&self, module: &Path) -> Value {
        let configuration = match &self.configuration {
            Configuration::Absent => None,
            Configuration::Struct(value) => {
                Some(json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": value }))
            }
            Configuration::Text(text) => {
                Some(json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text }))
            }
        };
        let mut filter = wasm_filter(module, &self.vm_id, configuration.as_ref());
        if !self.shown_variables.is_empty() {
            filter["typed_config"]["config"]["vm_config"]["environment_variables"] =
                json!({ "host_env_keys": self.shown_variables });
        }
        if !self.allow_on_headers_stop_iteration {
            filter["typed_config"]["config"]["allow_on_headers_stop_iteration"].take();
        }
        filter
    }

    fn clusters(&self, upstream: SocketAddr) -> Vec<Value> {
        let protocol = match self.upstream_protocol {
            Protocol::Http1 => json!({ "http_protocol_options": { "enable_trailers": true } }),
            Protocol::Http2 => json!({ "http2_protocol_options": {} }),
        };
        let upstream = [address(upstream)];
        let mut clusters = vec![cluster("upstream", &upstream, &protocol), cluster("hostless", &[], &protocol)];
        merge(&mut clusters[0], &self.upstream_cluster);
        merge(&mut clusters[0]["typed_extension_protocol_options"][HTTP_OPTIONS], &self.upstream_options);
        for limit in ["max_pending_requests", "max_requests"] {
            let mut overflowing = cluster(limit, &upstream, &protocol);
            overflowing["circuit_breakers"]["thresholds"][0][limit] = json!(0);
            clusters.push(overflowing);
        }
        if self.has_retrying_cluster {
            let mut retrying = cluster("retrying", &upstream, &protocol);
            retrying["typed_extension_protocol_options"][HTTP_OPTIONS]["retry_policy"] =
                json!({ "retry_on": "5xx,reset", "num_retries": 2, "retry_back_off": { "base_interval": "0.01s" } });
            clusters.push(retrying);
        }
        if let Some(path) = &self.pipe {
            clusters.push(cluster("piped", &[json!({ "pipe": { "path": path } })], &protocol));
        }
        clusters
    }
}

/// The configuration that Envoy starts with.
pub(super) fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "admin": { "address": address(SocketAddr::from(([127, 0, 0, 1], 0))) },
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            },
        }],
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

/// One line per request: what a test looks for there.
const ACCESS_LOG: &str = "tag=%REQ(X-TAG)% code=%RESPONSE_CODE% status=%FILTER_STATE(wasm.idemgate.status:PLAIN)% \
                          operation=%FILTER_STATE(wasm.idemgate.operation:PLAIN)% \
                          sent_from=%UPSTREAM_LOCAL_ADDRESS% \
                          sent_to=%UPSTREAM_HOST% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% details=%RESPONSE_CODE_DETAILS%\n";

/// First match wins. Whatever has no path of its own here goes to the upstream.
fn routes() -> Value {
    json!([
        // No upstream at all: Envoy's own answer.
        { "match": { "path": "/direct" }, "direct_response": { "status": 418, "body": { "inline_string": "teapot" } } },
        { "match": { "path": "/hostless" }, "route": { "cluster": "hostless" } },
        { "match": { "path": "/no-room-to-wait" }, "route": { "cluster": "max_pending_requests" } },
        { "match": { "path": "/no-room-to-run" }, "route": { "cluster": "max_requests" } },
        { "match": { "path": "/unknown-cluster" }, "route": { "cluster": "nobody-knows" } },
        // The upstream is asked, and Envoy does not wait for the answer.
        { "match": { "path": "/impatient" }, "route": { "cluster": "upstream", "timeout": "0.3s" } },
        { "match": { "prefix": "/impatient/" }, "route": { "cluster": "upstream", "timeout": "0.3s" } },
        { "match": { "path": "/retried" }, "route": {
            "cluster": "upstream", "timeout": "30s",
            "retry_policy": { "retry_on": "5xx,reset", "num_retries": 2, "retry_back_off": { "base_interval": "0.01s" } },
        } },
        { "match": { "path": "/redirected" }, "route": {
            "cluster": "upstream", "timeout": "30s",
            "internal_redirect_policy": { "redirect_response_codes": [303, 307] },
        } },
        { "match": { "path": "/piped" }, "route": {
            "cluster": "piped", "timeout": "30s",
            "retry_policy": { "retry_on": "reset,connect-failure", "num_retries": 1 },
        } },
        { "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "30s" } },
    ])
}

/// The module with `configuration`, in a VM of its own.
pub(super) fn wasm_filter(module: &Path, vm_id: &str, configuration: Option<&Value>) -> Value {
    let mut config = json!({
        "name": "idemgate",
        "root_id": "idemgate",
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
        },
        "allow_on_headers_stop_iteration": true,
        "failure_policy": "FAIL_RELOAD",
        "reload_config": { "backoff": { "base_interval": "0.1s" } },
    });
    if let Some(configuration) = configuration {
        config["configuration"] = configuration.clone();
    }
    json!({
        "name": "idemgate",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": config,
        },
    })
}

pub(super) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn cluster(name: &str, hosts: &[Value], protocol: &Value) -> Value {
    let endpoints: Vec<Value> = hosts.iter().map(|host| json!({ "endpoint": { "address": host } })).collect();
    json!({
        "name": name,
        // Longer than any test waits: what a test does not end stays as it is.
        "connect_timeout": "60s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        }] },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
            },
        },
    })
}

pub(super) fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// An RBAC filter that refuses requests with the header `name` and lets the others pass.
pub(crate) fn deny_header(name: &str) -> Value {
    json!({
        "name": "rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": { "action": "DENY", "policies": { "denied": {
                "permissions": [{ "header": { "name": name, "present_match": true } }],
                "principals": [{ "any": true }],
            } } },
        },
    })
}

/// A Lua filter that runs `script` on requests.
pub(crate) fn lua(script: &str) -> Value {
    json!({
        "name": "lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": { "inline_string": format!("function envoy_on_request(request) {script} end") },
        },
    })
}

/// A Lua filter that runs `script` on responses.
pub(crate) fn lua_on_response(script: &str) -> Value {
    json!({
        "name": "lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": { "inline_string": format!("function envoy_on_response(response) {script} end") },
        },
    })
}

/// A rate limit that lets one request through.
pub(crate) fn one_request_a_day() -> Value {
    let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    json!({
        "name": "local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "none",
            "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "86400s" },
            "filter_enabled": always,
            "filter_enforced": always,
        },
    })
}

/// A filter that compresses responses for clients that accept gzip.
pub(crate) fn compressor() -> Value {
    json!({
        "name": "compressor",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor",
            "response_direction_config": { "common_config": { "min_content_length": 30 } },
            "compressor_library": {
                "name": "gzip",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip",
                },
            },
        },
    })
}

/// A filter that unpacks requests that come with gzip.
pub(crate) fn decompressor() -> Value {
    json!({
        "name": "decompressor",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor",
            "decompressor_library": {
                "name": "gzip",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip",
                },
            },
        },
    })
}

/// A filter that holds every request back for this long.
pub(crate) fn delay(duration: &str) -> Value {
    json!({
        "name": "fault",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": { "fixed_delay": duration, "percentage": { "numerator": 100 } },
        },
    })
}

/// The location of an internal redirect, on the host that the tests ask.
pub(crate) fn location(path: &str) -> String {
    format!("http://{AUTHORITY}{path}")
}
