//! What a `content-type` says (RFC 9110, section 8.3.1), however it is written.

use std::borrow::Cow;

use mediatype::{MediaType, ReadParams as _};

/// The parameter that separates the parts of a multipart body (RFC 2046, section 5.1.1).
const BOUNDARY: &str = "boundary";
/// RFC 2046, section 5.1.1.
const LONGEST_BOUNDARY: usize = 70;

/// Bytes that are the same for all spellings of one media type; what is none counts as it is.
///
/// Names count without case, parameters in any order and with or without quotes. `charset=utf-8` says nothing on JSON
/// (RFC 8259, section 11), and the boundary of a form separates its parts but is none of them.
pub(super) fn normal_form(value: &[u8]) -> Cow<'_, [u8]> {
    // As most are written.
    if !value.iter().any(|byte| byte.is_ascii_uppercase() || matches!(byte, b';' | b' ' | b'\t')) {
        return Cow::Borrowed(value);
    }
    let Some(media_type) = parse(value) else { return Cow::Borrowed(value) };
    let (is_json, is_form) = (is_json(&media_type), is_form(&media_type));
    let mut parameters = Vec::new();
    for (name, value) in media_type.params() {
        let name = name.as_str().to_ascii_lowercase();
        let mut value = value.unquoted_str().into_owned();
        if name == "charset" {
            value.make_ascii_lowercase();
        }
        if is_form && name == BOUNDARY || is_json && name == "charset" && value == "utf-8" {
            continue;
        }
        // No field has a line break, so that nothing else is written like this.
        parameters.push(format!("\n{name}={value}"));
    }
    parameters.sort_unstable();
    let essence = media_type.essence().to_string().to_ascii_lowercase();
    Cow::Owned((essence + &parameters.concat()).into_bytes())
}

/// The boundary of a `multipart/form-data` body; `None` if the body is no form, or nobody can tell which boundary it has.
pub(super) fn form_boundary(value: &[u8]) -> Option<Vec<u8>> {
    if !value.get(..FORM.len())?.eq_ignore_ascii_case(FORM) {
        return None;
    }
    let media_type = parse(value).filter(is_form)?;
    let mut boundaries = media_type.params().filter(|(name, _)| name.as_str().eq_ignore_ascii_case(BOUNDARY));
    let (Some((_, boundary)), None) = (boundaries.next(), boundaries.next()) else { return None };
    let boundary = boundary.unquoted_str().into_owned().into_bytes();
    (1..=LONGEST_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

const FORM: &[u8] = b"multipart/form-data";

fn parse(value: &[u8]) -> Option<MediaType<'_>> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?;
    MediaType::parse(text.trim_matches([' ', '\t'])).ok()
}

fn is_form(media_type: &MediaType<'_>) -> bool {
    media_type.ty == "multipart" && media_type.subty == "form-data" && media_type.suffix.is_none()
}

fn is_json(media_type: &MediaType<'_>) -> bool {
    media_type.suffix.is_some_and(|suffix| suffix == "json")
        || media_type.ty == "application" && media_type.subty == "json" && media_type.suffix.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(value: &str) -> String {
        String::from_utf8(normal_form(value.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_media_type_counts_by_what_it_says() {
        for same in [
            "Application/JSON",
            " application/json",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json;",
        ] {
            assert_eq!(form(same), form("application/json"), "{same}");
        }
        assert_eq!(form("text/plain;A=\"x\"; charset=UTF-8"), form("text/plain; charset=utf-8; a=x"));
        assert_eq!(form("application/vnd.api+json; charset=utf-8"), form("application/vnd.api+json"));
        assert_eq!(form("multipart/form-data; boundary=a"), form("Multipart/Form-Data; Boundary=\"b c\""));
    }

    #[test]
    fn what_says_something_else_differs() {
        let all = [
            "application/json",
            "application/json; charset=latin1",
            "application/json; a=b",
            "application/json; a=B",
            "text/plain",
            "text/plain; charset=utf-8",
            "multipart/form-data",
            "multipart/form-data; charset=utf-8",
            "multipart/mixed; boundary=a",
            "multipart/mixed; boundary=b",
            "application/json, application/json",
            "application/json; a",
            "json",
            "",
        ];
        for (place, one) in all.iter().enumerate() {
            for other in all.iter().skip(place + 1) {
                assert_ne!(form(one), form(other), "{one} and {other}");
            }
        }
        assert_eq!(*normal_form(b"text/Plain; a=\xff"), *b"text/Plain; a=\xff");
    }

    #[test]
    fn only_a_form_with_one_boundary_has_it() {
        let boundary = |value: &str| form_boundary(value.as_bytes());
        assert_eq!(boundary("multipart/form-data; boundary=ab").unwrap(), b"ab");
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a \\b\"").unwrap(), b"a b");
        for none in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data-x; boundary=a",
            "multipart/mixed; boundary=a",
            "text/plain; boundary=a",
            &format!("multipart/form-data; boundary={}", "a".repeat(71)),
        ] {
            assert_eq!(boundary(none), None, "{none}");
        }
    }
}
