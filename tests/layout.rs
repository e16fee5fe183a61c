//! The files of `src/` import in one direction: no folder imports one above it, and none has a circle.

#![allow(clippy::string_slice, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module's path below the crate, such as `exchange::state`, and its text.
type Modules = BTreeMap<String, String>;

/// Whom a module imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The folders, each above those that it may import.
const FOLDERS: [&str; 8] = ["config", "request", "record", "store", "exchange", "worker", "admin", "envoy"];

#[test]
fn no_folder_imports_one_above_it() {
    let modules = modules();
    for (module, text) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        // What is in no folder is below all.
        let floor = FOLDERS.iter().position(|folder| is_within(module, folder)).map_or(0, |place| place + 1);
        let imports = paths(text).iter().filter_map(|path| resolve(path, module, &modules)).collect::<Vec<_>>();
        let code = text.split("\nmod tests {").next().unwrap().lines();
        let code = code.filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
        for above in &FOLDERS[floor..] {
            let is_named = code.contains(&format!("crate::{above}::"));
            assert!(!is_named && !imports.iter().any(|import| is_within(import, above)), "{module} imports {above}");
        }
    }
}

/// Not even in its tests.
#[test]
fn nothing_of_the_core_imports_the_host() {
    for (module, text) in modules().iter().filter(|(module, _)| !is_within(module, "envoy") && !module.is_empty()) {
        let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(!code.any(|line| line.contains("crate::envoy")), "{module} imports the host layer");
    }
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let modules = modules();
    for folder in FOLDERS {
        let circle = circle(imports(&modules, folder));
        assert!(circle.is_empty(), "these of src/{folder} import each other, or one that does: {circle:#?}");
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let modules = |child: &str| {
        Modules::from([
            (
                "a".to_owned(),
                "mod b;\nmod c;\npub use self::{\n    b::B,\n    c::{C, D as E},\n};\nuse b::F;\n".to_owned(),
            ),
            ("a::b".to_owned(), child.to_owned()),
            (
                "a::c".to_owned(),
                "use super::b;\n#[cfg(doc)]\nuse super::A;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}".to_owned(),
            ),
        ])
    };
    let circle = |child: &str| circle(imports(&modules(child), "a")).into_keys().collect::<Vec<_>>();
    assert_eq!(circle("use std::fmt;\nuse crate::z::Z;\nuse self::B;\n"), [""; 0]);
    assert_eq!(circle("use super::A;\n"), ["a", "a::b", "a::c"]);
    assert_eq!(circle("use crate::{\n    z,\n    a::A,\n};\n"), ["a", "a::b", "a::c"]);
    assert_eq!(circle("pub(super) use super::c::C;\n"), ["a", "a::b", "a::c"]);
}

/// What is left of the modules when those that import none of the rest are taken away again and again.
fn circle(mut imports: Imports) -> Imports {
    loop {
        let is_free = |targets: &BTreeSet<String>| targets.iter().all(|target| !imports.contains_key(target));
        let free: BTreeSet<String> =
            imports.iter().filter(|(_, targets)| is_free(targets)).map(|(module, _)| module.clone()).collect();
        if free.is_empty() {
            return imports;
        }
        imports.retain(|module, _| !free.contains(module));
    }
}

/// Whom each module of a folder imports within it.
fn imports(modules: &Modules, folder: &str) -> Imports {
    let within = modules.iter().filter(|(module, _)| is_within(module, folder));
    within
        .map(|(module, text)| {
            let mut targets: BTreeSet<String> =
                paths(text).iter().filter_map(|path| resolve(path, module, modules)).collect();
            targets.retain(|target| is_within(target, folder) && target != module);
            (module.clone(), targets)
        })
        .collect()
}

fn is_within(module: &str, folder: &str) -> bool {
    module.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The paths that a file's own `use` declarations name, without those of its tests and of its documentation.
fn paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut is_left_out = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let declaration = line.strip_prefix("pub").map_or(line, |rest| rest.trim_start_matches("(super)"));
        let declaration = declaration.trim_start_matches("(crate)").trim_start_matches(' ');
        if let Some(tree) = declaration.strip_prefix("use ").filter(|_| !line.starts_with(' ')) {
            let mut tree = tree.to_owned();
            while !tree.ends_with(';') {
                tree.push_str(lines.next().unwrap().trim());
            }
            if !is_left_out {
                expand("", tree.trim_end_matches(';'), &mut paths);
            }
        }
        is_left_out = line.starts_with("#[cfg(");
    }
    paths
}

/// The paths of a tree, such as `a::{b, c::{D, E}}`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, list)) = tree.split_once('{') else {
        if !tree.is_empty() {
            paths.push(format!("{prefix}{}", tree.split(" as ").next().unwrap()));
        }
        return;
    };
    let (prefix, list) = (format!("{prefix}{head}"), list.strip_suffix('}').unwrap());
    let (mut depth, mut start) = (0, 0);
    for (index, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &list[start..index], paths);
                start = index + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &list[start..], paths);
}

/// The module that a path leads to, or that what it names is in; `None` for other crates.
fn resolve(path: &str, module: &str, modules: &Modules) -> Option<String> {
    let below =
        |parent: &str, name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}::{name}") };
    let mut parts = path.split("::").peekable();
    let mut at = match *parts.peek()? {
        "crate" => String::new(),
        "self" | "super" => module.to_owned(),
        child => modules.contains_key(&below(module, child)).then(|| module.to_owned())?,
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => at = at.rsplit_once("::").map_or_else(String::new, |(parent, _)| parent.to_owned()),
            name if modules.contains_key(&below(&at, name)) => at = below(&at, name),
            _ => break,
        }
    }
    Some(at)
}

/// All modules that are files, without tests.
fn modules() -> Modules {
    let mut modules = Modules::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut modules);
    assert!(modules.len() > 100, "only {} modules were found", modules.len());
    modules
}

fn collect(folder: &Path, module: &str, modules: &mut Modules) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let below = if module.is_empty() { stem.to_owned() } else { format!("{module}::{stem}") };
        match stem {
            "tests" => {}
            _ if path.is_dir() => collect(&path, &below, modules),
            "lib" | "mod" => drop(modules.insert(module.to_owned(), fs::read_to_string(&path).unwrap())),
            _ => drop(modules.insert(below, fs::read_to_string(&path).unwrap())),
        }
    }
}
