//! Bodies that arrive in pieces while the filter decides: the service gets every byte (contract, section 4, first row).
//!
//! Envoys before 1.40.0 lose a piece of a request that goes on from elsewhere than its own callbacks after a piece of its
//! body was held. The newest does so without `FORWARDS_DATA`, so it is tried both ways. In each test, what lets the
//! request go on comes when Envoy has read the first pieces, and before the next ones are sent.

use serde_json::{Value, json};

use crate::bench::{
    Answer, Bench, Gate, Request, Setup, TRAILER, Upload, Way, also_on_remote_stores, assert_executed, assert_replay_of,
};

/// What the older Envoys do not.
const FORWARDS_DATA: &str = "envoy.reloadable_features.filter_manager_forward_added_data_on_continue";

const PIECE: usize = 20_000;
const PIECES: usize = 8;
/// How many are there before the filter has decided.
const EARLY: usize = 2;

/// Paths whose policies differ in what a request is held for. With a body in the fingerprint, and detached, nothing goes
/// on before its end.
const WHOLE_FIRST: [&str; 4] = ["/raw", "/waits", "/detached", "/detached-waits"];
const AT_ONCE: [&str; 3] = ["/none", "/none-waits", "/none-bypasses"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Host {
    AsItIs,
    /// It treats data as older ones do.
    AsOlderOnes,
    /// It hands over no body while headers are held.
    WithoutFlag,
}

fn setup(host: Host) -> Setup {
    let route = |path: &str, policy: Value| json!({ "match": { "path": path }, "policy": policy });
    let configuration = json!({ "routes": [
        route("/waits", json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } })),
        route("/detached", json!({ "execution": { "mode": "detached" } })),
        route("/detached-waits", json!({
            "execution": { "mode": "detached" }, "duplicates": { "in_flight": "wait", "wait_timeout": "60s" },
        })),
        route("/none", json!({ "fingerprint": { "body": "none" } })),
        route("/none-waits", json!({
            "fingerprint": { "body": "none" }, "duplicates": { "in_flight": "wait", "wait_timeout": "60s" },
        })),
        route("/none-bypasses", json!({ "fingerprint": { "body": "none" }, "on_store_error": "bypass" })),
    ] });
    let runtime = json!({ "layered_runtime": { "layers": [
        { "name": "test", "static_layer": { FORWARDS_DATA: host != Host::AsOlderOnes } },
    ] } });
    let setup = Setup::new(&configuration).bootstrap_with(&runtime);
    if host == Host::WithoutFlag { setup.without_stop_iteration() } else { setup }
}

/// A body in which no two pieces are alike.
fn body(seed: usize) -> Vec<u8> {
    (0..PIECE * PIECES).map(|at| (at / 7 + at / PIECE * 31 + seed) as u8).collect()
}

/// Sends what comes before the decision, and waits until Envoy has it.
async fn begin(bench: &Bench, way: Way, request: &Request) -> Upload {
    let before = bench.envoy.received().await;
    let mut upload = Upload::begin(&bench.envoy, way, request).await;
    for (number, piece) in request.body.chunks(PIECE).take(EARLY).enumerate() {
        upload.send(piece).await;
        bench.envoy.has_received(before + ((number + 1) * PIECE) as u64).await;
    }
    upload
}

async fn send_rest(upload: &mut Upload, request: &Request) {
    for piece in request.body.chunks(PIECE).skip(EARLY) {
        upload.send(piece).await;
    }
}

/// The service has got request `number`, from the first byte to the last.
#[track_caller]
fn assert_whole(bench: &Bench, number: usize, way: Way, request: &Request) {
    let seen = &bench.upstream.seen()[number - 1];
    let target = &request.target;
    let body = seen.body.as_ref().unwrap_or_else(|| panic!("{target}, {way:?}: the service has the whole body"));
    let first_difference = body.iter().zip(&request.body).position(|(got, sent)| got != sent);
    assert!(
        *body == request.body,
        "{target}, {way:?}: the service got {} bytes of {}, other ones from {first_difference:?} on",
        body.len(),
        request.body.len(),
    );
    // A detached call has none.
    let (name, value) = TRAILER;
    if way.has_trailers() && !target.starts_with("/detached") {
        assert_eq!(seen.trailers.get(name).map(|found| found.as_bytes()), Some(value.as_bytes()), "{target}, {way:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_held_arrives_whole() {
    for host in [Host::AsItIs, Host::AsOlderOnes, Host::WithoutFlag] {
        let bench = Bench::start(setup(host)).await;
        let mut number = 0;
        let whole_first = WHOLE_FIRST.into_iter().filter(|_| host != Host::WithoutFlag);
        for path in whole_first.chain(AT_ONCE) {
            for way in Way::ALL {
                number += 1;
                let request = Request::post(path).key(format!("{way:?}")).body(body(number));
                bench.pause_store();
                let mut upload = begin(&bench, way, &request).await;
                let response = if AT_ONCE.contains(&path) {
                    bench.resume_store();
                    // It goes on with the store's answer, not with the client's next piece.
                    bench.upstream.reached(number).await;
                    send_rest(&mut upload, &request).await;
                    upload.end().await.response().await
                } else {
                    send_rest(&mut upload, &request).await;
                    let ended = upload.end().await;
                    bench.resume_store();
                    ended.response().await
                };
                assert_executed(&response, 201);
                bench.assert_executions(number);
                assert_whole(&bench, number, way, &request);
                assert_replay_of(&response, &bench.send(&request).await);
            }
        }
        bench.assert_executions(number);
    }
}

#[tokio::test]
async fn a_waiter_that_runs_arrives_whole() {
    for host in [Host::AsItIs, Host::AsOlderOnes, Host::WithoutFlag] {
        let bench = Bench::start(setup(host)).await;
        let mut number = 0;
        let paths = ["/none-waits", "/waits", "/detached-waits"];
        for path in paths.into_iter().take(if host == Host::WithoutFlag { 1 } else { 3 }) {
            for way in Way::ALL {
                number += 2;
                let request = Request::post(path).key(format!("{way:?}")).body(body(number));
                let gate = Gate::closed();
                bench.upstream.script(path, [Answer::new(500).held_by(&gate), Answer::new(201).json("{}")]);
                let first = bench.envoy.send_aside(way.protocol(), &request);
                bench.upstream.reached(number - 1).await;

                let mut upload = begin(&bench, way, &request).await;
                let response = if path == "/none-waits" {
                    bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
                    gate.open();
                    bench.upstream.reached(number).await;
                    send_rest(&mut upload, &request).await;
                    upload.end().await.response().await
                } else {
                    send_rest(&mut upload, &request).await;
                    let ended = upload.end().await;
                    bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
                    gate.open();
                    ended.response().await
                };
                assert_eq!(first.await.expect("the first client").status, 500);
                assert_executed(&response, 201);
                assert_whole(&bench, number, way, &request);
                assert_replay_of(&response, &bench.send(&request).await);
                bench.assert_executions(number);
            }
        }
    }
}

#[tokio::test]
async fn a_waiter_that_is_replayed_needs_no_more_of_its_body() {
    let bench = Bench::start(setup(Host::AsOlderOnes)).await;
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let request = Request::post("/none-waits").key(format!("{way:?}")).body(body(number));
        let gate = Gate::closed();
        bench.upstream.script("/none-waits", [Answer::new(201).json("{}").held_by(&gate)]);
        let first = bench.envoy.send_aside(way.protocol(), &request);
        bench.upstream.reached(number + 1).await;

        let upload = begin(&bench, way, &request).await;
        bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
        gate.open();
        assert_replay_of(&first.await.expect("the first client"), &upload.response_so_far().await);
    }
    bench.assert_executions(Way::ALL.len());
}

/// Envoy stops reading: what it holds back for a store's answer is no longer than its buffer, and nobody gets a 413.
#[tokio::test]
async fn what_envoy_cannot_hold_stays_with_the_client() {
    const BUFFER: u32 = 16_384;

    let bench = Bench::start(setup(Host::AsOlderOnes).buffer_limit(BUFFER)).await;
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let request = Request::post("/none").key(format!("{way:?}")).body(body(number));
        bench.pause_store();
        let before = bench.envoy.received().await;
        let mut upload = Upload::begin(&bench.envoy, way, &request).await;
        let all = request.body.clone();
        let sent = tokio::spawn(async move {
            for piece in all.chunks(PIECE) {
                upload.send(piece).await;
            }
            upload.end().await
        });
        bench.envoy.has_received(before + u64::from(BUFFER)).await;
        bench.resume_store();
        assert_executed(&sent.await.expect("the client").response().await, 201);
        assert_whole(&bench, number + 1, way, &request);
    }
    bench.assert_executions(Way::ALL.len());
}

/// On stores that can fail.
mod bypass {
    use super::*;
    use crate::bench::{Store, Transport};

    #[test]
    fn direct() {
        Store::Redis(Transport::Direct).run(a_request_that_runs_unprotected_arrives_whole);
    }

    #[test]
    fn dynamodb() {
        Store::DynamoDb.run(a_request_that_runs_unprotected_arrives_whole);
    }

    #[test]
    fn postgres() {
        Store::Postgres.run(a_request_that_runs_unprotected_arrives_whole);
    }

    #[test]
    fn streams() {
        Store::Redis(Transport::Streams).run(a_request_that_runs_unprotected_arrives_whole);
    }

    #[test]
    fn pooled() {
        Store::Redis(Transport::Pooled).run(a_request_that_runs_unprotected_arrives_whole);
    }

    #[tokio::main(flavor = "current_thread")]
    async fn a_request_that_runs_unprotected_arrives_whole() {
        for host in [Host::AsItIs, Host::AsOlderOnes] {
            let mut bench = Bench::start(setup(host)).await;
            for (number, way) in Way::ALL.into_iter().enumerate() {
                let request = Request::post("/none-bypasses").key(format!("{way:?}")).body(body(number));
                bench.pause_store();
                let mut upload = begin(&bench, way, &request).await;
                bench.kill_store();
                bench.upstream.reached(number + 1).await;
                send_rest(&mut upload, &request).await;
                let response = upload.end().await.response().await;
                assert_eq!((response.status, response.text("idempotency-status").as_str()), (201, "bypassed"));
                assert_whole(&bench, number + 1, way, &request);
                bench.restart_store().await;
            }
        }
    }
}

also_on_remote_stores! {
    direct: {
        a_request_that_is_held_arrives_whole,
        a_waiter_that_runs_arrives_whole,
        a_waiter_that_is_replayed_needs_no_more_of_its_body,
        what_envoy_cannot_hold_stays_with_the_client,
    }
    pooled: {
        a_request_that_is_held_arrives_whole,
        a_waiter_that_runs_arrives_whole,
        a_waiter_that_is_replayed_needs_no_more_of_its_body,
        what_envoy_cannot_hold_stays_with_the_client,
    }
}
