//! The committed JSON Schema is the one that the types make, and the documentation names the same keys and defaults.
//!
//! After a change of the configuration: `IDEMGATE_WRITE_SCHEMA=1 cargo test --test config_schema`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use idemgate::config::{Config, json_schema};
use serde_json::{Value, json};

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let path = file("docs/idemgate.schema.json");
    let generated = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("IDEMGATE_WRITE_SCHEMA").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        committed == generated,
        "docs/idemgate.schema.json is out of date: IDEMGATE_WRITE_SCHEMA=1 cargo test --test config_schema"
    );
}

#[test]
fn the_documentation_names_every_setting_with_its_default() {
    let documented = documented_settings();
    let settings = settings(&json_schema());
    assert_eq!(documented.keys().collect::<Vec<_>>(), settings.keys().collect::<Vec<_>>());
    for (path, setting) in &settings {
        let default = &documented[path];
        match setting.get("default") {
            Some(value) => assert_eq!(serde_json::from_str::<Value>(default).unwrap(), *value, "{path}"),
            None => assert!(!default.contains('"'), "{path} has no default, but its documentation says {default}"),
        }
    }
}

#[test]
fn every_setting_has_a_description() {
    for (path, setting) in settings(&json_schema()) {
        assert!(setting["description"].as_str().is_some_and(|text| text.len() > 10), "{path}");
    }
}

#[test]
fn the_schemas_defaults_are_the_filters() {
    let only_with_another_setting = [
        "duplicates.max_waiting",
        "duplicates.wait_timeout",
        "execution.drop_headers",
        "execution.max_calls",
        "execution.timeout",
        "prefix",
        "problems.content_type",
        "store.dynamodb.",
        "store.postgres.",
        "store.redis.",
    ];
    let mut checked = 0;
    for (path, setting) in settings(&json_schema()) {
        let Some(default) = setting.get("default") else { continue };
        if only_with_another_setting.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        let document = path.rsplit('.').fold(default.clone(), |inner, key| json!({ key: inner }));
        let config = Config::parse(document.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config, Config::default(), "{path}");
        checked += 1;
    }
    assert!(checked > 25, "only {checked} defaults were found");
    let key = "a key of thirty-two bytes, no less";
    for (store, needed) in [
        ("dynamodb", json!({"cluster": "aws", "table": "idemgate", "integrity_key": key})),
        ("redis", json!({"cluster": "redis", "integrity_key": key})),
    ] {
        let parsed = |settings: &Value| Config::parse(json!({"store": {store: settings}}).to_string().as_bytes());
        let mut said = needed.clone();
        for (path, setting) in settings(&json_schema()) {
            if let (Some(name), Some(default)) = (path.strip_prefix(&format!("store.{store}.")), setting.get("default"))
            {
                said[name] = default.clone();
            }
        }
        assert_eq!(parsed(&said), parsed(&needed), "{store}");
        assert!(parsed(&said).is_ok() && said != needed, "{store}");
    }
}

#[test]
fn every_example_of_the_documentation_is_a_good_configuration() {
    for (page, least) in [("docs/configuration.md", 3), ("docs/modes.md", 1)] {
        let text = fs::read_to_string(file(page)).unwrap();
        let examples: Vec<&str> = text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(examples.len() >= least, "{} examples in {page}", examples.len());
        for example in examples {
            assert_is_good(page, example);
        }
    }
}

#[test]
fn every_configuration_that_envoy_yaml_offers_is_a_good_one() {
    let text = fs::read_to_string(file("envoy.yaml")).unwrap();
    let offers: Vec<String> = text
        .split("# value: |\n")
        .skip(1)
        .map(|rest| {
            let lines = rest.lines().map_while(|line| line.trim_start().strip_prefix("#   "));
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    assert!(offers.len() >= 2, "{} offers", offers.len());
    for offer in offers {
        assert!(offer.ends_with('}'), "{offer}");
        assert_is_good("envoy.yaml", &offer);
    }
}

fn assert_is_good(source: &str, configuration: &str) {
    if let Err(error) = Config::parse(configuration.as_bytes()) {
        panic!("{source}: {error}\n{configuration}");
    }
}

#[test]
fn every_error_of_the_documentation_is_what_the_filter_says() {
    let text = fs::read_to_string(file("docs/configuration.md")).unwrap();
    let rows: Vec<(&str, &str)> = text
        .split("## Errors")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| `{")?.split_once("}` | `"))
        .collect();
    assert!(rows.len() >= 5, "{} rows", rows.len());
    for (input, rest) in rows {
        let message = rest.strip_suffix("` |").unwrap();
        let error = Config::parse(format!("{{{input}}}").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

/// The settings of `schema`, by path; an object with fixed keys is not a setting, its keys are.
fn settings(schema: &Value) -> BTreeMap<String, Value> {
    fn collect(prefix: &str, schema: &Value, settings: &mut BTreeMap<String, Value>) {
        for (key, property) in schema["properties"].as_object().unwrap() {
            let path = format!("{prefix}{key}");
            if property.get("properties").is_some() {
                collect(&format!("{path}."), property, settings);
            } else {
                settings.insert(path, property.clone());
            }
        }
    }
    let mut settings = BTreeMap::new();
    collect("", schema, &mut settings);
    settings
}

/// The first two cells of each row of the documentation's tables of settings: path and default.
fn documented_settings() -> BTreeMap<String, String> {
    let text = fs::read_to_string(file("docs/configuration.md")).unwrap();
    let tables = text.split("## Errors").next().unwrap();
    tables
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|row| !row.starts_with('"'))
        .map(|row| {
            let (path, rest) = row.split_once("` | ").unwrap();
            let (default, _) = rest.split_once(" | ").unwrap();
            (path.to_owned(), default.trim_matches('`').to_owned())
        })
        .collect()
}

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
