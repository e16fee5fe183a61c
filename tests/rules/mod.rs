//! What every remote store is held against: the calls of three owners, and the rules of a record (`src/record/`).

#![allow(dead_code, reason = "each of the tests that share this uses a part of it")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use idemgate::{
    config::Share,
    headers::Headers,
    record::{
        Amended, Amendment, Claim, Conflict, Decision, KeptResponse, Owner, Phase, Record, Standing, StoredResponse,
        Verb,
    },
    request::{Caller, Fingerprint, OperationId},
    store::{Answer, Call, Claimed, Ending, Renewed, Settled, inquiry::Progress, review::Reviewed},
    time::Timestamp,
};
use proptest::prelude::*;

/// A store on a server.
pub(crate) trait Rules {
    /// What it answers.
    fn ask(&mut self, call: &Call) -> Answer;

    /// What an operator is told.
    fn review(&mut self, number: u8, amendment: Option<Amendment>) -> Reviewed;

    /// Lets the lease of a record run out, if there is one.
    fn lapse(&mut self, number: u8);
}

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TTL: Duration = Duration::from_secs(3600);

/// A clock of an Envoy that is wrong by years: nothing may depend on it.
pub(crate) fn wrong_clock() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

pub(crate) fn operation(number: u8) -> OperationId {
    OperationId::from_bytes([number; 32])
}

/// The third owner asks for something else.
pub(crate) fn fingerprint(owner: u128) -> Fingerprint {
    Fingerprint::from_bytes([if owner == 3 { 8 } else { 9 }; 32])
}

pub(crate) fn claim(number: u8, owner: u128) -> Claim {
    Claim {
        operation: operation(number),
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: fingerprint(owner),
        owner: Owner::new(owner),
        lease: LEASE,
        ttl: TTL,
        retry_unknown: false,
        watcher: None,
    }
}

pub(crate) fn renews(number: u8, owner: u128, lease: Duration) -> Call {
    Call::Renew { operation: operation(number), owner: Owner::new(owner), lease, ttl: TTL }
}

pub(crate) fn settles(number: u8, owner: u128, ending: Ending) -> Call {
    Call::Settle {
        operation: operation(number),
        fingerprint: fingerprint(owner),
        owner: Owner::new(owner),
        ending,
        lease: LEASE,
        ttl: TTL,
    }
}

pub(crate) fn response(body: &[u8]) -> StoredResponse {
    StoredResponse { status: 201, headers: Headers::from_iter([("etag", "1")]), body: body.to_vec() }
}

pub(crate) fn completed(body: &[u8]) -> Ending {
    Ending::Completed(response(body))
}

pub(crate) fn is_about(left: Duration, wanted: Duration) -> bool {
    left <= wanted && left + Duration::from_secs(20) > wanted
}

pub(crate) const VERBS: [Verb; 3] = [Verb::Release, Verb::Purge, Verb::NotKept { status: 200 }];

/// What one of the three owners does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An operator does this.
    Amend {
        number: u8,
        amendment: Amendment,
    },
    Claim {
        number: u8,
        owner: u128,
        retry_unknown: bool,
    },
    Renew {
        number: u8,
        owner: u128,
    },
    Settle {
        number: u8,
        owner: u128,
        ending: Ending,
    },
    /// The lease of a record runs out.
    Lapse {
        number: u8,
    },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let endings = || {
        prop_oneof![
            2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|body| completed(&body)),
            1 => Just(Ending::NotKept(418)),
            2 => Just(Ending::Released),
            2 => Just(Ending::Unknown),
        ]
    };
    let (numbers, owners) = (1_u8..3, 1_u128..4);
    prop::collection::vec(
        prop_oneof![
            5 => (numbers.clone(), owners.clone(), any::<bool>())
                .prop_map(|(number, owner, retry_unknown)| Step::Claim { number, owner, retry_unknown }),
            1 => (numbers.clone(), owners.clone()).prop_map(|(number, owner)| Step::Renew { number, owner }),
            3 => (numbers.clone(), owners, endings())
                .prop_map(|(number, owner, ending)| Step::Settle { number, owner, ending }),
            2 => numbers.clone().prop_map(|number| Step::Lapse { number }),
            2 => (numbers, prop::sample::select(VERBS.as_slice()), any::<bool>())
                .prop_map(|(number, verb, force)| Step::Amend { number, amendment: Amendment { verb, force } }),
        ],
        1..40,
    )
}

/// The rules of `Record`, with what a remote store adds to them: what is said twice is the same word, and
/// each execution has an owner of its own, so that what an owner gave back is never granted to it again.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) records: BTreeMap<u8, (Record, Option<StoredResponse>)>,
    /// Who gave an operation back last, if nobody took it since.
    marks: BTreeMap<u8, Owner>,
    words: BTreeMap<u8, (Owner, Ending, Settled)>,
}

impl Model {
    /// What is said, without how much time is left; `None` for a claim that is void.
    pub(crate) fn claim(&mut self, number: u8, claim: &Claim, now: Timestamp) -> Option<Claimed> {
        if self.marks.get(&number) == Some(&claim.owner) {
            return None;
        }
        if let Some((record, response)) = self.records.get(&number)
            && !is_claim_of(record, claim.owner)
        {
            let standing = match record.admit(claim, now) {
                Decision::KeyReused => return Some(Claimed::KeyReused),
                Decision::Refuse(standing) => Some(standing),
                Decision::Take | Decision::Watch { .. } => None,
            };
            if let Some(standing) = standing {
                return Some(match standing {
                    Standing::InFlight { .. } => Claimed::InFlight { age: Duration::ZERO, lease_left: Duration::ZERO },
                    Standing::Lapsed | Standing::Unknown { .. } => Claimed::Unknown { lease_left: Duration::ZERO },
                    Standing::Completed { .. } => {
                        Claimed::Completed { response: response.clone().unwrap().into(), expires: Timestamp::default() }
                    }
                    Standing::NotKept { status } => Claimed::NotKept { status },
                });
            }
        }
        self.marks.remove(&number);
        self.words.remove(&number);
        self.records.insert(number, (claim.granted(now), None));
        Some(Claimed::Granted)
    }

    pub(crate) fn renew(&mut self, number: u8, owner: Owner, now: Timestamp) -> Renewed {
        match self.records.get(&number).map(|(record, _)| record.renew(owner, LEASE, TTL, now)) {
            Some(Ok(record)) => {
                self.records.insert(number, (record, None));
                Renewed::Extended
            }
            _ => Renewed::Fenced,
        }
    }

    pub(crate) fn settle(&mut self, number: u8, token: u128, ending: &Ending, now: Timestamp) -> Settled {
        let owner = Owner::new(token);
        if let Some((last, word, settled)) = self.words.get(&number) {
            let is_same = *last == owner && std::mem::discriminant(word) == std::mem::discriminant(ending);
            return if is_same { *settled } else { Settled::Fenced };
        }
        let (recorded, response, settled) = match ending {
            Ending::Completed(response) => {
                let kept = KeptResponse { status: response.status, size: 0 };
                (Ending::Completed(kept), Some(response.clone()), Settled::Completed)
            }
            Ending::NotKept(status) => (Ending::NotKept(*status), None, Settled::NotKept),
            Ending::Released => (Ending::Released, None, Settled::Released),
            Ending::Unknown => (Ending::Unknown, None, Settled::Unknown),
        };
        // What was never there, the store has lost: the owner is believed, and counts as one whose lease is over.
        let lost = || Claim { lease: Duration::ZERO, ..claim(number, token) }.granted(now);
        let record = self.records.get(&number).map_or_else(lost, |(record, _)| record.clone());
        let Ok(left) = record.settle(owner, recorded, TTL, now) else { return Settled::Fenced };
        self.words.insert(number, (owner, ending.clone(), settled));
        match left {
            Some(record) => {
                self.records.insert(number, (record, response));
            }
            None => {
                self.records.remove(&number);
                self.marks.insert(number, owner);
            }
        }
        settled
    }

    /// What an operator is told; whose execution it was is fenced from then on, unless it says what is so already.
    pub(crate) fn amend(&mut self, number: u8, amendment: Amendment, now: Timestamp) -> Option<Result<(), Conflict>> {
        let (record, _) = self.records.get(&number)?;
        let (owner, left) = (record.owner, record.amended(amendment, now));
        Some(left.map(|left| {
            let word = match (amendment.verb, left) {
                (Verb::NotKept { status }, Some(left)) => {
                    self.records.insert(number, (left, None));
                    (owner, Ending::NotKept(status), Settled::NotKept)
                }
                _ => {
                    self.records.remove(&number);
                    self.marks.insert(number, owner);
                    (owner, Ending::Released, Settled::Released)
                }
            };
            self.words.insert(number, word);
        }))
    }

    pub(crate) fn lapse(&mut self, number: u8, now: Timestamp) {
        if let Some((record, _)) = self.records.get_mut(&number) {
            match &mut record.phase {
                Phase::InFlight { lease_until, .. } | Phase::Unknown { lease_until, .. } => *lease_until = now,
                _ => {}
            }
        }
    }
}

/// The time that is left of a lease is real on one side only.
pub(crate) const LIVE: Conflict = Conflict::Alive { lease_left: Duration::ZERO };

/// Whether this is the running claim of `owner`, which may be asked again.
fn is_claim_of(record: &Record, owner: Owner) -> bool {
    record.owner == owner && matches!(record.phase, Phase::InFlight { .. })
}

pub(crate) const IN_FLIGHT: Standing = Standing::InFlight { lease_left: Duration::ZERO };
pub(crate) const UNKNOWN: Standing = Standing::Unknown { lease_left: Duration::ZERO };

/// Without times, which are real on one side only.
pub(crate) fn timeless_standing(standing: Standing) -> Standing {
    match standing {
        Standing::InFlight { .. } => IN_FLIGHT,
        Standing::Unknown { .. } => UNKNOWN,
        other => other,
    }
}

/// The same of what a claim met.
pub(crate) fn timeless(claimed: Claimed) -> Claimed {
    match claimed {
        Claimed::InFlight { .. } => Claimed::InFlight { age: Duration::ZERO, lease_left: Duration::ZERO },
        Claimed::Unknown { .. } => Claimed::Unknown { lease_left: Duration::ZERO },
        Claimed::Completed { response, .. } => Claimed::Completed { response, expires: Timestamp::default() },
        other => other,
    }
}

/// The call of a step that is an owner's.
pub(crate) fn call_of(step: &Step) -> Option<Call> {
    Some(match step {
        Step::Claim { number, owner, retry_unknown } => {
            Call::Claim(Claim { retry_unknown: *retry_unknown, ..claim(*number, *owner) })
        }
        Step::Renew { number, owner } => renews(*number, *owner, LEASE),
        Step::Settle { number, owner, ending } => settles(*number, *owner, ending.clone()),
        Step::Amend { .. } | Step::Lapse { .. } => return None,
    })
}

pub(crate) fn without_times(progress: Progress) -> Progress {
    match progress {
        Progress::Answered(Answer::Claimed(claimed)) => Progress::Answered(Answer::Claimed(timeless(claimed))),
        other => other,
    }
}

/// Holds what a store answers, whatever owners and operators do, against the rules in so many cases; each begins on a server
/// without records.
pub(crate) fn hold<R: Rules>(cases: u32, server: impl FnMut() -> R) {
    let now = wrong_clock();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    });
    let server = RefCell::new(server);
    let outcome = runner.run(&steps(), |steps| {
        let mut server = (*server.borrow_mut())();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Claim { number, owner, retry_unknown } => {
                    let claim = Claim { retry_unknown, ..claim(number, owner) };
                    let Answer::Claimed(said) = server.ask(&Call::Claim(claim.clone())) else { panic!("{claim:?}") };
                    let said = timeless(said);
                    match model.claim(number, &claim, now) {
                        Some(rule) => prop_assert_eq!(said, rule),
                        None => prop_assert!(matches!(said, Claimed::Failed(_)), "a void claim: {:?}", said),
                    }
                }
                Step::Renew { number, owner } => {
                    let rule = Answer::Renewed(model.renew(number, Owner::new(owner), now));
                    prop_assert_eq!(server.ask(&renews(number, owner, LEASE)), rule);
                }
                Step::Settle { number, owner, ending } => {
                    let rule = Answer::Settled(model.settle(number, owner, &ending, now).into());
                    prop_assert_eq!(server.ask(&settles(number, owner, ending)), rule);
                }
                Step::Amend { number, amendment } => {
                    let Reviewed::Amended(amended) = server.review(number, Some(amendment)) else {
                        panic!("{amendment:?}")
                    };
                    let told = match amended {
                        Amended::Done { .. } => Some(Ok(())),
                        Amended::NoRecord => None,
                        Amended::Refused(Conflict::Alive { .. }) => Some(Err(LIVE)),
                        Amended::Refused(conflict) => Some(Err(conflict)),
                    };
                    let rule = model.amend(number, amendment, now).map(|rule| {
                        rule.map_err(|conflict| match conflict {
                            Conflict::Alive { .. } => LIVE,
                            other => other,
                        })
                    });
                    prop_assert_eq!(told, rule);
                    let Reviewed::Seen(seen) = server.review(number, None) else { panic!("nothing seen") };
                    prop_assert_eq!(
                        seen.map(|view| timeless_standing(view.standing)),
                        model.records.get(&number).map(|(record, _)| timeless_standing(record.standing(now)))
                    );
                }
                Step::Lapse { number } => {
                    server.lapse(number);
                    model.lapse(number, now);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
