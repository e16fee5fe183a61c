//! What the filter's own answers look like: `problems`.

use std::fmt::Write as _;

use serde::de::Error as _;

use super::error::{ConfigError, quoted};
use super::json::Node;
use super::value::Number;

/// The names of all problems, by which a configuration speaks of them.
pub const PROBLEM_NAMES: &[&str] = &[
    "caller-unknown",
    "expectation-failed",
    "host-unsupported",
    "key-invalid",
    "key-missing",
    "key-reused",
    "outcome-unknown",
    "overloaded",
    "request-in-flight",
    "request-too-large",
    "response-not-kept",
    "store-full",
    "store-unavailable",
];

/// `problems`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProblemsPolicy {
    /// Whether each answer of the filter's own says in fields for SDKs whether a retry can help.
    pub retry_hints: bool,
    /// Whether a problem has the member `error`, by which some SDKs know a failure.
    pub error_member: bool,
    /// The status of problems that have another one than by default, by name.
    pub status: Vec<(&'static str, u16)>,
    /// What a problem's body is made of, instead of problem details.
    pub body: Option<BodyTemplate>,
    /// The media type of such a body.
    pub content_type: String,
}

impl ProblemsPolicy {
    /// The status that this problem has here, if that is another one than by default.
    #[must_use]
    pub fn status_of(&self, name: &str) -> Option<u16> {
        self.status.iter().find(|(other, _)| *other == name).map(|(_, status)| *status)
    }
}

/// Reads `problems.status`.
pub(super) fn read_statuses(node: &Node) -> Result<Vec<(&'static str, u16)>, ConfigError> {
    let mut statuses: Vec<(&'static str, u16)> = Vec::new();
    for (key, value) in node.members("an object of names of problems and their statuses")? {
        let Some(name) = PROBLEM_NAMES.iter().find(|name| *name == key) else {
            return Err(ConfigError::unknown_field(key, PROBLEM_NAMES));
        };
        if statuses.iter().any(|(other, _)| other == name) {
            return Err(ConfigError::duplicate_field(name));
        }
        let status: ErrorStatus = value.read().map_err(|error| error.within(*name))?;
        statuses.push((name, status.get() as u16));
    }
    Ok(statuses)
}

/// A status that says that something went wrong.
pub(super) type ErrorStatus = Number<400, 599>;

/// A JSON text with gaps for what is known of a problem.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BodyTemplate(Vec<Piece>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    Gap(Placeholder),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Placeholder {
    Detail,
    Name,
    Status,
    Title,
}

impl BodyTemplate {
    /// The body of a problem. It is JSON, whatever the texts have in them.
    #[must_use]
    pub fn fill(&self, name: &str, title: &str, detail: &str, status: u16) -> String {
        let mut body = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Gap(Placeholder::Detail) => push_escaped(&mut body, detail),
                Piece::Gap(Placeholder::Name) => push_escaped(&mut body, name),
                // A string takes all that is written.
                Piece::Gap(Placeholder::Status) => _ = write!(body, "{status}"),
                Piece::Gap(Placeholder::Title) => push_escaped(&mut body, title),
            }
        }
        body
    }

    /// Reads a template as text, or as JSON itself; `null` is none.
    pub(super) fn read(node: &Node) -> Result<Option<Self>, ConfigError> {
        match node {
            Node::Null => Ok(None),
            Node::Text(text) => Self::parse(text).map(Some),
            node => {
                let mut text = String::new();
                push_json(&mut text, node);
                Self::parse(&text).map(Some)
            }
        }
    }

    fn parse(mut text: &str) -> Result<Self, ConfigError> {
        let mut pieces = Vec::new();
        while let Some((before, rest)) = text.split_once("${") {
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            let (gap, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let is_gap = |known: &str| gap.strip_suffix('}') == Some(known);
            let Some((_, placeholder)) = PLACEHOLDERS.iter().find(|(known, _)| is_gap(known)) else {
                let found = format!("{}, which is no placeholder", quoted(&format!("${{{gap}")));
                return Err(ConfigError::new("", found, "${name}, ${title}, ${detail}, ${status}"));
            };
            pieces.extend([Piece::Text(before.to_owned()), Piece::Gap(*placeholder)]);
            text = behind;
        }
        pieces.push(Piece::Text(text.to_owned()));
        let template = Self(pieces);
        // No tilde stands outside of a string, or behind a backslash in one. Where it may, any text may.
        let sample = template.fill("~", "~", "~", 409);
        match serde_json::from_str::<Node>(&sample) {
            Ok(_) => Ok(template),
            Err(error) => Err(ConfigError::new(
                "",
                format!("a template that is not JSON once it is filled ({error})"),
                "JSON, with ${name}, ${title} and ${detail} within its strings",
            )),
        }
    }
}

const PLACEHOLDERS: [(&str, Placeholder); 4] = [
    ("detail", Placeholder::Detail),
    ("name", Placeholder::Name),
    ("status", Placeholder::Status),
    ("title", Placeholder::Title),
];

fn push_escaped(body: &mut String, text: &str) {
    let literal = serde_json::to_string(text).unwrap_or_default();
    body.push_str(literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default());
}

/// Writes JSON. A string that is nothing but `${status}` becomes a number.
fn push_json(text: &mut String, node: &Node) {
    match node {
        Node::Bool(value) => _ = write!(text, "{value}"),
        Node::Fraction(value) => _ = write!(text, "{value:?}"),
        Node::Negative(value) => _ = write!(text, "{value}"),
        Node::Null => text.push_str("null"),
        Node::Text(value) if value == "${status}" => text.push_str(value),
        Node::Text(value) => push_string(text, value),
        Node::Unsigned(value) => _ = write!(text, "{value}"),
        Node::List(entries) => {
            text.push('[');
            for (index, entry) in entries.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                push_json(text, entry);
            }
            text.push(']');
        }
        Node::Object(members) => {
            text.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                push_string(text, name);
                text.push(':');
                push_json(text, value);
            }
            text.push('}');
        }
    }
}

fn push_string(text: &mut String, value: &str) {
    text.push('"');
    push_escaped(text, value);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Result<BodyTemplate, String> {
        BodyTemplate::parse(text).map_err(|error| error.to_string())
    }

    fn of_json(json: &str) -> BodyTemplate {
        BodyTemplate::read(&serde_json::from_str(json).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn each_placeholder_stands_for_what_it_names_as_often_as_it_is_there() {
        let template = template(r#"{"${name}": ["${title}: ${detail}", ${status}, "${status}${name}"]}"#).unwrap();
        let body = template.fill("key-reused", "A \"title\"", "Tab\t, \\ and \u{e9}", 422);
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected = serde_json::json!({"key-reused": ["A \"title\": Tab\t, \\ and \u{e9}", 422, "422key-reused"]});
        assert_eq!(value, expected);
    }

    #[test]
    fn a_template_may_be_json_itself() {
        let json = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"${detail}","data":[1.5,true,{"a\"b":"${status}"}]}}"#;
        let body = of_json(json).fill("n", "t", "d", 409);
        let expected = json.replace("${detail}", "d").replace("\"${status}\"", "409");
        assert_eq!(body, expected);
        assert_eq!(of_json(r#"{"a":"${status} or"}"#).fill("", "", "", 409), r#"{"a":"409 or"}"#);
        assert!(BodyTemplate::read(&Node::Null).unwrap().is_none());
    }

    #[test]
    fn a_template_that_some_text_would_break_is_refused() {
        for text in [
            "",
            "plain",
            "{",
            "${name}",
            r#"{"a": ${detail}}"#,
            r#"{"a": "\${name}"}"#,
            r#"{"a": "\u0${name}"}"#,
            r#"{"a": "\u00e${title}"}"#,
            r#"{"a": 0${status}}"#,
            r#"{"a": "${name}"} ${status}"#,
        ] {
            let error = template(text).unwrap_err();
            assert!(error.contains("found a template that is not JSON once it is filled ("), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_those_that_exist() {
        for (text, shown) in [
            (r#"{"a": "${nme}"}"#, "${nme}"),
            (r#"{"a": "${}"}"#, "${}"),
            (r#"{"a": "${ name }"}"#, "${ name }"),
            (r#"{"a": "${Name}"}"#, "${Name}"),
        ] {
            let error = template(text).unwrap_err();
            let expected = format!(
                "$: found \"{shown}\", which is no placeholder; allowed: ${{name}}, ${{title}}, ${{detail}}, ${{status}}"
            );
            assert_eq!(error, expected);
        }
        assert!(template(r#"{"a": "${name"#).unwrap_err().contains("which is no placeholder"));
        for text in [r#"{"a": "$name"}"#, r#"{"a": "$ {name}"}"#, r#"{"a": "\u0024{name}"}"#] {
            assert!(template(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_json_whatever_is_filled_in(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "${name}", "${title}", "${detail}", "${status}", "\"", "\\", "\\u", "{", "}", "[", "]", ":", ",", "a", "0", "1", "-",
            ]), 0..12),
            name in any::<String>(),
            title in any::<String>(),
            detail in any::<String>(),
            status in 400_u16..600,
        ) {
            if let Ok(template) = BodyTemplate::parse(&pieces.concat()) {
                let body = template.fill(&name, &title, &detail, status);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
            }
        }

        #[test]
        fn texts_come_through_as_they_are(name in any::<String>(), title in any::<String>(), detail in any::<String>()) {
            let body = of_json(r#"["${name}","${title}","${detail}"]"#).fill(&name, &title, &detail, 400);
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&body).unwrap(), [name, title, detail]);
        }
    }
}
