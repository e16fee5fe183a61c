//! One spelling for all JSON texts that mean the same (RFC 8785), and none for those that may not.
//!
//! RFC 8785, section 3.1, takes only I-JSON (RFC 7493), where every parser sees the same value. Outside of
//! it two requests that the upstream tells apart could get one canonical form, so such texts have none:
//! objects with a repeated name, lone surrogates, and numbers that a double cannot tell from others.
//!
//! The text is not made into a tree: it is parsed while the canonical form is written, so that a hostile
//! body costs no more memory than its canonical form does.

use std::{borrow::Cow, cell::Cell};

use serde::{
    Deserialize, Serialize, Serializer,
    de::IgnoredAny,
    ser::{Error as _, SerializeMap as _, SerializeSeq as _},
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
pub(super) fn canonicalize(text: &[u8], ignore: &[Vec<String>]) -> Option<Vec<u8>> {
    let text = Text(Cell::new(text));
    let ignored = ignore.iter().map(Vec::as_slice).collect();
    let canonical = serde_json_canonicalizer::to_vec(&Value { text: &text, ignored, depth: 0 }).ok()?;
    text.peek().is_none().then_some(canonical)
}

/// The next value of the text; serialising it consumes it.
struct Value<'v, 'a> {
    text: &'v Text<'a>,
    /// What is left of each pointer that leads to this value or into it.
    ignored: Vec<&'v [String]>,
    /// How many arrays and objects are around it.
    depth: usize,
}

impl<'v, 'a> Value<'v, 'a> {
    fn serialize_array<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.require(b'[')?;
        let mut array = serializer.serialize_seq(None)?;
        let mut index = 0_usize;
        while self.text.another(b']', index == 0)? {
            array.serialize_element(&self.child(|token| token == index.to_string()))?;
            index += 1;
        }
        array.end()
    }

    fn serialize_object<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.require(b'{')?;
        let mut object = serializer.serialize_map(None)?;
        let mut first = true;
        while self.text.another(b'}', first)? {
            let Str(name) = self.text.token()?.value;
            self.text.require(b':')?;
            let member = self.child(|token| token == name);
            if member.is_ignored() {
                self.text.token::<IgnoredAny, _>()?;
            } else {
                // The serialiser refuses a name that it has seen.
                object.serialize_entry(&name, &member)?;
            }
            first = false;
        }
        object.end()
    }

    /// The value below this one that the reference tokens which are `this` lead to.
    fn child(&self, this: impl Fn(&str) -> bool) -> Value<'v, 'a> {
        let below = |pointer: &&'v [String]| pointer.split_first().filter(|(token, _)| this(token));
        let ignored = self.ignored.iter().filter_map(|pointer| below(pointer).map(|(_, rest)| rest)).collect();
        Value { text: self.text, ignored, depth: self.depth + 1 }
    }

    fn is_ignored(&self) -> bool {
        self.ignored.iter().any(|pointer| pointer.is_empty())
    }
}

impl Serialize for Value<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_ignored() {
            self.text.token::<IgnoredAny, _>()?;
            return serializer.serialize_unit();
        }
        match self.text.peek() {
            Some(b'{' | b'[') if self.depth == MAX_DEPTH => Err(S::Error::custom("nested too deeply")),
            Some(b'{') => self.serialize_object(serializer),
            Some(b'[') => self.serialize_array(serializer),
            Some(b'"') => serializer.serialize_str(&self.text.token::<Str<'_>, S::Error>()?.value.0),
            Some(b't' | b'f') => serializer.serialize_bool(self.text.token::<bool, S::Error>()?.value),
            Some(b'n') => {
                self.text.token::<(), S::Error>()?;
                serializer.serialize_unit()
            }
            _ => {
                let number = self.text.token::<f64, S::Error>()?;
                if !is_exact(number.literal, number.value) {
                    return Err(S::Error::custom("a number that a double does not hold"));
                }
                serializer.serialize_f64(number.value)
            }
        }
    }
}

/// What is left of the text.
struct Text<'a>(Cell<&'a [u8]>);

impl<'a> Text<'a> {
    /// The next byte that is not white space.
    fn peek(&self) -> Option<u8> {
        let mut rest = self.0.get();
        while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = rest {
            rest = behind;
        }
        self.0.set(rest);
        rest.first().copied()
    }

    /// Consumes `byte` if it is the next one.
    fn take(&self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next && let [_, rest @ ..] = self.0.get() {
            self.0.set(rest);
        }
        is_next
    }

    /// Consumes `byte`.
    fn require<E: serde::ser::Error>(&self, byte: u8) -> Result<(), E> {
        if self.take(byte) { Ok(()) } else { Err(E::custom("not JSON")) }
    }

    /// Whether another element or member comes before `end`, with the comma or `end` consumed.
    fn another<E: serde::ser::Error>(&self, end: u8, first: bool) -> Result<bool, E> {
        if self.take(end) {
            return Ok(false);
        }
        if !first {
            self.require(b',')?;
        }
        Ok(true)
    }

    /// Consumes one value of type `T`.
    fn token<T: Deserialize<'a>, E: serde::ser::Error>(&self) -> Result<Token<'a, T>, E> {
        self.peek();
        let rest = self.0.get();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter();
        let value = values.next().and_then(Result::ok);
        match value.zip(rest.split_at_checked(values.byte_offset())) {
            Some((value, (literal, rest))) => {
                self.0.set(rest);
                Ok(Token { value, literal })
            }
            None => Err(E::custom("not JSON, or not I-JSON")),
        }
    }
}

struct Token<'a, T> {
    value: T,
    literal: &'a [u8],
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether `value` stands for the very number that `literal` spells, and not for a neighbour of it.
///
/// The shortest decimal that reads as `value` is the one that the canonical form shows. If `literal` is
/// equal to it, then no other number has this canonical form.
fn is_exact(literal: &[u8], value: f64) -> bool {
    // A double tells all decimals of up to 15 digits apart.
    let is_short = literal.len() <= 15 && !literal.iter().any(|byte| matches!(byte, b'e' | b'E'));
    is_short || {
        let spelt = Decimal::parse(literal);
        spelt.is_some() && spelt == Decimal::parse(format!("{value:e}").as_bytes())
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
            let literal = format!("{:e}", f64::from_bits(bits));
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
                Self::Double(value) => format!("{value:e}"),
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
            let numbers = |text: &str| serde_json::from_str::<serde_json::Value>(text).map(doubles);
            prop_assert_eq!(numbers(&form).unwrap(), numbers(&text).unwrap());
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
            let form = canonical(format!("{value:e}")).unwrap();
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

    /// The value with every number as a double, which is what the canonical form keeps.
    fn doubles(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Number(number) => (number.as_f64().unwrap() + 0.0).into(),
            serde_json::Value::Array(elements) => elements.into_iter().map(doubles).collect(),
            serde_json::Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, doubles(value))).collect()
            }
            other => other,
        }
    }
}
