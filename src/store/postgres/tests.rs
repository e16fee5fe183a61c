//! Connections to servers that are well, wrong or gone (`pool`), by what they say.

use super::{speech::*, *};
use crate::{
    store::{
        dialect::{Failure, Wire as _},
        inquiry::Progress,
        pool::{Answered, Streams},
    },
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const TIMEOUT: Duration = Duration::from_millis(500);

/// The host: what was sent on the streams that are open, from 1 on.
#[derive(Debug, Default)]
struct Host {
    opened: u32,
    open: Vec<u32>,
    sent: Vec<(u32, Vec<u8>)>,
}

impl Streams for Host {
    fn open_stream(&mut self) -> Option<u32> {
        self.opened += 1;
        self.open.push(self.opened);
        Some(self.opened)
    }

    fn send(&mut self, stream: u32, bytes: &[u8]) -> bool {
        self.sent.push((stream, bytes.to_vec()));
        self.open.contains(&stream)
    }

    fn close_stream(&mut self, stream: u32) {
        self.open.retain(|open| *open != stream);
    }
}

/// A pool on its host.
struct World {
    store: PostgresStore,
    pool: Pool,
    host: Host,
}

impl World {
    fn new() -> Self {
        let config = PostgresConfig::new("pg".to_owned(), "db".to_owned(), "app".to_owned());
        let store = PostgresStore::new(PostgresConfig { password: Some("secret".to_owned()), ..config });
        let pool = store.pool(7).unwrap();
        Self { store, pool, host: Host::default() }
    }

    fn ask(&mut self, bytes: &[u8]) -> u32 {
        self.pool.ask(&mut self.host, bytes, TIMEOUT, NOW)
    }

    fn hear(&mut self, stream: u32, bytes: &[u8]) {
        assert!(self.pool.on_received(&mut self.host, stream, bytes, NOW), "{stream} is none of its own");
    }

    fn answers(&mut self) -> Vec<(u32, Answered)> {
        std::iter::from_fn(|| self.pool.next_answer()).collect()
    }

    /// What was sent on a stream behind the startup message.
    fn said(&self, stream: u32) -> Vec<&[u8]> {
        self.host.sent.iter().filter(|(to, _)| *to == stream).skip(1).map(|(_, bytes)| bytes.as_slice()).collect()
    }
}

fn certain(error: PostgresError) -> Answered {
    Answered::Failed(Failure::certain(error))
}

fn done() -> Vec<u8> {
    reply(&[&[Some(&[1])]])
}

fn standby() -> Vec<u8> {
    [authentication(0, b""), parameter("in_hot_standby", "on")].concat()
}

#[test]
fn questions_wait_until_the_login_is_over_and_are_answered_in_their_order() {
    let mut world = World::new();
    let tickets = [world.ask(b"first"), world.ask(b"second")];
    world.hear(1, &authentication(3, b""));
    assert_eq!(world.said(1), [b"p\0\0\0\x0bsecret\0"]);
    let welcome = welcome();
    let (beginning, end) = welcome.split_at(welcome.len() - 1);
    world.hear(1, beginning);
    assert_eq!(world.said(1).len(), 1, "the server is not ready");
    // With a notice that nobody has asked for behind it.
    world.hear(1, &[end, &message(b'N', b"SNOTICE\0\0")].concat());
    assert_eq!(world.said(1)[1..], [b"first".as_slice(), b"second"]);
    let refused = refusal("57014");
    let replies = [message(b'N', b"SNOTICE\0\0"), done(), refused.clone()].concat();
    for byte in &replies {
        world.hear(1, &[*byte]);
    }
    let first = [message(b'N', b"SNOTICE\0\0"), done()].concat();
    let heard = world.answers();
    assert_eq!(heard.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets);
    let Answered::Reply(bytes) = &heard[0].1 else { panic!("{heard:?}") };
    assert!(bytes.ends_with(&first), "{bytes:?}");
    assert_eq!(heard[1].1, Answered::Reply(refused));
}

#[test]
fn a_standby_is_left_for_the_next_server_at_once() {
    let mut world = World::new();
    let ticket = world.ask(b"claim");
    world.hear(1, &standby());
    assert_eq!((world.answers(), world.host.open.as_slice()), (vec![], [2].as_slice()));
    world.hear(2, &welcome());
    assert_eq!((world.said(1).len(), world.said(2)), (0, vec![b"claim".as_slice()]));
    world.hear(2, &done());
    assert_eq!(world.answers(), [(ticket, Answered::Reply(done()))]);
}

#[test]
fn where_all_servers_are_standbys_nothing_was_asked_and_they_are_tried_more_rarely() {
    let mut world = World::new();
    let ticket = world.ask(b"claim");
    while let Some(stream) = world.host.open.first() {
        world.hear(*stream, &standby());
    }
    assert_eq!(world.host.opened, 5);
    assert_eq!(world.answers(), [], "it waits for the next");
    world.pool.on_tick(&mut world.host, NOW);
    assert_eq!(world.host.opened, 5, "which comes later");
    world.pool.on_tick(&mut world.host, NOW.after(TIMEOUT));
    assert_eq!(world.answers(), [(ticket, certain(PostgresError::ReadOnly))]);
}

#[test]
fn a_server_that_starts_is_waited_for() {
    let mut world = World::new();
    let ticket = world.ask(b"claim");
    for stream in 1..=5 {
        world.hear(stream, &error("FATAL", "57P03"));
    }
    let soon = NOW.after(TIMEOUT - Duration::from_millis(1));
    world.pool.on_tick(&mut world.host, soon);
    assert_eq!((world.answers(), world.host.open.as_slice()), (vec![], [6].as_slice()));
    world.hear(6, &welcome());
    world.hear(6, &done());
    assert_eq!(world.answers(), [(ticket, Answered::Reply(done()))]);
}

#[test]
fn who_is_not_let_in_has_asked_nothing() {
    let state = |code: &[u8; 5]| SqlState(*code);
    for (says, expected) in [
        (error("FATAL", "28P01"), PostgresError::Authentication(state(b"28P01"))),
        (error("FATAL", "53300"), PostgresError::TooManyConnections),
        (authentication(5, b"salt"), PostgresError::Method),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), PostgresError::Malformed),
    ] {
        let mut world = World::new();
        let ticket = world.ask(b"claim");
        world.hear(1, &says);
        assert_eq!(world.answers(), [(ticket, certain(expected))]);
        assert_eq!((world.said(1).len(), world.host.open.len()), (0, 0));
    }
    let mut world = World::new();
    let ticket = world.ask(b"claim");
    world.pool.on_closed(1, b"reset reason: remote connection failure", NOW);
    assert_eq!(world.answers(), [(ticket, certain(PostgresError::Unreachable))]);
}

#[test]
fn what_is_pending_when_a_backend_is_ended_is_in_doubt() {
    let mut world = World::new();
    let tickets = [world.ask(b"first"), world.ask(b"second")];
    world.hear(1, &welcome());
    world.hear(1, &error("FATAL", "57P01"));
    world.ask(b"third");
    assert_eq!(world.said(1), [b"first".as_slice(), b"second"], "it takes no more");
    assert!(world.pool.on_closed(1, b"via_upstream", NOW));
    let heard = world.answers();
    assert_eq!(heard.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets);
    let mut inquiry = world
        .store
        .inquire(
            &Call::Renew {
                operation: OperationId::from_bytes([1; 32]),
                owner: crate::record::Owner::new(1),
                lease: TIMEOUT,
                ttl: TIMEOUT,
            },
            NOW,
        )
        .unwrap();
    for (_, answered) in &heard {
        inquiry.ask(NOW);
        let failed = Answer::Renewed(crate::store::Renewed::Failed(PostgresError::Reset.into()));
        assert_eq!(inquiry.hear(answered.heard(), NOW), Progress::Answered(failed));
    }
}

#[test]
fn a_backend_that_is_ended_while_nothing_is_asked_leaves_nothing_in_doubt() {
    let mut world = World::new();
    world.ask(b"first");
    world.hear(1, &welcome());
    world.hear(1, &done());
    world.answers();
    world.hear(1, &error("FATAL", "57P05"));
    assert_eq!((world.answers(), world.host.open.len()), (vec![], 0));
    let ticket = world.ask(b"second");
    world.hear(2, &welcome());
    world.hear(2, &done());
    assert_eq!(world.answers(), [(ticket, Answered::Reply(done()))]);
}

#[test]
fn a_reply_can_be_as_long_as_a_record_and_no_longer_than_anything_is() {
    let dialect = PostgresDialect::new(PostgresConfig::new("pg".to_owned(), "db".to_owned(), "app".to_owned()));
    let record = vec![7; 17 << 20];
    let bytes = reply(&[&[Some(&record)]]);
    assert_eq!(dialect.reply_length(&bytes), Ok(bytes.len()));
    let endless = message(b'N', &vec![b'x'; 33 << 20]);
    assert!(dialect.reply_length(&endless[..1000]).is_err(), "its length alone says so");
}
