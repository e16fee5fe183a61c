//! Attacks that no other file plays: what a caller, a page in an operator's browser and a server in place of Redis may
//! try. `SECURITY.md` says of each boundary what is defended, and names the test.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::bench::{
    AdminListener, Answer, Bench, FakeRedis, Fault, Http1, Protocol, RedisServer, Request, Response, Setup, Transport,
    Twist, Upstream, assert_executed, assert_problem, assert_replay_of, decompressor, encode, patiently, try_send,
};

fn order() -> Request {
    Request::post("/orders").key("k")
}

// === another caller's answer ===

#[tokio::test]
async fn only_the_credential_itself_finds_the_answer_that_was_made_for_it() {
    const SECRET: &str = "{\"account\":\"alice's\"}";

    let bench = Bench::new(json!({})).await;
    bench.upstream.directed_by(|seen| {
        let is_hers = seen.header("authorization") == Some(b"Bearer alice");
        Some(Answer::new(201).json(if is_hers { SECRET } else { "{}" }))
    });
    let first = bench.send(&order().caller("alice")).await;
    assert_executed(&first, 201);
    let others: [&[&str]; 17] = [
        &[],
        &[""],
        &[" "],
        &["alice"],
        &["Bearer"],
        &["Bearer alic"],
        &["Bearer alicea"],
        &["Bearer Alice"],
        &["Bearer\talice"],
        &["Bearer al ice"],
        &["Bearer alice,"],
        &["Bearer \"alice\""],
        &["Bearer alice;a=b"],
        &["Basic alice"],
        &["Bearer alice", "Bearer mallory"],
        &["Bearer mallory", "Bearer alice"],
        &["Bearer alice, Bearer mallory"],
    ];
    for credentials in others {
        let request = credentials.iter().fold(order(), |order, value| order.header("authorization", *value));
        let response = bench.send(&request).await;
        assert!(!String::from_utf8_lossy(&response.body).contains("alice"), "{credentials:?} got {response:?}");
    }
    for protocol in Protocol::BOTH {
        assert_replay_of(&first, &bench.send_over(protocol, &order().caller("alice")).await);
    }
    let hers =
        bench.upstream.seen().iter().filter(|seen| seen.header("authorization") == Some(b"Bearer alice")).count();
    assert_eq!(hers, 1);
}

// === what leaves the filter ===

/// Sends a message as it is over a connection of its own; whatever comes before the end of that.
async fn send_bytes(bench: &Bench, message: &[u8]) -> Option<Response> {
    let mut client = bench.http1().await;
    client.write(message).await;
    patiently("the answer to bytes", client.try_response_to("POST")).await
}

/// A POST to `/outer` with these further lines, and a body in which the head of another request is.
fn nested(key: &str, lines: &[&str], body: &str) -> Vec<u8> {
    let mut message = format!("POST /outer HTTP/1.1\r\nhost: orders.example\r\nidempotency-key: {key}\r\n");
    for line in lines {
        message.push_str(line);
        message.push_str("\r\n");
    }
    message.push_str("\r\n");
    message.push_str(body);
    message.into_bytes()
}

#[tokio::test]
async fn a_request_within_a_request_does_not_come_out_of_it() {
    const INNER: &str = "POST /inner HTTP/1.1\r\nhost: orders.example\r\ncontent-length: 0\r\n\r\n";

    let bench = Bench::new(json!({ "fingerprint": { "body": "raw" } })).await;
    let length = format!("content-length: {}", INNER.len());
    let chunk = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
    let ended = format!("0\r\n\r\n{INNER}");
    for (what, lines, body) in [
        ("a body like a request", vec![length.as_str()], INNER),
        ("a chunk like a request", vec!["transfer-encoding: chunked"], chunk.as_str()),
        ("both lengths", vec![length.as_str(), "transfer-encoding: chunked"], ended.as_str()),
        ("two lengths", vec!["content-length: 0", length.as_str()], INNER),
        ("a list of lengths", vec!["content-length: 0, 74"], INNER),
        ("a signed length", vec!["content-length: +0"], INNER),
        ("an unknown coding", vec![length.as_str(), "transfer-encoding: xchunked"], INNER),
        ("a space before the colon", vec![length.as_str(), "transfer-encoding : chunked"], ended.as_str()),
        ("a folded line", vec![length.as_str(), "transfer-encoding:\r\n chunked"], ended.as_str()),
        ("two codings", vec![length.as_str(), "transfer-encoding: chunked", "transfer-encoding: identity"], &ended),
    ] {
        let before = bench.upstream.executions();
        let key = what.replace(' ', "-");
        let response = send_bytes(&bench, &nested(&key, &lines, body)).await;
        let seen = bench.upstream.seen();
        // A proxy may take what follows the end of a message for the next one: then that is a request of the client's own,
        // without a key, and no part of the first.
        let outer: Vec<_> = seen[before..].iter().filter(|seen| seen.path == "/outer").collect();
        assert!(outer.len() <= 1, "{what}: {response:?} and {seen:#?}");
        for seen in outer {
            let body = seen.body.clone().unwrap_or_default();
            assert!(body == INNER.as_bytes() || body.is_empty(), "{what}: {seen:?}");
            let framing = ["content-length", "transfer-encoding"].map(|name| seen.headers.get_all(name).iter().count());
            assert_eq!(framing.iter().sum::<usize>(), 1, "{what}: {seen:?}");
        }
        let is_inside = what.ends_with("like a request");
        assert!(!is_inside || seen[before..].len() == 1 && seen[before].path == "/outer", "{what}: {seen:#?}");
        // The workers are as well as before, and the next request on another connection is nobody's but its own.
        let next = bench.send(&order().key(format!("after-{key}"))).await;
        assert_executed(&next, 201);
    }
    for length in ["0", "3", "999"] {
        let wrong = Request::post("/wrong-length").key(format!("l{length}")).header("content-length", length);
        try_send(bench.envoy.address(), Protocol::Http2, &wrong).await;
    }
    assert!(bench.upstream.seen().iter().all(|seen| seen.path != "/wrong-length"), "{:#?}", bench.upstream.seen());
}

#[tokio::test]
async fn nothing_that_a_client_sends_chooses_where_a_request_goes() {
    let bench = Bench::new(json!({})).await;
    let mut bait = Upstream::shut(Protocol::Http1);
    bait.open();
    let elsewhere = bait.address().to_string();
    let mut expected = 0;
    for (number, name) in [
        "x-envoy-original-dst-host",
        "x-envoy-original-path",
        "x-envoy-upstream-alt-stat-name",
        "x-forwarded-host",
        "x-original-url",
        "x-rewrite-url",
        "forwarded",
        "host",
    ]
    .into_iter()
    .enumerate()
    {
        let request = order().key(format!("h{number}")).header(name, elsewhere.clone());
        for protocol in Protocol::BOTH {
            let response = bench.send_over(protocol, &request).await;
            assert_eq!(response.status, 201, "{name} over {protocol:?}: {response:?}");
        }
        expected += 1;
        bench.assert_executions(expected);
    }
    let mut absolute = encode(&order().key("absolute"));
    let form = format!("POST http://{elsewhere}/orders ");
    absolute.splice(.."POST /orders ".len(), form.into_bytes());
    assert_eq!(send_bytes(&bench, &absolute).await.map(|response| response.status), Some(201));
    bench.assert_executions(expected + 1);
    bait.assert_executions(0);
}

// === the operator's listener, seen from a page in a browser ===

#[tokio::test]
async fn what_a_page_may_send_changes_nothing_and_is_told_nothing() {
    let settings = json!({});
    let bench = Bench::start(Setup::new(&settings).admin(AdminListener::new("loopback", &settings))).await;
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    let admin = bench.envoy.admin_listener().await;
    let to = |method, target: &str| Request::new(method, target).header("host", "localhost:9902");
    let lookup =
        json!({ "key": "k", "method": "POST", "authority": "orders.example", "path": "/orders", "caller": [null] });
    let found = to("POST", "/operations/lookup").content_type("application/json").body(lookup.to_string());
    let found = Http1::connect(admin).await.send(&found).await;
    assert_eq!(found.status, 200, "{found:?}");
    let operation = found.json().unwrap()["operation"].as_str().unwrap().to_owned();
    let purge = format!("/operations/{operation}/purge");
    let force = json!({ "force": true }).to_string();

    // What a form, or a script without a preflight, may say of its body.
    for media_type in [
        None,
        Some(""),
        Some("text/plain"),
        Some("text/plain; charset=application/json"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=application/json"),
        Some("application/jsonx"),
        Some("text/plain, application/json"),
    ] {
        let asked = to("POST", &purge).body(force.clone());
        let asked = media_type.iter().fold(asked, |asked, media_type| asked.header("content-type", *media_type));
        let response = Http1::connect(admin).await.send(&asked).await;
        assert_eq!(response.status, 415, "{media_type:?}: {response:?}");
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let asked = to(method, &purge).content_type("application/json").body(force.clone());
        let asked = asked.header("access-control-request-method", "POST");
        let response = Http1::connect(admin).await.send(&asked).await;
        assert_eq!(response.status, 405, "{method}: {response:?}");
        assert!(response.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{response:?}");
    }
    for target in [format!("/{purge}"), format!("{purge}?force=true"), format!("{purge}/"), purge.to_uppercase()] {
        let asked = to("POST", &target).content_type("application/json").body(force.clone());
        let asked = asked.header("sec-fetch-site", "cross-site");
        assert_eq!(Http1::connect(admin).await.send(&asked).await.status, 403, "{target}");
    }
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(1);
}

// === a server in place of Redis ===

#[tokio::test]
async fn whatever_a_hostile_server_says_nothing_runs_and_nobody_is_harmed() {
    let bait = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let moved = format!("-MOVED 1 {}\r\n", bait.local_addr().unwrap());
    let long_error = format!("-ERR \u{1b}[31m{}\r\n", "x".repeat(200_000));
    let huge = [b"$8388608\r\n".as_slice(), &vec![b'x'; 8 << 20], b"\r\n"].concat();
    let redis = RedisServer::start().await;
    let hostile = FakeRedis::in_front_of(Some(redis.address()), Fault::Twists(Twist::new(|_, answer| answer))).await;
    let setup = Setup::redis(Transport::Direct, &json!({ "store": { "redis": { "timeout": "1s" } } }));
    let bench = Bench::start_on(setup, vec![hostile.address()]).await;
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    for answer in [
        "*1\r\n".repeat(1_000_000).into_bytes(),
        "*2147483648\r\n".into(),
        "*4294967296\r\n:1\r\n".into(),
        "*-5\r\n".into(),
        "$-2\r\n".into(),
        "$4611686018427387904\r\nabc\r\n".into(),
        "$18446744073709551615\r\n".into(),
        ":99999999999999999999999999\r\n".into(),
        "+OK\r\n".repeat(1_000_000).into_bytes(),
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n".into(),
        "%1\r\n+a\r\n+b\r\n".into(),
        "_\r\n".into(),
        "*3\r\n:1\r\n:1\r\n:1\r\n".into(),
        "*3\r\n*3\r\n:1\r\n:1\r\n:1\r\n".into(),
        vec![0; 1 << 20],
        huge,
        long_error.into_bytes(),
        moved.into_bytes(),
    ] {
        hostile.turn(Fault::Says(answer));
        assert_problem(&bench.send(&order()).await, 503, "store-unavailable");
    }
    bench.assert_executions(1);
    let log = bench.envoy.log();
    assert!(!log.contains('\u{1b}') && !log.contains("xxxxxxxx"), "a server's words are in the log");
    assert!(tokio::time::timeout(std::time::Duration::ZERO, bait.accept()).await.is_err(), "a server was followed");
    hostile.turn(Fault::Twists(Twist::new(|_, answer| answer)));
    assert_replay_of(&first, &bench.send(&order()).await);
    bench.assert_executions(1);
}

// === memory ===

#[tokio::test]
async fn a_body_that_grows_when_it_is_decompressed_is_refused() {
    const UNPACKED: usize = 64 << 20;

    let bench = Bench::start(Setup::new(&json!({})).filter_before(decompressor())).await;
    let packed = gzip(&vec![0; UNPACKED]);
    let request = order().header("content-encoding", "gzip").body(packed);
    for protocol in Protocol::BOTH {
        let response = bench.send_over(protocol, &request).await;
        assert_eq!(response.status, 413, "{response:?}");
    }
    bench.assert_executions(0);
    let small = order().header("content-encoding", "gzip").body(gzip(b"{}"));
    assert_executed(&bench.send(&small).await, 201);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::{Read, Write};

    let mut gzip = Command::new("gzip").arg("-9").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, body) = (gzip.stdin.take().unwrap(), body.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(&body).unwrap());
    let mut packed = Vec::new();
    gzip.stdout.take().unwrap().read_to_end(&mut packed).unwrap();
    writer.join().unwrap();
    assert!(gzip.wait().unwrap().success());
    packed
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_leave_nothing() {
    const CONNECTIONS: usize = 20;
    const STREAMS: usize = 90;

    let bench = Bench::new(json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } })).await;
    for _ in 0..CONNECTIONS {
        let client = bench.http2().await;
        let opened: Vec<_> = (0..STREAMS)
            .map(|number| {
                let (mut client, body) = (client.clone(), vec![b'x'; 2_000]);
                // A third each shares a key, has one of its own, and has a key that is none.
                let key = [format!("own-{number}"), "shared".to_owned(), "a b".to_owned()][number % 3].clone();
                let request = order().key(key).body(body).unfinished();
                tokio::spawn(async move { client.begin(&request).await })
            })
            .collect();
        // Who has a key that is none is answered at once.
        bench.envoy.reaches_stat("http.ingress.downstream_rq_active", STREAMS as u64 / 3 * 2).await;
        opened.iter().for_each(tokio::task::JoinHandle::abort);
        bench.envoy.reaches_stat("http.ingress.downstream_rq_active", 0).await;
    }
    for gauge in ["wasmcustom.idemgate.waiting", "wasmcustom.idemgate.detached"] {
        bench.envoy.reaches_stat(gauge, 0).await;
    }
    bench.assert_executions(0);
    // A claim is made when the body has come: nobody's has.
    bench.envoy.reaches_stat("wasmcustom.idemgate.store.entries", 0).await;
    assert_executed(&bench.send(&order().key("shared")).await, 201);
}

crate::bench::also_detached! {
    a_request_within_a_request_does_not_come_out_of_it,
    nothing_that_a_client_sends_chooses_where_a_request_goes,
    only_the_credential_itself_finds_the_answer_that_was_made_for_it,
    streams_that_are_opened_and_reset_leave_nothing,
}
