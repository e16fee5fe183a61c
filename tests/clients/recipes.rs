//! The recipes of docs/clients.md, with the very configuration that stands there.

use serde_json::json;

use crate::bench::{
    Answer, Bench, Gate, Request, Setup, assert_executed, assert_problem, assert_replay_of, decompressor,
};
use crate::page::recipe;
use crate::player::{Call, Language, Player};

#[tokio::test]
async fn a_payment_by_402_arrives_under_the_key_of_the_request_that_asked_for_it() {
    let bench = Bench::new(recipe("Payment by 402 (x402)")).await;
    bench.upstream.directed_by(|seen| {
        let is_paid = seen.header("payment-signature").is_some();
        let answer = Answer::new(402).header("payment-required", "eyJ4NDAyVmVyc2lvbiI6Mn0=").json("{}");
        (!is_paid).then_some(answer)
    });
    let request = Request::post("/reports").key("report-1").caller("buyer");
    let asked = bench.send(&request).await;
    assert_eq!((asked.status, asked.text("payment-required").is_empty()), (402, false), "{asked:?}");
    // A client that has not paid is asked each time.
    assert_executed(&bench.send(&request).await, 402);

    let paid = request.header("payment-signature", "eyJwYXlsb2FkIjoxfQ==");
    let first = bench.send(&paid).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&paid).await);
    bench.assert_executions(3);
}

#[tokio::test]
async fn a_forged_delivery_of_a_webhook_does_not_keep_the_true_one_out() {
    let bench = Bench::new(recipe("Webhooks")).await;
    bench.upstream.directed_by(|seen| {
        let is_true = seen.header("webhook-signature") == Some(b"v1,true");
        (!is_true).then(|| Answer::new(400).json(r#"{"error":"signature"}"#))
    });
    let delivery = |signature: &str, time: &str| {
        Request::post("/hooks")
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", time)
            .header("webhook-signature", signature)
    };
    let forged = bench.send(&delivery("v1,forged", "1").body(r#"{"paid":"to me"}"#)).await;
    assert_executed(&forged, 400);
    let first = bench.send(&delivery("v1,true", "2")).await;
    assert_executed(&first, 201);
    // The sender has not heard that, and signs the next attempt anew.
    assert_replay_of(&first, &bench.send(&delivery("v1,true", "3")).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_webhook_whose_id_is_in_its_body_is_known_by_that() {
    let mut configuration = recipe("Webhooks");
    configuration["key"] = json!({ "pointers": ["/id"] });
    let bench = Bench::new(configuration).await;
    let event = |id: &str, time: &str| {
        Request::post("/hooks")
            .header("stripe-signature", time)
            .body(format!(r#"{{"id":"{id}","type":"charge.paid"}}"#))
    };
    let first = bench.send(&event("evt_1", "t=1,v1=a")).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&event("evt_1", "t=2,v1=b")).await);
    assert_executed(&bench.send(&event("evt_2", "t=3,v1=c")).await, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_key_counts_in_the_header_of_each_vendor() {
    let configuration = recipe("Other headers");
    let headers = configuration["key"]["headers"].as_array().expect("a list").clone();
    assert!(headers.len() > 4, "{headers:?}");
    let bench = Bench::new(configuration).await;
    for (number, header) in headers.iter().enumerate() {
        let header: &'static str = header.as_str().expect("a name").to_owned().leak();
        let request = Request::post("/orders").header(header, "order-17").body(header);
        let request = request.caller(header);
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request).await);
        bench.assert_executions(number + 1);
    }
}

/// gzip with `time` in its header; the data is in a stored block.
fn gzip(time: u32) -> Vec<u8> {
    const DATA: &[u8; 14] = br#"{"item":"tea"}"#;
    let mut gzip = vec![0x1f, 0x8b, 8, 0];
    gzip.extend(time.to_le_bytes());
    gzip.extend([0, 255, 1, 14, 0, !14, 255]);
    gzip.extend(DATA);
    gzip.extend(0xfbb1417c_u32.to_le_bytes());
    gzip.extend(14_u32.to_le_bytes());
    gzip
}

#[tokio::test]
async fn a_body_that_is_compressed_anew_is_the_same_behind_a_decompressor() {
    let request = |time| {
        Request::post("/orders").key("compressed").caller("shop").header("content-encoding", "gzip").body(gzip(time))
    };
    let bench = Bench::start(Setup::new(&json!({})).filter_before(decompressor())).await;
    let first = bench.send(&request(1)).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request(2)).await);
    bench.assert_executions(1);
    assert_eq!(bench.upstream.seen()[0].body.as_deref(), Some(br#"{"item":"tea"}"#.as_slice()));

    let bare = Bench::new(json!({})).await;
    assert_executed(&bare.send(&request(1)).await, 201);
    assert_problem(&bare.send(&request(2)).await, 422, "key-reused");
}

#[tokio::test]
async fn an_event_is_known_by_its_source_and_id_however_it_was_sent_on() {
    let bench = Bench::new(recipe("CloudEvents")).await;
    let event = |source: &str| {
        Request::post("/events")
            .caller("broker")
            .header("ce-specversion", "1.0")
            .header("ce-type", "order.placed")
            .header("ce-source", source)
            .header("ce-id", "order 17, first")
    };
    let first =
        bench.send(&event("/shop").header("ce-time", "2026-11-30T10:00:00.000001Z").body("{\"total\": 1.0}")).await;
    assert_executed(&first, 201);
    let sent_on = event("/shop").header("ce-time", "2026-11-30T10:00:00Z").body("{\"total\":1}");
    assert_replay_of(&first, &bench.send(&sent_on).await);
    let other = bench.send(&event("/warehouse")).await;
    assert_executed(&other, 201);
    bench.assert_executions(2);
}

/// 428 asks for the same request with a header more, as 400 of a signature check does.
#[tokio::test]
async fn what_a_client_cures_with_a_header_runs_under_the_same_key() {
    let bench = Bench::new(recipe("Refusals that a header cures")).await;
    bench.upstream.directed_by(|seen| {
        let status = if seen.path == "/signed" { 400 } else { 428 };
        seen.header("x-cure").is_none().then(|| Answer::new(status).json("{}"))
    });
    for (path, status) in [("/signed", 400), ("/orders", 428)] {
        let request = Request::post(path).key("cured").caller("shop");
        assert_executed(&bench.send(&request).await, status);
        let cured = request.header("x-cure", "yes");
        let first = bench.send(&cured).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&cured).await);
    }
    bench.assert_executions(4);
    // Elsewhere a 400 is final: the request is at fault.
    bench.upstream.directed_by(|_| Some(Answer::new(400).json("{}")));
    let wrong = Request::post("/orders").key("wrong").caller("shop");
    let first = bench.send(&wrong).await;
    assert_executed(&first, 400);
    assert_replay_of(&first, &bench.send(&wrong).await);
    bench.assert_executions(5);
}

/// Inline, the route's timeout ends the service's time; the SDK repeats only what it can read.
#[tokio::test]
async fn envoys_own_504_in_json_is_repeated_by_an_sdk_that_reads_json_alone() {
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "0.3s" } });
    let in_json = json!({ "local_reply_config": {
        "body_format": { "json_format": { "message": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%" } },
    } });
    let body = json!({ "problems": { "body": { "message": "${detail}", "code": "${name}" } } });
    let mut player = Player::start(Language::Node);
    for (connection_manager, seen) in
        [(json!({}), "raised Error"), (in_json, "raised ConflictException: outcome-unknown")]
    {
        let setup = Setup::new(&body).virtual_host(json!({ "routes": [route] })).connection_manager(connection_manager);
        let bench = Bench::start(setup).await;
        let gate = Gate::closed();
        let held = Answer::new(201).json("{}").held_by(&gate);
        bench.upstream.directed_by(move |_| Some(held.clone()));
        let call = Call { client: "workos", item: "tea", key: None, timeout: None };
        assert_eq!(player.call(bench.envoy.address(), call).await.await.in_words(), seen);
        bench.assert_executions(1);
        gate.open();
    }
}
