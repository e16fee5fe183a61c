//! Patterns of routes. One that can never match is refused: its route would silently guard nothing.

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

use super::text::FieldName;
use crate::config::error::{ConfigError, JsonPath};
use crate::config::glob::{BadGlob, Glob, LONGEST_PATTERN};
use crate::config::json::{Node, read_value};
use crate::headers::Headers;
use crate::normal_form;

/// A pattern over the path without its query; segments end at `/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct PathPattern(Glob);

impl PathPattern {
    /// Whether the pattern matches `path`, which has no query and is in its normal form, as the pattern is.
    pub(in crate::config) fn matches(&self, path: &[u8]) -> bool {
        self.0.matches(path)
    }

    /// Whether it certainly matches all that `other` does.
    pub(in crate::config) fn covers(&self, other: Option<&Self>) -> bool {
        match other {
            Some(other) => self.0.covers(&other.0),
            // Every path begins with a slash.
            None => self.0.covers(&Glob::below_root(b'/')),
        }
    }
}

impl<'de> Deserialize<'de> for PathPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a pattern over the path without its query, which begins with / or ** and is percent-encoded: \
                       * matches within a segment, ** across";
        let text = read_value(deserializer, allowed, |node| {
            let text = node.text()?;
            let is_possible = (text.starts_with('/') || text.starts_with("**"))
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
            is_possible.then(|| text.to_owned())
        })?;
        compile(&normal_form::path(text.as_bytes()), b'/', &text).map(Self)
    }
}

/// A pattern over the authority; segments end at `.`. Without a port it matches any.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct AuthorityPattern {
    glob: Glob,
    names_port: bool,
}

impl AuthorityPattern {
    /// Whether the pattern matches `authority`, in any case (RFC 9110, section 4.2.3).
    pub(in crate::config) fn matches(&self, authority: &[u8]) -> bool {
        let authority = if self.names_port { authority } else { host_of(authority) };
        if authority.iter().any(u8::is_ascii_uppercase) {
            return self.glob.matches(&authority.to_ascii_lowercase());
        }
        self.glob.matches(authority)
    }

    /// Whether it certainly matches all that `other` does.
    pub(in crate::config) fn covers(&self, other: Option<&Self>) -> bool {
        match other {
            Some(other) => self.names_port == other.names_port && self.glob.covers(&other.glob),
            None => !self.names_port && self.glob.covers(&Glob::any(b'.')),
        }
    }
}

impl<'de> Deserialize<'de> for AuthorityPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a pattern over the host, with or without a port: * matches within a label, ** across";
        let text = read_value(deserializer, allowed, |node| {
            let text = node.text()?;
            let is_possible =
                !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte));
            // An IPv6 address without its brackets: no authority has one.
            let is_bare = host_of(text.as_bytes()).contains(&b':') && !text.starts_with('[');
            (is_possible && !is_bare).then(|| text.to_owned())
        })?;
        let names_port = host_of(text.as_bytes()).len() < text.len();
        Ok(Self { glob: compile(text.to_ascii_lowercase().as_bytes(), b'.', &text)?, names_port })
    }
}

/// A pattern over the value of a header field: a star stands for any characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct HeaderPattern(Glob);

impl HeaderPattern {
    /// Whether the pattern matches all of `value`, case included.
    pub(in crate::config) fn matches(&self, value: &[u8]) -> bool {
        self.0.matches(value)
    }

    /// Whether it certainly matches all that `other` does.
    pub(in crate::config) fn covers(&self, other: &Self) -> bool {
        self.0.covers(&other.0)
    }
}

impl<'de> Deserialize<'de> for HeaderPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let allowed = "a pattern over the whole value, without spaces at its ends and without control characters: * matches \
                       any characters";
        let text = read_value(deserializer, allowed, |node| {
            let text = node.text()?;
            let is_possible = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
            is_possible.then(|| text.to_owned())
        })?;
        // No value has a line break: it is one segment, in which one star matches what two do.
        let pattern = if text.contains("***") { text.clone() } else { text.replace("**", "*").replace('*', "**") };
        compile(pattern.as_bytes(), b'\n', &text).map(Self)
    }
}

/// The patterns over fields, by their names in lower case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::config) struct HeaderPatterns(Vec<(String, HeaderPattern)>);

impl HeaderPatterns {
    pub(in crate::config) fn read(node: &Node) -> Result<Self, ConfigError> {
        let mut patterns: Vec<(String, HeaderPattern)> = Vec::new();
        for (key, value) in node.members("an object of names of headers and patterns over their values")? {
            let name = String::from(Node::Text(key.clone()).read::<FieldName>()?);
            if name == "host" {
                let found = "host, which HTTP/2 and Envoy know as the authority";
                return Err(ConfigError::new(JsonPath::default(), found, "match.authority instead"));
            }
            if patterns.iter().any(|(other, _)| *other == name) {
                return Err(ConfigError::new(JsonPath::default(), "the same header twice", "each header once"));
            }
            let pattern = value.read().map_err(|error| error.within(JsonPath::default().key(key)))?;
            patterns.push((name, pattern));
        }
        Ok(Self(patterns))
    }

    pub(in crate::config) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::config) fn match_all(&self, headers: &Headers) -> bool {
        self.0.iter().all(|(name, pattern)| {
            let mut values = headers.get_all(name);
            match (values.next(), values.next()) {
                (None, _) => false,
                (Some(value), None) => pattern.matches(value),
                // As Envoy's routes look at a field of several lines.
                (Some(_), Some(_)) => pattern.matches(&headers.get_all(name).collect::<Vec<_>>().join(&b',')),
            }
        })
    }

    /// Whether each of them certainly matches whatever `other` matches.
    pub(in crate::config) fn cover(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, wide)| other.0.iter().any(|(same, narrow)| same == name && wide.covers(narrow)))
    }
}

/// What stands in front of the port. An IPv6 address has colons of its own, within brackets.
fn host_of(authority: &[u8]) -> &[u8] {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let bracket = authority.iter().rposition(|byte| *byte == b']');
    match colon {
        Some(colon) if bracket.is_none_or(|bracket| bracket < colon) => authority.get(..colon).unwrap_or_default(),
        _ => authority,
    }
}

/// Compiles a `pattern`, which was written as `text`.
fn compile<E: Error>(pattern: &[u8], separator: u8, text: &str) -> Result<Glob, E> {
    Glob::compile(pattern, separator).map_err(|reason| {
        let allowed = match reason {
            BadGlob::Stars => "one star, or two in a row".to_owned(),
            BadGlob::TooLong => format!("a pattern of {LONGEST_PATTERN} bytes at most"),
        };
        E::invalid_value(Unexpected::Str(text), &allowed.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<PathPattern, ConfigError> {
        Node::Text(text.to_owned()).read()
    }

    #[test]
    fn a_path_pattern_is_in_normal_form() {
        assert_eq!(path("/caf%c3%a9/%70ay/*").unwrap(), path("/caf%C3%A9/pay/*").unwrap());
        assert_ne!(path("/a%2A").unwrap(), path("/a*").unwrap());
    }

    fn authority(text: &str) -> AuthorityPattern {
        Node::Text(text.to_owned()).read().unwrap()
    }

    #[test]
    fn a_path_pattern_that_no_path_can_match_is_refused() {
        for text in ["", "orders", "*", "*/orders", "/orders?x=1", "/a#b", "/a b", "/caf\u{e9}", "/a***"] {
            assert!(path(text).is_err(), "{text}");
        }
        for text in ["/", "/**", "**", "**/pay", "/orders/*/pay", "/caf%C3%A9"] {
            assert!(path(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_authority_is_matched_in_any_case_and_with_any_port_unless_the_pattern_has_one() {
        let any_port = authority("API.example.com");
        for text in ["api.example.com", "Api.Example.Com:8443", "api.example.com:"] {
            assert!(any_port.matches(text.as_bytes()), "{text}");
        }
        assert!(!any_port.matches(b"example.com") && !any_port.matches(b"api.example.com.evil:80"));
        let one_port = authority("api.example.com:8443");
        assert!(one_port.matches(b"api.example.com:8443"));
        assert!(!one_port.matches(b"api.example.com") && !one_port.matches(b"api.example.com:443"));
    }

    #[test]
    fn the_colons_of_an_ipv6_address_are_no_port() {
        assert!(authority("[2001:db8::1]").matches(b"[2001:db8::1]:8080"));
        assert!(authority("[2001:db8::1]").matches(b"[2001:DB8::1]"));
        assert!(!authority("[2001:db8::1]:80").matches(b"[2001:db8::1]"));
    }

    #[test]
    fn an_authority_pattern_that_no_authority_can_match_is_refused() {
        for text in ["", "https://example.com", "example.com/orders", "user@example.com", "ex ample.com", "2001:db8::1"]
        {
            assert!(Node::Text(text.to_owned()).read::<AuthorityPattern>().is_err(), "{text}");
        }
    }

    fn headers(json: &str) -> Result<HeaderPatterns, ConfigError> {
        HeaderPatterns::read(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_header_is_matched_whole_by_its_lines_joined_as_envoy_does() {
        for (patterns, lines, is_match) in [
            (r#"{"Mcp-Method": "tools/call"}"#, &[("mcp-method", "tools/call")][..], true),
            (r#"{"mcp-method": "tools/call"}"#, &[("mcp-method", "tools/list")], false),
            (r#"{"mcp-method": "tools/call"}"#, &[("mcp-method", "Tools/Call")], false),
            (r#"{"mcp-method": "tools/call"}"#, &[("mcp-method", "tools/call2")], false),
            (r#"{"mcp-method": "tools/call"}"#, &[], false),
            (r#"{"mcp-method": "tools/*"}"#, &[("MCP-Method", "tools/a/b, c")], true),
            (r#"{"x": "*"}"#, &[("x", "")], true),
            (r#"{"x": "*"}"#, &[("y", "a")], false),
            (r#"{"x": "a*b"}"#, &[("x", "a/b.b")], true),
            (r#"{"x": "a**b"}"#, &[("x", "ab")], true),
            (r#"{"x": "a"}"#, &[("x", "a"), ("x", "a")], false),
            (r#"{"x": "a,b"}"#, &[("x", "a"), ("x", "b")], true),
            (r#"{"x": "b*"}"#, &[("x", "a"), ("x", "b")], false),
            (r#"{"x": "a", "y": "b"}"#, &[("y", "b"), ("x", "a")], true),
            (r#"{"x": "a", "y": "b"}"#, &[("x", "a")], false),
            (r#"{}"#, &[], true),
        ] {
            let headers_of_request = lines.iter().copied().collect();
            assert_eq!(headers(patterns).unwrap().match_all(&headers_of_request), is_match, "{patterns} {lines:?}");
        }
    }

    #[test]
    fn header_patterns_that_no_request_can_match_are_refused() {
        for (patterns, message) in [
            (r#"{"x": ""}"#, "x: found \"\"; allowed: a pattern over the whole value"),
            (r#"{"x": " a"}"#, "x: found \" a\"; allowed: a pattern over the whole value"),
            (r#"{"x": "a\nb"}"#, "x: found "),
            (r#"{"x": "a***"}"#, "x: found \"a***\"; allowed: one star, or two in a row"),
            (r#"{"x": 1}"#, "x: found 1; allowed: a pattern over the whole value"),
            (r#"{":path": "a"}"#, "$: found \":path\"; allowed: the name of a header"),
            (
                r#"{"Host": "a"}"#,
                "$: found host, which HTTP/2 and Envoy know as the authority; allowed: match.authority instead",
            ),
            (r#"{"X": "a", "x": "b"}"#, "$: found the same header twice; allowed: each header once"),
            (r#"["x"]"#, "$: found a list; allowed: an object of names of headers"),
        ] {
            let error = headers(patterns).unwrap_err().to_string();
            assert!(error.starts_with(message), "{patterns}: {error}");
        }
    }

    #[test]
    fn header_patterns_cover_those_that_say_more() {
        let covers = |wide: &str, narrow: &str| headers(wide).unwrap().cover(&headers(narrow).unwrap());
        for (wide, narrow) in [
            (r#"{}"#, r#"{"x": "a"}"#),
            (r#"{"x": "*"}"#, r#"{"X": "**"}"#),
            (r#"{"x": "a*"}"#, r#"{"y": "b", "x": "a/b/c"}"#),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            (r#"{"x": "*"}"#, r#"{}"#),
            (r#"{"x": "a"}"#, r#"{"x": "*"}"#),
            (r#"{"x": "a", "y": "b"}"#, r#"{"x": "a"}"#),
            (r#"{"x": "a"}"#, r#"{"y": "a"}"#),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn a_pattern_covers_a_route_without_one_only_if_it_matches_everything() {
        assert!(path("/**").unwrap().covers(None) && path("**").unwrap().covers(None));
        assert!(!path("/*").unwrap().covers(None));
        assert!(authority("**").covers(None));
        assert!(!authority("**:*").covers(None) && !authority("*").covers(None));
        assert!(!authority("**").covers(Some(&authority("a:1"))), "not certain, so not said");
    }
}
