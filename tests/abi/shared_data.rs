//! Shared data, entry for entry as Envoy's C++ host keeps it (`proxy-wasm-cpp-host`, `src/shared_data.cc`).
//!
//! - `set` on a key that is present: a `cas` other than 0 must be the current one, otherwise `CasMismatch`.
//! - `set` on a key that is absent: inserts, whatever `cas` is.
//! - Every write gets the next value of one counter for the whole process; it starts at 1 and skips 0.
//! - A key is never deleted: its value can only become empty.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::vm::Status;

/// The shared data of one Envoy process (one `vm_id`).
#[derive(Debug)]
pub(crate) struct SharedData {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    entries: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    next_cas: u32,
}

impl SharedData {
    /// Empty, with the counter at its start.
    pub(crate) fn new() -> Self {
        Self { table: Mutex::new(Table { entries: BTreeMap::new(), next_cas: 1 }) }
    }

    /// The value of `key` with its cas, or `NotFound`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.with(|table| table.entries.get(key).cloned().ok_or(Status::NotFound))
    }

    /// Writes `value` if `cas` allows it, or answers `CasMismatch`.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        self.with(|table| {
            if table.entries.get(key).is_some_and(|(_, current)| cas != 0 && cas != *current) {
                return Err(Status::CasMismatch);
            }
            let cas = table.next_cas();
            table.entries.insert(key.to_vec(), (value.to_vec(), cas));
            Ok(())
        })
    }

    /// Makes `cas` the next value that is issued, to reach the counter's wrap.
    pub(crate) fn issue_next(&self, cas: u32) {
        self.with(|table| table.next_cas = cas);
    }

    /// Every key, in order: what can never be freed again.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.with(|table| table.entries.keys().cloned().collect())
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.with(|table| table.entries.iter().map(|(key, (value, _))| key.len() + value.len()).sum())
    }

    fn with<R>(&self, work: impl FnOnce(&mut Table) -> R) -> R {
        work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Table {
    fn next_cas(&mut self) -> u32 {
        let cas = self.next_cas;
        self.next_cas = match self.next_cas.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        cas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_key_is_not_found() {
        assert_eq!(SharedData::new().get(b"k"), Err(Status::NotFound));
    }

    #[test]
    fn an_absent_key_is_inserted_whatever_the_cas() {
        for cas in [0, 7, u32::MAX] {
            let data = SharedData::new();
            assert_eq!(data.set(b"k", b"v", cas), Ok(()), "cas {cas}");
            assert_eq!(data.get(b"k"), Ok((b"v".to_vec(), 1)), "cas {cas}");
        }
    }

    #[test]
    fn a_present_key_takes_its_own_cas_or_none_and_no_other() {
        let data = SharedData::new();
        data.set(b"k", b"1", 0).unwrap();
        assert_eq!(data.set(b"k", b"2", 2), Err(Status::CasMismatch));
        assert_eq!(data.set(b"k", b"2", u32::MAX), Err(Status::CasMismatch));
        assert_eq!(data.get(b"k"), Ok((b"1".to_vec(), 1)));
        assert_eq!(data.set(b"k", b"2", 1), Ok(()));
        assert_eq!(data.set(b"k", b"3", 0), Ok(()));
        assert_eq!(data.get(b"k"), Ok((b"3".to_vec(), 3)));
    }

    #[test]
    fn one_counter_numbers_the_writes_of_all_keys() {
        let data = SharedData::new();
        data.set(b"a", b"", 0).unwrap();
        data.set(b"b", b"", 0).unwrap();
        assert_eq!(data.set(b"a", b"", 2), Err(Status::CasMismatch));
        data.set(b"a", b"", 1).unwrap();
        assert_eq!((data.get(b"a").unwrap().1, data.get(b"b").unwrap().1), (3, 2));
    }

    #[test]
    fn the_counter_skips_zero_when_it_wraps() {
        let data = SharedData::new();
        data.issue_next(u32::MAX);
        data.set(b"a", b"", 0).unwrap();
        data.set(b"b", b"", 0).unwrap();
        assert_eq!((data.get(b"a").unwrap().1, data.get(b"b").unwrap().1), (u32::MAX, 1));
    }

    #[test]
    fn an_emptied_key_stays_with_its_cas() {
        let data = SharedData::new();
        data.set(b"key", b"value", 0).unwrap();
        data.set(b"key", b"", 1).unwrap();
        assert_eq!(data.get(b"key"), Ok((Vec::new(), 2)));
        assert_eq!(data.set(b"key", b"v", u32::MAX), Err(Status::CasMismatch));
        assert_eq!((data.keys(), data.bytes()), (vec![b"key".to_vec()], 3));
    }
}
