//! The demo, which is also the test that `envoy.yaml` and `examples/redis/envoy.yaml` work as they stand.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_scene_of_the_demo_is_as_promised() {
    play(&[]);
}

#[test]
fn every_scene_is_as_promised_when_each_request_goes_to_another_envoy_on_one_redis() {
    play(&["--store", "redis"]);
}

#[test]
fn the_configuration_of_the_composed_envoys_on_redis_is_a_good_one() {
    let config = run(root().join("demo/compose-config"), &[]);
    for server in ["address: redis, port_value: 6379", "address: orders, port_value: 8080"] {
        assert!(config.contains(server), "{config}");
    }
    let envoy = std::env::var("ENVOY").map_or_else(|_| root().join(".tools/envoy"), PathBuf::from);
    // By text, so that the path of the module is relative to the checkout.
    run(envoy, &["--mode", "validate", "--log-level", "error", "--config-yaml", &config]);
}

fn play(arguments: &[&str]) {
    // Cargo builds the orders service, an example, along with the tests.
    run(root().join("demo/run"), arguments);
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
