//! The key a client chose for its operation.

use std::{borrow::Cow, convert::Infallible, fmt};

use sfv::{
    BareItemFromInput, KeyRef, Parser, StringRef,
    visitor::{ItemVisitor, ParameterVisitor},
};

use super::canonical_json::pointed::{JsonText, NoScalar};
use crate::{
    config::{KeyFormat, KeyPolicy, KeySyntax},
    headers::Headers,
};

/// An accepted key, unquoted and in its canonical form.
///
/// Keys can be guessed from one another and are credentials for a stored response, so nothing
/// shows one: there is no `Display`, `Debug` is redacted, and only hashes leave this module.
#[derive(Clone, Eq, PartialEq)]
pub struct Key(String);

impl Key {
    /// The key of a request: the value of the first header of `policy` that is present.
    ///
    /// Two forms are accepted, and `K` and `"K"` are one key:
    ///
    /// - bare, as most clients send it: visible ASCII (0x21 to 0x7E) without `,` and `;`, and without `"`
    ///   at its start. A comma is refused because an intermediary may have joined two header lines with
    ///   it (RFC 9110, section 5.3), a semicolon because it starts parameters;
    /// - quoted, as the draft has it (draft-ietf-httpapi-idempotency-key-header, section 2.1): a
    ///   Structured Field String (RFC 9651, section 3.3.3), in which commas, semicolons and spaces are
    ///   part of the key.
    ///
    /// With `syntax: "opaque"` the whole value is the key, without the white space around it, which is no part of a field's
    /// value (RFC 9110, section 5.5): `"K"` is then another key than `K`, and `a, b` may be two lines that an intermediary
    /// has joined.
    ///
    /// UUIDs are case-insensitive (RFC 9562, section 4): with `format: "uuid"` both spellings are one key.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if a key header is there and its value is no such key. A bad value never falls back
    /// to the next header, nor to an unguarded request.
    pub fn find(headers: &Headers, policy: &KeyPolicy) -> Result<Option<Self>, InvalidKey> {
        for name in &policy.headers {
            let mut values = headers.get_all(name);
            if let Some(value) = values.next() {
                return if values.next().is_some() {
                    Err(InvalidKey::Repeated)
                } else {
                    parse(value, policy).map(Some)
                };
            }
        }
        Ok(None)
    }

    /// The key that the body of a request has: what the first pointer of `policy` that leads to anything leads to. In a body
    /// that is no JSON there is none.
    ///
    /// It is a string, in which spaces, commas and quotes count, or a whole number, as its digits. The same key in a header
    /// is the same key.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if there is something else, or no such key. It never falls back to the next pointer.
    pub fn find_in_body(body: &[u8], policy: &KeyPolicy) -> Result<Option<Self>, InvalidKey> {
        if policy.pointers.is_empty() {
            return Ok(None);
        }
        let Some(body) = JsonText::of(body) else { return Ok(None) };
        for pointer in &policy.pointers {
            if let Some(value) = body.scalar_at(pointer)? {
                return accept(text(value.as_bytes(), |_| None)?, policy).map(Some);
            }
        }
        Ok(None)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(redacted)")
    }
}

/// Why a key is refused.
///
/// The texts are the `detail` of the problem `key-invalid`: they say what is wrong and what to send, and
/// never repeat the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidKey {
    /// No value, or nothing but white space, bare or quoted.
    #[error("The idempotency key is empty. Send a unique value, such as a UUID, or leave it out.")]
    Blank,
    /// A control character, a tab within the key included.
    #[error("The idempotency key contains a control character. Send printable ASCII characters only.")]
    ControlCharacter,
    /// More than one key in one header line.
    #[error(
        "The idempotency key contains a comma, which reads as a list of keys. Send one key; a key that has a \
         comma in it goes in double quotes."
    )]
    List,
    /// A value in quotes that is no Structured Field String: a backslash before anything but a quote or a
    /// backslash, or text behind the closing quote.
    #[error(
        "The idempotency key starts with a double quote but is not a valid quoted string. Write \\\" for a quote \
         and \\\\ for a backslash within the quotes, send nothing behind the closing quote, or send the key \
         without quotes."
    )]
    Malformed,
    /// A byte above 0x7F.
    #[error("The idempotency key contains a character outside of ASCII. Send printable ASCII characters only.")]
    NotAscii,
    /// In the body, neither a string nor a whole number.
    #[error(
        "The idempotency key in the body is neither a string nor a whole number without an exponent. Send one of them, or \
         leave it out."
    )]
    NoScalar,
    /// Anything but a UUID where the policy asks for one.
    #[error("The idempotency key is not a UUID. Send one such as 8e03978e-40d5-43e8-bc93-6894a57f9324.")]
    NotUuid,
    /// A semicolon in the bare form, or parameters behind the quoted one.
    #[error(
        "The idempotency key has parameters. Send the key alone; a key that has a semicolon in it goes in \
         double quotes."
    )]
    Parameters,
    /// The key's header more than once.
    #[error("The request has more than one idempotency key header. Send exactly one.")]
    Repeated,
    /// A name on the way to the key in the body is there twice.
    #[error("A name on the way to the idempotency key in the body occurs twice. Send each name of an object once.")]
    RepeatedName,
    /// A space within the bare form.
    #[error("The idempotency key contains a space. Send it without, or put the key in double quotes.")]
    Space,
    /// More bytes than the policy allows.
    #[error("The idempotency key is longer than {max_length} bytes. Send a shorter one, such as a UUID.")]
    TooLong {
        /// The longest key in bytes, after unquoting.
        max_length: usize,
    },
    /// The value ends within its quotes or its parameters.
    #[error("The quoted idempotency key is cut short. Close the double quote, or send the key without quotes.")]
    Unterminated,
}

impl From<NoScalar> for InvalidKey {
    fn from(reason: NoScalar) -> Self {
        match reason {
            NoScalar::Other => Self::NoScalar,
            NoScalar::RepeatedName => Self::RepeatedName,
        }
    }
}

fn parse(value: &[u8], policy: &KeyPolicy) -> Result<Key, InvalidKey> {
    let value = trim(value);
    let key = match policy.syntax {
        KeySyntax::Opaque => Cow::Borrowed(text(value, |_| None)?),
        KeySyntax::Field if value.first() == Some(&b'"') => unquote(value)?,
        KeySyntax::Field => Cow::Borrowed(text(value, bare_fault)?),
    };
    accept(&key, policy)
}

/// The key, if it is within the limits of `policy`.
fn accept(key: &str, policy: &KeyPolicy) -> Result<Key, InvalidKey> {
    if key.bytes().all(|byte| byte == b' ') {
        return Err(InvalidKey::Blank);
    }
    if key.len() > policy.max_length {
        return Err(InvalidKey::TooLong { max_length: policy.max_length });
    }
    match policy.format {
        KeyFormat::Any => Ok(Key(key.to_owned())),
        KeyFormat::Uuid if is_uuid(key) => Ok(Key(key.to_ascii_lowercase())),
        KeyFormat::Uuid => Err(InvalidKey::NotUuid),
    }
}

/// Without the optional white space around a field value (RFC 9110, section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Printable ASCII in which `fault` finds nothing else.
fn text(value: &[u8], fault: fn(u8) -> Option<InvalidKey>) -> Result<&str, InvalidKey> {
    let unprintable = |byte| match byte {
        b' '..=0x7e => None,
        0x80.. => Some(InvalidKey::NotAscii),
        _ => Some(InvalidKey::ControlCharacter),
    };
    match value.iter().find_map(|byte| unprintable(*byte).or_else(|| fault(*byte))) {
        Some(fault) => Err(fault),
        None => str::from_utf8(value).map_err(|_| InvalidKey::NotAscii),
    }
}

fn bare_fault(byte: u8) -> Option<InvalidKey> {
    match byte {
        b' ' => Some(InvalidKey::Space),
        b',' => Some(InvalidKey::List),
        b';' => Some(InvalidKey::Parameters),
        _ => None,
    }
}

fn unquote(value: &[u8]) -> Result<Cow<'_, str>, InvalidKey> {
    match Parser::new(value).parse_item_with_visitor(SoleString) {
        Ok(Some(Cow::Borrowed(key))) => Ok(Cow::Borrowed(key.as_str())),
        Ok(Some(Cow::Owned(key))) => Ok(Cow::Owned(key.into())),
        Ok(None) => Err(InvalidKey::Parameters),
        Err(error) => Err(match error.index().and_then(|index| value.get(index)) {
            None => InvalidKey::Unterminated,
            Some(b',') => InvalidKey::List,
            Some(b';') => InvalidKey::Parameters,
            Some(0x80..) => InvalidKey::NotAscii,
            Some(byte) if byte.is_ascii_control() => InvalidKey::ControlCharacter,
            Some(_) => InvalidKey::Malformed,
        }),
    }
}

/// Keeps the string of a Structured Field Item, and drops it at the first parameter.
struct SoleString;

impl<'a> ItemVisitor<'a> for SoleString {
    type Out = Option<Cow<'a, StringRef>>;
    type Error = Infallible;

    fn bare_item(self, item: BareItemFromInput<'a>) -> Result<impl ParameterVisitor<'a, Out = Self::Out>, Self::Error> {
        Ok(NoParameters(match item {
            BareItemFromInput::String(key) => Some(key),
            _ => None,
        }))
    }
}

struct NoParameters<'a>(Option<Cow<'a, StringRef>>);

impl<'a> ParameterVisitor<'a> for NoParameters<'a> {
    type Out = Option<Cow<'a, StringRef>>;
    type Error = Infallible;

    fn parameter(&mut self, _: &'a KeyRef, _: BareItemFromInput<'a>) -> Result<(), Self::Error> {
        self.0 = None;
        Ok(())
    }

    fn finish(self) -> Result<Self::Out, Self::Error> {
        Ok(self.0)
    }
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562, section 4), of any version.
fn is_uuid(key: &str) -> bool {
    key.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && key.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> KeyPolicy {
        KeyPolicy { headers: vec!["idempotency-key".to_owned(), "x-request-key".to_owned()], ..KeyPolicy::default() }
    }

    fn find(value: impl Into<Vec<u8>>) -> Result<String, InvalidKey> {
        let headers = Headers::from_iter([("idempotency-key", value.into())]);
        Key::find(&headers, &policy()).map(|key| key.unwrap().0)
    }

    fn quote(key: &str) -> String {
        format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
    }

    #[test]
    fn the_bare_and_the_quoted_form_are_one_key() {
        assert_eq!(find("8e03978e"), Ok("8e03978e".to_owned()));
        assert_eq!(find("\"8e03978e\""), Ok("8e03978e".to_owned()));
    }

    #[test]
    fn a_quoted_key_is_unescaped() {
        assert_eq!(find(r#""a\"b""#), Ok("a\"b".to_owned()));
        assert_eq!(find(r#""a\\b""#), Ok("a\\b".to_owned()));
        assert_eq!(find(r#""\"""#), Ok("\"".to_owned()));
    }

    #[test]
    fn a_bare_backslash_escapes_nothing() {
        assert_eq!(find(r#"a\"b"#), Ok(r#"a\"b"#.to_owned()));
    }

    #[test]
    fn white_space_around_the_value_is_not_part_of_the_key() {
        assert_eq!(find(" \tkey\t "), Ok("key".to_owned()));
        assert_eq!(find("\t\"key\" \t"), Ok("key".to_owned()));
    }

    #[test]
    fn within_quotes_separators_and_spaces_are_part_of_the_key() {
        assert_eq!(find(r#""a, b;c=d ""#), Ok("a, b;c=d ".to_owned()));
    }

    #[test]
    fn an_empty_or_blank_key_is_refused() {
        for value in ["", " ", "\t \t", "\"\"", "\"  \""] {
            assert_eq!(find(value), Err(InvalidKey::Blank), "{value:?}");
        }
    }

    #[test]
    fn a_list_is_refused() {
        for value in ["a,b", "a, b", "a,", ",", "\"a\", \"b\"", "\"a\",", "\"a\" ,b", "\"a\";x, \"b\""] {
            assert_eq!(find(value), Err(InvalidKey::List), "{value:?}");
        }
    }

    #[test]
    fn parameters_are_refused() {
        for value in ["k;a=1", "k;", "\"k\";a=1", "\"k\";a", "\"k\"; a=\"1\";b", "\"k\" ;a"] {
            assert_eq!(find(value), Err(InvalidKey::Parameters), "{value:?}");
        }
    }

    #[test]
    fn an_unfinished_quoted_key_is_refused() {
        for value in ["\"", "\"k", "\"k\\", "\"k\\\"", "\"k\";"] {
            assert_eq!(find(value), Err(InvalidKey::Unterminated), "{value:?}");
        }
    }

    #[test]
    fn what_is_quoted_wrongly_is_refused() {
        for value in [r#""a\b""#, "\"a\"b", "\"a\" b", "\"a\"\"b\"", "\"a\";1"] {
            assert_eq!(find(value), Err(InvalidKey::Malformed), "{value:?}");
        }
    }

    #[test]
    fn a_space_within_the_bare_form_is_refused() {
        assert_eq!(find("a b"), Err(InvalidKey::Space));
    }

    #[test]
    fn control_characters_are_refused_in_both_forms() {
        for byte in (0..0x20).chain([0x7f]) {
            let bare = [b'a', byte, b'b'];
            let quoted = [b'"', b'a', byte, b'b', b'"'];
            assert_eq!(find(bare), Err(InvalidKey::ControlCharacter), "{byte:#x}");
            assert_eq!(find(quoted), Err(InvalidKey::ControlCharacter), "{byte:#x}");
        }
    }

    #[test]
    fn bytes_outside_of_ascii_are_refused_in_both_forms() {
        for value in [&b"a\xffb"[..], b"\x80", "schl\u{fc}ssel".as_bytes(), b"\"a\xffb\"", "\"\u{fc}\"".as_bytes()] {
            assert_eq!(find(value), Err(InvalidKey::NotAscii), "{value:?}");
        }
    }

    #[test]
    fn the_length_counts_after_unquoting() {
        let longest = "\"".repeat(255);
        let too_long = "k".repeat(256);

        assert_eq!(find(quote(&longest)), Ok(longest));
        assert_eq!(find(quote(&too_long)), Err(InvalidKey::TooLong { max_length: 255 }));
        assert_eq!(find(too_long), Err(InvalidKey::TooLong { max_length: 255 }));
    }

    #[test]
    fn two_key_lines_are_refused_even_if_equal() {
        let headers = Headers::from_iter([("idempotency-key", "k"), ("Idempotency-Key", "k")]);
        assert_eq!(Key::find(&headers, &policy()), Err(InvalidKey::Repeated));
    }

    #[test]
    fn the_first_configured_header_that_is_present_is_the_key() {
        let key = |headers: Headers| Key::find(&headers, &policy()).unwrap().map(|key| key.0);

        assert_eq!(
            key(Headers::from_iter([("x-request-key", "second"), ("idempotency-key", "first")])),
            Some("first".to_owned())
        );
        assert_eq!(key(Headers::from_iter([("x-request-key", "second")])), Some("second".to_owned()));
        assert_eq!(key(Headers::from_iter([("x-other", "third")])), None);
    }

    #[test]
    fn a_bad_key_does_not_fall_back_to_the_next_header() {
        let headers = Headers::from_iter([("idempotency-key", ""), ("x-request-key", "good")]);
        assert_eq!(Key::find(&headers, &policy()), Err(InvalidKey::Blank));
    }

    #[test]
    fn both_spellings_of_a_uuid_are_one_key() {
        let uuids = KeyPolicy { format: KeyFormat::Uuid, ..policy() };
        let find = |value: &str| Key::find(&Headers::from_iter([("idempotency-key", value)]), &uuids);

        let key = find("8e03978e-40d5-43e8-bc93-6894a57f9324");
        assert!(key.is_ok());
        assert_eq!(find("8E03978E-40D5-43E8-BC93-6894A57F9324"), key);
        assert_eq!(find("\"8e03978e-40d5-43e8-BC93-6894a57f9324\""), key);
    }

    #[test]
    fn what_is_no_uuid_is_refused_where_one_is_asked_for() {
        let uuids = KeyPolicy { format: KeyFormat::Uuid, ..policy() };
        for value in [
            "k",
            "8e03978e40d543e8bc936894a57f9324",
            "8e03978e-40d5-43e8-bc93-6894a57f932",
            "8e03978e-40d5-43e8-bc93-6894a57f93240",
            "8e03978e-40d5-43e8-bc93-6894a57f932g",
            "8e03978-e40d5-43e8-bc93-6894a57f9324",
            "{8e03978e-40d5-43e8-bc93-6894a57f9324}",
            "8e03978e-40d5-43e8-bc93-6894a57f9324-",
        ] {
            let headers = Headers::from_iter([("idempotency-key", value)]);
            assert_eq!(Key::find(&headers, &uuids), Err(InvalidKey::NotUuid), "{value:?}");
        }
    }

    #[test]
    fn without_a_format_spelling_matters() {
        assert_ne!(find("8E03978E"), find("8e03978e"));
    }

    fn find_opaque(value: impl Into<Vec<u8>>) -> Result<String, InvalidKey> {
        let policy = KeyPolicy { syntax: KeySyntax::Opaque, ..policy() };
        let headers = Headers::from_iter([("idempotency-key", value.into())]);
        Key::find(&headers, &policy).map(|key| key.unwrap().0)
    }

    #[test]
    fn an_opaque_key_is_the_value_as_it_is() {
        for value in ["a b", "a,b", "a, b", "k;v=1", "\"K\"", "\"open", "\\", "a\\\"b", "=?utf-8?q?a?=", ":a:"] {
            assert_eq!(find_opaque(value).as_deref(), Ok(value));
        }
        assert_eq!(find_opaque(" \ta b \t").as_deref(), Ok("a b"));
        // Both syntaxes name one operation by one key.
        assert_eq!(find_opaque("a, b"), find("\"a, b\""));
        assert_ne!(find_opaque("\"K\""), find("\"K\""));
    }

    #[test]
    fn the_limits_hold_for_opaque_keys() {
        assert_eq!(find_opaque("k".repeat(255)), Ok("k".repeat(255)));
        for (value, reason) in [
            (b"".as_slice(), InvalidKey::Blank),
            (b" \t ", InvalidKey::Blank),
            (&[b'k'; 256], InvalidKey::TooLong { max_length: 255 }),
            (b"a\tb", InvalidKey::ControlCharacter),
            (b"a\0", InvalidKey::ControlCharacter),
            (b"a\x7f", InvalidKey::ControlCharacter),
            (b"a\xff", InvalidKey::NotAscii),
            ("cl\u{e9}".as_bytes(), InvalidKey::NotAscii),
        ] {
            assert_eq!(find_opaque(value), Err(reason), "{}", value.escape_ascii());
        }
        let opaque = KeyPolicy { syntax: KeySyntax::Opaque, format: KeyFormat::Uuid, ..policy() };
        let find = |value: &str| Key::find(&Headers::from_iter([("idempotency-key", value)]), &opaque);
        assert!(find("8E03978E-40D5-43E8-BC93-6894A57F9324").is_ok());
        assert_eq!(find("\"8e03978e-40d5-43e8-bc93-6894a57f9324\""), Err(InvalidKey::NotUuid));
        let two = Headers::from_iter([("idempotency-key", "k"), ("idempotency-key", "k")]);
        assert_eq!(Key::find(&two, &opaque), Err(InvalidKey::Repeated));
    }

    fn in_body(
        body: &str,
        pointers: &[&[&str]],
        change: impl FnOnce(&mut KeyPolicy),
    ) -> Result<Option<String>, InvalidKey> {
        let pointers = pointers.iter().map(|tokens| tokens.iter().map(|token| (*token).to_owned()).collect()).collect();
        let mut policy = KeyPolicy { pointers, ..policy() };
        change(&mut policy);
        Key::find_in_body(body.as_bytes(), &policy).map(|key| key.map(|key| key.0))
    }

    #[test]
    fn the_first_pointer_that_leads_to_anything_has_the_key() {
        let pointers: &[&[&str]] = &[&["idempotency_key"], &["params", "_meta", "key"]];
        for (body, key) in [
            (r#"{"params":{"_meta":{"key":"b"}},"idempotency_key":"a"}"#, Ok(Some("a"))),
            (r#"{"params":{"_meta":{"key":"b"}}}"#, Ok(Some("b"))),
            (r#"{"params":{"_meta":{"key":17}}}"#, Ok(Some("17"))),
            (r#"{"params":[]}"#, Ok(None)),
            ("idempotency_key=a", Ok(None)),
            ("", Ok(None)),
            (r#"{"params":{"_meta":{"key":"b"}},"idempotency_key":null}"#, Err(InvalidKey::NoScalar)),
            (r#"{"params":{"_meta":{"key":"b"}},"idempotency_key":""}"#, Err(InvalidKey::Blank)),
            (r#"{"idempotency_key":"a","params":1,"params":2}"#, Ok(Some("a"))),
            (r#"{"params":1,"params":2}"#, Err(InvalidKey::RepeatedName)),
        ] {
            assert_eq!(in_body(body, pointers, |_| ()), key.map(|key| key.map(str::to_owned)), "{body}");
        }
        assert_eq!(in_body(r#"{"idempotency_key":"a"}"#, &[], |_| ()), Ok(None));
    }

    #[test]
    fn a_key_in_a_body_has_the_limits_of_one_in_a_header() {
        let find = |value: &str| in_body(&format!(r#"{{"k":{value}}}"#), &[&["k"]], |policy| policy.max_length = 9);
        for (value, key) in [
            (r#""order 17""#, Ok("order 17")),
            (r#"" a, \"b\" ""#, Ok(" a, \"b\" ")),
            (r#""123456789""#, Ok("123456789")),
            (r#""1234567890""#, Err(InvalidKey::TooLong { max_length: 9 })),
            ("1234567890", Err(InvalidKey::TooLong { max_length: 9 })),
            (r#""  ""#, Err(InvalidKey::Blank)),
            (r#""a\tb""#, Err(InvalidKey::ControlCharacter)),
            (r#""a\u0000""#, Err(InvalidKey::ControlCharacter)),
            (r#""cl\u00e9""#, Err(InvalidKey::NotAscii)),
            (r#""\ud83d""#, Err(InvalidKey::NoScalar)),
            ("[\"a\"]", Err(InvalidKey::NoScalar)),
            ("1.5", Err(InvalidKey::NoScalar)),
        ] {
            assert_eq!(find(value), key.map(|key| Some(key.to_owned())), "{value}");
        }
        let uuid = |value: &str| in_body(value, &[&["0"]], |policy| policy.format = KeyFormat::Uuid);
        assert_eq!(uuid("[17]"), Err(InvalidKey::NotUuid));
        let lower = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        assert_eq!(uuid(&format!("[\"{}\"]", lower.to_uppercase())), Ok(Some(lower.to_owned())));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let headers = Headers::from_iter([("idempotency-key", "secret")]);
        assert_eq!(format!("{:?}", Key::find(&headers, &policy())), "Ok(Some(Key(redacted)))");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_a_reason(value in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(key) = find(value) {
                prop_assert!(key.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            }
        }

        #[test]
        fn near_misses_of_the_quoted_form_are_a_key_or_a_reason(value in r#""[ab"\\;,= ]{0,8}"?"#) {
            let accepted = find(value.as_str());
            let item = Parser::new(value.trim()).parse::<sfv::Item>();
            let expected = item.ok().filter(|item| item.params.is_empty());
            let expected = expected.and_then(|item| item.bare_item.as_string().map(|key| key.as_str().to_owned()));
            prop_assert_eq!(accepted.ok(), expected.filter(|key| !key.trim().is_empty()));
        }

        #[test]
        fn any_printable_key_survives_quoting(key in "[ -~]{1,40}") {
            prop_assume!(!key.trim().is_empty());
            prop_assert_eq!(find(quote(&key)), Ok(key));
        }

        #[test]
        fn a_bare_key_is_the_key(key in "[!#-+\\--:<-~][!-+\\--:<-~]{0,39}") {
            prop_assert_eq!(find(key.as_str()), Ok(key.clone()));
            prop_assert_eq!(find(quote(&key)), Ok(key));
        }

        #[test]
        fn no_reason_repeats_the_key(key in "[0-9]{4,8}", fault in "[ ,;\u{7f}\u{fc}]") {
            let reason = find(format!("{key}{fault}{key}")).unwrap_err();
            prop_assert!(!reason.to_string().contains(&key));
        }
    }
}
