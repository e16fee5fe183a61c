//! Points in time as the core sees them: an argument, never a clock.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, read by the host layer.
///
/// The host's wall clock, because it is the one clock that all workers of an Envoy share.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This point moved on by `duration`; the last representable point if that is beyond it.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// This point moved back by `duration`; the epoch if that is before it.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(duration)))
    }

    /// Whether this point, set at most `ahead` before it, has come by `now`: it is past, or the clock was set back since.
    #[must_use]
    pub fn has_come(self, now: Self, ahead: Duration) -> bool {
        self <= now || self.since(now) > ahead
    }

    /// The same for a point that any worker of the Envoy has set: another may have read the clock a moment later than this
    /// one, and have written before it looked. So only what is further off than twice `ahead` shows that the clock was set
    /// back.
    #[must_use]
    pub fn has_come_for_all(self, now: Self, ahead: Duration) -> bool {
        self.has_come(now, ahead.saturating_mul(2))
    }

    /// How long it takes from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The date and time in the format of RFC 3339, in UTC and whole seconds: `2023-11-14T22:13:20Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let point = SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_RFC3339));
        humantime::format_rfc3339_seconds(point).to_string()
    }
}

/// The time of one event, read when it is first asked for and the same from then on. Most events of a stream need none,
/// and to read it is a call of the host.
#[derive(Debug)]
pub struct Now {
    clock: fn() -> Timestamp,
    read: Cell<Option<Timestamp>>,
}

impl Now {
    /// What `clock` will say.
    #[must_use]
    pub const fn of(clock: fn() -> Timestamp) -> Self {
        Self { clock, read: Cell::new(None) }
    }

    /// The time.
    #[must_use]
    pub fn get(&self) -> Timestamp {
        let now = self.read.get().unwrap_or_else(self.clock);
        self.read.set(Some(now));
        now
    }
}

impl From<Timestamp> for Now {
    fn from(now: Timestamp) -> Self {
        Self { clock: Timestamp::default, read: Cell::new(Some(now)) }
    }
}

/// Whole milliseconds; the most that there are if it has more. `Duration::as_millis` and checked products multiply to 128
/// bits, which WebAssembly does in 70 instructions, and each request reckons with a dozen times.
pub(crate) const fn whole_millis(time: Duration) -> u64 {
    if time.as_secs() > u64::MAX / 1_000 {
        return u64::MAX;
    }
    (time.as_secs() * 1_000).saturating_add(time.subsec_millis() as u64)
}

/// Whole seconds, rounded up: zero only if no time is left.
pub(crate) fn seconds_rounded_up(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// 9999-12-31T23:59:59Z: RFC 3339, section 5.6, has four digits for the year.
const LAST_RFC3339: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_700_000_000_999, "2023-11-14T22:13:20Z"),
            (LAST_RFC3339 + 1_000, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_rfc3339(), text);
        }
    }

    #[test]
    fn a_point_has_come_when_it_is_past_or_further_ahead_than_it_can_have_been_set() {
        let (point, ahead) = (Timestamp::from_millis(10_000), Duration::from_secs(1));
        for (now, has_come) in [(8_999, true), (9_000, false), (9_999, false), (10_000, true), (10_001, true)] {
            assert_eq!(point.has_come(Timestamp::from_millis(now), ahead), has_come, "{now}");
        }
    }

    #[test]
    fn milliseconds_are_those_of_the_library_as_far_as_they_fit() {
        let most = Duration::from_millis(u64::MAX);
        for time in
            [Duration::ZERO, Duration::from_micros(1_999), Duration::from_millis(61_001), most, most * 2, Duration::MAX]
        {
            assert_eq!(whole_millis(time), u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "{time:?}");
        }
    }

    #[test]
    fn saturates_at_both_ends() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::from_millis(1).since(end), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(5).before(Duration::from_millis(2)), Timestamp::from_millis(3));
        assert_eq!(Timestamp::from_millis(5).before(Duration::from_secs(1)), Timestamp::default());
    }
}
