//! Somebody else can write to Redis, and knows how records are written: what of it clients get to see.

use std::net::SocketAddr;
use std::time::Duration;

use idemgate::config::{IntegrityConfig, RedisConfig, Share};
use idemgate::headers::Headers;
use idemgate::record::{Claim, Owner, StoredResponse};
use idemgate::request::{Caller, Fingerprint, OperationId};
use idemgate::store::{Call, Ending, redis::RedisStore, remote::RemoteStore as _};
use idemgate::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{
    Bench, Fleet, Protocol, RedisServer, Request, Setup, Transport, assert_executed, assert_problem, assert_replay_of,
    patiently,
};

const PREFIX: &str = "idemgate:";
const OLD_KEY: &str = "the old key, of thirty-two characters";
const NEW_KEY: &str = "the new key, of thirty-two characters";

fn order() -> Request {
    Request::post("/orders").key("k")
}

fn setup(store: &Value) -> Setup {
    Setup::redis(Transport::Direct, &json!({ "store": { "redis": store } }))
}

fn stranger() -> RedisConfig {
    RedisConfig::new("redis".to_owned())
}

fn response(status: u16, fields: &[(&str, &str)], body: &str) -> StoredResponse {
    StoredResponse { status, headers: fields.iter().copied().collect::<Headers>(), body: body.as_bytes().to_vec() }
}

/// Puts in the place of the record under `key` one that says that its operation was answered so. The filter's own code
/// writes it, so it is as genuine as a record can be from a writer who has the keys of `config`.
async fn forge(redis: &RedisServer, config: RedisConfig, key: &[u8], response: StoredResponse) {
    let fingerprint = Fingerprint::from_bytes(redis.get(key).await[18..50].try_into().unwrap());
    let hex = key[PREFIX.len()..].chunks(2).map(|digits| str::from_utf8(digits).unwrap());
    let id: Vec<u8> = hex.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
    let operation = OperationId::from_bytes(id.try_into().unwrap());
    let (owner, lease, ttl) = (Owner::new(1), Duration::from_secs(30), Duration::from_secs(600));
    let claim = Claim {
        operation,
        fingerprint,
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        owner,
        lease,
        ttl,
        retry_unknown: false,
        watcher: None,
    };
    let ending = Ending::Completed(response);
    redis.must(&[b"DEL", key]).await;
    let store = RedisStore::new(config);
    for call in [Call::Claim(claim), Call::Settle { operation, fingerprint, owner, ending, lease, ttl }] {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut inquiry = store.inquire(&call, now).unwrap();
        assert_eq!(tell(redis.address(), inquiry.ask(now).0).await, b":1\r\n");
    }
}

async fn tell(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let told = async {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(bytes).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut reply = Vec::new();
        connection.read_to_end(&mut reply).await.unwrap();
        reply
    };
    patiently("Redis' reply", told).await
}

#[tokio::test]
async fn what_is_no_response_of_http_is_never_sent() {
    let redis = RedisServer::start().await;
    let bench = Bench::start_on(setup(&json!({})), vec![redis.address()]).await;
    assert_executed(&bench.send(&order()).await, 201);
    let key = redis.only_key().await;
    // Anyone who can write to Redis can make answers up, if records are not signed.
    forge(&redis, stranger(), &key, response(402, &[("x-made", "up")], "pay me")).await;
    let made_up = bench.send(&order()).await;
    assert_eq!((made_up.status, made_up.text("x-made")), (402, "up".into()), "{made_up:?}");
    bench.assert_executions(1);

    let mut client = bench.http1().await;
    let splitting = "b\r\nset-cookie: sid=evil\r\n\r\n<script>";
    let next = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nEVIL!";
    let forgeries = [
        response(200, &[("a", splitting)], ""),
        response(200, &[("a: b\r\nset-cookie", "sid=evil")], ""),
        response(200, &[("a", "nul\0")], ""),
        response(200, &[("", "x")], ""),
        response(0, &[], ""),
        response(101, &[("upgrade", "websocket")], ""),
        response(999, &[], ""),
        response(u16::MAX, &[], ""),
        response(204, &[], next),
        response(304, &[], next),
    ];
    for (number, forged) in forgeries.into_iter().enumerate() {
        forge(&redis, stranger(), &key, forged).await;
        for protocol in Protocol::BOTH {
            let refused = bench.send_over(protocol, &order()).await;
            assert_eq!(refused.header("set-cookie"), None, "{refused:?}");
            assert_problem(&refused, 503, "store-unavailable");
        }
        // The next request on the connection gets its own answer.
        assert_problem(&client.send(&order()).await, 503, "store-unavailable");
        assert_eq!(client.send(&Request::get("/orders")).await.status, 201, "forgery {number}");
        bench.assert_executions(2 + number);
    }
}

#[tokio::test]
async fn with_a_key_nothing_is_replayed_that_was_not_signed_for_this_operation() {
    let redis = RedisServer::start().await;
    let bench = Bench::start_on(setup(&json!({ "integrity_key": NEW_KEY })), vec![redis.address()]).await;
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&order()).await);
    let key = redis.only_key().await;
    let genuine = redis.get(&key).await;

    let another_key = IntegrityConfig { keys: vec![OLD_KEY.to_owned()], ..IntegrityConfig::default() };
    for config in [stranger(), RedisConfig { integrity: another_key, ..stranger() }] {
        forge(&redis, config, &key, response(402, &[], "pay me")).await;
        assert_problem(&bench.send(&order()).await, 503, "store-unavailable");
    }
    redis.set(&key, &genuine).await;
    assert_replay_of(&first, &bench.send(&order()).await);

    // A genuine record of another operation.
    let other = order().key("other");
    assert_executed(&bench.send(&other).await, 201);
    let keys = redis.keys().await;
    let other_key = keys.iter().find(|other| **other != key).unwrap();
    redis.set(other_key, &genuine).await;
    assert_problem(&bench.send(&other).await, 503, "store-unavailable");
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_key_is_changed_in_steps_in_each_of_which_every_envoy_reads_what_the_others_write() {
    let steps = [
        json!({}),
        json!({ "integrity_key": OLD_KEY, "unsigned_records": "write" }),
        json!({ "integrity_key": OLD_KEY, "unsigned_records": "accept" }),
        json!({ "integrity_key": OLD_KEY }),
        json!({ "integrity_key": [OLD_KEY, NEW_KEY] }),
        json!({ "integrity_key": [NEW_KEY, OLD_KEY] }),
        json!({ "integrity_key": NEW_KEY }),
    ];
    let redis = RedisServer::start().await;
    for (number, pair) in steps.windows(2).enumerate() {
        let fleet = Fleet::of([&setup(&pair[0]), &setup(&pair[1])], vec![redis.address()]).await;
        for (writer, reader) in [(0, 1), (1, 0)] {
            let order = order().key(format!("{number}-{writer}"));
            let first = fleet.envoys[writer].send(&order).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &fleet.envoys[reader].send(&order).await);
        }
    }
    // With the steps in between left out, what one Envoy wrote is refused by the other, and not run.
    let fleet = Fleet::of([&setup(&steps[0]), &setup(&steps[3])], vec![redis.address()]).await;
    for (writer, reader) in [(0, 1), (1, 0)] {
        let order = order().key(format!("left-out-{writer}"));
        assert_executed(&fleet.envoys[writer].send(&order).await, 201);
        assert_problem(&fleet.envoys[reader].send(&order).await, 503, "store-unavailable");
    }
    assert_eq!(fleet.upstream.executions(), 2);
}
