//! What is made of what a server says, whether PostgreSQL, a pooler or nobody sensible says it.

use std::{sync::LazyLock, time::Duration};

use idemgate::{
    config::PostgresConfig,
    record::{Amendment, Verb},
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, Settlement,
        dialect::Heard,
        inquiry::Progress,
        pool::{Answered, Streams},
        postgres::PostgresStore,
        remote::RemoteStore as _,
    },
};

use super::{
    Seed,
    calls::{FINGERPRINT, NOW, OWNER, claim, operation, renew, response, settle},
    input::Input,
    sealed::{sealed_record, unsealed},
};

const TIMEOUT: Duration = Duration::from_millis(500);

/// A byte that says what the rest is: all that comes over a connection, a reply, or a record without its checksum that a
/// claim finds.
///
/// Nobody is let through unless a row says so; nothing is replayed that was not stored for this very operation; each
/// attempt has an end; and each question over a connection has one answer at most, and has one in time.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => check_connection(&mut input),
        1 => check_reply(input.rest()),
        _ => {
            let (state, rest) = (input.byte(), input.rest());
            check_reply(&found(state, &sealed_record(rest)));
        }
    }
}

pub fn seeds() -> Vec<Seed> {
    let kept = response();
    let body = kept.encode(&operation(), OWNER).expect("a response");
    let completed = record(&settle(Ending::Completed(kept)));
    let (seal, response) = completed.split_at(completed.len() - body.len());
    let sealed = |state: u8, seal: &[u8], response: &[u8]| [&[2, state], unsealed(seal), b"|", response].concat();
    let login = [message(b'R', &[0; 4]), message(b'S', b"in_hot_standby\0off\0"), message(b'Z', b"I")].concat();
    let session = [&[0, 200], login.as_slice(), &granted()].concat();
    let standby = [message(b'R', &[0; 4]), message(b'S', b"in_hot_standby\0on\0")].concat();
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    vec![
        ("claimed", sealed(b'i', &record(&claim()), b"")),
        ("completed", sealed(b'c', seal, response)),
        ("granted", [&[1], granted().as_slice()].concat()),
        ("refused", [&[1], error("ERROR").as_slice(), &message(b'Z', b"I")].concat()),
        ("sasl", [&[0, 9], sasl.as_slice()].concat()),
        ("session", session),
        ("standby", [&[0, 60], standby.as_slice()].concat()),
        ("terminated", [&[0, 200], login.as_slice(), &error("FATAL")].concat()),
        ("unknown", sealed(b'u', &record(&settle(Ending::Unknown)), b"")),
    ]
}

/// What comes in pieces: a byte that says how long the next one is, and the piece.
fn check_connection(input: &mut Input<'_>) {
    let (mut pool, mut host) = (STORE.pool(7).expect("connections"), Host::default());
    let mut tickets: Vec<u32> = (0..3).map(|_| pool.ask(&mut host, b"question", TIMEOUT, NOW)).collect();
    let mut answer = |pool: &mut idemgate::store::pool::Pool| {
        while let Some((ticket, answered)) = pool.next_answer() {
            let before = tickets.len();
            tickets.retain(|open| *open != ticket);
            assert_eq!(tickets.len() + 1, before, "it has had its answer");
            if let Answered::Reply(body) = answered {
                assert!(!body.is_empty());
            }
        }
        tickets.is_empty()
    };
    while !input.is_empty() {
        let length = usize::from(input.byte());
        let piece = input.take(length);
        if let Some(stream) = host.open.first().copied() {
            pool.on_received(&mut host, stream, piece, NOW);
        }
        answer(&mut pool);
        assert!(host.open.len() <= 4, "more than may be");
    }
    pool.on_tick(&mut host, NOW.after(TIMEOUT));
    assert!(answer(&mut pool), "a question without an end");
}

fn check_reply(body: &[u8]) {
    let heard = Heard::Reply { status: 200, body, ahead: None };
    let has = |part: &[u8]| body.windows(part.len()).any(|found| found == part);
    for call in [claim(), renew(), settle(Ending::Completed(response()))] {
        let mut inquiry = STORE.inquire(&call, NOW).expect("a call that can be made");
        for attempt in 0.. {
            assert!(attempt < 100, "it never ends");
            inquiry.ask(NOW.after(Duration::from_millis(attempt * 1000)));
            let Progress::Answered(answer) = inquiry.hear(heard, NOW.after(Duration::from_millis(attempt * 1000 + 1)))
            else {
                continue;
            };
            match answer {
                Answer::Claimed(Claimed::Granted) => assert!(has(b"\0\x07\0\0\0\x01\x01")),
                Answer::Claimed(Claimed::Completed { response, .. }) => {
                    assert!(has(&response.encode(&operation(), OWNER).expect("a response")), "it was not kept");
                }
                Answer::Renewed(Renewed::Extended)
                | Answer::Settled(Settlement { settled: Settled::Completed, .. }) => {
                    assert!(has(b"\0\x01\0\0\0\x01\x01"));
                }
                Answer::Renewed(Renewed::Fenced) | Answer::Settled(Settlement { settled: Settled::Fenced, .. }) => {
                    assert!(has(b"\0\x01\0\0\0\x01\0"));
                }
                _ => {}
            }
            break;
        }
    }
    check_operators(heard);
}

fn check_operators(heard: Heard<'_>) {
    for finding in STORE.findings(heard) {
        assert!(!finding.to_string().is_empty());
    }
    let _ = STORE.holdings(heard);
    let _ = STORE.lists().expect("a list").listed(heard);
    let _ = STORE.sweeps().expect("a sweep").is_more_left(heard);
    for amendment in [None, Some(Amendment { verb: Verb::NotKept { status: 201 }, force: true })] {
        let mut review = STORE.review(operation(), amendment);
        let ends = (0..10).any(|_| {
            review.ask(NOW);
            review.hear(heard, NOW).is_some()
        });
        assert!(ends, "it never ends");
    }
}

static STORE: LazyLock<PostgresStore> = LazyLock::new(|| {
    let config = PostgresConfig::new("pg".to_owned(), "db".to_owned(), "app".to_owned());
    PostgresStore::new(PostgresConfig { password: Some("secret".to_owned()), ..config })
});

/// The streams that are open.
#[derive(Default)]
struct Host {
    opened: u32,
    open: Vec<u32>,
}

impl Streams for Host {
    fn open_stream(&mut self) -> Option<u32> {
        self.opened += 1;
        self.open.push(self.opened);
        Some(self.opened)
    }

    fn send(&mut self, stream: u32, _: &[u8]) -> bool {
        self.open.contains(&stream)
    }

    fn close_stream(&mut self, stream: u32) {
        self.open.retain(|open| *open != stream);
    }
}

/// What a call stores for nobody but this filter: the last value of its statement, behind which three messages end.
fn record(call: &Call) -> Vec<u8> {
    const BEHIND: usize = 4 + 10 + 5;
    let mut inquiry = STORE.inquire(call, NOW).expect("a call that can be made");
    let (question, _) = inquiry.ask(NOW);
    let bind = &question[..question.len() - BEHIND];
    let length = (0..bind.len()).find(|length| {
        let start = bind.len() - length;
        start >= 4 && bind[start - 4..start] == (*length as u32).to_be_bytes()
    });
    bind[bind.len() - length.expect("a value")..].to_vec()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], length.as_slice(), body].concat()
}

fn error(severity: &str) -> Vec<u8> {
    message(b'E', format!("V{severity}\0C57014\0Mno\0\0").as_bytes())
}

fn reply(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        row.extend_from_slice(&value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        row.extend_from_slice(value.unwrap_or_default());
    }
    let parts = [(b'1', b"".as_slice()), (b'2', b""), (b'D', &row), (b'C', b"SELECT 1\0"), (b'Z', b"I")];
    parts.iter().flat_map(|(kind, body)| message(*kind, body)).collect()
}

fn granted() -> Vec<u8> {
    reply(&[Some(&[1]), None, None, None, None, None, None])
}

/// The reply to a claim that finds this record.
fn found(state: u8, record: &[u8]) -> Vec<u8> {
    reply(&[
        Some(&[0]),
        Some(&[state]),
        Some(&OWNER.to_bytes()),
        Some(FINGERPRINT.as_bytes()),
        Some(&29_999_i64.to_be_bytes()),
        Some(&60_000_i64.to_be_bytes()),
        Some(record),
    ])
}
