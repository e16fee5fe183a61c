//! Who in this Envoy waits for executions that another Envoy may run, and who asks the store about them.
//!
//! Nobody tells this Envoy when another one's execution ends, so a waiting request has to ask. The board,
//! in shared data, makes that one question per operation and period, however many requests and workers
//! wait; and whoever learns of the end, by asking or by running the operation itself, finds here whom to
//! tell. It is a hint: what is lost or pushed out of it costs a few questions more.

use std::{hash::Hasher as _, time::Duration};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::{
    record::{Mailbox, decode, encode},
    request::OperationId,
    store::shared_data::{Cas, SharedMemory, Written},
    time::Timestamp,
};

/// The time between two questions about one operation.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// The operations that workers of this Envoy wait for.
#[derive(Debug)]
pub(super) struct WatchBoard<M> {
    memory: M,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Notice {
    operation: OperationId,
    watchers: Vec<Mailbox>,
    /// When it may be asked about again.
    poll_at: Timestamp,
}

impl<M: SharedMemory> WatchBoard<M> {
    pub(super) fn new(memory: M) -> Self {
        Self { memory }
    }

    /// Notes that a worker wants to be told of the end of an execution.
    pub(super) fn watch(&self, operation: &OperationId, watcher: Mailbox, now: Timestamp) {
        self.change(operation, now, |notice| {
            let is_new = !notice.watchers.contains(&watcher);
            if is_new {
                notice.watchers.push(watcher);
            }
            is_new
        });
    }

    /// Whether it is this caller's turn to ask about the operation.
    pub(super) fn may_poll(&self, operation: &OperationId, now: Timestamp) -> bool {
        self.change(operation, now, |notice| {
            let is_due = notice.poll_at <= now;
            if is_due {
                notice.poll_at = now.after(POLL);
            }
            is_due
        })
    }

    /// Takes the notice down; the workers that it names are to be told.
    pub(super) fn take(&self, operation: &OperationId) -> Vec<Mailbox> {
        let key = key(operation);
        for _ in 0..ATTEMPTS {
            let (mut notices, cas) = self.read(&key);
            let Some(index) = notices.iter().position(|notice| notice.operation == *operation) else { break };
            let notice = notices.swap_remove(index);
            if self.write(&key, &notices, cas) {
                return notice.watchers;
            }
        }
        Vec::new()
    }

    /// Changes a notice, or puts one up; what `change` says if that was written, or if there is no room
    /// and everybody has to look after themselves.
    fn change(&self, operation: &OperationId, now: Timestamp, change: impl Fn(&mut Notice) -> bool) -> bool {
        let key = key(operation);
        for _ in 0..ATTEMPTS {
            let (mut notices, cas) = self.read(&key);
            notices.retain(|notice| now.since(notice.poll_at) < STALE || notice.operation == *operation);
            let known = notices.iter_mut().find(|notice| notice.operation == *operation);
            let changed = if let Some(notice) = known {
                change(notice)
            } else {
                if notices.len() >= ROOM {
                    return true;
                }
                let mut notice = Notice { operation: *operation, watchers: Vec::new(), poll_at: now.after(POLL) };
                change(&mut notice);
                notices.push(notice);
                true
            };
            if !changed {
                return false;
            }
            if self.write(&key, &notices, cas) {
                return true;
            }
        }
        true
    }

    fn read(&self, key: &str) -> (Vec<Notice>, Cas) {
        match self.memory.get(key) {
            // Unreadable data was left by another release; overwrite it.
            Ok(Some((bytes, cas))) => (decode(&bytes).unwrap_or_default(), cas),
            Ok(None) | Err(_) => (Vec::new(), Cas::NEVER_ISSUED),
        }
    }

    fn write(&self, key: &str, notices: &Vec<Notice>, cas: Cas) -> bool {
        let bytes = encode(notices).unwrap_or_default();
        self.memory.set(key, &bytes, cas).is_ok_and(|written| written == Written::Done)
    }
}

/// Keys of shared data cannot be deleted, so there is a fixed set of them.
fn key(operation: &OperationId) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(operation.as_bytes());
    format!("idemgate/v1/n{:x}", hasher.finish() % KEYS)
}

const KEYS: u64 = 1024;

/// Notices under one key.
const ROOM: usize = 16;

/// When nobody can be waiting for it any more: whoever does asks far more often.
const STALE: Duration = Duration::from_secs(10);

/// How often a write is tried that other workers' writes come in the way of.
const ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests;
