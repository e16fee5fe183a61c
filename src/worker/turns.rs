//! How much one call of the host's may lead to.
//!
//! A crowd may wait for one event: the end of an execution, a moment, an answer of the store. What the event brings
//! about for each of them is done in turns, a limited number in a call, and a tick that comes soon goes on with the rest.

/// The turns that are left until the host calls again from its event loop.
#[derive(Clone, Debug)]
pub struct Turns {
    per_call: u32,
    left: u32,
}

/// How many replies, resumes and calls to clusters are asked of the host at a time.
///
/// Envoy carries out all replies and resumes of a call into the VM when the call is over, each nested in the one before;
/// so it does with the answers to calls that fail at once, and each may lead to a reply. Too many of them overflow
/// the stack of V8 ("Uncaught RangeError: Maximum call stack size exceeded"), which ends the VM. Found with requests that
/// wait for one execution, or whose time to wait is over, in one worker: Envoy 1.36.2 and 1.40.0 carry out 305 replies
/// at a time, and die of 307. That is with no filter behind this one; each has a share of the stack.
pub(super) const PER_CALL: u32 = 32;

impl Default for Turns {
    fn default() -> Self {
        Self::new(PER_CALL)
    }
}

impl Turns {
    pub(super) const fn new(per_call: u32) -> Self {
        Self { per_call, left: 0 }
    }

    /// Notes that the host calls from its event loop, in a tick or for a queue, and nothing is nested in anything.
    pub fn begin(&mut self) {
        self.left = self.per_call;
    }

    /// Whether one more may be taken.
    #[must_use]
    pub const fn are_left(&self) -> bool {
        self.left > 0
    }

    /// Takes one.
    pub fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
