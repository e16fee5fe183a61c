//! Who may ask, for what, and what they are told.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    config::{Config, Guard, Plugin},
    headers::Headers,
    record::{Amendment, Conflict, Standing, Verb, View},
    request::{Caller, Key, OperationId, OperationPrefix, Target},
    store::{StoreError, redis::RedisError, remote::Listed},
    time::Timestamp,
};

const OPERATION: OperationId = OperationId::from_bytes([0xab; 32]);

fn config(settings: &str) -> Config {
    let text = format!(r#"{{"role": "admin", "guard": "loopback"{settings}}}"#);
    match Plugin::parse(text.as_bytes(), &|_| None) {
        Ok(Plugin::Admin { config, .. }) => *config,
        other => panic!("{other:?}"),
    }
}

fn headers(host: &str, forwarders: &[&str]) -> Headers {
    let forwarders = forwarders.iter().map(|value| ("x-forwarded-for", *value));
    [(":authority", host)].into_iter().chain(forwarders).collect()
}

fn check(to: Option<&str>, from: Option<&str>, host: &str, forwarders: &[&str]) -> Result<(), Refusal> {
    let headers = headers(host, forwarders);
    let (to, from) = (to.map(str::as_bytes), from.map(str::as_bytes));
    Origin { to, from, is_declared: false, headers: &headers }.check(Guard::Loopback)
}

#[test]
fn loopback_is_the_loopback_interface_of_either_family_or_a_unix_socket() {
    for (to, from) in [
        ("127.0.0.1:9902", "127.0.0.1:40000"),
        ("127.8.9.10:1", "127.0.0.1:40000"),
        ("[::1]:9902", "[::1]:40000"),
        ("[::ffff:127.0.0.1]:9902", "[::ffff:127.0.0.1]:40000"),
        ("/run/idemgate.sock", ""),
        ("/run/idemgate.sock", "/run/client.sock"),
        ("@idemgate", ""),
    ] {
        assert_eq!(check(Some(to), Some(from), "localhost", &[]), Ok(()), "{to} from {from}");
    }
    assert_eq!(check(Some("/run/idemgate.sock"), None, "localhost", &[]), Ok(()));
    for to in [
        "10.0.0.1:9902",
        "0.0.0.0:9902",
        "[::]:9902",
        "[fe80::1]:9902",
        "127.evil:1",
        "1127.0.0.1:1",
        "localhost:9902",
        "envoy://internal/1",
        "",
        "[::12]:1",
        "[::ffff:10.0.0.1]:1",
    ] {
        assert_eq!(check(Some(to), Some("127.0.0.1:1"), "localhost", &[]), Err(Refusal::ToElsewhere), "{to}");
    }
    assert_eq!(check(None, None, "localhost", &[]), Err(Refusal::ToElsewhere), "a host that tells nothing");
    for from in ["10.0.0.1:1", "", "envoy://x", "/run/x"] {
        let refused = check(Some("127.0.0.1:9902"), Some(from), "localhost", &[]);
        assert_eq!(refused, Err(Refusal::FromElsewhere), "{from}");
    }
}

#[test]
fn neither_a_proxy_nor_a_web_page_on_the_machine_speaks_for_an_operator() {
    let from = |host: &str, forwarders: &[&str]| check(Some("127.0.0.1:9902"), Some("127.0.0.1:1"), host, forwarders);
    for forwarders in [&["127.0.0.1"][..], &["127.0.0.1, ::1"], &["127.0.0.1", "127.0.0.2:80"]] {
        assert_eq!(from("localhost:9902", forwarders), Ok(()), "{forwarders:?}");
    }
    for forwarders in [&["10.0.0.1"][..], &["127.0.0.1, 10.0.0.1"], &["127.0.0.1", "10.0.0.1"], &[""], &["unknown"]] {
        assert_eq!(from("localhost:9902", forwarders), Err(Refusal::FromElsewhere), "{forwarders:?}");
    }
    for host in ["localhost", "LocalHost:80", "127.0.0.1", "[::1]", "[::1]:9902"] {
        assert_eq!(from(host, &[]), Ok(()), "{host}");
    }
    for host in [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127",
        "10.0.0.1",
        "[localhost].evil.example",
        "[::1].evil.example",
        "localhost:9902.evil.example",
        "localhost:",
        "localhost:port",
        "localhost:123456",
        "localhost:80:80",
        "[::1]:",
        "[::1]9902",
        "[::1",
        "[]",
        "127....",
        "127.1",
        "127.0.0.1.",
        "127.0.0.01",
        "127.0.0.1:9902@evil.example",
        "[127.1",
        "[127.0.0.1]",
        "[localhost]",
        "0x7f.0.0.1",
    ] {
        assert_eq!(from(host, &[]), Err(Refusal::OtherHost), "{host}");
    }
}

#[test]
fn what_a_proxy_adds_shows_that_a_request_was_not_sent_straight_to_the_admin() {
    for name in ["via", "forwarded", "x-real-ip", "x-forwarded-host"] {
        let headers = Headers::from_iter([(":authority", "localhost"), (name, "127.0.0.1")]);
        let origin = |is_declared| Origin {
            to: Some(b"127.0.0.1:1"),
            from: Some(b"127.0.0.1:2"),
            is_declared,
            headers: &headers,
        };
        assert_eq!(origin(false).check(Guard::Loopback), Err(Refusal::FromElsewhere), "{name}");
        assert_eq!(origin(true).check(Guard::Filters), Ok(()), "{name}: operators may have proxies in front");
    }
}

#[test]
fn no_web_page_asks_an_admin_whatever_guards_it() {
    let check = |fields: &[(&str, &str)]| {
        let headers = [(":authority", "localhost:9902")].into_iter().chain(fields.iter().copied()).collect::<Headers>();
        let origin =
            Origin { to: Some(b"127.0.0.1:1"), from: Some(b"127.0.0.1:2"), is_declared: true, headers: &headers };
        let results = [Guard::Loopback, Guard::Filters].map(|guard| origin.check(guard));
        assert_eq!(results[0], results[1], "{fields:?}");
        results[0]
    };
    for fields in [
        &[][..],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:9902")],
        &[("origin", "https://LOCALHOST:9902")],
    ] {
        assert_eq!(check(fields), Ok(()), "{fields:?}");
    }
    for fields in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "")],
        &[("origin", "https://evil.example")],
        &[("origin", "http://localhost:3000")],
        &[("origin", "http://localhost")],
        &[("origin", "localhost:9902")],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "http://localhost:9902"), ("origin", "http://evil.example")],
        &[("origin", "http://localhost:9902"), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(check(fields), Err(Refusal::WebPage), "{fields:?}");
    }
}

#[test]
fn filters_guard_only_what_is_declared() {
    let headers = headers("admin.example", &["10.0.0.1"]);
    let origin = Origin { to: Some(b"10.0.0.1:1"), from: Some(b"10.0.0.2:1"), is_declared: true, headers: &headers };
    assert_eq!(origin.check(Guard::Filters), Ok(()));
    assert!(origin.check(Guard::Loopback).is_err(), "what is declared counts for nothing there");
    assert_eq!(Origin { is_declared: false, ..origin }.check(Guard::Filters), Err(Refusal::Undeclared));
}

fn route(method: &str, path: &str) -> Result<AdminRoute, AdminProblem> {
    AdminRoute::of(&Headers::from_iter([(":method", method), (":path", path), ("content-type", "application/json")]))
}

#[test]
fn each_path_has_one_spelling_and_one_method() {
    let hash = OPERATION.to_string();
    let prefix = OperationPrefix::parse("abababab").unwrap();
    for (method, path, expected) in [
        ("GET", "/operations".to_owned(), AdminRoute::Count),
        ("GET", "/operations/unfinished".to_owned(), AdminRoute::List),
        ("POST", "/operations/lookup".to_owned(), AdminRoute::LookUp),
        ("GET", "/operations/abababab".to_owned(), AdminRoute::Look(prefix)),
        ("POST", format!("/operations/{hash}/release"), AdminRoute::Release(OPERATION)),
        ("POST", format!("/operations/{hash}/not-kept"), AdminRoute::NotKept(OPERATION)),
        ("POST", format!("/operations/{hash}/purge"), AdminRoute::Purge(OPERATION)),
    ] {
        assert_eq!(route(method, &path), Ok(expected), "{path}");
        for other in ["GET", "POST", "HEAD", "OPTIONS", "get", ""].into_iter().filter(|other| *other != method) {
            assert_eq!(route(other, &path), Err(AdminProblem::MethodNotAllowed { allow: method }), "{other} {path}");
        }
        for spelling in
            [format!("{path}/"), format!("{path}?"), format!("/{path}"), format!("{path}/x"), path.to_uppercase()]
        {
            assert_eq!(route(method, &spelling), Err(AdminProblem::NoSuchPath), "{spelling}");
        }
    }
    assert_eq!(route("POST", "/operations/abababab/purge"), Err(AdminProblem::NoSuchPath), "changes take whole hashes");
}

#[test]
fn what_has_a_body_must_say_that_it_is_json() {
    let of = |value: &[u8]| {
        let fields = [(":method", b"POST".as_slice()), (":path", b"/operations/lookup"), ("content-type", value)];
        AdminRoute::of(&Headers::from_iter(fields))
    };
    for good in ["application/json", "APPLICATION/JSON; charset=utf-8", "application/json ;x=y"] {
        assert_eq!(of(good.as_bytes()), Ok(AdminRoute::LookUp), "{good}");
    }
    for bad in [&b""[..], b"text/plain", b"application/jsonp", b"text/plain;application/json", b"\xff"] {
        assert_eq!(of(bad), Err(AdminProblem::NotJson), "{}", bad.escape_ascii());
    }
    assert_eq!(
        AdminRoute::of(&Headers::from_iter([(":method", "GET"), (":path", "/operations")])),
        Ok(AdminRoute::Count)
    );
}

#[test]
fn a_look_up_finds_the_operation_that_the_filter_would_name() {
    let config = config(
        r#", "key": {"headers": ["x-key"]}, "caller": {"identity": [{"header": "x-user"}, {"property": ["jwt", "sub"]}]}"#,
    );
    let filters = |key: &str, users: &[&str], subject: Option<&str>| {
        let lines: Headers = users.iter().map(|user| ("x-user", *user)).chain([("x-key", key)]).collect();
        let key = Key::find(&lines, &config.policy.key).unwrap().unwrap();
        let property = |_: &[String]| subject.map(|subject| subject.as_bytes().to_vec());
        let caller = Caller::identify(&config.policy.caller, &lines, property).unwrap().caller;
        let target = Target { method: b"POST", authority: b"api.example", path: b"/orders", query: None };
        Ok(Task::Look(OperationId::new(&caller, &config.policy.resource, &target, &key)))
    };
    let asked = |key: &str, caller: &str| {
        let body = format!(
            r#"{{"key": {key}, "method": "POST", "authority": "api.example", "path": "/orders?a=b", "caller": {caller}}}"#
        );
        AdminRoute::LookUp.task(body.as_bytes(), &config)
    };
    assert_eq!(asked(r#""k""#, r#"["ann", "42"]"#), filters("k", &["ann"], Some("42")));
    assert_eq!(asked(r#""\"k\"""#, r#"["ann", null]"#), filters("k", &["ann"], None));
    assert_eq!(asked(r#""k""#, r#"[null, "42"]"#), filters("k", &[], Some("42")));
    assert_eq!(asked(r#""k""#, r#"[["ann", "bob"], null]"#), filters("k", &["ann", "bob"], None));
    assert_ne!(asked(r#""k""#, r#"["ann", null]"#), asked(r#""k""#, r#"[null, "ann"]"#));
}

#[test]
fn a_look_up_falls_under_a_route_by_the_headers_that_are_told() {
    let config = config(
        r#", "caller": {"identity": []}, "routes": [{"match": {"headers": {"x-tenant": "a*"}}, "policy": {"resource": []}}]"#,
    );
    let asked = |path: &str, headers: &str| {
        let body = format!(r#"{{"key": "k", "method": "POST", "authority": "a", "path": "{path}"{headers}}}"#);
        AdminRoute::LookUp.task(body.as_bytes(), &config)
    };
    // Under the route, paths do not tell operations apart.
    assert_eq!(asked("/a", r#", "headers": {"X-Tenant": "ann"}"#), asked("/b", r#", "headers": {"x-tenant": "abe"}"#));
    assert_ne!(asked("/a", r#", "headers": {"x-tenant": "bob"}"#), asked("/b", r#", "headers": {"x-tenant": "bob"}"#));
    assert_eq!(asked("/a", ""), asked("/a", r#", "headers": {}"#));
    for headers in [r#", "headers": ["x-tenant"]"#, r#", "headers": {"x-tenant": 1}"#] {
        assert!(matches!(asked("/a", headers), Err(AdminProblem::BadRequest(_))), "{headers}");
    }
}

fn amendment(route: AdminRoute, body: &str) -> Result<Amendment, AdminProblem> {
    match route.task(body.as_bytes(), &config(""))? {
        Task::Amend(OPERATION, amendment) => Ok(amendment),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_forced_only_by_the_word_itself() {
    for (body, force) in [("", false), ("{}", false), (" {\"force\": false} ", false), ("{\"force\":true}", true)] {
        assert_eq!(amendment(AdminRoute::Release(OPERATION), body), Ok(Amendment { verb: Verb::Release, force }));
        assert_eq!(amendment(AdminRoute::Purge(OPERATION), body), Ok(Amendment { verb: Verb::Purge, force }));
    }
    let not_kept = amendment(AdminRoute::NotKept(OPERATION), "{\"status\": 201, \"force\": true}");
    assert_eq!(not_kept, Ok(Amendment { verb: Verb::NotKept { status: 201 }, force: true }));
    for body in [
        "{\"force\":1}",
        "{\"force\":\"true\"}",
        "{\"force\":null}",
        "{\"Force\":true}",
        "true",
        "[]",
        "{\"status\":201}",
    ] {
        assert!(matches!(amendment(AdminRoute::Release(OPERATION), body), Err(AdminProblem::BadRequest(_))), "{body}");
    }
    for body in [
        "",
        "{}",
        "{\"status\":199}",
        "{\"status\":600}",
        "{\"status\":65737}",
        "{\"status\":-1}",
        "{\"status\":201.5}",
    ] {
        assert!(matches!(amendment(AdminRoute::NotKept(OPERATION), body), Err(AdminProblem::BadRequest(_))), "{body}");
    }
}

fn problems() -> Vec<AdminProblem> {
    let unavailable = |may_have_changed| AdminProblem::StoreUnavailable {
        error: StoreError::Redis(RedisError::TimedOut),
        may_have_changed,
    };
    vec![
        AdminProblem::BadRequest("Nothing was done. \"quoted\" \\ and\nbroken".into()),
        AdminProblem::BodyTooLarge,
        AdminProblem::Conflict(Conflict::Alive { lease_left: Duration::from_millis(1) }),
        AdminProblem::Conflict(Conflict::AlreadyNotKept),
        AdminProblem::Conflict(Conflict::OtherStatus { status: 201 }),
        AdminProblem::Conflict(Conflict::Ran),
        AdminProblem::MethodNotAllowed { allow: "GET" },
        AdminProblem::NoBody,
        AdminProblem::NoSuchPath,
        AdminProblem::NotFound(None),
        AdminProblem::NotFound(Some(OPERATION)),
        AdminProblem::NotJson,
        AdminProblem::NotUnique(vec![OPERATION, OperationId::from_bytes([1; 32])]),
        AdminProblem::Refused(Refusal::Undeclared),
        unavailable(false),
        unavailable(true),
        AdminProblem::WholeHashNeeded { how_to_find: "Look it up by all its digits, as in 'it's:\u{7f}'.".to_owned() },
    ]
}

#[test]
fn each_problem_is_json_with_its_own_status_and_says_what_to_do() {
    for problem in problems() {
        let answer = problem.answer();
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.content_type, "application/problem+json");
        assert_eq!(document["status"], answer.status, "{problem:?}");
        assert_eq!(document["type"], format!("urn:idemgate:{}", problem.name()));
        assert!(document["detail"].as_str().unwrap().len() > 30, "{document}");
        assert_eq!(answer.allow.is_some(), answer.status == 405, "{problem:?}");
    }
    let alive = AdminProblem::Conflict(Conflict::Alive { lease_left: Duration::from_millis(1) }).answer();
    let document: Value = serde_json::from_slice(&alive.body).unwrap();
    assert_eq!(document["lease_left_seconds"], 1, "as long as any is left");
}

#[test]
fn a_record_is_told_with_what_its_state_has() {
    let lease_left = Duration::from_millis(1);
    let view = |standing| View {
        standing,
        age: Duration::from_millis(61_999),
        expires: Timestamp::from_millis(1_700_000_000_000),
        response_bytes: 77,
    };
    let hash = OPERATION.to_string();
    for (standing, expected) in [
        (Standing::InFlight { lease_left }, r#""state":"in_flight","age_seconds":61,"lease_left_seconds":1"#),
        (
            Standing::Unknown { lease_left },
            r#""state":"unknown","age_seconds":61,"unknown_because":"no conclusive response was seen","lease_left_seconds":1"#,
        ),
        (
            Standing::Lapsed,
            r#""state":"unknown","age_seconds":61,"unknown_because":"its lease expired before an outcome was recorded","lease_left_seconds":0"#,
        ),
        (
            Standing::Completed { status: 201 },
            r#""state":"completed","age_seconds":61,"original_status":201,"response_bytes":77"#,
        ),
        (Standing::NotKept { status: 418 }, r#""state":"not_kept","age_seconds":61,"original_status":418"#),
    ] {
        let body = String::from_utf8(AdminAnswer::seen(&OPERATION, &view(standing)).body).unwrap();
        assert_eq!(body, format!(r#"{{"operation":"{hash}",{expected},"expires":"2023-11-14T22:13:20Z"}}"#));
    }
}

proptest! {
    #[test]
    fn no_bytes_are_taken_for_a_task_that_they_do_not_spell(
        path in "(/?(operations|lookup|ab{0,70}|purge|release|[?%.])){0,5}",
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(route) = route("POST", &path) {
            let is_spelt = path == "/operations/lookup" || path.ends_with("/purge") || path.ends_with("/release");
            prop_assert!(is_spelt, "{}", path);
            if let Ok(task) = route.task(&body, &config("")) {
                prop_assert!(matches!(task, Task::Amend(_, Amendment { force: false, .. })), "{:?}", task);
            }
        }
    }
}

#[test]
fn what_has_not_come_to_its_end_is_told_with_how_long_it_may_still_run() {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let listed = |is_running, lease_left| Listed {
        operation: OPERATION,
        is_running,
        lease_left: Duration::from_millis(lease_left),
        lives: Duration::from_secs(60),
    };
    let told = |listed: &[Listed]| String::from_utf8(AdminAnswer::listed(listed, now).body).unwrap();
    assert_eq!(told(&[]), r#"{"unfinished":[]}"#);
    let entry = |state, lease_left| {
        format!(
            r#"{{"expires":"2023-11-14T22:14:20Z","lease_left_seconds":{lease_left},"operation":"{OPERATION}","state":"{state}"}}"#
        )
    };
    assert_eq!(
        told(&[listed(false, 0), listed(true, 4_001)]),
        format!(r#"{{"unfinished":[{},{}]}}"#, entry("unknown", 0), entry("in_flight", 5))
    );
    let many = vec![listed(false, 0); usize::from(AdminAnswer::MOST_LISTED)];
    assert!(told(&many).ends_with(r#"],"there_may_be_more":true}"#));
}
