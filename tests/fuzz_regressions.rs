//! What the fuzzers are to prove, proven for their seeds and for all that they ever found, without a fuzzer.
//!
//! After a change of a seed, or of what is stored: `IDEMGATE_WRITE_SEEDS=1 cargo test --test fuzz_regressions`.
//! `make fuzz` says where it left what it found; once it is mended, the file goes to `fuzz/findings/TARGET/`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use properties::{TARGETS, Target};

#[path = "../fuzz/properties/mod.rs"]
mod properties;

#[test]
fn every_property_holds_for_every_seed() {
    for target in &TARGETS {
        let seeds = files(&folder("seeds", target));
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        check(target, &seeds);
    }
}

#[test]
fn nothing_that_was_found_is_back() {
    for target in TARGETS.iter().filter(|target| folder("findings", target).exists()) {
        let findings = files(&folder("findings", target));
        assert!(!findings.is_empty(), "fuzz/findings/{} is empty", target.name);
        check(target, &findings);
    }
}

#[test]
fn the_committed_seeds_are_those_that_the_properties_make() {
    for target in &TARGETS {
        let folder = folder("seeds", target);
        let made: BTreeMap<PathBuf, Vec<u8>> =
            (target.seeds)().into_iter().map(|(name, bytes)| (folder.join(name), bytes)).collect();
        if std::env::var_os("IDEMGATE_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            for path in files(&folder).keys().filter(|path| !made.contains_key(*path)) {
                fs::remove_file(path).unwrap();
            }
            for (path, bytes) in &made {
                fs::write(path, bytes).unwrap();
            }
        }
        assert!(
            files(&folder) == made,
            "{} is out of date: IDEMGATE_WRITE_SEEDS=1 cargo test --test fuzz_regressions",
            folder.display()
        );
    }
}

#[test]
fn every_property_has_a_fuzzer_and_every_folder_a_property() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let found = |folder: &str| -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(fuzz().join(folder)) else { return BTreeSet::new() };
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("fuzz_targets"), names);
    assert_eq!(found("seeds"), names);
    assert!(found("findings").is_subset(&names));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "fuzz/Cargo.toml does not build {name}");
        let fuzzer = fs::read_to_string(fuzz().join("fuzz_targets").join(name).with_extension("rs")).unwrap();
        assert!(fuzzer.contains(&format!("properties::{name}::check")), "{name} tries another property");
    }
}

fn check(target: &Target, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        // Shown if the property panics.
        println!("{}", path.display());
        (target.check)(bytes);
    }
}

fn folder(kind: &str, target: &Target) -> PathBuf {
    fuzz().join(kind).join(target.name)
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Every file of a folder with what it contains.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}
