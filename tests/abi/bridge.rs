//! The role `redis_bridge`, between the filter's calls and `redis_proxy`.

use crate::{
    fields::Fields,
    host::{Host, Settings},
    messages::{Outcome, Request, Response},
    stream::Stream,
    worker::Worker,
};

const ROLE: &str = r#"{"role": "redis_bridge"}"#;
const TWO_COMMANDS: &[u8] = b"*2\r\n$4\r\nAUTH\r\n$1\r\nk\r\n*1\r\n$4\r\nINFO\r\n";

#[test]
fn the_end_of_a_request_is_held_until_each_command_has_its_reply() {
    let stream = asked(&Host::new().worker(ROLE));
    let upstream = stream.upstream().unwrap();
    assert_eq!((upstream.body.as_slice(), upstream.complete), (TWO_COMMANDS, false));
    assert_eq!(stream.response_headers(&Response::new(200), false), Outcome::Paused);
    for piece in ["$5\r\nva", "lue\r\n+PON", "G\r"] {
        assert_eq!(stream.response_body(piece, false), Outcome::Paused);
        assert_eq!(stream.answer(), None);
    }
    assert!(stream.response_body("\n", false).is_replied());
    assert!(!stream.upstream().unwrap().complete);
    let answer = stream.finish();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"$5\r\nvalue\r\n+PONG\r\n"[..]));
}

#[test]
fn a_request_passes_in_pieces() {
    let stream = within(&Host::new().worker(ROLE));
    stream.request_headers(post(), false);
    for piece in TWO_COMMANDS.chunks(3) {
        assert_eq!(stream.request_body(piece, false), Outcome::Continued);
    }
    assert_eq!(stream.request_body("", true), Outcome::Paused);
    assert_eq!(stream.upstream().unwrap().body, TWO_COMMANDS);
    stream.response_headers(&Response::new(200), false);
    assert!(stream.response_body("$-1\r\n+PONG\r\n", false).is_replied());
    stream.finish();
}

#[test]
fn a_reply_that_is_faster_than_the_end_of_its_request_waits_for_it() {
    let stream = within(&Host::new().worker(ROLE));
    stream.request_headers(post(), false);
    stream.request_body(TWO_COMMANDS, false);
    stream.response_headers(&Response::new(200), false);
    assert_eq!(stream.response_body("$-1\r\n+PONG\r\n", false), Outcome::Paused);
    assert!(stream.request_body("", true).is_replied());
    let answer = stream.finish();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"$-1\r\n+PONG\r\n"[..]));
}

#[test]
fn a_request_of_anything_but_commands_reaches_nobody() {
    let worker = Host::new().worker(ROLE);
    for body in ["PING\r\n", "{\"a\": 1}", "*1\r\n:1\r\n"] {
        let stream = within(&worker);
        stream.request_headers(post(), false);
        assert!(stream.request_body(body, false).is_replied(), "{body}");
        assert_eq!(stream.upstream().unwrap().body, b"", "{body}");
        assert_refused(stream, 400, "array of bulk strings");
    }
    let stream = within(&worker);
    assert!(stream.request_headers(post(), true).is_replied());
    assert_refused(stream, 400, "array of bulk strings");
}

#[test]
fn commands_that_are_not_the_filters_reach_nobody() {
    let worker = Host::new().worker(ROLE);
    for body in ["*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", "*2\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n"] {
        let stream = within(&worker);
        stream.request_headers(post(), false);
        assert!(stream.request_body(body, false).is_replied(), "{body}");
        assert_eq!(stream.upstream().unwrap().body, b"", "{body}");
        assert_refused(stream, 403, "its own prefix");
    }
}

#[test]
fn nothing_is_taken_from_a_socket_which_is_logged_once() {
    let host = Host::new();
    let worker = host.worker(ROLE);
    for address in
        [None, Some("127.0.0.1:6380"), Some("[::1]:6380"), Some("/run/bridge.sock"), Some("@bridge"), Some("envoy")]
    {
        let stream = match address {
            Some(address) => coming_to(&worker, address),
            None => worker.stream(),
        };
        assert!(stream.request_headers(post(), false).is_replied(), "{address:?}");
        assert!(stream.upstream().is_none(), "{address:?}");
        assert_refused(stream, 403, "nothing from a socket");
    }
    assert_eq!(host.log().iter().filter(|line| line.message.contains("nothing from a socket")).count(), 1);
}

#[test]
fn an_end_that_cannot_be_held_back_is_refused() {
    let stream = within(&Host::new().worker(ROLE));
    stream.request_headers(post(), false);
    assert!(stream.request_body(TWO_COMMANDS, true).is_replied());
    assert_refused(stream, 400, "HTTP/1.1");
}

#[test]
fn trailers_end_a_request_too() {
    let stream = within(&Host::new().worker(ROLE));
    stream.request_headers(post(), false);
    stream.request_body(TWO_COMMANDS, false);
    assert_eq!(stream.request_trailers([("grpc-status", "0")]), Outcome::Paused);
    stream.response_headers(&Response::new(200), false);
    assert!(stream.response_body(":1\r\n:2\r\n", false).is_replied());
    stream.finish();
}

#[test]
fn what_envoy_answers_by_itself_passes() {
    let stream = asked(&Host::new().worker(ROLE));
    let text = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    stream.respond(&Response::envoy(503, "upstream_reset_before_response_started").body(text));
    let answer = stream.finish();
    assert_eq!((answer.status, answer.body.as_slice()), (503, text.as_bytes()));
}

#[test]
fn what_came_before_redis_hung_up_is_handed_over() {
    let worker = Host::new().worker(ROLE);
    for pieces in [&["$5\r\nvalue\r\n+PO"][..], &["$5\r\nval", "ue"], &[]] {
        let stream = asked(&worker);
        stream.response_headers(&Response::new(200), false);
        for piece in pieces {
            stream.response_body(piece, false);
        }
        assert!(stream.response_body("", true).is_replied());
        let answer = stream.finish();
        assert_eq!((answer.status, answer.body), (200, pieces.concat().into_bytes()));
    }
    let stream = asked(&worker);
    stream.response_headers(&Response::new(200), true);
    let answer = stream.finish();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn a_reply_and_the_end_of_it_in_one_piece_are_a_whole_reply() {
    let stream = asked(&Host::new().worker(ROLE));
    stream.response_headers(&Response::new(200), false);
    assert!(stream.response_body(":1\r\n:2\r\n", true).is_replied());
    assert_eq!(stream.finish().body, b":1\r\n:2\r\n");
}

#[test]
fn answers_that_are_none_are_refused() {
    let worker = Host::new().worker(ROLE);
    for (reply, words) in [("HTTP/1.1 400 Bad Request\r\n", "not RESP"), (":1\r\n:2\r\n:3\r\n", "more replies")] {
        let stream = asked(&worker);
        stream.response_headers(&Response::new(200), false);
        assert!(stream.response_body(reply, false).is_replied());
        assert_refused(stream, 502, words);
    }
}

#[test]
fn a_reply_may_be_larger_than_envoys_buffer() {
    let host = Host::with(Settings { buffer_limit: 1_000, ..Settings::idemgate() });
    let stream = asked(&host.worker(ROLE));
    stream.response_headers(&Response::new(200), false);
    let reply = format!("$100000\r\n{}\r\n:1\r\n", "x".repeat(100_000)).into_bytes();
    let (whole, last) = reply.split_at(reply.len() - 4);
    for piece in whole.chunks(900) {
        assert_eq!(stream.response_body(piece, false), Outcome::Paused);
    }
    assert!(stream.response_body(last, false).is_replied());
    assert_eq!(stream.finish().body, reply);
}

#[test]
fn a_caller_that_goes_away_leaves_nothing_behind() {
    let host = Host::new();
    let worker = host.worker(ROLE);
    let mut stream = asked(&worker);
    stream.disconnect();
    let mut stream = asked(&worker);
    stream.response_headers(&Response::new(200), false);
    stream.response_body("$5\r\nva", false);
    stream.disconnect();
    assert_eq!(errors(&host), 0);
}

#[test]
fn a_host_that_withholds_the_replies_is_reported_once() {
    let host = Host::with(Settings { body_while_headers_held: false, ..Settings::idemgate() });
    let worker = host.worker(ROLE);
    for _ in 0..3 {
        let mut stream = asked(&worker);
        stream.response_headers(&Response::new(200), false);
        assert_eq!(stream.response_body("$-1\r\n+PONG\r\n", false), Outcome::Withheld);
        stream.disconnect();
    }
    assert_eq!(errors(&host), 1);
    let line = host.log().into_iter().find(|line| line.level >= 4).unwrap();
    assert!(line.message.contains("allow_on_headers_stop_iteration: true"), "{line:?}");
}

#[test]
fn a_bridge_that_is_told_what_only_the_filter_knows_is_refused() {
    let refused = Host::new().try_worker(r#"{"role": "redis_bridge", "ttl": "1h"}"#).unwrap_err();
    let said = refused.log.iter().any(|line| line.message.contains("ttl: found a setting of the filter"));
    assert!(said, "{:?}", refused.log);
}

/// Two commands were sent, and the end of them.
fn asked(worker: &Worker) -> Stream {
    let stream = within(worker);
    assert_eq!(stream.request_headers(post(), false), Outcome::Continued);
    assert_eq!(stream.request_body(TWO_COMMANDS, false), Outcome::Continued);
    assert_eq!(stream.request_body("", true), Outcome::Paused);
    stream
}

/// A call as it comes by an internal listener.
fn within(worker: &Worker) -> Stream {
    coming_to(worker, "envoy://redis_bridge/")
}

fn coming_to(worker: &Worker, address: &str) -> Stream {
    let mut stream = worker.stream();
    stream.set_property(&["destination", "address"], address);
    stream
}

fn post() -> Fields {
    Request::new("POST", "/").headers
}

#[track_caller]
fn assert_refused(stream: Stream, status: u16, words: &str) {
    let answer = stream.finish();
    let text = String::from_utf8(answer.body).unwrap();
    assert!(answer.status == status && text.contains(words), "{} {text}", answer.status);
}

/// How many errors were logged.
fn errors(host: &Host) -> usize {
    host.log().iter().filter(|line| line.level >= 4).count()
}
