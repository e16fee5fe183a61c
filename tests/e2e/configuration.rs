//! Configurations that Envoy must refuse, with a message that helps (contract, section 2).

use serde_json::{Value, json};

use crate::bench::{Bench, Request, Setup, assert_unguarded, refusal};

/// Fails unless Envoy refuses `setup` and logs each of `words`.
async fn assert_refused(setup: Setup, words: &[&str]) {
    let log = refusal(&setup).await;
    for word in words {
        assert!(log.contains(word), "the refusal does not say {word:?}; {setup:?}\n{log}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_the_path_of_what_is_wrong() {
    let wrong: [(Value, &[&str]); 14] = [
        (json!({ "kee": {} }), &["kee"]),
        (json!({ "key": { "max_lenght": 10 } }), &["key", "max_lenght"]),
        (json!({ "key": { "max_length": "long" } }), &["key.max_length", "long"]),
        (json!({ "key": { "format": "ulid" } }), &["key.format", "ulid", "uuid"]),
        (json!({ "methods": "POST" }), &["methods"]),
        (json!({ "ttl": "soon" }), &["ttl", "soon"]),
        (json!({ "lease": 30 }), &["lease", "30"]),
        (json!({ "limits": { "request_body": "1 elephant" } }), &["limits.request_body", "elephant"]),
        (json!({ "outcome": { "store": ["7xx"] } }), &["outcome.store", "7xx"]),
        (json!({ "outcome": { "store": [500], "release": [500] } }), &["outcome", "500"]),
        (json!({ "fingerprint": { "body": "raw", "ignore": ["/a"] } }), &["fingerprint.ignore"]),
        (json!({ "caller": { "identity": [{ "headr": "x" }] } }), &["caller.identity", "headr"]),
        (json!({ "store": { "shared_data": { "max_entries": 0 } } }), &["store.shared_data.max_entries", "0"]),
        (
            json!({ "store": { "shared_data": { "max_entries": 864_000 } } }),
            &["store.shared_data.max_entries", "864000", "at most 174762 with this max_bytes", "324000KiB"],
        ),
    ];
    for (configuration, words) in wrong {
        assert_refused(Setup::new(&configuration), words).await;
    }
}

#[tokio::test]
async fn a_configuration_that_is_no_json_text_is_refused_with_the_remedy() {
    assert_refused(Setup::with_text("{\"key\": "), &["JSON"]).await;
    assert_refused(Setup::with_text("[]"), &["JSON object"]).await;
    assert_refused(Setup::with_struct(json!({ "key": { "required": true } })), &["StringValue"]).await;
}

#[tokio::test]
async fn an_empty_configuration_is_the_default_one() {
    for setup in [Setup::with_text(""), Setup::with_text(" {} ")] {
        let bench = Bench::start(setup).await;
        assert_unguarded(&bench.send(&Request::post("/orders")).await, 201);
        let request = Request::post("/orders").key("k");
        bench.send(&request).await;
        assert_eq!(bench.send(&request).await.text("idempotency-status"), "replayed");
        bench.assert_executions(2);
    }
}
