//! The demo, which is also the test that `envoy.yaml` works as it stands.

use std::path::Path;
use std::process::Command;

#[test]
fn every_scene_of_the_demo_is_as_promised() {
    // Cargo builds the orders service, an example, along with the tests.
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/run");
    let output = Command::new(demo).output().expect("Python 3 runs the demo");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
