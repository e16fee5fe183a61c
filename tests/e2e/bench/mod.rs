//! The test bench: a real Envoy with the built module between scripted clients and a scripted upstream.

#![allow(dead_code, unused_imports, unused_macros, reason = "each of the tests that share this uses a part of it")]

mod answer;
mod bootstrap;
mod certificates;
mod discovery;
mod dynamodb;
mod envoy;
mod expect;
mod fake_redis;
mod fleet;
mod gate;
mod hop;
mod http1;
mod http2;
mod jwt;
mod lot;
mod message;
mod mode;
mod postgres;
pub(crate) mod promql;
mod redis;
mod resp;
mod signal;
mod spares;
mod store;
mod temp_dir;
mod throttle;
mod transport;
mod upload;
mod upstream;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

pub(crate) use answer::Answer;
pub(crate) use bootstrap::{
    AdminListener, HotRestart, Setup, compressor, decompressor, delay, deny_header, location, lua, lua_on_response,
    one_request_a_day,
};
pub(crate) use certificates::Certificates;
pub(crate) use dynamodb::{DynamoDbServer, Signing, TABLE};
pub(crate) use envoy::{Envoy, SECRET, is_since, refusal, released_module};
pub(crate) use expect::{
    assert_executed, assert_in_flight, assert_problem, assert_released, assert_replay_of, assert_retry_after,
    assert_unguarded, assert_unknown, idempotency_fields,
};
pub(crate) use fake_redis::{FakeRedis, Fault, Twist};
pub(crate) use fleet::Fleet;
pub(crate) use gate::Gate;
pub(crate) use hop::Hop;
pub(crate) use http1::{Http1, encode};
pub(crate) use http2::Http2;
pub(crate) use jwt::{jwt_authn, token};
pub(crate) use lot::{AnnouncedSeed, Lot, from_environment};
pub(crate) use message::{Request, Response};
pub(crate) use mode::{Mode, also_detached};
pub(crate) use postgres::{Pgbouncer, PostgresServer, Release, SCHEMA};
pub(crate) use redis::{RedisCluster, RedisServer, free_port};
pub(crate) use resp::Reply;
pub(crate) use store::{Store, also_on_remote_stores};
pub(crate) use temp_dir::TempDir;
pub(crate) use throttle::Throttle;
pub(crate) use transport::Transport;
pub(crate) use upload::{TRAILER, Upload, Way};
pub(crate) use upstream::{Seen, Upstream};

use bootstrap::Backends;
use upstream::Door;

/// How long anything may take on a busy machine before it counts as hung. No test waits that long to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The authority of every request that does not say otherwise.
pub(crate) const AUTHORITY: &str = "orders.example";

/// How a client or an upstream speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::Http1, Self::Http2];
}

/// An Envoy with two workers, and what is behind it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) envoy: Envoy,
    /// The server that the filter keeps its records in, if the scenario runs on PostgreSQL.
    pub(crate) postgres: Option<PostgresServer>,
    /// The same if it runs on Redis.
    pub(crate) redis: Option<RedisServer>,
    /// The same if it runs on DynamoDB.
    pub(crate) dynalite: Option<DynamoDbServer>,
    pub(crate) upstream: Upstream,
}

impl Bench {
    /// The filter with this configuration, and everything else as users are told to have it.
    pub(crate) async fn new(configuration: Value) -> Self {
        Self::start(Setup::new(&configuration)).await
    }

    pub(crate) async fn start(setup: Setup) -> Self {
        let Servers { postgres, redis, dynalite, addresses } = Servers::of(setup.store).await;
        Self { postgres, redis, dynalite, ..Self::start_on(setup, addresses).await }
    }

    /// With another proxy between Envoy and the upstream; the test has started both.
    pub(crate) async fn through(hop: &Envoy, upstream: Upstream, setup: Setup) -> Self {
        let Servers { postgres, redis, dynalite, addresses } = Servers::of(setup.store).await;
        let envoy = Envoy::start(&setup, Backends { store: addresses, upstream: hop.address() }).await;
        Self { envoy, postgres, redis, dynalite, upstream }
    }

    /// With a store at these addresses, which the test has started.
    pub(crate) async fn start_on(setup: Setup, store: Vec<SocketAddr>) -> Self {
        let upstream = Upstream::with_door(setup.upstream_protocol, setup.upstream_door);
        if let Some(path) = &setup.pipe {
            upstream.open_pipe(path);
        }
        let envoy = Envoy::start(&setup, Backends { store, upstream: upstream.address() }).await;
        Self { envoy, postgres: None, redis: None, dynalite: None, upstream }
    }

    /// The `envoy.yaml` that users are told to copy.
    pub(crate) async fn shipped() -> Self {
        Self::start_file("envoy.yaml", Door::Open).await
    }

    /// The `envoy.yaml` of an example.
    pub(crate) async fn example(name: &str) -> Self {
        Self::start_file(&format!("examples/{name}/envoy.yaml"), Door::Open).await
    }

    /// The same with an upstream that refuses connections until the test opens it.
    pub(crate) async fn example_with_upstream_shut(name: &str) -> Self {
        Self::start_file(&format!("examples/{name}/envoy.yaml"), Door::Shut).await
    }

    /// The `envoy.yaml` of an example, with other texts in it.
    pub(crate) async fn example_with(name: &str, replaced: &[(String, String)]) -> Self {
        let upstream = Upstream::with_door(Protocol::Http1, Door::Open);
        let envoy = Self::another_envoy(name, &upstream, replaced).await;
        Self { envoy, postgres: None, redis: None, dynalite: None, upstream }
    }

    /// Another Envoy of an example, in front of the same upstream.
    pub(crate) async fn another_envoy(name: &str, upstream: &Upstream, replaced: &[(String, String)]) -> Envoy {
        Envoy::shipped_with(&format!("examples/{name}/envoy.yaml"), upstream.address(), replaced).await
    }

    /// An example whose first request runs, and whose retry is replayed by the same Envoy and by another one that has never
    /// seen it.
    pub(crate) async fn replayed_by_another_envoy(name: &str, replaced: &[(String, String)]) -> Self {
        let bench = Self::example_with(name, replaced).await;
        let request = Request::post("/orders").key("k");
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request).await);
        assert_problem(&bench.send(&request.clone().body("another")).await, 422, "key-reused");
        let other = Self::another_envoy(name, &bench.upstream, replaced).await;
        assert_replay_of(&first, &other.send(&request).await);
        bench.assert_executions(1);
        bench
    }

    /// With a bootstrap that the test makes by itself, for this upstream and with files in this directory.
    pub(crate) async fn with_bootstrap(bootstrap: impl FnOnce(SocketAddr, &TempDir) -> Value) -> Self {
        let upstream = Upstream::with_door(Protocol::Http1, Door::Open);
        let address = upstream.address();
        let envoy = Envoy::with_bootstrap(|directory| bootstrap(address, directory), address).await;
        Self { envoy, postgres: None, redis: None, dynalite: None, upstream }
    }

    async fn start_file(file: &str, door: Door) -> Self {
        let upstream = Upstream::with_door(Protocol::Http1, door);
        let envoy = Envoy::shipped(file, upstream.address()).await;
        Self { envoy, postgres: None, redis: None, dynalite: None, upstream }
    }

    /// The server of the store stands still from now on, if there is one.
    pub(crate) fn pause_store(&self) {
        if let Some(postgres) = &self.postgres {
            postgres.pause();
        }
        if let Some(redis) = &self.redis {
            redis.pause();
        }
        if let Some(dynalite) = &self.dynalite {
            dynalite.pause();
        }
    }

    pub(crate) fn resume_store(&self) {
        if let Some(postgres) = &self.postgres {
            postgres.resume();
        }
        if let Some(redis) = &self.redis {
            redis.resume();
        }
        if let Some(dynalite) = &self.dynalite {
            dynalite.resume();
        }
    }

    /// Ends the server of the store as a crash does.
    pub(crate) fn kill_store(&mut self) {
        if let Some(postgres) = &mut self.postgres {
            postgres.kill();
        }
        if let Some(redis) = &mut self.redis {
            redis.kill();
        }
        if let Some(dynalite) = &mut self.dynalite {
            dynalite.kill();
        }
    }

    /// Starts it again on the same port once it was killed.
    pub(crate) async fn restart_store(&mut self) {
        if let Some(postgres) = &mut self.postgres {
            postgres.restart().await;
        }
        if let Some(redis) = &mut self.redis {
            redis.restart().await;
        }
        if let Some(dynalite) = &mut self.dynalite {
            dynalite.restart();
        }
    }

    /// See [`Envoy::send`].
    pub(crate) async fn send(&self, request: &Request) -> Response {
        self.envoy.send(request).await
    }

    /// See [`Envoy::send_over`].
    pub(crate) async fn send_over(&self, protocol: Protocol, request: &Request) -> Response {
        self.envoy.send_over(protocol, request).await
    }

    /// See [`Envoy::send_aside`].
    pub(crate) fn send_aside(&self, protocol: Protocol, request: &Request) -> JoinHandle<Response> {
        self.envoy.send_aside(protocol, request)
    }

    /// See [`Envoy::send_once_settled`].
    pub(crate) async fn send_once_settled(&self, request: &Request) -> Response {
        self.envoy.send_once_settled(request).await
    }

    /// See [`Envoy::http1_to_worker`].
    pub(crate) async fn http1_to_worker(&self, worker: usize) -> Http1 {
        self.envoy.http1_to_worker(worker).await
    }

    pub(crate) async fn http1(&self) -> Http1 {
        self.envoy.http1().await
    }

    pub(crate) async fn http2(&self) -> Http2 {
        self.envoy.http2().await
    }

    /// Fails unless the upstream has seen exactly this many requests.
    #[track_caller]
    pub(crate) fn assert_executions(&self, expected: usize) {
        self.upstream.assert_executions(expected);
    }
}

/// The server that a store needs.
#[derive(Default)]
struct Servers {
    postgres: Option<PostgresServer>,
    redis: Option<RedisServer>,
    dynalite: Option<DynamoDbServer>,
    addresses: Vec<SocketAddr>,
}

impl Servers {
    async fn of(store: Store) -> Self {
        match store {
            Store::DynamoDb => {
                let dynalite = DynamoDbServer::with_table();
                Self { addresses: vec![dynalite.address], dynalite: Some(dynalite), ..Self::default() }
            }
            Store::Postgres => {
                let postgres = PostgresServer::start().await;
                Self { addresses: vec![postgres.address()], postgres: Some(postgres), ..Self::default() }
            }
            Store::Redis(_) => {
                let redis = RedisServer::start().await;
                Self { addresses: vec![redis.address()], redis: Some(redis), ..Self::default() }
            }
            Store::SharedData => Self::default(),
        }
    }
}

/// One request over a new connection to an Envoy that may be gone, or go at any moment; None if it has.
pub(crate) async fn try_send(address: SocketAddr, protocol: Protocol, request: &Request) -> Option<Response> {
    match protocol {
        Protocol::Http1 => Http1::try_connect(address).await.ok()?.try_send(request).await,
        Protocol::Http2 => Http2::try_connect(address).await.ok()?.try_send(request).await,
    }
}

/// Begins such a request and leaves as soon as the answer begins to come; whether it did.
pub(crate) async fn try_send_and_leave(address: SocketAddr, protocol: Protocol, request: &Request) -> bool {
    match protocol {
        Protocol::Http1 => match Http1::try_connect(address).await {
            Ok(mut client) => client.is_answered(request).await,
            Err(_) => false,
        },
        Protocol::Http2 => match Http2::try_connect(address).await {
            Ok(mut client) => client.is_answered(request).await,
            Err(_) => false,
        },
    }
}

/// Waits for `future`, and fails the test with the name of what did not come.
pub(crate) async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come in {PATIENCE:?}"))
}
