//! Listeners from a file that Envoy watches, so that a test can change them under way.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Moves the listeners of `bootstrap` that have an address into a file in `directory`, in one step that Envoy notices.
pub(super) fn take_listeners(bootstrap: &mut Value, directory: &Path) {
    let listeners = bootstrap["static_resources"]["listeners"].take();
    let listeners = listeners.as_array().cloned().unwrap_or_default();
    let (mut listeners, internal): (Vec<Value>, Vec<Value>) =
        listeners.into_iter().partition(|listener| listener.get("address").is_some());
    for listener in &mut listeners {
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    }
    let (file, new) = (directory.join("listeners.json"), directory.join("listeners.new"));
    fs::write(&new, json!({ "resources": listeners }).to_string()).expect("cannot write the listeners");
    fs::rename(&new, &file).expect("cannot replace the listeners");
    bootstrap["static_resources"]["listeners"] = json!(internal);
    bootstrap["node"] = json!({ "id": "test", "cluster": "test" });
    bootstrap["dynamic_resources"] = json!({ "lds_config": {
        "resource_api_version": "V3",
        "path_config_source": { "path": file },
    } });
}
