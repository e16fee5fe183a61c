//! What the request line names.

use std::borrow::Cow;

use crate::{headers::Headers, normal_form};

/// The target of a request (RFC 9110, section 7.1), as the HTTP/2 pseudo-headers carry it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Target<'a> {
    /// `:method`, as the request has it.
    pub method: &'a [u8],
    /// `:authority`, with its port if the client wrote one.
    pub authority: &'a [u8],
    /// `:path` up to the first `?`.
    pub path: &'a [u8],
    /// What follows the first `?`; `/a` has none and `/a?` has an empty one.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// The target that `headers` name; a pseudo-header that is missing counts as empty.
    #[must_use]
    pub fn from_headers(headers: &'a Headers) -> Self {
        let field = |name| headers.get(name).unwrap_or_default();
        let mut path_and_query = field(":path").splitn(2, |byte| *byte == b'?');
        Self {
            method: field(":method"),
            authority: field(":authority"),
            path: path_and_query.next().unwrap_or_default(),
            query: path_and_query.next(),
        }
    }

    /// The method as it is compared, and named by operations.
    pub(super) fn normalized_method(&self) -> Cow<'a, [u8]> {
        normal_form::method(self.method)
    }

    /// The path as it is compared, and named by operations.
    pub(super) fn normalized_path(&self) -> Cow<'a, [u8]> {
        normal_form::path(self.path)
    }

    /// The authority as it is compared: a host is case-insensitive (RFC 9110, section 4.2.3).
    ///
    /// The port stays as it is: without the scheme nobody can tell which port is the default one.
    pub(super) fn normalized_authority(&self) -> Cow<'a, [u8]> {
        if self.authority.iter().any(u8::is_ascii_uppercase) {
            Cow::Owned(self.authority.to_ascii_lowercase())
        } else {
            Cow::Borrowed(self.authority)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_starts_at_the_first_question_mark() {
        let headers =
            Headers::from_iter([(":method", "POST"), (":authority", "api.example:8443"), (":path", "/orders?a=1?b=2")]);

        let target =
            Target { method: b"POST", authority: b"api.example:8443", path: b"/orders", query: Some(b"a=1?b=2") };
        assert_eq!(Target::from_headers(&headers), target);
    }

    #[test]
    fn no_query_is_not_an_empty_query() {
        let query = |path: &str| Target::from_headers(&Headers::from_iter([(":path", path)])).query.map(<[u8]>::to_vec);

        assert_eq!(query("/orders"), None);
        assert_eq!(query("/orders?"), Some(Vec::new()));
    }

    #[test]
    fn missing_pseudo_headers_are_empty() {
        assert_eq!(Target::from_headers(&Headers::new()), Target::default());
    }
}
