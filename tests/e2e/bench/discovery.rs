//! Listeners and clusters from files that Envoy watches, so that they can change under way.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What can be discovered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Cluster,
    Listener,
}

impl Kind {
    /// Where Envoy looks for it.
    pub(super) fn source(self, directory: &Path) -> Value {
        json!({ "resource_api_version": "V3", "path_config_source": { "path": directory.join(self.file()) } })
    }

    fn file(self) -> &'static str {
        match self {
            Self::Cluster => "clusters.json",
            Self::Listener => "listeners.json",
        }
    }

    fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        }
    }
}

/// What Envoy calls itself; it discovers nothing without.
pub(super) fn node() -> Value {
    json!({ "id": "test", "cluster": "test" })
}

/// Puts `resources` into the file of `directory` that Envoy watches, in one step that it notices.
pub(super) fn publish(directory: &Path, kind: Kind, mut resources: Vec<Value>) {
    for resource in &mut resources {
        resource["@type"] = json!(kind.url());
    }
    let (file, new) = (directory.join(kind.file()), directory.join("resources.new"));
    fs::write(&new, json!({ "resources": resources }).to_string()).expect("cannot write what Envoy discovers");
    fs::rename(&new, &file).expect("cannot replace what Envoy discovers");
}

/// Moves the listeners of `bootstrap` that have an address into a file in `directory`.
pub(super) fn take_listeners(bootstrap: &mut Value, directory: &Path) {
    let listeners = bootstrap["static_resources"]["listeners"].take();
    let listeners = listeners.as_array().cloned().unwrap_or_default();
    let (listeners, internal): (Vec<Value>, Vec<Value>) =
        listeners.into_iter().partition(|listener| listener.get("address").is_some());
    publish(directory, Kind::Listener, listeners);
    bootstrap["static_resources"]["listeners"] = json!(internal);
    bootstrap["node"] = node();
    bootstrap["dynamic_resources"] = json!({ "lds_config": Kind::Listener.source(directory) });
}
