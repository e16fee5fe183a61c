//! The files of `deploy/` as Kubernetes objects. A key that the object does not have fails the test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object, with what the test has to know of its kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Manifest<S> {
    api_version: String,
    kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// A kind of object, and what is under its `spec`.
pub(super) trait Spec: DeserializeOwned {
    const API_VERSION: &'static str;
    const KIND: &'static str;
}

impl<S: Spec> Manifest<S> {
    /// All objects of a file, which are of this kind.
    pub(super) fn all_of(file: &str) -> Vec<Self> {
        let path = folder().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let manifests: Vec<Self> = serde_norway::Deserializer::from_str(&text)
            .map(|document| Self::deserialize(document).unwrap_or_else(|error| panic!("{file}: {error}")))
            .collect();
        for manifest in &manifests {
            let found = (manifest.api_version.as_str(), manifest.kind.as_str());
            assert_eq!(found, (S::API_VERSION, S::KIND), "{file}: apiVersion and kind");
        }
        manifests
    }

    /// The one object of a file.
    pub(super) fn of(file: &str) -> Self {
        let mut manifests = Self::all_of(file);
        assert_eq!(manifests.len(), 1, "objects in {file}");
        manifests.remove(0)
    }
}

/// The files in these folders of `deploy/`, as `folder/name`.
pub(super) fn files(folders: &[&str]) -> BTreeSet<String> {
    let names = folders.iter().flat_map(|name| {
        let entries = fs::read_dir(folder().join(name)).unwrap_or_else(|error| panic!("cannot list {name}: {error}"));
        entries.map(move |entry| format!("{name}/{}", entry.expect("an entry").file_name().display()))
    });
    names.collect()
}

/// What is to be replaced by the digest of an image, and has its form.
pub(super) fn assert_digest(sha256: &str) {
    assert!(sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()), "{sha256:?} is no SHA-256");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}
