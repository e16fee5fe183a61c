//! "Did you mean …?" for a key that is almost right.

use std::fmt;

use strsim::levenshtein;

/// The known key that an unknown one was probably meant to be; its `Display` goes behind "an unknown key".
#[derive(Debug)]
pub(super) struct Suggestion(Option<&'static str>);

impl Suggestion {
    /// The closest of `known` to `unknown`, if it is close enough to be a slip.
    pub(super) fn for_key(unknown: &str, known: &'static [&'static str]) -> Self {
        let unknown = unknown.to_ascii_lowercase();
        let near = known
            .iter()
            .filter(|key| key.len().abs_diff(unknown.len()) <= MOST_SLIPS)
            .map(|key| (levenshtein(&unknown, key), *key))
            .filter(|(slips, key)| *slips <= MOST_SLIPS && *slips * 2 < key.len());
        Self(near.min().map(|(_, key)| key))
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |key| write!(f, " (did you mean {key}?)"))
    }
}

/// A transposition ("requierd") is two.
const MOST_SLIPS: usize = 2;

#[cfg(test)]
mod tests {
    use super::Suggestion;

    #[test]
    fn only_a_near_miss_is_suggested() {
        let known = &["lease", "limits", "ttl"];
        for (unknown, suggested) in [
            ("leese", " (did you mean lease?)"),
            ("Limit", " (did you mean limits?)"),
            ("TTL", " (did you mean ttl?)"),
            ("imitss", " (did you mean limits?)"),
            ("imitsss", ""),
            ("timeout", ""),
            ("xxl", ""),
            ("", ""),
        ] {
            assert_eq!(Suggestion::for_key(unknown, known).to_string(), suggested, "{unknown}");
        }
    }
}
