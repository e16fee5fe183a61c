//! The store in Redis or Valkey: one truth for any number of Envoys.
//!
//! Nothing here speaks to a network. A [call](Call) becomes an [`Inquiry`]: bytes for the host to send,
//! and a reader for what comes back. Envoy carries the bytes, over a connection for each call or over
//! pooled ones (docs/redis.md); to this code both look the same.
//!
//! What can go wrong between two steps, and what then holds:
//! - *The reply to a claim is lost*: it is asked again with the same owner, and Redis takes it for the
//!   same claim. If no reply comes at all, the claim is given back in the background, with a mark that
//!   makes it void should Redis carry it out later.
//! - *The owner dies*: its claim outlives its lease, so that the operation is found unknown, and does
//!   not vanish and run again.
//! - *The end of an execution cannot be recorded*: it is tried as long as the record would be kept. From the
//!   end of the lease until it is there the operation is found unknown (`inquiry`).
//! - *Redis loses a record*: what its owner says at the end is written all the same.

pub mod admission;
pub mod bridge;
mod checkup;
mod entry;
mod failure;
mod inquiry;
mod operator;
mod passing;
pub mod resp;
mod script;

use std::{sync::Arc, time::Duration};

pub use checkup::{Finding, RedisUsage};
use failure::Failure;
pub use failure::RedisError;
pub use inquiry::{Heard, Inquiry, Progress};
use inquiry::{Question, Terms};
pub use operator::{OperatorAnswer, OperatorInquiry};
pub use passing::Passing;

use self::{entry::PhaseByte, script::Scripts};
use super::{Answer, Call, Claimed, Settled, StoreError, integrity::Integrity};
use crate::{config::RedisConfig, record::Owner, request::OperationId, time::Timestamp};

/// The store of one worker; all workers of all Envoys see the same records.
#[derive(Debug)]
pub struct RedisStore {
    cluster: String,
    prefix: String,
    timeout: Duration,
    max_record: u64,
    database: u32,
    scripts: Scripts,
    login: Login,
    integrity: Arc<Integrity>,
}

/// What is sent ahead of each script.
struct Login {
    bytes: Vec<u8>,
    commands: usize,
}

impl std::fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("commands", &self.commands).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// The store behind a cluster; nothing is sent yet.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        let mut login = Login { bytes: Vec::new(), commands: 0 };
        if let Some(password) = &config.password {
            let mut parts: Vec<&[u8]> = vec![b"AUTH"];
            parts.extend(config.username.as_deref().map(str::as_bytes));
            parts.push(password.as_bytes());
            login.push(&parts);
        }
        if config.database != 0 {
            login.push(&[b"SELECT", config.database.to_string().as_bytes()]);
        }
        let integrity = Arc::new(Integrity::new(&config.integrity, config.prefix.clone()));
        Self {
            integrity,
            cluster: config.cluster,
            prefix: config.prefix,
            timeout: config.timeout,
            max_record: config.max_record,
            database: config.database,
            scripts: Scripts::new(),
            login,
        }
    }

    /// Envoy's name of the cluster to call.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// How long a request waits for the store at most.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The largest response that is kept, in bytes.
    #[must_use]
    pub fn max_record(&self) -> u64 {
        self.max_record
    }

    /// The way to the answer to `call`; or the answer, if it cannot be asked.
    ///
    /// # Errors
    /// The answer that says why there is no way.
    pub fn inquire(&self, call: &Call, now: Timestamp) -> Result<Inquiry, Answer> {
        match call {
            Call::Claim(claim) => {
                let tail = entry::claimed(&claim.operation, &claim.fingerprint, claim.owner, now)
                    .map_err(|error| Answer::Claimed(Claimed::Failed(StoreError::Unreadable(error))))?;
                let keep = claim.lease.saturating_add(claim.ttl);
                let request = self.request(
                    &self.scripts.claim,
                    &claim.operation,
                    claim.owner,
                    &[
                        claim.fingerprint.as_bytes(),
                        &millis(claim.lease),
                        &millis(keep),
                        if claim.retry_unknown { b"1" } else { b"0" },
                        &self.integrity.sign(&claim.operation, tail),
                    ],
                );
                let terms = Terms {
                    fingerprint: claim.fingerprint,
                    retry_unknown: claim.retry_unknown,
                    caller: claim.caller,
                    share: claim.share,
                };
                let question = Question::Claim(terms, Arc::clone(&self.integrity));
                Ok(Inquiry::new(claim.operation, question, request, self.timeout, claim.lease, now))
            }
            Call::Renew { operation, owner, lease, ttl } => {
                let keep = lease.saturating_add(*ttl);
                let request = self.request(&self.scripts.renew, operation, *owner, &[&millis(*lease), &millis(keep)]);
                Ok(Inquiry::new(*operation, Question::Renew, request, self.timeout, *lease, now))
            }
            Call::Settle { operation, fingerprint, owner, ending, lease, ttl } => {
                let ended = entry::ended(operation, fingerprint, *owner, ending, self.max_record, now);
                let (phase, tail, settled) =
                    ended.map_err(|error| Answer::Settled(Settled::Failed(StoreError::Unreadable(error)).into()))?;
                let tail = self.signed(operation, phase, tail);
                // The mark of a release is of use as long as a claim of its owner may be on the way.
                let keep = if phase == PhaseByte::Released { *lease } else { *ttl };
                let request = self.request(
                    &self.scripts.settle,
                    operation,
                    *owner,
                    &[&[phase as u8], fingerprint.as_bytes(), &millis(keep), &tail],
                );
                let inquiry =
                    Inquiry::new(*operation, Question::Settle { settled }, request, self.timeout, *lease, now);
                Ok(match phase {
                    PhaseByte::Completed | PhaseByte::NotKept | PhaseByte::Released => inquiry.lasting(*ttl),
                    PhaseByte::InFlight | PhaseByte::Unknown => inquiry,
                })
            }
        }
    }

    /// What stands behind the head of a value. Behind the mark of a release nothing does.
    fn signed(&self, operation: &OperationId, phase: PhaseByte, tail: Vec<u8>) -> Vec<u8> {
        if phase == PhaseByte::Released { tail } else { self.integrity.sign(operation, tail) }
    }

    /// The bytes to send, and how many replies they have.
    fn request(&self, script: &str, operation: &OperationId, owner: Owner, rest: &[&[u8]]) -> (Vec<u8>, usize) {
        let owner = owner.to_bytes();
        let mut arguments: Vec<&[u8]> = vec![&owner];
        arguments.extend(rest);
        self.eval(script, operation, &arguments)
    }

    /// The same for a script that not only owners use.
    fn eval(&self, script: &str, operation: &OperationId, arguments: &[&[u8]]) -> (Vec<u8>, usize) {
        let key = self.key(operation);
        let mut parts: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), b"1", key.as_bytes()];
        parts.extend(arguments);
        let mut bytes = self.login.bytes.clone();
        resp::push_command(&mut bytes, &parts);
        (bytes, self.login.commands + 1)
    }

    /// What every key begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the record of an operation is.
    fn key(&self, operation: &OperationId) -> String {
        format!("{}{operation}", self.prefix)
    }
}

impl Login {
    fn push(&mut self, command: &[&[u8]]) {
        resp::push_command(&mut self.bytes, command);
        self.commands += 1;
    }
}

/// As the scripts take times.
fn millis(time: Duration) -> Vec<u8> {
    time.as_millis().to_string().into_bytes()
}
