//! The scripts of the Redis store on a real `redis-server`, call by call, against the rules of a record.
//!
//! A call is carried as Envoy's raw transport carries it: one connection, the bytes, the end of what is
//! sent, and all that comes back.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: an assumption that does not hold must fail the test"
)]

#[path = "proof/mod.rs"]
mod proof;
#[path = "rules/mod.rs"]
mod rules;

use std::{
    env,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use idemgate::{
    config::{IntegrityConfig, RedisConfig},
    record::{Amended, Amendment, Claim, Conflict, Owner, Standing, Verb, View},
    request::Fingerprint,
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError,
        dialect::Heard,
        inquiry::Progress,
        redis::{
            RedisError, RedisStore,
            resp::{Value, decode_all, push_command},
        },
        remote::RemoteStore as _,
        review::{Review, Reviewed},
    },
};
use proptest::prelude::*;

use proof::redis::{Command as ModelCommand, Omissions, Redis as ModelOfRedis};
use rules::{
    IN_FLIGHT, LEASE, Rules, Step, TTL, UNKNOWN, VERBS, call_of, claim, completed, fingerprint, is_about, operation,
    renews, response, settles, steps, timeless_standing, without_times, wrong_clock,
};

const PREFIX: &str = "idemgate:";

/// A `redis-server` of its own, killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);

        let binary = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let first = 32_000 - u16::try_from(std::process::id() % 9_000).unwrap();
        loop {
            let port = first - NEXT.fetch_add(1, Ordering::Relaxed);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if TcpListener::bind(address).is_err() {
                continue;
            }
            let mut child = Command::new(&binary)
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {binary}: {error}; name one in REDIS_SERVER"));
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                // Somebody else may have taken the port in between.
                let own = format!("process_id:{}\r\n", child.id());
                let info = send(address, b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n").unwrap_or_default();
                if String::from_utf8_lossy(&info).contains(&own) {
                    return Self { child, address };
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                assert!(Instant::now() < deadline, "{binary} does not answer");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// A command of the test's own, in database 0 and without a login.
    fn command(&self, parts: &[&[u8]]) -> Value {
        self.commands(&[parts]).pop().unwrap()
    }

    fn commands(&self, commands: &[&[&[u8]]]) -> Vec<Value> {
        let mut bytes = Vec::new();
        for parts in commands {
            push_command(&mut bytes, parts);
        }
        decode_all(&send(self.address, &bytes).unwrap(), commands.len()).unwrap()
    }

    fn value(&self, number: u8) -> Option<Vec<u8>> {
        match self.command(&[b"GET", key(number).as_bytes()]) {
            Value::Bulk(value) => value,
            other => panic!("{other:?}"),
        }
    }

    fn overwrite(&self, number: u8, value: &[u8]) {
        let set = self.command(&[b"SET", key(number).as_bytes(), value, b"PX", b"600000"]);
        assert_eq!(set, Value::Simple(b"OK".to_vec()));
    }

    fn lives(&self, number: u8) -> Duration {
        match self.command(&[b"PTTL", key(number).as_bytes()]) {
            Value::Integer(left) => Duration::from_millis(u64::try_from(left).expect("an expiry")),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    connection.write_all(bytes)?;
    connection.shutdown(Shutdown::Write)?;
    let mut reply = Vec::new();
    connection.read_to_end(&mut reply)?;
    Ok(reply)
}

fn config() -> RedisConfig {
    RedisConfig { connections: 0, ..RedisConfig::new("redis".to_owned()) }
}

fn store() -> RedisStore {
    RedisStore::new(config())
}

/// What the only attempt leads to.
fn attempt(server: &Server, store: &RedisStore, call: &Call) -> Progress {
    let mut inquiry = store.inquire(call, wrong_clock()).expect("a call that can be made");
    let (bytes, _) = inquiry.ask(wrong_clock());
    let reply = send(server.address, bytes).unwrap();
    inquiry.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock())
}

fn ask(server: &Server, call: &Call) -> Answer {
    match attempt(server, &store(), call) {
        Progress::Answered(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn key(number: u8) -> String {
    PREFIX.to_owned() + &format!("{number:02x}").repeat(32)
}

fn run(server: &Server, claim: Claim) -> Claimed {
    match ask(server, &Call::Claim(claim)) {
        Answer::Claimed(claimed) => claimed,
        other => panic!("{other:?}"),
    }
}

fn renew(server: &Server, number: u8, owner: u128) -> Renewed {
    match ask(server, &renews(number, owner, LEASE)) {
        Answer::Renewed(renewed) => renewed,
        other => panic!("{other:?}"),
    }
}

fn settle(server: &Server, number: u8, owner: u128, ending: Ending) -> Settled {
    match ask(server, &settles(number, owner, ending)) {
        Answer::Settled(ended) => ended.settled,
        other => panic!("{other:?}"),
    }
}

/// What an operator is told; the calls that it takes are made as Envoy makes them.
fn review(server: &Server, number: u8, amendment: Option<Amendment>) -> Reviewed {
    finish(server, store().review(operation(number), amendment))
}

fn finish(server: &Server, mut review: Review) -> Reviewed {
    loop {
        let (bytes, _) = review.ask(wrong_clock());
        let reply = send(server.address, bytes).unwrap();
        if let Some(reviewed) = review.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock()) {
            return reviewed;
        }
    }
}

fn look(server: &Server, number: u8) -> Option<View> {
    match review(server, number, None) {
        Reviewed::Seen(view) => view,
        other => panic!("{other:?}"),
    }
}

fn state(server: &Server, number: u8) -> Option<Standing> {
    look(server, number).map(|view| timeless_standing(view.standing))
}

fn amend(server: &Server, number: u8, verb: Verb, force: bool) -> Amended {
    match review(server, number, Some(Amendment { verb, force })) {
        Reviewed::Amended(amended) => amended,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_done(amended: &Amended) {
    assert!(matches!(amended, Amended::Done { .. }), "{amended:?}");
}

/// Makes what is left of the lease of a record end in the past, as if so much time had passed.
fn lapse(server: &Server, number: u8) {
    server.command(&[b"SETRANGE", key(number).as_bytes(), b"50", b"0000000000001"]);
}

#[test]
fn the_first_claim_is_granted_and_each_other_row_of_the_rules_has_its_answer() {
    let server = Server::start();
    assert_eq!(run(&server, claim(1, 1)), Claimed::Granted);
    assert!(matches!(run(&server, claim(1, 2)), Claimed::InFlight { lease_left, .. } if is_about(lease_left, LEASE)));
    let other = Fingerprint::from_bytes([8; 32]);
    assert_eq!(run(&server, Claim { fingerprint: other, ..claim(1, 2) }), Claimed::KeyReused);
    assert_eq!(run(&server, claim(2, 5)), Claimed::Granted, "another operation");

    assert_eq!(settle(&server, 1, 1, completed(b"body")), Settled::Completed);
    let Claimed::Completed { response: replayed, expires } = run(&server, claim(1, 2)) else { panic!("no replay") };
    assert_eq!(*replayed, response(b"body"));
    assert!(is_about(expires.since(wrong_clock()), TTL), "by the asking Envoy's clock");
    assert_eq!(run(&server, Claim { fingerprint: other, ..claim(1, 2) }), Claimed::KeyReused);

    assert_eq!(settle(&server, 2, 5, Ending::NotKept(418)), Settled::NotKept);
    assert_eq!(run(&server, claim(2, 4)), Claimed::NotKept { status: 418 });
}

#[test]
fn a_lapsed_claim_is_unknown_and_only_who_may_retry_takes_over() {
    let server = Server::start();
    let retries = |number, owner| Claim { retry_unknown: true, ..claim(number, owner) };
    run(&server, claim(1, 1));
    assert!(matches!(run(&server, retries(1, 2)), Claimed::InFlight { .. }), "its owner lives");
    lapse(&server, 1);
    assert_eq!(run(&server, claim(1, 2)), Claimed::Unknown { lease_left: Duration::ZERO });
    let reused = Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..retries(1, 2) };
    assert_eq!(run(&server, reused), Claimed::KeyReused, "another request takes nothing over");
    assert_eq!(run(&server, retries(1, 2)), Claimed::Granted);

    assert_eq!(renew(&server, 1, 1), Renewed::Fenced);
    for ending in [completed(b"late"), Ending::NotKept(200), Ending::Released, Ending::Unknown] {
        assert_eq!(settle(&server, 1, 1, ending), Settled::Fenced);
    }
    assert_eq!(settle(&server, 1, 2, Ending::Unknown), Settled::Unknown);
    assert!(matches!(run(&server, retries(1, 4)), Claimed::Unknown { lease_left } if is_about(lease_left, LEASE)));
    lapse(&server, 1);
    assert_eq!(run(&server, retries(1, 4)), Claimed::Granted);
}

#[test]
fn a_late_copy_of_a_claim_does_not_begin_anew_what_its_own_execution_left_unknown() {
    let server = Server::start();
    let copy = Claim { retry_unknown: true, ..claim(1, 1) };
    run(&server, copy.clone());
    settle(&server, 1, 1, Ending::Unknown);
    lapse(&server, 1);
    assert_eq!(run(&server, copy), Claimed::Unknown { lease_left: Duration::ZERO });
    assert_eq!(run(&server, Claim { retry_unknown: true, ..claim(1, 2) }), Claimed::Granted);
}

#[test]
fn an_owner_that_nobody_took_over_from_has_its_say_however_late() {
    let server = Server::start();
    run(&server, claim(1, 1));
    lapse(&server, 1);
    assert_eq!(renew(&server, 1, 1), Renewed::Extended);
    assert!(matches!(run(&server, claim(1, 2)), Claimed::InFlight { .. }));
    lapse(&server, 1);
    assert_eq!(settle(&server, 1, 1, completed(b"late")), Settled::Completed);
    assert!(matches!(run(&server, claim(1, 2)), Claimed::Completed { .. }));
    assert_eq!(renew(&server, 1, 1), Renewed::Fenced, "there is nothing left to renew");
}

#[test]
fn what_was_asked_before_and_is_asked_again_is_the_same() {
    let server = Server::start();
    for _ in 0..3 {
        assert_eq!(run(&server, claim(1, 1)), Claimed::Granted);
    }
    for (number, ending, settled) in [
        (1, completed(b"body"), Settled::Completed),
        (2, Ending::NotKept(200), Settled::NotKept),
        (3, Ending::Unknown, Settled::Unknown),
        (4, Ending::Released, Settled::Released),
    ] {
        run(&server, claim(number, 1));
        assert_eq!(settle(&server, number, 1, ending.clone()), settled);
        let said = server.value(number);
        assert_eq!(settle(&server, number, 1, ending), settled);
        assert_eq!(server.value(number), said);
        // Another word than the last is none.
        assert_eq!(
            settle(&server, number, 1, if number == 3 { Ending::Released } else { Ending::Unknown }),
            Settled::Fenced
        );
        assert_eq!(server.value(number), said);
    }
    // Done is done: a copy of the claim that comes late does not begin anew.
    assert!(matches!(run(&server, claim(1, 1)), Claimed::Completed { .. }));
}

#[test]
fn what_is_given_back_is_free_for_all_but_the_late_claim_of_who_gave_it_back() {
    let server = Server::start();
    for claimed_before in [true, false] {
        let number = u8::from(claimed_before);
        if claimed_before {
            run(&server, claim(number, 1));
        }
        assert_eq!(settle(&server, number, 1, Ending::Released), Settled::Released);
        assert!(is_about(server.lives(number), LEASE), "the mark goes when no claim can be on its way any more");
        assert!(!matches!(run(&server, claim(number, 1)), Claimed::Granted), "given back already");
        assert!(!matches!(run(&server, Claim { retry_unknown: true, ..claim(number, 1) }), Claimed::Granted));
        assert_eq!(renew(&server, number, 1), Renewed::Fenced);
        // Another fingerprint, too: as if it had never been.
        let next = Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..claim(number, 2) };
        assert_eq!(run(&server, next), Claimed::Granted);
        assert!(!matches!(run(&server, claim(number, 1)), Claimed::Granted));
        assert_eq!(settle(&server, number, 1, Ending::Released), Settled::Fenced);
    }
}

#[test]
fn a_record_that_redis_lost_is_written_at_the_end() {
    let server = Server::start();
    run(&server, claim(1, 1));
    server.command(&[b"FLUSHALL"]);
    assert_eq!(renew(&server, 1, 1), Renewed::Fenced);
    assert_eq!(settle(&server, 1, 1, completed(b"body")), Settled::Completed);
    assert!(matches!(run(&server, claim(1, 2)), Claimed::Completed { .. }));
    assert!(is_about(server.lives(1), TTL));

    run(&server, claim(2, 1));
    server.command(&[b"FLUSHALL"]);
    run(&server, claim(2, 2));
    assert_eq!(settle(&server, 2, 1, completed(b"body")), Settled::Fenced, "another has it meanwhile");
}

#[test]
fn each_state_is_kept_as_long_as_it_says() {
    let server = Server::start();
    run(&server, claim(1, 1));
    assert!(is_about(server.lives(1), LEASE + TTL));
    server.command(&[b"PEXPIRE", key(1).as_bytes(), b"60000"]);
    renew(&server, 1, 1);
    assert!(is_about(server.lives(1), LEASE + TTL));
    for (number, ending, kept) in [
        (1, completed(b""), TTL),
        (2, Ending::NotKept(200), TTL),
        (3, Ending::Unknown, TTL),
        (4, Ending::Released, LEASE),
    ] {
        run(&server, claim(number, 1));
        settle(&server, number, 1, ending);
        assert!(is_about(server.lives(number), kept), "{number}: {:?}", server.lives(number));
        run(&server, claim(number, 2));
        let until = if number == 4 { LEASE + TTL } else { kept };
        assert!(is_about(server.lives(number), until), "a duplicate extends nothing: {number}");
    }
    // An unknown outcome outlives its lease, however short it is to be kept.
    run(&server, claim(5, 1));
    let call = Call::Settle {
        operation: operation(5),
        fingerprint: Fingerprint::from_bytes([9; 32]),
        owner: Owner::new(1),
        ending: Ending::Unknown,
        lease: LEASE,
        ttl: Duration::from_secs(1),
    };
    ask(&server, &call);
    assert!(is_about(server.lives(5), LEASE) && server.lives(5) > Duration::from_secs(1));
}

#[test]
fn the_lease_is_judged_by_the_clock_of_redis() {
    let server = Server::start();
    run(&server, claim(1, 1));
    let value = server.value(1).unwrap();
    let until: u128 = std::str::from_utf8(&value[50..63]).unwrap().parse().unwrap();
    // This machine's clock is that of the server here; the one that is handed in is not.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert!(until.abs_diff(now + LEASE.as_millis()) < 20_000, "{until} at {now}");
}

/// Much of what `value` can turn into by accident: cut anywhere, a bit of each byte changed, lengthened, or
/// with the state of another record. But not with another end of its lease, which is not sealed, as the scripts
/// make it: its digits are all that is known of it.
fn accidents(value: &[u8]) -> Vec<Vec<u8>> {
    let cuts = (0..value.len()).map(|length| value[..length].to_vec());
    let with = |index: usize, byte: u8| {
        let mut changed = value.to_vec();
        changed[index] = byte;
        changed
    };
    let flips = (0..value.len()).map(|index| with(index, value[index] ^ 1 << (index % 8)));
    let states = b"iucnr".iter().filter(|state| **state != value[1]).map(|state| with(1, *state));
    let foreign = [[value, b"\0"].concat(), b"1r".repeat(40), b"x".to_vec(), Vec::new()];
    let has_another_lease = |changed: &Vec<u8>| {
        let lease = changed.get(50..63);
        lease != value.get(50..63) && lease.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
    };
    cuts.chain(flips).chain(states).chain(foreign).filter(|changed| !has_another_lease(changed)).collect()
}

#[test]
fn a_damaged_or_foreign_value_grants_nothing_and_replays_nothing() {
    let server = Server::start();
    for ending in [None, Some(completed(b"body")), Some(Ending::NotKept(200)), Some(Ending::Unknown)] {
        server.command(&[b"FLUSHALL"]);
        run(&server, claim(1, 1));
        if let Some(ending) = ending {
            settle(&server, 1, 1, ending);
        }
        let whole = server.value(1).unwrap();
        for damaged in accidents(&whole) {
            server.overwrite(1, &damaged);
            let claimed = run(&server, Claim { retry_unknown: true, ..claim(1, 2) });
            assert!(
                matches!(claimed, Claimed::Failed(StoreError::Redis(RedisError::Foreign | RedisError::Unreadable(_)))),
                "{claimed:?} of {damaged:02x?}"
            );
        }
    }
}

#[test]
fn a_value_of_another_key_is_refused_and_so_is_another_type() {
    let server = Server::start();
    for (number, ending) in [(1, completed(b"body")), (2, Ending::NotKept(200)), (3, Ending::Unknown)] {
        run(&server, claim(number, 1));
        settle(&server, number, 1, ending);
        server.overwrite(9, &server.value(number).unwrap());
        let claimed = run(&server, claim(9, 2));
        assert!(matches!(claimed, Claimed::Failed(StoreError::Redis(RedisError::Unreadable(_)))), "{claimed:?}");
    }
    server.command(&[b"DEL", key(9).as_bytes()]);
    server.command(&[b"LPUSH", key(9).as_bytes(), b"x"]);
    let foreign = StoreError::Redis(RedisError::Foreign);
    assert_eq!(run(&server, claim(9, 2)), Claimed::Failed(foreign));
    assert_eq!(renew(&server, 9, 2), Renewed::Failed(foreign));
    assert_eq!(attempt(&server, &store(), &settles(9, 2, completed(b""))), Progress::Later(foreign));
}

#[test]
fn a_server_without_memory_grants_nothing_and_still_lets_go() {
    let server = Server::start();
    run(&server, claim(1, 1));
    run(&server, claim(2, 1));
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    let full = StoreError::Redis(RedisError::OutOfMemory);
    assert_eq!(run(&server, claim(3, 1)), Claimed::Failed(full), "certainly not granted");
    assert_eq!(attempt(&server, &store(), &settles(1, 1, completed(b"body"))), Progress::Later(full));
    assert!(matches!(run(&server, claim(1, 2)), Claimed::InFlight { .. }), "its record is still there");
    assert_eq!(settle(&server, 2, 1, Ending::Released), Settled::Released);
    assert_eq!(server.value(2), None);
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    assert_eq!(settle(&server, 1, 1, completed(b"body")), Settled::Completed);
    assert_eq!(run(&server, claim(2, 2)), Claimed::Granted);
}

#[test]
fn a_replica_takes_no_claim() {
    let server = Server::start();
    server.command(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
    let claimed = run(&server, claim(1, 1));
    assert_eq!(claimed, Claimed::Failed(StoreError::Redis(RedisError::ReadOnly)));
}

#[test]
fn an_operator_sees_and_changes_signed_records_alone() {
    let server = Server::start();
    let integrity =
        IntegrityConfig { keys: vec!["a key of thirty-two bytes, no less".to_owned()], ..Default::default() };
    let signing = RedisStore::new(RedisConfig { integrity, ..config() });
    let granted = Progress::Answered(Answer::Claimed(Claimed::Granted));
    let body = [b'x'; 1000];
    for (number, store) in [(1, &signing), (2, &store())] {
        assert_eq!(attempt(&server, store, &Call::Claim(claim(number, 1))), granted);
        let settle = Call::Settle {
            operation: operation(number),
            fingerprint: fingerprint(1),
            owner: Owner::new(1),
            ending: completed(&body),
            lease: LEASE,
            ttl: TTL,
        };
        assert!(matches!(attempt(&server, store, &settle), Progress::Answered(_)));
    }
    let review = |number, amendment| finish(&server, signing.review(operation(number), amendment));
    let state = || match review(1, None) {
        Reviewed::Seen(view) => view.map(|view| (view.standing, view.response_bytes)),
        other => panic!("{other:?}"),
    };
    let size = response(&body).encode(&operation(1), Owner::new(1)).unwrap().len() as u64;
    assert_eq!(state(), Some((Standing::Completed { status: 201 }, size)));
    let [not_kept, purge] =
        [Verb::NotKept { status: 201 }, Verb::Purge].map(|verb| Some(Amendment { verb, force: false }));
    assert!(matches!(review(1, not_kept), Reviewed::Amended(Amended::Done { .. })));
    assert_eq!(state(), Some((Standing::NotKept { status: 201 }, 0)));
    let found = Progress::Answered(Answer::Claimed(Claimed::NotKept { status: 201 }));
    assert_eq!(attempt(&server, &signing, &Call::Claim(claim(1, 2))), found);
    assert!(matches!(review(1, purge), Reviewed::Amended(Amended::Done { .. })));
    assert_eq!(state(), None);
    assert_eq!(attempt(&server, &signing, &Call::Claim(claim(1, 2))), granted);
    for amendment in [None, not_kept, purge] {
        let reviewed = review(2, amendment);
        assert!(matches!(reviewed, Reviewed::Failed { may_have_amended: false, .. }), "not signed: {reviewed:?}");
    }
}

#[test]
fn it_logs_in_chooses_its_database_and_puts_its_prefix_before_each_key() {
    let server = Server::start();
    server.command(&[b"CONFIG", b"SET", b"requirepass", b"s3cret"]);
    let with = |password: Option<&str>, username: Option<&str>| {
        RedisStore::new(RedisConfig {
            password: password.map(Into::into),
            username: username.map(Into::into),
            database: 3,
            prefix: "shop:".to_owned(),
            ..config()
        })
    };
    let call = Call::Claim(claim(1, 1));
    let granted = Progress::Answered(Answer::Claimed(Claimed::Granted));
    assert_eq!(attempt(&server, &with(Some("s3cret"), None), &call), granted);
    assert_eq!(attempt(&server, &with(Some("s3cret"), Some("default")), &call), granted);
    let refused = Progress::Answered(Answer::Claimed(Claimed::Failed(StoreError::Redis(RedisError::Authentication))));
    for (password, username) in [(None, None), (Some("wrong"), None), (Some("s3cret"), Some("nobody"))] {
        assert_eq!(attempt(&server, &with(password, username), &call), refused);
    }
    let key = key(1).replace(PREFIX, "shop:");
    let found =
        server.commands(&[&[b"AUTH", b"s3cret"], &[b"SELECT", b"3"], &[b"EXISTS", key.as_bytes()], &[b"DBSIZE"]]);
    assert_eq!(found[2..], [Value::Integer(1), Value::Integer(1)]);
}

#[test]
fn over_persistent_connections_scripts_are_called_by_their_hashes_and_sent_whole_to_a_server_that_knows_them_not() {
    let server = Server::start();
    let store = RedisStore::new(RedisConfig { connections: 1, ..config() });
    let calls = |number| {
        let settle = settles(number, 1, completed(b"body"));
        [Call::Claim(claim(number, 1)), renews(number, 1, LEASE), settle]
    };
    for call in calls(1) {
        let mut inquiry = store.inquire(&call, wrong_clock()).expect("a call that can be made");
        let hashed = inquiry.ask(wrong_clock()).0.to_vec();
        let reply = send(server.address, &hashed).unwrap();
        assert!(reply.starts_with(b"-NOSCRIPT"), "{call:?}");
        assert_eq!(
            inquiry.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock()),
            Progress::Anew
        );
        let whole = inquiry.ask(wrong_clock()).0.to_vec();
        assert!(whole.len() > hashed.len());
        let reply = send(server.address, &whole).unwrap();
        assert_eq!(reply, b":1\r\n", "{call:?}");
    }
    // Now it knows them by these very hashes.
    for call in calls(2) {
        assert!(matches!(attempt(&server, &store, &call), Progress::Answered(_)), "{call:?}");
    }
    assert!(matches!(ask(&server, &Call::Claim(claim(2, 1))), Answer::Claimed(Claimed::Completed { .. })));
}

#[test]
fn an_operator_sees_each_state_and_nothing_of_a_response_but_its_status_and_size() {
    let server = Server::start();
    assert_eq!(look(&server, 1), None);
    run(&server, claim(1, 1));
    let running = look(&server, 1).unwrap();
    assert_eq!((timeless_standing(running.standing), running.response_bytes), (IN_FLIGHT, 0));
    assert!(is_about(running.lease_left(), LEASE) && !running.lease_left().is_zero());
    assert!(is_about(running.expires.since(wrong_clock()), LEASE + TTL), "by the asking Envoy's clock");
    lapse(&server, 1);
    assert_eq!(state(&server, 1), Some(Standing::Lapsed));

    let large = vec![b'x'; 20_000];
    settle(&server, 1, 1, completed(&large));
    let kept = look(&server, 1).unwrap();
    assert_eq!((kept.standing, kept.lease_left()), (Standing::Completed { status: 201 }, Duration::ZERO));
    let size = response(&large).encode(&operation(1), Owner::new(1)).unwrap().len() as u64;
    assert_eq!(kept.response_bytes, size);
    assert!(is_about(kept.expires.since(wrong_clock()), TTL));

    for (number, ending, seen) in [
        (2, Ending::NotKept(418), Some(Standing::NotKept { status: 418 })),
        (3, Ending::Unknown, Some(UNKNOWN)),
        (4, Ending::Released, None),
    ] {
        run(&server, claim(number, 1));
        settle(&server, number, 1, ending);
        let value = server.value(number);
        assert_eq!(state(&server, number), seen);
        assert_eq!(server.value(number), value, "looking changes nothing");
    }
}

#[test]
fn what_an_operator_gave_back_runs_anew_and_its_late_owner_is_fenced() {
    let server = Server::start();
    for verb in [Verb::Release, Verb::Purge] {
        server.command(&[b"FLUSHALL"]);
        run(&server, claim(1, 1));
        let alive = amend(&server, 1, verb, false);
        assert!(matches!(alive, Amended::Refused(Conflict::Alive { lease_left }) if is_about(lease_left, LEASE)));
        assert_eq!(state(&server, 1), Some(IN_FLIGHT));
        assert_done(&amend(&server, 1, verb, true));
        assert_eq!(state(&server, 1), None);
        assert_eq!(amend(&server, 1, verb, true), Amended::NoRecord);
        assert!(is_about(server.lives(1), Duration::from_hours(24)), "however late its owner ends");

        // Before another owner comes, and after.
        assert_eq!(renew(&server, 1, 1), Renewed::Fenced);
        assert_eq!(settle(&server, 1, 1, completed(b"late")), Settled::Fenced);
        assert_eq!(settle(&server, 1, 1, Ending::Unknown), Settled::Fenced);
        assert!(!matches!(run(&server, claim(1, 1)), Claimed::Granted), "nor is a late copy of its claim granted");
        assert_eq!(run(&server, claim(1, 2)), Claimed::Granted);
        assert_eq!(settle(&server, 1, 1, completed(b"late")), Settled::Fenced);
        assert_eq!(settle(&server, 1, 2, completed(b"body")), Settled::Completed);
    }
}

#[test]
fn an_unknown_outcome_is_released_purged_or_told_to_have_run() {
    let server = Server::start();
    for (number, verb) in [(1, Verb::Release), (2, Verb::Purge), (3, Verb::NotKept { status: 201 })] {
        run(&server, claim(number, 1));
        settle(&server, number, 1, Ending::Unknown);
        lapse(&server, number);
        server.command(&[b"PEXPIRE", key(number).as_bytes(), b"90000000"]);
        assert_done(&amend(&server, number, verb, false));
        // What was to be kept for longer than a mark at least is, stays for as long.
        assert!(server.lives(number) > Duration::from_secs(89_000));
    }
    assert_eq!(run(&server, claim(1, 2)), Claimed::Granted);
    assert_eq!(run(&server, claim(2, 2)), Claimed::Granted);
    assert_eq!(run(&server, claim(3, 2)), Claimed::NotKept { status: 201 });
    assert_eq!(settle(&server, 3, 1, completed(b"late")), Settled::Fenced);
}

#[test]
fn what_ran_is_not_released_but_purged_or_kept_without_its_response() {
    let server = Server::start();
    for number in 1..4 {
        run(&server, claim(number, 1));
        settle(&server, number, 1, completed(b"body"));
    }
    assert_eq!(amend(&server, 1, Verb::Release, true), Amended::Refused(Conflict::Ran));
    assert_done(&amend(&server, 1, Verb::Purge, false));
    assert_eq!(run(&server, claim(1, 2)), Claimed::Granted);
    let other = amend(&server, 2, Verb::NotKept { status: 200 }, true);
    assert_eq!(other, Amended::Refused(Conflict::OtherStatus { status: 201 }));
    assert_done(&amend(&server, 2, Verb::NotKept { status: 201 }, false));
    assert_eq!(run(&server, claim(2, 2)), Claimed::NotKept { status: 201 });
    assert!(is_about(server.lives(2), TTL), "for as long as it would have been kept");
    assert_eq!(amend(&server, 2, Verb::NotKept { status: 201 }, true), Amended::Refused(Conflict::AlreadyNotKept));
    assert_eq!(state(&server, 3), Some(Standing::Completed { status: 201 }), "no other operation is changed");
}

#[test]
fn an_operator_whose_reply_was_lost_asks_again_and_has_changed_it_once() {
    let server = Server::start();
    for verb in VERBS {
        server.command(&[b"FLUSHALL"]);
        run(&server, claim(1, 1));
        let mut review = store().review(operation(1), Some(Amendment { verb, force: true }));
        let reply = send(server.address, review.ask(wrong_clock()).0).unwrap();
        assert_eq!(review.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock()), None);
        send(server.address, review.ask(wrong_clock()).0).unwrap();
        assert_eq!(review.hear(Heard::Nothing, wrong_clock()), None, "the reply to the change is lost");
        let changed = server.value(1);
        let done = finish(&server, review);
        assert!(matches!(done, Reviewed::Amended(Amended::Done { .. })), "{done:?}");
        assert_eq!(server.value(1), changed);
    }
}

#[test]
fn an_operator_whose_reply_was_lost_does_not_change_what_began_since() {
    let server = Server::start();
    run(&server, claim(1, 1));
    let mut review = store().review(operation(1), Some(Amendment { verb: Verb::Release, force: true }));
    let reply = send(server.address, review.ask(wrong_clock()).0).unwrap();
    assert_eq!(review.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock()), None);
    send(server.address, review.ask(wrong_clock()).0).unwrap();
    assert_eq!(review.hear(Heard::Nothing, wrong_clock()), None);
    assert_eq!(run(&server, claim(1, 2)), Claimed::Granted);
    let told = finish(&server, review);
    assert!(matches!(told, Reviewed::Failed { may_have_amended: true, .. }), "{told:?}");
    assert_eq!(renew(&server, 1, 2), Renewed::Extended, "the new execution is left alone");
}

#[test]
fn what_changes_under_the_hands_of_an_operator_is_judged_anew() {
    let server = Server::start();
    run(&server, claim(1, 1));
    lapse(&server, 1);
    let judged = |server: &Server| {
        let mut review = store().review(operation(1), Some(Amendment { verb: Verb::Release, force: false }));
        let reply = send(server.address, review.ask(wrong_clock()).0).unwrap();
        assert_eq!(review.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock()), None);
        review
    };
    let review = judged(&server);
    assert_eq!(renew(&server, 1, 1), Renewed::Extended, "its owner was only late");
    let told = finish(&server, review);
    assert!(matches!(told, Reviewed::Amended(Amended::Refused(Conflict::Alive { .. }))), "{told:?}");

    lapse(&server, 1);
    let review = judged(&server);
    settle(&server, 1, 1, completed(b"body"));
    assert_eq!(finish(&server, review), Reviewed::Amended(Amended::Refused(Conflict::Ran)));
    assert!(matches!(run(&server, claim(1, 2)), Claimed::Completed { .. }));
}

#[test]
fn a_damaged_or_foreign_value_is_shown_to_nobody_and_changed_by_nobody() {
    let server = Server::start();
    run(&server, claim(1, 1));
    settle(&server, 1, 1, Ending::NotKept(200));
    let whole = server.value(1).unwrap();
    for damaged in accidents(&whole) {
        server.overwrite(1, &damaged);
        for amendment in [None, Some(Amendment { verb: Verb::Purge, force: true })] {
            let told = review(&server, 1, amendment);
            assert!(matches!(told, Reviewed::Failed { may_have_amended: false, .. }), "{told:?} of {damaged:02x?}");
        }
        assert_eq!(server.value(1), Some(damaged));
    }
    server.command(&[b"DEL", key(1).as_bytes()]);
    server.command(&[b"LPUSH", key(1).as_bytes(), b"x"]);
    let foreign = Reviewed::Failed { error: StoreError::Redis(RedisError::Foreign), may_have_amended: false };
    assert_eq!(review(&server, 1, None), foreign);
}

#[test]
fn redis_says_what_the_rules_of_a_record_say() {
    let server = Server::start();
    rules::hold(150, || {
        server.command(&[b"FLUSHALL"]);
        &server
    });
}

impl Rules for &Server {
    fn ask(&mut self, call: &Call) -> Answer {
        ask(self, call)
    }

    fn review(&mut self, number: u8, amendment: Option<Amendment>) -> Reviewed {
        review(self, number, amendment)
    }

    fn lapse(&mut self, number: u8) {
        if self.value(number).is_some() {
            lapse(self, number);
        }
    }
}

/// All but the end of the lease.
fn without_lease(value: &[u8]) -> (&[u8], &[u8]) {
    (&value[..50], &value[63..])
}

#[test]
fn the_model_of_redis_in_the_proofs_answers_and_keeps_what_redis_does() {
    let server = Server::start();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(150)
    });
    let now = 1_700_000_000_000;
    let outcome = runner.run(&steps(), |steps| {
        server.command(&[b"FLUSHALL"]);
        let mut model = ModelOfRedis::default();
        for step in steps {
            if let Step::Lapse { number } = step {
                if server.value(number).is_some() {
                    lapse(&server, number);
                }
                model.lapse(key(number).as_bytes());
                continue;
            }
            // Operators are not in the world of the proofs.
            let Some(call) = call_of(&step) else { continue };
            let said = without_times(attempt(&server, &store(), &call));
            let mut inquiry = store().inquire(&call, wrong_clock()).unwrap();
            let command = ModelCommand::read(inquiry.ask(wrong_clock()).0);
            let reply = model.eval(&command, now, Omissions::default());
            let of_model = inquiry.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock());
            prop_assert_eq!(without_times(of_model), said, "{:?}", call);
            for number in 1..3 {
                let (real, modelled) = (server.value(number), model.value(key(number).as_bytes(), now));
                let modelled = modelled.map(|(value, _)| without_lease(value));
                prop_assert_eq!(real.as_deref().map(without_lease), modelled, "{:?}", call);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
