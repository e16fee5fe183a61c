//! What a configuration turns on, in one line for the log.

use super::document::{Guard, word_of};
use super::filter::Config;
use super::policy::{IdentitySource, Mode, Policy};
use super::store::StoreConfig;

impl Config {
    /// Mode, store, routes and callers. Names of settings and fields alone: no value that a client sends, no password.
    #[must_use]
    pub fn summary(&self) -> String {
        [mode(&self.policy), self.store.summary(), self.summary_of_routes(), callers(&self.policy)].join(", ")
    }

    fn summary_of_routes(&self) -> String {
        let modes: Vec<String> = [Mode::Enforce, Mode::Shadow, Mode::Off]
            .into_iter()
            .map(|mode| (mode, self.routes.iter().filter(|route| route.policy.mode == mode).count()))
            .filter(|(_, count)| *count > 0)
            .map(|(mode, count)| format!("{count} {}", word_of(mode)))
            .collect();
        match self.routes.len() {
            0 => "no routes".to_owned(),
            1 => format!("1 route ({})", modes.join(", ")),
            count => format!("{count} routes ({})", modes.join(", ")),
        }
    }
}

fn mode(policy: &Policy) -> String {
    format!("mode {}", word_of(policy.mode))
}

impl StoreConfig {
    /// Where the records are.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::SharedData(_) => "store shared_data".to_owned(),
            Self::DynamoDb(config) => {
                format!("store dynamodb (cluster {:?}, table {:?})", config.cluster, config.table)
            }
            Self::Postgres(postgres) => {
                format!(
                    "store postgres (cluster {:?}, database {:?}, schema {})",
                    postgres.cluster, postgres.database, postgres.schema
                )
            }
            Self::Redis(redis) => format!("store redis (cluster {:?}, prefix {:?})", redis.cluster, redis.prefix),
        }
    }
}

impl Guard {
    /// How it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        word_of(self)
    }
}

fn callers(policy: &Policy) -> String {
    let sources: Vec<String> = policy
        .caller
        .identity
        .iter()
        .map(|source| match source {
            IdentitySource::Credential => "authorization's credential".to_owned(),
            IdentitySource::Header(name) => format!("header {name}"),
            IdentitySource::Property(path) => format!("property {path:?}"),
        })
        .collect();
    match (sources.is_empty(), policy.caller.required) {
        (true, _) => "all callers are one".to_owned(),
        (false, true) => format!("callers by {} (required)", sources.join(" and ")),
        (false, false) => format!("callers by {}", sources.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> String {
        Config::parse(text.as_bytes()).unwrap().summary()
    }

    #[test]
    fn the_defaults_are_told_in_one_line() {
        assert_eq!(summary("{}"), "mode enforce, store shared_data, no routes, callers by header authorization");
    }

    #[test]
    fn routes_are_counted_by_mode_and_sources_of_identity_are_named() {
        let text = r#"{
            "mode": "shadow",
            "caller": {"identity": [{"header": "x-tenant"}, {"property": ["xds", "cluster_name"]}], "required": true},
            "routes": [
                {"match": {"path": "/a"}, "policy": {"mode": "enforce"}},
                {"match": {"path": "/b"}, "policy": {"mode": "off"}},
                {"match": {"path": "/c"}, "policy": {"mode": "enforce"}}
            ]
        }"#;
        assert_eq!(
            summary(text),
            "mode shadow, store shared_data, 3 routes (2 enforce, 1 off), callers by header x-tenant and \
             property [\"xds\", \"cluster_name\"] (required)"
        );
        assert!(summary(r#"{"routes": [{"match": {"path": "/a"}, "policy": {}}]}"#).contains("1 route (1 enforce)"));
        assert!(summary(r#"{"caller": {"identity": []}}"#).ends_with("all callers are one"));
    }

    #[test]
    fn of_dynamodb_the_cluster_and_the_table_are_told_and_no_key() {
        let key = "a key of thirty-two bytes, no less";
        let line = summary(&format!(
            r#"{{"store": {{"dynamodb": {{"cluster": "aws", "table": "idemgate", "integrity_key": "{key}"}}}}}}"#
        ));
        assert!(line.contains(r#"store dynamodb (cluster "aws", table "idemgate")"#) && !line.contains(key), "{line}");
    }

    #[test]
    fn of_postgres_the_cluster_the_database_and_the_schema_are_told_and_no_password() {
        let line = summary(
            r#"{"store": {"postgres": {"cluster": "pg", "database": "d", "username": "u", "password": "s3cret"}}}"#,
        );
        assert!(line.contains(r#"store postgres (cluster "pg", database "d", schema idemgate)"#), "{line}");
        assert!(!line.contains("s3cret"), "{line}");
    }

    #[test]
    fn of_redis_the_cluster_and_the_prefix_are_told_and_no_password() {
        let line = summary(
            r#"{"store": {"redis": {"cluster": "redis", "prefix": "p:", "username": "u", "password": "s3cret"}}}"#,
        );
        assert!(line.contains(r#"store redis (cluster "redis", prefix "p:")"#), "{line}");
        assert!(!line.contains("s3cret"), "{line}");
    }
}
