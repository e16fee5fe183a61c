//! Patterns over paths and authorities: `*` within a segment, `**` across segments.
//!
//! A path's segments end at `/`, an authority's at `.`. `/**` behind a segment matches nothing at all, too, so that
//! `/orders/**` is the collection and everything below it: who guards the one wants the other guarded.

/// A compiled pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Glob {
    /// What every match begins with.
    prefix: Vec<u8>,
    /// What follows, from the first wildcard on.
    tokens: Vec<Token>,
    /// The same for [`accepts`](Self::accepts).
    places: Places,
    /// The byte at which segments end.
    separator: u8,
}

/// The places in front of each token and behind the last one, as sets of bits: the lowest bit of the first word is the
/// first place.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Places {
    words: Vec<Word>,
    /// Those in front of a [`Token::Below`].
    below: Vec<u64>,
    /// Those from which a byte leads to the next place: a row for each class of bytes, the first for bytes that lead
    /// nowhere.
    onward: Vec<u64>,
    /// The class of each byte.
    classes: Vec<u8>,
    end: usize,
    /// The place of an [`Token::Any`] that nothing follows: once it is reached, the rest of the text does not matter.
    won: Option<usize>,
}

/// What is true of 64 places.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Word {
    /// Those from which another piece of text leads back to the place itself, unless it is the separator.
    stay: u64,
    /// Those from which any piece does.
    stay_always: u64,
    /// Those whose token may match nothing, so that the match is at the next place as well.
    skip: u64,
    /// Those in front of a [`Token::Below`], which may match nothing with the token behind it.
    skip_two: u64,
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

/// In bytes; it bounds what a match costs: five words of 64 places for each byte of the text.
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
                    // Behind two other stars these match nothing that those do not.
                    if tokens.last() != Some(&Token::Any) {
                        tokens.extend([Token::Below, Token::Any]);
                    }
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
        Ok(Self::new(prefix, tokens, separator))
    }

    /// The pattern that matches everything.
    pub(super) fn any(separator: u8) -> Self {
        Self::new(&[], vec![Token::Any], separator)
    }

    /// The pattern that matches everything that begins with the separator, and nothing at all.
    pub(super) fn below_root(separator: u8) -> Self {
        Self::new(&[], vec![Token::Below, Token::Any], separator)
    }

    fn new(prefix: &[u8], tokens: Vec<Token>, separator: u8) -> Self {
        Self { prefix: prefix.to_vec(), places: Places::of(&tokens, separator), tokens, separator }
    }

    /// Whether the pattern matches the whole of `text`.
    ///
    /// Each byte of the text is looked at once, whatever the pattern, and takes a step for each word of places.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        text.strip_prefix(self.prefix.as_slice()).is_some_and(|rest| {
            let short = self.places.accept_by_one_word(rest, self.separator);
            short.unwrap_or_else(|| self.accepts(rest.iter().map(|byte| Token::Byte(*byte))))
        })
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
        let mut reached = self.places.start();
        for piece in text {
            if self.places.won.is_some_and(|place| has(&reached, place)) {
                return true;
            }
            if !self.places.advance(&mut reached, piece, self.separator) {
                return false;
            }
        }
        has(&reached, self.places.end)
    }
}

impl Places {
    fn of(tokens: &[Token], separator: u8) -> Self {
        let end = tokens.len();
        let words = end / 64 + 1;
        let mut places = Self {
            words: vec![Word::default(); words],
            below: vec![0; words],
            onward: vec![0; words],
            classes: vec![0; 256],
            end,
            won: (tokens.last() == Some(&Token::Any)).then(|| end - 1),
        };
        for (place, token) in tokens.iter().enumerate() {
            let bit = 1 << (place % 64);
            let Some(word) = places.words.get_mut(place / 64) else { continue };
            match token {
                Token::Byte(byte) => places.lead_on(*byte, place),
                Token::InSegment => {
                    word.stay |= bit;
                    word.skip |= bit;
                }
                Token::Any => {
                    word.stay |= bit;
                    word.stay_always |= bit;
                    word.skip |= bit;
                }
                Token::Below => {
                    word.skip_two |= bit;
                    add(&mut places.below, place);
                    places.lead_on(separator, place);
                }
            }
        }
        places
    }

    /// The same as [`Glob::accepts`] where all places are in one word, as they mostly are, at a third of its time.
    fn accept_by_one_word(&self, text: &[u8], separator: u8) -> Option<bool> {
        let [Word { stay, stay_always, skip, skip_two }] = *self.words.as_slice() else { return None };
        let won = self.won.map_or(0, |place| 1 << place);
        let mut reached = *self.start().first()?;
        for byte in text {
            if reached & won != 0 {
                return Some(true);
            }
            let onward = reached & self.onward.get(usize::from(*self.classes.get(usize::from(*byte))?))?;
            let stay = if *byte == separator { stay_always } else { stay };
            reached = reached & stay | onward << 1;
            reached |= (reached & skip) << 1;
            reached |= (reached & skip_two) << 2;
            if reached == 0 {
                return Some(false);
            }
        }
        Some(reached >> self.end & 1 == 1)
    }

    /// Notes that `byte` leads from `place` to the next one.
    fn lead_on(&mut self, byte: u8, place: usize) {
        let words = self.words.len();
        let Some(class) = self.classes.get_mut(usize::from(byte)) else { return };
        if *class == 0 {
            // A pattern with a token has a star, and so at most 255 other bytes.
            *class = (self.onward.len() / words) as u8;
            self.onward.resize(self.onward.len() + words, 0);
        }
        if let Some(row) = self.onward.get_mut(usize::from(*class) * words..) {
            add(row, place);
        }
    }

    /// The places where a match begins.
    fn start(&self) -> Vec<u64> {
        let mut reached = vec![0; self.words.len()];
        add(&mut reached, 0);
        let mut carries = Carries::default();
        for (reached, word) in reached.iter_mut().zip(&self.words) {
            *reached = word.settle(*reached, &mut carries);
        }
        reached
    }

    /// Goes from the places that are reached to those that are once `piece` is matched as well; `false` if there are none.
    fn advance(&self, reached: &mut [u64], piece: Token, separator: u8) -> bool {
        let of_class = |class: u8| {
            let start = usize::from(class) * self.words.len();
            self.onward.get(start..start + self.words.len()).unwrap_or_default()
        };
        match piece {
            Token::Byte(byte) => {
                let onward = of_class(self.classes.get(usize::from(byte)).copied().unwrap_or_default());
                self.walk(reached, byte != separator, onward)
            }
            Token::InSegment => self.walk(reached, true, of_class(0)),
            Token::Any => self.walk(reached, false, of_class(0)),
            Token::Below => self.walk(reached, false, &self.below),
        }
    }

    fn walk(&self, reached: &mut [u64], is_in_segment: bool, onward: &[u64]) -> bool {
        let (mut carry, mut carries, mut all) = (0, Carries::default(), 0);
        for ((reached, word), onward) in reached.iter_mut().zip(&self.words).zip(onward) {
            let stay = if is_in_segment { word.stay } else { word.stay_always };
            let onward = *reached & onward;
            *reached = word.settle(*reached & stay | onward << 1 | carry, &mut carries);
            carry = onward >> 63;
            all |= *reached;
        }
        all != 0
    }
}

/// What goes over into the next word.
#[derive(Default)]
struct Carries {
    one: u64,
    two: u64,
}

impl Word {
    /// Adds the places behind tokens that match nothing. No two of these follow each other but for a
    /// [`Token::InSegment`] in front of a [`Token::Below`], and what is behind that one's [`Token::Any`] is a byte.
    fn settle(self, reached: u64, carries: &mut Carries) -> u64 {
        let skipped = reached & self.skip;
        let reached = reached | skipped << 1 | carries.one;
        let skipped_two = reached & self.skip_two;
        let reached = reached | skipped_two << 2 | carries.two;
        *carries = Carries { one: skipped >> 63, two: skipped_two >> 62 };
        reached
    }
}

fn add(places: &mut [u64], place: usize) {
    if let Some(word) = places.get_mut(place / 64) {
        *word |= 1 << (place % 64);
    }
}

fn has(places: &[u64], place: usize) -> bool {
    places.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
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
    fn a_match_takes_five_steps_for_a_byte_at_most_whatever_the_pattern_and_the_text() {
        let stars = ["*a", "**a", "/**/a", "a", "*/a/"];
        let texts = ["a", "/a", "a/", "aa/aa/"].map(|piece| "/".to_owned() + &piece.repeat(60_000 / piece.len()));
        for pattern in stars.map(|piece| piece.repeat((LONGEST_PATTERN - 2) / piece.len())) {
            for pattern in [pattern.clone() + "b", "**".to_owned() + &pattern.replace("**a**a", "**a*a")] {
                let Ok(glob) = Glob::compile(pattern.as_bytes(), b'/') else { continue };
                for text in &texts {
                    let mut looked_at = 0;
                    glob.accepts(text.bytes().map(Token::Byte).inspect(|_| looked_at += 1));
                    let steps = looked_at * glob.places.words.len();
                    assert!(steps <= 5 * text.len(), "{steps} steps for {pattern}");
                }
            }
        }
        let longest = Glob::compile(&[b"*".as_slice(), &[b'a'; LONGEST_PATTERN - 1]].concat(), b'/').unwrap();
        assert_eq!(longest.places.words.len(), 5);
    }

    #[test]
    fn patterns_with_more_places_than_a_word_has_are_matched_over_its_border() {
        for length in 55..70 {
            let long = "a".repeat(length);
            for (pattern, matched, not_matched) in [
                (format!("*{long}*"), format!("a{long}a"), format!("{long}/")),
                (format!("*{long}**/z"), format!("{long}/x/z"), format!("{long}/x/y")),
                (format!("*{long}/**"), format!("{long}/x"), format!("{long}x")),
                (format!("*{long}/**/z"), format!("{long}/z"), format!("{long}z")),
                (format!("*{long}*/**"), format!("{long}x"), format!("x/{long}")),
                (format!("*{long}*/**/z"), format!("{long}b/c/d/z"), format!("{long}bz")),
            ] {
                let glob = path(&pattern);
                assert!(glob.matches(matched.as_bytes()), "{pattern} {matched}");
                assert!(!glob.matches(not_matched.as_bytes()), "{pattern} {not_matched}");
                assert!(path("**").covers(&glob) && glob.covers(&glob), "{pattern}");
            }
        }
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
            let glob = path(&pattern);
            prop_assert_eq!(glob.matches(text.as_bytes()), means(pattern.as_bytes(), text.as_bytes()));
            // What longer patterns are matched by, and those that are compared with others.
            let accepted = text.as_bytes().strip_prefix(glob.prefix.as_slice());
            let accepted = accepted.is_some_and(|rest| glob.accepts(rest.iter().map(|byte| Token::Byte(*byte))));
            prop_assert_eq!(accepted, glob.matches(text.as_bytes()));
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
