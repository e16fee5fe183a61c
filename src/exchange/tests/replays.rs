//! What a replay carries, and what it leaves out.

use super::harness::{Response, World};
use crate::{
    config::{ExecutionMode, Policy},
    exchange::{Reply, Status, replayable},
    headers::Headers,
};

/// The names that the filter adds to a replay.
const ADDED: [&str; 3] = ["idempotency-replayed", "idempotency-expires", "idempotency-status"];

fn replay_of(response: &Response) -> Reply {
    let world = World::new();
    world.order().send().answered(response);
    world.order().send().reply().clone()
}

/// The fields of the response that are left, as text.
fn carried(response: &Response) -> Vec<String> {
    let reply = replay_of(response);
    let kept = reply.headers.iter().filter(|(name, _)| ADDED.iter().all(|added| added.as_bytes() != *name));
    kept.map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii())).collect()
}

#[test]
fn a_replay_says_that_it_is_one_and_how_long_there_will_be_one() {
    let reply = replay_of(&Response::created());
    let added: Vec<_> = ADDED.map(|name| reply.headers.get_all(name).collect::<Vec<_>>().concat()).to_vec();
    // 2023-11-14T22:13:20Z and the default retention of a day.
    assert_eq!(added, [b"true".as_slice(), b"2023-11-15T22:13:20Z", b"replayed"]);
    assert_eq!(reply.details, "idemgate_replay");
}

#[test]
fn a_replay_is_marked_by_the_field_that_the_policy_names() {
    let world = World::with(|policy| policy.replay.header = "idempotent-replayed".to_owned());
    world.order().send().answered(&Response::created().header("idempotent-replayed", "false"));
    let retry = world.order().send();
    let values: Vec<_> = retry.reply().headers.get_all("idempotent-replayed").collect();
    assert_eq!(values, [b"true"]);
    assert_eq!(retry.reply().headers.get("idempotency-replayed"), None);
}

#[test]
fn statuses_with_and_without_a_body_are_replayed() {
    for status in [200, 201, 202, 204, 303, 304, 400, 404, 409, 422] {
        let reply = replay_of(&Response::new(status).header("location", "/orders/1"));
        assert_eq!((reply.status, &*reply.body), (status, b"".as_slice()));
        assert_eq!(reply.headers.get("location"), Some(b"/orders/1".as_slice()));
        if status != 204 && status != 304 {
            let reply = replay_of(&Response::new(status).body("body"));
            assert_eq!((reply.status, &*reply.body), (status, b"body".as_slice()));
        }
    }
}

#[test]
fn what_is_no_response_of_http_passes_once_and_leaves_a_tombstone() {
    let malformed = [
        Response::new(204).body("body"),
        Response::new(304).body("body"),
        Response::new(999),
        Response::new(200).header("a b", "1"),
        Response::new(200).header("a", "1\r\nset-cookie: sid=evil"),
    ];
    for response in malformed {
        let world = World::new();
        world.order().send().answered(&response);
        let retry = world.order().send();
        assert_eq!((retry.reply().status, retry.reply().details), (409, "idemgate_response_not_kept"), "{response:?}");
    }
}

#[test]
fn what_is_for_one_user_is_kept_for_a_caller_that_can_be_told_from_others() {
    for (value, is_for_one) in [
        ("private", true),
        ("no-store", true),
        ("max-age=0, No-Store", true),
        ("PRIVATE=\"x-a\" , max-age=1", true),
        ("public, max-age=60", false),
        ("no-cache", false),
        ("x-private, no-stored", false),
        ("", false),
    ] {
        for mode in [ExecutionMode::Inline, ExecutionMode::Detached] {
            for has_identity in [true, false] {
                // That no replay is to have the field does not matter.
                for drops in [Vec::new(), vec!["cache-control".to_owned()]] {
                    let world = World::with(|policy| {
                        policy.execution.mode = mode;
                        policy.replay.drop_headers = drops.clone();
                    });
                    let order = || {
                        let order = world.order();
                        if has_identity { order } else { order.without("authorization") }
                    };
                    let answer = Response::of_call(200).header("cache-control", value).body("mine");
                    match mode {
                        ExecutionMode::Inline => drop(order().send().answered(&answer)),
                        ExecutionMode::Detached => drop(order().send().call_answered(&answer)),
                    }
                    let retry = order().send();
                    let is_kept = has_identity || !is_for_one;
                    let expected = if is_kept { "idemgate_replay" } else { "idemgate_response_not_kept" };
                    assert_eq!(retry.reply().details, expected, "{value:?} {mode:?} {has_identity} {drops:?}");
                }
            }
        }
    }
}

#[test]
fn the_body_is_replayed_byte_by_byte_however_it_was_cut_and_ended() {
    let bytes: Vec<u8> = (0..=255).collect();
    let encoded = Response::new(200).header("content-encoding", "gzip").header("content-type", "text/plain");
    for response in [
        encoded.clone().body(bytes.clone()),
        encoded.clone().chunks(bytes.chunks(7)),
        encoded.clone().chunks([bytes.as_slice(), b""]),
        encoded.clone().chunks([b"", bytes.as_slice()]),
        encoded.body(bytes.clone()).with_trailers(),
    ] {
        let reply = replay_of(&response);
        assert_eq!(*reply.body, *bytes);
        assert_eq!(reply.headers.get("content-encoding"), Some(b"gzip".as_slice()));
    }
}

#[test]
fn a_response_that_ends_with_trailers_alone_is_replayed() {
    assert_eq!(replay_of(&Response::new(200).with_trailers()).status, 200);
}

#[test]
fn repeated_fields_keep_their_count_and_order() {
    let response = Response::new(200)
        .header("link", "</a>; rel=next")
        .header("x-b", "1")
        .header("link", "</b>; rel=prev")
        .header("x-b", "1");
    assert_eq!(carried(&response), ["link: </a>; rel=next", "x-b: 1", "link: </b>; rel=prev", "x-b: 1"]);
}

#[test]
fn values_that_are_not_utf_8_are_kept_as_they_are() {
    let response = Response::new(200).header("x-name", b"Ren\xe9".as_slice()).header("x-empty", "");
    assert_eq!(carried(&response), ["x-name: Ren\\xe9", "x-empty: "]);
}

#[test]
fn fields_of_one_hop_or_one_message_are_left_out() {
    let left_out = [
        "Connection",
        "Content-Length",
        "Date",
        "Idempotency-Expires",
        "Idempotency-Replayed",
        "Idempotency-Status",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authentication-Info",
        "Proxy-Connection",
        "Server",
        "Set-Cookie",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "WWW-Authenticate",
        "X-Envoy-Upstream-Service-Time",
        "x-envoy-",
    ];
    for name in left_out {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            let response = Response::new(200).header(name.clone(), "1").header("x-kept", "1").header(name.clone(), "2");
            assert_eq!(carried(&response), ["x-kept: 1"], "{name}");
        }
    }
}

#[test]
fn fields_that_only_sound_like_those_are_kept() {
    let names = ["x-envoy", "proxy", "dates", "x-server", "content-type", "www-authenticate-info", "etag", "via"];
    for name in names {
        assert_eq!(carried(&Response::new(200).header(name, "1")), [format!("{name}: 1")]);
    }
}

#[test]
fn fields_that_connection_names_are_left_out() {
    let response = Response::new(200)
        .header("x-hop", "1")
        .header("connection", "close, X-Hop ,, ")
        .header("x-kept", "1")
        .header("x-other", "1")
        .header("connection", "\tx-other");
    assert_eq!(carried(&response), ["x-kept: 1"]);
}

#[test]
fn what_the_policy_drops_comes_on_top_of_the_default() {
    let world = World::with(|policy| policy.replay.drop_headers = vec!["x-session".to_owned()]);
    world.order().send().answered(&Response::new(200).header("X-Session", "1").header("set-cookie", "a=1"));
    let retry = world.order().send();
    assert_eq!(retry.reply().headers.get("x-session"), None);
    assert_eq!(retry.reply().headers.get("set-cookie"), None);
}

#[test]
fn what_belongs_to_one_client_comes_back_by_name_only() {
    let names =
        ["Set-Cookie", "Set-Cookie2", "Mcp-Session-Id", "DPoP-Nonce", "Replay-Nonce", "Sec-Session-Registration"];
    let names = names.iter().chain(&["Authentication-Info", "Clear-Site-Data", "sec-session-"]);
    for name in names {
        let response = Response::new(200).header(*name, "1").header("etag", "1");
        assert_eq!(carried(&response), ["etag: 1"], "{name}");
        let world = World::with(|policy| {
            policy.replay.drop_headers = Vec::new();
            policy.replay.keep_headers = vec![name.to_ascii_lowercase()];
        });
        world.order().send().answered(&response);
        assert_eq!(world.order().send().reply().headers.get(name), Some(b"1".as_slice()), "{name}");
    }
}

#[test]
fn what_is_not_replayed_is_not_stored_either() {
    let policy = Policy::default();
    let headers = Headers::from_iter([(":status", "200"), ("set-cookie", "session=1"), ("etag", "1")]);
    assert_eq!(replayable(&headers, &policy), Headers::from_iter([("etag", "1")]));
}

/// A response of this number of fields.
fn response_of(fields: usize) -> Response {
    (0..fields).fold(Response::new(200), |response, number| response.header(format!("x-{number}"), "1")).body("x")
}

#[test]
fn a_response_of_more_fields_than_the_host_sends_is_a_tombstone() {
    // Three more are put on a replay.
    for (fields, told) in [(1021, Status::Replayed), (1022, Status::NotKept), (1025, Status::NotKept)] {
        let world = World::new();
        let first = world.order().send().answered(&response_of(fields));
        assert_eq!(first.told(), Some(Status::Executed), "{fields}");
        assert_eq!(world.order().send().told(), Some(told), "{fields}");
    }
}
