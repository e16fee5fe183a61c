//! Other settings for some requests: which policy a request falls under.

use std::sync::Arc;

use super::error::{ConfigError, JsonPath};
use super::policy::{Mode, Policy};
use super::value::{AuthorityPattern, HeaderPatterns, PathPattern};
use crate::headers::Headers;

/// One entry of `routes`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// By which metrics tell it from others.
    pub name: Option<String>,
    /// How its requests are guarded.
    pub policy: Arc<Policy>,
    pub(super) criteria: Criteria,
}

/// Which requests; what is left out matches any.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Criteria {
    pub(super) path: Option<PathPattern>,
    pub(super) methods: Option<Vec<String>>,
    pub(super) authority: Option<AuthorityPattern>,
    pub(super) headers: HeaderPatterns,
}

impl Route {
    /// Whether a request falls under this route, if it does under none before it.
    ///
    /// `method` and `path` are in their normal form, and `path` is without its query.
    pub(super) fn matches(&self, method: &[u8], authority: &[u8], path: &[u8], headers: &Headers) -> bool {
        let Criteria { path: pattern, methods, authority: host, headers: patterns } = &self.criteria;
        methods.as_ref().is_none_or(|methods| methods.iter().any(|name| name.as_bytes() == method))
            && pattern.as_ref().is_none_or(|pattern| pattern.matches(path))
            && host.as_ref().is_none_or(|host| host.matches(authority))
            && patterns.match_all(headers)
    }

    /// Whether the authority decides.
    #[must_use]
    pub fn looks_at_authority(&self) -> bool {
        self.criteria.authority.is_some()
    }

    /// Whether other fields decide.
    #[must_use]
    pub fn looks_at_headers(&self) -> bool {
        !self.criteria.headers.is_empty()
    }
}

impl Criteria {
    /// Whether every request that meets `other` certainly meets these as well.
    fn cover(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.iter().all(|method| wide.contains(method)),
        };
        methods
            && self.path.as_ref().is_none_or(|pattern| pattern.covers(other.path.as_ref()))
            && self.authority.as_ref().is_none_or(|pattern| pattern.covers(other.authority.as_ref()))
            && self.headers.cover(&other.headers)
    }
}

/// Refuses routes that no request can fall under, that guard none that does, or whose figures would be one.
pub(super) fn check(routes: &[Route]) -> Result<(), ConfigError> {
    for (index, route) in routes.iter().enumerate() {
        let (before, path) = (routes.get(..index).unwrap_or_default(), JsonPath::from("routes").entry(index));
        if let Some(other) = before.iter().position(|other| other.criteria.cover(&route.criteria)) {
            return Err(ConfigError::new(
                path.key("match"),
                format!("a match that no request gets to, because routes[{other}] matches all that it does"),
                format!("a route that comes before routes[{other}], or matches something else"),
            ));
        }
        if let (Some(name), true) = (&route.name, before.iter().any(|other| other.name == route.name)) {
            return Err(ConfigError::new(
                path.key("name"),
                format!("\"{name}\", which another route has, so that two metrics would have one name"),
                "a name of its own for each route",
            ));
        }
        if let Some(methods) = &route.criteria.methods
            && route.policy.mode != Mode::Off
            && !methods.iter().any(|method| route.policy.methods.contains(method))
        {
            return Err(ConfigError::new(
                path.key("match").key("methods"),
                "no method that the route's policy guards",
                format!("at least one of {}, or others in policy.methods", route.policy.methods.join(", ")),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Config, ExecutionMode, InFlight, Mode, Policy};
    use crate::headers::Headers;

    fn parse(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    fn refusal(routes: &str) -> String {
        Config::parse(format!(r#"{{"routes": {routes}}}"#).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_first_route_that_matches_counts() {
        let config = parse(
            r#"{"routes": [
                {"name": "refunds", "match": {"path": "/payments/*/refund"}, "policy": {"ttl": "48h"}},
                {"match": {"path": "/payments/**", "methods": ["post"], "authority": "*.example.com"}, "policy": {"ttl": "2h"}},
                {"match": {"path": "/payments/**"}, "policy": {"mode": "off"}}
            ]}"#,
        );
        for (method, authority, path, route) in [
            ("POST", "api.example.com", "/payments/1/refund", Some(0)),
            ("PATCH", "other", "/payments/1/refund?force=1", Some(0)),
            ("POST", "API.example.com:8443", "/payments", Some(1)),
            ("POST", "api.example.com", "/payments/1/2?x", Some(1)),
            ("PATCH", "api.example.com", "/payments/1/2", Some(2)),
            ("POST", "example.com", "/payments", Some(2)),
            ("POST", "api.example.com", "/orders", None),
            ("POST", "api.example.com", "/payments1", None),
        ] {
            let found = config.route(method.as_bytes(), authority.as_bytes(), path.as_bytes(), &Headers::new());
            assert_eq!(found, route, "{method} {authority} {path}");
        }
    }

    #[test]
    fn routes_of_one_path_are_told_apart_by_headers() {
        let config = parse(
            r#"{"routes": [
                {"match": {"path": "/mcp", "headers": {"mcp-method": "tools/call", "mcp-name": "pay*"}}, "policy": {"ttl": "48h"}},
                {"match": {"path": "/mcp", "headers": {"mcp-method": "tools/call"}}, "policy": {"ttl": "2h"}},
                {"match": {"path": "/mcp"}, "policy": {"mode": "off"}}
            ]}"#,
        );
        for (fields, route) in [
            (&[("mcp-method", "tools/call"), ("mcp-name", "pay_invoice")][..], 0),
            (&[("mcp-method", "tools/call"), ("mcp-name", "list")], 1),
            (&[("Mcp-Method", "tools/call")], 1),
            (&[("mcp-method", "initialize")], 2),
            (&[], 2),
        ] {
            let headers = fields.iter().copied().collect();
            assert_eq!(config.route(b"POST", b"a", b"/mcp", &headers), Some(route), "{fields:?}");
        }
        assert!(config.routes[0].looks_at_headers() && !config.routes[2].looks_at_headers());
    }

    #[test]
    fn a_route_changes_what_it_sets_and_nothing_else() {
        let config = parse(
            r#"{"ttl": "1h", "lease": "5s", "outcome": {"release": [409]}, "routes": [
                {"name": "a", "match": {}, "policy": {"ttl": "2h", "outcome": {"store": [503]}, "key": {"required": true}}}
            ]}"#,
        );
        let mut expected = Policy::clone(&config.policy);
        expected.ttl = Duration::from_secs(7200);
        expected.key.required = true;
        assert_eq!(config.policy.ttl, Duration::from_secs(3600));
        let route = config.routes.first().unwrap();
        assert_eq!(route.name.as_deref(), Some("a"));
        assert_eq!(route.policy.outcome.disposition(409), config.policy.outcome.disposition(409));
        assert_ne!(route.policy.outcome.disposition(503), config.policy.outcome.disposition(503));
        expected.outcome = route.policy.outcome.clone();
        assert_eq!(*route.policy, expected);
    }

    #[test]
    fn shadow_mode_lets_nothing_wait_and_runs_nothing_apart_but_a_route_that_enforces_does() {
        let config = parse(
            r#"{"mode": "shadow", "duplicates": {"in_flight": "wait"}, "execution": {"mode": "detached"}, "routes": [
                {"match": {"path": "/payments"}, "policy": {"mode": "enforce"}}
            ]}"#,
        );
        assert_eq!(
            (config.policy.duplicates.in_flight, config.policy.execution.mode),
            (InFlight::Reject, ExecutionMode::Inline)
        );
        let policy = &config.routes.first().unwrap().policy;
        assert_eq!((policy.mode, policy.duplicates.in_flight), (Mode::Enforce, InFlight::Wait));
        assert_eq!(policy.execution.mode, ExecutionMode::Detached);
    }

    #[test]
    fn a_route_that_no_request_gets_to_is_refused() {
        for (first, second) in [
            (r#"{}"#, r#"{"path": "/a"}"#),
            (r#"{"path": "/**"}"#, r#"{}"#),
            (r#"{"path": "/a/**"}"#, r#"{"path": "/a/*/b", "methods": ["POST"]}"#),
            (r#"{"methods": ["POST", "PATCH"]}"#, r#"{"path": "/a", "methods": ["PATCH"]}"#),
            (r#"{"authority": "**.example.com"}"#, r#"{"authority": "a.example.com", "path": "/x"}"#),
            (
                r#"{"headers": {"mcp-method": "tools/*"}}"#,
                r#"{"path": "/mcp", "headers": {"Mcp-Method": "tools/call"}}"#,
            ),
            (r#"{"headers": {}}"#, r#"{"headers": {"x": "a"}}"#),
        ] {
            let error =
                refusal(&format!(r#"[{{"match": {first}, "policy": {{}}}}, {{"match": {second}, "policy": {{}}}}]"#));
            assert_eq!(
                error,
                "routes[1].match: found a match that no request gets to, because routes[0] matches all that it does; \
                 allowed: a route that comes before routes[0], or matches something else"
            );
        }
        for (first, second) in [
            (r#"{"path": "/a"}"#, r#"{}"#),
            (r#"{"path": "/a", "methods": ["POST"]}"#, r#"{"path": "/a"}"#),
            (r#"{"path": "/a", "authority": "x"}"#, r#"{"path": "/a", "authority": "y"}"#),
            (r#"{"headers": {"x": "*"}}"#, r#"{}"#),
            (r#"{"path": "/a", "headers": {"x": "a"}}"#, r#"{"path": "/a", "headers": {"x": "b"}}"#),
        ] {
            let text = format!(
                r#"{{"routes": [{{"match": {first}, "policy": {{}}}}, {{"match": {second}, "policy": {{}}}}]}}"#
            );
            assert!(Config::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused() {
        for (route, path) in [
            (r#"{"path": "orders"}"#, "routes[0].match.path: found \"orders\"; allowed: a pattern over the path"),
            (r#"{"path": "/orders?x=1"}"#, "routes[0].match.path: found"),
            (r#"{"authority": "https://example.com"}"#, "routes[0].match.authority: found"),
            (r#"{"methods": ["GET"]}"#, "routes[0].match.methods[0]: found \"GET\""),
            (r#"{"headers": {"x": "a***"}}"#, "routes[0].match.headers.x: found \"a***\"; allowed: one star"),
            (r#"{"headers": {"x y": "a"}}"#, "routes[0].match.headers: found \"x y\"; allowed: the name of a header"),
            (r#"{"headers": {"host": "a"}}"#, "routes[0].match.headers: found host, which HTTP/2"),
            (
                r#"{"methods": ["PUT"]}"#,
                "routes[0].match.methods: found no method that the route's policy guards; allowed: at least one of POST, PATCH, \
                 or others in policy.methods",
            ),
        ] {
            let error = refusal(&format!(r#"[{{"match": {route}, "policy": {{}}}}]"#));
            assert!(error.starts_with(path), "{error}");
        }
        assert!(
            Config::parse(br#"{"methods": ["PUT"], "routes": [{"match": {"methods": ["PUT"]}, "policy": {}}]}"#)
                .is_ok()
        );
    }

    #[test]
    fn two_routes_of_one_name_would_be_one_metric_and_are_refused() {
        let error = refusal(
            r#"[{"name": "a", "match": {"path": "/a"}, "policy": {}}, {"name": "a", "match": {"path": "/b"}, "policy": {}}]"#,
        );
        assert_eq!(
            error,
            "routes[1].name: found \"a\", which another route has, so that two metrics would have one name; \
             allowed: a name of its own for each route"
        );
        assert!(
            refusal(r#"[{"name": "A.b", "match": {}, "policy": {}}]"#).starts_with("routes[0].name: found \"A.b\"")
        );
    }

    #[test]
    fn what_is_wrong_in_a_route_is_told_with_its_place() {
        let error = Config::parse(
            br#"{"store": {"shared_data": {"max_bytes": "2MiB"}}, "routes": [
                {"match": {}, "policy": {"limits": {"response_body": "3MiB"}}}
            ]}"#,
        );
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("routes[0].policy.limits.response_body: found \"3MiB\""), "{error}");
        let error = refusal(
            r#"[{"match": {}, "policy": {"caller": {"identity": [{"header": "a"}, {"authorization": "credential"}]}}}]"#,
        );
        assert!(error.starts_with("routes[0].policy.caller.identity[1].verified: found a credential"), "{error}");
        let error = refusal(r#"[{"match": {}, "policy": {"duplicates": {"max_waiting": 5}}}]"#);
        assert!(
            error.starts_with("routes[0].policy.duplicates.max_waiting: found a value that has no effect here"),
            "{error}"
        );
    }

    #[test]
    fn shadow_mode_with_something_required_is_warned_about() {
        let config = parse(
            r#"{"mode": "shadow", "routes": [
                {"match": {"path": "/a"}, "policy": {"key": {"required": true}}},
                {"match": {"path": "/b"}, "policy": {"key": {"required": true}, "mode": "enforce"}}
            ]}"#,
        );
        assert_eq!(
            config.warnings(),
            [
                "routes[0].policy.key.required refuses nothing while routes[0].policy.mode is \"shadow\": requests without a key \
              pass, and are counted as idemgate.shadow.requests.key_missing; set mode to \"enforce\" once that figure is what \
              you expect"
            ]
        );
        assert_eq!(
            parse(r#"{"mode": "shadow", "key": {"required": true}, "caller": {"required": true}}"#).warnings().len(),
            2
        );
        assert_eq!(parse(r#"{"key": {"required": true}}"#).warnings(), [""; 0]);
    }
}
