//! How much of a thing that all callers use one of them may have.

/// A part of all places, in percent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Share(u8);

impl Share {
    /// All of it: nobody is bound.
    pub const WHOLE: Self = Self(100);

    /// A percentage, from 1 to 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self(if percent == 0 {
            1
        } else if percent > 100 {
            100
        } else {
            percent
        })
    }

    /// Whether a caller that has `held` of `places` may have one more, when all callers together have `taken`.
    ///
    /// As long as no more than half is taken, others have room enough, and a caller that is alone is not bound by what
    /// nobody asks for.
    #[must_use]
    pub fn allows(self, held: u64, taken: u64, places: u64) -> bool {
        self == Self::WHOLE || taken.saturating_mul(2) < places || held < self.of(places)
    }

    /// How many of `places` one caller may have in any case: at least one.
    fn of(self, places: u64) -> u64 {
        (places.saturating_mul(self.0.into()) / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_its_share_in_any_case_and_more_while_half_is_free() {
        let share = Share::percent(25);
        for (held, taken, may) in [(0, 0, true), (49, 49, true), (50, 50, false), (24, 99, true), (25, 50, false)] {
            assert_eq!(share.allows(held, taken, 100), may, "{held} of {taken}");
        }
        // Whether there is a place at all is for others to say.
        assert!(share.allows(24, 100, 100));
    }

    #[test]
    fn a_share_is_one_place_at_least() {
        for places in 1..4 {
            assert!(Share::percent(1).allows(0, places, places));
            assert!(!Share::percent(1).allows(1, places, places));
        }
    }

    #[test]
    fn nobody_is_bound_by_the_whole() {
        assert!(Share::WHOLE.allows(u64::MAX, u64::MAX, 1));
        assert_eq!((Share::percent(100), Share::percent(200)), (Share::WHOLE, Share::WHOLE));
        assert_eq!(Share::percent(0), Share::percent(1));
    }
}
