//! "Did you mean …?" for a key that is almost right.

use std::fmt;

/// The known key that an unknown one was probably meant to be; its `Display` goes behind "an unknown key".
#[derive(Debug)]
pub(super) struct Suggestion(Option<&'static str>);

impl Suggestion {
    /// The closest of `known` to `unknown`, if it is close enough to be a slip.
    pub(super) fn for_key(unknown: &str, known: &'static [&'static str]) -> Self {
        let near = known
            .iter()
            .filter(|key| key.len().abs_diff(unknown.len()) <= MOST_SLIPS)
            .map(|key| (distance(unknown, key), *key))
            .filter(|(slips, key)| *slips <= MOST_SLIPS && *slips * 2 < key.len());
        Self(near.min().map(|(_, key)| key))
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |key| write!(f, " (did you mean {key}?)"))
    }
}

/// How many bytes must be inserted, removed or replaced to make `a` of `b` (Levenshtein's distance), in any case.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (above, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(&to));
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A transposition ("requierd") is two.
const MOST_SLIPS: usize = 2;

#[cfg(test)]
mod tests {
    use super::{Suggestion, distance};

    #[test]
    fn distance_counts_single_edits() {
        for (a, b, slips) in
            [("", "", 0), ("", "abc", 3), ("ttl", "tll", 1), ("key", "keys", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn only_a_near_miss_is_suggested() {
        let known = &["lease", "limits", "ttl"];
        for (unknown, suggested) in [
            ("leese", " (did you mean lease?)"),
            ("Limit", " (did you mean limits?)"),
            ("TTL", " (did you mean ttl?)"),
            ("timeout", ""),
            ("xxl", ""),
            ("", ""),
        ] {
            assert_eq!(Suggestion::for_key(unknown, known).to_string(), suggested, "{unknown}");
        }
    }
}
