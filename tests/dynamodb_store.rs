//! The conditional writes of the DynamoDB store, call by call, against the rules of a record: on a table in memory that is also
//! part of the proofs, on dynalite, and on moto.
//!
//! No condition has a time in it, so the clock of the server is the tests' own: it is what the `Date` of replies says.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests: an assumption that does not hold must fail the test"
)]

mod rules;
#[path = "dynamodb/server.rs"]
mod server;
#[path = "dynamodb/table.rs"]
mod table;

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, Barrier, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use idemgate::{
    config::{DynamoDbConfig, IntegrityConfig},
    record::{Amendment, Claim, Owner, Standing, StoredResponse, Verb},
    request::Fingerprint,
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError,
        dialect::Heard,
        dynamodb::{DynamoDbError, DynamoDbStore, ahead},
        inquiry::{Inquiry, Progress},
        remote::RemoteStore as _,
        review::Reviewed,
    },
    time::Timestamp,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use rules::{
    LEASE, Rules, Step, TTL, claim, completed, operation, renews, response, settles, steps, timeless, wrong_clock,
};
use server::{DynamoDbServer, Program, Response, send};
use table::{Attribute, Table};

/// What is asked.
enum Server {
    Memory(RefCell<Table>),
    Process(Arc<DynamoDbServer>),
}

/// A store and its server, with a clock that stands still unless it is moved.
struct Bed {
    server: Server,
    /// Whether it leaves out the item in a refusal.
    hides_items: bool,
    store: DynamoDbStore,
    table: String,
    clock: Cell<u64>,
    calls: Cell<usize>,
}

const EPOCH: u64 = 1_700_000_000_000;

impl Bed {
    fn new(server: Server, hides_items: bool, table: &str) -> Self {
        let store = DynamoDbStore::new(DynamoDbConfig::new("aws".to_owned(), table.to_owned()));
        Self { server, hides_items, store, table: table.to_owned(), clock: Cell::new(EPOCH), calls: Cell::new(0) }
    }

    fn in_memory(hides_items: bool) -> Self {
        let table = Table { hides_items, ..Table::default() };
        Self::new(Server::Memory(RefCell::new(table)), hides_items, "idemgate")
    }

    /// With a table of its own.
    fn on(program: Program) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let table = format!("table-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bed = Self::at(program, &table);
        let Server::Process(server) = &bed.server else { panic!("it is a process") };
        server.create_table(&table, "k", "B");
        bed
    }

    fn at(program: Program, table: &str) -> Self {
        Self::new(Server::Process(running(program)), program == Program::Dynalite, table)
    }

    /// A reply of the server's, whose `Date` has whole seconds.
    fn send(&self, bytes: &[u8]) -> Response {
        self.calls.set(self.calls.get() + 1);
        let (fields, body) = self.store.call(bytes);
        let (_, target) = fields.iter().find(|(name, _)| *name == "x-amz-target").expect("a target");
        let response = match &self.server {
            Server::Memory(table) => {
                let (status, body) = table.borrow_mut().call(target, body);
                Response { status, date: Vec::new(), body }
            }
            Server::Process(server) => send(server.address, target, body, true).unwrap(),
        };
        let date = std::time::UNIX_EPOCH + Duration::from_millis(self.clock.get());
        Response { date: httpdate::fmt_http_date(date).into_bytes(), ..response }
    }

    /// One call of an Envoy whose clock says `now`.
    fn step(&self, inquiry: &mut Inquiry, now: Timestamp) -> Progress {
        let Response { status, date, body } = self.send(inquiry.ask(now).0);
        inquiry.hear(Heard::Reply { status, body: &body, ahead: ahead(&date, now) }, now)
    }

    /// What it is answered in the end.
    fn finish(&self, mut inquiry: Inquiry, now: Timestamp) -> Answer {
        loop {
            match self.step(&mut inquiry, now) {
                Progress::Answered(answer) => return answer,
                Progress::Anew => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask_at(&self, call: &Call, now: Timestamp) -> Answer {
        self.finish(self.store.inquire(call, now).expect("a call that can be made"), now)
    }

    /// The same of an Envoy with a clock that is right but for this.
    fn ask_skewed(&self, call: &Call, skew: i64) -> Answer {
        self.ask_at(call, Timestamp::from_millis(self.clock.get().checked_add_signed(skew).unwrap()))
    }

    fn ask(&self, call: &Call) -> Answer {
        self.ask_skewed(call, 0)
    }

    fn claim(&self, claim: Claim) -> Claimed {
        self.claim_skewed(claim, 0)
    }

    fn claim_skewed(&self, claim: Claim, skew: i64) -> Claimed {
        let Answer::Claimed(claimed) = self.ask_skewed(&Call::Claim(claim), skew) else { panic!("no claim") };
        claimed
    }

    fn settle(&self, number: u8, owner: u128, ending: Ending) -> Settled {
        let Answer::Settled(settlement) = self.ask(&settles(number, owner, ending)) else { panic!("no settlement") };
        settlement.settled
    }

    fn renew(&self, number: u8, owner: u128) -> Renewed {
        let Answer::Renewed(renewed) = self.ask(&renews(number, owner, LEASE)) else { panic!("no renewal") };
        renewed
    }

    fn review_at(&self, number: u8, amendment: Option<Amendment>, now: Timestamp) -> Reviewed {
        let mut review = self.store.review(operation(number), amendment);
        loop {
            let Response { status, date, body } = self.send(review.ask(now).0);
            if let Some(reviewed) = review.hear(Heard::Reply { status, body: &body, ahead: ahead(&date, now) }, now) {
                return reviewed;
            }
        }
    }

    fn standing(&self, number: u8) -> Option<Standing> {
        match self.review_at(number, None, Timestamp::from_millis(self.clock.get())) {
            Reviewed::Seen(view) => view.map(|view| view.standing),
            other => panic!("{other:?}"),
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.set(self.clock.get() + u64::try_from(time.as_millis()).unwrap());
    }

    fn item(&self, number: u8) -> Option<Value> {
        let body = json!({"TableName": self.table, "Key": key(number), "ConsistentRead": true});
        let found = match &self.server {
            Server::Memory(table) => {
                let (_, body) = table.borrow_mut().call("DynamoDB_20120810.GetItem", body.to_string().as_bytes());
                serde_json::from_slice(&body).unwrap()
            }
            Server::Process(server) => server.call("GetItem", &body),
        };
        found.get("Item").cloned()
    }

    /// Makes an attribute of an item something else.
    fn overwrite(&self, number: u8, name: &str, value: &Value) {
        let Server::Process(server) = &self.server else { panic!("on a server only") };
        let reply = server.call(
            "UpdateItem",
            &json!({
                "TableName": self.table,
                "Key": key(number),
                "UpdateExpression": format!("SET {name} = :value"),
                "ExpressionAttributeValues": {":value": value},
            }),
        );
        assert_eq!(reply.get("__type"), None, "{reply}");
    }

    /// How many calls something takes.
    fn calls_of(&self, what: impl FnOnce()) -> usize {
        let before = self.calls.get();
        what();
        self.calls.get() - before
    }
}

fn key(number: u8) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    json!({"k": {"B": STANDARD.encode([number; 32])}})
}

impl Rules for Bed {
    fn ask(&mut self, call: &Call) -> Answer {
        // A clock that is wrong by decades.
        self.ask_at(call, wrong_clock())
    }

    fn review(&mut self, number: u8, amendment: Option<Amendment>) -> Reviewed {
        self.review_at(number, amendment, wrong_clock())
    }

    fn lapse(&mut self, number: u8) {
        match &self.server {
            Server::Memory(table) => {
                if let Some(item) = table.borrow_mut().items.get_mut([number; 32].as_slice()) {
                    item.insert("l".to_owned(), Attribute::Number(1));
                }
            }
            Server::Process(_) => {
                if self.item(number).is_some() {
                    self.overwrite(number, "l", &json!({"N": "1"}));
                }
            }
        }
    }
}

fn retries(number: u8, owner: u128) -> Claim {
    Claim { retry_unknown: true, ..claim(number, owner) }
}

/// The one that is shared by all tests that run at the moment; each has tables of its own there.
fn running(program: Program) -> Arc<DynamoDbServer> {
    static DYNALITE: Mutex<Weak<DynamoDbServer>> = Mutex::new(Weak::new());
    static MOTO: Mutex<Weak<DynamoDbServer>> = Mutex::new(Weak::new());

    let shared = match program {
        Program::Dynalite => &DYNALITE,
        Program::Moto => &MOTO,
    };
    let mut shared = shared.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(DynamoDbServer::with(program, None));
        *shared = Arc::downgrade(&server);
        server
    })
}

/// Runs a test on each server; it makes its beds there.
fn on_each(test: impl Fn(&dyn Fn() -> Bed)) {
    test(&|| Bed::in_memory(false));
    test(&|| Bed::in_memory(true));
    on_processes(|program| test(&|| Bed::on(program)));
}

/// What is asked one after the other only: moto is not atomic.
fn on_processes(test: impl Fn(Program)) {
    for program in [Program::Dynalite, Program::Moto] {
        let _runs = running(program);
        test(program);
    }
}

/// How many random lists of steps; moto is slow.
fn cases(program: Program) -> u32 {
    match program {
        Program::Dynalite => 60,
        Program::Moto => 6,
    }
}

#[test]
fn dynamodb_says_what_the_rules_of_a_record_say() {
    rules::hold(400, || Bed::in_memory(false));
    rules::hold(100, || Bed::in_memory(true));
    on_processes(|program| rules::hold(cases(program), || Bed::on(program)));
}

#[test]
fn the_table_in_the_proofs_answers_and_keeps_what_the_servers_do() {
    on_processes(answers_and_keeps_the_same);
}

fn answers_and_keeps_the_same(program: Program) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases(program))
    });
    let outcome = runner.run(&steps(), |steps| {
        let mut real = Bed::on(program);
        let mut modelled = Bed::in_memory(real.hides_items);
        // The same requests, but for the table.
        modelled.store = DynamoDbStore::new(DynamoDbConfig::new("aws".to_owned(), real.table.clone()));
        for step in steps {
            let call = match step {
                Step::Claim { number, owner, retry_unknown } => {
                    Call::Claim(Claim { retry_unknown, ..claim(number, owner) })
                }
                Step::Renew { number, owner } => renews(number, owner, LEASE),
                Step::Settle { number, owner, ending } => settles(number, owner, ending),
                Step::Lapse { number } => {
                    real.lapse(number);
                    modelled.lapse(number);
                    continue;
                }
                Step::Amend { number, amendment } => {
                    let now = wrong_clock();
                    let told = real.review_at(number, Some(amendment), now);
                    prop_assert_eq!(modelled.review_at(number, Some(amendment), now), told);
                    continue;
                }
            };
            prop_assert_eq!(modelled.ask_at(&call, wrong_clock()), real.ask_at(&call, wrong_clock()));
            for number in 1..3 {
                prop_assert_eq!(modelled.item(number), real.item(number), "{:?}", &call);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn an_execution_takes_two_calls_and_everything_else_one() {
    on_each(|new| {
        let bed = new();
        let refused = if bed.hides_items { 2 } else { 1 };
        assert_eq!(bed.calls_of(|| assert_eq!(bed.claim(claim(1, 1)), Claimed::Granted)), 1);
        assert_eq!(bed.calls_of(|| drop(bed.claim(claim(1, 2)))), refused, "in flight");
        assert_eq!(bed.calls_of(|| assert_eq!(bed.renew(1, 1), Renewed::Extended)), 1);
        assert_eq!(bed.calls_of(|| assert_eq!(bed.settle(1, 1, completed(b"x")), Settled::Completed)), 1);
        assert_eq!(bed.calls_of(|| drop(bed.claim(claim(1, 2)))), refused, "replayed");
        let reused = Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..claim(1, 2) };
        assert_eq!(bed.calls_of(|| assert_eq!(bed.claim(reused), Claimed::KeyReused)), refused);
    });
}

#[test]
fn what_has_expired_counts_as_gone_whether_or_not_it_was_deleted() {
    on_each(|new| {
        let bed = new();
        bed.claim(claim(1, 1));
        bed.settle(1, 1, completed(b"x"));
        bed.pass(TTL - Duration::from_secs(1));
        assert!(matches!(bed.claim(claim(1, 2)), Claimed::Completed { .. }));
        bed.pass(Duration::from_secs(1));
        assert_eq!(bed.standing(1), None);
        assert_eq!(bed.claim(claim(1, 2)), Claimed::Granted);
        assert_eq!(bed.settle(1, 1, completed(b"late")), Settled::Fenced);
        // That one dies, and its record expires; then the first owner comes back, whose word is the truest there is.
        bed.pass(LEASE + TTL);
        assert_eq!(bed.settle(1, 1, completed(b"late")), Settled::Completed);
        let Claimed::Completed { response: replayed, .. } = bed.claim(claim(1, 4)) else { panic!("no replay") };
        assert_eq!(*replayed, response(b"late"));
    });
}

#[test]
fn each_state_is_kept_as_long_as_it_says() {
    on_each(|new| {
        let bed = new();
        let kept = |number: u8| {
            let item = bed.item(number).unwrap();
            let expires: u64 = item["e"]["N"].as_str().unwrap().parse().unwrap();
            Duration::from_secs(expires - EPOCH / 1000)
        };
        bed.claim(claim(1, 1));
        assert_eq!(kept(1), LEASE + TTL);
        bed.settle(1, 1, Ending::Unknown);
        assert_eq!(kept(1), LEASE + TTL, "no shorter than the lease");
        for (number, ending, time) in
            [(2, completed(b"x"), TTL), (3, Ending::NotKept(418), TTL), (4, Ending::Released, LEASE)]
        {
            bed.claim(claim(number, 1));
            bed.settle(number, 1, ending);
            assert_eq!(kept(number), time);
        }
    });
}

#[test]
fn no_clock_of_a_caller_takes_over_from_an_owner_that_is_alive() {
    on_each(|new| {
        for skew in [-100_000_000, -31_000, -3_000, 0, 3_000, 29_000, 31_000, 700_000, 100_000_000] {
            let bed = new();
            assert_eq!(bed.claim(claim(1, 1)), Claimed::Granted);
            bed.pass(LEASE - Duration::from_secs(1));
            let met = bed.claim_skewed(retries(1, 2), skew);
            assert!(matches!(met, Claimed::InFlight { lease_left, .. } if !lease_left.is_zero()), "{skew}: {met:?}");
            assert!(matches!(bed.renew(1, 1), Renewed::Extended));
            bed.pass(LEASE - Duration::from_secs(1));
            assert!(matches!(bed.claim_skewed(retries(1, 2), skew), Claimed::InFlight { .. }), "{skew}, renewed");
            // And when its lease is over, by the server's clock, anybody does.
            bed.pass(Duration::from_secs(4));
            assert_eq!(bed.claim_skewed(retries(1, 2), skew), Claimed::Granted, "{skew}");
        }
    });
}

#[test]
fn the_lease_of_an_owner_with_a_wrong_clock_is_as_long_as_any() {
    on_each(|new| {
        for skew in [-100_000_000, -31_000, 31_000, 100_000_000] {
            let bed = new();
            assert_eq!(bed.calls_of(|| assert_eq!(bed.claim_skewed(claim(1, 1), skew), Claimed::Granted)), 2, "{skew}");
            bed.pass(LEASE - Duration::from_secs(2));
            assert!(matches!(bed.claim(retries(1, 2)), Claimed::InFlight { .. }), "{skew}");
            bed.pass(Duration::from_secs(4));
            assert_eq!(bed.claim(retries(1, 2)), Claimed::Granted, "{skew}");
        }
        let bed = new();
        for skew in [-1_000, 0, 2_000] {
            assert_eq!(bed.calls_of(|| drop(bed.claim_skewed(claim(1, 1), skew))), 1, "{skew} is near enough");
        }
    });
}

#[test]
fn no_word_of_an_owner_whose_clock_is_wrong_shortens_what_it_has_not_even_for_a_moment_or_when_it_is_late() {
    const WRONG: i64 = -100_000_000;
    on_each(|new| {
        for (call, word) in [
            (Call::Claim(claim(1, 1)), Answer::Claimed(Claimed::Granted)),
            (renews(1, 1, LEASE), Answer::Renewed(Renewed::Extended)),
            (settles(1, 1, completed(b"x")), Answer::Settled(Settled::Completed.into())),
            (settles(1, 1, Ending::NotKept(418)), Answer::Settled(Settled::NotKept.into())),
        ] {
            let bed = new();
            assert_eq!(bed.claim_skewed(claim(1, 1), WRONG), Claimed::Granted);
            let is_theirs = |when: &str| {
                let met = bed.claim(retries(1, 2));
                assert!(!matches!(met, Claimed::Granted | Claimed::Failed(_)), "{call:?} {when}: {met:?}");
            };
            bed.pass(Duration::from_secs(1));
            let now = Timestamp::from_millis(bed.clock.get().checked_add_signed(WRONG).unwrap());
            let mut inquiry = bed.store.inquire(&call, now).unwrap();
            let first = inquiry.ask(now).0.to_vec();
            bed.send(&first);
            is_theirs("before it is set right");
            assert_eq!(bed.ask_skewed(&call, WRONG), word, "{call:?}");
            is_theirs("then");
            bed.send(&first);
            is_theirs("when it comes once more");
        }
    });
}

#[test]
fn a_renewal_that_comes_late_takes_nothing_back() {
    on_each(|new| {
        let bed = new();
        bed.claim(claim(1, 1));
        let now = Timestamp::from_millis(EPOCH);
        let renewal = bed.store.inquire(&renews(1, 1, LEASE), now).unwrap().ask(now).0.to_vec();
        bed.pass(LEASE - Duration::from_secs(1));
        assert_eq!(bed.renew(1, 1), Renewed::Extended);
        bed.pass(Duration::from_secs(4));
        bed.send(&renewal);
        assert!(matches!(bed.claim(retries(1, 2)), Claimed::InFlight { .. }), "its lease begins with the last renewal");
    });
}

#[test]
fn an_owner_whose_clock_is_set_back_keeps_what_it_has_and_one_that_has_lost_it_is_told() {
    on_each(|new| {
        let bed = new();
        bed.claim(claim(1, 1));
        let Answer::Renewed(renewed) = bed.ask_skewed(&renews(1, 1, LEASE), -3_600_000) else { panic!("no renewal") };
        assert_eq!(renewed, Renewed::Extended);
        let Answer::Renewed(renewed) = bed.ask_skewed(&renews(1, 2, LEASE), -3_600_000) else { panic!("no renewal") };
        assert_eq!(renewed, Renewed::Fenced, "another owner");
        let Answer::Renewed(renewed) = bed.ask_skewed(&renews(2, 1, LEASE), 0) else { panic!("no renewal") };
        assert_eq!(renewed, Renewed::Fenced, "nothing is there");
        bed.settle(1, 1, Ending::Unknown);
        assert_eq!(bed.renew(1, 1), Renewed::Fenced, "it is settled");
    });
}

#[test]
fn a_claim_that_is_taken_over_while_its_times_are_set_right_is_not_granted() {
    on_each(|new| {
        let bed = new();
        let now = Timestamp::from_millis(EPOCH - 100_000_000);
        let mut slow = bed.store.inquire(&Call::Claim(retries(1, 1)), now).unwrap();
        assert_eq!(bed.step(&mut slow, now), Progress::Anew);
        assert_eq!(bed.claim(retries(1, 2)), Claimed::Granted, "its lease seems to be over");
        let told = bed.finish(slow, now);
        assert!(matches!(told, Answer::Claimed(Claimed::InFlight { .. })), "{told:?}");
    });
}

#[test]
fn what_changes_while_it_is_judged_is_judged_anew() {
    on_each(|new| {
        let bed = new();
        bed.claim(claim(1, 1));
        // Somebody finds that the lease is over, and something happens before its claim.
        let judged = |owner| {
            bed.pass(LEASE + Duration::from_secs(3));
            let now = Timestamp::from_millis(bed.clock.get());
            let mut inquiry = bed.store.inquire(&Call::Claim(retries(1, owner)), now).unwrap();
            if bed.hides_items {
                assert_eq!(bed.step(&mut inquiry, now), Progress::Anew, "it has to look first");
            }
            assert_eq!(bed.step(&mut inquiry, now), Progress::Anew, "the lease is over");
            (inquiry, now)
        };
        let (second, now) = judged(2);
        assert_eq!(bed.renew(1, 1), Renewed::Extended, "its owner is not dead");
        let told = bed.finish(second, now);
        assert!(matches!(told, Answer::Claimed(Claimed::InFlight { .. })), "{told:?}");

        let (third, now) = judged(4);
        assert_eq!(bed.claim(retries(1, 2)), Claimed::Granted);
        let told = bed.finish(third, now);
        assert!(matches!(told, Answer::Claimed(Claimed::InFlight { .. })), "{told:?}");
    });
}

#[test]
fn what_is_given_back_or_settled_between_a_refusal_and_the_look_at_it_is_judged_as_it_is_then() {
    for new in [|| Bed::in_memory(true), || Bed::on(Program::Dynalite)] {
        for (ending, granted) in [(Ending::Released, true), (completed(b"x"), false), (Ending::Unknown, false)] {
            let bed = new();
            bed.claim(claim(1, 1));
            let now = Timestamp::from_millis(EPOCH);
            let mut second = bed.store.inquire(&Call::Claim(claim(1, 2)), now).unwrap();
            assert_eq!(bed.step(&mut second, now), Progress::Anew, "what is in the way was not shown");
            bed.settle(1, 1, ending.clone());
            match bed.finish(second, now) {
                Answer::Claimed(Claimed::Granted) => assert!(granted, "{ending:?}"),
                Answer::Claimed(Claimed::Completed { .. } | Claimed::Unknown { .. }) => assert!(!granted, "{ending:?}"),
                told => panic!("{ending:?}: {told:?}"),
            }
        }
    }
}

#[test]
fn a_claim_asked_again_is_the_same_and_a_late_one_of_what_was_given_back_is_void() {
    on_each(|new| {
        let bed = new();
        assert_eq!(bed.claim(claim(1, 1)), Claimed::Granted);
        assert_eq!(bed.claim(claim(1, 1)), Claimed::Granted, "its reply was lost");
        assert_eq!(bed.settle(1, 1, Ending::Released), Settled::Released);
        assert_eq!(bed.settle(1, 1, Ending::Released), Settled::Released);
        assert!(matches!(bed.claim(claim(1, 1)), Claimed::Failed(_)));
        assert_eq!(bed.settle(2, 1, Ending::Released), Settled::Released, "before its claim has come");
        assert!(matches!(bed.claim(claim(2, 1)), Claimed::Failed(_)));
        assert_eq!(bed.claim(claim(2, 2)), Claimed::Granted);
    });
}

#[test]
fn of_many_claims_at_once_one_is_granted_whatever_was_there() {
    const RACERS: u128 = 16;
    let bed = Bed::on(Program::Dynalite);
    let lapsed = |number| {
        bed.claim(claim(number, 1));
        bed.overwrite(number, "l", &json!({"N": "1"}));
    };
    for round in 0..10_u8 {
        let number = |kind: u8| 1 + round * 4 + kind;
        lapsed(number(1));
        bed.claim(claim(number(2), 1));
        bed.settle(number(2), 1, Ending::Released);
        bed.claim(claim(number(3), 1));
        bed.settle(number(3), 1, completed(b"x"));
        bed.overwrite(number(3), "e", &json!({"N": "1"}));
        for kind in 0..4 {
            let barrier = Barrier::new(usize::try_from(RACERS).unwrap());
            let granted: usize = thread::scope(|scope| {
                let racers: Vec<_> = (0..RACERS)
                    .map(|racer| {
                        let (barrier, table) = (&barrier, bed.table.as_str());
                        scope.spawn(move || {
                            let bed = Bed::at(Program::Dynalite, table);
                            barrier.wait();
                            // Not the third owner of the rules, which asks for something else.
                            usize::from(bed.claim(retries(number(kind), 10 + racer)) == Claimed::Granted)
                        })
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().unwrap()).sum()
            });
            assert_eq!(granted, 1, "round {round}, {}", ["new", "lapsed", "released", "expired"][usize::from(kind)]);
        }
    }
}

#[test]
fn a_damaged_or_foreign_item_grants_nothing_and_replays_nothing() {
    on_processes(|program| {
        let bed = Bed::on(program);
        bed.claim(claim(1, 1));
        bed.settle(1, 1, completed(b"body"));
        let original = bed.item(1).unwrap();
        let others =
            [json!({"S": "x"}), json!({"N": "17"}), json!({"B": "AAAA"}), json!({"B": ""}), json!({"NULL": true})];
        for name in ["s", "o", "f", "l", "e", "b"] {
            for other in &others {
                // Numbers are the rules' own, and say no more than how long.
                if ["l", "e"].contains(&name) && other.get("N").is_some() {
                    continue;
                }
                bed.overwrite(1, name, other);
                let met = bed.claim(retries(1, 2));
                assert!(
                    matches!(
                        met,
                        Claimed::Failed(StoreError::DynamoDb(DynamoDbError::Foreign | DynamoDbError::Unreadable(_)))
                            | Claimed::KeyReused
                    ),
                    "{name} {other}: {met:?}"
                );
                bed.overwrite(1, name, &original[name]);
            }
        }
        for state in ["i", "u", "n", "r"] {
            bed.overwrite(1, "s", &json!({"S": state}));
            let met = bed.claim(claim(1, 2));
            assert!(
                matches!(met, Claimed::Failed(StoreError::DynamoDb(DynamoDbError::Unreadable(_)))),
                "{state}: {met:?}"
            );
        }
        bed.overwrite(1, "s", &original["s"]);
        assert!(matches!(bed.claim(claim(1, 2)), Claimed::Completed { .. }));
    });
}

#[test]
fn with_a_key_no_other_record_is_replayed() {
    let table = RefCell::new(Table::default());
    let keyed = |table, key: &str| {
        let mut config = DynamoDbConfig::new("aws".to_owned(), "idemgate".to_owned());
        config.integrity = IntegrityConfig { keys: vec![key.to_owned()], ..IntegrityConfig::default() };
        Bed { store: DynamoDbStore::new(config), ..Bed::new(Server::Memory(table), false, "idemgate") }
    };
    let ours = keyed(table, "a key of thirty-two bytes, no less");
    ours.claim(claim(1, 1));
    ours.settle(1, 1, completed(b"x"));
    assert!(matches!(ours.claim(claim(1, 2)), Claimed::Completed { .. }));
    let Server::Memory(table) = ours.server else { panic!("in memory") };
    let theirs = keyed(table, "another key of thirty-two bytes, too");
    let met = theirs.claim(claim(1, 2));
    assert!(matches!(met, Claimed::Failed(StoreError::DynamoDb(DynamoDbError::Unreadable(_)))), "{met:?}");
}

#[test]
fn records_of_shadow_mode_are_others() {
    on_each(|new| {
        let bed = new();
        bed.claim(claim(1, 1));
        let config = DynamoDbConfig { is_shadow: true, ..DynamoDbConfig::new("aws".to_owned(), bed.table.clone()) };
        let bed = Bed { store: DynamoDbStore::new(config), ..bed };
        assert_eq!(bed.claim(claim(1, 2)), Claimed::Granted);
    });
}

#[test]
fn the_largest_record_that_can_be_configured_fits_into_an_item() {
    const LARGEST: u64 = 395 << 10;
    on_processes(|program| {
        let key = "a key of thirty-two bytes, no less".to_owned();
        let bed = Bed::on(program);
        let mut config = DynamoDbConfig::new("aws".to_owned(), bed.table.clone());
        config.integrity = IntegrityConfig { keys: vec![key], ..IntegrityConfig::default() };
        config.max_record = LARGEST;
        let bed = Bed { store: DynamoDbStore::new(config), ..bed };
        let size = |body: usize| {
            let response = StoredResponse { body: vec![b'x'; body], ..response(b"") };
            response.encode(&operation(1), Owner::new(1)).unwrap().len() as u64
        };
        let mut body = usize::try_from(LARGEST).unwrap();
        while size(body) > LARGEST {
            body -= 1;
        }
        assert_eq!(size(body), LARGEST);
        for (number, body, settled) in [(1, body, Settled::Completed), (2, body + 1, Settled::NotKept)] {
            bed.claim(claim(number, 1));
            assert_eq!(bed.settle(number, 1, completed(&vec![b'x'; body])), settled);
            let met = timeless(bed.claim(claim(number, 2)));
            match settled {
                Settled::Completed => {
                    let Claimed::Completed { response, .. } = met else { panic!("{met:?}") };
                    assert_eq!(response.body.len(), body);
                }
                _ => assert_eq!(met, Claimed::NotKept { status: 201 }),
            }
        }
    });
}

#[test]
fn a_record_that_is_too_large_for_an_item_has_an_error_of_its_own() {
    on_processes(|program| {
        let bed = Bed::on(program);
        let mut config = DynamoDbConfig::new("aws".to_owned(), bed.table.clone());
        config.max_record = 1 << 20;
        let bed = Bed { store: DynamoDbStore::new(config), ..bed };
        bed.claim(claim(1, 1));
        let now = Timestamp::from_millis(EPOCH);
        let mut settling = bed.store.inquire(&settles(1, 1, completed(&[b'x'; 410 << 10])), now).unwrap();
        let error = StoreError::DynamoDb(DynamoDbError::TooLarge);
        assert_eq!(bed.step(&mut settling, now), Progress::Later(error));
    });
}

#[test]
fn what_is_wrong_with_the_set_up_has_an_error_of_its_own() {
    on_processes(|program| {
        let server = running(program);
        server.create_table("other-name", "id", "B");
        server.create_table("other-type", "k", "S");
        for (table, error) in [
            ("absent", DynamoDbError::NoTable),
            ("other-name", DynamoDbError::WrongKey),
            ("other-type", DynamoDbError::WrongKey),
        ] {
            let bed = Bed::at(program, table);
            let failed = Claimed::Failed(StoreError::DynamoDb(error));
            assert_eq!(bed.claim(claim(1, 1)), failed, "{table}");
            let Response { status, date, body } = bed.send(&bed.store.checkup());
            let heard = Heard::Reply { status, body: &body, ahead: ahead(&date, Timestamp::from_millis(EPOCH)) };
            let findings: Vec<String> = bed.store.findings(heard).iter().map(ToString::to_string).collect();
            assert_eq!(findings, [error.to_string()], "{table}");
            // moto looks for bytes among texts, and finds nothing.
            if program == Program::Dynalite || table != "other-type" {
                let looked = bed.review_at(1, None, Timestamp::from_millis(EPOCH));
                let error = StoreError::DynamoDb(error);
                assert_eq!(looked, Reviewed::Failed { error, may_have_amended: false }, "{table}");
            }
        }
        let bed = Bed::on(program);
        let Response { status, date, body } = bed.send(&bed.store.checkup());
        let heard = |now| Heard::Reply { status, body: &body, ahead: ahead(&date, now) };
        let now = Timestamp::from_millis(EPOCH);
        assert_eq!(bed.store.findings(heard(now)), []);
        assert!(!bed.store.holdings(heard(now)).unwrap().figures.is_empty());
        let findings = bed.store.findings(heard(now.after(Duration::from_secs(60))));
        assert!(
            matches!(&findings[..], [finding] if finding.to_string().contains("differs from DynamoDB's by 60000 ms"))
        );

        let mut inquiry = bed.store.inquire(&Call::Claim(claim(1, 1)), now).unwrap();
        let (fields, body) = bed.store.call(inquiry.ask(now).0);
        let target = fields.iter().find(|(name, _)| *name == "x-amz-target").unwrap().1;
        let Response { status, body, .. } = send(server.address, target, body, false).unwrap();
        let unsigned = inquiry.hear(Heard::Reply { status, body: &body, ahead: None }, now);
        let expected = match program {
            Program::Dynalite => {
                let failed = Claimed::Failed(StoreError::DynamoDb(DynamoDbError::Unsigned));
                Progress::Answered(Answer::Claimed(failed))
            }
            // A page of another service, with 200.
            Program::Moto => Progress::Again(StoreError::DynamoDb(DynamoDbError::Malformed)),
        };
        assert_eq!(unsigned, expected);
    });
}

#[test]
fn an_operator_sees_changes_and_fences() {
    on_each(|new| {
        let bed = new();
        let amend = |number, verb, force| {
            let now = Timestamp::from_millis(bed.clock.get());
            bed.review_at(number, Some(Amendment { verb, force }), now)
        };
        bed.claim(claim(1, 1));
        assert!(matches!(bed.standing(1), Some(Standing::InFlight { .. })));
        assert!(matches!(amend(1, Verb::Release, false), Reviewed::Amended(idemgate::record::Amended::Refused(_))));
        bed.pass(LEASE + Duration::from_secs(3));
        assert_eq!(bed.standing(1), Some(Standing::Lapsed));
        assert!(matches!(amend(1, Verb::Release, false), Reviewed::Amended(idemgate::record::Amended::Done { .. })));
        assert_eq!(bed.standing(1), None);
        assert_eq!(bed.settle(1, 1, completed(b"late")), Settled::Fenced);
        bed.pass(TTL);
        assert_eq!(bed.settle(1, 1, completed(b"late")), Settled::Fenced, "the mark lives on");
        assert_eq!(bed.claim(claim(1, 2)), Claimed::Granted);
    });
}
