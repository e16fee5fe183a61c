//! Making room in a full table (`on_full: evict_oldest`).
//!
//! The table has no order over all its records: keeping one would make every claim write to one common
//! place. As Redis does, a full table looks at a sample, here of [`COMPARED`] records or some more, and gives
//! up the oldest of them. Small tables are looked at whole, so there the oldest is the oldest. And where
//! responses must go, a [queue](super::queue) of them says which is the oldest, as far as it knows any.
//!
//! The order of sacrifice: what has ended; under byte pressure, responses (their records stay as
//! tombstones, so nothing runs twice); completed records and tombstones that are older than `keep_at_least`.
//! Of records, those of callers that have more than their share go before others.
//! A claim in flight is never given up, nor is a record of unknown outcome. A response is worth less than a
//! record: it costs other responses and at most [`RECORDS_PER_RESPONSE`] old tombstones, or else becomes a
//! tombstone itself.
//!
//! How much one request looks at is bounded, however full the table is, and with what.

use super::{
    bucket::{Bucket, Entry},
    horizon::Forgotten,
    memory::{Cas, SharedMemory, Written},
    queue::SMALL,
    shares::Tag,
    slots::BucketIndex,
    store::SharedDataStore,
    totals::{Reserved, Totals},
};
use crate::{
    config::{ENTRY_BYTES, OnFull, Share},
    record::{Phase, Record},
    request::OperationId,
    store::StoreError,
    time::Timestamp,
};

/// How many records that may go are compared for the oldest, and the rest of the last bucket. Redis compares 5
/// (`maxmemory-samples`), and says nothing of how soon it forgets; of 32, in a steady flow of records that are given up
/// only here, the youngest that goes is some 0.7 times as old as the mean, and of 16 half as old.
const COMPARED: usize = 32;

/// How many buckets are looked at before the table counts as full of what must stay: some 128 records.
const FARTHEST: u32 = 32;

/// How many places are looked at where the queue says that a response is, and where it is gone.
const MOST_STALE: usize = 16;

/// How many buckets one request reads to make room, with all that it gives up: a large response may take the place of
/// many small ones.
const MOST_READ: u32 = 128;

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
    /// Bytes for a response: how many are lacking.
    ResponseBytes(u64),
}

/// A record that may be given up, and how readily.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Victim {
    rank: Rank,
    holder: Holder,
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
    Record,
}

/// Whose a record is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Holder {
    /// A caller's that has as many as one may.
    OverShare,
    Other,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
struct Search {
    need: Need,
    /// What one caller may have of the table.
    share: Share,
    /// Only this caller's records are to go.
    only: Option<Tag>,
    now: Timestamp,
}

/// The part of a table that is looked at for a victim, as it grows bucket by bucket.
#[derive(Debug, Default)]
struct Sample {
    compared: usize,
    oldest: Option<Chosen>,
}

impl Sample {
    /// Takes in a bucket and what of it may be given up.
    fn see(&mut self, bucket: Bucket, cas: Cas, victims: &[Victim]) {
        self.compared += victims.len();
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
}

impl<M: SharedMemory> SharedDataStore<M> {
    /// Takes room in the table, making some if need be; `false` if there is none.
    pub(super) fn take_room(
        &self,
        wanted: Totals,
        operation: &OperationId,
        share: Share,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if wanted.bytes > self.limits.max_bytes {
            return Ok(false);
        }
        let taken = self.take_or_make_room(wanted, operation, share, now);
        // What cannot be given back is tried again at the next tick.
        let _ = self.allowance.give_back_surplus(&self.memory);
        taken
    }

    fn take_or_make_room(
        &self,
        wanted: Totals,
        operation: &OperationId,
        share: Share,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        // Of the buckets that this request may read. Each sacrifice takes at least one.
        let mut left = MOST_READ;
        loop {
            let reserved = match self.allowance.take(wanted, &self.memory, &self.limits) {
                Err(StoreError::Unreadable(_)) => {
                    self.repair_totals()?;
                    self.allowance.take(wanted, &self.memory, &self.limits)?
                }
                reserved => reserved?,
            };
            let (need, holds_responses) = match reserved {
                Reserved::Wish | Reserved::Need => return Ok(true),
                Reserved::TooManyEntries => (Need::Entry, false),
                Reserved::TooManyBytes { holds_responses, .. } if wanted.entries > 0 => {
                    (Need::RecordBytes, holds_responses)
                }
                Reserved::TooManyBytes { lacking, holds_responses } => (Need::ResponseBytes(lacking), holds_responses),
            };
            let search = Search { need, share, only: None, now };
            if self.sacrifice(&search, holds_responses, self.index_of(operation), &mut left)?.is_none() {
                return Ok(false);
            }
        }
    }

    /// Gives up one record of the bucket itself; `false` if there is none that may go.
    pub(super) fn evict_from(&self, index: BucketIndex, share: Share, now: Timestamp) -> Result<bool, StoreError> {
        let (bucket, cas) = self.read_bucket(index)?;
        let search = Search { need: Need::Entry, share, only: None, now };
        let Some(victim) = self.victims(index, &bucket, &search).into_iter().min() else { return Ok(false) };
        self.give_up(Chosen { victim, bucket, cas }, now)?;
        Ok(true)
    }

    /// Gives up the oldest record of a caller in a sample from `start` on; `None` if there is none that may go.
    ///
    /// A caller that has its share has many in any sample.
    pub(super) fn give_up_own(
        &self,
        caller: Tag,
        start: BucketIndex,
        now: Timestamp,
    ) -> Result<Option<Written>, StoreError> {
        let search = Search { need: Need::Entry, share: Share::WHOLE, only: Some(caller), now };
        self.sacrifice(&search, false, start, &mut MOST_READ.clone())
    }

    pub(super) fn may_evict(&self) -> bool {
        self.limits.on_full == OnFull::EvictOldest
    }

    /// Gives up the oldest response that the queue knows, or else the oldest record (or response) of a sample, and
    /// keeps the room that it took; `None` if there is none within reach that may go. `left` is how many buckets may be
    /// read.
    ///
    /// The sample begins at `start`, where an operation's keyed hash says, in effect at random.
    fn sacrifice(
        &self,
        search: &Search,
        holds_responses: bool,
        start: BucketIndex,
        left: &mut u32,
    ) -> Result<Option<Written>, StoreError> {
        let mut sample = Sample::default();
        if holds_responses && self.may_evict() {
            self.ask_queue(&mut sample, search, left)?;
        }
        if !sample.has_response() {
            self.look_around(&mut sample, search, start, left)?;
        }
        sample.oldest.map(|chosen| self.give_up(chosen, search.now)).transpose()
    }

    /// Makes a sample of the oldest response, if the queue knows it.
    fn ask_queue(&self, sample: &mut Sample, search: &Search, left: &mut u32) -> Result<(), StoreError> {
        for _ in 0..MOST_STALE {
            if *left == 0 || sample.has_response() {
                break;
            }
            let Some(index) = self.queue.pop(search.now, &self.memory)? else { break };
            self.look_at(index, sample, search, left)?;
        }
        Ok(())
    }

    /// Makes a sample of the buckets from `start` on.
    fn look_around(
        &self,
        sample: &mut Sample,
        search: &Search,
        start: BucketIndex,
        left: &mut u32,
    ) -> Result<(), StoreError> {
        let buckets = self.table.buckets.max(1);
        for step in 0..buckets.min(FARTHEST) {
            if *left == 0 || buckets > SMALL && sample.compared >= COMPARED {
                break;
            }
            let index = BucketIndex(start.0.wrapping_add(step).checked_rem(buckets).unwrap_or(0));
            self.look_at(index, sample, search, left)?;
        }
        Ok(())
    }

    /// Takes one bucket into a sample.
    fn look_at(
        &self,
        index: BucketIndex,
        sample: &mut Sample,
        search: &Search,
        left: &mut u32,
    ) -> Result<(), StoreError> {
        *left = left.saturating_sub(1);
        match self.read_bucket(index) {
            Ok((bucket, cas)) => {
                let victims = self.victims(index, &bucket, search);
                sample.see(bucket, cas, &victims);
                Ok(())
            }
            // Calls for its own operations fail; those for others need not.
            Err(StoreError::Unreadable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What of a bucket may be given up.
    fn victims(&self, index: BucketIndex, bucket: &Bucket, search: &Search) -> Vec<Victim> {
        let victim = |entry: &Entry| {
            if search.only.is_some() && entry.caller != search.only {
                return None;
            }
            let rank = self.rank(&entry.record, search.need, search.now)?;
            let has_its_share = |tag| self.shares.is_held(search.share, tag, self.limits.max_entries);
            let holder = if entry.caller.is_some_and(has_its_share) { Holder::OverShare } else { Holder::Other };
            Some(Victim { rank, holder, since: entry.record.phase.since(), index, operation: entry.operation })
        };
        bucket.entries().iter().filter_map(victim).collect()
    }

    /// How readily a record is given up for `need`; `None` if it must stay.
    fn rank(&self, record: &Record, need: Need, now: Timestamp) -> Option<Rank> {
        if record.is_expired(now) {
            return Some(Rank::Expired);
        }
        if !self.may_evict() {
            return None;
        }
        // One that ended after `now` did so before the clock was set back: how old it is nobody knows.
        let is_old = now.since(record.phase.since()) >= self.limits.keep_at_least;
        match (&record.phase, need) {
            (Phase::Completed { .. }, Need::RecordBytes | Need::ResponseBytes(_)) => Some(Rank::Response),
            (Phase::NotKept { .. }, Need::ResponseBytes(lacking)) => {
                (is_old && lacking <= RECORDS_PER_RESPONSE * ENTRY_BYTES).then_some(Rank::Record)
            }
            (Phase::Completed { .. } | Phase::NotKept { .. }, _) => is_old.then_some(Rank::Record),
            // Nobody knows whether it ran, so its key stays blocked for as long as it was to be.
            (Phase::InFlight { .. } | Phase::Unknown { .. }, _) => None,
        }
    }

    /// Takes a victim out, or its response, and keeps the room that it took; does nothing if its bucket has changed,
    /// because then it may no longer be what it was, and the caller looks again.
    fn give_up(&self, Chosen { victim, mut bucket, cas }: Chosen, now: Timestamp) -> Result<Written, StoreError> {
        let Some(entry) = bucket.find(&victim.operation).cloned() else { return Ok(Written::Lost) };
        let tombstone = match victim.rank {
            Rank::Response => entry.record.without_response(),
            Rank::Expired | Rank::Record => None,
        };
        let size = entry.record.phase.response_size();
        let room = if tombstone.is_some() { Totals::of_response(size) } else { Totals::of_entry(size) };
        bucket.replace(&victim.operation, tombstone);
        if self.write_bucket(victim.index, &bucket, cas)? == Written::Lost {
            return Ok(Written::Lost);
        }
        self.count(|tally| match victim.rank {
            Rank::Expired => tally.expired += 1,
            Rank::Response => tally.dropped_responses += 1,
            Rank::Record => tally.evicted += 1,
        });
        if victim.rank != Rank::Response {
            entry.caller.into_iter().for_each(|tag| self.shares.remove(tag, &self.memory));
        }
        if victim.rank == Rank::Record {
            let ttl = entry.record.phase.expires().since(victim.since);
            self.horizon.note(Forgotten { age: now.since(victim.since), ttl });
        }
        if size > 0 {
            self.empty_response(victim.index.response_key(entry.position), entry.record.owner)?;
        }
        self.allowance.keep(room);
        Ok(Written::Done)
    }
}
