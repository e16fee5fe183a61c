//! The demo, which is also the test that `envoy.yaml` and `examples/redis/envoy.yaml` work as they stand, and what can be
//! told of its containers without Docker.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::fs;
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

#[test]
fn the_composed_services_are_of_images_and_services_that_there_are() {
    let compose = fs::read_to_string(root().join("docker-compose.yml")).expect("there is a docker-compose.yml");
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).expect("there is a Dockerfile");
    let lines: Vec<&str> = compose.lines().skip_while(|line| *line != "services:").skip(1).collect();
    let services: Vec<&str> = lines.iter().filter_map(|line| name_at(line, "  ")).collect();
    let of_profile = compose.matches("profiles: [redis]").count();
    // The second Envoy inherits it from the first.
    assert_eq!((services.len(), of_profile), (7, 3), "{services:?}");

    let targets: Vec<&str> = compose.split("target: ").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(targets.len(), 5);
    for target in targets {
        assert!(dockerfile.contains(&format!(" AS {target}\n")), "the Dockerfile makes no {target}");
    }
    let awaited: Vec<&str> =
        lines.iter().filter(|line| line.contains("condition:")).filter_map(|line| name_at(line, "      ")).collect();
    assert_eq!(awaited, ["redis", "orders", "envoy-1", "envoy-2"]);
    for service in awaited {
        assert!(services.contains(&service), "there is no service {service}");
    }
}

/// The key of a YAML mapping that is indented by `indent`.
fn name_at<'a>(line: &'a str, indent: &str) -> Option<&'a str> {
    let name = line.strip_prefix(indent)?.split_once(':')?.0;
    name.starts_with(|first: char| first.is_ascii_lowercase()).then_some(name)
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
