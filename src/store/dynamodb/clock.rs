//! The clock of DynamoDB, by the `Date` of its replies.

use crate::time::Timestamp;

/// By how many milliseconds the clock is ahead that has said this `Date`: the whole seconds of it.
#[must_use]
pub fn ahead(date: &[u8], now: Timestamp) -> Option<i64> {
    seconds_of(std::str::from_utf8(date).ok()?)?.checked_mul(1000)?.checked_sub(i64::try_from(now.as_millis()).ok()?)
}

/// The seconds since the epoch of a date as HTTP writes it (RFC 9110, section 5.6.7): `Tue, 14 Nov 2023 22:13:20 GMT`. The
/// crate `httpdate`, which the tests compare it with, adds 5.8 KB to the module.
pub(super) fn seconds_of(date: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = date.split_once(", ")?.1.split([' ', ':']);
    let day: i64 = parts.next()?.parse().ok()?;
    let month = i64::try_from(MONTHS.find(parts.next()?)? / 3).ok()? + 1;
    let mut number = || parts.next()?.parse::<i64>().ok().filter(|number| (0..10_000).contains(number));
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    // Counted from March, so that a leap day is the last one of its year.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_UNTIL_EPOCH;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// From the first of March of the year 0.
const DAYS_UNTIL_EPOCH: i64 = 719_468;

/// The time by a clock that is so much ahead.
pub(super) fn by_clock(ahead: Option<i64>, now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_add_signed(ahead.unwrap_or_default()))
}
