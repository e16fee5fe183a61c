//! The plugin configuration: any bytes are refused in one line, or mean what the schema allows.

use std::sync::LazyLock;

use idemgate::config::{Plugin, json_schema};
use serde_json::Value;

use super::{Seed, texts};

/// What is refused is refused in one line; what is accepted is what the schema says, and means the same however it is
/// spelt.
pub fn check(text: &[u8]) {
    let plugin = match Plugin::parse(text, &|_| None) {
        Ok(plugin) => plugin,
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(char::is_control) && line.contains("; allowed: "), "{line:?}");
            return;
        }
    };
    if let Plugin::Filter(config) = &plugin {
        assert!(config.warnings().iter().all(|line| !line.contains(char::is_control)));
    }
    if text.trim_ascii().is_empty() {
        return;
    }
    let value: Value = serde_json::from_slice(text).expect("what is accepted is JSON");
    if let Err(objection) = conforms(&value, &SCHEMA) {
        panic!("the schema does not allow it: {objection}");
    }
    for spelling in [value.to_string(), format!("{value:#}")] {
        assert_eq!(Plugin::parse(spelling.as_bytes(), &|_| None).as_ref(), Ok(&plugin), "{spelling}");
    }
}

pub fn seeds() -> Vec<Seed> {
    texts([
        (
            "admin",
            r#"{"role": "admin", "guard": "loopback", "store": {"redis": {"cluster": "redis", "password": "p"}}}"#,
        ),
        (
            "detached",
            r#"{"execution": {"mode": "detached", "timeout": "1m", "cluster": "c"}, "duplicates": {"in_flight": "wait", "wait_timeout": "500ms", "max_waiting": 5.0}}"#,
        ),
        ("empty", " \n"),
        (
            "full",
            r#"{"key": {"headers": ["Idempotency-Key"], "required": true, "max_length": 64, "format": "uuid"}, "methods": ["POST"], "caller": {"identity": [{"header": "x-sub"}, {"property": ["connection", "uri_san_peer_certificate"]}]}, "resource": ["path"], "fingerprint": {"body": "json", "ignore": ["/a~1b/0"], "headers": []}, "limits": {"request_body": "64KiB", "response_body": 1024}, "docs_uri": "https://example.com/docs"}"#,
        ),
        (
            "outcome",
            r#"{"outcome": {"store": [200, "3xx"], "release": ["5xx", 429], "unknown": [504], "on_unknown": "retry"}, "ttl": "1h", "lease": "5s"}"#,
        ),
        (
            "routes",
            r#"{"routes": [{"name": "pay", "match": {"path": "/orders/*/pay", "methods": ["POST"], "authority": "*.example.com"}, "policy": {"mode": "shadow"}}, {"match": {"path": "/**"}, "policy": {"mode": "off"}}]}"#,
        ),
        (
            "shared_data",
            r#"{"store": {"shared_data": {"max_entries": 1000, "max_bytes": "1MiB", "on_full": "reject"}}}"#,
        ),
        ("struct", "\n\u{e}\n\u{4}mode\u{12}\u{6}\u{1a}\u{4}shadow"),
        ("unknown", r#"{"mod": "shadow"}"#),
    ])
}

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// Whether `value` is what `schema` says, as far as it speaks of keys, types, words, ranges and lengths; patterns are left
/// to the parser.
fn conforms(value: &Value, schema: &Value) -> Result<(), String> {
    let refuse = |why: &str| Err(format!("{why}: {value} by {schema}"));
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        return refuse("no such word");
    }
    if let Some(types) = schema.get("type")
        && !kinds_of(value)
            .iter()
            .any(|kind| types == kind || types.as_array().is_some_and(|types| types.contains(&(*kind).into())))
    {
        return refuse("another type");
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array)
        && !choices.iter().any(|choice| conforms(value, choice).is_ok())
    {
        return refuse("none of the choices");
    }
    match value {
        Value::Array(entries) => {
            if number("minItems").is_some_and(|least| (entries.len() as f64) < least) {
                return refuse("too few");
            }
            entries.iter().try_for_each(|entry| schema.get("items").map_or(Ok(()), |items| conforms(entry, items)))
        }
        Value::Number(value) => {
            let value = value.as_f64().unwrap_or_default();
            let is_in_range = number("minimum").is_none_or(|least| value >= least)
                && number("maximum").is_none_or(|most| value <= most);
            if is_in_range { Ok(()) } else { refuse("out of range") }
        }
        Value::Object(members) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            if required.filter_map(Value::as_str).any(|key| !members.contains_key(key)) {
                return refuse("a key is missing");
            }
            members.iter().try_for_each(|(key, member)| {
                match schema.get("properties").and_then(|known| known.get(key)) {
                    Some(schema) => conforms(member, schema).map_err(|why| format!("{key}: {why}")),
                    None if schema.get("additionalProperties") == Some(&false.into()) => refuse(key),
                    None => Ok(()),
                }
            })
        }
        Value::String(text) => {
            let length = text.chars().count() as f64;
            let is_in_range = number("minLength").is_none_or(|least| length >= least)
                && number("maxLength").is_none_or(|most| length <= most);
            if is_in_range { Ok(()) } else { refuse("too short or too long") }
        }
        Value::Bool(_) | Value::Null => Ok(()),
    }
}

/// What the schema calls a value; a number without a fraction is an integer (JSON Schema, section 4.2.3).
fn kinds_of(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Array(_) => &["array"],
        Value::Bool(_) => &["boolean"],
        Value::Null => &["null"],
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => &["integer", "number"],
        Value::Number(_) => &["number"],
        Value::Object(_) => &["object"],
        Value::String(_) => &["string"],
    }
}
