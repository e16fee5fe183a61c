//! Making room in a full table (`on_full: evict_oldest`).
//!
//! The table has no order over all its records: keeping one would make every claim write to one common
//! place. As Redis does, a full table looks at a sample, here of [`COMPARED`] records or some more, and gives
//! up the oldest of them: that it is among the newest hundredth of all happens once in ten thousand million
//! times. Small tables are looked at whole, so there the oldest is the oldest. And where responses must go, a
//! [queue](super::queue) of them says which is the oldest, as far as it knows any.
//!
//! The order of sacrifice: what has ended; under byte pressure, responses (their records stay as
//! tombstones, so nothing runs twice); completed records; records of unknown outcome. A claim in flight
//! is never given up. A response is worth less than a record: it costs other responses and at most
//! [`RECORDS_PER_RESPONSE`] old tombstones, or else becomes a tombstone itself.

use super::{
    Cas, SharedDataStore, SharedMemory,
    bucket::{Bucket, Entry},
    slots::BucketIndex,
    totals::{ENTRY_BYTES, Reserved, Totals},
};
use crate::{
    config::OnFull,
    record::{Phase, Record},
    request::OperationId,
    store::StoreError,
    store::shared_data::memory::Written,
    time::Timestamp,
};

/// How many records are compared for the oldest: as many as Redis compares (`maxmemory-samples`), and the rest of the
/// last bucket.
const COMPARED: usize = 5;

/// Tables of so many buckets are looked at whole. In larger ones no record of unknown outcome goes before so many
/// were looked at.
const SMALL: u32 = 16;

/// How many buckets are looked at before the table counts as full of what must stay, unless a response is sought that
/// is known to be there.
const FARTHEST: u32 = 512;

/// How many are looked at for more responses to compare. It takes milliseconds, for a table that holds no more than a
/// few hundred large ones, each of which cost more to hash.
const PATIENCE: u32 = 2048;

/// How many places are looked at where the queue says that a response is, and where it is gone.
const MOST_STALE: usize = 16;

/// How many sacrifices one request may cause; a response of many small ones' size needs several.
const SACRIFICES: u32 = 64;

/// How many tombstones a response may cost where there are no more responses to give up. So a table
/// that is full of tombstones still keeps new responses of a few kilobytes; for larger ones too many
/// operations would lose what protects them.
const RECORDS_PER_RESPONSE: u64 = 8;

/// What is to be gained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Need {
    /// A place for a record.
    Entry,
    /// Bytes for a record.
    RecordBytes,
    /// Bytes for a response, of which so many are lacking.
    ResponseBytes(u64),
}

/// A record that may be given up, and how readily.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Victim {
    rank: Rank,
    since: Timestamp,
    index: BucketIndex,
    operation: OperationId,
}

/// A victim, and its bucket as it was when it was chosen.
#[derive(Debug)]
struct Chosen {
    victim: Victim,
    bucket: Bucket,
    cas: Cas,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Expired,
    Response,
    Completed,
    Unknown,
}

/// The part of a table that is looked at for a victim, as it grows bucket by bucket.
#[derive(Debug)]
struct Sample {
    buckets: u32,
    seeks_response: bool,
    /// Whether the oldest response of all is in it.
    has_oldest: bool,
    seen: u32,
    compared: usize,
    oldest: Option<Chosen>,
}

impl Sample {
    fn new(buckets: u32, seeks_response: bool) -> Self {
        Self { buckets, seeks_response, has_oldest: false, seen: 0, compared: 0, oldest: None }
    }

    /// Takes in a bucket and what of it may be given up.
    fn see(&mut self, bucket: Bucket, cas: Cas, victims: &[Victim]) {
        self.compared += victims.iter().filter(|victim| !self.seeks_response || victim.rank <= Rank::Response).count();
        let oldest = self.oldest.as_ref().map(|chosen| chosen.victim);
        if let Some(victim) =
            victims.iter().copied().min().filter(|victim| oldest.is_none_or(|oldest| *victim < oldest))
        {
            self.oldest = Some(Chosen { victim, bucket, cas });
        }
    }

    /// Whether there is a response in it that may go, or something that has ended.
    fn has_response(&self) -> bool {
        self.oldest.as_ref().is_some_and(|chosen| chosen.victim.rank <= Rank::Response)
    }

    /// Whether the oldest is old enough, or looking on costs more than it is worth.
    fn is_enough(&self) -> bool {
        let Some(Chosen { victim: oldest, .. }) = &self.oldest else { return false };
        if self.buckets <= SMALL || (self.seeks_response && !self.has_response()) {
            return false;
        }
        let is_dear = oldest.rank == Rank::Unknown && self.seen < SMALL;
        self.has_oldest || (self.compared >= COMPARED && !is_dear) || self.seen >= PATIENCE
    }
}

impl<M: SharedMemory> SharedDataStore<M> {
    /// Takes room in the table, making some if need be; `false` if there is none to be had.
    pub(super) fn take_room(
        &self,
        wanted: Totals,
        operation: &OperationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if wanted.bytes > self.limits.max_bytes {
            return Ok(false);
        }
        let taken = self.take_or_make_room(wanted, operation, now);
        // What cannot be given back is tried again at the next tick.
        let _ = self.allowance.give_back_surplus(&self.memory);
        taken
    }

    fn take_or_make_room(&self, wanted: Totals, operation: &OperationId, now: Timestamp) -> Result<bool, StoreError> {
        for _ in 0..SACRIFICES {
            let (need, holds_responses) = match self.allowance.take(wanted, &self.memory, &self.limits)? {
                Reserved::Wish | Reserved::Need => return Ok(true),
                Reserved::TooManyEntries => (Need::Entry, false),
                Reserved::TooManyBytes { holds_responses, .. } if wanted.entries > 0 => {
                    (Need::RecordBytes, holds_responses)
                }
                Reserved::TooManyBytes { lacking, holds_responses } => (Need::ResponseBytes(lacking), holds_responses),
            };
            if !self.sacrifice(need, holds_responses, operation, now)? {
                return Ok(false);
            }
        }
        let taken = self.allowance.take(wanted, &self.memory, &self.limits)?;
        Ok(matches!(taken, Reserved::Wish | Reserved::Need))
    }

    /// Gives up one record of the bucket itself; `false` if there is none that may go.
    pub(super) fn evict_from(&self, index: BucketIndex, now: Timestamp) -> Result<bool, StoreError> {
        let (bucket, cas) = self.read_bucket(index)?;
        let Some(victim) = self.victims(index, &bucket, Need::Entry, now).into_iter().min() else { return Ok(false) };
        self.give_up(Chosen { victim, bucket, cas })?;
        Ok(true)
    }

    pub(super) fn may_evict(&self) -> bool {
        self.limits.on_full == OnFull::EvictOldest
    }

    /// Gives up the oldest record (or response) of a sample, and keeps the room that it took; `false` if there is none
    /// that may go.
    ///
    /// The sample begins where the operation's keyed hash says, which is as good as at random. As long
    /// as there is a response anywhere, no record goes for want of bytes: then the samples go on
    /// through the whole table.
    fn sacrifice(
        &self,
        need: Need,
        holds_responses: bool,
        operation: &OperationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let buckets = self.table.buckets.max(1);
        let start = self.index_of(operation).0;
        let mut sample = Sample::new(buckets, holds_responses && self.may_evict());
        if sample.seeks_response {
            self.ask_queue(&mut sample, need, now)?;
        }
        for step in 0..buckets.min(if sample.seeks_response { u32::MAX } else { FARTHEST }) {
            if sample.is_enough() {
                break;
            }
            let index = BucketIndex(start.wrapping_add(step).checked_rem(buckets).unwrap_or(0));
            self.look_at(index, &mut sample, need, now)?;
            sample.seen += 1;
        }
        match sample.oldest {
            Some(chosen) => self.give_up(chosen).map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes a sample of the oldest response, if the queue knows it.
    fn ask_queue(&self, sample: &mut Sample, need: Need, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..MOST_STALE {
            let Some(index) = self.queue.pop(now, &self.memory)? else { break };
            self.look_at(index, sample, need, now)?;
            if sample.has_response() {
                sample.has_oldest = true;
                break;
            }
        }
        Ok(())
    }

    /// Takes one bucket into a sample.
    fn look_at(&self, index: BucketIndex, sample: &mut Sample, need: Need, now: Timestamp) -> Result<(), StoreError> {
        match self.read_bucket(index) {
            Ok((bucket, cas)) => {
                let victims = self.victims(index, &bucket, need, now);
                sample.see(bucket, cas, &victims);
                Ok(())
            }
            // Calls for its own operations fail; those for others need not.
            Err(StoreError::Unreadable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What of a bucket may be given up for `need`.
    fn victims(&self, index: BucketIndex, bucket: &Bucket, need: Need, now: Timestamp) -> Vec<Victim> {
        let victim = |entry: &Entry| {
            let rank = rank(&entry.record, need, now)?;
            let may_go = self.may_evict() || rank == Rank::Expired;
            may_go.then_some(Victim { rank, since: entry.record.phase.since(), index, operation: entry.operation })
        };
        bucket.entries().iter().filter_map(victim).collect()
    }

    /// Takes a victim out, or its response, and keeps the room that it took; does nothing if its bucket has changed,
    /// because then it may no longer be what it was, and the caller looks again.
    fn give_up(&self, Chosen { victim, mut bucket, cas }: Chosen) -> Result<(), StoreError> {
        let Some(entry) = bucket.find(&victim.operation).cloned() else { return Ok(()) };
        let tombstone = match victim.rank {
            Rank::Response => entry.record.without_response(),
            _ => None,
        };
        let size = entry.record.phase.response_size();
        let room = match tombstone {
            Some(record) => {
                bucket.replace(&victim.operation, record);
                Totals::of_response(size)
            }
            None => {
                bucket.remove(&victim.operation);
                Totals::of_entry(size)
            }
        };
        if self.write_bucket(victim.index, &bucket, cas)? == Written::Lost {
            return Ok(());
        }
        self.count(|tally| match victim.rank {
            Rank::Expired => tally.expired += 1,
            Rank::Completed | Rank::Response | Rank::Unknown => tally.evicted += 1,
        });
        if size > 0 {
            self.empty_response(victim.index.response_key(entry.position), entry.record.owner)?;
        }
        self.allowance.keep(room);
        Ok(())
    }
}

/// How readily a record is given up for `need`; `None` if it must stay.
fn rank(record: &Record, need: Need, now: Timestamp) -> Option<Rank> {
    if record.is_expired(now) {
        return Some(Rank::Expired);
    }
    match (&record.phase, need) {
        (Phase::Completed { .. }, Need::RecordBytes | Need::ResponseBytes(_)) => Some(Rank::Response),
        (Phase::NotKept { .. }, Need::ResponseBytes(lacking)) => {
            (lacking <= RECORDS_PER_RESPONSE * ENTRY_BYTES).then_some(Rank::Completed)
        }
        (Phase::Completed { .. } | Phase::NotKept { .. }, _) => Some(Rank::Completed),
        // Perhaps even the record of the response's own operation, whose owner is late.
        (Phase::InFlight { .. } | Phase::Unknown { .. }, Need::ResponseBytes(_)) => None,
        (Phase::Unknown { .. }, _) => Some(Rank::Unknown),
        // Lapsed: its owner is dead or late, and what became of it is unknown.
        (Phase::InFlight { .. }, _) => (!record.is_live(now)).then_some(Rank::Unknown),
    }
}
