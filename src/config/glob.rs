//! Patterns over paths and authorities: `*` within a segment, `**` across segments.
//!
//! A path's segments end at `/`, an authority's at `.`. `/**` behind a segment matches nothing at all, too, so that
//! `/orders/**` is the collection and everything below it: whoever guards the one wants the other guarded.

/// A compiled pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Glob {
    /// What every match begins with.
    prefix: Vec<u8>,
    /// What follows, from the first wildcard on.
    tokens: Vec<Token>,
    /// The byte at which segments end.
    separator: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token {
    /// This byte.
    Byte(u8),
    /// Any bytes but the separator.
    InSegment,
    /// Any bytes.
    Any,
    /// The separator; or nothing, and then nothing of the [`Any`](Self::Any) behind it either.
    Below,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BadGlob {
    /// It has more than two stars in a row.
    Stars,
    /// It has more than [`LONGEST_PATTERN`] bytes.
    TooLong,
}

/// In bytes; it bounds what a match costs.
pub(super) const LONGEST_PATTERN: usize = 256;

impl Glob {
    /// Compiles a pattern over segments that end at `separator`.
    pub(super) fn compile(pattern: &[u8], separator: u8) -> Result<Self, BadGlob> {
        if pattern.len() > LONGEST_PATTERN {
            return Err(BadGlob::TooLong);
        }
        if pattern.windows(3).any(|bytes| bytes == b"***") {
            return Err(BadGlob::Stars);
        }
        let is_literal = |byte: &u8| *byte != b'*';
        let stars_at = pattern.iter().position(|byte| !is_literal(byte)).unwrap_or(pattern.len());
        // A separator in front of two stars belongs to them.
        let prefix_end = match pattern.get(..stars_at) {
            Some([.., last]) if *last == separator => stars_at - 1,
            _ => stars_at,
        };
        let (prefix, mut rest) = pattern.split_at_checked(prefix_end).unwrap_or((pattern, &[]));
        let mut tokens = Vec::with_capacity(rest.len());
        while let [first, behind @ ..] = rest {
            let is_segment_end = |rest: &[u8]| rest.first().is_none_or(|next| *next == separator);
            rest = match (first, behind) {
                (first, [b'*', b'*', behind @ ..]) if *first == separator && is_segment_end(behind) => {
                    tokens.extend([Token::Below, Token::Any]);
                    behind
                }
                (b'*', [b'*', behind @ ..]) => {
                    tokens.push(Token::Any);
                    behind
                }
                (b'*', behind) => {
                    tokens.push(Token::InSegment);
                    behind
                }
                (byte, behind) => {
                    tokens.push(Token::Byte(*byte));
                    behind
                }
            };
        }
        Ok(Self { prefix: prefix.to_vec(), tokens, separator })
    }

    /// The pattern that matches everything.
    pub(super) fn any(separator: u8) -> Self {
        Self { prefix: Vec::new(), tokens: vec![Token::Any], separator }
    }

    /// The pattern that matches everything that begins with the separator, and nothing at all.
    pub(super) fn below_root(separator: u8) -> Self {
        Self { prefix: Vec::new(), tokens: vec![Token::Below, Token::Any], separator }
    }

    /// Whether the pattern matches the whole of `text`.
    ///
    /// It costs at most the product of both lengths, whatever the pattern and the text: nothing is tried twice.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        text.strip_prefix(self.prefix.as_slice())
            .is_some_and(|rest| self.accepts(rest.iter().map(|byte| Token::Byte(*byte))))
    }

    /// Whether this pattern matches everything that `other` does. `true` is certain; `false` may be wrong of a few
    /// contrived pairs, such as two patterns that say the same in other words.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut text = other.prefix.iter().map(|byte| Token::Byte(*byte)).chain(other.tokens.iter().copied());
        self.separator == other.separator
            && self.prefix.iter().all(|byte| text.next() == Some(Token::Byte(*byte)))
            && self.accepts(text)
    }

    /// Whether the tokens match the whole of `text`, in which a wildcard stands for all that it matches itself.
    /// Follows all ways through the tokens at once.
    fn accepts(&self, text: impl Iterator<Item = Token>) -> bool {
        // One place in front of each token, and one behind the last.
        let mut places = vec![false; self.tokens.len() + 1];
        let mut next = places.clone();
        mark(&mut places, 0);
        self.leave_out(&mut places);
        let last = self.tokens.len().saturating_sub(1);
        for piece in text {
            // What follows is as good as matched.
            if self.tokens.last() == Some(&Token::Any) && is_marked(&places, last) {
                return true;
            }
            next.fill(false);
            for (place, token) in self.tokens.iter().enumerate() {
                if is_marked(&places, place)
                    && let Some(steps) = token.take(piece, self.separator)
                {
                    mark(&mut next, place + steps);
                }
            }
            self.leave_out(&mut next);
            std::mem::swap(&mut places, &mut next);
            if !places.contains(&true) {
                return false;
            }
        }
        is_marked(&places, self.tokens.len())
    }

    /// Marks the places behind tokens that match nothing.
    fn leave_out(&self, places: &mut [bool]) {
        for (place, token) in self.tokens.iter().enumerate() {
            if is_marked(places, place) {
                match token {
                    Token::Byte(_) => {}
                    Token::InSegment | Token::Any => mark(places, place + 1),
                    Token::Below => mark(places, place + 2),
                }
            }
        }
    }
}

impl Token {
    /// How many tokens further on the match is once this one has taken `piece`; `None` if it cannot.
    fn take(self, piece: Self, separator: u8) -> Option<usize> {
        match (self, piece) {
            (Self::Byte(byte), Self::Byte(found)) => (byte == found).then_some(1),
            (Self::Below, Self::Byte(found)) => (found == separator).then_some(1),
            (Self::Below, Self::Below) => Some(1),
            (Self::InSegment, Self::Byte(found)) => (found != separator).then_some(0),
            (Self::InSegment, Self::InSegment) | (Self::Any, _) => Some(0),
            (Self::Byte(_) | Self::Below | Self::InSegment, _) => None,
        }
    }
}

fn mark(places: &mut [bool], place: usize) {
    if let Some(place) = places.get_mut(place) {
        *place = true;
    }
}

fn is_marked(places: &[bool], place: usize) -> bool {
    places.get(place) == Some(&true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(pattern: &str) -> Glob {
        Glob::compile(pattern.as_bytes(), b'/').unwrap()
    }

    fn authority(pattern: &str) -> Glob {
        Glob::compile(pattern.as_bytes(), b'.').unwrap()
    }

    #[test]
    fn text_without_stars_matches_itself_alone() {
        let glob = path("/orders");
        assert!(glob.matches(b"/orders"));
        for text in ["", "/", "/order", "/orders/", "/orders1", "/Orders", "x/orders"] {
            assert!(!glob.matches(text.as_bytes()), "{text}");
        }
        assert!(path("").matches(b""));
        assert!(!path("").matches(b"/"));
    }

    #[test]
    fn one_star_stays_within_its_segment() {
        let glob = path("/orders/*/pay");
        assert!(glob.matches(b"/orders/17/pay") && glob.matches(b"/orders//pay"));
        assert!(!glob.matches(b"/orders/17/18/pay") && !glob.matches(b"/orders/pay"));
        let glob = path("/v*/orders*");
        assert!(glob.matches(b"/v2/orders") && glob.matches(b"/v/orders-archive"));
        assert!(!glob.matches(b"/v2/x/orders") && !glob.matches(b"/v2/orders/1"));
    }

    #[test]
    fn two_stars_cross_segments() {
        let glob = path("/a**z");
        assert!(glob.matches(b"/az") && glob.matches(b"/a/b/c/z") && glob.matches(b"/abcz"));
        assert!(!glob.matches(b"/a/b") && !glob.matches(b"/b/z"));
        assert!(path("**").matches(b"") && path("**").matches(b"/any/thing"));
    }

    #[test]
    fn two_stars_below_a_segment_are_it_and_everything_below_it() {
        let glob = path("/orders/**");
        for text in ["/orders", "/orders/", "/orders/1", "/orders/1/lines/2"] {
            assert!(glob.matches(text.as_bytes()), "{text}");
        }
        assert!(!glob.matches(b"/orders1") && !glob.matches(b"/order"));
        let glob = path("/a/**/z");
        assert!(glob.matches(b"/a/z") && glob.matches(b"/a/b/z") && glob.matches(b"/a/b/c/z"));
        assert!(!glob.matches(b"/az") && !glob.matches(b"/a/bz") && !glob.matches(b"/a/z/"));
        assert!(path("/**").matches(b"/") && path("/**").matches(b"/x"));
    }

    #[test]
    fn the_segments_of_an_authority_end_at_dots() {
        let glob = authority("*.example.com");
        assert!(glob.matches(b"api.example.com"));
        assert!(!glob.matches(b"example.com") && !glob.matches(b"a.b.example.com"));
        assert!(authority("**.example.com").matches(b"a.b.example.com"));
    }

    #[test]
    fn three_stars_and_endless_patterns_are_no_patterns() {
        assert_eq!(Glob::compile(b"/a***", b'/'), Err(BadGlob::Stars));
        assert_eq!(Glob::compile(&[b'a'; LONGEST_PATTERN + 1], b'/'), Err(BadGlob::TooLong));
        assert!(Glob::compile(&[b'a'; LONGEST_PATTERN], b'/').is_ok());
    }

    #[test]
    fn a_pattern_covers_those_that_say_less() {
        for (wide, narrow) in [
            ("**", "/orders"),
            ("**", "/a/**/z"),
            ("/**", "/orders/*"),
            ("/orders/**", "/orders"),
            ("/orders/**", "/orders/*/pay"),
            ("/orders/**", "/orders/**"),
            ("/orders/**", "/orders/a**"),
            ("/a/**/z", "/a/b/**/z"),
            ("/*", "/orders"),
            ("/*/pay", "/o*/pay"),
            ("/**/pay", "/orders/*/pay"),
        ] {
            assert!(path(wide).covers(&path(narrow)), "{wide} {narrow}");
        }
        for (narrow, wide) in [
            ("/orders", "/orders/**"),
            ("/*", "/**"),
            ("/orders/*", "/orders/**"),
            ("/orders/*", "/orders/a/b"),
            ("/*/pay", "/**/pay"),
            ("/a", "/b"),
            ("/orders/**", "/orders**"),
        ] {
            assert!(!path(narrow).covers(&path(wide)), "{narrow} {wide}");
        }
        assert!(!path("**").covers(&authority("**")));
    }

    #[test]
    fn a_long_text_and_many_stars_are_matched_in_reasonable_time() {
        // Tried one after the other, the ways through these would outnumber the atoms of the universe.
        let glob = path(&format!("/{}b", "*a".repeat(120)));
        assert!(!glob.matches(format!("/{}", "a".repeat(60_000)).as_bytes()));
        let glob = path(&format!("{}b", "**a".repeat(80)));
        assert!(!glob.matches("a".repeat(60_000).as_bytes()));
    }

    /// What a pattern means, said by trying everything.
    fn means(pattern: &[u8], text: &[u8]) -> bool {
        let splits = |limit: &dyn Fn(&[u8]) -> bool, rest: &[u8]| {
            (0..=text.len()).any(|end| limit(&text[..end]) && means(rest, &text[end..]))
        };
        match pattern {
            [] => text.is_empty(),
            [b'/', b'*', b'*', rest @ ..] if rest.first().is_none_or(|next| *next == b'/') => {
                splits(&|taken| taken.is_empty() || taken[0] == b'/', rest)
            }
            [b'*', b'*', rest @ ..] => splits(&|_| true, rest),
            [b'*', rest @ ..] => splits(&|taken| !taken.contains(&b'/'), rest),
            [byte, rest @ ..] => text.first() == Some(byte) && means(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_the_pattern_means(pattern in "[/a*]{0,7}", text in "[/ab]{0,7}") {
            prop_assume!(!pattern.contains("***"));
            prop_assert_eq!(path(&pattern).matches(text.as_bytes()), means(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_is_covered_is_matched(wide in "[/a*]{0,6}", narrow in "[/a*]{0,6}", text in "[/ab]{0,6}") {
            prop_assume!(!wide.contains("***") && !narrow.contains("***"));
            let (wide, narrow) = (path(&wide), path(&narrow));
            if wide.covers(&narrow) && narrow.matches(text.as_bytes()) {
                prop_assert!(wide.matches(text.as_bytes()));
            }
        }
    }
}
