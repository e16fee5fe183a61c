//! Whom a key belongs to (contract, sections 2 and 3).

use serde_json::json;

use crate::bench::{
    Answer, Bench, Protocol, Request, Setup, assert_executed, assert_problem, assert_replay_of, jwt_authn, token,
};

#[tokio::test]
async fn a_caller_can_be_required() {
    let bench = Bench::new(json!({ "caller": { "required": true } })).await;
    let request = Request::post("/orders").key("k");
    for protocol in Protocol::BOTH {
        assert_problem(&bench.send_over(protocol, &request).await, 403, "caller-unknown");
    }
    bench.assert_executions(0);
    let first = bench.send(&request.clone().caller("alice")).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request.caller("alice")).await);
    bench.assert_executions(1);
}

#[tokio::test]
async fn an_answer_for_one_user_is_kept_for_a_caller_that_can_be_told_from_others() {
    for mode in ["inline", "detached"] {
        for directive in ["private", "max-age=0, no-store"] {
            let bench = Bench::new(json!({ "execution": { "mode": mode } })).await;
            let answer = Answer::new(201).header("cache-control", directive).json("{\"mine\":true}");
            bench.upstream.script("/orders", [answer.clone(), answer]);
            let request = Request::post("/orders").key("k");
            assert_executed(&bench.send(&request).await, 201);
            let problem = assert_problem(&bench.send_once_settled(&request).await, 409, "response-not-kept");
            assert_eq!(problem["original_status"], 201);
            let by_alice = request.caller("alice");
            let first = bench.send(&by_alice).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send_once_settled(&by_alice).await);
            bench.assert_executions(2);
        }
    }
}

#[tokio::test]
async fn all_identities_that_are_present_count_each_in_its_place() {
    let bench =
        Bench::new(json!({ "caller": { "identity": [{ "header": "x-tenant" }, { "header": "x-user" }] } })).await;
    let request = Request::post("/orders").key("k");
    let callers = [
        request.clone().header("x-tenant", "a").header("x-user", "b"),
        request.clone().header("x-tenant", "b").header("x-user", "a"),
        request.clone().header("x-tenant", "ab").header("x-user", ""),
        request.clone().header("x-tenant", "a"),
        request.clone().header("x-user", "a"),
        request.clone().header("x-user", b"\xff\xfe".as_slice()),
        request.clone(),
    ];
    for (number, caller) in callers.iter().enumerate() {
        let first = bench.send(caller).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(caller).await);
        assert_eq!(bench.upstream.executions(), number + 1, "{caller:?} was taken for another caller");
    }
    // Authorization is not asked here.
    let alice = request.header("x-tenant", "a").header("x-user", "b").caller("alice");
    assert_eq!(bench.send(&alice).await.text("idempotency-status"), "replayed");
}

#[tokio::test]
async fn a_caller_can_be_known_by_an_attribute_of_envoy() {
    let bench = Bench::new(json!({ "caller": { "identity": [{ "property": ["source", "address"] }] } })).await;
    let request = Request::post("/orders").key("k");
    // Address and port: each connection is a caller of its own.
    let (mut alice, mut bob) = (bench.http1().await, bench.http1().await);
    let first = alice.send(&request).await;
    assert_executed(&first, 201);
    assert_executed(&bob.send(&request).await, 201);
    assert_replay_of(&first, &alice.send(&request).await);
    bench.assert_executions(2);
}

#[tokio::test]
async fn a_map_among_attributes_is_one_caller_in_whatever_order_it_arrives() {
    // A payload without its last part, a claim that is an object, one that is a list of objects.
    for path in [&["jwt"][..], &["jwt", "address"], &["jwt", "accounts"]] {
        let property = [&["metadata", "filter_metadata", "envoy.filters.http.jwt_authn"], path].concat();
        let configuration = json!({ "caller": { "identity": [{ "property": property }], "required": true } });
        let bench = Bench::start(Setup::new(&configuration).filter_before(jwt_authn())).await;
        let by = |user: usize| {
            let account = |number: usize| json!({ "iban": format!("CH{user}{number}"), "bank": "b", "limit": number });
            token(&json!({
                "sub": format!("user-{user}"), "name": "n", "email": "e", "scope": "s", "verified": true, "level": 2.5,
                "aud": ["b", "a"], "nothing": {}, "none": [],
                "address": { "city": "Bern", "zip": format!("30{user}"), "geo": { "lat": user, "long": 7, "alt": 540 } },
                "accounts": [account(1), account(2), account(3)],
            }))
        };
        for user in 0..20 {
            let request = Request::post("/orders").key("k").caller(&by(user));
            let first = bench.send(&request).await;
            assert_executed(&first, 201);
            assert_replay_of(&first, &bench.send(&request).await);
            bench.assert_executions(user + 1);
        }
    }
}

#[tokio::test]
async fn a_list_with_other_elements_or_another_order_is_another_caller() {
    let property = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "jwt", "tenant_and_user"];
    let configuration = json!({ "caller": { "identity": [{ "property": property }], "required": true } });
    let bench = Bench::start(Setup::new(&configuration).filter_before(jwt_authn())).await;
    let lists = [json!(["1", "2"]), json!(["2", "1"]), json!(["1"]), json!([1, 2]), json!([2, 1]), json!("1")];
    for (number, list) in lists.into_iter().enumerate() {
        let request = Request::post("/orders").key("k").caller(&token(&json!({ "tenant_and_user": list })));
        let first = bench.send(&request).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request).await);
        bench.assert_executions(number + 1);
    }
}

#[tokio::test]
async fn an_attribute_that_is_empty_or_that_envoy_cannot_serialise_is_no_identity() {
    // One claim of null, and there is no payload.
    for (path, claims) in [
        (&["jwt"][..], json!({ "sub": "ann", "nickname": null })),
        (&["jwt", "groups"], json!({ "groups": [] })),
        (&["jwt", "groups"], json!({ "groups": {} })),
        (&["jwt", "groups"], json!({ "groups": "" })),
    ] {
        let property = [&["metadata", "filter_metadata", "envoy.filters.http.jwt_authn"], path].concat();
        let configuration = json!({ "caller": { "identity": [{ "property": property }], "required": true } });
        let bench = Bench::start(Setup::new(&configuration).filter_before(jwt_authn())).await;
        let request = Request::post("/orders").key("k").caller(&token(&claims));
        assert_problem(&bench.send(&request).await, 403, "caller-unknown");
        bench.assert_executions(0);
    }
}

#[tokio::test]
async fn callers_without_an_identity_are_one_and_the_operator_is_told() {
    // Verified, and taken away: what the default identity looks for is gone.
    let bench = Bench::start(Setup::new(&json!({})).filter_before(jwt_authn())).await;
    let by = |user: &str| Request::post("/orders").key("k").caller(&token(&json!({ "sub": user })));
    let first = bench.send(&by("ann")).await;
    assert_executed(&first, 201);
    for _ in 0..3 {
        assert_replay_of(&first, &bench.send(&by("bob")).await);
    }
    bench.envoy.reaches_stat("wasmcustom.idemgate.requests.caller_absent", 4).await;
    bench.envoy.logs("a guarded request has none of the identities that caller.identity names").await;
    let told = bench.envoy.log().matches("has none of the identities").count();
    assert!((1..=2).contains(&told), "told {told} times by two workers");
}

#[tokio::test]
async fn the_scheme_of_authorization_counts_without_case() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("k");
    let first = bench.send(&request.clone().header("authorization", "Bearer TeaPot")).await;
    assert_executed(&first, 201);
    assert_replay_of(&first, &bench.send(&request.clone().header("authorization", "bearer TeaPot")).await);
    assert_executed(&bench.send(&request.header("authorization", "Bearer teapot")).await, 201);
    bench.assert_executions(2);
    assert_eq!(bench.envoy.stat("wasmcustom.idemgate.requests.caller_absent").await.unwrap_or_default(), 0);
}

/// Two attempts of one caller, and one of another.
const ATTEMPTS: [[&str; 3]; 3] = [
    [
        "AWS4-HMAC-SHA256 Credential=AKIDANN/20261130/eu-central-1/execute-api/aws4_request, SignedHeaders=host, Signature=1",
        "AWS4-HMAC-SHA256 Credential=AKIDANN/20261130/eu-central-1/execute-api/aws4_request, SignedHeaders=host, Signature=2",
        "AWS4-HMAC-SHA256 Credential=AKIDBOB/20261130/eu-central-1/execute-api/aws4_request, SignedHeaders=host, Signature=3",
    ],
    [
        r#"OAuth oauth_consumer_key="app", oauth_token="ann", oauth_nonce="1", oauth_signature="1""#,
        r#"OAuth oauth_consumer_key="app", oauth_token="ann", oauth_nonce="2", oauth_signature="2""#,
        r#"OAuth oauth_consumer_key="app", oauth_token="bob", oauth_nonce="3", oauth_signature="3""#,
    ],
    [
        r#"Digest username="ann", realm="r", nonce="n", uri="/orders", nc=00000001, cnonce="1", response="1""#,
        r#"Digest username="ann", realm="r", nonce="n", uri="/orders", nc=00000002, cnonce="2", response="2""#,
        r#"Digest username="bob", realm="r", nonce="n", uri="/orders", nc=00000001, cnonce="3", response="3""#,
    ],
];

#[tokio::test]
async fn an_authorization_that_changes_with_each_attempt_is_told_of_once_for_each_scheme() {
    let bench = Bench::new(json!({})).await;
    let request = Request::post("/orders").key("k");
    for [one, two, _] in ATTEMPTS {
        for field in [one, two, one, two] {
            bench.send(&request.clone().header("authorization", field)).await;
        }
    }
    // What the warning is about: each attempt was another caller's.
    bench.assert_executions(6);
    for scheme in ["AWS4-HMAC-SHA256", "OAuth", "Digest"] {
        let line = format!("the Authorization header of the scheme {scheme} differs in each attempt");
        bench.envoy.logs(&line).await;
        let told = bench.envoy.log().matches(&line).count();
        assert!((1..=2).contains(&told), "told {told} times of {scheme} by two workers");
    }
}

#[tokio::test]
async fn the_credential_of_a_signed_request_stays_the_same() {
    let identity = json!([{ "authorization": "credential", "verified": true }]);
    let bench = Bench::new(json!({ "caller": { "identity": identity } })).await;
    for (number, [one, two, other]) in ATTEMPTS.into_iter().enumerate() {
        let request = Request::post("/orders").key("k");
        let first = bench.send(&request.clone().header("authorization", one)).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&request.clone().header("authorization", two)).await);
        assert_executed(&bench.send(&request.header("authorization", other)).await, 201);
        bench.assert_executions(2 * (number + 1));
    }
    assert!(!bench.envoy.log().contains("differs in each attempt"), "{}", bench.envoy.log());
}

crate::bench::also_detached! {
    a_caller_can_be_known_by_an_attribute_of_envoy,
    a_caller_can_be_required,
    a_map_among_attributes_is_one_caller_in_whatever_order_it_arrives,
    all_identities_that_are_present_count_each_in_its_place,
}
