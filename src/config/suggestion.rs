//! "Did you mean …?" for a key that is almost right.

use strsim::levenshtein;

/// The closest of the `known` keys to an `unknown` one, in any case, if it is close enough for a slip.
pub(super) fn suggestion(unknown: &str, known: &[&'static str]) -> Option<&'static str> {
    let unknown = unknown.to_ascii_lowercase();
    let near = known
        .iter()
        .filter(|key| key.len().abs_diff(unknown.len()) <= MOST_SLIPS)
        .map(|key| (levenshtein(&unknown, key), *key))
        .filter(|(slips, key)| *slips <= MOST_SLIPS && *slips * 2 < key.len());
    near.min().map(|(_, key)| key)
}

/// A transposition ("requierd") is two.
const MOST_SLIPS: usize = 2;

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn only_a_near_miss_is_suggested() {
        let known = &["lease", "limits", "ttl"];
        for (unknown, suggested) in [
            ("leese", Some("lease")),
            ("Limit", Some("limits")),
            ("imitss", Some("limits")),
            ("imitsss", None),
            ("TTL", Some("ttl")),
            ("timeout", None),
            ("xxl", None),
            ("", None),
        ] {
            assert_eq!(suggestion(unknown, known), suggested, "{unknown}");
        }
    }
}
