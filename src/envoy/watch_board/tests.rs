use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use super::*;
use crate::store::StoreError;

/// Shared data by the rules of [`SharedMemory`].
#[derive(Debug, Default)]
struct Memory {
    values: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    writes: Cell<u32>,
    refuses: Cell<bool>,
}

impl SharedMemory for &Memory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        if self.refuses.get() {
            return Err(StoreError::Host(10));
        }
        Ok(self.values.borrow().get(key).map(|(value, cas)| (value.clone(), Cas(*cas))))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        if self.refuses.get() {
            return Err(StoreError::Host(10));
        }
        let mut values = self.values.borrow_mut();
        if values.get(key).is_some_and(|(_, current)| cas.0 != 0 && *current != cas.0) {
            return Ok(Written::Lost);
        }
        self.writes.set(self.writes.get() + 1);
        values.insert(key.to_owned(), (value.to_vec(), self.writes.get()));
        Ok(Written::Done)
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn operation(number: u64) -> OperationId {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    OperationId::from_bytes(hash)
}

/// Operations whose notices share a key.
fn neighbours() -> impl Iterator<Item = OperationId> {
    let first = key(&operation(0));
    (0..).map(operation).filter(move |operation| key(operation) == first)
}

#[test]
fn one_question_per_period_however_many_workers_ask() {
    let memory = Memory::default();
    let workers: Vec<_> = (0..8).map(|_| WatchBoard::new(&memory)).collect();
    for (number, worker) in workers.iter().enumerate() {
        worker.watch(&operation(1), Mailbox(u32::try_from(number).unwrap()), NOW);
    }
    for period in 1..=5 {
        let now = NOW.after(POLL * period);
        let asks = workers.iter().filter(|worker| worker.may_poll(&operation(1), now)).count();
        assert_eq!(asks, 1, "in period {period}");
        assert!(!workers[3].may_poll(&operation(1), now.after(POLL - Duration::from_millis(1))));
    }
}

#[test]
fn each_watcher_is_named_once_and_the_notice_is_then_down() {
    let memory = Memory::default();
    let board = WatchBoard::new(&memory);
    for watcher in [3, 9, 3, 9, 3] {
        board.watch(&operation(1), Mailbox(watcher), NOW);
    }
    board.watch(&operation(2), Mailbox(5), NOW);
    assert_eq!(board.take(&operation(1)), [Mailbox(3), Mailbox(9)]);
    assert_eq!(board.take(&operation(1)), []);
    assert_eq!(board.take(&operation(2)), [Mailbox(5)]);
}

#[test]
fn what_is_damaged_or_refused_costs_questions_and_nothing_else() {
    let memory = Memory::default();
    let board = WatchBoard::new(&memory);
    board.watch(&operation(1), Mailbox(3), NOW);
    let (key, value) =
        memory.values.borrow().iter().map(|(key, (value, _))| (key.clone(), value.clone())).next().unwrap();
    for bit in 0..value.len() * 8 {
        let mut damaged = value.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        memory.values.borrow_mut().insert(key.clone(), (damaged, 7));
        assert_eq!(board.take(&operation(1)), []);
        assert!(board.may_poll(&operation(1), NOW), "whoever waits may ask");
        board.watch(&operation(1), Mailbox(4), NOW);
        assert_eq!(board.take(&operation(1)), [Mailbox(4)], "the board is of use again");
    }
    memory.refuses.set(true);
    assert!(board.may_poll(&operation(1), NOW));
    assert_eq!(board.take(&operation(1)), []);
}

#[test]
fn a_full_board_stays_bounded_and_lets_everybody_ask_for_themselves() {
    let memory = Memory::default();
    let board = WatchBoard::new(&memory);
    for operation in neighbours().take(3 * ROOM) {
        board.watch(&operation, Mailbox(1), NOW);
    }
    let size = || memory.values.borrow().values().map(|(value, _)| value.len()).sum::<usize>();
    let full = size();
    let last = neighbours().nth(3 * ROOM - 1).unwrap();
    assert!(board.may_poll(&last, NOW) && board.may_poll(&last, NOW));
    assert_eq!((board.take(&last), size()), (Vec::new(), full));

    // What nobody asks about any more makes room.
    let later = NOW.after(STALE).after(POLL);
    board.watch(&last, Mailbox(2), later);
    assert_eq!(board.take(&last), [Mailbox(2)]);
    assert!(size() < full);
}

#[test]
fn there_is_a_fixed_number_of_keys() {
    let keys: std::collections::BTreeSet<_> = (0..20_000).map(|number| key(&operation(number))).collect();
    assert!(keys.len() as u64 <= KEYS);
}
