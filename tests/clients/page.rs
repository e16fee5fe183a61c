//! What docs/clients.md says.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The first configuration of the section with this heading.
pub(crate) fn recipe(heading: &str) -> Value {
    let section = section(heading);
    let block = section.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    serde_json::from_str(block.unwrap_or_default()).unwrap_or_else(|error| panic!("{heading}: {error}"))
}

/// The text below this heading.
pub(crate) fn section(heading: &str) -> String {
    let page = read("docs/clients.md");
    let section = page.split(&format!("\n### {heading}\n")).nth(1).and_then(|rest| rest.split("\n### ").next());
    section.unwrap_or_else(|| panic!("docs/clients.md has no heading {heading}")).to_owned()
}

/// A file of the repository.
pub(crate) fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
