//! What an operator asks of Redis: to see a record, and to change it.
//!
//! A change takes two steps, because Redis does not know the seal: the record is read and judged here, and then changed
//! by a script that makes sure that it is still the same execution in the same state. If it is not, it is judged anew.
//! A step whose reply is lost is asked again; to the script a change that is made already is no other one.

use std::time::Duration;

use super::{
    Failure, Heard, RedisError, RedisStore,
    entry::{self, PhaseByte, RecordSummary},
    inquiry::{CLOCK_STEP, last_value},
    resp::Value,
};
use crate::{
    record::{Amended, Amendment, Ending, Standing, View},
    request::OperationId,
    store::StoreError,
    time::Timestamp,
};

/// An operator's question about one operation, under way.
pub struct OperatorInquiry {
    operation: OperationId,
    amendment: Option<Amendment>,
    stage: OperatorStage,
    bytes: Vec<u8>,
    replies: usize,
    attempts: u32,
    asked: Timestamp,
    timeout: Duration,
    /// Why it is not known whether an attempt at the change was carried out.
    doubt: Option<StoreError>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OperatorStage {
    Looking,
    /// With what the record was when it was judged.
    Amending(View),
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperatorAnswer {
    /// What is known of the operation.
    Seen(Option<View>),
    /// What became of the change.
    Amended(Amended),
    /// Redis cannot say.
    Failed {
        /// Why.
        error: StoreError,
        /// Whether the change may have been made.
        may_have_amended: bool,
    },
}

impl std::fmt::Debug for OperatorInquiry {
    /// Without the bytes: they hold the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorInquiry")
            .field("operation", &self.operation)
            .field("amendment", &self.amendment)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// The way to see an operation's record, or to change it.
    #[must_use]
    pub fn operator_inquiry(&self, operation: OperationId, amendment: Option<Amendment>) -> OperatorInquiry {
        let (bytes, replies) = self.look(&operation);
        OperatorInquiry {
            operation,
            amendment,
            stage: OperatorStage::Looking,
            bytes,
            replies,
            attempts: 0,
            asked: Timestamp::default(),
            timeout: self.timeout,
            doubt: None,
        }
    }

    fn look(&self, operation: &OperationId) -> (Vec<u8>, usize) {
        self.eval(&self.scripts.look, operation, &[RecordSummary::last_byte(&self.integrity).to_string().as_bytes()])
    }

    fn amend(
        &self,
        operation: &OperationId,
        summary: &RecordSummary,
        ending: &Ending,
        force: bool,
        now: Timestamp,
    ) -> Result<(Vec<u8>, usize), StoreError> {
        let (phase, tail, _) = entry::ended(operation, &summary.fingerprint, summary.owner, ending, u64::MAX, now)?;
        Ok(self.request(
            &self.scripts.amend,
            operation,
            summary.owner,
            &[
                &[summary.phase as u8],
                &[phase as u8],
                if force { b"1" } else { b"0" },
                MARK_KEPT.as_millis().to_string().as_bytes(),
                &self.signed(operation, phase, tail),
            ],
        ))
    }
}

impl OperatorInquiry {
    /// The operation that it is about.
    #[must_use]
    pub fn operation(&self) -> &OperationId {
        &self.operation
    }

    /// What is to be changed, if anything is.
    #[must_use]
    pub fn amendment(&self) -> Option<Amendment> {
        self.amendment
    }

    /// Begins an attempt: what to send, and how long it may take.
    pub fn ask(&mut self, now: Timestamp) -> (&[u8], Duration) {
        self.asked = now;
        self.attempts = self.attempts.saturating_add(1);
        (&self.bytes, self.timeout)
    }

    /// Takes in what became of the attempt; `None` if it is to be asked again.
    pub fn hear(&mut self, store: &RedisStore, heard: Heard<'_>, now: Timestamp) -> Option<OperatorAnswer> {
        let is_late = now.since(self.asked).saturating_add(CLOCK_STEP) >= self.timeout;
        let has_tried_enough = self.attempts >= ATTEMPTS;
        let outcome = last_value(heard, self.replies, is_late).and_then(|value| self.go_on(store, value, now));
        match outcome {
            Ok(None) if has_tried_enough => Some(self.failed(StoreError::Contended)),
            Ok(reviewed) => reviewed,
            Err(failure) => {
                let error = StoreError::Redis(failure.error);
                if failure.is_doubtful && self.stage != OperatorStage::Looking {
                    self.doubt = Some(error);
                }
                (!failure.is_doubtful || has_tried_enough).then(|| self.failed(error))
            }
        }
    }

    fn go_on(&mut self, store: &RedisStore, value: Value, now: Timestamp) -> Result<Option<OperatorAnswer>, Failure> {
        match (self.stage, value) {
            (OperatorStage::Looking, Value::Integer(0)) => Ok(Some(self.not_found())),
            (OperatorStage::Looking, Value::Array(Some(found))) => self.judge(store, &found, now),
            (OperatorStage::Amending(before), Value::Integer(1)) => {
                Ok(Some(OperatorAnswer::Amended(Amended::Done { before, watchers: Vec::new() })))
            }
            // What was judged has changed. If that may have been this very change, and another request has begun since,
            // then that one is not what the operator meant.
            (OperatorStage::Amending(_), Value::Integer(0)) if let Some(error) = self.doubt => {
                Ok(Some(self.failed(error)))
            }
            (OperatorStage::Amending(_), Value::Integer(0)) => {
                self.stage = OperatorStage::Looking;
                (self.bytes, self.replies) = store.look(&self.operation);
                Ok(None)
            }
            _ => Err(Failure::doubtful(RedisError::Malformed)),
        }
    }

    /// Takes in a record: Redis's clock, how long it lives, its length, and its beginning.
    fn judge(
        &mut self,
        store: &RedisStore,
        found: &[Value],
        now: Timestamp,
    ) -> Result<Option<OperatorAnswer>, Failure> {
        let [Value::Integer(clock), Value::Integer(lives), Value::Integer(length), Value::Bulk(Some(beginning))] =
            found
        else {
            return Err(Failure::doubtful(RedisError::Malformed));
        };
        let number = |number: i64| u64::try_from(number).map_err(|_| Failure::certain(RedisError::Foreign));
        let summary = RecordSummary::read(beginning, number(*length)?, &self.operation, &store.integrity);
        let summary = summary.map_err(Failure::from)?;
        let Some(summary) = summary else { return Ok(Some(self.not_found())) };
        // Without an expiry (-1) it was not written by a script of ours.
        let view = summary.view(Timestamp::from_millis(number(*clock)?), Duration::from_millis(number(*lives)?), now);
        let Some(amendment) = self.amendment else { return Ok(Some(OperatorAnswer::Seen(Some(view)))) };
        let ending = match view.amend(amendment) {
            Ok(ending) => ending,
            Err(conflict) => return Ok(Some(OperatorAnswer::Amended(Amended::Refused(conflict)))),
        };
        let request = store.amend(&self.operation, &summary, &ending, amendment.force, now);
        (self.bytes, self.replies) = request.map_err(|_| Failure::certain(RedisError::Malformed))?;
        self.stage = OperatorStage::Amending(view);
        Ok(None)
    }

    fn not_found(&self) -> OperatorAnswer {
        match self.amendment {
            None => OperatorAnswer::Seen(None),
            Some(_) => OperatorAnswer::Amended(Amended::NoRecord),
        }
    }

    fn failed(&self, error: StoreError) -> OperatorAnswer {
        OperatorAnswer::Failed { error, may_have_amended: self.doubt.is_some() }
    }
}

impl RecordSummary {
    fn view(&self, clock: Timestamp, lives: Duration, now: Timestamp) -> View {
        let lease_left = self.lease_until.since(clock);
        let standing = match self.phase {
            PhaseByte::InFlight if lease_left.is_zero() => Standing::Lapsed,
            PhaseByte::InFlight => Standing::InFlight { lease_left },
            PhaseByte::Completed => Standing::Completed { status: self.status },
            PhaseByte::NotKept => Standing::NotKept { status: self.status },
            PhaseByte::Unknown | PhaseByte::Released => Standing::Unknown { lease_left },
        };
        let age = match standing {
            Standing::Lapsed => clock.since(self.lease_until),
            _ => now.since(self.at),
        };
        View { standing, age, expires: now.after(lives), response_bytes: self.response_bytes }
    }
}

/// Two steps, each asked again once, or a record that changes once under the operator's hands.
const ATTEMPTS: u32 = 4;

/// How long the mark of a record that was taken away is kept at least: as long as an execution may conceivably take
/// whose owner is to be fenced when it ends.
const MARK_KEPT: Duration = Duration::from_hours(24);
