//! Records in DynamoDB: what Envoy sends and signs, how often, and what comes of what goes wrong there.

use serde_json::json;
use tokio::time::timeout;

use crate::bench::{
    Bench, DynamoDbServer, Fleet, PATIENCE, Request, Setup, Signing, Throttle, assert_executed, assert_in_flight,
    assert_problem, assert_replay_of,
};
use crate::races::{assert_both_workers_took_part, assert_each_executed_once, race_keys};

/// Keys raced by one connection to each Envoy, and by many.
const KEYS: usize = 1_000;
const CROWD: usize = 50;

#[tokio::test]
async fn keys_raced_by_two_envoys_execute_once_each() {
    race(2).await;
}

#[tokio::test]
async fn keys_raced_by_fifty_connections_to_two_envoys_execute_once_each() {
    race(CROWD).await;
}

/// Races every key over so many connections, half of them to each of two Envoys.
async fn race(racers: usize) {
    let dynalite = DynamoDbServer::with_table();
    let fleet = Fleet::start(&Setup::dynamodb(&json!({})), vec![dynalite.address]).await;
    let addresses = fleet.envoys.each_ref().map(|envoy| envoy.address());
    race_keys(KEYS, &addresses.repeat(racers / 2)).await;
    assert_each_executed_once(&fleet.upstream, KEYS);
    for envoy in &fleet.envoys {
        assert_both_workers_took_part(envoy).await;
        let executed = envoy.stat("wasmcustom.idemgate.requests.executed").await;
        assert!(executed.is_some_and(|executed| executed > 0), "an Envoy won no race at all");
        // dynalite ends a connection on which it has heard nothing for five seconds, perhaps as it is asked over it.
        let errors =
            async |kind: &str| envoy.stat(&format!("wasmcustom.idemgate.store.errors{kind}")).await.unwrap_or_default();
        assert_eq!(errors("").await, errors(".reset").await, "{}", envoy.log());
    }
    assert_eq!(dynalite.items(), KEYS as u64, "a record for each key");
}

#[tokio::test]
async fn a_retry_at_another_envoy_is_replayed_and_counted_at_the_server() {
    let dynalite = DynamoDbServer::with_table();
    let fleet = Fleet::start(&Setup::dynamodb(&json!({})), vec![dynalite.address]).await;
    let request = Request::post("/orders").key("k1");
    let first = fleet.envoys[0].send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &fleet.envoys[1].send(&request).await);
    assert_eq!(dynalite.items(), 1);
}

#[tokio::test]
async fn an_executed_request_makes_two_calls_and_a_replay_one() {
    let bench = Bench::start(Setup::dynamodb(&json!({}))).await;
    let calls = async || bench.envoy.stat("cluster.dynamodb.upstream_rq_completed").await.unwrap_or_default();
    // The look at the table.
    bench.envoy.reaches_stat("cluster.dynamodb.upstream_rq_completed", 1).await;
    let request = Request::post("/orders").key("k1");
    let before = calls().await;
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_eq!(calls().await - before, 2);
    assert_replay_of(&first, &bench.send(&request).await);
    // dynalite leaves the item out of a refusal, so that it has to be read; DynamoDB does not.
    assert_eq!(calls().await - before, 4);
    assert!(bench.envoy.log().contains("the table \"idemgate\" in DynamoDB answers"), "{}", bench.envoy.log());
}

#[tokio::test]
async fn unsigned_calls_run_nothing_and_say_so() {
    for signing in [Signing::Unsigned, Signing::WithoutCredentials] {
        let bench = Bench::start(Setup::dynamodb(&json!({})).signing(signing)).await;
        let refused = bench.send(&Request::post("/orders").key("k1")).await;
        assert_problem(&refused, 503, "store-unavailable");
        assert_eq!(bench.upstream.executions(), 0, "{signing:?}");
        bench.envoy.reaches_stat("wasmcustom.idemgate.store.errors.authentication", 1).await;
        let log = bench.envoy.log();
        assert!(log.contains("Envoy sent a call to DynamoDB unsigned"), "{signing:?}: {log}");
    }
}

#[tokio::test]
async fn a_claim_that_is_throttled_for_a_moment_is_asked_again_and_runs_once() {
    let (dynalite, throttle) = throttled().await;
    let bench = Bench::start_on(Setup::dynamodb(&json!({})), vec![throttle.address()]).await;
    throttle.throttle(CLAIM, 2);
    let request = Request::post("/orders").key("k1");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_eq!(throttle.throttled(), 2);
    bench.envoy.reaches_stat(THROTTLED, 2).await;
    assert_replay_of(&first, &bench.send(&request).await);
    assert_eq!((bench.upstream.executions(), dynalite.items()), (1, 1));
}

#[tokio::test]
async fn a_claim_that_is_throttled_throughout_runs_nothing_and_does_not_take_the_key() {
    let (dynalite, throttle) = throttled().await;
    let bench = Bench::start_on(Setup::dynamodb(&json!({})), vec![throttle.address()]).await;
    throttle.throttle(CLAIM, usize::MAX);
    let request = Request::post("/orders").key("k1");
    assert_problem(&bench.send(&request).await, 503, "store-unavailable");
    assert_eq!((bench.upstream.executions(), dynalite.items()), (0, 0));
    bench.envoy.reaches_stat(THROTTLED, throttle.throttled() as u64).await;
    let log = bench.envoy.log();
    assert!(log.contains("DynamoDB throttles"), "{log}");
    throttle.throttle(CLAIM, 0);
    assert_executed(&bench.send(&request).await, 201);
    assert_eq!(bench.upstream.executions(), 1);
}

#[tokio::test]
async fn an_end_that_is_throttled_is_recorded_in_the_end_whether_or_not_its_client_waits_so_long() {
    // The first client waits for the end to be recorded, the second one does not.
    for (patience, calls) in [("10s", 3), ("200ms", 5)] {
        let (_dynalite, throttle) = throttled().await;
        let setup = Setup::dynamodb(&json!({ "store": { "dynamodb": { "timeout": patience } } }));
        let bench = Bench::start_on(setup, vec![throttle.address()]).await;
        throttle.throttle(END, calls);
        let request = Request::post("/orders").key("k1");
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        let retried = async {
            loop {
                let retried = bench.send(&request).await;
                match retried.status {
                    409 => assert_in_flight(&retried, 30),
                    // On a busy machine the store may be later than the second one's 200 ms.
                    503 => {
                        assert_problem(&retried, 503, "store-unavailable");
                    }
                    _ => return retried,
                }
            }
        };
        assert_replay_of(&first, &timeout(PATIENCE, retried).await.expect("the end is lost"));
        assert_eq!((bench.upstream.executions(), throttle.throttled()), (1, calls));
        bench.envoy.reaches_stat(THROTTLED, calls as u64).await;
    }
}

/// Claims and ends, as DynamoDB names the calls.
const CLAIM: &str = ".PutItem";
const END: &str = ".UpdateItem";

const THROTTLED: &str = "wasmcustom.idemgate.store.errors.throttled";

async fn throttled() -> (DynamoDbServer, Throttle) {
    let dynalite = DynamoDbServer::with_table();
    let throttle = Throttle::in_front_of(dynalite.address).await;
    (dynalite, throttle)
}

#[tokio::test]
async fn a_table_that_is_not_there_or_has_another_key_runs_nothing_and_says_so() {
    for (table, kind, text) in [
        ("absent", "S", "there is no table store.dynamodb.table"),
        ("other", "S", "its only key has to be k, of type B"),
    ] {
        let dynalite = DynamoDbServer::start();
        dynalite.create_table("other", "k", kind);
        let setup = Setup::dynamodb(&json!({ "store": { "dynamodb": { "table": table } } }));
        let bench = Bench::start_on(setup, vec![dynalite.address]).await;
        let refused = bench.send(&Request::post("/orders").key("k1")).await;
        assert_problem(&refused, 503, "store-unavailable");
        assert_eq!(bench.upstream.executions(), 0);
        bench.envoy.reaches_stat("wasmcustom.idemgate.store.errors.schema", 1).await;
        let log = bench.envoy.log();
        assert!(log.contains(text), "{table}: {log}");
    }
}

#[tokio::test]
async fn the_example_signs_and_replays() {
    let dynalite = DynamoDbServer::with_table();
    let file = std::fs::read_to_string("examples/dynamodb/envoy.yaml").unwrap();
    let (_, tls) = file.split_once("    transport_socket:").unwrap();
    let (tls, _) = tls.split_once("    typed_extension_protocol_options:").unwrap();
    let replaced = [
        (format!("    transport_socket:{tls}"), String::new()),
        (
            "address: dynamodb.us-east-1.amazonaws.com, port_value: 443".to_owned(),
            format!("address: 127.0.0.1, port_value: {}", dynalite.address.port()),
        ),
        ("connect_timeout: 0.25s".to_owned(), "connect_timeout: 5s".to_owned()),
        (r#""table": "idemgate"}"#.to_owned(), r#""table": "idemgate", "timeout": "10s"}"#.to_owned()),
        // Where the test has no credentials.
        (
            "            service_name: dynamodb".to_owned(),
            "            credential_provider:\n              inline_credential: { access_key_id: a, secret_access_key: b \
             }\n            service_name: dynamodb"
                .to_owned(),
        ),
    ];
    let bench = Bench::example_with("dynamodb", &replaced).await;
    let other = Bench::another_envoy("dynamodb", &bench.upstream, &replaced).await;
    let request = Request::post("/orders").key("k1");
    let first = bench.send(&request).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &other.send(&request).await);
    assert_eq!(dynalite.items(), 1);
}

#[test]
fn the_template_makes_the_table_that_is_described() {
    let template = std::fs::read_to_string("examples/dynamodb/table.yaml").unwrap();
    for text in [
        "AttributeName: k\n        AttributeType: B",
        "AttributeName: k\n        KeyType: HASH",
        "AttributeName: e\n        Enabled: true",
    ] {
        assert!(template.contains(text), "{text}");
    }
    let page = std::fs::read_to_string("docs/dynamodb.md").unwrap();
    for action in ["PutItem", "UpdateItem", "GetItem", "DescribeTable"] {
        assert!(
            template.contains(&format!("- dynamodb:{action}\n")) && page.contains(&format!("\"dynamodb:{action}\""))
        );
    }
}
