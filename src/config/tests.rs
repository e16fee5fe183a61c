//! What a configuration means, and what a wrong one is told.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::document::Document;
use super::*;

#[test]
fn nothing_white_space_and_an_empty_object_are_the_defaults() {
    for text in ["", " \r\n\t ", "{}", " { } \n"] {
        assert_eq!(Config::parse(text.as_bytes()), Ok(Config::default()), "{text:?}");
    }
}

#[test]
fn the_defaults_are_the_contracts() {
    let store = Some(Disposition::Store);
    let policy = Policy {
        mode: Mode::Enforce,
        key: KeyPolicy {
            headers: vec!["idempotency-key".to_owned()],
            pointers: Vec::new(),
            derive: None,
            syntax: KeySyntax::Field,
            required: false,
            max_length: 255,
            format: KeyFormat::Any,
        },
        methods: vec!["POST".to_owned(), "PATCH".to_owned()],
        caller: CallerPolicy { identity: vec![IdentitySource::Header("authorization".to_owned())], required: false },
        resource: Resource { authority: true, method: true, path: true },
        fingerprint: FingerprintPolicy {
            query: true,
            body: BodyFingerprint::Raw,
            headers: vec!["content-type".to_owned()],
        },
        duplicates: DuplicatesPolicy {
            in_flight: InFlight::Reject,
            wait_timeout: Duration::from_secs(10),
            max_waiting: 1024,
        },
        outcome: OutcomePolicy {
            codes: [401, 403, 408, 425, 429]
                .map(|code| (code, Disposition::Release))
                .into_iter()
                .chain([502, 504].map(|code| (code, Disposition::Unknown)))
                .collect(),
            classes: [None, store, store, store, Some(Disposition::Release)],
            on_unknown: OnUnknown::Block,
        },
        ttl: Duration::from_secs(86_400),
        lease: Duration::from_secs(30),
        execution: ExecutionPolicy {
            mode: ExecutionMode::Inline,
            timeout: Duration::from_secs(60),
            cluster: None,
            max_calls: 512,
            drop_headers: vec!["x-envoy-external-address".to_owned(), "x-envoy-internal".to_owned()],
        },
        limits: Limits { request_body: 1_048_576, response_body: 1_048_576, caller_share: Share::percent(25) },
        replay: ReplayPolicy {
            header: "idempotency-replayed".to_owned(),
            drop_headers: vec!["set-cookie".to_owned()],
            keep_headers: Vec::new(),
        },
        problems: ProblemsPolicy {
            retry_hints: true,
            error_member: true,
            status: Vec::new(),
            body: None,
            content_type: "application/json".to_owned(),
        },
        on_store_error: OnStoreError::Reject,
        status_header: true,
        docs_uri: None,
    };
    let store = StoreConfig::SharedData(SharedDataConfig {
        max_entries: 104_857,
        max_bytes: 67_108_864,
        on_full: OnFull::EvictOldest,
        keep_at_least: Duration::from_secs(3600),
    });
    assert_eq!(Config::default(), Config { policy: Arc::new(policy), routes: Vec::new(), store, memory: 256 << 20 });
}

#[test]
fn every_setting_reaches_the_policy() {
    let config = parse(
        r#"{
            "mode": "off",
            "key": {"headers": ["X-Request-Key", "idempotency-key"], "syntax": "opaque", "pointers": ["/meta/a~1b", "/id"], "required": true, "max_length": 64, "format": "uuid"},
            "methods": ["post", "Put"],
            "caller": {"identity": [{"property": ["metadata", "filter_metadata"]}, {"header": "X-Tenant"}], "required": true},
            "resource": ["path"],
            "fingerprint": {"query": false, "body": "json", "ignore": ["/meta/sent_at", "/a~1b/~0/", "/"], "headers": []},
            "duplicates": {"in_flight": "reject"},
            "outcome": {"on_unknown": "retry"},
            "ttl": "90m",
            "lease": "1s",
            "execution": {"mode": "inline"},
            "limits": {"request_body": 1, "response_body": "64KiB", "caller_share": "7%", "memory": "8MiB"},
            "replay": {"header": "Idempotent-Replayed", "drop_headers": ["ETag"], "keep_headers": ["Set-Cookie"]},
            "store": {"shared_data": {
                "max_entries": 5000, "max_bytes": "8MiB", "on_full": "reject", "keep_at_least": "10m"
            }},
            "problems": {
                "retry_hints": false, "error_member": false, "status": {"key-reused": 409},
                "body": "{\"code\": \"${name}\"}", "content_type": "text/json"
            },
            "on_store_error": "bypass",
            "status_header": false,
            "docs_uri": "https://example.com/docs?a=b#retries",
            "routes": []
        }"#,
    );
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let policy = Policy {
        mode: Mode::Off,
        key: KeyPolicy {
            headers: owned(&["x-request-key", "idempotency-key"]),
            pointers: vec![owned(&["meta", "a/b"]), owned(&["id"])],
            derive: None,
            syntax: KeySyntax::Opaque,
            required: true,
            max_length: 64,
            format: KeyFormat::Uuid,
        },
        methods: owned(&["POST", "PUT"]),
        caller: CallerPolicy {
            identity: vec![
                IdentitySource::Property(owned(&["metadata", "filter_metadata"])),
                IdentitySource::Header("x-tenant".to_owned()),
            ],
            required: true,
        },
        resource: Resource { authority: false, method: false, path: true },
        fingerprint: FingerprintPolicy {
            query: false,
            body: BodyFingerprint::Json {
                ignore: PointerTree::new(&[owned(&["meta", "sent_at"]), owned(&["a/b", "~", ""]), owned(&[""])]),
            },
            headers: Vec::new(),
        },
        duplicates: DuplicatesPolicy::default(),
        outcome: OutcomePolicy { on_unknown: OnUnknown::Retry, ..OutcomePolicy::default() },
        ttl: Duration::from_secs(5400),
        lease: Duration::from_secs(1),
        execution: ExecutionPolicy::default(),
        limits: Limits { request_body: 1, response_body: 65_536, caller_share: Share::percent(7) },
        replay: ReplayPolicy {
            header: "idempotent-replayed".to_owned(),
            drop_headers: owned(&["etag"]),
            keep_headers: owned(&["set-cookie"]),
        },
        problems: ProblemsPolicy {
            retry_hints: false,
            error_member: false,
            status: vec![("key-reused", 409)],
            body: config.policy.problems.body.clone(),
            content_type: "text/json".to_owned(),
        },
        on_store_error: OnStoreError::Bypass,
        status_header: false,
        docs_uri: Some("https://example.com/docs?a=b#retries".to_owned()),
    };
    let body = policy.problems.body.as_ref().map(|body| body.fill("n", "t", "d", 400));
    assert_eq!(body.as_deref(), Some(r#"{"code": "n"}"#));
    let shared_data = SharedDataConfig {
        max_entries: 5000,
        max_bytes: 8_388_608,
        on_full: OnFull::Reject,
        keep_at_least: Duration::from_secs(600),
    };
    assert_eq!(
        config,
        Config {
            policy: Arc::new(policy),
            routes: Vec::new(),
            store: StoreConfig::SharedData(shared_data),
            memory: 8 << 20,
        }
    );
}

#[test]
fn a_pointer_escape_is_read_once() {
    let config = parse(r#"{"fingerprint": {"body": "json", "ignore": ["/~01"]}}"#);
    assert_eq!(
        config.policy.fingerprint.body,
        BodyFingerprint::Json { ignore: PointerTree::new(&[vec!["~1".to_owned()]]) }
    );
}

#[test]
fn whole_numbers_may_come_as_doubles() {
    let config =
        parse(r#"{"key": {"max_length": 64.0}, "outcome": {"store": [503.0]}, "limits": {"request_body": 1e3}}"#);
    assert_eq!(config.policy.key.max_length, 64);
    assert_eq!(config.policy.outcome.disposition(503), Disposition::Store);
    assert_eq!(config.policy.limits.request_body, 1000);
}

#[test]
fn the_bounds_of_a_range_belong_to_it() {
    for text in [
        r#"{"ttl": "1s"}"#,
        r#"{"ttl": "1000ms"}"#,
        r#"{"ttl": "3650d"}"#,
        r#"{"lease": "2s"}"#,
        r#"{"lease": "24h"}"#,
        r#"{"key": {"max_length": 1}}"#,
        r#"{"key": {"max_length": 4096}}"#,
        r#"{"key": {"max_length": 36, "format": "uuid"}}"#,
        r#"{"limits": {"response_body": 0}}"#,
        r#"{"limits": {"caller_share": "1%"}}"#,
        r#"{"limits": {"caller_share": "100%"}}"#,
        r#"{"limits": {"request_body": "64MiB", "response_body": "64MiB"}}"#,
        r#"{"store": {"shared_data": {"max_entries": 1, "max_bytes": "1MiB"}}}"#,
        r#"{"store": {"shared_data": {"max_bytes": "64KiB"}}, "limits": {"response_body": 65536}}"#,
        r#"{"store": {"shared_data": {"max_entries": 43690, "max_bytes": "16MiB"}}}"#,
        r#"{"store": {"shared_data": {"max_entries": 10000000, "max_bytes": 3840000000}}}"#,
        r#"{"store": {"shared_data": {"keep_at_least": "0s"}}}"#,
        r#"{"store": {"shared_data": {"keep_at_least": "3650d"}}}"#,
        r#"{"outcome": {"store": [100, 599, "1xx", "5XX"]}}"#,
        r#"{"docs_uri": "/docs/idempotency"}"#,
        r#"{"docs_uri": "urn:example:docs"}"#,
        r#"{"caller": {"identity": []}}"#,
        r#"{"resource": []}"#,
        r#"{"fingerprint": {"body": "none", "ignore": []}}"#,
        r#"{"store": {"shared_data": {}}}"#,
    ] {
        parse(text);
    }
}

#[test]
fn the_number_of_entries_follows_from_the_bytes() {
    for (max_bytes, max_entries) in [("64KiB", 102), ("16MiB", 26_214), ("64MiB", 104_857), ("64GiB", 10_000_000)] {
        let document = format!(
            r#"{{"limits": {{"response_body": 0}}, "store": {{"shared_data": {{"max_bytes": "{max_bytes}"}}}}}}"#
        );
        let StoreConfig::SharedData(store) = parse(&document).store else { panic!("{document}") };
        assert_eq!(store.max_entries, max_entries, "{max_bytes}");
    }
}

#[test]
fn an_outcome_entry_is_laid_over_the_defaults_and_leaves_the_others() {
    use Disposition::{Release, Store, Unknown};
    for (outcome, expected) in [
        (
            "{}",
            [(200, Store), (404, Store), (409, Store), (429, Release), (500, Release), (502, Unknown), (101, Store)],
        ),
        (
            r#"{"release": [409]}"#,
            [(200, Store), (404, Store), (409, Release), (429, Release), (500, Release), (502, Unknown), (101, Store)],
        ),
        (
            r#"{"store": ["5xx"]}"#,
            [(200, Store), (404, Store), (409, Store), (429, Release), (500, Store), (502, Unknown), (101, Store)],
        ),
        (
            r#"{"release": ["4xx", 502], "unknown": ["1xx", 409, 500]}"#,
            [
                (200, Store),
                (404, Release),
                (409, Unknown),
                (429, Release),
                (500, Unknown),
                (502, Release),
                (101, Unknown),
            ],
        ),
        (
            r#"{"store": [429], "release": [], "unknown": []}"#,
            [(200, Store), (404, Store), (409, Store), (429, Store), (500, Release), (502, Unknown), (101, Store)],
        ),
    ] {
        let policy = &parse(&format!(r#"{{"outcome": {outcome}}}"#)).policy.outcome;
        for (status, disposition) in expected {
            assert_eq!(policy.disposition(status), disposition, "{status} with {outcome}");
        }
    }
}

#[test]
fn what_is_not_a_json_object_is_told_so() {
    let text = "a JSON object as text in a google.protobuf.StringValue";
    let object = "one JSON object (RFC 8259)";
    for (input, message) in [
        // A Struct with one field, as Envoy 1.40 hands it over.
        (
            &b"\n\x12\n\x04mode\x12\n\x1a\x08enforce"[..],
            format!("$: found binary data, such as a google.protobuf.Struct; allowed: {text}"),
        ),
        (b"{\"mode\": \"\x00\"}", format!("$: found binary data, such as a google.protobuf.Struct; allowed: {text}")),
        (
            b"{\"mode\": \"\xff\"}",
            format!("$: found bytes that are not UTF-8, such as a google.protobuf.Struct; allowed: {text}"),
        ),
        (b"mode: enforce", format!("$: found text that does not start with {{; allowed: {text}")),
        (b"[]", format!("$: found text that does not start with {{; allowed: {text}")),
        (b"\"{}\"", format!("$: found text that does not start with {{; allowed: {text}")),
        (b"null", format!("$: found text that does not start with {{; allowed: {text}")),
        (b"\xef\xbb\xbf{}", format!("$: found text that does not start with {{; allowed: {text}")),
        (b"{", format!("$: found malformed JSON (EOF while parsing an object at line 1 column 1); allowed: {object}")),
        (
            b"{\n\"ttl\": \"1h\",}",
            format!("$: found malformed JSON (trailing comma at line 2 column 13); allowed: {object}"),
        ),
        (b"{} {}", format!("$: found malformed JSON (trailing characters at line 1 column 4); allowed: {object}")),
        (
            b"{\"ttl\": 1e999}",
            format!("$: found malformed JSON (number out of range at line 1 column 13); allowed: {object}"),
        ),
    ] {
        assert_eq!(refusal(input), message);
    }
}

#[test]
fn nesting_that_would_exhaust_the_stack_is_refused() {
    let deep = format!("{{\"mode\": {}", "[".repeat(100_000));
    assert!(refusal(deep.as_bytes()).starts_with("$: found malformed JSON (recursion limit exceeded"));
}

#[test]
fn unknown_keys_are_named_with_those_that_exist() {
    let key = "headers, syntax, pointers, derive, required, max_length, format";
    for (input, message) in [
        (r#"{"key": {"requierd": true}}"#, format!("key.requierd: found an unknown key (did you mean required?); allowed: {key}")),
        (r#"{"key": {"maxLength": 1}}"#, format!("key.maxLength: found an unknown key (did you mean max_length?); allowed: {key}")),
        (r#"{"key": {"pattern": ""}}"#, format!("key.pattern: found an unknown key; allowed: {key}")),
        (r#"{"key": {"a.b\n": 1}}"#, format!(r#"key["a.b\n"]: found an unknown key; allowed: {key}"#)),
        (r#"{"key": {"": 1}}"#, format!(r#"key[""]: found an unknown key; allowed: {key}"#)),
        (r#"{"caller": {"identity": [{"cookie": "sid"}]}}"#, "caller.identity[0].cookie: found an unknown key; allowed: header, property, authorization, verified".to_owned()),
        (r#"{"store": {"memory": {}}}"#, "store.memory: found an unknown key; allowed: shared_data, redis, postgres, dynamodb".to_owned()),
        (r#"{"store": {"shared_data": {"max_byte": 1}}}"#, "store.shared_data.max_byte: found an unknown key (did you mean max_bytes?); allowed: max_entries, max_bytes, on_full, keep_at_least".to_owned()),
        (
            r#"{"ttls": "1h"}"#,
            "ttls: found an unknown key (did you mean ttl?); allowed: role, guard, mode, key, methods, caller, resource, \
             fingerprint, duplicates, outcome, ttl, lease, execution, limits, replay, problems, store, on_store_error, \
             status_header, docs_uri, routes"
                .to_owned(),
        ),
    ] {
        assert_eq!(refusal(input.as_bytes()), message);
    }
}

#[test]
fn repeated_keys_are_refused_where_they_stand() {
    for (input, message) in [
        (r#"{"ttl": "1h", "ttl": "1h"}"#, "ttl: found the key twice; allowed: each key once"),
        (
            r#"{"key": {"required": true, "required": false}}"#,
            "key.required: found the key twice; allowed: each key once",
        ),
        (
            r#"{"caller": {"identity": [{"header": "a"}, {"header": "a", "header": "b"}]}}"#,
            "caller.identity[1].header: found the key twice; allowed: each key once",
        ),
    ] {
        assert_eq!(refusal(input.as_bytes()), message);
    }
}

#[test]
fn wrong_values_are_told_what_is_allowed() {
    let ttl = r#"a duration from "1s" to "3650d", digits and one of the units ms, s, m, h, d"#;
    let lease = r#"a duration from "1s" to "1d", digits and one of the units ms, s, m, h, d"#;
    let size = r#"a size from 1 to "64MiB", a whole number of bytes or digits and one of the units KiB, MiB, GiB"#;
    let memory =
        r#"a size from "64KiB" to "64GiB", a whole number of bytes or digits and one of the units KiB, MiB, GiB"#;
    let share = r#"a string from "1%" to "100%""#;
    let name = "the name of a header (an RFC 9110 token, so no pseudo-header)";
    let method = "a method other than GET, HEAD, OPTIONS, TRACE, CONNECT and QUERY, which are never guarded";
    let status = r#"a status code from 100 to 599 or a class from "1xx" to "5xx""#;
    let pointer = r#"a JSON Pointer to a part of the body (RFC 6901), such as "/meta/sent_at""#;
    let property = r#"the path of an Envoy attribute, a list such as ["connection","uri_san_peer_certificate"]"#;
    let one_source = "exactly one of header, property, authorization";
    let verified = "true beside authorization, if a filter in front refuses requests whose signature is not the \
                    credential's: the credential is public";
    let uri = "a URI with a scheme, or a path that starts with one /, of at most 2048 characters (RFC 3986)";
    let words = r#""enforce", "shadow", "off""#;
    let long = "x".repeat(100);
    for (input, path, found, allowed) in [
        // Words, in every wrong type.
        (r#"{"mode": "on"}"#, "mode", r#""on""#, words),
        (r#"{"mode": "Enforce"}"#, "mode", r#""Enforce""#, words),
        (r#"{"mode": true}"#, "mode", "true", words),
        (r#"{"mode": null}"#, "mode", "null", words),
        (r#"{"mode": -1}"#, "mode", "-1", words),
        (r#"{"mode": 0.5}"#, "mode", "0.5", words),
        (r#"{"mode": ["off"]}"#, "mode", "a list", words),
        (r#"{"mode": {"off": null}}"#, "mode", "an object", words),
        (r#"{"mode": "off\u000a\u0085"}"#, "mode", r#""off\n\u{85}""#, words),
        (&format!(r#"{{"mode": "{long}"}}"#), "mode", &format!("\"{}…\"", "x".repeat(64)), words),
        (r#"{"key": {"format": "ulid"}}"#, "key.format", r#""ulid""#, r#""any", "uuid""#),
        (r#"{"resource": ["path", "query"]}"#, "resource[1]", r#""query""#, r#""authority", "method", "path""#),
        (r#"{"fingerprint": {"body": "xml"}}"#, "fingerprint.body", r#""xml""#, r#""raw", "json", "none""#),
        (r#"{"duplicates": {"in_flight": "hold"}}"#, "duplicates.in_flight", r#""hold""#, r#""reject", "wait""#),
        (r#"{"outcome": {"on_unknown": 1}}"#, "outcome.on_unknown", "1", r#""block", "retry""#),
        (r#"{"execution": {"mode": ""}}"#, "execution.mode", r#""""#, r#""inline", "detached""#),
        (r#"{"on_store_error": "fail"}"#, "on_store_error", r#""fail""#, r#""reject", "bypass""#),
        (
            r#"{"store": {"shared_data": {"on_full": "drop"}}}"#,
            "store.shared_data.on_full",
            r#""drop""#,
            r#""evict_oldest", "reject""#,
        ),
        (r#"{"role": "proxy"}"#, "role", r#""proxy""#, r#""store_stream", "admin""#),
        // Objects, lists and booleans.
        (r#"{"key": ["idempotency-key"]}"#, "key", "a list", "an object"),
        (r#"{"caller": null}"#, "caller", "null", "an object"),
        (r#"{"outcome": "store"}"#, "outcome", r#""store""#, "an object"),
        (r#"{"key": {"required": "yes"}}"#, "key.required", r#""yes""#, "a boolean"),
        (r#"{"fingerprint": {"query": 1}}"#, "fingerprint.query", "1", "a boolean"),
        (r#"{"status_header": null}"#, "status_header", "null", "a boolean"),
        (r#"{"methods": "POST"}"#, "methods", r#""POST""#, "a list that is not empty"),
        (r#"{"methods": []}"#, "methods", "an empty list", "a list that is not empty"),
        (r#"{"key": {"headers": []}}"#, "key.headers", "an empty list", "a list that is not empty"),
        (r#"{"resource": {}}"#, "resource", "an object", "a list"),
        (r#"{"resource": ["path", "method", "path"]}"#, "resource", "the same entry at [0] and [2]", "each entry once"),
        (r#"{"methods": ["POST", "post"]}"#, "methods", "the same entry at [0] and [1]", "each entry once"),
        (r#"{"key": {"headers": ["A", "a"]}}"#, "key.headers", "the same entry at [0] and [1]", "each entry once"),
        (r#"{"outcome": {"store": [200, 200]}}"#, "outcome.store", "the same entry at [0] and [1]", "each entry once"),
        // Names.
        (r#"{"key": {"headers": [":path"]}}"#, "key.headers[0]", r#"":path""#, name),
        (r#"{"key": {"headers": ["a", ""]}}"#, "key.headers[1]", r#""""#, name),
        (r#"{"fingerprint": {"headers": ["x y"]}}"#, "fingerprint.headers[0]", r#""x y""#, name),
        (r#"{"replay": {"header": "näme"}}"#, "replay.header", r#""näme""#, name),
        (r#"{"replay": {"drop_headers": [1]}}"#, "replay.drop_headers[0]", "1", name),
        (
            r#"{"caller": {"identity": [{"header": "a"}, {"header": ["b"]}]}}"#,
            "caller.identity[1].header",
            "a list",
            name,
        ),
        // Problems.
        (r#"{"problems": {"retry_hints": 1}}"#, "problems.retry_hints", "1", "a boolean"),
        (
            r#"{"problems": {"status": {"key-reused": 399}}}"#,
            "problems.status.key-reused",
            "399",
            "a whole number from 400 to 599",
        ),
        (
            r#"{"problems": {"status": {"key-missing": 400, "overloaded": "503"}}}"#,
            "problems.status.overloaded",
            r#""503""#,
            "a whole number from 400 to 599",
        ),
        (
            r#"{"problems": {"status": [409]}}"#,
            "problems.status",
            "a list",
            "an object of names of problems and their statuses",
        ),
        (
            r#"{"problems": {"body": {}, "content_type": "json"}}"#,
            "problems.content_type",
            r#""json""#,
            "a media type, such as \"application/json\"",
        ),
        (r#"{"methods": ["GET"]}"#, "methods[0]", r#""GET""#, method),
        (r#"{"methods": ["POST", "connect"]}"#, "methods[1]", r#""connect""#, method),
        (r#"{"methods": ["HEAD"]}"#, "methods[0]", r#""HEAD""#, method),
        (r#"{"methods": ["OPTIONS"]}"#, "methods[0]", r#""OPTIONS""#, method),
        (r#"{"methods": ["TRACE"]}"#, "methods[0]", r#""TRACE""#, method),
        (r#"{"methods": ["Query"]}"#, "methods[0]", r#""Query""#, method),
        (r#"{"methods": ["PO ST"]}"#, "methods[0]", r#""PO ST""#, method),
        // Callers.
        (
            r#"{"caller": {"identity": [{}]}}"#,
            "caller.identity[0]",
            "none of header, property, authorization",
            one_source,
        ),
        (
            r#"{"caller": {"identity": [{"header": "a", "property": ["b"]}]}}"#,
            "caller.identity[0]",
            "more than one of header, property, authorization",
            one_source,
        ),
        (
            r#"{"caller": {"identity": [{"header": "a", "authorization": "credential", "verified": true}]}}"#,
            "caller.identity[0]",
            "more than one of header, property, authorization",
            one_source,
        ),
        (
            r#"{"caller": {"identity": [{"verified": true}]}}"#,
            "caller.identity[0]",
            "none of header, property, authorization",
            one_source,
        ),
        (
            r#"{"caller": {"identity": [{"authorization": "credential"}]}}"#,
            "caller.identity[0].verified",
            "a credential that nothing verifies",
            verified,
        ),
        (
            r#"{"caller": {"identity": [{"header": "a"}, {"authorization": "credential", "verified": false}]}}"#,
            "caller.identity[1].verified",
            "a credential that nothing verifies",
            verified,
        ),
        (
            r#"{"caller": {"identity": [{"header": "a", "verified": true}]}}"#,
            "caller.identity[0].verified",
            "a value that has no effect here",
            "only with authorization",
        ),
        (
            r#"{"caller": {"identity": [{"authorization": "scheme", "verified": true}]}}"#,
            "caller.identity[0].authorization",
            r#""scheme""#,
            r#""credential""#,
        ),
        (
            r#"{"caller": {"identity": ["authorization"]}}"#,
            "caller.identity[0]",
            r#""authorization""#,
            "an object with exactly one of header, property, authorization",
        ),
        (r#"{"caller": {"identity": [{"property": []}]}}"#, "caller.identity[0].property", "a list", property),
        (
            r#"{"caller": {"identity": [{"property": ["metadata"]}]}}"#,
            "caller.identity[0].property",
            "all metadata, which Envoy serialises in another order from request to request",
            r#"a path that goes on, such as ["metadata","filter_metadata","envoy.filters.http.jwt_authn","jwt","sub"]"#,
        ),
        (r#"{"caller": {"identity": [{"property": ["a", ""]}]}}"#, "caller.identity[0].property", "a list", property),
        (
            r#"{"caller": {"identity": [{"property": ["a\u0000b"]}]}}"#,
            "caller.identity[0].property",
            "a list",
            property,
        ),
        (r#"{"caller": {"identity": [{"property": "a.b"}]}}"#, "caller.identity[0].property", r#""a.b""#, property),
        // Durations.
        (r#"{"ttl": "0s"}"#, "ttl", r#""0s""#, ttl),
        (r#"{"ttl": "999ms"}"#, "ttl", r#""999ms""#, ttl),
        (r#"{"ttl": "3651d"}"#, "ttl", r#""3651d""#, ttl),
        (r#"{"ttl": "99999999999999999999h"}"#, "ttl", r#""99999999999999999999h""#, ttl),
        (r#"{"ttl": "-1h"}"#, "ttl", r#""-1h""#, ttl),
        (r#"{"ttl": "1.5h"}"#, "ttl", r#""1.5h""#, ttl),
        (r#"{"ttl": "1h 30m"}"#, "ttl", r#""1h 30m""#, ttl),
        (r#"{"ttl": "1 day"}"#, "ttl", r#""1 day""#, ttl),
        (r#"{"ttl": 86400}"#, "ttl", "86400", ttl),
        (r#"{"lease": "500ms"}"#, "lease", r#""500ms""#, lease),
        (r#"{"lease": "25h"}"#, "lease", r#""25h""#, lease),
        (
            r#"{"store": {"shared_data": {"keep_at_least": "1w"}}}"#,
            "store.shared_data.keep_at_least",
            r#""1w""#,
            "a duration from \"0s\" to \"3650d\", digits and one of the units ms, s, m, h, d",
        ),
        // Sizes and numbers.
        (r#"{"limits": {"request_body": 0}}"#, "limits.request_body", "0", size),
        (r#"{"limits": {"request_body": -1}}"#, "limits.request_body", "-1", size),
        (r#"{"limits": {"request_body": 1.5}}"#, "limits.request_body", "1.5", size),
        (r#"{"limits": {"request_body": -5.0}}"#, "limits.request_body", "-5", size),
        (r#"{"limits": {"request_body": "1.5MiB"}}"#, "limits.request_body", r#""1.5MiB""#, size),
        (r#"{"limits": {"request_body": "1MB"}}"#, "limits.request_body", r#""1MB""#, size),
        (r#"{"limits": {"request_body": "1024"}}"#, "limits.request_body", r#""1024""#, size),
        (r#"{"limits": {"request_body": 67108865}}"#, "limits.request_body", "67108865", size),
        (r#"{"limits": {"request_body": 18446744073709551616}}"#, "limits.request_body", "1.8446744073709552e19", size),
        (r#"{"limits": {"request_body": "17179869185GiB"}}"#, "limits.request_body", r#""17179869185GiB""#, size),
        (r#"{"store": {"shared_data": {"max_bytes": 65535}}}"#, "store.shared_data.max_bytes", "65535", memory),
        (r#"{"key": {"max_length": 0}}"#, "key.max_length", "0", "a whole number from 1 to 4096"),
        (r#"{"key": {"max_length": 4097}}"#, "key.max_length", "4097", "a whole number from 1 to 4096"),
        (r#"{"key": {"max_length": 4294967297}}"#, "key.max_length", "4294967297", "a whole number from 1 to 4096"),
        (r#"{"key": {"max_length": "64"}}"#, "key.max_length", r#""64""#, "a whole number from 1 to 4096"),
        (
            r#"{"store": {"shared_data": {"max_entries": 0}}}"#,
            "store.shared_data.max_entries",
            "0",
            "a whole number from 1 to 10000000",
        ),
        (r#"{"limits": {"caller_share": "0%"}}"#, "limits.caller_share", r#""0%""#, share),
        (r#"{"limits": {"caller_share": "101%"}}"#, "limits.caller_share", r#""101%""#, share),
        (r#"{"limits": {"caller_share": "25"}}"#, "limits.caller_share", r#""25""#, share),
        (r#"{"limits": {"caller_share": "2.5%"}}"#, "limits.caller_share", r#""2.5%""#, share),
        (r#"{"limits": {"caller_share": "25 %"}}"#, "limits.caller_share", r#""25 %""#, share),
        (r#"{"limits": {"caller_share": 25}}"#, "limits.caller_share", "25", share),
        (
            r#"{"duplicates": {"max_waiting": 65537}}"#,
            "duplicates.max_waiting",
            "65537",
            "a whole number from 1 to 65536",
        ),
        // Statuses, pointers, links, texts.
        (r#"{"outcome": {"store": ["2xx", "6xx"]}}"#, "outcome.store[1]", r#""6xx""#, status),
        (r#"{"outcome": {"release": [99]}}"#, "outcome.release[0]", "99", status),
        (r#"{"outcome": {"release": [600]}}"#, "outcome.release[0]", "600", status),
        (r#"{"outcome": {"release": [65736]}}"#, "outcome.release[0]", "65736", status),
        (r#"{"outcome": {"unknown": ["503"]}}"#, "outcome.unknown[0]", r#""503""#, status),
        (r#"{"outcome": {"unknown": [503.5]}}"#, "outcome.unknown[0]", "503.5", status),
        (r#"{"fingerprint": {"body": "json", "ignore": [""]}}"#, "fingerprint.ignore[0]", r#""""#, pointer),
        (r#"{"fingerprint": {"body": "json", "ignore": ["/a", "b"]}}"#, "fingerprint.ignore[1]", r#""b""#, pointer),
        (r#"{"fingerprint": {"body": "json", "ignore": ["/a~"]}}"#, "fingerprint.ignore[0]", r#""/a~""#, pointer),
        (r#"{"fingerprint": {"body": "json", "ignore": ["/~2"]}}"#, "fingerprint.ignore[0]", r#""/~2""#, pointer),
        (r#"{"docs_uri": "docs/x"}"#, "docs_uri", r#""docs/x""#, uri),
        (r#"{"docs_uri": "//host/x"}"#, "docs_uri", r#""//host/x""#, uri),
        (r#"{"docs_uri": "https:"}"#, "docs_uri", r#""https:""#, uri),
        (r#"{"docs_uri": "1a:b"}"#, "docs_uri", r#""1a:b""#, uri),
        (r#"{"docs_uri": "https://a/>;x"}"#, "docs_uri", r#""https://a/>;x""#, uri),
        (r#"{"docs_uri": "/a b"}"#, "docs_uri", r#""/a b""#, uri),
        (r#"{"docs_uri": "/a\r\nx: y"}"#, "docs_uri", r#""/a\r\nx: y""#, uri),
        (r#"{"docs_uri": ""}"#, "docs_uri", r#""""#, uri),
        (
            r#"{"execution": {"cluster": ""}}"#,
            "execution.cluster",
            r#""""#,
            "text that is not empty, without control characters",
        ),
        // Stores and routes.
        (r#"{"store": {}}"#, "store", "none of them", "exactly one of shared_data, redis, postgres, dynamodb"),
        (
            r#"{"store": {"shared_data": {}, "redis": {"cluster": "r"}}}"#,
            "store",
            "shared_data and redis",
            "exactly one of shared_data, redis, postgres, dynamodb",
        ),
        (
            r#"{"store": "redis"}"#,
            "store",
            r#""redis""#,
            "an object with exactly one of shared_data, redis, postgres, dynamodb",
        ),
        (r#"{"store": {"redis": {}}}"#, "store.redis.cluster", "nothing", "this key must be given"),
        (
            r#"{"store": {"redis": {"cluster": "r", "password": 4711}}}"#,
            "store.redis.password",
            "a hidden value",
            "text that is not empty, or {\"env\": NAME}",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "integrity_key": []}}}"#,
            "store.redis.integrity_key",
            "an empty list",
            "a list that is not empty",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "integrity_key": ["a", 4711]}}}"#,
            "store.redis.integrity_key[1]",
            "a hidden value",
            "text that is not empty, or {\"env\": NAME}",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "integrity_key": "", "unsigned_records": "accept"}}}"#,
            "store.redis.integrity_key",
            "a hidden value",
            "text that is not empty, or {\"env\": NAME}",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "unsigned_records": "keep"}}}"#,
            "store.redis.unsigned_records",
            "\"keep\"",
            "\"refuse\", \"accept\", \"write\"",
        ),
        (r#"{"routes": {}}"#, "routes", "an object", "a sequence"),
        (r#"{"routes": [{"policy": {}}]}"#, "routes[0].match", "nothing", "this key must be given"),
        (
            r#"{"routes": [{"match": {}, "policy": {"routes": []}}]}"#,
            "routes[0].policy",
            "routes",
            "any setting except store, routes, role, guard and limits.memory",
        ),
        (
            r#"{"routes": [{"match": {}, "policy": {"store": {"shared_data": {}}}}]}"#,
            "routes[0].policy",
            "store",
            "any setting except store, routes, role, guard and limits.memory",
        ),
        (
            r#"{"routes": [{"match": {}, "policy": {"limits": {"memory": "1GiB"}}}]}"#,
            "routes[0].policy",
            "limits.memory",
            "any setting except store, routes, role, guard and limits.memory",
        ),
        (r#"{"routes": [{"match": {}, "policy": {"ttl": 5}}]}"#, "routes[0].policy.ttl", "5", ttl),
    ] {
        assert_eq!(refusal(input.as_bytes()), format!("{path}: found {found}; allowed: {allowed}"), "{input}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (input, message) in [
        (
            r#"{"outcome": {"store": [409], "release": [200, 409]}}"#,
            "outcome.release[1]: found 409, which outcome.store[0] names too; allowed: each code or class in one list",
        ),
        (
            r#"{"outcome": {"release": ["5xx"], "unknown": ["5XX"]}}"#,
            "outcome.unknown[0]: found \"5xx\", which outcome.release[0] names too; allowed: each code or class in one list",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "integrity_key": "secret"}}}"#,
            "store.redis.integrity_key: found a hidden value that can be guessed; \
             allowed: 32 characters or more, at random: what `openssl rand -base64 32` prints",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "integrity_key": ["a key of thirty-two bytes, no less", "secret"]}}}"#,
            "store.redis.integrity_key[1]: found a hidden value that can be guessed; \
             allowed: 32 characters or more, at random: what `openssl rand -base64 32` prints",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "integrity_key": ["a key of thirty-two bytes, no less", "a key of thirty-two bytes, no less"]}}}"#,
            "store.redis.integrity_key: found the same entry at [0] and [1]; allowed: each entry once",
        ),
        (
            r#"{"store": {"redis": {"cluster": "r", "unsigned_records": "accept"}}}"#,
            "store.redis.unsigned_records: found a value that has no effect here; \
             allowed: only with store.redis.integrity_key",
        ),
        (
            r#"{"problems": {"content_type": "application/json"}}"#,
            "problems.content_type: found a value that has no effect here; allowed: only with problems.body",
        ),
        (
            r#"{"problems": {"body": "{}"}, "routes": [{"match": {}, "policy": {"problems": {"body": null, "content_type": "a/b"}}}]}"#,
            "routes[0].policy.problems.content_type: found a value that has no effect here; \
             allowed: only with problems.body",
        ),
        (
            r#"{"problems": {"body": {"code": "${nme}"}}}"#,
            "problems.body: found \"${nme}\", which is no placeholder; allowed: ${name}, ${title}, ${detail}, ${status}",
        ),
        (
            r#"{"routes": [{"match": {}, "policy": {"problems": {"body": "{\"message\": ${detail}}"}}}]}"#,
            "routes[0].policy.problems.body: found a template that is not JSON once it is filled (expected value at line \
             1 column 13); allowed: JSON, with ${name}, ${title} and ${detail} within its strings",
        ),
        (
            r#"{"execution": {"drop_headers": ["x-user"]}}"#,
            "execution.drop_headers: found a value that has no effect here; \
             allowed: only if execution.mode is \"detached\"",
        ),
        (
            r#"{"execution": {"mode": "detached", "drop_headers": ["x-user", "Content-Length"]}}"#,
            "execution.drop_headers[1]: found \"content-length\", without which the request would be another one; \
             allowed: a header that neither frames the request nor says where it goes or what its body is",
        ),
        (
            r#"{"key": {"format": "uuid", "max_length": 35}}"#,
            "key.max_length: found 35, too short for any key of format \"uuid\"; \
             allowed: 36 or more if key.format is \"uuid\"",
        ),
        (
            r#"{"key": {"pointers": ["/id"]}, "fingerprint": {"body": "none"}}"#,
            "key.pointers: found pointers into a body that is not held; allowed: only if fingerprint.body is \"raw\" or \
             \"json\", or execution.mode is \"detached\"",
        ),
        (
            r#"{"key": {"pointers": ["/id"], "required": true}, "routes": [{"match": {}, "policy": {"fingerprint": {"body": "none"}}}]}"#,
            "routes[0].policy.key.pointers: found pointers into a body that is not held; allowed: only if \
             fingerprint.body is \"raw\" or \"json\", or execution.mode is \"detached\"",
        ),
        (
            r#"{"key": {"derive": {"window": "10s"}, "required": true}}"#,
            "key.derive: found a key for requests that key.required refuses; allowed: only if key.required is false",
        ),
        (
            r#"{"key": {"derive": {"window": "10s"}}, "fingerprint": {"body": "none"}, "execution": {"mode": "detached"}}"#,
            "key.derive: found a key derived from the request, while its body does not count; allowed: only if \
             fingerprint.body is \"raw\" or \"json\"",
        ),
        (
            r#"{"key": {"derive": {"window": "10s"}}, "caller": {"identity": []}}"#,
            "key.derive: found a key derived from an identity, which no request has; allowed: only if caller.identity is \
             not empty",
        ),
        (r#"{"key": {"derive": {}}}"#, "key.derive.window: found nothing; allowed: this key must be given"),
        (
            r#"{"caller": {"identity": [], "required": true}}"#,
            "caller.identity: found an empty list, with which caller.required would refuse every request; \
             allowed: a list that is not empty if caller.required is true",
        ),
        (
            r#"{"caller": {"identity": [{"header": "Authorization"}, {"authorization": "credential", "verified": true}]}}"#,
            "caller.identity: found both the header authorization, which is another one in each attempt, and its \
             credential; allowed: one of them",
        ),
        (
            r#"{"replay": {"drop_headers": ["etag"], "keep_headers": ["set-cookie", "ETag"]}}"#,
            "replay.keep_headers[1]: found \"etag\", which replay.drop_headers names too; allowed: each header in one list",
        ),
        (
            r#"{"replay": {"keep_headers": ["Proxy-Authenticate"]}}"#,
            "replay.keep_headers[0]: found \"proxy-authenticate\", which is never replayed; \
             allowed: a header that a replay may have",
        ),
        (
            r#"{"fingerprint": {"ignore": ["/a"]}}"#,
            "fingerprint.ignore: found a value that has no effect here; allowed: only if fingerprint.body is \"json\"",
        ),
        (
            r#"{"fingerprint": {"body": "none", "ignore": ["/a"]}}"#,
            "fingerprint.ignore: found a value that has no effect here; allowed: only if fingerprint.body is \"json\"",
        ),
        (
            r#"{"execution": {"timeout": "5s"}}"#,
            "execution.timeout: found a value that has no effect here; allowed: only if execution.mode is \"detached\"",
        ),
        (
            r#"{"execution": {"mode": "inline", "cluster": "orders"}}"#,
            "execution.cluster: found a value that has no effect here; allowed: only if execution.mode is \"detached\"",
        ),
        (
            r#"{"execution": {"max_calls": 5}}"#,
            "execution.max_calls: found a value that has no effect here; allowed: only if execution.mode is \"detached\"",
        ),
        (
            r#"{"duplicates": {"wait_timeout": "5s"}}"#,
            "duplicates.wait_timeout: found a value that has no effect here; allowed: only if duplicates.in_flight is \"wait\"",
        ),
        (
            r#"{"duplicates": {"in_flight": "reject", "max_waiting": 1}}"#,
            "duplicates.max_waiting: found a value that has no effect here; allowed: only if duplicates.in_flight is \"wait\"",
        ),
        (
            r#"{"limits": {"memory": "3MiB"}}"#,
            "limits.memory: found \"3MiB\"; allowed: at least \"4MiB\", four times the largest request_body or \
             response_body",
        ),
        (
            r#"{"routes": [{"match": {}, "policy": {"limits": {"request_body": "2MiB"}}}], "limits": {"memory": "4MiB"}}"#,
            "limits.memory: found \"4MiB\"; allowed: at least \"8MiB\", four times the largest request_body or \
             response_body",
        ),
        (
            r#"{"limits": {"response_body": "2MiB"}, "store": {"shared_data": {"max_bytes": 2000000}}}"#,
            "limits.response_body: found \"2MiB\", more than store.shared_data.max_bytes, 2000000; \
             allowed: at most store.shared_data.max_bytes",
        ),
        (
            r#"{"store": {"shared_data": {"max_bytes": "512KiB"}}}"#,
            "store.shared_data.max_bytes: found \"512KiB\", less than limits.response_body, \"1MiB\" by default; \
             allowed: at least limits.response_body",
        ),
        (
            r#"{"store": {"shared_data": {"max_entries": 43691, "max_bytes": "16MiB"}}}"#,
            "store.shared_data.max_entries: found 43691, which take 16777344 without any response, more than max_bytes, \
             \"16MiB\"; allowed: at most 43690 with this max_bytes, or max_bytes of at least 16777344; without \
             max_entries, it follows from max_bytes",
        ),
        (
            r#"{"store": {"shared_data": {"max_entries": 864000}}}"#,
            "store.shared_data.max_entries: found 864000, which take \"324000KiB\" without any response, more than \
             max_bytes, \"64MiB\"; allowed: at most 174762 with this max_bytes, or max_bytes of at least \
             \"324000KiB\"; without max_entries, it follows from max_bytes",
        ),
        (
            r#"{"replay": {"header": "Content-Length"}}"#,
            "replay.header: found \"content-length\", which means something else on a response; \
             allowed: a header that only marks replays, such as \"idempotency-replayed\"",
        ),
    ] {
        assert_eq!(refusal(input.as_bytes()), message, "{input}");
    }
}

#[test]
fn keys_in_bodies_that_a_detached_call_holds_need_no_fingerprint_of_them() {
    let text = r#"{"key": {"pointers": ["/id"]}, "fingerprint": {"body": "none"}, "execution": {"mode": "detached"}}"#;
    assert_eq!(parse(text).policy.key.pointers, [["id"]]);
}

#[test]
fn of_a_derived_key_and_a_required_one_the_routes_own_word_counts() {
    let config = parse(
        r#"{"key": {"derive": {"window": "10s"}}, "routes": [
            {"match": {"path": "/a"}, "policy": {"key": {"required": true}}},
            {"match": {"path": "/b"}, "policy": {"key": {"required": false}}}
        ]}"#,
    );
    let keys = [0, 1].map(|route| (config.routes[route].policy.key.derive, config.routes[route].policy.key.required));
    assert_eq!(keys, [(None, true), (Some(Duration::from_secs(10)), false)]);
    let config = parse(
        r#"{"key": {"required": true}, "routes": [{"match": {}, "policy": {"key": {"derive": {"window": "1h"}}}}]}"#,
    );
    let key = &config.routes[0].policy.key;
    assert_eq!((key.derive, key.required), (Some(Duration::from_secs(3600)), false));
}

#[test]
fn an_unknown_problem_is_named_with_those_that_exist() {
    let error = refusal(br#"{"problems": {"status": {"key-resued": 409}}}"#);
    let expected =
        "problems.status.key-resued: found an unknown key (did you mean key-reused?); allowed: caller-unknown, ";
    assert!(error.starts_with(expected) && error.ends_with("store-full, store-unavailable"), "{error}");
    let error = refusal(br#"{"problems": {"status": {"key-reused": 409, "key-reused": 422}}}"#);
    assert_eq!(error, "problems.status.key-reused: found the key twice; allowed: each key once");
}

#[test]
fn a_route_changes_what_it_sets_of_problems_status_by_status() {
    let config = parse(
        r#"{"problems": {"status": {"key-reused": 409, "overloaded": 429}, "body": ["${name}"]}, "routes": [
            {"match": {"path": "/a"}, "policy": {"problems": {"status": {"key-reused": 400}, "content_type": "a/b"}}},
            {"match": {"path": "/b"}, "policy": {"problems": {"body": null, "error_member": false}}}
        ]}"#,
    );
    let [a, b] = [0, 1].map(|route| config.routes[route].policy.problems.clone());
    assert_eq!(["key-reused", "overloaded", "key-missing"].map(|name| a.status_of(name)), [Some(400), Some(429), None]);
    assert_eq!((a.body, a.content_type.as_str()), (config.policy.problems.body.clone(), "a/b"));
    assert_eq!((b.status_of("key-reused"), config.policy.problems.error_member), (Some(409), true));
    assert_eq!((b.body, b.error_member, b.retry_hints), (None, false, true));
}

#[test]
fn a_route_has_the_last_word_on_each_header_of_a_replay() {
    let lists = |outside: &str, route: &str| {
        let config = format!(
            r#"{{"replay": {outside}, "routes": [{{"match": {{"path": "/a"}}, "policy": {{"replay": {route}}}}}]}}"#
        );
        let replay = parse(&config).routes[0].policy.replay.clone();
        (replay.drop_headers, replay.keep_headers)
    };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let kept = r#"{"keep_headers": ["set-cookie", "dpop-nonce"]}"#;
    assert_eq!(lists(kept, "{}"), (Vec::new(), owned(&["set-cookie", "dpop-nonce"])));
    assert_eq!(lists(kept, r#"{"drop_headers": ["set-cookie"]}"#), (owned(&["set-cookie"]), owned(&["dpop-nonce"])));
    assert_eq!(
        lists(r#"{"drop_headers": ["etag", "x-a"]}"#, r#"{"keep_headers": ["etag"]}"#),
        (owned(&["x-a"]), owned(&["etag"])),
    );
}

#[test]
fn a_role_stands_alone_and_no_role_is_the_filter() {
    assert_eq!(Plugin::parse(br#"{"role": "store_stream"}"#, &|_| None), Ok(Plugin::StoreStream));
    assert_eq!(Plugin::parse(b"", &|_| None), Ok(Plugin::Filter(Box::default())));
    assert_eq!(Plugin::parse(br#"{"ttl": "1h"}"#, &|_| None), Ok(Plugin::Filter(Box::new(parse(r#"{"ttl": "1h"}"#)))));
    for (input, message) in [
        (
            r#"{"mode": "off", "role": "store_stream", "ttl": "1h"}"#,
            "mode: found a setting of the filter, which role \"store_stream\" does not have; allowed: only role, if role \
             is \"store_stream\"",
        ),
        (r#"{"role": "store_stream", "ttls": "1h"}"#, "ttls: found an unknown key"),
    ] {
        let error = Plugin::parse(input.as_bytes(), &|_| None).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert_eq!(
        refusal(br#"{"role": "store_stream"}"#),
        "role: found a role other than the filter's; allowed: no role, which is the filter"
    );
}

#[test]
fn an_admin_has_the_settings_of_its_filter_and_a_guard() {
    let filter = r#""caller": {"identity": [{"header": "x-user"}]}, "store": {"redis": {"cluster": "r"}}"#;
    for (word, guard) in [("loopback", Guard::Loopback), ("filters", Guard::Filters)] {
        let text = format!(r#"{{"role": "admin", "guard": "{word}", {filter}}}"#);
        let config = Box::new(parse(&format!("{{{filter}}}")));
        assert_eq!(Plugin::parse(text.as_bytes(), &|_| None), Ok(Plugin::Admin { config, guard }));
    }
    for (input, message) in [
        (
            r#"{"role": "admin"}"#,
            "guard: found nothing, so that anyone who reaches the listener could make operations run twice; allowed: \
             \"loopback\" for a listener that is bound to a loopback address; \"filters\" for one whose own filters \
             authenticate operators, and whose metadata says so (docs/operations.md)",
        ),
        (r#"{"role": "admin", "guard": "none"}"#, "guard: found \"none\"; allowed: \"loopback\", \"filters\""),
        (
            r#"{"guard": "loopback"}"#,
            "guard: found a value that has no effect here; allowed: only if role is \"admin\"",
        ),
        (r#"{"role": "admin", "guard": "loopback", "ttl": "0s"}"#, "ttl: found \"0s\"; allowed: "),
        (
            r#"{"role": "store_stream", "guard": "loopback"}"#,
            "guard: found a setting of the filter, which role \"store_stream\" does not have",
        ),
    ] {
        let error = Plugin::parse(input.as_bytes(), &|_| None).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let other = refusal(br#"{"role": "admin", "guard": "loopback"}"#);
    assert_eq!(other, "role: found a role other than the filter's; allowed: no role, which is the filter");
}

#[test]
fn neither_errors_nor_debug_output_show_a_password() {
    for text in [
        r#"{"store": {"redis": {"cluster": "r", "password": "hunter2"}}}"#,
        r#"{"store": {"redis": {"cluster": "r", "password": ["hunter2"]}}}"#,
        r#"{"store": {"redis": {"cluster": 1, "password": "hunter2"}}}"#,
        r#"{"store": {"postgres": {"cluster": "p", "database": "d", "username": "u", "password": "hunter2"}}}"#,
        r#"{"store": {"postgres": {"cluster": "p", "database": "d", "username": "u", "password": "hunter2\u00e9"}}}"#,
        r#"{"store": {"postgres": {"cluster": "p", "password": "hunter2"}}}"#,
    ] {
        assert!(!format!("{:?}", Config::parse(text.as_bytes())).contains("hunter2"));
        assert!(!format!("{:?}", Document::parse(text.as_bytes())).contains("hunter2"));
    }
}

#[test]
fn postgres_has_the_defaults_of_the_contract_and_another_schema_in_shadow_mode() {
    let store = |settings: &str| {
        let text =
            format!(r#"{{"store": {{"postgres": {{"cluster": "p", "database": "d", "username": "u"{settings}}}}}}}"#);
        Config::parse(text.as_bytes()).map(|config| config.store).map_err(|error| error.to_string())
    };
    let defaults = PostgresConfig {
        cluster: "p".to_owned(),
        database: "d".to_owned(),
        username: "u".to_owned(),
        password: None,
        schema: "idemgate".to_owned(),
        connections: 4,
        timeout: Duration::from_millis(500),
        max_record: 1 << 20,
        sweep: true,
        integrity: IntegrityConfig::default(),
    };
    assert_eq!(store(""), Ok(StoreConfig::Postgres(defaults.clone())));
    let settings = r#", "password": "secret", "schema": "keys", "connections": 16, "timeout": "1s", "max_record": "16MiB",
                      "sweep": false, "integrity_key": "a key of thirty-two bytes, no less", "unsigned_records": "accept""#;
    let set = PostgresConfig {
        password: Some("secret".to_owned()),
        schema: "keys".to_owned(),
        connections: 16,
        timeout: Duration::from_secs(1),
        max_record: 16 << 20,
        sweep: false,
        integrity: IntegrityConfig {
            keys: vec!["a key of thirty-two bytes, no less".to_owned()],
            unsigned: Unsigned::Accept,
        },
        ..defaults.clone()
    };
    assert_eq!(store(settings), Ok(StoreConfig::Postgres(set)));
    let shadow = StoreConfig::Postgres(defaults).in_shadow();
    assert!(matches!(shadow, StoreConfig::Postgres(config) if config.schema == "idemgate_shadow"));
    for (settings, message) in [
        (
            r#", "password": "gr\u00fc\u00dfe""#,
            "store.postgres.password: found a hidden value with characters that are not ASCII; allowed: ASCII \
             characters alone",
        ),
        (r#", "password": """#, "store.postgres.password: found a hidden value; "),
        (r#", "schema": "Keys""#, "store.postgres.schema: found \"Keys\"; allowed: the name of a schema"),
        (r#", "schema": "1k""#, "store.postgres.schema: found \"1k\"; "),
        (r#", "schema": "a.b""#, "store.postgres.schema: found \"a.b\"; "),
        (r#", "connections": 0"#, "store.postgres.connections: found 0; "),
        (
            r#", "unsigned_records": "accept""#,
            "store.postgres.unsigned_records: found a value that has no effect here; allowed: only with \
             store.postgres.integrity_key",
        ),
    ] {
        let error = store(settings).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
    let longest = format!(r#", "schema": "{}""#, "k".repeat(56));
    assert!(store(&longest).is_ok());
    assert!(store(&longest.replace("kk\"", "kkk\"")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_configuration_or_one_line_that_says_why_not(text in proptest::collection::vec(any::<u8>(), 0..64)) {
        says_why_not(&text);
    }

    #[test]
    fn any_json_is_a_configuration_or_one_line_that_says_why_not(json in json()) {
        says_why_not(json.to_string().as_bytes());
    }

    #[test]
    fn a_configuration_with_a_flaw_is_told_its_path(
        path in proptest::sample::subsequence(&GOOD[..], 1..5), place in any::<proptest::sample::Index>(), flaw in json()
    ) {
        let flawed = place.index(path.len());
        let entries = path.iter().enumerate().map(|(index, (key, value))| {
            if index == flawed { format!("\"{key}\": {flaw}") } else { format!("\"{key}\": {value}") }
        });
        let text = format!("{{{}}}", entries.collect::<Vec<_>>().join(", "));
        if let Err(error) = Config::parse(text.as_bytes()) {
            let message = error.to_string();
            prop_assert!(message.starts_with(path[flawed].0), "{text}: {message}");
        }
    }

    #[test]
    fn a_status_has_the_outcome_of_its_code_or_else_of_its_class(status in 100_u16..600, other in 100_u16..600) {
        prop_assume!(status != other);
        let text = format!(r#"{{"outcome": {{"store": [{other}], "unknown": [{status}], "release": ["{}xx"]}}}}"#, status / 100);
        let outcome = &parse(&text).policy.outcome;
        prop_assert_eq!(outcome.disposition(status), Disposition::Unknown);
        prop_assert_eq!(outcome.disposition(other), Disposition::Store);
    }
}

/// Settings that are good, whichever of them stand together.
const GOOD: [(&str, &str); 8] = [
    ("caller", r#"{"identity": [{"header": "x-tenant"}]}"#),
    ("fingerprint", r#"{"body": "json", "ignore": ["/a"]}"#),
    ("key", r#"{"required": true}"#),
    ("lease", "\"2s\""),
    ("methods", "[\"PUT\"]"),
    ("outcome", r#"{"store": [500]}"#),
    ("replay", r#"{"drop_headers": []}"#),
    ("store", r#"{"shared_data": {"max_entries": 10}}"#),
];

const WORDS: [&str; 12] =
    ["key", "headers", "store", "redis", "ttl", "1s", "5xx", "/a", "POST", "shared_data", "max_bytes", "\n"];

/// JSON that is made of what configurations are made of.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        proptest::sample::select(&WORDS[..]).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let key = prop_oneof![proptest::sample::select(&WORDS[..]).prop_map(str::to_owned), any::<String>()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map(key, inner, 0..6)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn says_why_not(text: &[u8]) {
    if let Err(error) = Config::parse(text) {
        let message = error.to_string();
        let (path, rest) = message.split_once(": found ").unwrap_or_else(|| panic!("no path in {message}"));
        assert!(!path.is_empty() && rest.contains("; allowed: "), "{message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &[u8]) -> String {
    match Config::parse(text) {
        Ok(_) => panic!("{} is accepted", text.escape_ascii()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_secret_can_be_in_the_environment() {
    let parse = |text: &str, value: Option<&str>| {
        let environment = |name: &str| value.filter(|_| name == "SECRET").map(str::to_owned);
        Plugin::parse(text.as_bytes(), &environment).map(|plugin| match plugin {
            Plugin::Filter(config) => match config.store {
                StoreConfig::Redis(redis) => (redis.password, redis.integrity.keys),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
    };
    let secret = "a secret of thirty-two characters";
    let text = r#"{"store": {"redis": {
        "cluster": "r", "password": {"env": "SECRET"}, "integrity_key": ["the old key, of thirty-two characters", {"env": "SECRET"}]
    }}}"#;
    let keys = vec!["the old key, of thirty-two characters".to_owned(), secret.to_owned()];
    assert_eq!(parse(text, Some(secret)), Ok((Some(secret.to_owned()), keys)));
    for value in [None, Some("")] {
        let error = parse(text, value).unwrap_err().to_string();
        let start = "store.redis.password: found the environment variable SECRET, which is not set in the filter's VM; \
                     allowed: one that Envoy is started with and that vm_config.environment_variables.host_env_keys";
        assert!(error.starts_with(start), "{error}");
    }
    let error = parse(text, Some("hunter2")).unwrap_err().to_string();
    assert!(
        error.starts_with("store.redis.integrity_key[1]: found a hidden value") && !error.contains("hunter2"),
        "{error}"
    );
    for (secret, message) in [
        (r#"{}"#, "store.redis.password.env: found nothing; allowed: this key must be given"),
        (r#"{"env": ""}"#, "store.redis.password.env: found \"\""),
        (r#"{"env": "A", "file": "b"}"#, "store.redis.password.file: found an unknown key"),
    ] {
        let error = parse(&format!(r#"{{"store": {{"redis": {{"cluster": "r", "password": {secret}}}}}}}"#), None);
        assert!(error.as_ref().is_err_and(|error| error.to_string().starts_with(message)), "{error:?}");
    }
}
