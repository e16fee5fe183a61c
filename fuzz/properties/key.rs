//! The key of a request: `K` and `"K"` are one key, and anything else is refused.

use idemgate::{
    config::{KeyFormat, KeyPolicy},
    headers::Headers,
    request::{InvalidKey, Key},
};

use super::{Seed, texts};

/// A value is a key exactly if a naive reading says so, and then the key that it reads.
pub fn check(value: &[u8]) {
    let any = find(value, KeyFormat::Any);
    match (&any, read(value)) {
        (Ok(key), Some(text)) => {
            assert_eq!(find(&quoted(&text), KeyFormat::Any).as_ref(), Ok(key), "{text:?}");
            let (shorter, other) = (text.get(..text.len() - 1).unwrap_or_default(), text.replace(['a', '1'], "z"));
            for other in [shorter, &other].into_iter().filter(|other| **other != text) {
                assert_ne!(find(&quoted(other), KeyFormat::Any).as_ref(), Ok(key), "{text:?} {other:?}");
            }
        }
        (Err(InvalidKey::TooLong { max_length }), Some(text)) => assert!(text.len() > *max_length),
        (Err(reason), None) => assert!(!reason.to_string().contains(char::is_control)),
        (found, expected) => panic!("found {found:?}, not {expected:?}"),
    }
    if let Ok(uuid) = find(value, KeyFormat::Uuid) {
        assert_eq!(find(&value.to_ascii_uppercase(), KeyFormat::Uuid), Ok(uuid), "a UUID has no case");
        assert!(any.is_ok());
    }
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("bare", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("escaped", r#""a\"b\\c""#),
        ("list", "\"a\", \"b\""),
        ("parameters", "\"key\"; a=1;b=?0"),
        ("quoted", "\"order 17; retry, please\""),
        ("spaces", " \tkey-1\t "),
        ("unterminated", "\"a\\"),
    ])
}

pub(super) fn find(value: &[u8], format: KeyFormat) -> Result<Key, InvalidKey> {
    let policy = KeyPolicy { format, ..KeyPolicy::default() };
    let headers = Headers::from_iter([("idempotency-key", value)]);
    Key::find(&headers, &policy).map(|key| key.expect("the header is there"))
}

/// The text of a key, bare or as another parser reads the quoted form; `None` for no key at all.
fn read(value: &[u8]) -> Option<String> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte))?;
    let end = value.iter().rposition(|byte| !is_space(byte))?;
    let value = &value[start..=end];
    let text = if value[0] == b'"' {
        let item = sfv::Parser::new(value).parse::<sfv::Item>().ok().filter(|item| item.params.is_empty())?;
        item.bare_item.as_string()?.as_str().to_owned()
    } else {
        let is_bare = value.iter().all(|byte| (b'!'..=b'~').contains(byte) && !b",;".contains(byte));
        is_bare.then(|| String::from_utf8_lossy(value).into_owned())?
    };
    (!text.trim().is_empty()).then_some(text)
}

pub(super) fn quoted(text: &str) -> Vec<u8> {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")).into_bytes()
}
