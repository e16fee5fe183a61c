//! What a worker remembers: replays as they are without it, with fewer reads.

use super::{super::recent::LARGEST, fixture::*, memory::Host};
use crate::{
    config::SharedDataConfig,
    record::Claim,
    request::Fingerprint,
    store::{Claimed, Ending},
    time::Timestamp,
};

/// Two workers on one table.
fn workers(limits: SharedDataConfig) -> [Store; 2] {
    let host = Host::default();
    [(); 2].map(|()| open(&host, limits))
}

/// The replay of `owner`'s execution.
fn replayed(owner: u128, size: usize, expires: Timestamp) -> Claimed {
    Claimed::Completed { response: response(owner, size).into(), expires }
}

impl Store {
    /// What a claim of operation `number` meets, and how many calls of the host it takes.
    fn count_calls(&self, number: u32, now: Timestamp) -> (Claimed, usize) {
        self.memory.hook(|_| Ok(()));
        let claimed = self.claim_at(number, 99, now);
        (claimed, self.memory.unhook())
    }
}

/// A bucket and a response.
const READ: usize = 2;

/// A bucket; only its version counts.
const REMEMBERED: usize = 1;

#[test]
fn a_replay_once_more_reads_the_bucket_alone() {
    let [store, _] = workers(ROOMY);
    store.execute_at(1, 1, 100, NOW);
    let replay = replayed(1, 100, NOW.after(TTL));
    assert_eq!(store.count_calls(1, NOW), (replay.clone(), READ));
    for _ in 0..3 {
        assert_eq!(store.count_calls(1, NOW), (replay.clone(), REMEMBERED));
    }
}

#[test]
fn a_remembered_response_ends_with_its_record() {
    let [store, _] = workers(ROOMY);
    store.execute_at(1, 1, 100, NOW);
    let end = NOW.after(TTL);
    let last = Timestamp::from_millis(end.as_millis() - 1);
    assert_eq!(store.count_calls(1, NOW).1, READ);
    assert_eq!(store.count_calls(1, last), (replayed(1, 100, end), REMEMBERED));
    assert_eq!(store.claim_at(1, 2, end), Claimed::Granted);
    assert!(matches!(store.claim_at(1, 3, end), Claimed::InFlight { .. }));
}

#[test]
fn what_another_worker_writes_to_the_bucket_is_seen() {
    let [store, other] = workers(ROOMY);
    store.execute_at(1, 1, 100, NOW);
    let replay = replayed(1, 100, NOW.after(TTL));
    store.claim_at(1, 2, NOW);
    let neighbour = other.neighbours(1).nth(1).unwrap();
    other.claim_at(neighbour, 1, NOW);
    assert_eq!(store.count_calls(1, NOW), (replay.clone(), READ), "of another version");
    other.settle_at(neighbour, 1, Ending::Released, NOW);
    assert_eq!(store.count_calls(1, NOW), (replay, READ), "the same bytes once more, of yet another version");
}

#[test]
fn a_remembered_response_is_not_replayed_when_it_was_evicted_or_another_one_came() {
    let [store, other] = workers(SharedDataConfig { max_entries: 1, ..ROOMY });
    store.execute_at(1, 1, 100, NOW);
    assert_eq!(store.claim_at(1, 2, NOW), replayed(1, 100, NOW.after(TTL)));
    other.execute_at(2, 1, 100, NOW.after(MOMENT));
    other.execute_at(1, 3, 200, NOW.after(MOMENT));
    assert_eq!(store.claim_at(1, 4, NOW.after(MOMENT)), replayed(3, 200, NOW.after(MOMENT).after(TTL)));
    other.execute_at(2, 1, 100, NOW.after(MOMENT));
    assert_eq!(store.claim_at(1, 5, NOW.after(MOMENT)), Claimed::Granted);
}

#[test]
fn a_remembered_response_that_became_a_tombstone_is_not_replayed() {
    let [store, other] = workers(SharedDataConfig { max_bytes: 4096, ..ROOMY });
    store.execute_at(1, 1, 2000, NOW);
    assert_eq!(store.claim_at(1, 2, NOW), replayed(1, 2000, NOW.after(TTL)));
    other.execute_at(2, 1, 2000, NOW.after(MOMENT));
    assert_eq!(store.claim_at(1, 3, NOW.after(MOMENT)), Claimed::NotKept { status: 201 });
}

#[test]
fn an_operation_that_ended_and_ran_again_is_replayed_as_it_ran_last() {
    let [store, other] = workers(ROOMY);
    store.execute_at(1, 1, 100, NOW);
    store.claim_at(1, 2, NOW);
    let later = NOW.after(TTL);
    assert_eq!(other.claim_at(1, 3, later), Claimed::Granted);
    assert!(matches!(store.claim_at(1, 4, later), Claimed::InFlight { .. }));
    other.settle_at(1, 3, Ending::Released, later);
    other.execute_at(1, 5, 50, later);
    assert_eq!(store.claim_at(1, 6, later), replayed(5, 50, later.after(TTL)));
}

#[test]
fn operations_of_one_bucket_are_not_mixed_up() {
    let [store, _] = workers(ROOMY);
    let numbers: Vec<u32> = store.neighbours(1).take(3).collect();
    for (number, owner) in numbers.iter().zip(1..) {
        store.execute_at(*number, owner, 10, NOW);
    }
    for _ in 0..2 {
        for (number, owner) in numbers.iter().zip(1..) {
            assert_eq!(store.claim_at(*number, 99, NOW), replayed(owner, 10, NOW.after(TTL)), "operation {number}");
        }
    }
}

#[test]
fn another_request_under_a_remembered_key_is_refused() {
    let [store, _] = workers(ROOMY);
    store.execute_at(1, 1, 100, NOW);
    let other = Claim { fingerprint: Fingerprint::from_bytes([8; 32]), ..claim(1, 2) };
    for _ in 0..2 {
        assert_eq!(store.claim_at(1, 2, NOW), replayed(1, 100, NOW.after(TTL)));
        assert_eq!(store.run(other.clone(), NOW), Claimed::KeyReused);
    }
}

#[test]
fn no_more_than_one_small_response_is_remembered() {
    let [store, _] = workers(ROOMY);
    let besides = usize::try_from(stored_size(1, 1, 0)).unwrap();
    // Of bodies of this size, the length takes two bytes more.
    let largest = usize::try_from(LARGEST).unwrap() - besides - 2;
    store.execute_at(1, 1, largest, NOW);
    store.execute_at(2, 2, largest + 1, NOW);
    let calls = [1, 2, 2, 1].map(|number| store.count_calls(number, NOW).1);
    assert_eq!(calls, [READ, READ, READ, REMEMBERED], "a larger one does not take the place of another");

    store.execute_at(3, 3, 10, NOW);
    let calls = [3, 3, 1, 3].map(|number| store.count_calls(number, NOW).1);
    assert_eq!(calls, [READ, REMEMBERED, READ, READ]);
}

#[test]
fn what_is_forgotten_is_read_again() {
    let [store, _] = workers(ROOMY);
    store.execute_at(1, 1, 100, NOW);
    assert_eq!(store.count_calls(1, NOW).1, READ);
    store.forget_recent();
    assert_eq!(store.count_calls(1, NOW), (replayed(1, 100, NOW.after(TTL)), READ));
}
