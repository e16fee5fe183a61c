//! Sequences of calls on the table in shared data, against the model of the contract and against its bounds.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use idemgate::{
    config::{OnFull, Share, SharedDataConfig},
    headers::Headers,
    record::{Amended, Amendment, Claim, Owner, Standing, StoredResponse, Verb},
    request::{Caller, Fingerprint, OperationId},
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError,
        shared_data::{Cas, SharedDataStore, SharedMemory, TableScan, Written},
    },
    time::Timestamp,
};

use super::{
    Seed,
    input::Input,
    sealed::sealed,
    table_model::{LEASE, Model, TTL},
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A byte that says which world it is, and steps of four bytes each.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let world = input.byte();
    let steps = |mut input: Input<'_>| {
        let mut steps = Vec::new();
        while !input.is_empty() && steps.len() < MOST_STEPS {
            steps.push(Step::read(&mut input));
        }
        steps
    };
    match world % 4 {
        0 | 1 => check_answers(&steps(input)),
        2 => check_bounds(world >> 2, &steps(input)),
        _ => survive_damage(&mut input),
    }
}

pub fn seeds() -> Vec<Seed> {
    const CLAIM: [u8; 4] = [0, 0, 1, 1];
    const COMPLETE: [u8; 4] = [8, 0, 0, 1];
    const UNKNOWN: [u8; 4] = [8, 0, 3, 1];
    const RENEW: [u8; 4] = [6, 0, 0, 1];
    const LAPSE: [u8; 4] = [13, 0, 3, 0];
    const END: [u8; 4] = [13, 0, 5, 0];
    const PURGE: [u8; 4] = [12, 0, 5, 0];
    const SWEEP: [u8; 4] = [15, 0, 0, 0];
    let seed = |world: u8, steps: &[[u8; 4]]| [&[world], steps.concat().as_slice()].concat();
    let other = |mut step: [u8; 4], number: u8| {
        step[1] = number;
        step
    };
    let many: Vec<[u8; 4]> = (0..12).flat_map(|number| [other(CLAIM, number), other(COMPLETE, number)]).collect();
    vec![
        ("amended", seed(0, &[CLAIM, PURGE, COMPLETE, CLAIM, COMPLETE, PURGE, CLAIM])),
        ("damaged", [&[3, 2, 6], b"\x01".as_slice(), &[1; 32], &CLAIM, &COMPLETE, &CLAIM].concat()),
        ("evicted", seed(2 + 4 * 3, &many)),
        ("late", seed(0, &[CLAIM, LAPSE, CLAIM, COMPLETE, [8, 0, 0, 0], END, SWEEP, COMPLETE, CLAIM])),
        ("rejected", seed(2 + 4 * 0x22, &many)),
        ("replayed", seed(0, &[CLAIM, RENEW, COMPLETE, CLAIM, other(CLAIM, 7), END, CLAIM])),
        ("unknown", seed(0, &[CLAIM, UNKNOWN, CLAIM, LAPSE, CLAIM, RENEW, COMPLETE])),
    ]
}

/// A table that never fills answers as the contract says, whichever worker is asked.
fn check_answers(steps: &[Step]) {
    let roomy = SharedDataConfig { max_entries: 100, max_bytes: 1 << 20, ..SharedDataConfig::default() };
    let host = Host::default();
    let workers = [host.open(roomy), host.open(roomy)];
    let (mut model, mut owners, mut now) = (Model::default(), Owners::default(), NOW);
    for (at, step) in steps.iter().enumerate() {
        let store = &workers[at % workers.len()];
        match *step {
            Step::Amend { number, amendment } => {
                let told = match store.amend(&operation(number), amendment, now).expect("the host never refuses") {
                    Amended::Done { .. } => Ok(()),
                    Amended::NoRecord => Err(None),
                    Amended::Refused(objection) => Err(Some(objection)),
                };
                assert_eq!(told, model.amend(number, amendment, now), "{at}");
            }
            Step::Claim { number, fingerprint, retry_unknown } => {
                let owner = owners.fresh();
                let claimed = claim(store, number, owner, fingerprint, retry_unknown, now);
                assert_eq!(claimed, model.claim(number, owner, fingerprint, retry_unknown, now), "{at}");
                owners.note(number, owner, &claimed);
            }
            Step::Renew { number, back } => {
                let owner = owners.pick(number, back);
                let renewed = renew(store, number, owner, now);
                if renewed == Renewed::Fenced && owner == owners.pick(number, 0) {
                    // What has ended may have been reclaimed, or not: only its own owner can tell.
                    model.forget_ended(now, |other| other != number);
                }
                assert_eq!(renewed, model.renew(number, owner, now), "{at}");
            }
            Step::Settle { number, back, say } => {
                let owner = owners.pick(number, back);
                let settled = settle(store, number, owner, say.ending(owner), now);
                if settled == Settled::Fenced && owner == owners.pick(number, 0) {
                    model.forget_ended(now, |other| other != number);
                }
                assert_eq!(settled, model.settle(number, owner, say.ending(owner), now), "{at}");
            }
            Step::Sweep => drop(store.sweep(Owner::new(1), now)),
            Step::Wait(millis) => now = Timestamp::from_millis(now.as_millis() + millis),
        }
    }
}

/// A tiny table keeps its bounds, its live claims and its word.
fn check_bounds(shape: u8, steps: &[Step]) {
    let limits = SharedDataConfig {
        max_entries: u32::from(shape % 8) + 1,
        max_bytes: 400 * (u64::from(shape >> 3 & 3) + 1),
        on_full: if shape & 0x20 == 0 { OnFull::EvictOldest } else { OnFull::Reject },
        keep_at_least: if shape & 0x40 == 0 { Duration::ZERO } else { LEASE },
    };
    let host = Host::default();
    let store = host.open(limits);
    let (mut owners, mut now) = (Owners::default(), NOW);
    // Who runs what under which lease, and what was last stored, for all that the clients know.
    let mut running = BTreeMap::<u32, (u128, Timestamp)>::new();
    let mut stored = BTreeMap::<u32, StoredResponse>::new();
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Amend { number, amendment } => {
                let amended = store.amend(&operation(number), amendment, now).expect("the host never refuses");
                if let Amended::Done { .. } = amended {
                    running.remove(&number);
                    stored.remove(&number);
                }
            }
            Step::Claim { number, fingerprint, retry_unknown } => {
                let owner = owners.fresh();
                let claimed = claim(&store, number, owner, fingerprint, retry_unknown, now);
                owners.note(number, owner, &claimed);
                match claimed {
                    Claimed::Granted => {
                        let before = running.insert(number, (owner, now.after(LEASE)));
                        assert!(before.is_none_or(|(_, lease_until)| lease_until <= now), "{at}: a second execution");
                        stored.remove(&number);
                    }
                    Claimed::Completed { response, .. } => assert!(stored.get(&number) == Some(&*response), "{at}"),
                    Claimed::Failed(error) => panic!("{at}: {error}"),
                    _ => {}
                }
            }
            Step::Renew { number, back } => {
                let owner = owners.pick(number, back);
                if renew(&store, number, owner, now) == Renewed::Extended {
                    assert_eq!(running.get(&number).map(|(owner, _)| *owner), Some(owner), "{at}");
                    running.insert(number, (owner, now.after(LEASE)));
                }
            }
            Step::Settle { number, back, say } => {
                let owner = owners.pick(number, back);
                let ending = say.ending(owner);
                let settled = settle(&store, number, owner, ending.clone(), now);
                assert!(!matches!(settled, Settled::Failed(_)), "{at}: {settled:?}");
                if settled != Settled::Fenced {
                    assert_eq!(running.remove(&number).map(|(owner, _)| owner), Some(owner), "{at}");
                }
                if let (Settled::Completed, Ending::Completed(response)) = (settled, ending) {
                    stored.insert(number, response);
                }
            }
            Step::Sweep => drop(store.sweep(Owner::new(1), now)),
            Step::Wait(millis) => now = Timestamp::from_millis(now.as_millis() + millis),
        }
        for (number, _) in running.iter().filter(|(_, (_, lease_until))| *lease_until > now) {
            let view = store.look(&operation(*number), now).expect("the host never refuses");
            let standing = view.map(|view| view.standing);
            assert!(matches!(standing, Some(Standing::InFlight { .. })), "{at}: {number} is running: {standing:?}");
        }
        let totals = store.totals().expect("the host never refuses");
        assert!(
            totals.entries <= u64::from(limits.max_entries) && totals.bytes <= limits.max_bytes,
            "{at}: {totals:?}"
        );
        let mut scan = TableScan::new(None);
        while !store.scan(&mut scan, now) {}
        let seen = scan.completed + scan.in_flight + scan.not_kept + scan.unknown;
        assert!(seen <= totals.entries, "{at}: {seen} records, {totals:?}");
    }
}

/// Whatever stands in the host's memory, with a checksum that fits, nothing panics or goes on for ever: which value, how
/// long, its bytes, and steps.
fn survive_damage(input: &mut Input<'_>) {
    let limits = SharedDataConfig { max_entries: 4, max_bytes: 4096, ..SharedDataConfig::default() };
    let host = Host::default();
    let store = host.open(limits);
    for number in 0..3 {
        claim(&store, number, u128::from(number) + 1, 1, false, NOW);
        settle(&store, number, u128::from(number) + 1, Say::Completed(10).ending(1), NOW);
    }
    let (which, length) = (input.byte(), input.byte());
    host.replace(usize::from(which), &sealed(input.take(length.into())));
    let mut now = NOW;
    let store = match SharedDataStore::open(host.clone(), limits, 42) {
        Ok(store) if store.has_capacity() => store,
        _ => return,
    };
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            return;
        }
        match Step::read(input) {
            Step::Amend { number, amendment } => drop(store.amend(&operation(number), amendment, now)),
            Step::Claim { number, fingerprint, retry_unknown } => {
                drop(claim(&store, number, 9, fingerprint, retry_unknown, now));
            }
            Step::Renew { number, back } => drop(renew(&store, number, back.into(), now)),
            Step::Settle { number, back, say } => drop(settle(&store, number, back.into(), say.ending(1), now)),
            Step::Sweep => drop(store.sweep(Owner::new(1), now)),
            Step::Wait(millis) => now = Timestamp::from_millis(now.as_millis().saturating_add(millis)),
        }
    }
}

const MOST_STEPS: usize = 60;

#[derive(Clone, Copy, Debug)]
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
    /// By one of those that ever got a claim on the operation, counted from the last.
    Renew {
        number: u32,
        back: u8,
    },
    Settle {
        number: u32,
        back: u8,
        say: Say,
    },
    Sweep,
    /// Time goes on by this number of milliseconds.
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum Say {
    Completed(usize),
    NotKept,
    Released,
    Unknown,
}

impl Step {
    fn read(input: &mut Input<'_>) -> Self {
        let (kind, number, what, who) = (input.byte(), u32::from(input.byte() % 12), input.byte(), input.byte());
        let back = if who % 4 == 0 { 1 + who / 4 } else { 0 };
        match kind % 16 {
            0..=5 => {
                Self::Claim { number, fingerprint: if what % 8 == 7 { 2 } else { 1 }, retry_unknown: what % 2 == 1 }
            }
            6 | 7 => Self::Renew { number, back },
            8..=11 => Self::Settle { number, back, say: Say::of(what) },
            12 => {
                let verb = match what % 4 {
                    0 | 1 => Verb::Purge,
                    2 => Verb::NotKept { status: 201 },
                    _ => Verb::Release,
                };
                Self::Amend { number, amendment: Amendment { verb, force: what & 4 != 0 } }
            }
            13 | 14 => Self::Wait(wait(what)),
            _ => Self::Sweep,
        }
    }
}

/// Waits that meet the edges of leases and retention periods.
fn wait(what: u8) -> u64 {
    let [lease, ttl] = [LEASE, TTL].map(|time| time.as_millis() as u64);
    [1, lease / 2, lease - 1, lease, ttl - 1, ttl, ttl + lease, 10 * ttl][usize::from(what % 8)]
}

impl Say {
    fn of(what: u8) -> Self {
        match what % 4 {
            0 => Self::Completed(usize::from(what) * 3),
            1 => Self::NotKept,
            2 => Self::Released,
            _ => Self::Unknown,
        }
    }

    fn ending(self, owner: u128) -> Ending {
        let headers = Headers::from_iter([("x-owner", owner.to_string())]);
        match self {
            Self::Completed(size) => Ending::Completed(StoredResponse { status: 201, headers, body: vec![b'.'; size] }),
            Self::NotKept => Ending::NotKept(418),
            Self::Released => Ending::Released,
            Self::Unknown => Ending::Unknown,
        }
    }
}

/// Everyone who ever got a claim.
#[derive(Debug, Default)]
struct Owners {
    granted: BTreeMap<u32, Vec<u128>>,
    last: u128,
}

impl Owners {
    fn fresh(&mut self) -> u128 {
        self.last += 1;
        self.last
    }

    fn note(&mut self, number: u32, owner: u128, claimed: &Claimed) {
        if *claimed == Claimed::Granted {
            self.granted.entry(number).or_default().push(owner);
        }
    }

    fn pick(&self, number: u32, back: u8) -> u128 {
        let owners = self.granted.get(&number).map(Vec::as_slice).unwrap_or_default();
        owners.iter().rev().nth(usize::from(back)).copied().unwrap_or_default()
    }
}

type Store = SharedDataStore<Host>;

fn operation(number: u32) -> OperationId {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    OperationId::from_bytes(hash)
}

fn claim(store: &Store, number: u32, owner: u128, fingerprint: u8, retry_unknown: bool, now: Timestamp) -> Claimed {
    let claim = Claim {
        operation: operation(number),
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: Fingerprint::from_bytes([fingerprint; 32]),
        owner: Owner::new(owner),
        lease: LEASE,
        ttl: TTL,
        retry_unknown,
        watcher: None,
    };
    match store.call(Call::Claim(claim), now) {
        Answer::Claimed(claimed) => claimed,
        other => panic!("{other:?}"),
    }
}

fn renew(store: &Store, number: u32, owner: u128, now: Timestamp) -> Renewed {
    let call = Call::Renew { operation: operation(number), owner: Owner::new(owner), lease: LEASE, ttl: TTL };
    match store.call(call, now) {
        Answer::Renewed(renewed) => renewed,
        other => panic!("{other:?}"),
    }
}

fn settle(store: &Store, number: u32, owner: u128, ending: Ending, now: Timestamp) -> Settled {
    let (operation, fingerprint, owner) = (operation(number), Fingerprint::from_bytes([0; 32]), Owner::new(owner));
    match store.call(Call::Settle { operation, fingerprint, owner, ending, lease: LEASE, ttl: TTL }, now) {
        Answer::Settled(ended) => ended.settled,
        other => panic!("{other:?}"),
    }
}

/// The memory of an Envoy, with its rules.
#[derive(Clone, Default)]
struct Host(Rc<RefCell<Data>>);

#[derive(Default)]
struct Data {
    values: BTreeMap<String, (Vec<u8>, u32)>,
    last_cas: u32,
}

impl Host {
    fn open(&self, limits: SharedDataConfig) -> Store {
        SharedDataStore::open(self.clone(), limits, 42).expect("the host never refuses")
    }

    /// Writes to one of the keys that are there.
    fn replace(&self, which: usize, value: &[u8]) {
        let keys: Vec<String> = self.0.borrow().values.keys().cloned().collect();
        let written = self.set(&keys[which % keys.len()], value, Cas(0));
        assert_eq!(written, Ok(Written::Done));
    }
}

impl SharedMemory for Host {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        Ok(self.0.borrow().values.get(key).map(|(value, cas)| (value.clone(), Cas(*cas))))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        let mut data = self.0.borrow_mut();
        if data.values.get(key).is_some_and(|(_, current)| cas.0 != 0 && cas.0 != *current) {
            return Ok(Written::Lost);
        }
        data.last_cas += 1;
        let next = data.last_cas;
        data.values.insert(key.to_owned(), (value.to_vec(), next));
        Ok(Written::Done)
    }
}
