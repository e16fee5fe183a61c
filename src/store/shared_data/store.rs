//! The store of one worker: what it does for each call.

use std::{
    cell::{Cell, RefCell},
    hash::Hasher as _,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{
    allowance::Allowance,
    bucket::{Bucket, Entry},
    horizon::{Forgotten, Horizon},
    memory::{Cas, Change, SharedMemory, Written, retry, update},
    queue::Queue,
    recent::Recent,
    recount::Recount,
    shares::{Shares, Tag},
    slots::{self, BucketIndex, SlotKey},
    totals::{self, Totals},
};
use crate::{
    config::{Share, SharedDataConfig},
    record::{
        Claim, CodecError, Decision, Fenced, KeptResponse, Owner, Record, Standing, StoredResponse, decode, encode,
    },
    request::OperationId,
    store::{Answer, Call, Claimed, Ending, Renewed, Scarce, Settled, Settlement, StoreError},
    time::Timestamp,
};

/// How buckets are written. A table whose buckets are written otherwise is not opened.
const LAYOUT: u8 = 1;

/// The store of one worker; all workers see the same records.
#[derive(Debug)]
pub struct SharedDataStore<M> {
    pub(super) memory: M,
    pub(super) table: Table,
    pub(super) limits: SharedDataConfig,
    pub(super) allowance: Allowance,
    pub(super) queue: Queue,
    pub(super) horizon: Horizon,
    pub(super) shares: Shares,
    pub(super) recount: RefCell<Option<Recount>>,
    recent: RefCell<Recent>,
    tally: Cell<Tally>,
}

/// What the store did on its own account since it was last asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Responses evicted before their time; their tombstones stay.
    pub dropped_responses: u32,
    /// Records given up before their time to make room: keys forgotten.
    pub evicted: u32,
    /// Records reclaimed after their time.
    pub expired: u32,
}

/// The table's geometry. It stays as it was when the table was first used: with another number of
/// buckets the records would no longer be found, and their operations would run again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Table {
    /// Keys the hash that picks a bucket, so that no client can aim its keys at one.
    seed: u128,
    pub(super) buckets: u32,
    /// How its buckets are written.
    layout: u8,
}

impl<M: SharedMemory> SharedDataStore<M> {
    /// Opens the table, or lays it out if this is the first worker.
    ///
    /// `seed` must be random; it is used only by the worker that lays the table out.
    ///
    /// # Errors
    /// [`StoreError`] if the host refuses or the table is of another release.
    pub fn open(memory: M, limits: SharedDataConfig, seed: u128) -> Result<Self, StoreError> {
        let buckets = limits.max_entries.div_ceil(slots::BUCKET_LOAD).max(1);
        let wanted = Table { seed, buckets, layout: LAYOUT };
        // If another worker was first, this write is lost and its table is the one that is read.
        memory.set(slots::TABLE, &encode(&wanted)?, Cas::NEVER_ISSUED)?;
        let bytes = memory.get(slots::TABLE)?.map(|(bytes, _)| bytes).unwrap_or_default();
        let table: Table = decode(&bytes)?;
        if table.layout != LAYOUT {
            return Err(CodecError::Version(table.layout).into());
        }
        let allowance = Allowance::new(&limits);
        let queue = Queue::new(table.buckets, &limits);
        let shares = Shares::new(allowance.ahead().entries);
        Ok(Self {
            memory,
            table,
            limits,
            allowance,
            queue,
            horizon: Horizon::default(),
            shares,
            recount: RefCell::default(),
            recent: RefCell::default(),
            tally: Cell::default(),
        })
    }

    /// The store of a worker that remembers this already.
    #[doc(hidden)]
    #[must_use]
    pub fn remembering(mut self, recent: Recent) -> Self {
        self.recent = recent.into();
        self
    }

    /// What the worker remembers in the end.
    #[doc(hidden)]
    #[must_use]
    pub fn into_recent(self) -> Recent {
        self.recent.into_inner()
    }

    /// Whether the table can hold what the limits allow. It cannot after the limits were raised far
    /// beyond those that it was laid out for; then it takes effect when Envoy starts anew.
    #[must_use]
    pub fn has_capacity(&self) -> bool {
        u64::from(self.table.buckets) * u64::from(slots::BUCKET_CAPACITY / 2) >= u64::from(self.limits.max_entries)
    }

    /// Does what `call` asks.
    pub fn call(&self, call: Call, now: Timestamp) -> Answer {
        match call {
            Call::Claim(claim) => Answer::Claimed(self.claim(&claim, now).unwrap_or_else(Claimed::Failed)),
            Call::Renew { operation, owner, lease, ttl } => {
                Answer::Renewed(self.renew(&operation, owner, lease, ttl, now).unwrap_or_else(Renewed::Failed))
            }
            Call::Settle { operation, owner, ending, ttl, .. } => {
                let failed = |error| Settled::Failed(error).into();
                Answer::Settled(self.settle(&operation, owner, &ending, ttl, now).unwrap_or_else(failed))
            }
        }
    }

    /// What the store did on its own account since the last call of this method.
    pub fn take_tally(&self) -> Tally {
        self.tally.take()
    }

    /// What is in use of the table, by all workers.
    ///
    /// # Errors
    /// [`StoreError`] if the totals cannot be read.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        totals::read(&self.memory).map(|sum| sum.totals)
    }

    /// Gives back the room that this worker has taken ahead of its need, and tells whose records it has added and taken
    /// out. To be called every second or so, and before the worker goes.
    ///
    /// # Errors
    /// [`StoreError`] if the totals or the counts cannot be changed; then it is tried again with the next call.
    pub fn give_back_room(&self) -> Result<(), StoreError> {
        self.allowance.give_back(&self.memory).and(self.shares.tell(&self.memory))
    }

    /// Reads how soon the table evicts for the other workers, and publishes it for this one. To be called every second or so.
    /// Hands back a key that was forgotten, if it is the first one of an hour: a line for the log.
    ///
    /// # Errors
    /// [`StoreError`] if shared data cannot be read or written; then it is tried again with the next call.
    pub fn share_horizon(&self, now: Timestamp) -> Result<Option<Forgotten>, StoreError> {
        if self.may_evict() { self.horizon.share(&self.memory, now) } else { Ok(None) }
    }

    /// The youngest key that was forgotten of late to make room; `None` if none was.
    #[must_use]
    pub fn horizon(&self) -> Option<Forgotten> {
        self.horizon.known()
    }

    /// Forgets the response that was replayed last. To be called every second or so.
    pub fn forget_recent(&self) {
        self.recent.borrow_mut().forget();
    }

    fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed, StoreError> {
        let index = self.index_of(&claim.operation);
        retry(|| {
            let found = self.memory.get(&index.key())?;
            if let Some((_, cas)) = &found
                && let Some((record, response)) = self.recent.borrow().replay(claim, *cas, now)
            {
                return Ok(Some(Claimed::Completed { response, expires: self.kept_until(record, now) }));
            }
            let (mut bucket, cas) = decode_bucket(found)?;
            if bucket.entries().iter().any(|entry| entry.record.is_expired(now)) {
                self.reclaim(index, now)?;
                return Ok(None);
            }
            let Some(entry) = bucket.find(&claim.operation) else { return self.insert(index, bucket, cas, claim, now) };
            let (record, claimed) = match entry.record.admit(claim, now) {
                Decision::Take => (claim.granted(now), Claimed::Granted),
                Decision::Watch { record, lease_left } => {
                    let age = record.running_for(now);
                    (record, Claimed::InFlight { age, lease_left })
                }
                Decision::KeyReused => return Ok(Some(Claimed::KeyReused)),
                Decision::Refuse(Standing::Completed { status }) => {
                    return self.replay(index, entry, cas, status, now);
                }
                Decision::Refuse(Standing::InFlight { lease_left }) => {
                    return Ok(Some(Claimed::InFlight { age: entry.record.running_for(now), lease_left }));
                }
                Decision::Refuse(Standing::Lapsed) => {
                    return Ok(Some(Claimed::Unknown { lease_left: Duration::ZERO }));
                }
                Decision::Refuse(Standing::NotKept { status }) => return Ok(Some(Claimed::NotKept { status })),
                Decision::Refuse(Standing::Unknown { lease_left }) => return Ok(Some(Claimed::Unknown { lease_left })),
            };
            bucket.replace(&claim.operation, Some(record));
            Ok((self.write_bucket(index, &bucket, cas)? == Written::Done).then_some(claimed))
        })
    }

    /// The response of a completed entry; `None` if it was given up since the bucket was read.
    fn replay(
        &self,
        index: BucketIndex,
        entry: &Entry,
        cas: Cas,
        status: u16,
        now: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        Ok(match self.response(index, entry)? {
            Some(response) => {
                let response = Arc::new(response);
                self.recent.borrow_mut().remember(entry, cas, &response);
                Some(Claimed::Completed { response, expires: self.kept_until(&entry.record, now) })
            }
            None if self.read_bucket(index)?.1 != cas => None,
            // Damaged from outside. That it ran is known all the same, and must be said: a store that merely fails may be
            // bypassed.
            None => Some(Claimed::NotKept { status }),
        })
    }

    /// Until when a completed record is sure to be there. In a table that gives up records it is theirs only for as long
    /// as all are kept; past that it may go at any moment.
    fn kept_until(&self, record: &Record, now: Timestamp) -> Timestamp {
        let expires = record.phase.expires();
        if self.horizon.known().is_none() {
            return expires;
        }
        record.phase.since().after(self.limits.keep_at_least).max(now).min(expires)
    }

    /// Adds a claim to a bucket that does not know its operation; `None` if something has changed meanwhile.
    fn insert(
        &self,
        index: BucketIndex,
        mut bucket: Bucket,
        cas: Cas,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        let Some(position) = bucket.free_position() else {
            let made_room = self.may_evict() && self.evict_from(index, claim.share, now)?;
            return Ok((!made_room).then_some(Claimed::Full));
        };
        let caller = self.tag_of(claim);
        if let Some(tag) = caller
            && !self.shares.allow(claim.share, tag, self.limits.max_entries, &self.memory)?
        {
            match self.give_up_own(tag, index, now)? {
                Some(Written::Done) => {}
                Some(Written::Lost) => return Ok(None),
                None => return Ok(Some(Claimed::OverShare(Scarce::Records))),
            }
        }
        let room = Totals::of_entry(0);
        if !self.take_room(room, &claim.operation, claim.share, now)? {
            return Ok(Some(Claimed::Full));
        }
        bucket.insert(Entry { operation: claim.operation, position, caller, record: claim.granted(now) });
        let written = self.write_bucket(index, &bucket, cas);
        if written == Ok(Written::Done) {
            caller.into_iter().for_each(|tag| self.shares.add(tag, &self.memory));
        } else {
            totals::give_back(&self.memory, room)?;
        }
        Ok((written? == Written::Done).then_some(Claimed::Granted))
    }

    fn renew(
        &self,
        operation: &OperationId,
        owner: Owner,
        lease: Duration,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Renewed, StoreError> {
        let changed = self.change(operation, &Fenced, |record| record.renew(owner, lease, ttl, now).map(Some))?;
        Ok(if changed.is_ok() { Renewed::Extended } else { Renewed::Fenced })
    }

    fn settle(
        &self,
        operation: &OperationId,
        owner: Owner,
        ending: &Ending,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Settlement, StoreError> {
        let (ending, settled) = match ending {
            Ending::Completed(response) => return self.complete(operation, owner, response, ttl, now),
            Ending::NotKept(status) => (Ending::NotKept(*status), Settled::NotKept),
            Ending::Released => (Ending::Released, Settled::Released),
            Ending::Unknown => (Ending::Unknown, Settled::Unknown),
        };
        let changed = self.change(operation, &Fenced, |record| record.settle(owner, ending, ttl, now))?;
        if let Ok(changed) = &changed {
            self.give_back(changed)?;
        }
        Ok(Settlement::new(settled, changed.ok().map(|changed| changed.entry.record)))
    }

    /// Keeps the response if there is room for it, else the fact that there was one.
    fn complete(
        &self,
        operation: &OperationId,
        owner: Owner,
        response: &StoredResponse,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Settlement, StoreError> {
        // Seen to before room is made: an owner that lost its claim must cost nobody anything.
        let index = self.index_of(operation);
        let (bucket, cas) = self.read_bucket(index)?;
        if bucket.find(operation).is_none_or(|entry| entry.record.check_owner(owner).is_err()) {
            return Ok(Settled::Fenced.into());
        }
        let bytes = response.encode(operation, owner)?;
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let room = Totals::of_response(size);
        if self.take_room(room, operation, Share::WHOLE, now)? {
            let stored = self.store_response(Seen { index, bucket, cas }, operation, owner, &bytes, |record| {
                let kept = KeptResponse { status: response.status, size };
                record.settle(owner, Ending::Completed(kept), ttl, now).ok().flatten()
            });
            if matches!(stored, Ok(Some(_))) {
                // One that the queue does not know is found without it.
                let _ = self.queue.push(index, size, now.after(ttl), &self.memory);
            } else {
                totals::give_back(&self.memory, room)?;
            }
            return Ok(Settlement::new(Settled::Completed, stored?));
        }
        self.settle(operation, owner, &Ending::NotKept(response.status), ttl, now)
    }

    /// Writes a response, then the record that points to it; `None` if `settle` refuses, else the
    /// record as it was before. The bucket was `seen` a moment ago.
    fn store_response(
        &self,
        seen: Seen,
        operation: &OperationId,
        owner: Owner,
        bytes: &[u8],
        settle: impl Fn(&Record) -> Option<Record>,
    ) -> Result<Option<Record>, StoreError> {
        let mut written = None;
        let stored = self.try_to_store(seen, operation, owner, bytes, settle, &mut written);
        if !matches!(stored, Ok(Some(_)))
            && let Some(key) = written
        {
            self.empty_response(key, owner)?;
        }
        stored
    }

    /// As [`store_response`](Self::store_response), but leaves what it wrote under the key `written`.
    fn try_to_store(
        &self,
        seen: Seen,
        operation: &OperationId,
        owner: Owner,
        bytes: &[u8],
        settle: impl Fn(&Record) -> Option<Record>,
        written: &mut Option<SlotKey>,
    ) -> Result<Option<Record>, StoreError> {
        let settled_in = |bucket: &Bucket| {
            let entry = bucket.find(operation)?;
            Some((entry.position, settle(&entry.record)?))
        };
        let Seen { index, bucket, cas } = seen;
        let mut seen = Some((bucket, cas));
        retry(|| {
            // However old the first look is, the write fails if the bucket has changed since.
            let (mut bucket, mut cas) = match seen.take() {
                Some(seen) => seen,
                None => self.read_bucket(index)?,
            };
            let Some((position, mut settled)) = settled_in(&bucket) else { return Ok(Some(None)) };
            let key = index.response_key(position);
            let (present, response_cas) = self.memory.get(&key)?.unwrap_or((Vec::new(), Cas::NEVER_ISSUED));
            if !StoredResponse::belongs_to(&present, owner) {
                if !present.is_empty() {
                    // Left by a dead worker, or just written by an owner that took the claim over. The
                    // version of it is known now, so a second look at the claim decides safely.
                    (bucket, cas) = self.read_bucket(index)?;
                    let Some(again) = settled_in(&bucket) else { return Ok(Some(None)) };
                    settled = again.1;
                }
                if self.memory.set(&key, bytes, response_cas)? == Written::Lost {
                    return Ok(None);
                }
            }
            *written = Some(key);
            let before = bucket.replace(operation, Some(settled)).map(|entry| entry.record);
            Ok((self.write_bucket(index, &bucket, cas)? == Written::Done).then_some(before))
        })
    }

    /// Changes one record by compare-and-swap to what `change` makes of it, or takes it out if that is nothing. Otherwise
    /// what `change` has against it, or `missing` if there is none.
    pub(super) fn change<R: Clone>(
        &self,
        operation: &OperationId,
        missing: &R,
        change: impl Fn(&Record) -> Result<Option<Record>, R>,
    ) -> Result<Result<Changed, R>, StoreError> {
        let index = self.index_of(operation);
        update(&self.memory, &index.key(), |found| {
            let mut bucket = Bucket::decode(found.unwrap_or_default())?;
            let entry = bucket.find(operation).ok_or_else(|| missing.clone());
            let left = match entry.and_then(|entry| change(&entry.record)) {
                Ok(left) => left,
                Err(refused) => return Ok(Change::Keep(Err(refused))),
            };
            let is_gone = left.is_none();
            let before = bucket.replace(operation, left).ok_or_else(|| missing.clone());
            Ok(Change::Write(bucket.encode()?, before.map(|entry| Changed { index, entry, is_gone })))
        })
    }

    /// Gives back what a record took that was changed.
    pub(super) fn give_back(&self, Changed { index, entry, is_gone }: &Changed) -> Result<(), StoreError> {
        let size = entry.record.phase.response_size();
        if *is_gone {
            self.discard(*index, entry)
        } else if size > 0 {
            self.empty_response(index.response_key(entry.position), entry.record.owner)?;
            totals::give_back(&self.memory, Totals::of_response(size))
        } else {
            Ok(())
        }
    }

    /// The stored response of a completed entry; `None` if it is no longer there.
    fn response(&self, index: BucketIndex, entry: &Entry) -> Result<Option<StoredResponse>, StoreError> {
        let stored = self.memory.get(&index.response_key(entry.position))?;
        Ok(stored.and_then(|(bytes, _)| StoredResponse::decode(&bytes, &entry.operation, entry.record.owner).ok()))
    }

    /// Takes out what has ended in one bucket, and hands back what is left.
    pub(super) fn reclaim(&self, index: BucketIndex, now: Timestamp) -> Result<Bucket, StoreError> {
        let (bucket, expired) = update(&self.memory, &index.key(), |found| {
            let mut bucket = Bucket::decode(found.unwrap_or_default())?;
            let expired = bucket.remove_expired(now);
            Ok(if expired.is_empty() {
                Change::Keep((bucket, expired))
            } else {
                Change::Write(bucket.encode()?, (bucket, expired))
            })
        })?;
        self.count(|tally| tally.expired += u32::try_from(expired.len()).unwrap_or(u32::MAX));
        let mut discarded = Ok(());
        for entry in &expired {
            // All of them, even if one fails: nobody else will.
            discarded = discarded.and(self.discard(index, entry));
        }
        discarded.map(|()| bucket)
    }

    /// Gives back what an entry took that is no longer in its bucket.
    fn discard(&self, index: BucketIndex, entry: &Entry) -> Result<(), StoreError> {
        let size = entry.record.phase.response_size();
        entry.caller.into_iter().for_each(|tag| self.shares.remove(tag, &self.memory));
        if size > 0 {
            self.empty_response(index.response_key(entry.position), entry.record.owner)?;
        }
        totals::give_back(&self.memory, Totals::of_entry(size))
    }

    /// Empties a response's key if what is there is `owner`'s.
    pub(super) fn empty_response(&self, key: SlotKey, owner: Owner) -> Result<(), StoreError> {
        if let Some((bytes, cas)) = self.memory.get(&key)?
            && StoredResponse::belongs_to(&bytes, owner)
        {
            // Lost only to a new response at the same place, which must stay.
            self.memory.set(&key, &[], cas)?;
        }
        Ok(())
    }

    pub(super) fn read_bucket(&self, index: BucketIndex) -> Result<(Bucket, Cas), StoreError> {
        decode_bucket(self.memory.get(&index.key())?)
    }

    pub(super) fn write_bucket(&self, index: BucketIndex, bucket: &Bucket, cas: Cas) -> Result<Written, StoreError> {
        self.memory.set(&index.key(), &bucket.encode()?, cas)
    }

    pub(super) fn index_of(&self, operation: &OperationId) -> BucketIndex {
        let buckets = u64::from(self.table.buckets.max(1));
        BucketIndex(u32::try_from(self.keyed_hash(operation.as_bytes()) % buckets).unwrap_or(0))
    }

    /// Where the records of a caller are counted, if it is bound by a share.
    pub(super) fn tag_of(&self, claim: &Claim) -> Option<Tag> {
        (claim.share != Share::WHOLE).then(|| Tag::new(self.keyed_hash(claim.caller.as_bytes())))
    }

    fn keyed_hash(&self, bytes: &[u8]) -> u64 {
        let seed = self.table.seed.to_le_bytes();
        let mut hasher = SipHasher13::new_with_key(&seed);
        hasher.write(bytes);
        hasher.finish()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        change(&mut tally);
        self.tally.set(tally);
    }
}

/// A bucket as it was `found`, with its version; an empty one if it was never written.
fn decode_bucket(found: Option<(Vec<u8>, Cas)>) -> Result<(Bucket, Cas), StoreError> {
    match found {
        Some((bytes, cas)) => Ok((Bucket::decode(&bytes)?, cas)),
        None => Ok((Bucket::default(), Cas::NEVER_ISSUED)),
    }
}

impl Settlement {
    /// The end of an execution whose record was `before`; without one the owner was fenced off.
    fn new(settled: Settled, before: Option<Record>) -> Self {
        match before {
            Some(record) => Self { settled, watchers: record.watchers().to_vec() },
            None => Settled::Fenced.into(),
        }
    }
}

/// A bucket as it was a moment ago.
struct Seen {
    index: BucketIndex,
    bucket: Bucket,
    cas: Cas,
}

/// An entry as it was before it was changed.
#[derive(Debug)]
pub(super) struct Changed {
    index: BucketIndex,
    pub(super) entry: Entry,
    /// Whether it was taken out.
    is_gone: bool,
}
