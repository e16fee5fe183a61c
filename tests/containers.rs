//! `Dockerfile` and `docker-compose.yml`, as far as they can be checked without Docker: both are parsed, and what they
//! name is there. `make compose-test` brings them up for real.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use parse_dockerfile::{CopyInstruction, Dockerfile, Instruction, Source};
use serde::Deserialize;

#[test]
fn a_build_without_a_target_makes_an_image_of_the_module_alone() {
    let text = read("Dockerfile");
    let dockerfile = parsed(&text);
    let plugin = dockerfile.stages().last().expect("a stage");
    assert_eq!(plugin.from.image.value, "scratch");
    let layers: Vec<_> = plugin.instructions.iter().filter(|step| !matches!(step, Instruction::Label(_))).collect();
    let [Instruction::Copy(copy)] = layers.as_slice() else { panic!("one layer, found {layers:?}") };
    assert_eq!(copied(copy), (Some("build"), vec!["/idemgate/dist/idemgate.wasm"], "/plugin.wasm"));
}

#[test]
fn every_stage_is_of_a_pinned_image_and_copies_what_there_is() {
    let text = read("Dockerfile");
    let dockerfile = parsed(&text);
    let mut earlier = BTreeSet::new();
    for stage in dockerfile.stages() {
        let image = stage.from.image.value.as_ref();
        let tag = image.split_once(':').map_or("", |(_, tag)| tag);
        assert!(image == "scratch" || tag.starts_with(|c: char| c.is_ascii_alphanumeric()), "{image} has no tag");
        assert_ne!(tag, "latest", "{image} changes by itself");
        for instruction in stage.instructions {
            if let Instruction::Copy(copy) = instruction {
                match copied(copy) {
                    (Some(from), ..) => assert!(earlier.contains(from), "there is no stage {from} before its use"),
                    (None, sources, _) => {
                        for source in sources {
                            assert!(root().join(source).exists(), "there is no {source} to copy");
                        }
                    }
                }
            }
        }
        let (_, name) = stage.from.as_.as_ref().unwrap_or_else(|| panic!("a stage of {image} has no name"));
        assert!(earlier.insert(name.value.as_ref()), "two stages are called {}", name.value);
    }
}

#[test]
fn every_composed_service_is_built_by_a_stage_and_waits_for_healthy_ones() {
    let text = read("Dockerfile");
    let dockerfile = parsed(&text);
    let services = composed().services;
    for (name, service) in &services {
        match (&service.build, &service.image) {
            (Some(Build { context, target }), None) => {
                assert_eq!(context, ".", "{name}: the folder that it is built from");
                assert!(dockerfile.stage(target).is_some(), "{name}: the Dockerfile makes no {target}");
            }
            (None, Some(image)) => assert!(image.contains(':'), "{name}: {image} has no tag"),
            _ => panic!("{name} is built or pulled: {service:?}"),
        }
        for (awaited, Dependency { condition: Condition::ServiceHealthy }) in &service.depends_on {
            let other = services.get(awaited).unwrap_or_else(|| panic!("{name}: there is no {awaited}"));
            assert!(other.healthcheck.is_some(), "{name} waits for {awaited}, whose health nobody checks");
            assert!(
                other.profiles.iter().all(|profile| service.profiles.contains(profile)),
                "{name} waits for {awaited}, which is started with another profile"
            );
        }
        if let Some(network) = &service.network_mode {
            let host = network.strip_prefix("service:").and_then(|host| services.get(host));
            assert!(host.is_some(), "{name}: there is no network {network}");
        }
    }
}

#[test]
fn every_server_has_a_health_check_and_only_the_demo_ends_by_itself() {
    for (name, service) in composed().services {
        let ends_by_itself = name.starts_with("demo");
        assert_eq!(service.healthcheck.is_none(), ends_by_itself, "{name}: whether its health is checked");
        if let Some(Healthcheck { test, interval, timeout, retries }) = service.healthcheck {
            assert!(test.first().is_some_and(|first| first == "CMD") && test.len() > 1, "{name}: {test:?}");
            for duration in [interval, timeout] {
                assert!(humantime::parse_duration(&duration).is_ok(), "{name}: {duration:?} is no duration");
            }
            assert!(retries > 0, "{name}: it is given up at once");
        }
    }
}

#[test]
fn the_composed_servers_are_reached_from_this_machine_alone_and_by_one_address_each() {
    let mut published = BTreeSet::new();
    for (name, service) in composed().services {
        for port in service.ports {
            let parts: Vec<&str> = port.split(':').collect();
            let ["127.0.0.1", host, "10000"] = parts.as_slice() else { panic!("{name}: port {port}") };
            assert!(published.insert((*host).to_owned()), "{name}: another service has port {host}");
        }
    }
    assert_eq!(published, ["10000", "10001", "10002", "10003", "10004"].map(str::to_owned).into());
}

#[test]
fn the_composed_demo_asks_services_that_there_are() {
    let services = composed().services;
    let mut asked = 0;
    for (name, service) in &services {
        for argument in &service.command {
            if let Some((_, address)) = argument.split_once("=http://") {
                let host = address.split(':').next().unwrap_or_default();
                assert!(services.contains_key(host), "{name}: there is no {host}");
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 6, "two Envoys and the service, on Redis and on PostgreSQL");
}

/// Where a `COPY` takes what from, and where it puts it.
fn copied<'a>(copy: &'a CopyInstruction<'_>) -> (Option<&'a str>, Vec<&'a str>, &'a str) {
    let from = copy.options.iter().find(|option| option.name.value == "from");
    let sources = copy.src.iter().map(|source| match source {
        Source::Path(path) => path.value.as_ref(),
        other => panic!("a file to copy, found {other:?}"),
    });
    let from = from.and_then(|option| option.value.as_ref()).map(|value| value.value.as_ref());
    (from, sources.collect(), copy.dest.value.as_ref())
}

/// What of the Compose specification the file uses. Whatever else it says fails the tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compose {
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    build: Option<Build>,
    image: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Dependency>,
    #[serde(default, rename = "environment")]
    _environment: BTreeMap<String, String>,
    healthcheck: Option<Healthcheck>,
    #[serde(default, rename = "init")]
    _init: bool,
    network_mode: Option<String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    profiles: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    context: String,
    target: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dependency {
    condition: Condition,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    ServiceHealthy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Healthcheck {
    test: Vec<String>,
    interval: String,
    timeout: String,
    retries: u32,
}

fn composed() -> Compose {
    let mut compose: serde_norway::Value =
        serde_norway::from_str(&read("docker-compose.yml")).expect("docker-compose.yml is YAML");
    compose.apply_merge().expect("what is merged is a mapping");
    serde_norway::from_value(compose).unwrap_or_else(|error| panic!("docker-compose.yml: {error}"))
}

fn parsed(text: &str) -> Dockerfile<'_> {
    parse_dockerfile::parse(text).unwrap_or_else(|error| panic!("Dockerfile: {error}"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
