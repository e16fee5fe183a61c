//! Envoy's `cors` filter in front, as docs/clients.md has it.

use serde_json::{Value, json};

use crate::bench::{Bench, Request, Setup, assert_executed, assert_problem};

#[tokio::test]
async fn a_replay_and_a_problem_have_the_fields_of_the_page_that_asks() {
    let bench = Bench::start(cors(Setup::new(&json!({})), &["https://one.example", "https://two.example"])).await;
    let request = |origin: &str| Request::post("/pay").key("shared").caller("someone").header("origin", origin);
    let first = bench.send(&request("https://one.example")).await;
    assert_executed(&first, 201);
    assert_eq!(first.all("access-control-allow-origin"), [b"https://one.example"]);
    let replay = bench.send(&request("https://two.example")).await;
    assert_eq!(replay.text("idempotency-status"), "replayed");
    assert_eq!(replay.all("access-control-allow-origin"), [b"https://two.example"]);
    let problem = bench.send(&request("https://two.example").body("another")).await;
    assert_problem(&problem, 422, "key-reused");
    assert_eq!(problem.all("access-control-allow-origin"), [b"https://two.example"]);
    bench.assert_executions(1);
}

/// The `cors` filter of Envoy, with the fields that docs/clients.md names.
pub(crate) fn cors(setup: Setup, origins: &[&str]) -> Setup {
    let origins: Vec<Value> = origins.iter().map(|origin| json!({ "exact": origin })).collect();
    let policy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins,
        "allow_methods": "POST",
        "allow_headers": "authorization,content-type,idempotency-key",
        "expose_headers": "idempotency-status,idempotency-replayed,idempotency-expires,retry-after",
        "max_age": "600",
    });
    let filter = json!({
        "name": "envoy.filters.http.cors",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors" },
    });
    setup
        .filter_before(filter)
        .virtual_host(json!({ "typed_per_filter_config": { "envoy.filters.http.cors": policy } }))
}
