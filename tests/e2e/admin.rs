//! The role `admin`: what an operator sees and changes, and what owners and clients get (`docs/operations.md`).

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::bench::{
    AUTHORITY, AdminListener, Answer, Bench, Envoy, Gate, Http1, Protocol, Request, Response, Setup, Store, TempDir,
    assert_executed, assert_problem, assert_replay_of, deny_header, patiently, refusal, try_send,
};

/// Unknown outcomes at once, whose leases are over soon.
fn quick() -> Value {
    json!({ "lease": "1s" })
}

/// A filter with these settings, and an admin with the same.
async fn bench(settings: &Value) -> Bench {
    Bench::start(Setup::new(settings).admin(AdminListener::new("loopback", settings))).await
}

/// A request to the admin, with the host that its URL would have.
fn ask(method: &'static str, target: &str) -> Request {
    Request::new(method, target).header("host", "localhost:9902")
}

fn order(target: &str, body: &Value) -> Request {
    ask("POST", target).header("content-type", "application/json").body(body.to_string())
}

/// A look-up of `key` as bearer `name` sends it to `path`.
fn lookup(key: &str, name: &str, path: &str) -> Request {
    order(
        "/operations/lookup",
        &json!({
            "key": key, "method": "POST", "authority": AUTHORITY, "path": path, "caller": [format!("Bearer {name}")],
        }),
    )
}

async fn tell(envoy: &Envoy, request: &Request) -> Response {
    let admin = envoy.admin_listener().await;
    Http1::connect(admin).await.send(request).await
}

/// What the admin says, which it must say well.
async fn told(envoy: &Envoy, request: &Request) -> Value {
    let response = tell(envoy, request).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.text("content-type"), "application/json", "{response:?}");
    assert_eq!(response.text("cache-control"), "no-store", "{response:?}");
    response.json().unwrap_or_else(|| panic!("a JSON object, got {response:?}"))
}

/// Why the admin does not do it.
async fn objection(envoy: &Envoy, request: &Request, status: u16, name: &str) -> Value {
    let response = tell(envoy, request).await;
    assert_objection(&response, status, name)
}

#[track_caller]
fn assert_objection(response: &Response, status: u16, name: &str) -> Value {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.text("content-type"), "application/problem+json", "{response:?}");
    let problem = response.json().unwrap_or_else(|| panic!("a JSON object, got {response:?}"));
    assert_eq!(problem["type"], format!("urn:idemgate:{name}"), "{response:?}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{response:?}");
    problem
}

fn hash(record: &Value) -> String {
    record["operation"].as_str().unwrap_or_else(|| panic!("no operation in {record}")).to_owned()
}

/// The first digits of a hash.
fn digits_of(hash: &str, digits: usize) -> &str {
    hash.get(..digits).unwrap_or_else(|| panic!("fewer than {digits} digits in {hash:?}"))
}

/// An operation that runs until the gate is opened, and its hash.
async fn running(bench: &Bench, request: &Request, gate: &Gate) -> (tokio::task::JoinHandle<Response>, String) {
    let held = Answer::new(201).json("{\"first\":true}").held_by(gate);
    bench.upstream.script("/orders", [held, Answer::new(201).json("{\"first\":false}")]);
    let first = bench.send_aside(Protocol::Http1, request);
    bench.upstream.reached(1).await;
    let record = told(&bench.envoy, &lookup("k", "alice", "/orders")).await;
    assert_eq!(record["state"], "in_flight", "{record}");
    (first, hash(&record))
}

fn alices() -> Request {
    Request::post("/orders").key("k").caller("alice")
}

#[tokio::test]
async fn an_operator_finds_an_operation_by_its_key_and_caller_and_by_its_hash() {
    let bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let record = told(&bench.envoy, &lookup("k", "alice", "/orders")).await;
    assert_eq!(record["state"], "completed", "{record}");
    assert_eq!(record["original_status"], 201, "{record}");
    assert!(record["response_bytes"].as_u64().is_some_and(|bytes| bytes > 10), "{record}");
    assert!(record["age_seconds"].as_u64().is_some_and(|age| age < 60), "{record}");
    assert!(record["expires"].as_str().is_some_and(|expires| expires.ends_with('Z')), "{record}");
    let keys: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let known = ["age_seconds", "expires", "operation", "original_status", "response_bytes", "state"];
    assert_eq!(keys, known, "nothing of what a caller sent or got");

    let operation = hash(&record);
    assert_eq!(told(&bench.envoy, &ask("GET", &format!("/operations/{operation}"))).await["operation"], *operation);
    let upper = operation.to_uppercase();
    assert_eq!(told(&bench.envoy, &ask("GET", &format!("/operations/{upper}"))).await["operation"], *operation);
    // The quoted form is the same key, an authority has no case, and a query does not count.
    let spelling = json!({
        "key": "\"k\"", "method": "POST", "authority": AUTHORITY.to_uppercase(), "path": "/orders?x=1",
        "caller": [["Bearer alice"]],
    });
    let same = told(&bench.envoy, &order("/operations/lookup", &spelling)).await;
    assert_eq!(hash(&same), operation);
    for other in [lookup("K", "alice", "/orders"), lookup("k", "bob", "/orders"), lookup("k", "alice", "/other")] {
        let problem = objection(&bench.envoy, &other, 404, "operation-not-found").await;
        assert_ne!(hash(&problem), operation);
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_is_known_of_an_outcome_is_told_in_each_state() {
    let bench = bench(&json!({ "limits": { "response_body": 10 } })).await;
    bench.upstream.script("/gateway", [Answer::new(502)]);
    bench.upstream.script("/large", [Answer::new(201).body(vec![b'x'; 100])]);
    bench.send(&Request::post("/gateway").key("k").caller("alice")).await;
    bench.send(&Request::post("/large").key("k").caller("alice")).await;
    bench.send_once_settled(&Request::post("/large").key("k").caller("alice")).await;
    let record = told(&bench.envoy, &lookup("k", "alice", "/gateway")).await;
    assert_eq!(record["state"], "unknown", "{record}");
    assert_eq!(record["unknown_because"], "no conclusive response was seen", "{record}");
    assert!(record["lease_left_seconds"].as_u64().is_some_and(|left| (1..=30).contains(&left)), "{record}");
    let record = told(&bench.envoy, &lookup("k", "alice", "/large")).await;
    assert_eq!((&record["state"], &record["original_status"]), (&json!("not_kept"), &json!(201)), "{record}");
}

/// An operation whose outcome is unknown and whose lease is over; its hash.
async fn stuck(bench: &Bench) -> String {
    bench.upstream.script("/orders", [Answer::new(502), Answer::new(201).json("{}")]);
    bench.send(&alices()).await;
    assert_problem(&bench.send_once_settled(&alices()).await, 409, "outcome-unknown");
    loop {
        let record = told(&bench.envoy, &lookup("k", "alice", "/orders")).await;
        assert_eq!(record["state"], "unknown", "{record}");
        if record["lease_left_seconds"] == 0 {
            return hash(&record);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_unknown_operation_that_did_not_run_is_released_and_runs() {
    let bench = bench(&quick()).await;
    let operation = stuck(&bench).await;
    let done = told(&bench.envoy, &order(&format!("/operations/{operation}/release"), &json!({}))).await;
    assert_eq!((&done["done"], &done["was"]), (&json!("released"), &json!("unknown")), "{done}");
    objection(&bench.envoy, &lookup("k", "alice", "/orders"), 404, "operation-not-found").await;
    let first = bench.send(&alices()).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&alices()).await);
    bench.assert_executions(2);
    bench.envoy.reaches_stat("wasmcustom.idemgate.admin.released", 1).await;
    bench
        .envoy
        .logs(&format!("admin: operation {} was unknown and is released now, as 127.0.0.1:", digits_of(&operation, 12)))
        .await;
    assert!(!bench.envoy.log().contains("Bearer"), "a caller is in the log");
}

#[tokio::test]
async fn an_unknown_operation_that_ran_is_told_so_and_runs_no_more() {
    let bench = bench(&quick()).await;
    let operation = stuck(&bench).await;
    let not_kept = format!("/operations/{operation}/not-kept");
    objection(&bench.envoy, &order(&not_kept, &json!({})), 400, "admin-bad-request").await;
    let done = told(&bench.envoy, &order(&not_kept, &json!({ "status": 201 }))).await;
    assert_eq!(done["done"], "not_kept", "{done}");
    let problem = assert_problem(&bench.send(&alices()).await, 409, "response-not-kept");
    assert_eq!(problem["original_status"], 201);
    objection(&bench.envoy, &order(&not_kept, &json!({ "status": 201 })), 409, "operation-executed").await;
    bench.assert_executions(1);
    bench.envoy.reaches_stat("wasmcustom.idemgate.admin.not_kept", 1).await;
}

#[tokio::test]
async fn what_ran_is_not_released_but_purged() {
    let bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let operation = hash(&told(&bench.envoy, &lookup("k", "alice", "/orders")).await);
    let forced = order(&format!("/operations/{operation}/release"), &json!({ "force": true }));
    let problem = objection(&bench.envoy, &forced, 409, "operation-executed").await;
    assert!(problem["detail"].as_str().unwrap().contains("purge"), "{problem}");
    let other = order(&format!("/operations/{operation}/not-kept"), &json!({ "status": 200 }));
    assert_eq!(objection(&bench.envoy, &other, 409, "operation-executed").await["original_status"], 201);

    // Without a body, too.
    let purge = ask("POST", &format!("/operations/{operation}/purge")).header("content-type", "application/json");
    let done = told(&bench.envoy, &purge).await;
    assert_eq!((&done["done"], &done["was"]), (&json!("purged"), &json!("completed")), "{done}");
    assert_executed(&bench.send(&alices()).await, 201);
    bench.assert_executions(2);
    bench.envoy.reaches_stat("wasmcustom.idemgate.admin.purged", 1).await;
}

#[tokio::test]
async fn a_running_operation_is_changed_only_by_force_and_its_owner_is_fenced() {
    let bench = bench(&json!({})).await;
    let gate = Gate::closed();
    let (first, operation) = running(&bench, &alices(), &gate).await;
    for (verb, body) in
        [("release", json!({})), ("purge", json!({ "force": false })), ("not-kept", json!({ "status": 200 }))]
    {
        let refused = order(&format!("/operations/{operation}/{verb}"), &body);
        let problem = objection(&bench.envoy, &refused, 409, "operation-alive").await;
        assert!(problem["lease_left_seconds"].as_u64().is_some_and(|left| (1..=30).contains(&left)), "{problem}");
    }
    let forced = order(&format!("/operations/{operation}/release"), &json!({ "force": true }));
    assert_eq!(told(&bench.envoy, &forced).await["was"], "in_flight");
    bench.envoy.logs("while its lease lived").await;

    // A retry runs, and is what counts from now on; the first one's client gets its answer all the same.
    let second = bench.send(&alices()).await;
    assert_executed(&second, 201);
    gate.open();
    let first = first.await.unwrap();
    assert_executed(&first, 201);
    assert_ne!(first.body, second.body);
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.fenced", 1).await;
    assert_replay_of(&second, &bench.send(&alices()).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn an_owner_that_ends_after_a_purge_leaves_nothing() {
    let bench = bench(&json!({})).await;
    let gate = Gate::closed();
    let (first, operation) = running(&bench, &alices(), &gate).await;
    told(&bench.envoy, &order(&format!("/operations/{operation}/purge"), &json!({ "force": true }))).await;
    gate.open();
    assert_executed(&first.await.unwrap(), 201);
    bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.fenced", 1).await;
    objection(&bench.envoy, &lookup("k", "alice", "/orders"), 404, "operation-not-found").await;
    assert_executed(&bench.send(&alices()).await, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn requests_that_wait_for_an_operation_go_on_when_it_is_changed() {
    let waits = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } });
    for (verb, body) in [("release", json!({ "force": true })), ("not-kept", json!({ "status": 201, "force": true }))] {
        let bench = bench(&waits).await;
        let gate = Gate::closed();
        let (first, operation) = running(&bench, &alices(), &gate).await;
        let waiting = bench.send_aside(Protocol::Http2, &alices());
        bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
        told(&bench.envoy, &order(&format!("/operations/{operation}/{verb}"), &body)).await;
        let response = patiently("the answer to the client that waited", waiting).await.unwrap();
        if verb == "release" {
            assert_executed(&response, 201);
            bench.assert_executions(2);
        } else {
            assert_problem(&response, 409, "response-not-kept");
            bench.assert_executions(1);
        }
        gate.open();
        assert_executed(&first.await.unwrap(), 201);
    }
}

#[tokio::test]
async fn a_look_up_that_races_a_completion_sees_one_or_the_other() {
    let bench = bench(&json!({})).await;
    for number in 0..20 {
        let key = format!("k{number}");
        let request = Request::post("/orders").key(key.clone()).caller("alice");
        let sent = bench.send_aside(Protocol::Http1, &request);
        let response = tell(&bench.envoy, &lookup(&key, "alice", "/orders")).await;
        assert!([200, 404].contains(&response.status), "{response:?}");
        if response.status == 200 {
            let state = response.json().unwrap()["state"].clone();
            assert!(state == "in_flight" || state == "completed", "{response:?}");
        }
        assert_executed(&sent.await.unwrap(), 201);
    }
}

#[tokio::test]
async fn the_table_is_counted_and_a_record_is_found_by_what_a_log_line_says() {
    let bench = bench(&json!({ "store": { "shared_data": { "max_entries": 50_000 } } })).await;
    bench.upstream.script("/gateway", [Answer::new(502)]);
    for number in 0..5 {
        bench.send(&Request::post("/orders").key(format!("k{number}")).caller("alice")).await;
    }
    bench.send(&Request::post("/gateway").key("k").caller("alice")).await;
    bench.send_once_settled(&Request::post("/gateway").key("k").caller("alice")).await;
    // Room that a worker has taken ahead counts until its next tick.
    let given_back = async {
        loop {
            let counts = told(&bench.envoy, &ask("GET", "/operations")).await;
            if counts["entries"] == 6 {
                return counts;
            }
        }
    };
    let counts = tokio::time::timeout(Duration::from_secs(20), given_back).await.expect("the entries of six records");
    let records = json!({ "completed": 5, "in_flight": 0, "not_kept": 0, "unknown": 1 });
    assert_eq!(counts["records"], records, "{counts}");
    assert_eq!(counts["max_entries"], 50_000, "{counts}");
    assert!(counts["bytes"].as_u64() <= counts["max_bytes"].as_u64(), "{counts}");

    let operation = hash(&told(&bench.envoy, &lookup("k3", "alice", "/orders")).await);
    for digits in [8, 12, 33] {
        let found = told(&bench.envoy, &ask("GET", &format!("/operations/{}", digits_of(&operation, digits)))).await;
        assert_eq!(hash(&found), operation);
    }
    objection(&bench.envoy, &ask("GET", "/operations/00000000"), 404, "operation-not-found").await;
    for short in ["/operations/0000000", "/operations/00000000/purge"] {
        let problem = tell(&bench.envoy, &ask("GET", short)).await;
        assert_objection(&problem, 404, "admin-no-such-path");
    }
}

#[tokio::test]
async fn what_is_not_understood_is_told_what_would_be_and_changes_nothing() {
    let bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let operation = hash(&told(&bench.envoy, &lookup("k", "alice", "/orders")).await);
    let purge = format!("/operations/{operation}/purge");
    for target in [
        "/",
        "/operation",
        "/operations/",
        "/operationslookup",
        "/operations/lookup/",
        "//operations",
        "/operations/..",
        "/operations?",
        "/operations/lookup?key=k",
        "/operations/%6cookup",
        "/OPERATIONS",
        "/stats",
        "/orders",
        &format!("/operations/{operation}/"),
        &format!("/operations/{operation}?x"),
        &format!("{purge}/"),
        &format!("/operations/x/../{operation}/purge"),
        &format!("/operations/{operation}/drop"),
        &format!("/operations/{}/purge", digits_of(&operation, 63)),
        &format!("/operations/{operation}0"),
    ] {
        for request in [ask("GET", target), order(target, &json!({}))] {
            assert_objection(&tell(&bench.envoy, &request).await, 404, "admin-no-such-path");
        }
    }
    for (method, target, allow) in [
        ("POST", "/operations", "GET"),
        ("DELETE", "/operations", "GET"),
        ("GET", "/operations/lookup", "POST"),
        ("OPTIONS", purge.as_str(), "POST"),
        ("PUT", purge.as_str(), "POST"),
        ("GET", purge.as_str(), "POST"),
    ] {
        let response = tell(&bench.envoy, &ask(method, target)).await;
        assert_objection(&response, 405, "admin-method-not-allowed");
        assert_eq!(response.text("allow"), allow, "{response:?}");
        assert_eq!(response.header("access-control-allow-origin"), None, "{response:?}");
    }
    // What a page in a browser can send to this machine without asking first.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"] {
        let request = ask("POST", &purge).header("content-type", content_type).body("{}");
        assert_objection(&tell(&bench.envoy, &request).await, 415, "admin-not-json");
    }
    objection(&bench.envoy, &ask("POST", &purge), 415, "admin-not-json").await;
    let nested = "[".repeat(10_000);
    for body in [
        "{",
        "[]",
        "null",
        "\"x\"",
        "{}{}",
        "{\"force\": 1}",
        "{\"force\": \"true\"}",
        "{\"force\": null}",
        "\u{7f}",
        "{\"force\": true, \"force\": true}",
        "{\"status\": 200}",
        "{\"\": 1}",
        "{\"force\": true",
        &nested,
        &format!("{{\"force\": {nested}"),
    ] {
        let request = ask("POST", &purge).header("content-type", "application/json").body(body);
        assert_objection(&tell(&bench.envoy, &request).await, 400, "admin-bad-request");
    }
    for not_kept in [
        "{}",
        "{\"status\": \"200\"}",
        "{\"status\": 99}",
        "{\"status\": 600}",
        "{\"status\": 65736}",
        "{\"status\": 2e2e2}",
    ] {
        let target = format!("/operations/{operation}/not-kept");
        let request = ask("POST", &target).header("content-type", "application/json").body(not_kept);
        assert_objection(&tell(&bench.envoy, &request).await, 400, "admin-bad-request");
    }
    let good = json!({ "key": "secret-k", "method": "POST", "authority": "a", "path": "/", "caller": ["secret-c"] });
    for (key, wrong) in [
        ("key", json!(1)),
        ("key", json!("")),
        ("key", json!("a b")),
        ("method", json!(null)),
        ("path", json!(["/"])),
        ("authority", json!({})),
        ("caller", json!("secret-c")),
        ("caller", json!([])),
        ("caller", json!(["a", "b"])),
        ("caller", json!([1])),
        ("caller", json!([[1]])),
        ("callers", json!([])),
    ] {
        let mut body = good.clone();
        body[key] = wrong;
        let response = tell(&bench.envoy, &order("/operations/lookup", &body)).await;
        assert_objection(&response, 400, "admin-bad-request");
        assert!(!String::from_utf8_lossy(&response.body).contains("secret"), "{response:?}");
    }
    let huge = json!({ "key": "k".repeat(70_000) });
    for request in [order("/operations/lookup", &huge), order("/operations/lookup", &huge).chunked()] {
        assert_objection(&tell(&bench.envoy, &request).await, 413, "admin-body-too-large");
    }
    assert_eq!(told(&bench.envoy, &lookup("k", "alice", "/orders")).await["state"], "completed");
    bench.assert_executions(1);
}

#[tokio::test]
async fn an_admins_path_on_the_ordinary_listener_is_the_services_own() {
    let bench = bench(&json!({})).await;
    for request in [ask("GET", "/operations"), lookup("k", "alice", "/orders")] {
        let response = bench.send(&request).await;
        assert_eq!(
            (response.status, response.text("content-type").as_str()),
            (201, "application/json"),
            "{response:?}"
        );
    }
    bench.assert_executions(2);
    assert_eq!(bench.upstream.seen()[1].path, "/operations/lookup");
}

#[tokio::test]
async fn an_admin_answers_over_http2_and_a_kept_connection() {
    let bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let admin = bench.envoy.admin_listener().await;
    let mut client = Http1::connect(admin).await;
    for _ in 0..3 {
        assert_eq!(client.send(&lookup("k", "alice", "/orders")).await.status, 200);
        assert_eq!(client.send(&ask("GET", "/operations")).await.status, 200);
    }
    let response = try_send(admin, Protocol::Http2, &lookup("k", "alice", "/orders").without("host")).await.unwrap();
    assert_objection(&response, 403, "admin-refused");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_five_seconds() {
    let settings = json!({});
    let admin = AdminListener::new("loopback", &settings).without_stop_iteration();
    let bench = Bench::start(Setup::new(&settings).admin(admin)).await;
    // The host keeps it back.
    let problem = objection(&bench.envoy, &lookup("k", "alice", "/orders"), 408, "admin-no-body").await;
    assert!(problem["detail"].as_str().unwrap().contains("allow_on_headers_stop_iteration"), "{problem}");
    assert_eq!(told(&bench.envoy, &ask("GET", "/operations")).await["store"], "shared_data");
    bench.assert_executions(0);
}

/// Asks for the counts in these ways; each must be refused.
async fn assert_refused(admin: SocketAddr, requests: &[Request], words: &str) {
    for request in requests {
        let response = Http1::connect(admin).await.send(request).await;
        let problem = assert_objection(&response, 403, "admin-refused");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
}

#[tokio::test]
async fn the_loopback_guard_refuses_what_comes_through_proxies_and_browsers() {
    let bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let admin = bench.envoy.admin_listener().await;
    let forwarded = |value: &str| ask("GET", "/operations").header("x-forwarded-for", value);
    let proxied =
        [forwarded("192.0.2.1"), forwarded("127.0.0.1, 192.0.2.1"), forwarded("192.0.2.1, 127.0.0.1"), forwarded("x")];
    assert_refused(admin, &proxied, "straight to it").await;
    let host = |value: &str| Request::get("/operations").header("host", value);
    let rebound = [
        host("evil.example"),
        host("evil.example:9902"),
        host("localhost.evil.example"),
        host("127.0.0.1.evil.example"),
        host("[localhost].evil.example"),
        host("[::1].evil.example"),
        host("localhost:9902.evil.example"),
        host("127...."),
    ];
    assert_refused(admin, &rebound, "localhost").await;
    let asked = |name: &'static str, value: &str| ask("GET", "/operations").header(name, value);
    let by_pages = [
        asked("origin", "https://evil.example"),
        asked("origin", "null"),
        asked("sec-fetch-site", "cross-site"),
        asked("sec-fetch-site", "same-site"),
    ];
    assert_refused(admin, &by_pages, "web page").await;
    let by_proxies = ["via", "forwarded", "x-real-ip", "x-forwarded-host"].map(|name| asked(name, "x"));
    assert_refused(admin, &by_proxies, "straight to it").await;
    assert_eq!(Http1::connect(admin).await.send(&asked("sec-fetch-site", "none")).await.status, 200);
    for good in
        [host("localhost"), host("127.0.0.1:9902"), host("[::1]:9902"), host("LOCALHOST:1"), forwarded("127.0.0.1")]
    {
        assert_eq!(Http1::connect(admin).await.send(&good).await.status, 200, "{good:?}");
    }
    // Whether there is a record or not: refused alike.
    let there =
        Http1::connect(admin).await.send(&lookup("k", "alice", "/orders").header("x-forwarded-for", "192.0.2.1")).await;
    let not_there =
        Http1::connect(admin).await.send(&lookup("x", "alice", "/orders").header("x-forwarded-for", "192.0.2.1")).await;
    assert_eq!((there.status, there.body), (not_there.status, not_there.body));
    bench.envoy.reaches_stat("wasmcustom.idemgate.admin.refused", 22).await;
    let lines = bench.envoy.log().lines().filter(|line| line.contains("was refused")).count();
    assert!((1..=4).contains(&lines), "{lines} lines: one per worker and 10 s");
}

#[tokio::test]
async fn the_loopback_guard_refuses_requests_that_reach_the_listener_at_another_address() {
    let Some(address) = own_address() else { return };
    let settings = json!({});
    let admin = AdminListener::new("loopback", &settings).everywhere();
    let bench = Bench::start(Setup::new(&settings).admin(admin)).await;
    let local = bench.envoy.admin_listener().await;
    let remote = SocketAddr::new(address, local.port());
    assert_eq!(Http1::connect(local).await.send(&ask("GET", "/operations")).await.status, 200);
    let spoofed = ask("GET", "/operations").header("x-forwarded-for", "127.0.0.1");
    assert_refused(remote, &[ask("GET", "/operations"), spoofed], "Bind the listener").await;
}

/// An address of this machine that is not a loopback one. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

#[tokio::test]
async fn the_loopback_guard_lets_in_what_comes_over_a_unix_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let directory = TempDir::new();
    let path = directory.join("admin.sock");
    let settings = json!({});
    let admin = AdminListener::new("loopback", &settings).pipe(&path);
    let _bench = Bench::start(Setup::new(&settings).admin(admin)).await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /operations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    patiently("an answer over the socket", stream.read_to_end(&mut response)).await.unwrap();
    let response = String::from_utf8_lossy(&response).into_owned();
    assert!(response.starts_with("HTTP/1.1 200 ") && response.contains("\"max_entries\""), "{response}");
}

#[tokio::test]
async fn the_guard_of_filters_must_be_declared_by_the_listener() {
    let settings = json!({});
    let admin = AdminListener::new("filters", &settings).filter_before(deny_header("x-deny"));
    let bench = Bench::start(Setup::new(&settings).admin(admin.clone())).await;
    let undeclared = bench.envoy.admin_listener().await;
    assert_refused(undeclared, &[ask("GET", "/operations")], "filter_metadata: {idemgate: {admin: true}}").await;

    let bench = Bench::start(Setup::new(&settings).admin(admin.declared())).await;
    let declared = bench.envoy.admin_listener().await;
    // Anyone whom the operator's filters let pass, at any address.
    let remote = Request::get("/operations").header("host", "admin.example").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(Http1::connect(declared).await.send(&remote).await.status, 200);
    let denied = Http1::connect(declared).await.send(&remote.header("x-deny", "yes")).await;
    assert_eq!(denied.status, 403, "{denied:?}");
    assert_ne!(denied.text("content-type"), "application/problem+json", "the operator's filter comes first");
}

#[tokio::test]
async fn a_remote_store_says_how_much_it_holds_and_finds_whole_hashes_only() {
    let (store, place, count, find) = match Store::current() {
        Store::Postgres => ("postgres", ("schema", "idemgate"), "psql -c", "LIKE 'DIGITS%'"),
        Store::Redis(_) => ("redis", ("prefix", "idemgate:"), "redis-cli --scan", "--pattern 'idemgate:DIGITS*'"),
        Store::DynamoDb => ("dynamodb", ("table", "idemgate"), "aws dynamodb scan", "Look the operation up"),
        Store::SharedData => return,
    };
    let bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let counts = told(&bench.envoy, &ask("GET", "/operations")).await;
    assert_eq!((&counts["store"], &counts[place.0]), (&json!(store), &json!(place.1)), "{counts}");
    assert!(counts["count_by_state"].as_str().is_some_and(|command| command.starts_with(count)), "{counts}");
    let short = objection(&bench.envoy, &ask("GET", "/operations/01234567"), 400, "operation-whole-hash-needed").await;
    assert!(short["detail"].as_str().unwrap().contains(find), "{short}");
}

#[tokio::test]
async fn while_a_remote_store_is_down_an_operator_is_told_what_to_look_at() {
    if Store::current() == Store::SharedData {
        return;
    }
    let mut bench = bench(&json!({})).await;
    assert_executed(&bench.send(&alices()).await, 201);
    let operation = hash(&told(&bench.envoy, &lookup("k", "alice", "/orders")).await);
    bench.kill_store();
    let release = order(&format!("/operations/{operation}/release"), &json!({}));
    for request in [lookup("k", "alice", "/orders"), release, ask("GET", "/operations")] {
        let problem = objection(&bench.envoy, &request, 503, "store-unavailable").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("Nothing was changed") && detail.contains("check the hosts"), "{problem}");
    }
    bench.envoy.reaches_stat("wasmcustom.idemgate.admin.failed", 3).await;
}

#[tokio::test]
async fn a_change_whose_operator_has_hung_up_is_logged_all_the_same() {
    let connections = match Store::current() {
        Store::Postgres => "cluster.postgres.upstream_cx_total",
        Store::Redis(_) => "cluster.redis.upstream_cx_total",
        // Its clock has whole seconds.
        Store::DynamoDb | Store::SharedData => return,
    };
    let bench = bench(&quick()).await;
    let operation = stuck(&bench).await;
    let calls = bench.envoy.stat(connections).await.unwrap();
    bench.pause_store();
    let admin = bench.envoy.admin_listener().await;
    let mut client = Http1::connect(admin).await;
    client.begin(&order(&format!("/operations/{operation}/release"), &json!({}))).await;
    bench.envoy.reaches_stat(connections, calls + 1).await;
    client.hang_up();
    bench.resume_store();
    bench.envoy.logs("is released now").await;
    bench.envoy.reaches_stat("wasmcustom.idemgate.admin.released", 1).await;
    assert_executed(&bench.send(&alices()).await, 201);
}

#[tokio::test]
async fn the_example_does_what_the_manual_says() {
    let bench = Bench::example_with("admin", &[("port_value: 9902".to_owned(), "port_value: 0".to_owned())]).await;
    bench.upstream.script("/orders", [Answer::new(502), Answer::new(201).json("{}")]);
    bench.send(&alices()).await;
    assert_problem(&bench.send_once_settled(&alices()).await, 409, "outcome-unknown");
    let operation = hash(&told(&bench.envoy, &lookup("k", "alice", "/orders")).await);
    let release = format!("/operations/{operation}/release");
    objection(&bench.envoy, &order(&release, &json!({})), 409, "operation-alive").await;
    let ran = order(&format!("/operations/{operation}/not-kept"), &json!({ "status": 201 }));
    assert_eq!(told(&bench.envoy, &ran).await["a_retry"], "gets 409 response-not-kept");
    let problem = assert_problem(&bench.send(&alices()).await, 409, "response-not-kept");
    assert_eq!(problem["original_status"], 201);
    assert_eq!(told(&bench.envoy, &ask("GET", "/operations")).await["records"]["not_kept"], 1);
    bench.assert_executions(1);
}

#[tokio::test]
async fn an_admin_without_a_guard_is_refused_with_the_words_what_to_do() {
    let log = refusal(&Setup::with_text(r#"{"role": "admin"}"#)).await;
    assert!(log.contains("guard: found nothing") && log.contains("docs/operations.md"), "{log}");
}

crate::bench::also_on_remote_stores! {
    direct: {
        a_change_whose_operator_has_hung_up_is_logged_all_the_same,
        while_a_remote_store_is_down_an_operator_is_told_what_to_look_at,
        a_look_up_that_races_a_completion_sees_one_or_the_other,
        a_running_operation_is_changed_only_by_force_and_its_owner_is_fenced,
        an_operator_finds_an_operation_by_its_key_and_caller_and_by_its_hash,
        an_owner_that_ends_after_a_purge_leaves_nothing,
        an_unknown_operation_that_did_not_run_is_released_and_runs,
        an_unknown_operation_that_ran_is_told_so_and_runs_no_more,
        a_remote_store_says_how_much_it_holds_and_finds_whole_hashes_only,
        what_is_known_of_an_outcome_is_told_in_each_state,
        what_ran_is_not_released_but_purged,
        requests_that_wait_for_an_operation_go_on_when_it_is_changed,
    }
    pooled: {
        a_running_operation_is_changed_only_by_force_and_its_owner_is_fenced,
        an_operator_finds_an_operation_by_its_key_and_caller_and_by_its_hash,
        an_unknown_operation_that_did_not_run_is_released_and_runs,
        a_remote_store_says_how_much_it_holds_and_finds_whole_hashes_only,
        requests_that_wait_for_an_operation_go_on_when_it_is_changed,
    }
}
