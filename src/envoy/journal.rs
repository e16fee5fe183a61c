//! What the log tells of single operations: the operation by a short hash, how it ended, and why. Never a
//! key, a caller or a body.
//!
//! Every decision is told at level `debug`; those that an operator may have to act on at level `warn`, a limited
//! number at a time: an upstream that is down leaves thousands of unknown outcomes, and metrics count those.

use std::{cell::Cell, fmt, time::Duration};

use crate::{exchange::Counter, request::OperationId, time::Timestamp};

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Journal {
    since: Cell<Timestamp>,
    lines: Cell<u32>,
}

impl Journal {
    /// Tells what is counted of a request, with its operation, if that is known.
    pub(super) fn note(&self, counter: Counter, operation: Option<&OperationId>, is_shadow: bool, now: Timestamp) {
        let line = Line { counter, operation, is_shadow };
        if counter.is_notable() && self.has_room(now) {
            log::warn!("{line}");
        } else {
            log::debug!("{line}");
        }
    }

    /// Whether one more line may be told; says so when no more may be.
    fn has_room(&self, now: Timestamp) -> bool {
        if self.since.get().after(PERIOD).has_come(now, PERIOD) {
            self.since.set(now);
            self.lines.set(0);
        }
        let lines = self.lines.get().saturating_add(1);
        self.lines.set(lines);
        if lines == MOST_LINES {
            log::warn!(
                "idemgate: more operations are told of at level debug only for the next {} s; the metrics count all",
                PERIOD.as_secs()
            );
        }
        lines < MOST_LINES
    }
}

struct Line<'a> {
    counter: Counter,
    operation: Option<&'a OperationId>,
    is_shadow: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shadow { "idemgate: shadow: " } else { "idemgate: " })?;
        match self.operation {
            Some(operation) => write!(f, "operation {}", operation.short())?,
            None => f.write_str("a request")?,
        }
        let name = self.counter.name();
        write!(f, ": {} ({})", name.strip_prefix("idemgate.").unwrap_or(name), self.counter.meaning())
    }
}

const PERIOD: Duration = Duration::from_secs(10);

/// How many lines a worker tells at level `warn` in one period, with the one that says that there are more.
const MOST_LINES: u32 = 21;
