//! Listeners from a file that Envoy watches, so that a test can change them under way.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Moves the listeners of `bootstrap` into a file in `directory`, in one step that Envoy notices.
pub(super) fn take_listeners(bootstrap: &mut Value, directory: &Path) {
    let mut listeners = bootstrap["static_resources"]["listeners"].take();
    for listener in listeners.as_array_mut().into_iter().flatten() {
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    }
    let (file, new) = (directory.join("listeners.json"), directory.join("listeners.new"));
    fs::write(&new, json!({ "resources": listeners }).to_string()).expect("cannot write the listeners");
    fs::rename(&new, &file).expect("cannot replace the listeners");
    bootstrap["static_resources"]["listeners"] = json!([]);
    bootstrap["node"] = json!({ "id": "test", "cluster": "test" });
    bootstrap["dynamic_resources"] = json!({ "lds_config": {
        "resource_api_version": "V3",
        "path_config_source": { "path": file },
    } });
}
