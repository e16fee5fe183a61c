//! One spelling for all methods, and for all paths, that are the same.

use std::borrow::Cow;

/// A method in upper case. To RFC 9110 methods differ by their case; to many services they do not, and a `post` that is
/// another operation than `POST`, or none that is guarded, would be a second execution.
pub(crate) fn method(method: &[u8]) -> Cow<'_, [u8]> {
    upper_case(method)
}

/// A path in the normal form of RFC 3986, sections 6.2.2.1 and 6.2.2.2: percent-encoded octets that need no encoding are
/// decoded, and the digits of the others are in upper case. By the RFC, and to every service, such paths are the same.
///
/// All else stays: dot segments, empty ones and encoded slashes are for Envoy to resolve, in front of every filter, and
/// what else a service takes for the same (`;` with parameters, other letters' case, a slash at the end) it alone knows.
pub(crate) fn path(path: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = path.iter().position(|byte| *byte == b'%') else { return Cow::Borrowed(path) };
    let (before, mut rest) = path.split_at_checked(first).unwrap_or((path, &[]));
    let mut normal = Vec::with_capacity(path.len());
    normal.extend_from_slice(before);
    while let [byte, behind @ ..] = rest {
        let (octet, behind) = match behind {
            [high, low, behind @ ..] if *byte == b'%' => (octet(*high, *low), behind),
            _ => (None, behind),
        };
        match octet {
            Some(octet) if is_unreserved(octet) => {
                normal.push(octet);
                rest = behind;
            }
            Some(_) => {
                let encoded = rest.get(..3).unwrap_or_default();
                normal.extend_from_slice(&upper_case(encoded));
                rest = behind;
            }
            None => {
                normal.push(*byte);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    Cow::Owned(normal)
}

/// What in a path shows that Envoy does not resolve what many services do, so that rules for one spelling of a path can
/// be passed by with another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unresolved {
    /// A segment `.` or `..`, or a backslash.
    Dots,
    /// Two slashes in a row.
    EmptySegment,
    /// A slash or a backslash that is percent-encoded.
    EncodedSlash,
}

impl Unresolved {
    /// What a path in its normal form shows; it has no query.
    pub(crate) fn of(path: &[u8]) -> Option<Self> {
        if path.windows(2).any(|pair| pair == b"//") {
            return Some(Self::EmptySegment);
        }
        if path.windows(3).any(|triple| triple == b"%2F" || triple == b"%5C") {
            return Some(Self::EncodedSlash);
        }
        let is_dots = |segment: &[u8]| segment == b"." || segment == b"..";
        (path.contains(&b'\\') || path.split(|byte| *byte == b'/').any(is_dots)).then_some(Self::Dots)
    }

    /// The setting of Envoy's HTTP connection manager that resolves it.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Dots => "normalize_path: true",
            Self::EmptySegment => "merge_slashes: true",
            Self::EncodedSlash => "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT",
        }
    }
}

fn upper_case(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().any(u8::is_ascii_lowercase) { Cow::Owned(text.to_ascii_uppercase()) } else { Cow::Borrowed(text) }
}

/// The octet that two hexadecimal digits name.
fn octet(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// RFC 3986, section 2.3.
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_path(text: &str) -> String {
        String::from_utf8(path(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn octets_that_need_no_encoding_are_decoded() {
        for (spelt, normal) in [
            ("/%70ay", "/pay"),
            ("/%50AY/%7e%2D%2e%5F%30", "/PAY/~-._0"),
            ("/a%2fb%c3%a9%20", "/a%2Fb%C3%A9%20"),
            ("/a%3bb=1;c", "/a%3Bb=1;c"),
            ("/%2a%2A", "/%2A%2A"),
            ("/%2541", "/%2541"),
            ("%", "%"),
            ("/a%", "/a%"),
            ("/a%4", "/a%4"),
            ("/a%4g%zz%%41", "/a%4g%zz%A"),
            ("/a%+1%-1", "/a%+1%-1"),
            ("/orders/17", "/orders/17"),
            ("", ""),
        ] {
            assert_eq!(of_path(spelt), normal, "{spelt}");
        }
        assert_eq!(path(b"/%ff\xff%41"), b"/%FF\xffA".as_slice());
    }

    #[test]
    fn a_path_without_escapes_is_not_copied() {
        assert!(matches!(path(b"/orders/17;a=b"), Cow::Borrowed(_)));
    }

    #[test]
    fn methods_have_no_case() {
        assert_eq!(method(b"post"), b"POST".as_slice());
        assert_eq!(method(b"Patch"), method(b"PATCH"));
        assert!(matches!(method(b"POST"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_envoy_would_have_resolved_is_seen() {
        let seen = |text: &str| Unresolved::of(&path(text.as_bytes()));
        for text in ["/./pay", "/a/../pay", "/a/..", "/%2e/pay", "/a/%2E%2e/pay", "/pay\\x"] {
            assert_eq!(seen(text), Some(Unresolved::Dots), "{text}");
        }
        for text in ["//pay", "/a//", "/a///b"] {
            assert_eq!(seen(text), Some(Unresolved::EmptySegment), "{text}");
        }
        for text in ["/pay%2fx", "/pay%2Fx", "/pay%5cx"] {
            assert_eq!(seen(text), Some(Unresolved::EncodedSlash), "{text}");
        }
        for text in ["/", "", "/pay", "/pay/", "/a.b/..c/.d/e..", "/%252e/%252F", "/a;b/..;/c"] {
            assert_eq!(seen(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn paths_that_differ_in_needless_escapes_alone_are_one(
            octets in prop::collection::vec(prop::sample::select(b"aZ09-._~/%;=*\xc3".to_vec()), 0..12),
            needless in prop::collection::vec(any::<(bool, bool)>(), 12),
        ) {
            let spell = |is_respelt: bool| -> Vec<u8> {
                octets
                    .iter()
                    .zip(&needless)
                    .flat_map(|(octet, (encoded, lower))| {
                        let is_needless = is_respelt && *encoded && is_unreserved(*octet);
                        let is_needed = !is_unreserved(*octet) && !b"/;=*".contains(octet);
                        match (is_needless || is_needed, is_respelt && *lower) {
                            (false, _) => vec![*octet],
                            (true, false) => format!("%{octet:02X}").into_bytes(),
                            (true, true) => format!("%{octet:02x}").into_bytes(),
                        }
                    })
                    .collect()
            };
            let (plain, respelt) = (spell(false), spell(true));
            prop_assert_eq!(path(&plain), plain.as_slice(), "a normal form is its own");
            prop_assert_eq!(path(&respelt), plain.as_slice());
        }
    }
}
