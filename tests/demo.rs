//! The demo, which is also the test that `envoy.yaml` works as it stands.

use std::path::Path;
use std::process::Command;

#[test]
fn every_scene_of_the_demo_is_as_promised() {
    play(&[]);
}

#[test]
fn every_scene_is_as_promised_when_each_request_goes_to_another_envoy_on_one_redis() {
    play(&["--store", "redis"]);
}

fn play(arguments: &[&str]) {
    // Cargo builds the orders service, an example, along with the tests.
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/run");
    let output = Command::new(demo).args(arguments).output().expect("Python 3 runs the demo");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
