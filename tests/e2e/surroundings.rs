//! A replay is the first response, whatever route configuration and other filters do to local replies.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::bench::{
    Answer, Bench, Gate, Protocol, Request, Response, Setup, also_detached, also_on_remote_stores, assert_executed,
    assert_problem, assert_replay_of, compressor, deny_header, is_since, lua, lua_on_response,
};

const ORIGIN: &str = "https://app.example";

fn order() -> Request {
    Request::post("/orders").key("k")
}

/// The answer of a service that names what is added around it as well.
fn created() -> Answer {
    Answer::new(201).header("vary", "accept").header("link", "</a>").header("link", "</b>").json("{\"id\":1}")
}

/// `response_headers_to_add` with fields that browsers refuse when they are there twice.
fn added(action: &str) -> Value {
    let field = |name: &str, value: &str| json!({ "header": { "key": name, "value": value }, "append_action": action });
    json!({ "response_headers_to_add": [
        field("access-control-allow-origin", ORIGIN),
        field("strict-transport-security", "max-age=1"),
        field("content-type", "application/json"),
        field("x-added", "1"),
    ] })
}

const ACTIONS: [&str; 4] =
    ["APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"];

/// All that a client gets of a response but what belongs to the message alone.
fn fields(response: &Response) -> Vec<(&str, String)> {
    let mut fields: Vec<_> = response
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()))
        .filter(|(name, _)| !(["date", "server"].contains(name) || name.starts_with("idempotency-")))
        .filter(|(name, _)| !name.starts_with("x-envoy-"))
        .collect();
    fields.sort();
    fields
}

#[tokio::test]
async fn fields_that_routes_add_are_there_once() {
    for action in ACTIONS {
        for setup in [
            Setup::new(&json!({})).virtual_host(added(action)),
            Setup::new(&json!({})).route_config(added(action)),
            Setup::new(&json!({})).every_route(added(action)),
            Setup::new(&json!({})).every_route(added(action)).virtual_host(added(action)).route_config(added(action)),
        ] {
            let bench = Bench::start(setup).await;
            let service = Answer::new(409).header("access-control-allow-origin", "https://other.example").json("{}");
            bench.upstream.script("/conflict", [service, Answer::new(299)]);
            bench.upstream.script("/orders", [created(), Answer::new(299)]);
            for request in [order(), Request::post("/conflict").key("k")] {
                let first = bench.send(&request).await;
                assert_executed(&first, first.status);
                for protocol in Protocol::BOTH {
                    let replay = bench.send_over(protocol, &request).await;
                    assert_replay_of(&first, &replay);
                    assert_eq!(fields(&replay), fields(&first), "{action}");
                }
            }
            // What is added is on problems, too, and they have one type.
            let problem = bench.send(&order().body("other")).await;
            assert_problem(&problem, 422, "key-reused");
            assert_eq!(problem.all("content-type"), [b"application/problem+json"], "{action}: {problem:?}");
            bench.assert_executions(2);
        }
    }
}

#[tokio::test]
async fn an_answer_of_a_detached_call_has_each_field_once() {
    for action in ACTIONS {
        let configuration = json!({ "execution": { "mode": "detached" } });
        for setup in [
            Setup::new(&configuration).virtual_host(added(action)),
            Setup::new(&configuration).route_config(added(action)),
            Setup::new(&configuration).every_route(added(action)),
        ] {
            let bench = Bench::start(setup).await;
            let answer = created().header("access-control-allow-origin", "https://service.example");
            bench.upstream.script("/orders", [answer.header("x-added", "0"), Answer::new(299)]);
            let first = bench.send(&order()).await;
            assert_executed(&first, 201);
            assert_eq!(first.all("access-control-allow-origin"), [b"https://service.example"], "{action}: {first:?}");
            assert_eq!(first.all("x-added"), [b"0"], "{action}: {first:?}");
            assert_eq!(first.all("content-type"), [b"application/json"], "{action}: {first:?}");
            assert_replay_of(&first, &bench.send_once_settled(&order()).await);
            bench.assert_executions(1);
        }
    }
}

/// A `header_mutation` filter.
fn header_mutation(action: &str) -> Value {
    let append = |name: &str, value: &str| json!({ "append": { "header": { "key": name, "value": value }, "append_action": action } });
    json!({
        "name": "header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": { "response_mutations": [
                append("access-control-allow-origin", ORIGIN), append("vary", "origin"), append("x-added", "1"),
            ] },
        },
    })
}

#[tokio::test]
async fn what_filters_behind_do_to_a_response_is_done_once() {
    let lua_fields = "response:headers():add('x-added', '1') response:headers():add('vary', 'origin')";
    let lua_body = "local body = response:body() \
                    local length = body:setBytes('[' .. body:getBytes(0, body:length()) .. ']') \
                    response:headers():replace('content-length', length)";
    let filters = ACTIONS.map(header_mutation).into_iter().chain([
        lua_on_response(lua_fields),
        lua_on_response(lua_body),
        lua_on_response(&format!("{lua_fields} {lua_body}")),
    ]);
    for filter in filters {
        let bench = Bench::start(Setup::new(&json!({})).filter_after(filter.clone())).await;
        bench.upstream.script("/orders", [created(), Answer::new(299)]);
        let first = bench.send(&order()).await;
        assert_executed(&first, 201);
        for protocol in Protocol::BOTH {
            let replay = bench.send_over(protocol, &order()).await;
            assert_replay_of(&first, &replay);
            assert_eq!(fields(&replay), fields(&first), "{filter:#}");
        }
        assert_problem(&bench.send(&order().body("other")).await, 422, "key-reused");
        bench.assert_executions(1);
    }
}

#[tokio::test]
async fn a_client_that_accepts_another_coding_gets_the_first_response_all_the_same() {
    let bench = Bench::start(Setup::new(&json!({})).filter_after(compressor())).await;
    let body = format!("{{\"order\":\"{}\"}}", "o".repeat(2_000));
    bench.upstream.script("/orders", [Answer::new(201).json(&body), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    assert_eq!(first.header("content-encoding"), None, "{first:?}");
    let replay = bench.send(&order().header("accept-encoding", "gzip")).await;
    assert_replay_of(&first, &replay);
    assert_eq!(replay.header("content-encoding"), None, "{replay:?}");
    bench.assert_executions(1);
}

#[tokio::test]
async fn replays_and_problems_are_not_rewritten_as_local_replies() {
    let config = json!({ "local_reply_config": {
        "body_format": { "json_format": { "error": "%LOCAL_REPLY_BODY%" } },
        "mappers": [{
            "filter": { "status_code_filter": { "comparison": { "op": "GE", "value": {
                "default_value": 201, "runtime_key": "none",
            } } } },
            "status_code": 418,
        }],
    } });
    let bench = Bench::start(Setup::new(&json!({})).connection_manager(config)).await;
    bench.upstream.script("/orders", [created(), Answer::new(299)]);
    let first = bench.send(&order()).await;
    assert_executed(&first, 201);
    for protocol in Protocol::BOTH {
        assert_replay_of(&first, &bench.send_over(protocol, &order()).await);
        assert_problem(&bench.send_over(protocol, &order().body("other")).await, 422, "key-reused");
    }
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_response_of_more_fields_than_a_local_reply_can_have_is_a_tombstone() {
    for (mode, told) in [("inline", "executed"), ("detached", "not-kept")] {
        let options = json!({ "common_http_protocol_options": { "max_headers_count": 2_000 } });
        let setup = Setup::new(&json!({ "execution": { "mode": mode } })).upstream_options(options);
        let bench = Bench::start(setup).await;
        let of = |count: usize| {
            (0..count).fold(Answer::new(201), |answer, number| answer.header(format!("x-{number}"), "1")).json("{}")
        };
        bench.upstream.script("/many", [of(1_000), Answer::new(299)]);
        bench.upstream.script("/too-many", [of(1_025), Answer::new(299)]);
        let many = Request::post("/many").key("k");
        let first = bench.send(&many).await;
        assert_executed(&first, 201);
        assert_replay_of(&first, &bench.send(&many).await);
        let too_many = Request::post("/too-many").key("k");
        let first = bench.send(&too_many).await;
        assert_eq!(first.text("idempotency-status"), told, "{mode}: {}", first.status);
        let problem = assert_problem(&bench.send_once_settled(&too_many).await, 409, "response-not-kept");
        assert_eq!(problem["original_status"], 201);
        bench.assert_executions(2);
    }
}

/// It gets its reply from elsewhere than its own callbacks.
#[tokio::test]
async fn a_replay_for_one_who_waited_is_the_first_response_too() {
    let waiting = json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "60s" } });
    let lua_body = "local length = response:body():setBytes('another body') \
                    response:headers():replace('content-length', length)";
    let setup = Setup::new(&waiting)
        .every_route(added("APPEND_IF_EXISTS_OR_ADD"))
        .filter_after(header_mutation("APPEND_IF_EXISTS_OR_ADD"))
        .filter_after(lua_on_response(lua_body));
    let bench = Bench::start(setup).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let gate = Gate::closed();
        bench.upstream.script("/orders", [created().held_by(&gate), Answer::new(299)]);
        let order = order().key(format!("{protocol:?}"));
        let first = bench.send_aside(protocol, &order);
        bench.upstream.reached(number + 1).await;
        let waiters = Protocol::BOTH.map(|protocol| bench.send_aside(protocol, &order));
        bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 2).await;
        gate.open();
        let first = first.await.expect("the first client");
        assert_executed(&first, 201);
        for waiter in waiters {
            let replay = waiter.await.expect("a client that waits");
            assert_replay_of(&first, &replay);
            assert_eq!(fields(&replay), fields(&first));
        }
        bench.assert_executions(number + 1);
    }
}

#[tokio::test]
async fn a_filter_behind_that_fails_at_the_response_leaves_the_outcome_unknown() {
    // Whom this filter asks about responses cannot be reached: Envoy answers in the service's place, past all filters.
    let filter = json!({
        "name": "ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": { "envoy_grpc": { "cluster_name": "hostless" } },
            "processing_mode": { "request_header_mode": "SKIP", "response_header_mode": "SEND" },
        },
    });
    let bench = Bench::start(Setup::new(&json!({})).http2_upstream().filter_after(filter)).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        bench.upstream.script("/orders", [created(), Answer::new(299)]);
        let order = order().key(format!("{protocol:?}"));
        let first = bench.send_over(protocol, &order).await;
        assert_eq!((first.status, first.header("idempotency-status")), (500, None), "{first:?}");
        bench.envoy.reaches_stat("wasmcustom.idemgate.outcomes.unknown", number as u64 + 1).await;
        let retry = bench.send_over(protocol, &order).await;
        assert!(retry.status == 500 || retry.status == 409, "{retry:?}");
        bench.assert_executions(number + 1);
    }
}

/// A cluster whose own filters begin with this one.
fn with_filter_of_the_cluster(configuration: &Value, filter: Value) -> Setup {
    let codec = json!({
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec" },
    });
    Setup::new(configuration).upstream_options(json!({ "http_filters": [filter, codec] }))
}

/// Envoy 1.36 has none among a cluster's filters.
fn has_rbac_of_the_cluster() -> bool {
    is_since(40)
}

/// To the filter, the request may have been sent: a cluster's own filters come after the choice of a host.
#[tokio::test]
async fn a_filter_of_the_cluster_that_answers_by_itself_leaves_the_outcome_unknown() {
    let answers = lua("request:respond({[':status'] = '403'}, 'no')");
    for filter in [answers].into_iter().chain(has_rbac_of_the_cluster().then(|| deny_header("idempotency-key"))) {
        let bench = Bench::start(with_filter_of_the_cluster(&json!({}), filter)).await;
        for protocol in Protocol::BOTH {
            let order = order().key(format!("{protocol:?}"));
            let first = bench.send_over(protocol, &order).await;
            assert_eq!((first.status, first.text("idempotency-status")), (403, "unknown".to_owned()), "{first:?}");
            assert_problem(&bench.send_once_settled(&order).await, 409, "outcome-unknown");
        }
        bench.assert_executions(0);
    }
}

#[tokio::test]
async fn a_filter_of_the_cluster_fails_a_detached_call_or_does_not_guard_it() {
    let detached = json!({ "execution": { "mode": "detached" } });
    let answers = lua("request:respond({[':status'] = '403'}, 'no')");
    let bench = Bench::start(with_filter_of_the_cluster(&detached, answers)).await;
    for _ in 0..2 {
        let refused = bench.send(&order()).await;
        assert_eq!((refused.status, refused.text("idempotency-status")), (503, "rejected".to_owned()), "{refused:?}");
    }
    bench.assert_executions(0);
    if !has_rbac_of_the_cluster() {
        return;
    }
    // It looks for the connection of a client, and there is none.
    let bench = Bench::start(with_filter_of_the_cluster(&detached, deny_header("idempotency-key"))).await;
    assert_executed(&bench.send(&order()).await, 201);
    bench.assert_executions(1);
}

#[tokio::test]
async fn what_a_route_takes_off_answers_stays_on_those_of_detached_calls() {
    for (mode, is_there) in [("inline", false), ("detached", true)] {
        let configuration = json!({ "execution": { "mode": mode } });
        let removed = json!({ "response_headers_to_remove": ["x-debug"] });
        let bench = Bench::start(Setup::new(&configuration).virtual_host(removed)).await;
        bench.upstream.script("/orders", [created().header("x-debug", "1"), Answer::new(299)]);
        let first = bench.send(&order()).await;
        assert_executed(&first, 201);
        assert_eq!(first.header("x-debug").is_some(), is_there, "{mode}: {first:?}");
        assert_replay_of(&first, &bench.send(&order()).await);
        bench.assert_executions(1);
    }
}

#[tokio::test]
async fn a_detached_call_goes_to_any_host_whatever_subset_the_route_names() {
    // There is no host in the route's subset; a call without one goes to all.
    let subsets = json!({ "lb_subset_config": {
        "fallback_policy": "ANY_ENDPOINT",
        "subset_selectors": [{ "keys": ["stage"], "fallback_policy": "NO_FALLBACK" }],
    } });
    let subset = json!({ "filter_metadata": { "envoy.lb": { "stage": "b" } } });
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "upstream", "metadata_match": subset } }]);
    let hosts = json!({ "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] });
    for (mode, status, executions) in [("inline", 503, 0), ("detached", 201, 1)] {
        let setup = Setup::new(&json!({ "execution": { "mode": mode } }));
        let setup = setup.upstream_cluster(subsets.clone()).route_config(hosts.clone());
        let bench = Bench::start(setup).await;
        bench.upstream.script("/orders", [created(), Answer::new(299)]);
        let first = bench.send(&order()).await;
        assert_eq!(first.status, status, "{mode}: {first:?}");
        bench.assert_executions(executions);
    }
}

#[tokio::test]
async fn names_of_fields_are_in_lower_case_in_replays_whatever_the_service_writes() {
    let keeps_case = json!({ "stateful_formatter": {
        "name": "preserve_case",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        },
    } });
    let options = json!({ "enable_trailers": true, "header_key_format": keeps_case });
    let setup = Setup::new(&json!({}))
        .connection_manager(json!({ "http_protocol_options": options }))
        .upstream_options(json!({ "explicit_http_config": { "http_protocol_options": options } }));
    let bench = Bench::start(setup).await;
    bench.upstream.script("/orders", [created().header("x-thing", "1"), Answer::new(299)]);
    for (name, word) in [("\r\nX-Thing: 1\r\n", "executed"), ("\r\nx-thing: 1\r\n", "replayed")] {
        let mut connection = TcpStream::connect(bench.envoy.address()).await.unwrap();
        let request = "POST /orders HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: k\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(name) && answer.contains(&format!("idempotency-status: {word}")), "{answer}");
    }
    bench.assert_executions(1);
}

also_detached! {
    a_replay_for_one_who_waited_is_the_first_response_too,
    replays_and_problems_are_not_rewritten_as_local_replies,
}

also_on_remote_stores! {
    direct: {
        a_replay_for_one_who_waited_is_the_first_response_too,
        replays_and_problems_are_not_rewritten_as_local_replies,
    }
}
