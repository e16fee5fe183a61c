//! What an operator asks of a remote store: to see a record, and to change it.
//!
//! A change takes two steps, because a store does not know the seal: the record is read and judged here, and then changed
//! by a rule that makes sure that it is still the same execution in the same state. If it is not, it is judged anew.
//! A step whose reply is lost is asked again; to the rule a change that is made already is no other one.

use std::{sync::Arc, time::Duration};

use super::{
    StoreError,
    dialect::{Dialect, Failure, Heard, Reply},
    inquiry::CLOCK_STEP,
};
use crate::{
    record::{Amended, Amendment, View},
    request::OperationId,
    time::Timestamp,
};

/// An operator's question about one operation, under way.
pub struct Review {
    operation: OperationId,
    amendment: Option<Amendment>,
    dialect: Arc<dyn Dialect>,
    stage: ReviewStage,
    bytes: Vec<u8>,
    attempts: u32,
    asked: Timestamp,
    timeout: Duration,
    /// Why it is not known whether an attempt at the change was carried out.
    doubt: Option<StoreError>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReviewStage {
    Looking,
    /// With what the record was when it was judged.
    Amending(View),
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reviewed {
    /// What is known of the operation.
    Seen(Option<View>),
    /// What became of the change.
    Amended(Amended),
    /// The store cannot say.
    Failed {
        /// Why.
        error: StoreError,
        /// Whether the change may have been made.
        may_have_amended: bool,
    },
}

impl std::fmt::Debug for Review {
    /// Without the bytes: they hold the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Review")
            .field("operation", &self.operation)
            .field("amendment", &self.amendment)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Review {
    pub(super) fn new(
        operation: OperationId,
        amendment: Option<Amendment>,
        dialect: Arc<dyn Dialect>,
        timeout: Duration,
    ) -> Self {
        Self {
            operation,
            amendment,
            stage: ReviewStage::Looking,
            bytes: dialect.look(&operation),
            dialect,
            attempts: 0,
            asked: Timestamp::default(),
            timeout,
            doubt: None,
        }
    }

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
    pub fn hear(&mut self, heard: Heard<'_>, now: Timestamp) -> Option<Reviewed> {
        let is_late = now.since(self.asked).saturating_add(CLOCK_STEP) >= self.timeout;
        let has_tried_enough = self.attempts >= ATTEMPTS;
        let outcome = heard.reply(is_late, &*self.dialect).and_then(|reply| self.go_on(reply, now));
        match outcome {
            Ok(None) if has_tried_enough => Some(self.failed(StoreError::Contended)),
            Ok(reviewed) => reviewed,
            Err(Failure { error, is_doubtful }) => {
                if is_doubtful && self.stage != ReviewStage::Looking {
                    self.doubt = Some(error);
                }
                let is_asked_again = is_doubtful || error.passes_at_once();
                (!is_asked_again || has_tried_enough).then(|| self.failed(error))
            }
        }
    }

    fn go_on(&mut self, reply: Reply<'_>, now: Timestamp) -> Result<Option<Reviewed>, Failure> {
        let before = match self.stage {
            ReviewStage::Looking => return self.judge(reply, now),
            ReviewStage::Amending(before) => before,
        };
        if self.dialect.amended(reply)? {
            return Ok(Some(Reviewed::Amended(Amended::Done { before, watchers: Vec::new() })));
        }
        // What was judged has changed. If that may have been this very change, and another request has begun since,
        // then that one is not what the operator meant.
        if let Some(error) = self.doubt {
            return Ok(Some(self.failed(error)));
        }
        self.stage = ReviewStage::Looking;
        self.bytes = self.dialect.look(&self.operation);
        Ok(None)
    }

    /// Takes in a record, and decides what it changes to.
    fn judge(&mut self, reply: Reply<'_>, now: Timestamp) -> Result<Option<Reviewed>, Failure> {
        let seen = self.dialect.seen(&self.operation, reply, now)?;
        let (seen, amendment) = match (seen, self.amendment) {
            (seen, None) => return Ok(Some(Reviewed::Seen(seen.map(|seen| seen.view)))),
            (None, Some(_)) => return Ok(Some(Reviewed::Amended(Amended::NoRecord))),
            (Some(seen), Some(amendment)) => (seen, amendment),
        };
        let ending = match seen.view.amend(amendment) {
            Ok(ending) => ending,
            Err(conflict) => return Ok(Some(Reviewed::Amended(Amended::Refused(conflict)))),
        };
        let bytes = self.dialect.amend(&self.operation, &seen, &ending, amendment.force, now);
        self.bytes = bytes.map_err(Failure::certain)?;
        self.stage = ReviewStage::Amending(seen.view);
        Ok(None)
    }

    fn failed(&self, error: StoreError) -> Reviewed {
        Reviewed::Failed { error, may_have_amended: self.doubt.is_some() }
    }
}

/// Two steps, each asked again once, or a record that changes once under the operator's hands.
const ATTEMPTS: u32 = 4;
