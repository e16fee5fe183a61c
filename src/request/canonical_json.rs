//! One spelling for all JSON texts that mean the same (RFC 8785), and none for those that may not.
//!
//! RFC 8785, section 3.1, takes only I-JSON (RFC 7493), where every parser sees the same value. Outside of
//! it two requests that the upstream tells apart could get one canonical form, so such texts have none:
//! objects with a repeated name, lone surrogates, and numbers that a double cannot tell from others.
//!
//! The text is not made into a tree: it is parsed while the canonical form is written, so that a hostile
//! body costs little more memory than its canonical form does.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// How deep arrays and objects may nest: bounds the stack, as serde_json's own limit does.
const MAX_DEPTH: usize = 128;

/// The canonical form of `text` without what the JSON Pointers (RFC 6901) of `ignore` point to, or `None`
/// if `text` has no canonical form.
///
/// An ignored member leaves its object, as if it had not been sent. An ignored element becomes `null`
/// instead: its neighbours keep their places, and since it does so in every text under the same `ignore`,
/// a literal `null` there is not taken for anything else. What is ignored must be JSON, but it need not be
/// I-JSON.
pub fn canonicalize(text: &[u8], ignore: &[Vec<String>]) -> Option<Vec<u8>> {
    let mut canonical = Canonicalizer { rest: text, form: Vec::new() };
    canonical.value(&Place { ignored: ignore.iter().map(Vec::as_slice).collect(), depth: 0 })?;
    canonical.peek().is_none().then_some(canonical.form)
}

/// Consumes the text and writes the canonical form of what it has consumed; `None` where there is none.
struct Canonicalizer<'a> {
    /// What is left of the text.
    rest: &'a [u8],
    form: Vec<u8>,
}

impl<'a> Canonicalizer<'a> {
    fn value(&mut self, place: &Place<'_>) -> Option<()> {
        if place.is_ignored() {
            self.token::<IgnoredAny>()?;
            self.form.extend_from_slice(b"null");
            return Some(());
        }
        match self.peek()? {
            b'{' | b'[' if place.depth == MAX_DEPTH => None,
            b'{' => self.object(place),
            b'[' => self.array(place),
            b'"' => {
                let (Text(text), _) = self.token()?;
                self.string(&text)
            }
            b't' | b'f' | b'n' => self.literal(),
            _ => self.number(),
        }
    }

    fn array(&mut self, place: &Place<'_>) -> Option<()> {
        self.require(b'[')?;
        self.form.push(b'[');
        let mut index = 0_usize;
        while self.another(b']', index == 0)? {
            if index > 0 {
                self.form.push(b',');
            }
            self.value(&place.child(|token| token == index.to_string()))?;
            index += 1;
        }
        self.form.push(b']');
        Some(())
    }

    fn object(&mut self, place: &Place<'_>) -> Option<()> {
        self.require(b'{')?;
        let start = self.form.len();
        let mut members: BTreeMap<Name<'a>, Range<usize>> = BTreeMap::new();
        let mut first = true;
        while self.another(b'}', first)? {
            first = false;
            let (Text(name), _) = self.token()?;
            self.require(b':')?;
            let member = place.child(|token| token == name);
            if member.is_ignored() {
                self.token::<IgnoredAny>()?;
                continue;
            }
            let from = self.form.len() - start;
            self.string(&name)?;
            self.form.push(b':');
            self.value(&member)?;
            let is_repeated = members.insert(Name(name), from..self.form.len() - start).is_some();
            if is_repeated {
                return None;
            }
        }
        let as_sent = self.form.split_off(start);
        for (position, member) in members.into_values().enumerate() {
            self.form.push(if position == 0 { b'{' } else { b',' });
            self.form.extend_from_slice(as_sent.get(member)?);
        }
        self.form.extend_from_slice(if as_sent.is_empty() { b"{}" } else { b"}" });
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        // serde_json checks the grammar and no more: it reads some numbers as a neighbour of the nearest double.
        let (IgnoredAny, literal) = self.token()?;
        let value: f64 = str::from_utf8(literal).ok()?.parse().ok()?;
        if !value.is_finite() {
            return None;
        }
        let mut buffer = ryu_js::Buffer::new();
        let form = buffer.format_finite(value).as_bytes();
        is_exact(literal, form).then(|| self.form.extend_from_slice(form))
    }

    fn literal(&mut self) -> Option<()> {
        let (IgnoredAny, literal) = self.token()?;
        self.form.extend_from_slice(literal);
        Some(())
    }

    /// RFC 8785, section 3.2.2.2, escapes what serde_json does, and in the same way.
    fn string(&mut self, text: &str) -> Option<()> {
        serde_json::to_writer(&mut self.form, text).ok()
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = self.rest {
            self.rest = behind;
        }
        self.rest.first().copied()
    }

    /// Consumes `byte` if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next && let [_, rest @ ..] = self.rest {
            self.rest = rest;
        }
        is_next
    }

    /// Consumes `byte`.
    fn require(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// Whether another element or member comes before `end`, with the comma or `end` consumed.
    fn another(&mut self, end: u8, first: bool) -> Option<bool> {
        if self.take(end) {
            return Some(false);
        }
        if !first {
            self.require(b',')?;
        }
        Some(true)
    }

    /// Consumes one value of type `T`, and gives it with its text.
    fn token<T: Deserialize<'a>>(&mut self) -> Option<(T, &'a [u8])> {
        self.peek();
        let mut values = serde_json::Deserializer::from_slice(self.rest).into_iter();
        let value = values.next()?.ok()?;
        let (literal, rest) = self.rest.split_at_checked(values.byte_offset())?;
        self.rest = rest;
        Some((value, literal))
    }
}

/// Where a value is.
struct Place<'i> {
    /// What is left of each pointer that leads to the value or into it.
    ignored: Vec<&'i [String]>,
    /// How many arrays and objects are around it.
    depth: usize,
}

impl<'i> Place<'i> {
    /// The place below this one that the reference tokens which are `this` lead to.
    fn child(&self, this: impl Fn(&str) -> bool) -> Self {
        let below = |pointer: &&'i [String]| pointer.split_first().filter(|(token, _)| this(token));
        let ignored = self.ignored.iter().filter_map(|pointer| below(pointer).map(|(_, rest)| rest)).collect();
        Self { ignored, depth: self.depth + 1 }
    }

    fn is_ignored(&self) -> bool {
        self.ignored.iter().any(|pointer| pointer.is_empty())
    }
}

/// The name of a member, in the order of its UTF-16 code units (RFC 8785, section 3.2.3).
#[derive(Eq, PartialEq)]
struct Name<'a>(Cow<'a, str>);

impl Ord for Name<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.encode_utf16().cmp(other.0.encode_utf16())
    }
}

impl PartialOrd for Name<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A string, unescaped; borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Answers for every kind of value: serde's own answers can write any number into an error message, which takes
/// 30 KiB of module.
struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Err(no_string())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(no_string())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(no_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(no_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(no_string())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(no_string())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Err(no_string())
    }
}

fn no_string<E: de::Error>() -> E {
    E::custom("not a string")
}

/// Whether `form` shows the very number that `literal` spells, and not a neighbour of it.
///
/// `form` is the shortest decimal that reads as one double. If `literal` is equal to it, then no other number
/// has this canonical form.
fn is_exact(literal: &[u8], form: &[u8]) -> bool {
    // A double tells all decimals of up to 15 digits apart.
    let is_short = literal.len() <= 15 && !literal.iter().any(|byte| matches!(byte, b'e' | b'E'));
    is_short || {
        let spelt = Decimal::parse(literal);
        spelt.is_some() && spelt == Decimal::parse(form)
    }
}

/// The magnitude of a decimal number, in a form that is unique to it.
#[derive(Debug, PartialEq)]
struct Decimal {
    /// Significant digits, neither starting nor ending with a zero; none at all for zero.
    digits: Vec<u8>,
    /// The power of ten of the last digit.
    exponent: i64,
}

impl Decimal {
    /// The number that a JSON `literal` spells, if its exponent is one that can be reckoned with.
    fn parse(literal: &[u8]) -> Option<Self> {
        let mut halves = literal.splitn(2, |byte| matches!(byte, b'e' | b'E'));
        let mantissa = halves.next()?;
        let exponent = halves.next().map_or(Some(0), |digits| str::from_utf8(digits).ok()?.parse().ok())?;
        let fraction = mantissa.iter().rev().position(|byte| *byte == b'.').unwrap_or(0);

        let digits = mantissa.iter().copied().filter(u8::is_ascii_digit);
        let mut digits: Vec<u8> = digits.skip_while(|digit| *digit == b'0').collect();
        let significant = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        let zeros = digits.len() - significant;
        digits.truncate(significant);
        if digits.is_empty() {
            return Some(Self { digits, exponent: 0 });
        }
        let shift = i64::try_from(zeros).ok()?.checked_sub(i64::try_from(fraction).ok()?)?;
        Some(Self { digits, exponent: i64::checked_add(exponent, shift)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: impl AsRef<[u8]>) -> Option<String> {
        canonicalize(text.as_ref(), &[]).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn without(text: &str, pointers: &[&str]) -> Option<String> {
        let tokens = |pointer: &&str| pointer.split('/').skip(1).map(str::to_owned).collect();
        let ignore: Vec<Vec<String>> = pointers.iter().map(tokens).collect();
        canonicalize(text.as_bytes(), &ignore).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_example_of_the_rfc_has_its_canonical_form() {
        // RFC 8785, sections 3.2.2 and 3.2.3, but for the first number: that one is not exact.
        let text = r#"{
            "numbers": [333333333.3333333, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        assert_eq!(
            canonical(text),
            some(
                "{\"literals\":[null,true,false],\
                 \"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                 \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
            )
        );
    }

    #[test]
    fn names_are_sorted_by_their_utf_16_code_units() {
        // RFC 8785, section 3.2.3.
        let text = r#"{
            "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#;
        let canonical = canonical(text).unwrap();
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        let positions: Vec<_> = order.iter().map(|word| canonical.find(word).unwrap()).collect();
        assert!(positions.is_sorted(), "{canonical}");
    }

    #[test]
    fn numbers_have_the_form_of_the_rfc() {
        // RFC 8785, appendix B.
        for (bits, form) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let literal = shortest(f64::from_bits(bits));
            assert_eq!(canonical(&literal).as_deref(), Some(form), "{literal}");
        }
    }

    #[test]
    fn equal_numbers_have_one_form() {
        for spelling in ["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000000000000000000000"] {
            assert_eq!(canonical(spelling), some("1"), "{spelling}");
        }
        for spelling in ["0", "-0", "0.0", "-0e5", "0e-400"] {
            assert_eq!(canonical(spelling), some("0"), "{spelling}");
        }
    }

    #[test]
    fn a_number_that_a_double_does_not_hold_has_no_canonical_form() {
        for number in [
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551617",
            "0.1000000000000000055511151231257827",
            "333333333.33333329",
            // As short as 1424953923781206.2 and as close to the double between them, but not the even one.
            "1424953923781206.3",
            "1e400",
            "-1e400",
            "1e-400",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(canonical(number), None, "{number}");
            assert_eq!(canonical(format!("{{\"amount\":[{number}]}}")), None, "{number}");
        }
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
        let all = |text: &str| canonicalize(text.as_bytes(), &[Vec::new()]);
        assert!(all("1").is_some());
        assert_eq!(all("1"), all(r#"{"a":[2]}"#));
        assert_eq!(all("not json"), None);
    }

    #[test]
    fn what_is_ignored_need_not_be_i_json() {
        for ignored in ["1700000000000000001", "1e400", r#"{"a":1,"a":2}"#, r#""\ud800""#, &"[".repeat(200)] {
            let closed = ignored.to_owned() + &"]".repeat(if ignored.starts_with('[') { 200 } else { 0 });
            let text = format!(r#"{{"at":{closed},"b":1}}"#);
            assert_eq!(without(&text, &["/at"]), some(r#"{"b":1}"#), "{text}");
        }
        assert_eq!(without(r#"{"at":nonsense,"b":1}"#, &["/at"]), None);
        assert_eq!(without(r#"{"at":[1,"b":1}"#, &["/at"]), None);
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
            if canonical(&text).is_some() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
            }
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
        fn different_integers_differ(left in any::<i128>(), right in any::<i128>(), near in -3_i128..=3) {
            for other in [right, left.saturating_add(near)] {
                if let (Some(form), Some(other_form)) = (canonical(left.to_string()), canonical(other.to_string())) {
                    prop_assert_eq!(left == other, form == other_form);
                }
            }
        }

        #[test]
        fn every_double_survives_its_shortest_form(bits in any::<u64>()) {
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

    /// The shortest literal of `value`, which serde_json writes with another exponent than the RFC does.
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
