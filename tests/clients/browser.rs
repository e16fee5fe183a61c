//! A page in a real browser, on another origin than the API: preflights, exposed fields, the double click.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Protocol, Setup, TempDir, Upstream};
use crate::cors::cors;

#[tokio::test]
async fn a_double_click_runs_once_and_both_clicks_see_its_answer() {
    let configuration = json!({ "execution": {"mode": "detached"}, "duplicates": {"in_flight": "wait"} });
    let (bench, saw) = saw("", |origin| cors(Setup::new(&configuration), &[origin]), |_, _| {}).await;
    let expected = json!({
        "clicks": ["201 execution 1 executed", "201 execution 1 replayed true"],
        "again": "201 execution 1 replayed true",
        "reused": "422 urn:idemgate:key-reused key-reused",
    });
    assert_eq!(saw, expected);
    // No preflight gets through to the service.
    bench.assert_executions(1);
}

#[tokio::test]
async fn a_double_click_without_a_key_runs_once_and_another_order_runs_too() {
    let configuration = json!({
        "key": {"derive": {"window": "1h"}},
        "execution": {"mode": "detached"},
        "duplicates": {"in_flight": "wait"},
    });
    let (bench, saw) = saw("keyless", |origin| cors(Setup::new(&configuration), &[origin]), |_, _| {}).await;
    let expected = json!({
        "clicks": ["201 execution 1 executed", "201 execution 1 replayed true"],
        "again": "201 execution 1 replayed true",
        "reused": "201 execution 2 executed",
    });
    assert_eq!(saw, expected);
    bench.assert_executions(2);
}

/// The service's fields are on its answer, first and replayed, and not on the filter's own.
#[tokio::test]
async fn a_page_cannot_read_a_problem_where_the_service_does_cors() {
    let configuration = json!({ "duplicates": {"in_flight": "wait"} });
    let (bench, saw) = saw(
        "",
        |_| Setup::new(&configuration),
        |upstream, origin| {
            let answer = Answer::new(200)
                .header("access-control-allow-origin", origin)
                .header("access-control-allow-methods", "POST")
                .header("access-control-allow-headers", "authorization,content-type,idempotency-key")
                .json(r#"{"execution":1}"#);
            upstream.directed_by(move |_| Some(answer.clone()));
        },
    )
    .await;
    assert_eq!(saw["clicks"], json!(["200 execution 1", "200 execution 1"]));
    assert_eq!(saw["reused"], "TypeError");
    assert_eq!(bench.upstream.executions_of("form-1"), 1);
}

/// What the page, opened with this query, sees of the API behind this setup, with what `service` answers; both know the
/// page's origin.
async fn saw(query: &str, setup: impl FnOnce(&str) -> Setup, service: impl FnOnce(&Upstream, &str)) -> (Bench, Value) {
    let mut site = Upstream::shut(Protocol::Http1);
    site.open();
    let page = Answer::new(200).header("content-type", "text/html").body(include_str!("page.html"));
    site.script("/", [page]);
    let origin = format!("http://{}", site.address());
    let bench = Bench::start(setup(&origin)).await;
    service(&bench.upstream, &origin);
    let _browser = Browser::open(&format!("{origin}/?{query}&api=http://{}", bench.envoy.address()));
    let mut seen = 0;
    loop {
        seen += 1;
        site.reached(seen).await;
        let result = site.seen().into_iter().find(|seen| seen.path == "/saw");
        if let Some(body) = result.and_then(|seen| seen.body) {
            return (bench, serde_json::from_slice(&body).expect("the page sends JSON"));
        }
    }
}

/// A browser, ended when dropped.
struct Browser {
    /// Leads a group of its own: Debian's command is a script, and a browser is many processes.
    leader: Child,
    _profile: TempDir,
}

impl Browser {
    /// A new one that opens `url`.
    fn open(url: &str) -> Self {
        let profile = TempDir::new();
        let leader = ["chromium-headless-shell", "chromium", "google-chrome"].iter().find_map(|name| {
            Command::new(name)
                // As root it has no other way; it opens nothing but the page of this test.
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--remote-debugging-port=0"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg(url)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .ok()
        });
        Self { leader: leader.expect("no Chromium: run tools/setup-clients browser"), _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -KILL -{}", self.leader.id())]).status();
        let _ = self.leader.wait();
    }
}
