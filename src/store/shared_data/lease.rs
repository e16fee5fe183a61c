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
    /// One that began before the clock was set back binds nobody.
    #[must_use]
    pub fn take(self, worker: Owner, term: Duration, now: Timestamp) -> Option<Self> {
        let is_free = self.holder == worker || self.until.has_come_for_all(now, term);
        is_free.then(|| Self { holder: worker, until: now.after(term) })
    }
}

impl Default for Lease {
    /// Nobody's.
    fn default() -> Self {
        Self { holder: Owner::new(0), until: Timestamp::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(30);

    #[test]
    fn a_lease_binds_workers_that_read_the_clock_before_it_was_taken() {
        let (one, other) = (Owner::new(1), Owner::new(2));
        let now = Timestamp::from_millis(1_000_000);
        let lease = Lease::default().take(one, TERM, now).unwrap();
        for other_now in [999_999, 1_000_000, 1_029_999] {
            assert!(lease.take(other, TERM, Timestamp::from_millis(other_now)).is_none(), "{other_now}");
        }
        // It is over, or the clock was set back.
        for other_now in [1_030_000, 900_000] {
            assert!(lease.take(other, TERM, Timestamp::from_millis(other_now)).is_some(), "{other_now}");
        }
        assert!(lease.take(one, TERM, now).is_some());
    }
}
