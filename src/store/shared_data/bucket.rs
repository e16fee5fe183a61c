//! One index slot: the records of the operations that hash to it.

use std::mem;

use serde::{Deserialize, Serialize};

use super::{shares::Tag, slots::BUCKET_CAPACITY, totals::Totals};
use crate::{
    record::{CodecError, Record, decode, encode_into},
    request::OperationId,
    time::Timestamp,
};

/// A bucket's content.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Bucket {
    entries: Vec<Entry>,
}

/// One operation's place in a bucket.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Entry {
    /// The whole hash, because the bucket's index is only a few bits of it.
    pub(super) operation: OperationId,
    /// Which of the bucket's response keys is this entry's.
    pub(super) position: u8,
    /// Whose record it is, if its caller's records are counted.
    pub(super) caller: Option<Tag>,
    pub(super) record: Record,
}

/// What an entry takes in the binary form, in bytes, as long as nobody waits for its end.
const ENTRY_LENGTH: usize = 128;

/// What a bucket takes besides its entries: version, their number, checksum.
const FRAME_LENGTH: usize = 8;

impl Bucket {
    /// Reads a bucket; empty bytes are an empty bucket, because shared data cannot forget a key.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        decode(bytes)
    }

    /// The binary form; nothing for an empty bucket.
    pub(super) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        if self.entries.is_empty() {
            return Ok(Vec::new());
        }
        encode_into(Vec::with_capacity(self.entries.len() * ENTRY_LENGTH + FRAME_LENGTH), self)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What its records take.
    pub(super) fn totals(&self) -> Totals {
        let sizes = self.entries.iter().map(|entry| entry.record.phase.response_size());
        sizes.map(Totals::of_entry).fold(Totals::default(), Totals::plus)
    }

    pub(super) fn find(&self, operation: &OperationId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.operation == *operation)
    }

    /// A position that no entry has.
    pub(super) fn free_position(&self) -> Option<u8> {
        (0..BUCKET_CAPACITY).find(|position| self.entries.iter().all(|entry| entry.position != *position))
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Puts `record` in place of the operation's present one, or takes that out; the entry as it was before.
    pub(super) fn replace(&mut self, operation: &OperationId, record: Option<Record>) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.operation == *operation)?;
        let Some(record) = record else { return Some(self.entries.swap_remove(index)) };
        let entry = self.entries.get_mut(index)?;
        let Entry { operation, position, caller, .. } = *entry;
        Some(Entry { operation, position, caller, record: mem::replace(&mut entry.record, record) })
    }

    /// Takes out every record that has ended.
    pub(super) fn remove_expired(&mut self, now: Timestamp) -> Vec<Entry> {
        self.entries.extract_if(.., |entry| entry.record.is_expired(now)).collect()
    }
}
