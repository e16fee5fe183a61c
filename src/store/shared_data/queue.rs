//! Where responses lie, in the order in which all workers stored them.
//!
//! A table of many buckets may be full of a few hundred large responses. A worker that makes room for another would read
//! dozens of buckets to find some to compare, and still not find the oldest. So there is a queue of them in shared
//! data. Workers write to it and read from it by segments of many responses, so that a request that runs seldom
//! touches it, and no two workers wait for each other.
//!
//! What the queue says is a hint: a response may have ended, or gone, since. What it leads to is read before it is
//! given up, and what is not in it (because its worker died, or has too few for a segment) is found by looking around.
//! Small tables need none: they are looked at whole.
//!
//! It is written as plain numbers, little-endian: nothing depends on it that a checksum should guard.

use std::{cell::Cell, collections::VecDeque, fmt, iter};

use super::{
    memory::{Cas, Change, SharedMemory, update},
    slots::{self, BucketIndex, SlotKey},
};
use crate::{
    config::{OnFull, SharedDataConfig},
    store::StoreError,
    time::Timestamp,
};

/// How many responses are written at once, at most. In a table that holds fewer than 64 times as many, it is so much
/// less.
const LONGEST: u32 = 32;

/// What part of the table's bytes is written at once, at most. So much of each worker's is not in the queue yet.
const PART: u32 = 256;

/// How many segments one request reads for a response that has not ended.
const PATIENCE: u32 = 4;

/// One worker's end of the queue.
pub(super) struct Queue {
    /// How many segments there is room for; none if there is no queue.
    room: u32,
    /// The number of responses with which a segment is long enough.
    long: usize,
    /// Or their number of bytes.
    large: u64,
    unwritten: Cell<QueueSegment>,
    /// What was read and not asked for yet.
    read: Cell<VecDeque<Stored>>,
}

/// Tables of up to this number of buckets are looked at whole; larger ones have a queue of responses.
pub(super) const SMALL: u32 = 16;

/// Responses that one worker stored, in order.
#[derive(Debug, Default)]
struct QueueSegment {
    responses: Vec<Stored>,
    bytes: u64,
}

/// One response: the bucket of its record, and when that ends.
#[derive(Clone, Copy, Debug)]
struct Stored {
    bucket: u32,
    expires: Timestamp,
}

/// The numbers of the segments that are written: from `first` on, up to `end`.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: u32,
    end: u32,
}

impl Queue {
    /// The end of a worker that has nothing to write and has read nothing, in a table of `buckets`.
    pub(super) fn new(buckets: u32, limits: &SharedDataConfig) -> Self {
        let is_needed = limits.on_full == OnFull::EvictOldest && buckets > SMALL;
        // For as many responses as a full table may hold, in long segments and in large ones. All workers must find
        // the same place for a segment, so it goes by what none of them can change.
        let entries = buckets.saturating_mul(slots::BUCKET_LOAD);
        let long = (entries / 64).clamp(1, LONGEST);
        Self {
            room: if is_needed { entries / long + PART } else { 0 },
            long: long as usize,
            large: limits.max_bytes / u64::from(PART),
            unwritten: Cell::default(),
            read: Cell::default(),
        }
    }

    /// Adds a response of `bytes`, which was stored just now.
    ///
    /// # Errors
    /// [`StoreError`] if shared data cannot be written. Then some responses are not in the queue.
    pub(super) fn push(
        &self,
        bucket: BucketIndex,
        bytes: u32,
        expires: Timestamp,
        memory: &impl SharedMemory,
    ) -> Result<(), StoreError> {
        if self.room == 0 {
            return Ok(());
        }
        let mut segment = self.unwritten.take();
        segment.responses.push(Stored { bucket: bucket.0, expires });
        segment.bytes = segment.bytes.saturating_add(bytes.into());
        if segment.responses.len() >= self.long || segment.bytes >= self.large {
            return self.append(&segment.responses, memory);
        }
        self.unwritten.set(segment);
        Ok(())
    }

    /// Takes out the oldest response of those that have not ended: the bucket of its record. `None` if there is none
    /// within reach.
    ///
    /// # Errors
    /// [`StoreError`] if shared data cannot be read or written.
    pub(super) fn pop(&self, now: Timestamp, memory: &impl SharedMemory) -> Result<Option<BucketIndex>, StoreError> {
        let mut read = self.read.take();
        for _ in 0..PATIENCE {
            while let Some(stored) = read.pop_front() {
                if stored.expires > now {
                    self.read.set(read);
                    return Ok(Some(BucketIndex(stored.bucket)));
                }
            }
            match self.take_first(memory)? {
                Some(segment) => read = segment,
                None => break,
            }
        }
        Ok(None)
    }

    /// Writes a segment behind all others. Where there is no room for it the first one is lost.
    fn append(&self, responses: &[Stored], memory: &impl SharedMemory) -> Result<(), StoreError> {
        let number = update(memory, slots::QUEUE, |found| {
            let ends = Ends::decode(found);
            let is_full = ends.end.wrapping_sub(ends.first) >= self.room;
            let first = if is_full { ends.first.wrapping_add(1) } else { ends.first };
            Ok(Change::Write(Ends { first, end: ends.end.wrapping_add(1) }.to_bytes(), ends.end))
        })?;
        // A worker that reads before the segment is there finds another number, and goes on with the next one.
        let key = self.key(number);
        let cas = memory.get(&key)?.map_or(Cas::NEVER_ISSUED, |(_, cas)| cas);
        memory.set(&key, &segment_to_bytes(number, responses), cas)?;
        Ok(())
    }

    /// Takes out the first segment; `None` if there is none, and an empty one if it cannot be read.
    fn take_first(&self, memory: &impl SharedMemory) -> Result<Option<VecDeque<Stored>>, StoreError> {
        let first = update(memory, slots::QUEUE, |found| {
            let ends = Ends::decode(found);
            Ok(if self.room == 0 || ends.first == ends.end {
                Change::Keep(None)
            } else {
                let rest = Ends { first: ends.first.wrapping_add(1), ..ends };
                Change::Write(rest.to_bytes(), Some(ends.first))
            })
        })?;
        let Some(number) = first else { return Ok(None) };
        let bytes = memory.get(&self.key(number))?.map(|(bytes, _)| bytes).unwrap_or_default();
        Ok(Some(segment_from_bytes(number, &bytes)))
    }

    fn key(&self, number: u32) -> SlotKey {
        slots::segment_key(number.checked_rem(self.room).unwrap_or(0))
    }
}

impl Ends {
    fn to_bytes(self) -> Vec<u8> {
        [self.first.to_le_bytes(), self.end.to_le_bytes()].concat()
    }

    /// The value that was found; one that cannot be read counts as empty.
    fn decode(found: Option<&[u8]>) -> Self {
        let mut bytes = found.unwrap_or_default();
        let ends = (take_u32(&mut bytes), take_u32(&mut bytes));
        if let (Some(first), Some(end)) = ends { Self { first, end } } else { Self::default() }
    }
}

/// A segment as it is written: its number, because others have the same key before and after, and the responses.
fn segment_to_bytes(number: u32, responses: &[Stored]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + 12 * responses.len());
    bytes.extend(number.to_le_bytes());
    for stored in responses {
        bytes.extend(stored.bucket.to_le_bytes());
        bytes.extend(stored.expires.as_millis().to_le_bytes());
    }
    bytes
}

/// The responses of the segment with this number; none if another one is there.
fn segment_from_bytes(number: u32, mut bytes: &[u8]) -> VecDeque<Stored> {
    if take_u32(&mut bytes) != Some(number) {
        return VecDeque::new();
    }
    iter::from_fn(|| {
        let bucket = take_u32(&mut bytes)?;
        let (expires, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        Some(Stored { bucket, expires: Timestamp::from_millis(u64::from_le_bytes(*expires)) })
    })
    .collect()
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Queue").field("room", &self.room).finish_non_exhaustive()
    }
}
