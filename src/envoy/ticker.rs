//! When the host's timer fires: once in a period, and soon if something waits for its turn.

use std::time::Duration;

use super::host;
use crate::time::Timestamp;

/// The timer of one root context.
#[derive(Debug)]
pub(super) struct Ticker {
    /// Whose timer it is.
    root: u32,
    period: Duration,
    /// When a period ended last.
    ended: Timestamp,
    pace: Pace,
}

/// How soon the next tick comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pace {
    /// When a period is over.
    Regular,
    /// At once, to go on with what waits for its turn.
    Hurried,
    /// When what was left of a period is over that was hurried through.
    CatchingUp,
}

/// The period of hurried ticks. Envoy serves its connections in between; messages to the worker's own queue would all be
/// delivered before it does.
const SOON: Duration = Duration::from_millis(1);

impl Ticker {
    /// To be called with the root context in effect.
    pub(super) fn start(root: u32, period: Duration, now: Timestamp) -> Self {
        host::set_tick_period(period);
        Self { root, period, ended: now, pace: Pace::Regular }
    }

    /// Notes that the host's timer has fired; whether a period is over.
    pub(super) fn tick(&mut self, now: Timestamp) -> bool {
        match self.pace {
            Pace::Hurried if !self.ended.after(self.period).has_come(now, self.period) => return false,
            Pace::CatchingUp => {
                self.pace = Pace::Regular;
                host::set_tick_period(self.period);
            }
            Pace::Hurried | Pace::Regular => {}
        }
        self.ended = now;
        true
    }

    /// Has the next tick come as soon as it is wanted. Whatever context was in effect, the root context is if that changes
    /// anything.
    pub(super) fn hurry_if(&mut self, is_wanted: bool, now: Timestamp) {
        let (pace, period) = match (self.pace, is_wanted) {
            (Pace::Regular | Pace::CatchingUp, true) => (Pace::Hurried, SOON),
            (Pace::Hurried, false) => {
                (Pace::CatchingUp, self.ended.after(self.period).since(now).clamp(SOON, self.period))
            }
            _ => return,
        };
        self.pace = pace;
        let _ = host::set_effective_context(self.root);
        host::set_tick_period(period);
    }
}
