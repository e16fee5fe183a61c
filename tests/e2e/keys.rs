//! Which keys are good, and what the others get (contract, sections 2 and 3).

use serde_json::json;

use crate::bench::{
    Bench, Protocol, Request, Response, assert_executed, assert_problem, assert_replay_of, assert_unguarded, encode,
};

/// Sends these header lines, as they are, with a POST over a new connection.
async fn send_lines(bench: &Bench, lines: &[&[u8]]) -> Response {
    let mut message = encode(&Request::post("/orders").without("idempotency-key"));
    let end_of_request_line = message.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    let mut fields = Vec::new();
    for line in lines {
        fields.extend_from_slice(line);
        fields.extend_from_slice(b"\r\n");
    }
    message.splice(end_of_request_line..end_of_request_line, fields);
    let mut client = bench.http1().await;
    client.write(&message).await;
    client.response_to("POST").await
}

#[tokio::test]
async fn a_malformed_key_is_refused_and_nothing_is_executed() {
    let bench = Bench::new(json!({})).await;
    let too_long = [b"idempotency-key: ".as_slice(), &[b'k'; 256]].concat();
    let hostile: [(&str, &[&[u8]]); 15] = [
        ("empty", &[b"idempotency-key:"]),
        ("blank", &[b"idempotency-key:    "]),
        ("an empty string", &[b"idempotency-key: \"\""]),
        ("256 bytes", &[&too_long]),
        ("a tab inside", &[b"idempotency-key: a\tb"]),
        ("a space inside", &[b"idempotency-key: a b"]),
        ("UTF-8", &["idempotency-key: clé".as_bytes()]),
        ("no UTF-8", &[b"idempotency-key: k\xff\xfe"]),
        ("no UTF-8 in a string", &[b"idempotency-key: \"k\xe9\""]),
        ("an open string", &[b"idempotency-key: \"abc"]),
        ("an unknown escape", &[b"idempotency-key: \"a\\x\""]),
        ("a list of strings", &[b"idempotency-key: \"a\", \"b\""]),
        ("parameters", &[b"idempotency-key: \"a\";v=1"]),
        ("two lines", &[b"idempotency-key: a", b"idempotency-key: b"]),
        ("two equal lines", &[b"idempotency-key: a", b"Idempotency-Key: a"]),
    ];
    for (what, lines) in hostile {
        let response = send_lines(&bench, lines).await;
        let wire: Vec<String> = lines.iter().map(|line| line.escape_ascii().to_string()).collect();
        assert_eq!(response.status, 400, "{what}: {wire:?} got {response:?}");
        assert_problem(&response, 400, "key-invalid");
        assert_eq!(bench.upstream.executions(), 0, "{what}: {wire:?} reached the upstream");
    }
    // The workers are as well as before.
    assert_executed(&bench.send(&Request::post("/orders").key("good")).await, 201);
}

#[tokio::test]
async fn bytes_that_http_forbids_never_reach_the_upstream() {
    let bench = Bench::new(json!({})).await;
    for byte in (0..0x20).chain([0x7f]).filter(|byte| !b"\t\n\r".contains(byte)) {
        let line = [b"idempotency-key: a".as_slice(), &[byte], b"b"].concat();
        let response = send_lines(&bench, &[&line]).await;
        // Envoy's own parser may be the one who says it.
        assert_eq!(response.status, 400, "a key with the byte {byte:#04x} got {response:?}");
    }
    bench.assert_executions(0);
    assert_executed(&bench.send(&Request::post("/orders").key("good")).await, 201);
}

#[tokio::test]
async fn malformed_keys_are_refused_over_http2_too() {
    let bench = Bench::new(json!({})).await;
    for key in [b"".as_slice(), b"a b", b"a\tb", b"k\xff", b"\"open", b"\"a\", \"b\""] {
        let response = bench.send_over(Protocol::Http2, &Request::post("/orders").key(key)).await;
        assert_problem(&response, 400, "key-invalid");
    }
    let two = Request::post("/orders").key("a").header("idempotency-key", "b");
    assert_problem(&bench.send_over(Protocol::Http2, &two).await, 400, "key-invalid");
    bench.assert_executions(0);
}

#[tokio::test]
async fn the_bare_and_the_quoted_form_are_one_key() {
    let bench = Bench::new(json!({})).await;
    let longest = "k".repeat(255);
    let pairs = [
        ("order-17".to_owned(), "\"order-17\"".to_owned()),
        ("a\"b".to_owned(), r#""a\"b""#.to_owned()),
        (r"a\b".to_owned(), r#""a\\b""#.to_owned()),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324".to_owned(), "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"".to_owned()),
        // The limit counts the key, not its quotes.
        (longest.clone(), format!("\"{longest}\"")),
    ];
    for (number, (bare, quoted)) in pairs.into_iter().enumerate() {
        let first = bench.send(&Request::post("/orders").key(bare.clone())).await;
        assert_executed(&first, 201);
        for protocol in Protocol::BOTH {
            let retry = Request::post("/orders").key(quoted.clone());
            assert_replay_of(&first, &bench.send_over(protocol, &retry).await);
        }
        assert_eq!(bench.upstream.executions(), number + 1, "executions of {bare} and {quoted}");
    }
}

#[tokio::test]
async fn a_key_can_be_required() {
    let bench = Bench::new(json!({ "key": { "required": true } })).await;
    for protocol in Protocol::BOTH {
        assert_problem(&bench.send_over(protocol, &Request::post("/orders")).await, 400, "key-missing");
        assert_unguarded(&bench.send_over(protocol, &Request::get("/orders")).await, 201);
    }
    bench.assert_executions(2);
    assert_executed(&bench.send(&Request::post("/orders").key("k")).await, 201);
}

#[tokio::test]
async fn keys_can_have_to_be_uuids_of_a_length_under_other_names() {
    let bench = Bench::new(json!({
        "key": { "headers": ["x-request-key", "idempotency-key"], "format": "uuid", "max_length": 36 },
    }))
    .await;
    let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    let request = Request::post("/orders");
    let first = bench.send(&request.clone().header("x-request-key", uuid)).await;
    assert_executed(&first, 201);
    // The same key under the other name is the same operation; the first name counts if both are there.
    assert_replay_of(&first, &bench.send(&request.clone().key(uuid)).await);
    let both = request.clone().header("x-request-key", uuid).key("8e03978e-40d5-43dd-bc93-000000000000");
    assert_replay_of(&first, &bench.send(&both).await);

    for key in ["order-17", "8e03978e40d543ddbc936894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f932g"] {
        assert_problem(&bench.send(&request.clone().key(key)).await, 400, "key-invalid");
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_key_on_a_method_that_is_not_guarded_is_counted_and_told_of_once() {
    let bench = Bench::new(json!({})).await;
    for method in ["PUT", "DELETE", "PUT"] {
        assert_unguarded(&bench.send(&Request::new(method, "/orders/1").key("k")).await, 201);
    }
    for method in ["PUT", "DELETE"] {
        assert_unguarded(&bench.send(&Request::new(method, "/orders/1")).await, 201);
    }
    assert_unguarded(&bench.send(&Request::get("/orders/1").key("k")).await, 201);
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.key_unguarded", 3).await;
    bench.envoy.logs("request carries an idempotency key, and passed unprotected").await;
    bench.assert_executions(6);
}

#[tokio::test]
async fn keys_can_be_limited_in_length() {
    let bench = Bench::new(json!({ "key": { "max_length": 8 } })).await;
    assert_executed(&bench.send(&Request::post("/orders").key("12345678")).await, 201);
    assert_problem(&bench.send(&Request::post("/orders").key("123456789")).await, 400, "key-invalid");
    assert_problem(&bench.send(&Request::post("/orders").key("\"123456789\"")).await, 400, "key-invalid");
    bench.assert_executions(1);
}

crate::bench::also_detached! {
    a_key_can_be_required,
    a_malformed_key_is_refused_and_nothing_is_executed,
    malformed_keys_are_refused_over_http2_too,
    the_bare_and_the_quoted_form_are_one_key,
}

#[tokio::test]
async fn an_opaque_key_is_the_whole_value_with_its_spaces_commas_and_quotes() {
    let bench = Bench::new(json!({ "key": { "syntax": "opaque", "max_length": 12 } })).await;
    let keys = ["a b", "a,b", "a, b", "k;v=1", "\"K\"", "K", "\"open", "a\\b"];
    for (number, key) in keys.into_iter().enumerate() {
        let request = Request::post("/orders").key(key);
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        for protocol in Protocol::BOTH {
            assert_replay_of(&first, &bench.send_over(protocol, &request).await);
        }
        bench.assert_executions(number + 1);
    }
    for lines in [
        &[b"idempotency-key:  ".as_slice()][..],
        &[b"idempotency-key: 1234567890123"],
        &["idempotency-key: cl\u{e9}".as_bytes()],
        &[b"idempotency-key: a\tb"],
        &[b"idempotency-key: a", b"idempotency-key: a"],
    ] {
        assert_problem(&send_lines(&bench, lines).await, 400, "key-invalid");
    }
    bench.assert_executions(keys.len());
}
