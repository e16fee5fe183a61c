//! Numbers with a unit behind them: `30s`, `64KiB`.

/// A unit and how many of the base unit it is; a list of units goes from the smallest to the largest.
pub(super) type Unit = (&'static str, u64);

/// The value of `text` in the base unit; `None` unless it is digits and a unit, or if it does not fit into 64 bits.
pub(super) fn read(text: &str, units: &[Unit]) -> Option<u64> {
    let (digits, suffix) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == suffix)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `value` in the largest unit that divides it; a bare number if none does.
pub(super) fn write(value: u64, units: &[Unit]) -> String {
    match units.iter().rev().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => value.to_string(),
    }
}

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
