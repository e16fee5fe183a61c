//! Who holds something that one worker at a time may hold, and until when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{record::Owner, time::Timestamp};

/// One worker's right to something, which ends unless it is renewed: it outlives a worker that died by a term at most.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Lease {
    holder: Owner,
    until: Timestamp,
}

impl Lease {
    /// The lease of `worker` for a term from `now` on, if nobody else holds it.
    ///
    /// One that ends later than a term from now began before the clock was set back, and binds nobody.
    #[must_use]
    pub fn take(self, worker: Owner, term: Duration, now: Timestamp) -> Option<Self> {
        let is_free = self.holder == worker || self.until.has_come(now, term);
        is_free.then(|| Self { holder: worker, until: now.after(term) })
    }
}

impl Default for Lease {
    /// Nobody's.
    fn default() -> Self {
        Self { holder: Owner::new(0), until: Timestamp::default() }
    }
}
