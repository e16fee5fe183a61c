//! Random sequences of calls, against a simple model of the contract and against the invariants.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{fixture::*, memory::Host, model::Model};
use crate::{
    config::{ENTRY_BYTES, OnFull, Share, SharedDataConfig},
    record::{Amended, Amendment, Claim, Phase, StoredResponse, Verb},
    request::{Caller, Fingerprint},
    store::{Claimed, Ending, Renewed, Settled},
    time::Timestamp,
};

#[derive(Clone, Debug)]
enum Step {
    /// By an operator.
    Amend {
        number: u32,
        amendment: Amendment,
    },
    Claim {
        number: u32,
        fingerprint: u8,
        retry_unknown: bool,
    },
    Renew {
        number: u32,
        owner: Pick,
    },
    Settle {
        number: u32,
        owner: Pick,
        ending: Say,
    },
    /// Time goes on by this number of milliseconds, or back.
    Wait(i64),
    Sweep,
}

/// Which of those that ever got a claim on the operation speaks: mostly the last.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Last,
    Nth(prop::sample::Index),
}

#[derive(Clone, Copy, Debug)]
enum Say {
    Completed(usize),
    NotKept,
    Released,
    Unknown,
}

impl Say {
    fn ending(self, owner: u128) -> Ending {
        match self {
            Self::Completed(size) => Ending::Completed(response(owner, size)),
            Self::NotKept => Ending::NotKept(418),
            Self::Released => Ending::Released,
            Self::Unknown => Ending::Unknown,
        }
    }
}

fn steps(operations: u32, waits: impl Strategy<Value = i64> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let number = 0..operations;
    let pick = prop_oneof![3 => Just(Pick::Last), 1 => any::<prop::sample::Index>().prop_map(Pick::Nth)];
    let say = prop_oneof![
        4 => (0_usize..800).prop_map(Say::Completed),
        1 => Just(Say::NotKept),
        1 => Just(Say::Released),
        1 => Just(Say::Unknown),
    ];
    let verb = prop_oneof![Just(Verb::Release), Just(Verb::Purge), Just(Verb::NotKept { status: 201 })];
    let step = prop_oneof![
        2 => (number.clone(), verb, any::<bool>())
            .prop_map(|(number, verb, force)| Step::Amend { number, amendment: Amendment { verb, force } }),
        8 => (number.clone(), prop_oneof![9 => Just(1), 1 => Just(2)], any::<bool>())
            .prop_map(|(number, fingerprint, retry_unknown)| Step::Claim { number, fingerprint, retry_unknown }),
        2 => (number.clone(), pick.clone()).prop_map(|(number, owner)| Step::Renew { number, owner }),
        5 => (number, pick, say).prop_map(|(number, owner, ending)| Step::Settle { number, owner, ending }),
        3 => waits.prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..80)
}

/// Waits that meet the edges of leases and retention periods.
fn forward() -> impl Strategy<Value = i64> {
    let lease = LEASE.as_millis() as i64;
    let ttl = TTL.as_millis() as i64;
    prop_oneof![0..lease, Just(lease), Just(lease - 1), Just(lease / 2), Just(ttl), Just(ttl - 1), 0..2 * ttl]
}

fn any_way() -> impl Strategy<Value = i64> {
    prop_oneof![4 => forward(), 1 => -100_000_i64..0]
}

fn moved(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_add_signed(millis))
}

/// Everyone who ever got a claim.
#[derive(Debug, Default)]
struct Owners {
    granted: BTreeMap<u32, Vec<u128>>,
    next: u128,
}

impl Owners {
    fn fresh(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    fn pick(&self, number: u32, pick: Pick) -> u128 {
        match (self.granted.get(&number), pick) {
            (None, _) => 0,
            (Some(owners), Pick::Last) => *owners.last().unwrap(),
            (Some(owners), Pick::Nth(index)) => *index.get(owners),
        }
    }
}

fn claim_step(number: u32, owner: u128, fingerprint: u8, retry_unknown: bool) -> Claim {
    Claim { fingerprint: Fingerprint::from_bytes([fingerprint; 32]), retry_unknown, ..claim(number, owner) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_table_that_never_fills_answers_as_the_contract_says(steps in steps(6, forward())) {
        let host = Host::default();
        let workers = [open(&host, ROOMY), open(&host, ROOMY)];
        let (mut model, mut owners, mut now) = (Model::default(), Owners::default(), NOW);

        for (at, step) in steps.into_iter().enumerate() {
            let store = &workers[at % workers.len()];
            model.forget_ended(now, |number| store.knows(number));
            match step {
                Step::Amend { number, amendment } => {
                    let told = match store.amend(&operation(number), amendment, now).unwrap() {
                        Amended::Done { .. } => Ok(()),
                        Amended::NoRecord => Err(None),
                        Amended::Refused(objection) => Err(Some(objection)),
                    };
                    prop_assert_eq!(told, model.amend(number, amendment, now));
                }
                Step::Claim { number, fingerprint, retry_unknown } => {
                    let owner = owners.fresh();
                    let claimed = store.run(claim_step(number, owner, fingerprint, retry_unknown), now);
                    prop_assert_eq!(&claimed, &model.claim(number, owner, fingerprint, retry_unknown, now));
                    if claimed == Claimed::Granted {
                        owners.granted.entry(number).or_default().push(owner);
                    }
                }
                Step::Renew { number, owner } => {
                    let owner = owners.pick(number, owner);
                    prop_assert_eq!(store.renew_at(number, owner, now), model.renew(number, owner, now));
                }
                Step::Settle { number, owner, ending } => {
                    let owner = owners.pick(number, owner);
                    let ending = ending.ending(owner);
                    let settled = store.settle_at(number, owner, ending.clone(), now);
                    prop_assert_eq!(settled, model.settle(number, owner, ending, now));
                }
                Step::Wait(millis) => now = moved(now, millis),
                Step::Sweep => {
                    store.sweep_at(1, now);
                }
            }
        }
        workers[0].check(&host);
    }

    #[test]
    fn a_tiny_table_keeps_its_bounds_its_live_claims_and_its_word(
        steps in steps(12, any_way()),
        max_entries in 1_u32..8,
        spare_bytes in 0_u64..3000,
        on_full in prop_oneof![3 => Just(OnFull::EvictOldest), 1 => Just(OnFull::Reject)],
        keep_at_least in prop_oneof![Just(Duration::ZERO), Just(LEASE), Just(TTL * 2)],
        share in prop_oneof![Just(Share::WHOLE), Just(Share::percent(1)), Just(Share::percent(40))],
    ) {
        let max_bytes = ENTRY_BYTES * u64::from(max_entries / 2 + 1) + spare_bytes;
        let limits = SharedDataConfig { max_entries, max_bytes, on_full, keep_at_least };
        let host = Host::default();
        let store = open(&host, limits);
        let (mut owners, mut now) = (Owners::default(), NOW);
        // Who runs what under which lease, and what was last stored, for all that the clients know.
        let mut running = BTreeMap::<u32, (u128, Timestamp)>::new();
        let mut stored = BTreeMap::<u32, StoredResponse>::new();
        // Which operations are not to run again before when: what ran, or may have run.
        let mut kept = BTreeMap::<u32, Timestamp>::new();

        for step in steps {
            match step {
                Step::Amend { number, amendment } => {
                    if let Amended::Done { .. } = store.amend(&operation(number), amendment, now).unwrap() {
                        // Its owner is fenced from now on.
                        running.remove(&number);
                        stored.remove(&number);
                        kept.remove(&number);
                    }
                }
                Step::Claim { number, fingerprint, retry_unknown } => {
                    let owner = owners.fresh();
                    let caller = Caller::from_bytes([(number % 3) as u8; 32]);
                    let claim = claim_step(number, owner, fingerprint, retry_unknown);
                    match store.run(Claim { caller, share, ..claim }, now) {
                        Claimed::Granted => {
                            let before = running.insert(number, (owner, now.after(LEASE)));
                            let live = before.filter(|(_, lease_until)| *lease_until > now);
                            prop_assert_eq!(live, None, "a second execution of {}", number);
                            let kept = kept.remove(&number).filter(|until| *until > now);
                            prop_assert_eq!(kept, None, "{} is forgotten", number);
                            stored.remove(&number);
                            owners.granted.entry(number).or_default().push(owner);
                        }
                        Claimed::Completed { response, .. } => {
                            prop_assert_eq!(Some(&*response), stored.get(&number));
                        }
                        Claimed::Failed(error) => prop_assert!(false, "{}", error),
                        _ => {}
                    }
                }
                Step::Renew { number, owner } => {
                    let owner = owners.pick(number, owner);
                    if store.renew_at(number, owner, now) == Renewed::Extended {
                        prop_assert_eq!(running.get(&number).map(|(owner, _)| *owner), Some(owner));
                        running.insert(number, (owner, now.after(LEASE)));
                    }
                }
                Step::Settle { number, owner, ending } => {
                    let owner = owners.pick(number, owner);
                    let ending = ending.ending(owner);
                    let settled = store.settle_at(number, owner, ending.clone(), now);
                    prop_assert!(!matches!(settled, Settled::Failed(_)), "{:?}", settled);
                    if settled != Settled::Fenced {
                        prop_assert_eq!(running.remove(&number).map(|(owner, _)| owner), Some(owner));
                    }
                    let time = if on_full == OnFull::EvictOldest { keep_at_least.min(TTL) } else { TTL };
                    if matches!(settled, Settled::Completed | Settled::NotKept) && !time.is_zero() {
                        kept.insert(number, now.after(time));
                    }
                    if let (Settled::Completed, Ending::Completed(response)) = (settled, ending) {
                        stored.insert(number, response);
                    }
                }
                Step::Wait(millis) => {
                    now = moved(now, millis);
                    kept.retain(|_, until| *until > now);
                    // What has lapsed once may be gone, even if the clock steps back before that.
                    for (_, lease_until) in running.values_mut().filter(|(_, lease_until)| *lease_until <= now) {
                        *lease_until = Timestamp::default();
                    }
                }
                Step::Sweep => {
                    store.sweep_at(1, now);
                }
            }
            for (number, (_, lease_until)) in &running {
                if *lease_until > now {
                    let phase = store.phase_of(*number);
                    prop_assert!(matches!(phase, Some(Phase::InFlight { .. })), "{:?} of {}", phase, number);
                }
            }
            let totals = store.totals().unwrap();
            prop_assert!(totals.entries <= u64::from(max_entries) && totals.bytes <= max_bytes, "{:?}", totals);
            store.check(&host);
        }
    }
}
