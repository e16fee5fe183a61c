//! Making room in a full table (`on_full: evict_oldest`).
//!
//! The table has no order over all its records: keeping one would make every claim write to one common
//! place. As Redis does, a full table looks at a sample, here of [`COMPARED`] records or some more, and gives
//! up the oldest of them: that it is among the newest hundredth of all happens once in ten thousand million
//! times. Small tables are looked at whole, so there the oldest is the oldest.
//!
//! The order of sacrifice: what has ended; under byte pressure, responses (their records stay as
//! tombstones, so nothing runs twice); completed records; records of unknown outcome. A claim in flight
//! is never given up. A response is worth less than a record: it costs other responses and at most
//! [`RECORDS_PER_RESPONSE`] old tombstones, or else becomes a tombstone itself.

use super::{
    SharedDataStore, SharedMemory, bucket::Bucket, slots::BucketIndex, totals, totals::ENTRY_BYTES, totals::Reserved,
    totals::Totals,
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
    seen: u32,
    compared: usize,
    oldest: Option<Victim>,
}

impl Sample {
    fn new(buckets: u32, seeks_response: bool) -> Self {
        Self { buckets, seeks_response, seen: 0, compared: 0, oldest: None }
    }

    /// Takes in what may be given up of one more bucket.
    fn see(&mut self, victims: impl Iterator<Item = Victim>) {
        self.seen += 1;
        let seeks_response = self.seeks_response;
        for victim in victims {
            self.compared += usize::from(!seeks_response || victim.rank <= Rank::Response);
            self.oldest = Some(self.oldest.map_or(victim, |oldest| oldest.min(victim)));
        }
    }

    /// Whether the oldest is old enough, or looking on costs more than it is worth.
    fn is_enough(&self) -> bool {
        let Some(oldest) = self.oldest else { return false };
        if self.buckets <= SMALL || (self.seeks_response && oldest.rank > Rank::Response) {
            return false;
        }
        let is_dear = oldest.rank == Rank::Unknown && self.seen < SMALL;
        (self.compared >= COMPARED && !is_dear) || self.seen >= PATIENCE
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
        if self.allowance.take(wanted, &self.memory, &self.limits)? {
            return Ok(true);
        }
        // Nobody is to make room for what this worker holds unused.
        self.allowance.give_back(&self.memory)?;
        for _ in 0..SACRIFICES {
            let need = match totals::reserve(&self.memory, wanted, &self.limits)? {
                Reserved::Done => return Ok(true),
                Reserved::TooManyEntries => Need::Entry,
                Reserved::TooManyBytes(_) if wanted.entries > 0 => Need::RecordBytes,
                Reserved::TooManyBytes(lacking) => Need::ResponseBytes(lacking),
            };
            if !self.sacrifice(need, operation, now)? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Gives up one record of the bucket itself; `false` if there is none that may go.
    pub(super) fn evict_from(&self, index: BucketIndex, now: Timestamp) -> Result<bool, StoreError> {
        let (bucket, _) = self.read_bucket(index)?;
        match self.victims(index, &bucket, Need::Entry, now).min() {
            Some(victim) => self.give_up(victim, Need::Entry, now).map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn may_evict(&self) -> bool {
        self.limits.on_full == OnFull::EvictOldest
    }

    /// Gives up the oldest record (or response) of a sample; `false` if there is none that may go.
    ///
    /// The sample begins where the operation's keyed hash says, which is as good as at random. As long
    /// as there is a response anywhere, no record goes for want of bytes: then the samples go on
    /// through the whole table.
    fn sacrifice(&self, need: Need, operation: &OperationId, now: Timestamp) -> Result<bool, StoreError> {
        let buckets = self.table.buckets.max(1);
        let start = self.index_of(operation).0;
        let seeks_response = need != Need::Entry && self.may_evict() && totals::read(&self.memory)?.0.holds_responses();
        let mut sample = Sample::new(buckets, seeks_response);
        for step in 0..buckets.min(if seeks_response { u32::MAX } else { FARTHEST }) {
            let index = BucketIndex(start.wrapping_add(step).checked_rem(buckets).unwrap_or(0));
            match self.read_bucket(index) {
                Ok((bucket, _)) => sample.see(self.victims(index, &bucket, need, now)),
                // Calls for its own operations fail; those for others need not.
                Err(StoreError::Unreadable(_)) => sample.see(std::iter::empty()),
                Err(error) => return Err(error),
            }
            if sample.is_enough() {
                break;
            }
        }
        match sample.oldest {
            Some(victim) => self.give_up(victim, need, now).map(|()| true),
            None => Ok(false),
        }
    }

    /// What of a bucket may be given up for `need`.
    fn victims(&self, index: BucketIndex, bucket: &Bucket, need: Need, now: Timestamp) -> impl Iterator<Item = Victim> {
        let may_evict = self.may_evict();
        bucket.entries().iter().filter_map(move |entry| {
            let rank = rank(&entry.record, need, now)?;
            let may_go = may_evict || rank == Rank::Expired;
            may_go.then_some(Victim { rank, since: entry.record.phase.since(), index, operation: entry.operation })
        })
    }

    /// Takes a victim out, or its response; does nothing if it is no longer what it was, because then
    /// another worker has changed it and the caller looks again.
    fn give_up(&self, victim: Victim, need: Need, now: Timestamp) -> Result<(), StoreError> {
        let (mut bucket, cas) = self.read_bucket(victim.index)?;
        let Some(entry) = bucket.find(&victim.operation).cloned() else { return Ok(()) };
        if rank(&entry.record, need, now) != Some(victim.rank) || entry.record.phase.since() != victim.since {
            return Ok(());
        }
        let tombstone = match victim.rank {
            Rank::Response => entry.record.without_response(),
            _ => None,
        };
        match &tombstone {
            Some(record) => drop(bucket.replace(&victim.operation, record.clone())),
            None => drop(bucket.remove(&victim.operation)),
        }
        if self.write_bucket(victim.index, &bucket, cas)? == Written::Lost {
            return Ok(());
        }
        self.count(|tally| match victim.rank {
            Rank::Expired => tally.expired += 1,
            Rank::Completed | Rank::Response | Rank::Unknown => tally.evicted += 1,
        });
        match tombstone {
            Some(_) => self.discard_response(victim.index, &entry),
            None => self.discard(victim.index, &entry),
        }
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
