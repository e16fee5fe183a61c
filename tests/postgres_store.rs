//! The SQL functions of the PostgreSQL store on real servers, Debian's and the newest, against the rules of a record; races
//! of many connections; and that a function without one of its conditions is found out by these very tests.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: an assumption that does not hold must fail the test"
)]

#[path = "e2e/bench/mod.rs"]
mod bench;
#[path = "proof/mod.rs"]
mod proof;
#[path = "rules/mod.rs"]
mod rules;

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use idemgate::{
    config::PostgresConfig,
    record::{Amended, Amendment, Claim, Conflict, Owner, Standing, Verb},
    request::Fingerprint,
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError, dialect::Heard, inquiry::Progress,
        postgres::PostgresStore, remote::RemoteStore as _, review::Reviewed,
    },
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_postgres::{
    Client, Row,
    error::SqlState,
    types::{FromSql, IsNull, ToSql, Type},
};

use bench::{PostgresServer, Release, SCHEMA};
use proof::redis::{Command, Omissions, Redis as ModelOfRedis};
use rules::{
    IN_FLIGHT, LEASE, LIVE, Model, Step, TTL, UNKNOWN, call_of, claim, completed, fingerprint, is_about, operation,
    renews, response, settles, steps, timeless, timeless_standing, without_times, wrong_clock,
};

/// Runs a test on each server.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    for release in Release::BOTH {
        test(Rig::start(release).await).await;
    }
}

/// A server with the functions, and a connection that may call them and nothing else.
struct Rig {
    admin: Client,
    caller: Caller,
    server: PostgresServer,
}

impl Rig {
    async fn start(release: Release) -> Self {
        let server = PostgresServer::with(release, &["fsync=off"]).await;
        Self::on(server, "idemgate").await
    }

    async fn on(server: PostgresServer, schema: &'static str) -> Self {
        Self { admin: server.admin().await, caller: Caller { client: server.client().await, schema }, server }
    }

    /// The functions once more, with something missing.
    async fn mutant(release: Release, mutation: &Mutation) -> Self {
        let server = PostgresServer::with(release, &["fsync=off"]).await;
        let mutated = SCHEMA.replace(mutation.before, mutation.after);
        assert_ne!(mutated, SCHEMA, "there is no {:?} in the schema", mutation.before);
        server.sql(&mutated.replace("idemgate", "mutant")).await;
        server
            .sql("GRANT USAGE ON SCHEMA mutant TO envoy; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mutant TO envoy")
            .await;
        Self::on(server, "mutant").await
    }

    async fn another(&self) -> Caller {
        Caller { client: self.server.client().await, schema: self.caller.schema }
    }

    async fn claim(&self, claim: Claim) -> Claimed {
        self.caller.claim(&claim).await.expect("an answer to a claim")
    }

    async fn renew(&self, number: u8, owner: u128) -> Renewed {
        self.caller.renew(number, owner).await
    }

    async fn settle(&self, number: u8, owner: u128, ending: Ending) -> Settled {
        self.caller.settle(number, owner, &ending, TTL).await
    }

    /// A statement about the record of an operation.
    async fn touch(&self, number: u8, statement: &str) {
        let statement = statement.replace("records", &format!("{}.records", self.caller.schema));
        self.admin.execute(&statement, &[&key(number)]).await.unwrap();
    }

    /// Makes what is left of the lease of a record end in the past, as if so much time had passed.
    async fn lapse(&self, number: u8) {
        self.touch(number, "UPDATE records SET lease_until = '2000-01-01' WHERE operation = $1").await;
    }

    /// The same of the record itself, which nobody has swept yet.
    async fn expire(&self, number: u8) {
        self.touch(number, "UPDATE records SET expires = '2000-01-01' WHERE operation = $1").await;
    }

    async fn lose(&self, number: u8) {
        self.touch(number, "DELETE FROM records WHERE operation = $1").await;
    }

    /// All of the record of an operation, also of one that counts as none.
    async fn row(&self, number: u8) -> Option<String> {
        let query = format!("SELECT r::text FROM {}.records r WHERE operation = $1", self.caller.schema);
        Some(self.admin.query_opt(&query, &[&key(number)]).await.unwrap()?.get(0))
    }

    async fn lives(&self, number: u8) -> Duration {
        let seen = self.caller.look(number).await.expect("a record");
        Duration::from_millis(u64::try_from(seen.get::<_, i64>("lives")).unwrap())
    }

    async fn standing(&self, number: u8) -> Option<Standing> {
        let seen = self.caller.look(number).await?;
        let lease_left = millis_left(&seen);
        let status = || String::from_utf8_lossy(&seen.get::<_, Vec<u8>>("beginning")[1..]).parse().unwrap();
        Some(match seen.get::<_, i8>("state") as u8 {
            b'i' if lease_left.is_zero() => Standing::Lapsed,
            b'i' => Standing::InFlight { lease_left },
            b'u' => Standing::Unknown { lease_left },
            b'c' => Standing::Completed { status: 201 },
            b'n' => Standing::NotKept { status: status() },
            b'r' => return None,
            other => panic!("a record in the state {other}"),
        })
    }

    /// What an operator who has seen a record in the state `judged` makes of it.
    async fn amend(&self, number: u8, whose: u128, judged: u8, ending: &Ending, even_alive: bool) -> bool {
        let (becomes, sealed, _) = sealed(ending);
        let mark = Duration::from_hours(24).as_millis() as i64;
        let arguments: [Argument<'_>; 7] =
            [&key(number), &uuid(whose), &(judged as i8), &(becomes as i8), &even_alive, &mark, &sealed];
        self.caller.answers("amend_v1($1, $2, $3, $4, $5, $6, $7)", &arguments).await
    }
}

type Argument<'a> = &'a (dyn ToSql + Sync);

/// A connection that calls the functions.
struct Caller {
    client: Client,
    schema: &'static str,
}

impl Caller {
    async fn rows(&self, call: &str, arguments: &[Argument<'_>]) -> Vec<Row> {
        let query = format!("SELECT * FROM {}.{call}", self.schema);
        self.client.query(&query, arguments).await.unwrap_or_else(|error| panic!("{call}: {error:?}"))
    }

    async fn answers(&self, call: &str, arguments: &[Argument<'_>]) -> bool {
        self.rows(call, arguments).await[0].get(0)
    }

    /// `None` if the claim is void, or if it says nothing.
    async fn claim(&self, claim: &Claim) -> Option<Claimed> {
        let operation = claim.operation.as_bytes().as_slice();
        let keep = (claim.lease + claim.ttl).as_millis() as i64;
        let lease = claim.lease.as_millis() as i64;
        let fingerprint = claim.fingerprint.as_bytes().as_slice();
        let arguments: [Argument<'_>; 7] =
            [&operation, &Uuid(claim.owner), &fingerprint, &lease, &keep, &claim.retry_unknown, &b"i".as_slice()];
        let rows = self.rows("claim_v1($1, $2, $3, $4, $5, $6, $7)", &arguments).await;
        assert_eq!(rows.len(), 1, "rows of a claim");
        let row = &rows[0];
        if row.get::<_, Option<bool>>("granted")? {
            return Some(Claimed::Granted);
        }
        let state = row.get::<_, i8>("state") as u8;
        if state != b'r' && row.get::<_, Vec<u8>>("fingerprint") != fingerprint {
            return Some(Claimed::KeyReused);
        }
        let (lease_left, lives) = (millis_left(row), row.get::<_, i64>("lives").try_into().unwrap());
        let sealed = row.get::<_, Vec<u8>>("sealed");
        match state {
            b'i' if !lease_left.is_zero() => Some(Claimed::InFlight { age: Duration::ZERO, lease_left }),
            b'i' | b'u' => Some(Claimed::Unknown { lease_left }),
            b'c' => Some(Claimed::Completed {
                response: Arc::new(response(&sealed[1..])),
                expires: wrong_clock().after(Duration::from_millis(lives)),
            }),
            b'n' => Some(Claimed::NotKept { status: String::from_utf8_lossy(&sealed[1..]).parse().unwrap() }),
            _ => None,
        }
    }

    async fn renew(&self, number: u8, owner: u128) -> Renewed {
        let (lease, keep) = (LEASE.as_millis() as i64, (LEASE + TTL).as_millis() as i64);
        match self.answers("renew_v1($1, $2, $3, $4)", &[&key(number), &uuid(owner), &lease, &keep]).await {
            true => Renewed::Extended,
            false => Renewed::Fenced,
        }
    }

    async fn settle(&self, number: u8, owner: u128, ending: &Ending, ttl: Duration) -> Settled {
        let (state, sealed, settled) = sealed(ending);
        let keep = if state == b'r' { LEASE } else { ttl }.as_millis() as i64;
        let fingerprint = fingerprint(owner);
        let arguments: [Argument<'_>; 6] =
            [&key(number), &uuid(owner), &fingerprint.as_bytes().as_slice(), &(state as i8), &keep, &sealed];
        if self.answers("settle_v1($1, $2, $3, $4, $5, $6)", &arguments).await { settled } else { Settled::Fenced }
    }

    async fn look(&self, number: u8) -> Option<Row> {
        self.rows("look_v1($1, 100)", &[&key(number)]).await.pop()
    }

    async fn sweep(&self, most: i32) -> i32 {
        self.rows("sweep_v1($1)", &[&most]).await[0].get(0)
    }

    async fn about(&self) -> Row {
        self.rows("about_v1()", &[]).await.remove(0)
    }
}

fn millis_left(row: &Row) -> Duration {
    Duration::from_millis(u64::try_from(row.get::<_, i64>("lease_left")).unwrap_or_default())
}

fn key(number: u8) -> Vec<u8> {
    operation(number).as_bytes().to_vec()
}

/// How an execution ends, in place of what the module seals.
fn sealed(ending: &Ending) -> (u8, Vec<u8>, Settled) {
    match ending {
        Ending::Completed(response) => (b'c', [b"c", response.body.as_slice()].concat(), Settled::Completed),
        Ending::NotKept(status) => (b'n', format!("n{status}").into_bytes(), Settled::NotKept),
        Ending::Released => (b'r', Vec::new(), Settled::Released),
        Ending::Unknown => (b'u', b"u".to_vec(), Settled::Unknown),
    }
}

/// An owner, as the column has it.
#[derive(Debug)]
struct Uuid(Owner);

fn uuid(owner: u128) -> Uuid {
    Uuid(Owner::new(owner))
}

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }

    tokio_postgres::types::to_sql_checked!();
}

impl FromSql<'_> for Uuid {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Owner::new(u128::from_be_bytes(raw.try_into()?))))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }
}

fn retries(number: u8, owner: u128) -> Claim {
    Claim { retry_unknown: true, ..claim(number, owner) }
}

/// A claim for something else.
fn other(number: u8, owner: u128) -> Claim {
    Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..claim(number, owner) }
}

// === the rules of a record ===

#[tokio::test]
async fn the_first_claim_is_granted_and_each_other_row_of_the_rules_has_its_answer() {
    on_both(|rig| async move {
        assert_eq!(rig.claim(claim(1, 1)).await, Claimed::Granted);
        let met = rig.claim(claim(1, 2)).await;
        assert!(matches!(met, Claimed::InFlight { lease_left, .. } if is_about(lease_left, LEASE)), "{met:?}");
        assert_eq!(rig.claim(other(1, 2)).await, Claimed::KeyReused);
        assert_eq!(rig.claim(claim(2, 5)).await, Claimed::Granted, "another operation");

        assert_eq!(rig.settle(1, 1, completed(b"body")).await, Settled::Completed);
        let Claimed::Completed { response: replayed, expires } = rig.claim(claim(1, 2)).await else {
            panic!("no replay")
        };
        assert_eq!(*replayed, response(b"body"));
        assert!(is_about(expires.since(wrong_clock()), TTL));
        assert_eq!(rig.claim(other(1, 2)).await, Claimed::KeyReused);

        assert_eq!(rig.settle(2, 5, Ending::NotKept(418)).await, Settled::NotKept);
        assert_eq!(rig.claim(claim(2, 4)).await, Claimed::NotKept { status: 418 });
    })
    .await;
}

#[tokio::test]
async fn a_lapsed_claim_is_unknown_and_only_who_may_retry_takes_over() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        assert!(matches!(rig.claim(retries(1, 2)).await, Claimed::InFlight { .. }), "its owner lives");
        rig.lapse(1).await;
        assert_eq!(rig.claim(claim(1, 2)).await, Claimed::Unknown { lease_left: Duration::ZERO });
        let reused = Claim { retry_unknown: true, ..other(1, 2) };
        assert_eq!(rig.claim(reused).await, Claimed::KeyReused, "another request takes nothing over");
        assert_eq!(rig.claim(retries(1, 2)).await, Claimed::Granted);

        assert_eq!(rig.renew(1, 1).await, Renewed::Fenced);
        for ending in [completed(b"late"), Ending::NotKept(200), Ending::Released, Ending::Unknown] {
            assert_eq!(rig.settle(1, 1, ending).await, Settled::Fenced);
        }
        assert_eq!(rig.settle(1, 2, Ending::Unknown).await, Settled::Unknown);
        let met = rig.claim(retries(1, 4)).await;
        assert!(matches!(met, Claimed::Unknown { lease_left } if is_about(lease_left, LEASE)), "{met:?}");
        rig.lapse(1).await;
        assert_eq!(rig.claim(retries(1, 4)).await, Claimed::Granted);
    })
    .await;
}

#[tokio::test]
async fn a_late_copy_of_a_claim_does_not_begin_anew_what_its_own_execution_left_unknown() {
    on_both(|rig| async move {
        rig.claim(retries(1, 1)).await;
        rig.settle(1, 1, Ending::Unknown).await;
        rig.lapse(1).await;
        assert_eq!(rig.claim(retries(1, 1)).await, Claimed::Unknown { lease_left: Duration::ZERO });
        assert_eq!(rig.claim(retries(1, 2)).await, Claimed::Granted);
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_nobody_took_over_from_has_its_say_however_late() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        rig.lapse(1).await;
        assert_eq!(rig.renew(1, 1).await, Renewed::Extended);
        assert!(matches!(rig.claim(claim(1, 2)).await, Claimed::InFlight { .. }));
        rig.lapse(1).await;
        assert_eq!(rig.settle(1, 1, completed(b"late")).await, Settled::Completed);
        assert!(matches!(rig.claim(claim(1, 2)).await, Claimed::Completed { .. }));
        assert_eq!(rig.renew(1, 1).await, Renewed::Fenced, "there is nothing left to renew");
    })
    .await;
}

#[tokio::test]
async fn what_was_asked_before_and_is_asked_again_is_the_same() {
    on_both(|rig| async move {
        for _ in 0..3 {
            assert_eq!(rig.claim(claim(1, 1)).await, Claimed::Granted);
        }
        for (number, ending, settled) in [
            (1, completed(b"body"), Settled::Completed),
            (2, Ending::NotKept(200), Settled::NotKept),
            (3, Ending::Unknown, Settled::Unknown),
            (4, Ending::Released, Settled::Released),
        ] {
            rig.claim(claim(number, 1)).await;
            assert_eq!(rig.settle(number, 1, ending.clone()).await, settled);
            let said = rig.row(number).await;
            assert_eq!(rig.settle(number, 1, ending).await, settled);
            assert_eq!(rig.row(number).await, said);
            // Another word than the last is none.
            let other = if number == 3 { Ending::Released } else { Ending::Unknown };
            assert_eq!(rig.settle(number, 1, other).await, Settled::Fenced);
            assert_eq!(rig.row(number).await, said);
        }
        // Done is done: a copy of the claim that comes late does not begin anew.
        assert!(matches!(rig.claim(claim(1, 1)).await, Claimed::Completed { .. }));
    })
    .await;
}

#[tokio::test]
async fn what_is_given_back_is_free_for_all_but_the_late_claim_of_who_gave_it_back() {
    on_both(given_back_is_free_for_others).await;
}

async fn given_back_is_free_for_others(rig: Rig) {
    for claimed_before in [true, false] {
        let number = u8::from(claimed_before);
        if claimed_before {
            rig.claim(claim(number, 1)).await;
        }
        assert_eq!(rig.settle(number, 1, Ending::Released).await, Settled::Released);
        assert!(is_about(rig.lives(number).await, LEASE), "the mark goes when no claim can be on its way any more");
        assert_eq!(rig.caller.claim(&claim(number, 1)).await, None, "given back already");
        assert_eq!(rig.caller.claim(&retries(number, 1)).await, None);
        assert_eq!(rig.renew(number, 1).await, Renewed::Fenced);
        // Another fingerprint, too: as if it had never been.
        assert_eq!(rig.claim(other(number, 2)).await, Claimed::Granted);
        assert!(!matches!(rig.claim(claim(number, 1)).await, Claimed::Granted));
        assert_eq!(rig.settle(number, 1, Ending::Released).await, Settled::Fenced);
    }
}

#[tokio::test]
async fn a_record_that_postgres_lost_is_written_at_the_end() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        rig.lose(1).await;
        assert_eq!(rig.renew(1, 1).await, Renewed::Fenced);
        assert_eq!(rig.settle(1, 1, completed(b"body")).await, Settled::Completed);
        assert!(matches!(rig.claim(claim(1, 2)).await, Claimed::Completed { .. }));
        assert!(is_about(rig.lives(1).await, TTL));

        rig.claim(claim(2, 1)).await;
        rig.lose(2).await;
        rig.claim(claim(2, 2)).await;
        assert_eq!(rig.settle(2, 1, completed(b"body")).await, Settled::Fenced, "another has it meanwhile");
    })
    .await;
}

#[tokio::test]
async fn each_state_is_kept_as_long_as_it_says() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        assert!(is_about(rig.lives(1).await, LEASE + TTL));
        rig.touch(1, "UPDATE records SET expires = clock_timestamp() + interval '1 min' WHERE operation = $1").await;
        rig.renew(1, 1).await;
        assert!(is_about(rig.lives(1).await, LEASE + TTL));
        for (number, ending, kept) in [
            (1, completed(b""), TTL),
            (2, Ending::NotKept(200), TTL),
            (3, Ending::Unknown, TTL),
            (4, Ending::Released, LEASE),
        ] {
            rig.claim(claim(number, 1)).await;
            rig.settle(number, 1, ending).await;
            assert!(is_about(rig.lives(number).await, kept), "{number}");
            rig.claim(claim(number, 2)).await;
            let until = if number == 4 { LEASE + TTL } else { kept };
            assert!(is_about(rig.lives(number).await, until), "a duplicate extends nothing: {number}");
        }
        // An unknown outcome outlives its lease, however short it is to be kept.
        rig.claim(claim(5, 1)).await;
        let short = Duration::from_secs(1);
        rig.caller.settle(5, 1, &Ending::Unknown, short).await;
        assert!(is_about(rig.lives(5).await, LEASE) && rig.lives(5).await > short);
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_counts_as_none_before_it_is_swept() {
    on_both(expired_counts_as_none).await;
}

async fn expired_counts_as_none(rig: Rig) {
    let endings = [None, Some(completed(b"body")), Some(Ending::NotKept(200)), Some(Ending::Unknown)];
    for (number, ending) in (1..).zip(endings.into_iter().chain([Some(Ending::Released)])) {
        rig.claim(claim(number, 1)).await;
        if let Some(ending) = &ending {
            rig.settle(number, 1, ending.clone()).await;
        }
        rig.expire(number).await;
        let row = rig.row(number).await;
        assert_eq!(rig.standing(number).await, None);
        assert_eq!(rig.renew(number, 1).await, Renewed::Fenced);
        assert!(!rig.amend(number, 1, b'i', &Ending::Released, true).await);
        assert!(!rig.amend(number, 1, b'u', &Ending::Released, true).await);
        assert_eq!(rig.row(number).await, row, "nothing changes it");
        // Not even the mark of a release is left for its own claim.
        let next = if ending == Some(Ending::Released) { claim(number, 1) } else { other(number, 2) };
        assert_eq!(rig.claim(next).await, Claimed::Granted);
        // It lives anew.
        assert!(is_about(rig.lives(number).await, LEASE + TTL));
        assert!(!matches!(rig.claim(claim(number, 4)).await, Claimed::Granted));
        assert!(matches!(rig.standing(number).await, Some(Standing::InFlight { .. })));
    }
    // An owner is believed, as where the row is gone.
    rig.claim(claim(9, 1)).await;
    rig.expire(9).await;
    assert_eq!(rig.settle(9, 2, Ending::Unknown).await, Settled::Unknown);
    assert!(is_about(rig.lives(9).await, TTL));
    assert_eq!(rig.claim(retries(9, 4)).await, Claimed::Granted, "no lease is left of the other's");
}

#[tokio::test]
async fn the_lease_begins_when_the_claim_is_granted_by_the_clock_of_postgres() {
    on_both(lease_begins_when_granted).await;
}

/// The claim waits for a row that another transaction has locked, for longer than its whole lease.
async fn lease_begins_when_granted(rig: Rig) {
    rig.claim(claim(1, 1)).await;
    rig.settle(1, 1, Ending::Released).await;
    let held = format!("BEGIN; SELECT FROM {}.records FOR UPDATE", rig.caller.schema);
    rig.admin.batch_execute(&held).await.unwrap();
    let waiting = rig.another().await;
    let short = Duration::from_millis(50);
    let claimed = tokio::spawn(async move { waiting.claim(&Claim { lease: short, ..claim(1, 2) }).await });
    rig.waits_for_a_lock(1).await;
    let released = rig.admin.query_one("SELECT clock_timestamp()::text FROM pg_sleep(0.2)", &[]).await.unwrap();
    rig.admin.batch_execute("COMMIT").await.unwrap();
    assert_eq!(claimed.await.unwrap(), Some(Claimed::Granted));
    let is_whole =
        format!("SELECT lease_until >= $1::text::timestamptz + interval '50 ms' FROM {}.records", rig.caller.schema);
    let row = rig.admin.query_one(&is_whole, &[&released.get::<_, String>(0)]).await.unwrap();
    assert!(row.get::<_, bool>(0), "{:?}", rig.row(1).await);
}

impl Rig {
    /// Until so many backends of callers wait for somebody's lock.
    async fn waits_for_a_lock(&self, backends: i64) {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'envoy' AND wait_event_type = 'Lock'";
        bench::patiently("a claim that waits", async {
            while self.server.number(query).await < backends {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn who_waited_for_a_claim_learns_what_stands_against_its_own() {
    on_both(the_loser_learns_why).await;
}

/// A claim that is not committed yet: who comes next looks, sees nothing, and has to look again.
async fn the_loser_learns_why(rig: Rig) {
    let first = rig.another().await;
    first.client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(first.claim(&claim(1, 1)).await, Some(Claimed::Granted));
    let second = rig.another().await;
    let met = tokio::spawn(async move { second.claim(&claim(1, 2)).await });
    rig.waits_for_a_lock(1).await;
    first.client.batch_execute("COMMIT").await.unwrap();
    let met = met.await.unwrap();
    assert!(matches!(met, Some(Claimed::InFlight { lease_left, .. }) if is_about(lease_left, LEASE)), "{met:?}");

    // The same owner on another connection, whose first claim is lost with its backend.
    let first = rig.another().await;
    first.client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(first.claim(&claim(2, 1)).await, Some(Claimed::Granted));
    let second = rig.another().await;
    let again = tokio::spawn(async move { second.claim(&claim(2, 1)).await });
    rig.waits_for_a_lock(1).await;
    drop(first);
    assert_eq!(again.await.unwrap(), Some(Claimed::Granted));
}

#[tokio::test]
async fn what_changes_nothing_writes_nothing() {
    on_both(|rig| async move {
        let wrote = async |call: &str| -> bool {
            let query = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL";
            rig.caller.client.batch_execute(&format!("BEGIN; SELECT * FROM idemgate.{call}")).await.unwrap();
            let wrote = rig.caller.client.query_one(query, &[]).await.unwrap().get(0);
            rig.caller.client.batch_execute("COMMIT").await.unwrap();
            wrote
        };
        let operation = format!("'\\x{}'", "01".repeat(32));
        let again = |owner: u8| {
            format!("claim_v1({operation}, '{}', '{operation}', 30000, 60000, false, 'i')", uuid_text(owner))
                .replace(&format!("'{operation}'"), &operation)
        };
        assert!(wrote(&again(1)).await, "a claim that is granted");
        assert!(!wrote(&again(2)).await, "a duplicate");
        rig.settle(1, 1, completed(b"body")).await;
        assert!(!wrote(&again(2)).await, "a replay");
        assert!(!wrote(&format!("look_v1({operation}, 10)")).await);
        assert!(!wrote("about_v1()").await);
        assert!(!wrote(&format!("renew_v1({operation}, '{}', 30000, 60000)", uuid_text(1))).await, "nothing to renew");
    })
    .await;
}

fn uuid_text(owner: u8) -> String {
    format!("00000000-0000-0000-0000-0000000000{owner:02x}")
}

// === operators ===

#[tokio::test]
async fn an_operator_sees_each_state() {
    on_both(|rig| async move {
        assert_eq!(rig.standing(1).await, None);
        rig.claim(claim(1, 1)).await;
        assert_eq!(rig.standing(1).await.map(timeless_standing), Some(IN_FLIGHT));
        assert!(is_about(millis_left(&rig.caller.look(1).await.unwrap()), LEASE));
        assert!(is_about(rig.lives(1).await, LEASE + TTL));
        rig.lapse(1).await;
        assert_eq!(rig.standing(1).await, Some(Standing::Lapsed));

        let large = vec![b'x'; 20_000];
        rig.settle(1, 1, completed(&large)).await;
        let seen = rig.caller.look(1).await.unwrap();
        assert_eq!((seen.get("bytes"), seen.get::<_, Vec<u8>>("beginning").len()), (20_001_i64, 100));
        assert_eq!(seen.get::<_, Uuid>("owner").0, Owner::new(1));
        for (number, ending, expected) in [
            (2, Ending::NotKept(418), Some(Standing::NotKept { status: 418 })),
            (3, Ending::Unknown, Some(UNKNOWN)),
            (4, Ending::Released, None),
        ] {
            rig.claim(claim(number, 1)).await;
            rig.settle(number, 1, ending).await;
            let row = rig.row(number).await;
            assert_eq!(rig.standing(number).await.map(timeless_standing), expected);
            assert_eq!(rig.row(number).await, row, "looking changes nothing");
        }
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_gave_back_runs_anew_and_its_late_owner_is_fenced() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        assert!(!rig.amend(1, 1, b'i', &Ending::Released, false).await, "its owner lives");
        assert!(!rig.amend(1, 2, b'i', &Ending::Released, true).await, "another's");
        assert!(!rig.amend(1, 1, b'u', &Ending::Released, true).await, "another state than was judged");
        assert_eq!(rig.standing(1).await.map(timeless_standing), Some(IN_FLIGHT));
        assert!(rig.amend(1, 1, b'i', &Ending::Released, true).await);
        let changed = rig.row(1).await;
        assert!(rig.amend(1, 1, b'i', &Ending::Released, true).await, "the reply was lost");
        assert_eq!(rig.row(1).await, changed, "and nothing changed again");
        assert_eq!(rig.standing(1).await, None);
        assert!(is_about(rig.lives(1).await, Duration::from_hours(24)), "however late its owner ends");

        // Before another owner comes, and after.
        assert_eq!(rig.renew(1, 1).await, Renewed::Fenced);
        assert_eq!(rig.settle(1, 1, completed(b"late")).await, Settled::Fenced);
        assert_eq!(rig.settle(1, 1, Ending::Unknown).await, Settled::Fenced);
        assert_eq!(rig.caller.claim(&claim(1, 1)).await, None, "nor is a late copy of its claim granted");
        assert_eq!(rig.claim(claim(1, 2)).await, Claimed::Granted);
        assert!(!rig.amend(1, 1, b'i', &Ending::Released, true).await, "what began since is not what was meant");
        assert_eq!(rig.settle(1, 1, completed(b"late")).await, Settled::Fenced);
        assert_eq!(rig.settle(1, 2, completed(b"body")).await, Settled::Completed);
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_amends_ends_when_it_would_have_ended() {
    on_both(|rig| async move {
        let kept = Duration::from_hours(25);
        for (number, ending) in [(1, Ending::Released), (2, Ending::NotKept(201))] {
            rig.claim(claim(number, 1)).await;
            rig.settle(number, 1, Ending::Unknown).await;
            rig.touch(number, "UPDATE records SET expires = clock_timestamp() + interval '25 h' WHERE operation = $1")
                .await;
            assert!(rig.amend(number, 1, b'u', &ending, false).await);
            // What was to be kept for longer than a mark at least is, stays for as long.
            assert!(is_about(rig.lives(number).await, kept));
        }
        assert_eq!(rig.claim(claim(1, 2)).await, Claimed::Granted);
        assert_eq!(rig.claim(claim(2, 2)).await, Claimed::NotKept { status: 201 });
        assert_eq!(rig.settle(2, 1, completed(b"late")).await, Settled::Fenced);
    })
    .await;
}

#[tokio::test]
async fn operators_are_shown_what_has_not_come_to_its_end_with_the_oldest_lease_first() {
    on_both(|rig| async move {
        for number in 1..=6 {
            rig.claim(claim(number, 1)).await;
        }
        rig.settle(1, 1, completed(b"body")).await;
        rig.settle(2, 1, Ending::Released).await;
        rig.settle(3, 1, Ending::NotKept(200)).await;
        rig.settle(4, 1, Ending::Unknown).await;
        rig.lapse(5).await;
        rig.expire(6).await;
        rig.claim(claim(7, 1)).await;
        let list = async |most: i32| {
            let rows = rig.caller.rows("unfinished_v1($1)", &[&most]).await;
            let seen = |row: &Row| (row.get::<_, Vec<u8>>("operation")[0], row.get::<_, i8>("state") as u8);
            rows.iter().map(seen).collect::<Vec<_>>()
        };
        assert_eq!(list(10).await, [(5, b'i'), (4, b'u'), (7, b'i')]);
        assert_eq!(list(2).await, [(5, b'i'), (4, b'u')]);
    })
    .await;
}

// === the sweeper ===

#[tokio::test]
async fn one_sweeps_at_a_time_and_only_what_has_expired() {
    on_both(|rig| async move {
        for number in 1..=9 {
            rig.claim(claim(number, 1)).await;
        }
        for number in 1..=7 {
            rig.expire(number).await;
        }
        assert!(rig.caller.about().await.get::<_, i64>("unswept") > 0);
        // A claim holds this one, and takes it back to life.
        let claimer = rig.another().await;
        claimer.client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(claimer.claim(&claim(7, 2)).await, Some(Claimed::Granted));

        let sweeping = rig.another().await;
        sweeping.client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(sweeping.sweep(4).await, 4);
        assert_eq!(rig.caller.sweep(4).await, -1, "another sweeps");
        sweeping.client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(rig.caller.sweep(4).await, 2, "what is locked is left");
        claimer.client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(rig.caller.sweep(4).await, 0);
        assert_eq!(rig.caller.about().await.get::<_, i64>("unswept"), 0);
        for number in 7..=9 {
            assert!(matches!(rig.claim(claim(number, 5)).await, Claimed::InFlight { .. }));
        }
        assert_eq!(rig.server.records().await, 3);
    })
    .await;
}

#[tokio::test]
async fn many_who_sweep_at_once_and_many_who_claim_meanwhile_grant_each_key_once() {
    on_both(|rig| async move {
        const CALLERS: u128 = 12;

        for number in 1..=60 {
            rig.claim(claim(number, 99)).await;
            rig.expire(number).await;
        }
        let mut callers = JoinSet::new();
        for owner in 1..=CALLERS {
            let caller = rig.another().await;
            callers.spawn(async move {
                let mut granted = Vec::new();
                for number in 1..=60 {
                    caller.sweep(5).await;
                    if caller.claim(&claim(number, owner)).await.expect("an answer") == Claimed::Granted {
                        granted.push(number);
                    }
                }
                granted
            });
        }
        let mut granted = callers.join_all().await.concat();
        granted.sort_unstable();
        assert_eq!(granted, (1..=60).collect::<Vec<_>>());
    })
    .await;
}

// === races ===

/// What a race is about.
#[derive(Clone, Copy, Debug)]
enum Ground {
    New,
    Expired,
    LeaseOver,
    Released,
}

#[tokio::test]
async fn of_many_claims_at_once_one_is_granted_whatever_was_there() {
    on_both(race).await;
}

async fn race(rig: Rig) {
    const RACERS: u128 = 16;
    const KEYS: u8 = 100;

    for ground in [Ground::New, Ground::Expired, Ground::LeaseOver, Ground::Released] {
        let _ = rig.admin.batch_execute(&format!("TRUNCATE {}.records", rig.caller.schema)).await;
        for number in 1..=KEYS {
            match ground {
                Ground::New => continue,
                Ground::Expired | Ground::LeaseOver => _ = rig.claim(claim(number, 99)).await,
                Ground::Released => _ = rig.settle(number, 99, Ending::Released).await,
            }
        }
        let past = match ground {
            Ground::Expired => "expires",
            Ground::LeaseOver => "lease_until",
            Ground::New | Ground::Released => "owner = owner, lease_until",
        };
        let past = format!("UPDATE {}.records SET {past} = '2000-01-01'", rig.caller.schema);
        rig.admin.batch_execute(&past).await.unwrap();

        let at_once = Arc::new(Barrier::new(RACERS as usize));
        let mut racers = JoinSet::new();
        for owner in 1..=RACERS {
            let (caller, at_once) = (rig.another().await, at_once.clone());
            racers.spawn(async move {
                let mut granted = Vec::new();
                for number in 1..=KEYS {
                    at_once.wait().await;
                    // All ask for the same, also the third owner.
                    let claim = Claim { fingerprint: fingerprint(1), ..retries(number, owner + 100) };
                    match caller.claim(&claim).await.expect("an answer to a claim") {
                        Claimed::Granted => granted.push(number),
                        Claimed::InFlight { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
                granted
            });
        }
        let mut granted = racers.join_all().await.concat();
        granted.sort_unstable();
        assert_eq!(granted, (1..=KEYS).collect::<Vec<_>>(), "{ground:?}");
    }
}

// === what the rules would be without one of their conditions ===

struct Mutation {
    before: &'static str,
    after: &'static str,
}

/// Fails unless `test` fails of the functions with this mutation.
async fn is_found_out<F>(before: &'static str, after: &'static str, test: impl Fn(Rig) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mutant = Rig::mutant(Release::Debian, &Mutation { before, after }).await;
    let outcome = tokio::spawn(test(mutant)).await;
    assert!(outcome.is_err_and(|error| error.is_panic()), "nobody misses {before:?}");
}

#[tokio::test]
async fn a_claim_that_gives_an_expired_row_no_new_life_is_found_out() {
    let expires = "            lease_until = clock_timestamp() + lease * interval '1 ms',
            expires = clock_timestamp() + keep * interval '1 ms'
        WHERE";
    let without = "            lease_until = clock_timestamp() + lease * interval '1 ms'
        WHERE";
    is_found_out(expires, without, expired_counts_as_none).await;
}

#[tokio::test]
async fn a_clock_that_stands_still_while_a_claim_waits_is_found_out() {
    is_found_out("clock_timestamp()", "now()", lease_begins_when_granted).await;
}

#[tokio::test]
async fn a_mark_that_holds_nobody_is_found_out() {
    is_found_out("(b.state = 'r' AND b.owner <> me)", "(b.state = 'r')", given_back_is_free_for_others).await;
}

#[tokio::test]
async fn a_claim_that_looks_once_is_found_out() {
    is_found_out("attempt IN 1..3", "attempt IN 1..1", the_loser_learns_why).await;
}

#[tokio::test]
async fn a_claim_that_looks_and_then_takes_whatever_is_there_is_found_out() {
    const CONDITIONS: &str = "
        WHERE b.expires <= clock_timestamp()
            OR (b.state = 'i' AND b.owner = me)
            OR (b.state = 'r' AND b.owner <> me)
            OR (retry AND b.state IN ('i', 'u') AND b.lease_until <= clock_timestamp() AND b.owner <> me
                AND b.fingerprint = fp);";
    is_found_out(CONDITIONS, ";", the_loser_learns_why).await;
    is_found_out(CONDITIONS, ";", race).await;
}

// === the schema and its rights ===

#[tokio::test]
async fn a_role_with_execute_alone_reaches_the_functions_and_nothing_else() {
    on_both(|rig| async move {
        for statement in [
            "SELECT * FROM idemgate.records",
            "INSERT INTO idemgate.records VALUES ('', 'i', gen_random_uuid(), '', now(), now(), '')",
            "UPDATE idemgate.records SET expires = now()",
            "DELETE FROM idemgate.records",
            "TRUNCATE idemgate.records",
            "CREATE TABLE idemgate.other ()",
            "DROP FUNCTION idemgate.about_v1()",
        ] {
            let refused = rig.caller.client.batch_execute(statement).await.expect_err(statement);
            assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {refused:?}");
        }
        // Nor is the owner of the functions led to a table of this role's making.
        rig.claim(claim(1, 1)).await;
        let trap = "CREATE TEMPORARY TABLE records (LIKE pg_class); SET search_path = pg_temp";
        rig.caller.client.batch_execute(trap).await.unwrap();
        assert!(matches!(rig.claim(claim(1, 2)).await, Claimed::InFlight { .. }));
        assert!(rig.standing(1).await.is_some());
        assert_eq!(rig.caller.about().await.get::<_, &str>("forbidden"), "");

        rig.server.sql("CREATE ROLE nobody LOGIN PASSWORD 's3cret'").await;
        let nobody = Caller { client: rig.server.connect("nobody", "s3cret", "idemgate").await, schema: "idemgate" };
        let call = "SELECT idemgate.sweep_v1(1)";
        for grant in [None, Some("GRANT USAGE ON SCHEMA idemgate TO nobody")] {
            if let Some(grant) = grant {
                rig.server.sql(grant).await;
            }
            let refused = nobody.client.batch_execute(call).await.expect_err(call);
            assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{grant:?}: {refused:?}");
        }
        rig.server.sql("GRANT EXECUTE ON FUNCTION idemgate.about_v1, idemgate.sweep_v1 TO nobody").await;
        nobody.client.batch_execute(call).await.unwrap();
        let forbidden = "amend_v1,claim_v1,look_v1,renew_v1,settle_v1,unfinished_v1";
        assert_eq!(nobody.about().await.get::<_, &str>("forbidden"), forbidden);
    })
    .await;
}

#[tokio::test]
async fn the_schema_applied_again_changes_nothing_and_shadow_mode_has_one_of_its_own() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        rig.settle(1, 1, completed(b"body")).await;
        let row = rig.row(1).await;
        rig.server.sql(SCHEMA).await;
        assert_eq!(rig.row(1).await, row);
        assert!(matches!(rig.claim(claim(1, 2)).await, Claimed::Completed { .. }), "the rights are still there");

        let shadow = Caller { client: rig.server.client().await, schema: "idemgate_shadow" };
        assert_eq!(shadow.claim(&claim(1, 2)).await, Some(Claimed::Granted));
        assert_eq!(rig.row(1).await, row);
    })
    .await;
}

#[tokio::test]
async fn a_row_that_no_rule_makes_is_not_taken_in() {
    on_both(|rig| async move {
        rig.claim(claim(1, 1)).await;
        for wrong in [
            "state = 'x'",
            "state = 'r'",
            "sealed = ''",
            "operation = 'short'",
            "fingerprint = 'short'",
            "expires = NULL",
        ] {
            let statement = format!("UPDATE idemgate.records SET {wrong}");
            let refused = rig.admin.batch_execute(&statement).await.expect_err(wrong);
            let is_check =
                [&SqlState::CHECK_VIOLATION, &SqlState::NOT_NULL_VIOLATION].contains(&refused.code().unwrap());
            assert!(is_check, "{wrong}: {refused:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_check_up_is_told_what_it_asks_for() {
    let about = async |server: &PostgresServer| {
        let caller = Caller { client: server.client().await, schema: "idemgate" };
        caller.about().await
    };
    for release in Release::BOTH {
        let server = PostgresServer::with(release, &["fsync=off"]).await;
        let told = about(&server).await;
        assert_eq!(told.get::<_, i32>("version"), 1);
        assert!(told.get::<_, i32>("server") >= 130_000);
        assert_eq!(told.get::<_, i64>("statement_timeout"), 9_000);
        assert_eq!(told.get::<_, &str>("isolation"), "read committed");
        assert_eq!(told.get::<_, &str>("synchronous_commit"), "on");
        let flags = ["is_standby", "fsync", "is_logged"].map(|flag| told.get::<_, bool>(flag));
        assert_eq!(flags, [false, false, true]);
        assert!(told.get::<_, i64>("bytes") > 0);

        server
            .sql(
                "ALTER ROLE envoy RESET statement_timeout; ALTER ROLE envoy SET synchronous_commit = off;
                 ALTER ROLE envoy SET default_transaction_isolation = 'serializable';
                 ALTER TABLE idemgate.records SET UNLOGGED",
            )
            .await;
        let told = about(&server).await;
        assert_eq!(told.get::<_, i64>("statement_timeout"), 0);
        assert_eq!(told.get::<_, &str>("isolation"), "serializable");
        assert_eq!(told.get::<_, &str>("synchronous_commit"), "off");
        assert!(!told.get::<_, bool>("is_logged"));
    }
}

#[tokio::test]
async fn a_standby_takes_no_claim_and_has_every_record_once_it_is_promoted() {
    let primary = PostgresServer::start().await;
    let standby = primary.standby().await;
    let standing_by = Caller { client: standby.client().await, schema: "idemgate" };
    assert!(standing_by.about().await.get::<_, bool>("is_standby"));
    let refused = standing_by.client.batch_execute("SELECT idemgate.sweep_v1(1)").await.expect_err("it is read only");
    assert_eq!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{refused:?}");

    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    primary.sql("SELECT pg_reload_conf()").await;
    let mut rig = Rig::on(primary, "idemgate").await;
    rig.claim(claim(1, 1)).await;
    rig.settle(1, 1, completed(b"body")).await;
    rig.server.kill();
    standby.promote().await;
    assert!(matches!(standing_by.claim(&claim(1, 2)).await, Some(Claimed::Completed { .. })));
    assert_eq!(standing_by.claim(&claim(2, 2)).await, Some(Claimed::Granted));
}

#[tokio::test]
async fn what_was_granted_is_there_after_a_crash() {
    for release in Release::BOTH {
        let mut rig = Rig::on(PostgresServer::with(release, &["fsync=on"]).await, "idemgate").await;
        for number in 1..=10 {
            assert_eq!(rig.claim(claim(number, 1)).await, Claimed::Granted);
        }
        rig.server.kill();
        rig.server.restart().await;
        let caller = Caller { client: rig.server.client().await, schema: "idemgate" };
        for number in 1..=10 {
            let met = caller.claim(&claim(number, 2)).await;
            assert!(matches!(met, Some(Claimed::InFlight { .. })), "{number}: {met:?}");
        }
    }
}

// === the store's own questions and answers ===

/// A connection that carries the store's own bytes, to a server that asks for no password.
struct Wire {
    store: PostgresStore,
    stream: TcpStream,
}

impl Wire {
    async fn to(server: &PostgresServer) -> Self {
        server.ask_for_password("trust").await;
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(bench::PATIENCE)).unwrap();
        let config = PostgresConfig::new("postgres".to_owned(), "idemgate".to_owned(), "envoy".to_owned());
        let mut wire = Self { store: PostgresStore::new(config), stream };
        let parameters = b"\0\x03\0\0user\0envoy\0database\0idemgate\0\0";
        wire.asked(&[(parameters.len() as u32 + 4).to_be_bytes().as_slice(), parameters].concat());
        wire
    }

    /// All that the server says until it is ready for more.
    fn asked(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.stream.write_all(bytes).unwrap();
        let mut said = Vec::new();
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).unwrap();
            let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
            self.stream.read_exact(&mut body).unwrap();
            said.extend_from_slice(&head);
            said.append(&mut body);
            if head[0] == b'Z' {
                return said;
            }
        }
    }

    /// What the only attempt leads to.
    fn attempt(&mut self, call: &Call) -> Progress {
        let mut inquiry = self.store.inquire(call, wrong_clock()).expect("a call that can be made");
        let reply = self.asked(inquiry.ask(wrong_clock()).0);
        inquiry.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock())
    }

    fn answer(&mut self, call: &Call) -> Answer {
        match self.attempt(call) {
            Progress::Answered(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, claim: Claim) -> Claimed {
        let Answer::Claimed(claimed) = self.answer(&Call::Claim(claim)) else { panic!("no answer to a claim") };
        claimed
    }

    fn settle(&mut self, number: u8, owner: u128, ending: Ending) -> Settled {
        let Answer::Settled(ended) = self.answer(&settles(number, owner, ending)) else { panic!("not settled") };
        ended.settled
    }

    /// What an operator is told.
    fn review(&mut self, number: u8, amendment: Option<Amendment>) -> Reviewed {
        let mut review = self.store.review(operation(number), amendment);
        loop {
            let reply = self.asked(review.ask(wrong_clock()).0);
            if let Some(reviewed) = review.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock())
            {
                return reviewed;
            }
        }
    }
}

/// Runs the property for many sequences of steps, each with a table of its own.
fn for_many_steps(property: impl Fn(&mut Wire, &Runtime, &Rig, Vec<Step>) -> Result<(), TestCaseError>) {
    let runtime = Runtime::new().unwrap();
    let rig = runtime.block_on(Rig::start(Release::Debian));
    let wire = RefCell::new(runtime.block_on(Wire::to(&rig.server)));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(150) });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(rig.admin.batch_execute("DELETE FROM idemgate.records")).unwrap();
        property(&mut wire.borrow_mut(), &runtime, &rig, steps)
    });
    outcome.unwrap();
    // Within the runtime, which its connections need.
    runtime.block_on(async { drop(rig) });
}

#[test]
fn postgres_says_what_the_rules_of_a_record_say() {
    let now = wrong_clock();
    for_many_steps(|wire, runtime, rig, steps| {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Claim { number, owner, retry_unknown } => {
                    let claim = Claim { retry_unknown, ..claim(number, owner) };
                    let said = timeless(wire.claim(claim.clone()));
                    match model.claim(number, &claim, now) {
                        Some(rule) => prop_assert_eq!(said, rule),
                        None => prop_assert!(matches!(said, Claimed::Failed(_)), "a void claim: {:?}", said),
                    }
                }
                Step::Renew { number, owner } => {
                    let rule = model.renew(number, Owner::new(owner), now);
                    prop_assert_eq!(wire.answer(&renews(number, owner, LEASE)), Answer::Renewed(rule));
                }
                Step::Settle { number, owner, ending } => {
                    let rule = model.settle(number, owner, &ending, now);
                    prop_assert_eq!(wire.settle(number, owner, ending), rule);
                }
                Step::Amend { number, amendment } => {
                    let told = match wire.review(number, Some(amendment)) {
                        Reviewed::Amended(Amended::Done { .. }) => Some(Ok(())),
                        Reviewed::Amended(Amended::NoRecord) => None,
                        Reviewed::Amended(Amended::Refused(Conflict::Alive { .. })) => Some(Err(LIVE)),
                        Reviewed::Amended(Amended::Refused(conflict)) => Some(Err(conflict)),
                        other => panic!("{other:?}"),
                    };
                    let rule = model.amend(number, amendment, now).map(|rule| {
                        rule.map_err(|conflict| match conflict {
                            Conflict::Alive { .. } => LIVE,
                            other => other,
                        })
                    });
                    prop_assert_eq!(told, rule);
                }
                Step::Lapse { number } => {
                    runtime.block_on(rig.lapse(number));
                    model.lapse(number, now);
                }
            }
            for number in 1..3 {
                let Reviewed::Seen(seen) = wire.review(number, None) else { panic!("nothing is seen") };
                let rule = model.records.get(&number).map(|(record, _)| timeless_standing(record.standing(now)));
                prop_assert_eq!(seen.map(|view| timeless_standing(view.standing)), rule, "of {}", number);
            }
        }
        Ok(())
    });
}

#[test]
fn the_model_of_postgres_in_the_proofs_answers_what_postgres_does() {
    let now = 1_700_000_000_000;
    for_many_steps(|wire, runtime, rig, steps| {
        let mut model = ModelOfRedis::default();
        for step in steps {
            if let Step::Lapse { number } = step {
                runtime.block_on(rig.lapse(number));
                model.lapse(format!("idemgate:{}", format!("{number:02x}").repeat(32)).as_bytes());
                continue;
            }
            // Operators are not in the world of the proofs.
            let Some(call) = call_of(&step) else { continue };
            let said = without_times(wire.attempt(&call));
            let mut inquiry = wire.store.inquire(&call, wrong_clock()).unwrap();
            let command = Command::read(inquiry.ask(wrong_clock()).0);
            let reply = model.eval(&command, now, Omissions::default());
            let of_model = inquiry.hear(Heard::Reply { status: 200, body: &reply, ahead: None }, wrong_clock());
            prop_assert_eq!(without_times(of_model), said, "{:?}", call);
        }
        Ok(())
    });
}

#[tokio::test]
async fn a_damaged_or_copied_row_grants_nothing_and_replays_nothing() {
    let rig = Rig::start(Release::Debian).await;
    let mut wire = Wire::to(&rig.server).await;
    for ending in [completed(b"body"), Ending::NotKept(200), Ending::Unknown] {
        rig.admin.batch_execute("DELETE FROM idemgate.records").await.unwrap();
        assert_eq!(wire.claim(claim(1, 1)), Claimed::Granted);
        assert!(!matches!(wire.settle(1, 1, ending.clone()), Settled::Fenced));
        let whole = rig.row(1).await;
        for damage in [
            "sealed = substr(sealed, 1, octet_length(sealed) - 1)",
            "sealed = set_byte(sealed, 3, get_byte(sealed, 3) # 1)",
            "sealed = set_byte(sealed, octet_length(sealed) - 1, get_byte(sealed, octet_length(sealed) - 1) # 1)",
            "sealed = sealed || 'x'",
            "state = CASE state WHEN 'c' THEN 'n' ELSE 'c' END::\"char\"",
            "owner = gen_random_uuid()",
            "operation = decode(repeat('02', 32), 'hex')",
        ] {
            let changed = format!("BEGIN; UPDATE idemgate.records SET {damage}; COMMIT");
            rig.admin.batch_execute(&changed).await.unwrap();
            let number = if damage.starts_with("operation") { 2 } else { 1 };
            let met = wire.claim(retries(number, 2));
            assert!(
                matches!(met, Claimed::Failed(StoreError::Unreadable(_) | StoreError::Postgres(_))),
                "{damage}: {met:?}"
            );
            let seen = wire.review(number, Some(Amendment { verb: Verb::Purge, force: true }));
            assert!(
                matches!(seen, Reviewed::Failed { may_have_amended: false, .. }) || is_behind_what_is_shown(damage),
                "{damage}: {seen:?}"
            );
            rig.admin.batch_execute("DELETE FROM idemgate.records").await.unwrap();
            let back =
                format!("INSERT INTO idemgate.records SELECT ('{}'::idemgate.records).*", whole.as_deref().unwrap());
            rig.admin.batch_execute(&back).await.unwrap();
        }
    }
}

/// Whether an operator, who is shown the beginning of a record, does not see this.
fn is_behind_what_is_shown(damage: &str) -> bool {
    damage.contains("octet_length") || damage.contains("||")
}
