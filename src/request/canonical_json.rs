//! One spelling for all JSON texts that mean the same, and none for those that may not.
//!
//! It is made in the manner of RFC 8785, and hashed, never sent. In two things it differs: names are in the order of
//! their bytes, and a number is written as its exact decimal value, as significant digits and a power of ten: `15e-1`.
//! So a number that a double does not hold is told from its neighbours, and has a form.
//!
//! RFC 8785, section 3.1, takes only I-JSON (RFC 7493), where every parser sees the same value. Outside of it two
//! requests that the upstream tells apart could get one form, so such texts have none: objects with a repeated name, and
//! lone surrogates. Neither have texts that take more than [`BUDGET`].
//!
//! The text is not made into a tree: it is read once, from its beginning to its end, while the form is written, so that
//! a hostile body costs little more memory than its form does, and time in proportion to its length.

pub(super) mod pointed;

use std::cmp::Ordering;
use std::io::Write as _;

use crate::config::{Branch, PointerTree};

/// How deep arrays and objects may nest: bounds the stack.
const MAX_DEPTH: usize = 128;

/// The steps that one text may take: one for each value, one for each two comparisons that sort an object's members, and
/// one for each 512 bytes of an object's form, which may have to be moved. White space, spelling and the order of members
/// take none, and neither does what is ignored: what one spelling of a document can afford, all others can, so that they
/// keep the same form. A text of a MiB always stays within it, and a step is some 80 ns in Envoy.
const BUDGET: usize = 2 << 20;

/// The canonical form of `text` without what `ignore` points to, or `None` if `text` has no canonical form.
///
/// An ignored member leaves its object, as if it had not been sent. An ignored element becomes `null`
/// instead: its neighbours keep their places, and since it does so in every text under the same `ignore`,
/// a literal `null` there is not taken for anything else. What is ignored must be JSON, but it need not be
/// I-JSON.
pub fn canonicalize(text: &[u8], ignore: &PointerTree) -> Option<Vec<u8>> {
    // Strings are then handed on byte by byte.
    str::from_utf8(text).ok()?;
    let mut canonical = Canonicalizer {
        rest: text,
        form: Vec::with_capacity(text.len()),
        members: Vec::new(),
        sorted: Vec::new(),
        budget: BUDGET,
    };
    canonical.value(Some(ignore.root()), 0)?;
    canonical.peek().is_none().then_some(canonical.form)
}

/// Consumes the text and writes the canonical form of what it has consumed; `None` where there is none.
struct Canonicalizer<'a> {
    /// What is left of the text.
    rest: &'a [u8],
    form: Vec<u8>,
    /// The members so far of each object that is not yet closed, those of the innermost one last.
    members: Vec<Member>,
    /// Room for the members of an object in their order.
    sorted: Vec<u8>,
    /// How many steps are left.
    budget: usize,
}

/// Where in the form a member is: its name, a colon, its value, a comma.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    name_end: usize,
    end: usize,
}

impl<'a> Canonicalizer<'a> {
    /// A value to which `pointers` lead, or below it, with `depth` arrays and objects around it.
    fn value(&mut self, pointers: Option<&Branch>, depth: usize) -> Option<()> {
        if pointers.is_some_and(Branch::is_end) {
            self.skip_value()?;
            self.form.extend_from_slice(b"null");
            return Some(());
        }
        self.spend(1)?;
        match self.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => None,
            b'{' => self.object(pointers, depth),
            b'[' => self.array(pointers, depth),
            b'"' => self.string(),
            b't' | b'f' | b'n' => {
                let literal = self.literal()?;
                self.form.extend_from_slice(literal);
                Some(())
            }
            _ => self.number(),
        }
    }

    fn array(&mut self, pointers: Option<&Branch>, depth: usize) -> Option<()> {
        self.require(b'[')?;
        self.form.push(b'[');
        let mut pointed = pointers.into_iter().flat_map(Branch::elements).peekable();
        let mut index = 0_usize;
        while self.another(b']', index == 0)? {
            if index > 0 {
                self.form.push(b',');
            }
            let element = pointed.next_if(|(place, _)| *place == index).map(|(_, branch)| branch);
            self.value(element, depth + 1)?;
            index += 1;
        }
        self.form.push(b']');
        Some(())
    }

    fn object(&mut self, pointers: Option<&Branch>, depth: usize) -> Option<()> {
        self.require(b'{')?;
        self.form.push(b'{');
        let (inside, outer_members) = (self.form.len(), self.members.len());
        let (mut is_first, mut is_in_order) = (true, true);
        while self.another(b'}', is_first)? {
            is_first = false;
            let start = self.form.len();
            self.string()?;
            let name_end = self.form.len();
            self.require(b':')?;
            let below = pointers.and_then(|branch| branch.member(self.form.get(start..)?));
            if below.is_some_and(Branch::is_end) {
                self.form.truncate(start);
                self.skip_value()?;
                continue;
            }
            self.form.push(b':');
            self.value(below, depth + 1)?;
            self.form.push(b',');
            let member = Member { start, name_end, end: self.form.len() };
            if let Some(last) = self.members.get(outer_members..)?.last() {
                is_in_order = is_in_order && last.compare(&member, &self.form) == Ordering::Less;
            }
            self.members.push(member);
        }
        let count = self.members.len() - outer_members;
        let comparisons = count * (usize::BITS - count.leading_zeros()) as usize;
        self.spend(comparisons / 2 + (self.form.len() - inside) / 512)?;
        if !is_in_order {
            self.sort(outer_members, inside)?;
        }
        self.members.truncate(outer_members);
        if count > 0 {
            // The comma behind the last member.
            self.form.pop();
        }
        self.form.push(b'}');
        Some(())
    }

    /// Puts the members from `first` on in order, whose form begins at `inside`; `None` if a name is repeated.
    fn sort(&mut self, first: usize, inside: usize) -> Option<()> {
        let Self { form, members, sorted, .. } = self;
        let members = members.get_mut(first..)?;
        members.sort_unstable_by(|left, right| left.compare(right, form));
        let is_repeated = |pair: &[Member]| matches!(pair, [left, right] if left.compare(right, form).is_eq());
        if members.windows(2).any(is_repeated) {
            return None;
        }
        sorted.clear();
        for member in members {
            sorted.extend_from_slice(form.get(member.start..member.end)?);
        }
        form.truncate(inside);
        form.extend_from_slice(sorted);
        Some(())
    }

    /// RFC 8785, section 3.2.2.2: all is written as it is, but for quotes, backslashes and control characters.
    fn string(&mut self) -> Option<()> {
        self.require(b'"')?;
        self.form.push(b'"');
        loop {
            let (plain, rest) =
                self.rest.split_at_checked(self.rest.iter().position(|byte| ends_plain_text(*byte))?)?;
            self.form.extend_from_slice(plain);
            match rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    self.form.push(b'"');
                    return Some(());
                }
                [b'\\', escape, rest @ ..] => {
                    self.rest = rest;
                    let character = self.escaped(*escape)?;
                    self.write_character(character);
                }
                _ => return None,
            }
        }
    }

    /// The character that an escape stands for; the text up to its first letter is consumed.
    fn escaped(&mut self, escape: u8) -> Option<char> {
        match escape {
            b'"' | b'\\' | b'/' => Some(char::from(escape)),
            b'b' => Some('\u{8}'),
            b'f' => Some('\u{c}'),
            b'n' => Some('\n'),
            b'r' => Some('\r'),
            b't' => Some('\t'),
            b'u' => {
                let first = self.code_unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.rest = self.rest.strip_prefix(b"\\u")?;
                let second = self.code_unit().filter(|second| (0xdc00..0xe000).contains(second))?;
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            }
            _ => None,
        }
    }

    /// Four hexadecimal digits.
    fn code_unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }

    fn write_character(&mut self, character: char) {
        let short = match character {
            '"' | '\\' => Some(character as u8),
            '\u{8}' => Some(b'b'),
            '\u{c}' => Some(b'f'),
            '\n' => Some(b'n'),
            '\r' => Some(b'r'),
            '\t' => Some(b't'),
            _ => None,
        };
        if let Some(letter) = short {
            self.form.extend_from_slice(&[b'\\', letter]);
        } else if character < ' ' {
            let code = character as u8;
            let low = if code & 0xf < 10 { b'0' } else { b'a' - 10 } + (code & 0xf);
            self.form.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (code >> 4), low]);
        } else {
            self.form.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// Writes a number as its significant digits and the power of ten of the last one. Nothing is ever written out that
    /// the text only names: `1e999999999` takes as many steps as it has letters.
    fn number(&mut self) -> Option<()> {
        let Number { is_negative, integer, fraction, exponent } = self.number_text()?;
        let start = self.form.len();
        if integer.last() != Some(&b'0') && fraction.is_empty() && exponent.digits.is_empty() {
            // Most numbers.
            self.form.extend_from_slice(if is_negative { b"-" } else { b"" });
            self.form.extend_from_slice(integer);
            return Some(());
        }
        self.form.extend_from_slice(without_leading_zeros(integer));
        self.form.extend_from_slice(if self.form.len() == start { without_leading_zeros(fraction) } else { fraction });
        let digits = self.form.get(start..).unwrap_or_default();
        let Some(last) = digits.iter().rposition(|digit| *digit != b'0') else {
            self.form.truncate(start);
            self.form.push(b'0');
            return Some(());
        };
        let zeros = digits.len() - last - 1;
        self.form.truncate(start + last + 1);
        if is_negative {
            self.form.insert(start, b'-');
        }
        let power = exponent.value()? + i64::try_from(zeros).ok()? - i64::try_from(fraction.len()).ok()?;
        if power != 0 {
            // A vector takes all that is written.
            let _ = write!(self.form, "e{power}");
        }
        Some(())
    }

    /// Consumes a value without a look at what it means. Its depth takes memory, and no stack.
    fn skip_value(&mut self) -> Option<()> {
        // What closes each array and object around the next value.
        let mut open = Vec::new();
        loop {
            match self.peek()? {
                b'{' => {
                    self.take(b'{');
                    open.push(b'}');
                    if !self.take(b'}') {
                        self.skip_name()?;
                        continue;
                    }
                    open.pop();
                }
                b'[' => {
                    self.take(b'[');
                    open.push(b']');
                    if !self.take(b']') {
                        continue;
                    }
                    open.pop();
                }
                b'"' => self.skip_string()?,
                b't' | b'f' | b'n' => _ = self.literal()?,
                _ => _ = self.number_text()?,
            }
            loop {
                let Some(end) = open.last().copied() else { return Some(()) };
                if self.take(b',') {
                    if end == b'}' {
                        self.skip_name()?;
                    }
                    break;
                }
                self.require(end)?;
                open.pop();
            }
        }
    }

    fn skip_name(&mut self) -> Option<()> {
        self.skip_string()?;
        self.require(b':')
    }

    fn skip_string(&mut self) -> Option<()> {
        self.require(b'"')?;
        loop {
            let (_, rest) = self.rest.split_at_checked(self.rest.iter().position(|byte| ends_plain_text(*byte))?)?;
            self.rest = match rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Some(());
                }
                [b'\\', b'u', rest @ ..] => {
                    self.rest = rest;
                    self.code_unit()?;
                    self.rest
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
                _ => return None,
            };
        }
    }

    fn number_text(&mut self) -> Option<Number<'a>> {
        let is_negative = self.is_next(b'-');
        let integer = self.digits()?;
        if integer.len() > 1 && integer.first() == Some(&b'0') {
            return None;
        }
        let fraction = if self.is_next(b'.') { self.digits()? } else { &[] };
        let mut exponent = Exponent::default();
        if self.is_next(b'e') || self.is_next(b'E') {
            exponent.is_negative = !self.is_next(b'+') && self.is_next(b'-');
            exponent.digits = self.digits()?;
        }
        Some(Number { is_negative, integer, fraction, exponent })
    }

    /// Consumes one digit or more.
    fn digits(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
        self.rest = rest;
        Some(digits)
    }

    fn literal(&mut self) -> Option<&'a [u8]> {
        let words = [b"true".as_slice(), b"false", b"null"];
        let word = words.into_iter().find(|word| self.rest.starts_with(word))?;
        self.rest = self.rest.get(word.len()..)?;
        Some(word)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = self.rest {
            self.rest = behind;
        }
        self.rest.first().copied()
    }

    /// Consumes `byte` if it is the very next one.
    fn is_next(&mut self, byte: u8) -> bool {
        match self.rest {
            [next, rest @ ..] if *next == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Consumes `byte` if it is the next one that is not white space.
    fn take(&mut self, byte: u8) -> bool {
        self.peek();
        self.is_next(byte)
    }

    /// Consumes `byte`.
    fn require(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// Whether another element or member comes before `end`, with the comma or `end` consumed.
    fn another(&mut self, end: u8, is_first: bool) -> Option<bool> {
        if self.take(end) {
            return Some(false);
        }
        if !is_first {
            self.require(b',')?;
        }
        Some(true)
    }

    fn spend(&mut self, steps: usize) -> Option<()> {
        self.budget = self.budget.checked_sub(steps)?;
        Some(())
    }
}

impl Member {
    /// Which of two members comes first in `form`.
    fn compare(&self, other: &Self, form: &[u8]) -> Ordering {
        form.get(self.start..self.name_end).cmp(&form.get(other.start..other.name_end))
    }
}

/// A number as it is written: digits without their signs, dot and `e`.
struct Number<'a> {
    is_negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: Exponent<'a>,
}

#[derive(Default)]
struct Exponent<'a> {
    is_negative: bool,
    digits: &'a [u8],
}

impl Exponent<'_> {
    /// `None` if it has more digits than [`LONGEST_EXPONENT`].
    fn value(&self) -> Option<i64> {
        let digits = without_leading_zeros(self.digits);
        if digits.len() > LONGEST_EXPONENT {
            return None;
        }
        let size = digits.iter().fold(0, |size, digit| size * 10 + i64::from(digit - b'0'));
        Some(if self.is_negative { -size } else { size })
    }
}

/// In digits. No number of use has more, and sums with the length of a text stay within 64 bits.
const LONGEST_EXPONENT: usize = 18;

fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    digits.get(first..).unwrap_or_default()
}

/// Whether this byte of a string has to be looked at; the control characters, which only escapes may name, among them.
fn ends_plain_text(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: impl AsRef<[u8]>) -> Option<String> {
        canonicalize(text.as_ref(), &PointerTree::default()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn tree(pointers: &[&str]) -> PointerTree {
        let tokens = |pointer: &&str| pointer.split('/').skip(1).map(str::to_owned).collect();
        PointerTree::new(&pointers.iter().map(tokens).collect::<Vec<_>>())
    }

    fn without(text: &str, pointers: &[&str]) -> Option<String> {
        canonicalize(text.as_bytes(), &tree(pointers)).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_example_of_the_rfc_has_a_form_that_differs_in_its_numbers_only() {
        // RFC 8785, sections 3.2.2 and 3.2.3.
        let text = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        assert_eq!(
            canonical(text),
            some(
                "{\"literals\":[null,true,false],\
                 \"numbers\":[33333333333333329e-8,1e30,45e-1,2e-3,1e-27],\
                 \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
            )
        );
    }

    #[test]
    fn members_are_sorted_at_every_depth() {
        let sorted = r#"{"":0,"a":{"b":1,"c":[{"d":2,"e":3}]},"ab":4,"b":5,"\u00e9":6,"\ufb33":7,"\ud83d\ude00":8}"#;
        let mixed = r#"{"\ud83d\ude00":8,"b":5,"a":{"c":[{"e":3,"d":2}],"b":1},"\ufb33":7,"":0,"\u00e9":6,"ab":4}"#;
        let form = canonical(sorted).unwrap();
        assert_eq!(canonical(mixed).as_ref(), Some(&form));
        assert_eq!(canonical(&form), Some(form));
    }

    #[test]
    fn equal_numbers_have_one_form() {
        for (form, spellings) in [
            ("1", &["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000000000000000000000", "1e-0", "1e00"][..]),
            (
                "0",
                &["0", "-0", "0.0", "-0e5", "0e-400", "0E+99999999999999999999999", "-0.000e-99999999999999999999999"],
            ),
            ("-15e-1", &["-1.5", "-15e-1", "-0.15e1", "-150.0e-2", "-0.00015E+0004"]),
            ("1e2", &["100", "1e2", "1.00e2", "0.01e4", "1000e-1"]),
            ("12", &["12", "12.0", "1.2e1", "120e-1"]),
            ("9007199254740993", &["9007199254740993", "9007199254740993.000", "9007199254740.993e3"]),
            ("5e-324", &["5e-324", "0.5e-323", "50e-325"]),
            ("1e400", &["1e400", "10e399", "0.1e401"]),
            ("1e999999999999999999", &["1e999999999999999999", "1.0e000999999999999999999"]),
        ] {
            for spelling in spellings {
                assert_eq!(canonical(spelling).as_deref(), Some(form), "{spelling}");
            }
        }
    }

    #[test]
    fn a_number_that_a_double_does_not_hold_differs_from_its_neighbours() {
        for (left, right) in [
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551617", "18446744073709551616"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("333333333.33333329", "333333333.3333333"),
            ("1e400", "1e401"),
            ("1e-400", "0"),
            ("1e-400", "1e-401"),
            ("1", "-1"),
            ("1", "10"),
        ] {
            assert!(canonical(left).is_some() && canonical(right).is_some());
            assert_ne!(canonical(left), canonical(right), "{left} {right}");
        }
    }

    #[test]
    fn an_exponent_without_bounds_has_no_form_and_is_never_written_out() {
        for number in ["1e1000000000000000000", "-1E-99999999999999999999", "10e99999999999999999999"] {
            assert_eq!(canonical(number), None, "{number}");
            assert_eq!(canonical(format!("{{\"amount\":[{number}]}}")), None, "{number}");
        }
        assert_eq!(canonical(format!("1e{}1", "0".repeat(100_000))), some("1e1"));
        assert_eq!(canonical(format!("0.{}1e100001", "0".repeat(100_000))), some("1"));
        assert_eq!(canonical(format!("1{}e-100000", "0".repeat(100_000))), some("1"));
    }

    #[test]
    fn different_spellings_of_a_string_have_one_form() {
        assert_eq!(canonical(r#""\u0061\/\u00e9""#), some("\"a/\u{e9}\""));
        assert_eq!(canonical("\"a/\u{e9}\""), some("\"a/\u{e9}\""));
        assert_eq!(canonical(r#""\ud83d\ude00""#), some("\"\u{1f600}\""));
    }

    #[test]
    fn strings_that_only_look_alike_differ() {
        // RFC 8785, section 3.1: no Unicode normalisation.
        assert_ne!(canonical("\"\u{e9}\""), canonical("\"e\u{301}\""));
    }

    #[test]
    fn repeated_names_have_no_canonical_form() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":3}"#, r#"[{"b":{"a":1,"a":2}}]"#] {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert_eq!(canonical(r#"[{"a":1},{"a":1}]"#), some(r#"[{"a":1},{"a":1}]"#));
    }

    #[test]
    fn lone_surrogates_and_broken_utf_8_have_no_canonical_form() {
        assert_eq!(canonical(r#""\ud800""#), None);
        assert_eq!(canonical(r#""\udc00\ud800""#), None);
        assert_eq!(canonical(r#"{"\ud800":1}"#), None);
        assert_eq!(canonical(b"\"\xff\""), None);
        assert_eq!(canonical(b"\"\xed\xa0\x80\""), None);
    }

    #[test]
    fn what_is_not_json_has_no_canonical_form() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{a:1}",
            "{1:1}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{}{}",
            "1 2",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "--1",
            "1e",
            "0x10",
            "NaN",
            "Infinity",
            "nul",
            "nullx",
            "truefalse",
            "True",
            "'a'",
            "\"a",
            "\"\n\"",
            "\"\\x\"",
            "[1]x",
            "\u{feff}{}",
            "// a\n1",
            "a=1&b=2",
            "1}",
            "]",
            "}",
            ":",
            ",",
        ] {
            assert_eq!(canonical(text), None, "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);

        assert_eq!(canonical(nested(MAX_DEPTH)), Some(nested(MAX_DEPTH)));
        assert_eq!(canonical(nested(MAX_DEPTH + 1)), None);
        assert_eq!(canonical("[".repeat(1_000_000)), None);
        assert_eq!(canonical("{\"a\":".repeat(MAX_DEPTH) + "[]" + &"}".repeat(MAX_DEPTH)), None);
    }

    /// A text of about `size` bytes: `piece` again and again, `#` being another number each time.
    fn hostile(open: &str, piece: &str, close: &str, size: usize) -> String {
        let mut text = open.to_owned();
        for number in 0_u32.. {
            if text.len() + close.len() >= size {
                break;
            }
            text.push_str(if number > 0 { "," } else { "" });
            // In no order.
            text.push_str(&piece.replace('#', &format!("{:x}", number.wrapping_mul(0x9e37_79b1) >> 4)));
        }
        text + close
    }

    /// What makes the most work of each byte, and what would if it were read naively.
    fn hostile_texts(size: usize) -> impl Iterator<Item = String> {
        let deep = |inner: &str| "{\"b\":1,\"a\":".repeat(MAX_DEPTH - 2) + inner + &"}".repeat(MAX_DEPTH - 2);
        let zeros = "0".repeat(size - 20);
        [
            hostile("[", "1", "]", size),
            hostile("[", "1e-9", "]", size),
            hostile("[", "{}", "]", size),
            hostile("[", r#"{"b":1,"a":2}"#, "]", size),
            hostile("[", r#""\ud83d\ude00\u0001""#, "]", size),
            hostile("[", &deep("[]"), "]", size),
            hostile("{", r##""#":1"##, "}", size),
            hostile("{", &format!(r##""{}#":1"##, "long".repeat(16)), "}", size),
            deep(&hostile("[", "\"text\"", "]", size - 2048)),
            format!("[0.{zeros}1e{size}]"),
            format!("[1{zeros}e-{size}]"),
            format!("[1e{zeros}1]"),
        ]
        .into_iter()
    }

    #[test]
    fn every_text_of_a_mib_is_within_the_budget_and_none_is_far_beyond_it() {
        for text in hostile_texts(1 << 20) {
            assert!(canonical(&text).is_some(), "{}", text.get(..60).unwrap());
        }
        let is_refused = |text: &String| canonical(text).is_none();
        assert_eq!(hostile_texts(16 << 20).filter(is_refused).count(), 8);
    }

    #[test]
    fn all_spellings_of_a_document_are_within_the_budget_or_none_is() {
        let members = |size| {
            let text = hostile("", r##""#":0"##, "", size);
            let mut sorted: Vec<&str> = text.split(',').collect();
            sorted.sort_unstable();
            let sorted = format!("{{ {} }}", sorted.join(" ,\n"));
            (canonical(format!("{{{text}}}")), canonical(sorted))
        };
        for size in (900_000..3_000_000).step_by(50_000) {
            let (one, other) = members(size);
            assert!(one == other, "{size}");
        }
    }

    #[test]
    fn an_ignored_member_is_left_out() {
        let text = r#"{"a":1,"b":{"a":2,"c":3}}"#;

        assert_eq!(without(text, &["/a"]), some(r#"{"b":{"a":2,"c":3}}"#));
        assert_eq!(without(text, &["/b/c"]), some(r#"{"a":1,"b":{"a":2}}"#));
        assert_eq!(without(text, &["/a", "/b"]), some("{}"));
        assert_eq!(without(text, &["/b", "/b/c"]), some(r#"{"a":1}"#));
        assert_eq!(without(r#"{"\u0061":1,"b":2}"#, &["/a"]), some(r#"{"b":2}"#));
    }

    #[test]
    fn a_pointer_to_nothing_changes_nothing() {
        let text = r#"{"a":[1,2],"b":"x"}"#;
        for pointer in ["/c", "/a/2", "/a/-", "/a/01", "/a/+1", "/b/x", "/b/0", "/a/0/0", "/", "/A"] {
            assert_eq!(without(text, &[pointer]), some(text), "{pointer}");
        }
    }

    #[test]
    fn an_ignored_element_keeps_its_place() {
        assert_eq!(without("[1,2,3]", &["/1"]), some("[1,null,3]"));
        assert_eq!(without("[1,[],3]", &["/1"]), without("[1,2,3]", &["/1"]));
        assert_ne!(without("[1,2,3]", &["/1"]), without("[1,3]", &["/1"]));
        assert_ne!(without("[1,2]", &["/1"]), without("[1]", &["/1"]));
        assert_eq!(without(r#"[{"at":1,"b":2},{"at":1,"b":2}]"#, &["/0/at"]), some(r#"[{"b":2},{"at":1,"b":2}]"#));
    }

    #[test]
    fn the_empty_pointer_ignores_every_value() {
        let all = |text: &str| canonicalize(text.as_bytes(), &PointerTree::new(&[Vec::new()]));
        assert!(all("1").is_some());
        assert_eq!(all("1"), all(r#"{"a":[2]}"#));
        assert_eq!(all("not json"), None);
    }

    #[test]
    fn what_is_ignored_need_not_be_i_json() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for ignored in [
            "1e9999999999999999999",
            "-0.5E+1",
            r#"{"a":1,"a":2}"#,
            r#" { "a" : [ ] , "b" : { } , "c" : [ { "d" : null } , true ] } "#,
            r#""\ud800\"\\\/\b\f\n\r\t\uDBFF""#,
            &deep,
        ] {
            let text = format!(r#"{{"at":{ignored},"b":1}}"#);
            assert_eq!(without(&text, &["/at"]), some(r#"{"b":1}"#), "{text}");
            assert_eq!(without(&format!("[{ignored},1]"), &["/0"]), some("[null,1]"), "{text}");
        }
        for ignored in [
            "nonsense",
            "[1",
            "{",
            "{}}",
            "[]]",
            "[1,]",
            "[,]",
            "[1}",
            "{\"a\":1]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{1:2}",
            "01",
            "1.",
            "-",
            "1e",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"",
            "\"\\\"",
            "",
            "1 2",
            "nul",
        ] {
            let text = format!(r#"{{"at":{ignored},"b":1}}"#);
            assert_eq!(without(&text, &["/at"]), None, "{text}");
        }
    }

    #[derive(Clone, Debug)]
    enum Json {
        Null,
        Bool(bool),
        Integer(i32),
        Double(f64),
        String(String),
        Array(Vec<Json>),
        Object(Vec<(String, Json)>),
    }

    impl Json {
        /// The value as text, with `space` between tokens and members turned round if `reversed`.
        fn spell(&self, space: &str, reversed: bool) -> String {
            let string = |text: &str| serde_json::to_string(text).unwrap();
            let join = |open: &str, mut members: Vec<String>, close: &str, turn: bool| {
                if turn {
                    members.reverse();
                }
                format!("{open}{space}{}{space}{close}", members.join(&format!("{space},{space}")))
            };
            match self {
                Self::Null => "null".to_owned(),
                Self::Bool(value) => value.to_string(),
                Self::Integer(value) => value.to_string(),
                Self::Double(value) => shortest(*value),
                Self::String(value) => string(value),
                Self::Array(elements) => {
                    join("[", elements.iter().map(|element| element.spell(space, reversed)).collect(), "]", false)
                }
                Self::Object(members) => {
                    let member = |(name, value): &(String, Self)| {
                        format!("{}{space}:{space}{}", string(name), value.spell(space, reversed))
                    };
                    join("{", members.iter().map(member).collect(), "}", reversed)
                }
            }
        }
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i32>().prop_map(Json::Integer),
            prop::num::f64::NORMAL.prop_map(Json::Double),
            any::<String>().prop_map(Json::String),
        ];
        leaf.prop_recursive(4, 24, 4, |value| {
            prop_oneof![
                prop::collection::vec(value.clone(), 0..4).prop_map(Json::Array),
                prop::collection::btree_map(any::<String>(), value, 0..4)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_canonical_form_or_none(
            text in prop::collection::vec(prop::sample::select(b"{}[]\":,\\ud8001eE+-.ntfalsru \xff".to_vec()), 0..24),
        ) {
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok() && str::from_utf8(&text).is_ok();
            prop_assert!(canonical(&text).is_none() || is_json);
            // What is ignored has to be JSON, and may be any.
            prop_assert_eq!(canonicalize(&text, &PointerTree::new(&[Vec::new()])).is_some(), is_json);
        }

        #[test]
        fn member_order_and_white_space_do_not_matter(value in json(), space in "[ \t\r\n]{0,3}", reversed: bool) {
            let form = canonical(value.spell("", false));
            prop_assert!(form.is_some());
            prop_assert_eq!(form, canonical(value.spell(&space, reversed)));
        }

        #[test]
        fn the_canonical_form_means_what_the_text_means(value in json()) {
            let text = value.spell(" ", false);
            let form = canonical(&text).unwrap();
            prop_assert_eq!(canonical(&form), Some(form.clone()));
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            prop_assert!(mean_the_same(&read(&form), &read(&text)), "{} {}", form, text);
        }

        #[test]
        fn numbers_have_one_form_exactly_if_they_are_equal(
            (left, right) in (number(), number()),
            shift in 0_usize..6,
            negative: bool,
        ) {
            // The same number once more, by another power of ten.
            let (digits, power) = left.clone();
            let zeros = if digits == "0" { String::new() } else { "0".repeat(shift) };
            let respelt = (digits + &zeros, power - i32::try_from(shift).unwrap());
            for other in [right, respelt] {
                let sign = if negative { "-" } else { "" };
                let spellings = [&left, &other].map(|(digits, power)| [
                    format!("{sign}{digits}e{power}"),
                    format!("{sign}0.{digits}E+0{}", power + i32::try_from(digits.len()).unwrap()).replace("+0-", "-"),
                    sign.to_owned() + &written_out(digits, *power),
                ]);
                let is_equal = written_out(&left.0, left.1) == written_out(&other.0, other.1);
                for (one, two) in spellings[0].iter().flat_map(|one| spellings[1].iter().map(move |two| (one, two))) {
                    let (one, two) = (canonical(one), canonical(two));
                    prop_assert!(one.is_some() && two.is_some());
                    prop_assert_eq!(one == two, is_equal);
                }
            }
        }

        #[test]
        fn every_double_survives_its_form(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let form = canonical(shortest(value)).unwrap();
            prop_assert_eq!(form.parse::<f64>().unwrap(), value);
        }

        #[test]
        fn what_is_ignored_does_not_count(value in json(), other in json(), kept in json()) {
            let with = |ignored: &Json| {
                let (ignored, kept) = (ignored.spell("", false), kept.spell("", false));
                without(&format!(r#"{{"ignored":{ignored},"list":[{kept},{ignored}]}}"#), &["/ignored", "/list/1"])
            };
            prop_assert!(with(&value).is_some());
            prop_assert_eq!(with(&value), with(&other));
        }
    }

    /// Digits without a leading zero, and a power of ten.
    fn number() -> impl Strategy<Value = (String, i32)> {
        (prop_oneof!["[1-9][0-9]{0,24}", "[12]0{0,3}", "0"], -30_i32..30)
    }

    /// The number with all its zeros: the naive way to compare two.
    fn written_out(digits: &str, power: i32) -> String {
        let padded = format!("{}{digits}{}", "0".repeat(60), "0".repeat(usize::try_from(power + 60).unwrap()));
        let (whole, fraction) = padded.split_at(padded.len() - 60);
        let whole = whole.trim_start_matches('0');
        format!("{}.{fraction}", if whole.is_empty() { "0" } else { whole })
    }

    /// The shortest literal of `value`.
    fn shortest(value: f64) -> String {
        serde_json::to_string(&value).unwrap()
    }

    /// Whether the values are equal but for the last digits of their numbers, which serde_json reads roughly.
    fn mean_the_same(left: &serde_json::Value, right: &serde_json::Value) -> bool {
        use serde_json::Value::{Array, Number, Object};
        match (left, right) {
            (Number(left), Number(right)) => {
                let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
                (left - right).abs() <= left.abs() * 1e-14
            }
            (Array(left), Array(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| mean_the_same(left, right))
            }
            (Object(left), Object(right)) => {
                left.len() == right.len()
                    && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| mean_the_same(value, other)))
            }
            _ => left == right,
        }
    }
}
