//! What a JSON Pointer leads to in a text, read where it stands.
//!
//! The text is gone over once, and once more for each step of a pointer, without recursion: however deep it nests, that takes memory and no
//! stack.

use super::Canonicalizer;
use crate::config::json::Node;

/// The place that a pointer names has no single text or whole number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::request) enum NoScalar {
    /// It has something else.
    Other,
    /// An object on the way there has the name twice, so that its readers may see different values.
    RepeatedName,
}

/// A text that is JSON (RFC 8259).
#[derive(Clone, Copy, Debug)]
pub(in crate::request) struct JsonText<'a>(&'a [u8]);

impl<'a> JsonText<'a> {
    /// `None` if `text` is something else.
    pub(in crate::request) fn of(text: &'a [u8]) -> Option<Self> {
        let mut reader = Canonicalizer::reading(text);
        let is_json = str::from_utf8(text).is_ok() && reader.skip_value().is_some() && reader.peek().is_none();
        is_json.then_some(Self(text))
    }

    /// The string to which `pointer` leads, or the digits of the whole number; `None` if there is nothing. `pointer` is
    /// given as its unescaped reference tokens.
    ///
    /// # Errors
    /// [`NoScalar`] if there is anything else.
    pub(in crate::request) fn scalar_at(self, pointer: &[String]) -> Result<Option<String>, NoScalar> {
        let mut value = self.0;
        for token in pointer {
            let mut reader = Canonicalizer::reading(value);
            let found = match reader.peek() {
                Some(b'{') => reader.member(token).unwrap_or(Ok(None))?,
                Some(b'[') => reader.element(token),
                _ => None,
            };
            let Some(found) = found else { return Ok(None) };
            value = found;
        }
        Canonicalizer::reading(value).scalar().map(Some).ok_or(NoScalar::Other)
    }
}

impl<'a> Canonicalizer<'a> {
    /// One that writes nothing.
    fn reading(text: &'a [u8]) -> Self {
        Self { rest: text, form: Vec::new(), members: Vec::new(), sorted: Vec::new(), budget: 0 }
    }

    /// The value of the member called `name`; the whole object is consumed.
    fn member(&mut self, name: &str) -> Option<Result<Option<&'a [u8]>, NoScalar>> {
        self.require(b'{')?;
        let (mut found, mut is_first) = (None, true);
        while self.another(b'}', is_first)? {
            is_first = false;
            let literal = self.span(Self::skip_string)?;
            self.require(b':')?;
            let value = self.span(Self::skip_value)?;
            if is_literal_of(literal, name) && found.replace(value).is_some() {
                return Some(Err(NoScalar::RepeatedName));
            }
        }
        Some(Ok(found))
    }

    /// The element with the index that `token` is (RFC 6901, section 4).
    fn element(&mut self, token: &str) -> Option<&'a [u8]> {
        let is_index = token.bytes().all(|byte| byte.is_ascii_digit()) && (token.len() == 1 || !token.starts_with('0'));
        let mut before: usize = token.parse().ok().filter(|_| is_index)?;
        self.require(b'[')?;
        let mut is_first = true;
        while self.another(b']', is_first)? {
            is_first = false;
            let value = self.span(Self::skip_value)?;
            if before == 0 {
                return Some(value);
            }
            before -= 1;
        }
        None
    }

    /// A string as what it says, a whole number as its digits.
    fn scalar(&mut self) -> Option<String> {
        if self.peek()? == b'"' {
            return decoded(self.rest);
        }
        let number = self.number_text()?;
        if !number.exponent.digits.is_empty() || number.fraction.iter().any(|digit| *digit != b'0') {
            return None;
        }
        let digits = str::from_utf8(number.integer).ok()?;
        // There is one zero.
        Some(if number.is_negative && digits != "0" { format!("-{digits}") } else { digits.to_owned() })
    }

    /// What `skip` consumes, without the white space in front of it.
    fn span(&mut self, skip: fn(&mut Self) -> Option<()>) -> Option<&'a [u8]> {
        self.peek()?;
        let before = self.rest;
        skip(self)?;
        before.get(..before.len() - self.rest.len())
    }
}

/// Whether a string, as it is written, is `text`. Most are written as they are.
fn is_literal_of(literal: &[u8], text: &str) -> bool {
    if literal.contains(&b'\\') {
        return decoded(literal).is_some_and(|decoded| decoded == text);
    }
    literal.get(1..literal.len() - 1) == Some(text.as_bytes())
}

/// What a string says; `None` if that is no text, because half of a surrogate pair is in it.
fn decoded(literal: &[u8]) -> Option<String> {
    match serde_json::from_str(str::from_utf8(literal).ok()?).ok()? {
        Node::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn scalar_at(text: &[u8], pointer: &[String]) -> Result<Option<String>, NoScalar> {
        JsonText::of(text).map_or(Ok(None), |text| text.scalar_at(pointer))
    }

    fn at(text: &str, pointer: &str) -> Result<Option<String>, NoScalar> {
        scalar_at(text.as_bytes(), &tokens(pointer))
    }

    fn tokens(pointer: &str) -> Vec<String> {
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
    }

    fn some(text: &str) -> Result<Option<String>, NoScalar> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn a_string_or_a_whole_number_is_found_at_any_depth() {
        let text = r#" { "a" : [ 0, {"b~/": "K 1"}, -7 ], "id": 17, "e\u0301": "x", "": "empty" } "#;
        for (pointer, found) in
            [("/a/1/b~0~1", "K 1"), ("/a/0", "0"), ("/a/2", "-7"), ("/id", "17"), ("/e\u{301}", "x"), ("/", "empty")]
        {
            assert_eq!(at(text, pointer), some(found), "{pointer}");
        }
    }

    #[test]
    fn a_number_is_one_key_however_its_wholeness_is_written() {
        for (number, digits) in
            [("17.0", "17"), ("17.000", "17"), ("-0", "0"), ("-0.0", "0"), ("9007199254740993", "9007199254740993")]
        {
            assert_eq!(at(&format!("[{number}]"), "/0"), some(digits), "{number}");
        }
        for number in ["17.5", "1e3", "17.0e0", "-0.1", "0e0"] {
            assert_eq!(at(&format!("[{number}]"), "/0"), Err(NoScalar::Other), "{number}");
        }
    }

    #[test]
    fn strings_are_told_by_what_they_say() {
        assert_eq!(at(r#"{"\u0061\/b":"\"\\\u0041\n\ud83d\ude00"}"#, "/a~1b"), some("\"\\A\n\u{1f600}"));
        assert_eq!(at(r#"{"a":"\ud83d"}"#, "/a"), Err(NoScalar::Other), "half of a pair");
        assert_eq!(at(r#"{"\ud83d":1,"a":"k"}"#, "/a"), some("k"), "beside the way");
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        for (text, pointer) in [
            ("{}", "/a"),
            (r#"{"a":{"b":1}}"#, "/a/c"),
            (r#"{"a":"b"}"#, "/a/b"),
            (r#"{"A":1," a":2,"a ":3}"#, "/a"),
            ("[1,2]", "/2"),
            ("[1,2]", "/-"),
            ("[1,2]", "/01"),
            ("[1,2]", "/+1"),
            ("[1,2]", "/99999999999999999999999"),
            ("[1,2]", "/"),
            (r#""a""#, "/0"),
            ("17", "/0"),
            ("null", "/a"),
        ] {
            assert_eq!(at(text, pointer), Ok(None), "{text} {pointer}");
        }
    }

    #[test]
    fn nothing_is_found_in_what_is_no_json() {
        for text in [
            "",
            " ",
            "a=1&b=2",
            r#"{"a":"k""#,
            r#"{"a":"k"}x"#,
            r#"{"a":"k"} {"#,
            r#"{"a":"k",}"#,
            r#"{"a":"k" "b":1}"#,
            r#"{'a':"k"}"#,
            r#"{"a":"k","b":01}"#,
            r#"{"a":"k","b":nul}"#,
            r#"{"a":"k","b":"\x"}"#,
            r#"{"a":"k","b":["]"}"#,
            "{\"a\":\"k\",\"b\":\"\n\"}",
            "\u{feff}{\"a\":\"k\"}",
        ] {
            assert_eq!(at(text, "/a"), Ok(None), "{text}");
        }
        assert_eq!(scalar_at(b"{\"a\":\"k\",\"b\":\"\xff\"}", &tokens("/a")), Ok(None));
    }

    #[test]
    fn anything_else_is_told_so() {
        for value in ["null", "true", "false", "{}", "[]", r#"{"k":1}"#, r#"["k"]"#, "1.5"] {
            assert_eq!(at(&format!(r#"{{"a": {value} }}"#), "/a"), Err(NoScalar::Other), "{value}");
        }
    }

    #[test]
    fn a_name_that_is_repeated_on_the_way_is_told_and_one_beside_it_is_not() {
        for text in [
            r#"{"a":{"b":"k"},"a":{"b":"k"}}"#,
            r#"{"a":{"b":"k","b":"l"}}"#,
            r#"{"a":{"b":"k","\u0062":"k"}}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":"k"},"x":[{"y":1}],"a":null}"#,
        ] {
            assert_eq!(at(text, "/a/b"), Err(NoScalar::RepeatedName), "{text}");
        }
        for text in [r#"{"a":{"b":"k"},"c":1,"c":2}"#, r#"{"c":{"a":1,"a":2},"a":{"c":[],"b":"k","c":1}}"#] {
            assert_eq!(at(text, "/a/b"), some("k"), "{text}");
        }
    }

    #[test]
    fn depth_takes_no_stack() {
        let deep = |inner: &str| "[".repeat(100_000) + inner + &"]".repeat(100_000);
        assert_eq!(at(&deep(""), "/0/0/0"), Err(NoScalar::Other));
        assert_eq!(at(&format!(r#"{{"x":{},"a":"k"}}"#, deep("1")), "/a"), some("k"));
        assert_eq!(at(&deep("\"open"), "/0"), Ok(None));
        let pointer = "/0".repeat(1_000);
        assert_eq!(at(&deep(""), &pointer), Err(NoScalar::Other));
        let objects = "{\"a\":".repeat(50_000) + "1" + &"}".repeat(50_000);
        assert_eq!(at(&objects, "/a/a/b"), Ok(None));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab~/\"\\\\0]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_another_reader_finds(
            value in value(), pointer in prop::collection::vec("[ab~/\"\\\\01]{0,2}", 1..4), is_pretty in any::<bool>()
        ) {
            let written: String =
                pointer.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
            let expected = match value.pointer(&written) {
                None => Ok(None),
                Some(Value::String(text)) => some(text),
                Some(Value::Number(number)) => some(&number.to_string()),
                Some(_) => Err(NoScalar::Other),
            };
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(at(&text, &written), expected, "{} {}", text, written);
        }

        #[test]
        fn any_bytes_are_read_and_only_json_has_anything(text in prop::collection::vec(any::<u8>(), 0..48)) {
            if serde_json::from_slice::<Value>(&text).is_err() && !text.contains(&b'\\') {
                prop_assert_eq!(scalar_at(&text, &tokens("/a")), Ok(None));
            }
        }

        #[test]
        fn any_pieces_of_json_are_read_as_another_reader_does(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"a\"", "\"b\"", "1", " ", "null", "\"\\u0061\"", "-", "\"",
            ]), 0..16),
        ) {
            let text = pieces.concat();
            let found = at(&text, "/a");
            match serde_json::from_str::<Value>(&text) {
                Err(_) => prop_assert_eq!(found, Ok(None), "{}", text),
                // Of two members of one name it knows only the last.
                Ok(value) => match found {
                    Ok(None) => prop_assert!(value.pointer("/a").is_none(), "{text}"),
                    Ok(Some(scalar)) => {
                        let known = value.pointer("/a").map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
                        prop_assert_eq!(known, Some(scalar), "{}", text);
                    }
                    Err(_) => prop_assert!(value.pointer("/a").is_some(), "{text}"),
                },
            }
        }
    }
}
