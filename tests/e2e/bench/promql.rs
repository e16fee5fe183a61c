//! Which metrics an expression of PromQL is about.

#![allow(clippy::string_slice, reason = "cuts only where a character was found")]

use std::collections::BTreeSet;

/// Every metric that `expression` names. Fails where a name could hide, rather than miss one.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' | '`' => after_text(rest),
            '[' => after(rest, ']'),
            '{' => panic!("a selector without a name hides its metric: {expression}"),
            first if first.is_ascii_digit() => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            first if begins_name(first) => {
                let (word, after) = rest.split_at(rest.find(|c| !in_name(c)).unwrap_or(rest.len()));
                after_word(word, after.trim_start(), &mut found)
            }
            first => &rest[first.len_utf8()..],
        }
        .trim_start();
    }
    found
}

/// What follows a word, and its labels if it is the name of a metric.
fn after_word<'a>(word: &str, rest: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    // Lists of labels.
    const GROUPING: [&str; 6] = ["by", "group_left", "group_right", "ignoring", "on", "without"];
    // Whose arguments may stand behind their grouping.
    const AGGREGATIONS: [&str; 12] = [
        "avg",
        "bottomk",
        "count",
        "count_values",
        "group",
        "max",
        "min",
        "quantile",
        "stddev",
        "stdvar",
        "sum",
        "topk",
    ];
    const OPERATORS: [&str; 9] = ["and", "atan2", "bool", "end", "inf", "nan", "offset", "or", "start"];

    if GROUPING.contains(&word) {
        return if rest.starts_with('(') { after(rest, ')') } else { rest };
    }
    let is_syntax = word == "unless" || AGGREGATIONS.contains(&word) || OPERATORS.contains(&word);
    if is_syntax || rest.starts_with('(') {
        return rest;
    }
    found.insert(word.to_owned());
    if !rest.starts_with('{') {
        return rest;
    }
    let labels = after(rest, '}');
    let selector = &rest[..rest.len() - labels.len()];
    assert!(!selector.contains("__name__"), "{word}{selector} hides the name of a metric");
    labels
}

/// What follows the next `end` that is not in a text.
fn after(rest: &str, end: char) -> &str {
    let mut rest = rest;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' | '`' => after_text(rest),
            first if first == end => return &rest[first.len_utf8()..],
            first => &rest[first.len_utf8()..],
        };
    }
    panic!("{end} is missing");
}

/// What follows the text in quotes at the start.
fn after_text(rest: &str) -> &str {
    let quote = rest.chars().next();
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('`') {
            escaped = true;
        } else if Some(c) == quote {
            return &rest[index + c.len_utf8()..];
        }
    }
    panic!("a text has no end: {rest}");
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn in_name(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit()
}

#[test]
fn names_are_found_wherever_an_expression_may_have_them() {
    let cases = [
        ("up", vec!["up"]),
        (r#"sum(rate(a_total{job=~"$job"}[$__rate_interval]))"#, vec!["a_total"]),
        ("sum by (le, b) (rate(a_bucket[5m])) / on (c) group_left (d) e offset 5m", vec!["a_bucket", "e"]),
        ("sum(a) without (b) > bool 0.5", vec!["a"]),
        (r#"a{b="} c{", d='"'} or e:f:rate5m unless on () g"#, vec!["a", "e:f:rate5m", "g"]),
        ("histogram_quantile(0.99, rate(a_us_bucket[10m:1m])) > 1e5", vec!["a_us_bucket"]),
        ("-a+b*c and inf", vec!["a", "b", "c"]),
        (r#"label_replace(a, "b", "$1", "c", "(.+)")"#, vec!["a"]),
    ];
    for (expression, expected) in cases {
        let found = metrics(expression);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{expression}");
    }
}

#[test]
fn a_name_cannot_hide_in_a_selector() {
    for expression in [r#"{__name__="a"}"#, r#"a{__name__=~"b.+"}"#, r#"sum({job="a"})"#] {
        assert!(std::panic::catch_unwind(|| metrics(expression)).is_err(), "{expression}");
    }
}
