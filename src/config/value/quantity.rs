//! Numbers, and numbers with a unit behind them: `30s`, `64KiB`, `25%`.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer};

use crate::config::json::read_value;
use crate::config::share::Share;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Number<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    pub(in crate::config) fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_value(deserializer, &format!("a whole number from {MIN} to {MAX}"), |node| {
            let value = u32::try_from(node.unsigned()?).ok()?;
            (MIN..=MAX).contains(&value).then_some(Self(value))
        })
    }
}

/// A part from 1 to 100 percent, written with its sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Percentage(u8);

impl Percentage {
    pub(in crate::config) fn get(self) -> Share {
        Share::percent(self.0)
    }
}

impl<'de> Deserialize<'de> for Percentage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_value(deserializer, "a string from \"1%\" to \"100%\"", |node| {
            let percent = u8::try_from(read(node.text()?, &[("%", 1)])?).ok()?;
            (1..=100).contains(&percent).then_some(Self(percent))
        })
    }
}

/// A duration of `MIN` to `MAX` milliseconds, written as digits and a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Period<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Period<MIN, MAX> {
    /// What is allowed, in words.
    pub(in crate::config) fn allowed() -> String {
        // No unit is the largest that divides zero.
        let shortest = if MIN == 0 { "0s".to_owned() } else { write(MIN, &TIMES) };
        let longest = write(MAX, &TIMES);
        format!("a duration from \"{shortest}\" to \"{longest}\", digits and one of the units ms, s, m, h, d")
    }

    pub(in crate::config) fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Period<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_value(deserializer, &Self::allowed(), |node| {
            let millis = read(node.text()?, &TIMES)?;
            (MIN..=MAX).contains(&millis).then_some(Self(millis))
        })
    }
}

/// A size of `MIN` to `MAX` bytes, written as a number of bytes or as digits and a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) struct Size<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    /// What is allowed, in words.
    pub(in crate::config) fn allowed() -> String {
        let (smallest, largest) = (bytes_text(MIN), bytes_text(MAX));
        format!(
            "a size from {smallest} to {largest}, a whole number of bytes or digits and one of the units KiB, MiB, GiB"
        )
    }

    pub(in crate::config) fn get(self) -> u64 {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_value(deserializer, &Self::allowed(), |node| {
            let bytes = node.unsigned().or_else(|| read(node.text()?, &SIZES))?;
            (MIN..=MAX).contains(&bytes).then_some(Self(bytes))
        })
    }
}

/// `bytes` as a size is written: `"64KiB"`, or a number where no unit divides it.
pub(in crate::config) fn bytes_text(bytes: u64) -> String {
    let text = write(bytes, &SIZES);
    if text.ends_with("iB") { format!("\"{text}\"") } else { text }
}

/// A unit and how many of the base unit it is; a list of units goes from the smallest to the largest.
type Unit = (&'static str, u64);

/// The value of `text` in the base unit; `None` unless it is digits and a unit, or if it does not fit into 64 bits.
fn read(text: &str, units: &[Unit]) -> Option<u64> {
    let (digits, suffix) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == suffix)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `value` in the largest unit that divides it; a bare number if none does.
fn write(value: u64, units: &[Unit]) -> String {
    match units.iter().rev().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => value.to_string(),
    }
}

const SIZES: [Unit; 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: [Unit; 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[cfg(test)]
mod tests {
    use super::{Unit, read, write};

    const UNITS: [Unit; 2] = [("s", 1), ("m", 60)];

    #[test]
    fn a_quantity_is_digits_and_one_unit() {
        assert_eq!(read("90s", &UNITS), Some(90));
        assert_eq!(read("2m", &UNITS), Some(120));
        for text in ["", "5", "s", "5h", "5 s", " 5s", "5s ", "1m30s", "-5s", "+5s", "1.5s", "5S", "٥s", "1e3s"] {
            assert_eq!(read(text, &UNITS), None, "{text:?}");
        }
    }

    #[test]
    fn a_quantity_beyond_64_bits_is_refused_and_does_not_wrap() {
        assert_eq!(read("18446744073709551615s", &UNITS), Some(u64::MAX));
        assert_eq!(read("18446744073709551616s", &UNITS), None);
        assert_eq!(read("307445734561825861m", &UNITS), None);
    }

    #[test]
    fn a_quantity_is_written_in_its_largest_whole_unit() {
        for (value, text) in [(0, "0"), (1, "1s"), (60, "1m"), (90, "90s"), (120, "2m")] {
            assert_eq!(write(value, &UNITS), text);
        }
    }
}
