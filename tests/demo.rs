//! The demo, which is also the test that `envoy.yaml` and `examples/redis/envoy.yaml` work as they stand.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_scene_of_the_demo_is_as_promised_and_as_the_pages_show_it() {
    let printed = play(&[]);
    let [alone, detached, _] = shown();
    assert_shows(&printed, &alone);
    assert_shows(&printed, &detached);
    let first_page = page("README.md");
    let (_, excerpt) = first_page.split_once("```text\n").expect("an excerpt");
    assert_shows(&printed, excerpt.split("```").next().expect("an excerpt"));
    assert!(
        printed.contains("55 POSTs were sent, and the service ran 10 of them"),
        "docs/demo.md counts otherwise\n{printed}"
    );
    let text = page("docs/demo.md").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("55 POSTs were sent, 10 ran"), "docs/demo.md counts otherwise");
}

#[test]
fn every_scene_is_as_promised_when_each_request_goes_to_another_envoy_on_one_redis() {
    let printed = play(&["--store", "redis"]);
    let [_, _, redis] = shown();
    assert_shows(&printed, &redis);
}

/// No page shows this one.
#[test]
fn every_scene_is_as_promised_when_each_request_goes_to_another_envoy_on_one_postgres() {
    let printed = play(&["--store", "postgres"]);
    for scene in ["An Envoy is killed", "PostgreSQL hangs, then goes on", "PostgreSQL is killed", "14. Waiting"] {
        assert!(printed.contains(scene), "there is no scene {scene:?}\n{printed}");
    }
    assert!(printed.contains("All of it was as promised."), "{printed}");
}

/// Nor this one.
#[test]
fn every_scene_is_as_promised_when_each_request_goes_to_another_envoy_on_one_dynamodb() {
    let printed = play(&["--store", "dynamodb"]);
    for scene in ["An Envoy is killed", "stand-in for DynamoDB hangs", "stand-in for DynamoDB is killed", "14. Waiting"]
    {
        assert!(printed.contains(scene), "there is no scene {scene:?}\n{printed}");
    }
    assert!(printed.contains("All of it was as promised."), "{printed}");
}

#[test]
fn the_configurations_of_the_composed_envoys_are_good_ones() {
    for (store, server) in
        [("redis", "address: redis, port_value: 6379"), ("postgres", "address: postgres, port_value: 5432")]
    {
        let config = run(root().join("demo/compose-config"), &[store]);
        for server in [server, "address: orders, port_value: 8080"] {
            assert!(config.contains(server), "{config}");
        }
        let envoy = std::env::var("ENVOY").map_or_else(|_| root().join(".tools/envoy"), PathBuf::from);
        // By text, so that the path of the module is relative to the checkout.
        run(envoy, &["--mode", "validate", "--log-level", "error", "--config-yaml", &config]);
    }
}

fn play(arguments: &[&str]) -> String {
    // Cargo builds the orders service, an example, along with the tests.
    run(root().join("demo/run"), arguments)
}

/// What `docs/demo.md` shows of the demo.
fn shown() -> [String; 3] {
    let page = page("docs/demo.md");
    let blocks = page.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect::<Vec<_>>().try_into().expect("three blocks")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails unless the demo has printed these lines in this order, whatever stood between them, with keys of its own and the
/// caller besides.
fn assert_shows(printed: &str, shown: &str) {
    let mut lines = printed.lines().map(without_what_differs);
    for line in shown.lines().filter(|line| !line.trim().is_empty()) {
        let line = without_what_differs(line);
        assert!(lines.any(|printed| printed == line), "a page shows {line:?}, which is not in\n{printed}");
    }
}

/// A line without the caller, without the random end of the key, and without the number of the order, before which the
/// order of a client that has hung up may have been made.
fn without_what_differs(line: &str) -> String {
    let line = line.replace("  Authorization: Bearer alice", "");
    let words = line.trim().split(' ').map(|word| match (word.strip_prefix("{\"number\":"), word.rsplit_once('-')) {
        (Some(order), _) => order.trim_start_matches(|c: char| c.is_ascii_digit()),
        (None, Some((name, end))) if end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What the command prints; it must succeed.
fn run(command: PathBuf, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).current_dir(root()).output().expect("the command can be run");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
