//! The dashboard and the alerts of `deploy/observability/` are about metrics that a real Envoy exports, all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Gate, Protocol, Request, Setup, promql};

const ALERTS: &str = "deploy/observability/prometheus-alerts.yaml";
const DASHBOARD: &str = "deploy/observability/grafana-dashboard.json";
const STATS_TAGS: &str = "deploy/observability/stats-tags.yaml";
const STATS_TAGS_OF_ISTIO: &str = "deploy/observability/istio-stats-tags.yaml";

/// Of shadow mode: what never moves, as nothing waits and nothing runs apart, and the kinds of the errors that are shown.
const STILL_IN_SHADOW: [&str; 5] = [
    "idemgate_shadow_detached",
    "idemgate_shadow_memory_bytes",
    "idemgate_shadow_store_errors_",
    "idemgate_shadow_wait_ms",
    "idemgate_shadow_waiting",
];

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_what_envoy_exports_and_the_dashboard_shows_all_of_it() {
    let exported = exported_metrics().await;
    let dashboard = dashboard();
    let shown: BTreeSet<String> = queries(&dashboard).iter().flat_map(|query| promql::metrics(query)).collect();
    let watched: BTreeSet<String> = alerts().iter().flat_map(|alert| promql::metrics(text(alert, "expr"))).collect();
    let series: BTreeSet<&String> = exported.values().flatten().collect();
    for name in shown.iter().chain(&watched) {
        assert!(series.contains(name), "Envoy exports no {name}, only {series:#?}");
    }
    for (metric, series) in exported.iter().filter(|(metric, _)| metric.starts_with("idemgate_")) {
        let is_still = STILL_IN_SHADOW.iter().any(|prefix| metric.starts_with(prefix));
        assert!(is_still || series.iter().any(|series| shown.contains(series)), "{DASHBOARD} does not show {metric}");
    }
}

#[tokio::test]
async fn a_route_is_a_label_and_the_totals_are_counted_once() {
    let bench = Bench::start(setup()).await;
    for path in ["/payments/1", "/trial/1", "/orders"] {
        bench.send(&Request::post(path).key("k")).await;
    }
    for (series, count) in [
        ("idemgate_route_requests_executed{idemgate_route=\"payments\"}", 1),
        ("idemgate_requests_executed{}", 2),
        ("idemgate_shadow_requests_executed{}", 1),
    ] {
        bench.envoy.reaches_prometheus(series, count).await;
    }
}

#[tokio::test]
async fn the_access_log_that_is_ready_to_copy_tells_what_became_of_a_request() {
    const PAGE: &str = "docs/metrics.md";

    let page = read(PAGE);
    let example = page.split("```yaml\n").find(|block| block.starts_with("access_log:"));
    let example = example.and_then(|block| block.split("```").next()).unwrap_or_else(|| panic!("{PAGE} has none"));
    let example: Value = serde_norway::from_str(example).unwrap();
    let format = &example["access_log"][0]["typed_config"]["log_format"];
    let bench = Bench::start(setup().log_format(format)).await;
    for (path, words) in [("/payments/1", json!(["executed", null])), ("/trial/1", json!([null, "executed"]))] {
        bench.send(&Request::post(path).key("k")).await;
        let line = bench.envoy.access_log_line_with(path).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json!([line["idempotency"], line["idempotency_shadow"]]), words, "{line:#}");
        assert_eq!((&line["status"], &line["details"]), (&json!(201), &json!("via_upstream")), "{line:#}");
    }
}

#[test]
fn istio_gets_the_same_stats_tags() {
    let config_map = yaml(STATS_TAGS_OF_ISTIO);
    let bootstrap: Value = serde_json::from_str(text(&config_map["data"], "custom_bootstrap.json")).unwrap();
    assert_eq!(bootstrap, yaml(STATS_TAGS), "left: {STATS_TAGS_OF_ISTIO}, right: {STATS_TAGS}");
}

#[test]
fn the_dashboard_can_be_imported_and_read() {
    let dashboard = dashboard();
    assert_eq!(dashboard["id"], Value::Null, "an id of its own would overwrite another dashboard");
    let variables: Vec<&str> =
        list(&dashboard["templating"]["list"]).iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "route"]);
    let panels = panels(&dashboard);
    assert!(panels.len() > 20, "only {} panels were found", panels.len());
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
        if panel["type"] == "row" {
            continue;
        }
        assert!(text(panel, "description").len() > 20, "{title} does not say what it shows");
        assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title} has no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} is bound to somebody's data source");
        let targets = list(&panel["targets"]);
        let references: BTreeSet<&str> = targets.iter().map(|target| text(target, "refId")).collect();
        assert_eq!(references.len(), targets.len(), "{title} has two queries of one refId");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title} is bound to somebody's data source");
        }
    }
    overlaps_nowhere(&dashboard);
}

/// All metrics by name, each with the series that Prometheus makes of it.
async fn exported_metrics() -> BTreeMap<String, Vec<String>> {
    let bench = Bench::start(setup()).await;
    let gate = Gate::closed();
    bench.upstream.script("/payments/1", [Answer::new(201).json("{}").held_by(&gate)]);
    let request = Request::post("/payments/1").key("k");
    let first = bench.send_aside(Protocol::Http1, &request);
    bench.upstream.reached(1).await;
    let duplicate = bench.send_aside(Protocol::Http1, &request);
    bench.envoy.reaches_stat("wasmcustom.idemgate.waiting", 1).await;
    gate.open();
    first.await.unwrap();
    duplicate.await.unwrap();
    bench.send(&Request::post("/trial/1").key("k")).await;

    let page = bench.envoy.prometheus().await;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| {
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            (name.to_owned(), suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect())
        })
        .collect()
}

/// Everything that has metrics of its own: a table, waiting, a named route, shadow mode; with the stats tags that users
/// are told to have.
fn setup() -> Setup {
    let configuration = json!({
        "duplicates": { "in_flight": "wait" },
        "routes": [
            { "name": "payments", "match": { "path": "/payments/**" }, "policy": {} },
            { "name": "trial", "match": { "path": "/trial/**" }, "policy": { "mode": "shadow" } },
        ],
    });
    Setup::new(&configuration).bootstrap_with(&yaml(STATS_TAGS))
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

fn alerts() -> Vec<Value> {
    let rules = yaml(ALERTS);
    let alerts: Vec<Value> = list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect();
    assert!(alerts.len() > 8, "only {} alerts were found", alerts.len());
    alerts
}

/// Every panel, those in rows too.
fn panels(holder: &Value) -> Vec<&Value> {
    let panels = holder["panels"].as_array().into_iter().flatten();
    panels.flat_map(|panel| std::iter::once(panel).chain(self::panels(panel))).collect()
}

/// Every expression of the dashboard, those of its variables too.
fn queries(dashboard: &Value) -> Vec<&str> {
    let variables = list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    let of_variables = variables.flat_map(|variable| [text(variable, "definition"), text(&variable["query"], "query")]);
    // `label_values(METRIC, LABEL)`, or of every metric: `label_values(LABEL)`
    let of_variables = of_variables.filter_map(|query| {
        let arguments = query.strip_prefix("label_values(").unwrap_or_else(|| panic!("{query} is no label_values"));
        arguments.rsplit_once(',').map(|(metric, _)| metric)
    });
    let mut expressions = Vec::new();
    collect_expressions(dashboard, &mut expressions);
    assert!(expressions.len() > 60, "only {} queries were found", expressions.len());
    of_variables.chain(expressions).collect()
}

/// Wherever in the file they are, so that a kind of panel that nobody thought of hides none.
fn collect_expressions<'a>(value: &'a Value, expressions: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect_expressions(value, expressions)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(expression) if name == "expr" => expressions.push(expression),
                    value => collect_expressions(value, expressions),
                }
            }
        }
        _ => {}
    }
}

/// Grafana has 24 columns, and moves panels that lie on each other.
fn overlaps_nowhere(dashboard: &Value) {
    let mut taken = BTreeMap::new();
    for panel in panels(dashboard) {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{} is wider than the page", panel["title"]);
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            let below = taken.insert(cell, &panel["title"]);
            assert!(below.is_none(), "{} lies on {below:?}", panel["title"]);
        }
    }
}

fn yaml(path: &str) -> Value {
    serde_norway::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

#[track_caller]
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {value:#}"))
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}
