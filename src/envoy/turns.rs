//! How much one call of the host's may set off.
//!
//! A crowd may wait for one event: the end of an execution, a moment, an answer of the store. What the event brings
//! about for each of them is done in turns, so many in a call, and a tick that comes soon goes on with the rest.

use std::{cell::Cell, time::Duration};

/// The turns that are left until the host calls again from its event loop.
#[derive(Debug, Default)]
pub(super) struct Turns {
    left: Cell<u32>,
}

/// How many replies, resumes and calls to clusters are asked of the host at a time.
///
/// Envoy carries out all replies and resumes of a call into the VM when the call is over, each nested in the one before;
/// so it does with the answers to calls that fail at once, each of which may lead to a reply. Too many of them overflow
/// the stack of V8 ("Uncaught RangeError: Maximum call stack size exceeded"), which ends the VM. Found with requests that
/// wait for one execution, or whose time to wait is over, in one worker: Envoy 1.36.2 and 1.40.0 carry out 305 replies
/// at a time, and die of 307. That is with no filter behind this one; each has a share of the stack.
const PER_CALL: u32 = 32;

impl Turns {
    /// Notes that the host calls from its event loop, in a tick or for a queue, and nothing is nested in anything.
    pub(super) fn begin(&self) {
        self.left.set(PER_CALL);
    }

    pub(super) fn are_left(&self) -> bool {
        self.left.get() > 0
    }

    pub(super) fn take(&self) {
        self.left.set(self.left.get().saturating_sub(1));
    }
}

/// How soon the next tick comes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Pace {
    /// When a period is over.
    #[default]
    Regular,
    /// At once, to go on with what waits for its turn.
    Hurried,
    /// When what was left of a period is over that was hurried through.
    CatchingUp,
}

/// The period of hurried ticks. Envoy serves its connections in between; messages to the worker's own queue would all be
/// delivered before it does.
pub(super) const SOON: Duration = Duration::from_millis(1);
