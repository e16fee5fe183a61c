//! Which connection is asked, what is heard of it, and what its end means.

use super::*;
use crate::{
    config::RedisConfig,
    store::{
        redis::{RedisError, RedisStore},
        remote::RemoteStore as _,
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const TIMEOUT: Duration = Duration::from_millis(500);
const PONG: &[u8] = b"+PONG\r\n";
const REFUSED: &[u8] =
    b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";

/// The host: what was sent on the streams that are open.
#[derive(Debug, Default)]
struct Host {
    opened: u32,
    open: Vec<u32>,
    sent: Vec<(u32, Vec<u8>)>,
    has_no_cluster: bool,
}

impl Streams for Host {
    fn open_stream(&mut self) -> Option<u32> {
        if self.has_no_cluster {
            return None;
        }
        self.opened += 1;
        self.open.push(self.opened);
        Some(self.opened)
    }

    fn send(&mut self, stream: u32, bytes: &[u8]) -> bool {
        let is_open = self.open.contains(&stream);
        if is_open {
            self.sent.push((stream, bytes.to_vec()));
        }
        is_open
    }

    fn close_stream(&mut self, stream: u32) {
        self.open.retain(|open| *open != stream);
    }
}

/// A pool on its host.
struct World {
    pool: Pool,
    host: Host,
}

impl World {
    fn new(config: RedisConfig) -> Self {
        let config = RedisConfig { timeout: TIMEOUT, ..config };
        Self { pool: RedisStore::new(config).pool(7).expect("connections"), host: Host::default() }
    }

    /// With this many connections that are ready, and a question pending on each.
    fn asked(connections: u32) -> (Self, Vec<u32>) {
        let mut world = Self::new(config(connections));
        let tickets = (1..=connections)
            .map(|stream| {
                let ticket = world.ask(b"question");
                world.hear(stream, PONG);
                ticket
            })
            .collect();
        // Those behind the first were sent on it before there was another; it answers them all.
        (world, tickets)
    }

    fn ask(&mut self, bytes: &[u8]) -> u32 {
        self.pool.ask(&mut self.host, bytes, TIMEOUT, NOW)
    }

    fn hear(&mut self, stream: u32, bytes: &[u8]) {
        assert!(self.pool.on_received(&mut self.host, stream, bytes, NOW));
    }

    fn tick(&mut self, now: Timestamp) {
        self.pool.on_tick(&mut self.host, now);
    }

    fn answers(&mut self) -> Vec<(u32, Answered)> {
        std::iter::from_fn(|| self.pool.next_answer()).collect()
    }

    /// What was sent on a stream behind the greeting.
    fn sent(&self, stream: u32) -> Vec<&[u8]> {
        self.host.sent.iter().filter(|(to, _)| *to == stream).skip(1).map(|(_, bytes)| bytes.as_slice()).collect()
    }
}

fn config(connections: u32) -> RedisConfig {
    RedisConfig { connections, ..RedisConfig::new("redis".to_owned()) }
}

fn reply(bytes: &[u8]) -> Answered {
    Answered::Reply(bytes.to_vec())
}

fn failed(error: RedisError, is_doubtful: bool) -> Answered {
    Answered::Failed(Failure { error: error.into(), is_doubtful })
}

#[test]
fn nothing_is_opened_until_something_is_asked_and_nothing_sent_until_the_server_is_there() {
    let mut world = World::new(config(2));
    world.tick(NOW);
    assert_eq!(world.host.opened, 0);
    let tickets = [world.ask(b"first"), world.ask(b"second")];
    assert_eq!(world.host.sent, [(1, b"*1\r\n$4\r\nPING\r\n".to_vec())], "one connection at a time");
    world.hear(1, b"+PO");
    assert_eq!(world.sent(1), [b""; 0]);
    world.hear(1, b"NG\r\n");
    assert_eq!(world.sent(1), [b"first".as_slice(), b"second"]);
    world.hear(1, b":1\r\n:0");
    assert_eq!(world.answers(), [(tickets[0], reply(b":1\r\n"))]);
    world.hear(1, b"\r\n");
    assert_eq!(world.answers(), [(tickets[1], reply(b":0\r\n"))]);
}

#[test]
fn answers_come_in_the_order_of_the_questions_however_they_are_cut() {
    let replies: [&[u8]; 3] = [b":1\r\n", b"*3\r\n:5\r\n:9\r\n$6\r\n\r\n:1\r\n\r\n", b"-ERR no\r\n"];
    let bytes = replies.concat();
    for size in 1..=bytes.len() {
        let mut world = World::new(config(1));
        let tickets = [world.ask(b"a"), world.ask(b"b"), world.ask(b"c")];
        world.hear(1, PONG);
        bytes.chunks(size).for_each(|piece| world.hear(1, piece));
        let expected: Vec<_> = tickets.into_iter().zip(replies.map(reply)).collect();
        assert_eq!(world.answers(), expected, "in pieces of {size}");
    }
}

#[test]
fn one_more_connection_is_opened_when_all_are_busy_and_the_least_busy_one_is_asked() {
    let mut world = World::new(config(2));
    world.ask(b"a");
    world.hear(1, PONG);
    assert_eq!(world.host.opened, 1);
    world.hear(1, b":1\r\n");
    world.ask(b"b");
    assert_eq!(world.host.opened, 1, "it is free");
    world.ask(b"c");
    assert_eq!((world.host.opened, world.sent(1).len()), (2, 3), "it does not wait for the new one");
    world.hear(2, PONG);
    world.ask(b"d");
    world.ask(b"e");
    assert_eq!(world.sent(2), [b"d".as_slice(), b"e"]);
    world.ask(b"f");
    assert_eq!(world.host.opened, 2, "no more than the limit");
}

#[test]
fn a_question_may_be_asked_from_anywhere_if_no_connection_is_opened_for_it() {
    let mut world = World::new(config(2));
    assert!(!world.pool.is_ready(NOW), "there is none");
    world.ask(b"a");
    assert!(!world.pool.is_ready(NOW), "the server is not there yet");
    world.hear(1, PONG);
    assert!(!world.pool.is_ready(NOW), "all are busy, and there may be another");
    world.hear(1, b":1\r\n");
    assert!(world.pool.is_ready(NOW));
    let opened = world.host.opened;
    world.ask(b"b");
    assert_eq!(world.host.opened, opened);
    world.ask(b"c");
    assert!(world.pool.is_ready(NOW), "another is being opened");
    world.hear(2, PONG);
    world.ask(b"d");
    assert!(world.pool.is_ready(NOW), "there may be no more");
    world.ask(b"e");
    assert_eq!((world.host.opened, world.host.sent.len()), (2, 2 + 5));
}

#[test]
fn what_is_pending_on_a_connection_that_ends_is_in_doubt_and_nothing_else_is() {
    let (mut world, tickets) = World::asked(2);
    let [first, second] = tickets[..] else { panic!("{tickets:?}") };
    let third = world.ask(b"on the second connection");
    assert_eq!((world.sent(1).len(), world.sent(2).len()), (2, 1));
    assert!(world.pool.on_closed(1, b"via_upstream", NOW));
    let lost = failed(RedisError::Reset, true);
    assert_eq!(world.answers(), [(first, lost.clone()), (second, lost)]);
    world.hear(2, b":1\r\n");
    assert_eq!(world.answers(), [(third, reply(b":1\r\n"))]);
    assert!(!world.pool.on_closed(1, b"", NOW), "it is none of these any more");
}

#[test]
fn who_waits_for_a_connection_that_does_not_come_about_was_not_asked() {
    for (text, error) in [
        (REFUSED, RedisError::Unreachable),
        (b"no healthy upstream".as_slice(), RedisError::Unreachable),
        (b"overflow", RedisError::Rejected),
        (b"", RedisError::Reset),
    ] {
        let mut world = World::new(config(2));
        let tickets = [world.ask(b"a"), world.ask(b"b")];
        world.pool.on_closed(1, text, NOW);
        assert_eq!(world.answers(), tickets.map(|ticket| (ticket, failed(error, false))));
    }
    let mut world = World::new(config(2));
    world.host.has_no_cluster = true;
    let ticket = world.ask(b"a");
    assert_eq!(world.answers(), [(ticket, failed(RedisError::Rejected, false))]);
}

#[test]
fn a_server_that_does_not_let_in_is_not_asked() {
    for (says, error) in [
        (b"-WRONGPASS invalid username-password pair\r\n+OK\r\n".as_slice(), RedisError::Authentication),
        (b"-ERR AUTH <password> called without any password configured\r\n", RedisError::Authentication),
        (b"+OK\r\n-ERR DB index is out of range\r\n", RedisError::Authentication),
        (b"+OK\r\n+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", RedisError::Loading),
        (b":1\r\n", RedisError::Malformed),
        (b"HTTP/1.1 400 Bad Request\r\n", RedisError::Malformed),
    ] {
        let config = RedisConfig { password: Some("secret".to_owned()), database: 99, ..config(1) };
        let mut world = World::new(config);
        let ticket = world.ask(b"a");
        world.hear(1, says);
        assert_eq!(world.answers(), [(ticket, failed(error, false))]);
        assert_eq!((world.sent(1).len(), world.host.open.len()), (0, 0));
    }
}

#[test]
fn attempts_at_a_connection_become_rarer_and_who_asks_meanwhile_waits_for_the_next() {
    let mut world = World::new(config(2));
    let (mut now, mut rests) = (NOW, Vec::new());
    for _ in 0..12 {
        let begun = now;
        let ticket = world.pool.ask(&mut world.host, b"a", Duration::from_secs(5), now);
        while world.host.open.is_empty() {
            assert_eq!(world.answers(), []);
            now = now.after(Duration::from_millis(1));
            world.pool.on_tick(&mut world.host, now);
        }
        rests.push(now.since(begun).as_millis());
        let stream = world.host.open.remove(0);
        world.pool.on_closed(stream, REFUSED, now);
        assert_eq!(world.answers(), [(ticket, failed(RedisError::Unreachable, false))]);
    }
    for (place, rest) in rests.iter().enumerate() {
        let longest = if place == 0 { 0 } else { (50 << (place - 1)).min(1000) };
        assert!((longest / 2..=longest).contains(rest), "{rests:?}");
    }
    // A question that may not wait that long is not asked.
    let ticket = world.pool.ask(&mut world.host, b"a", Duration::from_millis(20), now);
    world.tick(now.after(Duration::from_millis(20)));
    assert_eq!(world.answers(), [(ticket, failed(RedisError::Unreachable, false))]);
}

#[test]
fn a_connection_whose_question_has_no_answer_in_time_is_given_up_with_all_behind_it() {
    let (mut world, tickets) = World::asked(1);
    let later = NOW.after(TIMEOUT / 2);
    let behind = world.pool.ask(&mut world.host, b"behind", TIMEOUT, later);
    world.tick(NOW.after(TIMEOUT).after(Duration::ZERO));
    assert_eq!(
        world.answers(),
        [(tickets[0], failed(RedisError::TimedOut, true)), (behind, failed(RedisError::Reset, true))]
    );
    assert_eq!(world.host.open, [0; 0]);
    // A second attempt is made on another connection, and gets no answer of the old one.
    let again = world.ask(b"again");
    assert!(!world.pool.on_received(&mut world.host, 1, b":1\r\n:1\r\n", NOW));
    world.hear(2, PONG);
    world.hear(2, b":0\r\n");
    assert_eq!(world.answers(), [(again, reply(b":0\r\n"))]);
}

#[test]
fn a_server_that_takes_the_connection_and_says_nothing_was_not_asked() {
    let mut world = World::new(config(1));
    let ticket = world.ask(b"a");
    world.tick(NOW.after(TIMEOUT));
    assert_eq!(world.answers(), [(ticket, failed(RedisError::TimedOut, false))]);
    assert_eq!(world.host.open, [0; 0]);
}

#[test]
fn bytes_that_nobody_asked_for_end_a_connection_and_leave_what_is_pending_in_doubt() {
    let (mut world, tickets) = World::asked(1);
    world.hear(1, b":1\r\n:1\r\n");
    assert_eq!(world.answers(), [(tickets[0], reply(b":1\r\n"))]);
    assert_eq!(world.host.open, [0; 0]);

    let (mut world, tickets) = World::asked(1);
    world.hear(1, b"no RESP\r\n");
    assert_eq!(world.answers(), [(tickets[0], failed(RedisError::Reset, true))]);
}

#[test]
fn a_replica_answers_what_it_was_asked_and_is_asked_nothing_more() {
    let (mut world, tickets) = World::asked(1);
    let second = world.ask(b"b");
    let readonly = b"-READONLY You can't write against a read only replica.\r\n";
    world.hear(1, readonly);
    let third = world.ask(b"c");
    assert_eq!(world.sent(1).len(), 2, "the third is not for it");
    world.hear(1, readonly);
    assert_eq!(world.answers(), [(tickets[0], reply(readonly)), (second, reply(readonly))]);
    assert_eq!(world.host.open, [0; 0]);
    world.tick(NOW);
    world.hear(2, PONG);
    world.hear(2, b":1\r\n");
    assert_eq!(world.answers(), [(third, reply(b":1\r\n"))]);
}

#[test]
fn a_connection_that_nobody_uses_is_closed_and_opened_again_when_it_is_needed() {
    let (mut world, _) = World::asked(1);
    world.hear(1, b":1\r\n");
    world.answers();
    world.tick(NOW.after(IDLE - Duration::from_millis(1)));
    assert_eq!(world.host.open, [1]);
    world.tick(NOW.after(IDLE));
    assert_eq!(world.host.open, [0; 0]);
    world.ask(b"b");
    world.hear(2, PONG);
    assert_eq!(world.sent(2), [b"b"]);
    world.hear(2, b":1\r\n");
    world.pool.close(&mut world.host);
    assert_eq!(world.host.open, [0; 0]);
}

#[test]
fn a_stream_that_has_ended_before_its_end_is_told_takes_no_question() {
    let (mut world, tickets) = World::asked(1);
    world.hear(1, b":1\r\n");
    assert_eq!(world.answers(), [(tickets[0], reply(b":1\r\n"))]);
    world.host.open.clear();
    let ticket = world.ask(b"b");
    world.pool.on_closed(1, b"", NOW);
    world.tick(NOW);
    world.hear(2, PONG);
    world.hear(2, b":1\r\n");
    assert_eq!(world.answers(), [(ticket, reply(b":1\r\n"))]);
}

#[test]
fn no_password_is_in_what_is_shown() {
    let config = RedisConfig { password: Some("s3cret".to_owned()), ..config(1) };
    let mut world = World::new(config);
    world.ask(b"a");
    let shown = format!("{:?}", world.pool);
    let bytes = format!("{:?}", b"s3cret");
    assert!(!shown.contains("s3cret") && !shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}
