//! A shared memory with the exact rules of Envoy's, and a place to interfere between any two calls.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    sync::{Arc, Mutex},
};

use super::super::{Cas, SharedMemory, Written};
use crate::store::StoreError;

/// What the host keeps for all workers: a value is replaced if its `cas` is given (or none at all,
/// as zero), and an absent one is inserted whatever `cas` is given. One counter numbers all writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    data: Arc<Mutex<Data>>,
}

#[derive(Debug, Default)]
struct Data {
    values: BTreeMap<String, (Vec<u8>, u32)>,
    last_cas: u32,
}

impl Data {
    fn next_cas(&mut self) -> u32 {
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.last_cas
    }
}

impl Host {
    /// The memory as a new worker sees it.
    pub(super) fn worker(&self) -> Worker {
        Worker { host: self.clone(), calls: Cell::new(0), before: RefCell::default() }
    }

    /// The value of `key`; empty if there is none.
    pub(super) fn value(&self, key: &str) -> Vec<u8> {
        self.data.lock().unwrap().values.get(key).map(|(value, _)| value.clone()).unwrap_or_default()
    }

    /// Writes whatever is there, as a foreign plugin with the same `vm_id` could.
    pub(super) fn overwrite(&self, key: &str, value: &[u8]) {
        let mut data = self.data.lock().unwrap();
        let cas = data.next_cas();
        data.values.insert(key.to_owned(), (value.to_vec(), cas));
    }

    /// Every key that was ever written, with its value.
    pub(super) fn values(&self) -> Vec<(String, Vec<u8>)> {
        let data = self.data.lock().unwrap();
        data.values.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    /// Bytes of all keys and values.
    pub(super) fn size(&self) -> usize {
        self.data.lock().unwrap().values.iter().map(|(key, (value, _))| key.len() + value.len()).sum()
    }

    fn get(&self, key: &str) -> Option<(Vec<u8>, Cas)> {
        self.data.lock().unwrap().values.get(key).map(|(value, cas)| (value.clone(), Cas(*cas)))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Written {
        let mut data = self.data.lock().unwrap();
        match data.values.get(key) {
            Some((_, current)) if cas.0 != 0 && cas.0 != *current => return Written::Lost,
            _ => {}
        }
        let next = data.next_cas();
        data.values.insert(key.to_owned(), (value.to_vec(), next));
        Written::Done
    }
}

/// One worker's access to the host, whose every call can be preceded by something else, or refused.
pub(super) struct Worker {
    host: Host,
    calls: Cell<usize>,
    before: RefCell<Option<Rc<Before>>>,
}

type Before = dyn Fn(&Access<'_>) -> Result<(), StoreError>;

/// A call that is about to be made.
#[derive(Debug)]
pub(super) struct Access<'a> {
    /// How many calls this worker made since it was last hooked.
    pub(super) number: usize,
    pub(super) key: &'a str,
    pub(super) writes: bool,
}

impl Worker {
    /// Runs `before` ahead of every call from now on.
    pub(super) fn hook(&self, before: impl Fn(&Access<'_>) -> Result<(), StoreError> + 'static) {
        self.calls.set(0);
        self.before.replace(Some(Rc::new(before)));
    }

    /// Lets the calls pass again; says how many there were.
    pub(super) fn unhook(&self) -> usize {
        self.before.replace(None);
        self.calls.get()
    }

    fn call(&self, key: &str, writes: bool) -> Result<(), StoreError> {
        let number = self.calls.replace(self.calls.get() + 1);
        let before = self.before.borrow().clone();
        before.map_or(Ok(()), |before| before(&Access { number, key, writes }))
    }
}

impl SharedMemory for Worker {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        self.call(key, false)?;
        Ok(self.host.get(key))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        self.call(key, true)?;
        Ok(self.host.set(key, value, cas))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("calls", &self.calls).finish_non_exhaustive()
    }
}

#[test]
fn an_absent_key_is_inserted_whatever_the_cas() {
    for cas in [Cas(0), Cas(7), Cas::NEVER_ISSUED] {
        let worker = Host::default().worker();
        assert_eq!(worker.get("key"), Ok(None));
        assert_eq!(worker.set("key", b"first", cas), Ok(Written::Done));
    }
}

#[test]
fn a_present_key_is_replaced_only_with_its_cas_or_none() {
    let worker = Host::default().worker();
    worker.set("key", b"", Cas::NEVER_ISSUED).unwrap();
    let (_, cas) = worker.get("key").unwrap().unwrap();

    assert_eq!(worker.set("key", b"lost", Cas::NEVER_ISSUED), Ok(Written::Lost));
    assert_eq!(worker.set("key", b"lost", Cas(cas.0 + 1)), Ok(Written::Lost));
    assert_eq!(worker.set("key", b"second", cas), Ok(Written::Done));
    assert_eq!(worker.set("key", b"lost", cas), Ok(Written::Lost));
    assert_eq!(worker.set("key", b"third", Cas(0)), Ok(Written::Done));
    assert_eq!(worker.get("key").unwrap().unwrap().0, b"third");
}

#[test]
fn one_counter_numbers_the_writes_to_all_keys() {
    let worker = Host::default().worker();
    worker.set("a", b"", Cas::NEVER_ISSUED).unwrap();
    worker.set("b", b"", Cas::NEVER_ISSUED).unwrap();
    let cas = |key| worker.get(key).unwrap().unwrap().1;
    assert_eq!(cas("b").0, cas("a").0 + 1);
}
