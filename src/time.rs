//! Points in time as the core sees them: an argument, never a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, read by the host layer at the start of each callback.
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
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whether this point, set at most `ahead` before it, has come by `now`: it is past, or the clock was set back since.
    #[must_use]
    pub fn has_come(self, now: Self, ahead: Duration) -> bool {
        self <= now || self.since(now) > ahead
    }

    /// How long it takes from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The date and time in the format of RFC 3339, in UTC and whole seconds: `2023-11-14T22:13:20Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> [u8; 20] {
        let seconds = self.0.min(LAST_RFC3339) / 1000;
        let (days, second_of_day) = (seconds / DAY, seconds % DAY);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let [[y0, y1], [y2, y3]] = [two_digits(year / 100), two_digits(year)];
        let [[m0, m1], [d0, d1]] = [month, day].map(two_digits);
        let [[h0, h1], [i0, i1], [s0, s1]] = [hour, minute, second].map(two_digits);
        [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1, b'Z']
    }
}

/// Year, month and day, so many days after the Unix epoch.
///
/// Counted from 1 March of the year 0, each cycle of 400 years has the same days, and a leap day is the last of its
/// year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    // Without the leap days before it, every year has 365 days: one in 4 years, not in 100, in 400.
    let year = (day - day / (CYCLE_OF_4 - 1) + day / CYCLE_OF_100 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, months of 31 and 30 days come in runs of five that take 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (400 * cycle + year + u64::from(is_next_year), month, day)
}

/// The last two digits of a number.
fn two_digits(number: u64) -> [u8; 2] {
    let number = u8::try_from(number % 100).unwrap_or_default();
    [b'0' + number / 10, b'0' + number % 10]
}

/// 9999-12-31T23:59:59Z: RFC 3339, section 5.6, has four digits for the year.
const LAST_RFC3339: u64 = 253_402_300_799_000;

/// Seconds.
const DAY: u64 = 86_400;

/// Days from 1 March of the year 0 to the Unix epoch.
const EPOCH: u64 = 719_468;

/// Days of 4, 100 and 400 years.
const CYCLE_OF_4: u64 = 1_461;
const CYCLE_OF_100: u64 = 36_524;
const CYCLE: u64 = 146_097;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn formats_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_999).to_rfc3339(), *b"2023-11-14T22:13:20Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_rfc3339(), *b"9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_day_has_the_date_that_another_implementation_gives_it() {
        for day in 0..=LAST_RFC3339 / 1000 / DAY {
            let seconds = day * DAY + day % DAY;
            let point = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let expected = humantime::format_rfc3339_seconds(point).to_string();
            assert_eq!(Timestamp::from_millis(seconds * 1000).to_rfc3339(), expected.as_bytes(), "{expected}");
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
    fn saturates_at_both_ends() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::from_millis(1).since(end), Duration::ZERO);
    }
}
