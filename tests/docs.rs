//! The documentation names what is there: pages, files, metrics, alerts, problems, details of the access log.
//!
//! Settings themselves are checked by `config_schema.rs`.

#![allow(clippy::string_slice, clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use idemgate::config::{Config, Policy};
use idemgate::exchange::{Counter, Problem};
use idemgate::request::InvalidKey;
use idemgate::store::{Scarce, StoreError};
use serde_json::Value;

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(file.exists(), "{}: the link to {target} leads nowhere", page.display());
            if !anchor.is_empty() {
                let anchors = anchors(&read(&file));
                assert!(anchors.contains(anchor), "{}: {target} names none of {anchors:?}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} links were found");
}

#[test]
fn every_page_is_in_the_index() {
    let index = read(&root().join("docs/README.md"));
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("{name})")), "docs/README.md does not name {name}");
    }
}

#[test]
fn every_file_that_a_page_names_is_there() {
    const FOLDERS: [&str; 10] =
        ["bench/", "demo/", "deploy/", "docs/", "examples/", "findings/", "fuzz/", "src/", "tests/", "tools/"];

    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        let prose: String = text.split("```").step_by(2).collect();
        for name in prose.split('`').skip(1).step_by(2) {
            let is_one_path =
                FOLDERS.iter().any(|folder| name.starts_with(folder)) && !name.contains(['*', ' ', '<', '…']);
            if is_one_path {
                assert!(root().join(name).exists(), "{}: {name} is not there", page.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} were found");
}

#[test]
fn every_command_of_make_that_a_workflow_runs_is_there() {
    let makefile = read(&root().join("Makefile"));
    let mut checked = 0;
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let workflow = read(&entry.unwrap().path());
        for command in workflow.lines().filter_map(|line| line.trim().strip_prefix("- run: make ")) {
            let (fixed, axis) = command.split_once("${{ matrix.").unwrap_or((command, ""));
            let axis = axis.trim_end_matches(" }}");
            let values = workflow.lines().find_map(|line| line.trim().strip_prefix(&format!("{axis}: [")));
            for value in values.unwrap_or("]").trim_end_matches(']').split(", ") {
                assert!(makefile.contains(&format!("\n{fixed}{value}:")), "make {fixed}{value}");
                checked += 1;
            }
        }
    }
    assert!(checked > 9, "only {checked} were found");
}

/// A type or a state that was renamed would leave a page behind that explains what is not there.
#[test]
fn every_type_that_the_pages_about_the_inside_name_is_there() {
    /// Names of others.
    const FOREIGN: [&str; 3] = ["BTreeMap", "HashMap", "StopAllIterationAndWatermark"];

    let is_part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut sources = BTreeSet::new();
    for folder in ["src", "tests"] {
        texts(&root().join(folder), &mut sources);
    }
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    sources.remove(&root().join("tests/docs.rs"));
    let sources: Vec<String> = sources.iter().map(|path| read(path)).collect();
    let known: BTreeSet<&str> = sources.iter().flat_map(|text| text.split(|c| !is_part_of_a_word(c))).collect();
    let mut checked = 0;
    for page in markdown(root().join("docs/internals")).chain([root().join("ARCHITECTURE.md")]) {
        let text = read(&page);
        let blocks = text.split("```");
        let code = blocks.clone().step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
        let diagrams = blocks.skip(1).step_by(2).filter(|block| block.starts_with("mermaid"));
        for name in code.chain(diagrams).flat_map(|text| text.split(|c| !is_part_of_a_word(c))) {
            let capitals = name.chars().filter(char::is_ascii_uppercase).count();
            let is_type = name.starts_with(|c: char| c.is_ascii_uppercase()) && capitals > 1 && !name.contains('_');
            if is_type && name.contains(|c: char| c.is_ascii_lowercase()) && !FOREIGN.contains(&name) {
                assert!(known.contains(name), "{}: there is no {name}", page.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} were found");
}

#[test]
fn the_architecture_is_read_in_one_go() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let lines = page.lines().count();
    assert!(lines <= 250, "{lines} lines: what only some readers need belongs to docs/internals/");
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let row = format!("| `src/{}/` | ", path.file_name().unwrap().to_str().unwrap());
            assert!(page.contains(&row), "ARCHITECTURE.md has no row {row:?}");
        }
    }
}

#[test]
fn the_readme_is_read_in_two_screens() {
    let words = read(&root().join("README.md")).split_whitespace().count();
    assert!(words <= 900, "{words} words: what comes after the first ten minutes belongs to docs/");
}

/// The questions by which a reader of CONTRIBUTING.md finds out whether the layout explains itself.
#[test]
fn the_answers_of_the_contributing_page_are_true() {
    let page = read(&root().join("CONTRIBUTING.md"));
    let questions: Vec<&str> = page.lines().filter(|line| line.starts_with("| Where ")).collect();
    assert_eq!(questions.len(), 3, "{questions:?}");
    for question in questions {
        let mut source = None;
        let mut functions = 0;
        for name in question.split('`').skip(1).step_by(2) {
            if name.starts_with("src/") {
                source = Some(read(&root().join(name)));
            } else {
                let source = source.as_ref().unwrap_or_else(|| panic!("{name} stands before any file: {question}"));
                let is_there =
                    [format!("fn {name}("), format!("fn {name}<")].iter().any(|start| source.contains(start));
                assert!(is_there, "there is no function {name}: {question}");
                functions += 1;
            }
        }
        assert!(functions > 0, "no function is named: {question}");
    }
}

#[test]
fn every_metric_that_is_named_is_counted() {
    let metrics = metrics();
    let mut checked = 0;
    for page in pages() {
        for name in words(&read(&page), "idemgate.") {
            let name = of_the_whole(&name);
            if ["requests.", "outcomes.", "store."].iter().any(|group| name["idemgate.".len()..].starts_with(group)) {
                assert!(metrics.contains(&name), "{}: there is no metric {name}", page.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} metrics were found");
}

#[test]
fn every_metric_is_explained() {
    let page = read(&root().join("docs/metrics.md"));
    let kinds = StoreError::KINDS.map(|kind| format!("idemgate.store.errors.{kind}"));
    for name in metrics() {
        // Kinds of store errors have their rows on the pages of the stores.
        let start = if kinds.contains(&name) { format!("`{name}`") } else { format!("\n| `{name}` | ") };
        assert!(page.contains(&start), "docs/metrics.md does not explain {name}");
    }
}

#[test]
fn every_configuration_of_the_guides_is_accepted() {
    let mut checked = 0;
    for page in ["clients.md", "configuration.md", "modes.md", "rollout.md"] {
        let text = read(&root().join("docs").join(page));
        for block in text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let parsed = Config::parse(block.as_bytes());
            assert!(parsed.is_ok(), "{page}: {}\n{block}", parsed.unwrap_err());
            checked += 1;
        }
    }
    assert!(checked > 8, "only {checked} were found");
}

#[test]
fn every_kind_of_store_error_is_documented_with_its_remedy() {
    let pages = ["docs/redis.md", "docs/dynamodb.md"].map(|page| read(&root().join(page)));
    for kind in StoreError::KINDS {
        let row = format!("| `idemgate.store.errors.{kind}` | ");
        let rows = pages.iter().flat_map(|page| page.lines()).filter(|line| line.starts_with(&row));
        let cells: Vec<_> = rows.map(|line| line.matches(" | ").count()).collect();
        assert!(!cells.is_empty() && cells.iter().all(|cells| *cells == 4), "no row of five cells about {kind}");
    }
}

#[test]
fn each_alert_says_what_to_do_and_leads_to_a_section_about_it() {
    const PAGE: &str = "docs/metrics.md";

    let rules: Value =
        serde_norway::from_str(&read(&root().join("deploy/observability/prometheus-alerts.yaml"))).unwrap();
    let alerts: Vec<&Value> =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let page = read(&root().join(PAGE));
    let mut names = BTreeSet::new();
    for alert in &alerts {
        let text = |path: &str| {
            alert.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} is missing in {alert:#}"))
        };
        let name = text("/alert");
        assert!(names.insert(name), "{name} stands there twice");
        assert!(["critical", "warning"].contains(&text("/labels/severity")), "{name} has no known severity");
        assert!(text("/for").ends_with('m'), "{name} does not say for how long");
        assert!(text("/annotations/summary").contains("$labels.instance"), "{name} does not say where");
        assert!(text("/annotations/description").len() > 80, "{name} does not say what to do");
        let runbook = text("/annotations/runbook_url");
        let anchor = runbook.strip_prefix(PAGE).and_then(|rest| rest.strip_prefix('#'));
        let section = anchor.and_then(|anchor| section(&page, anchor));
        let section = section.unwrap_or_else(|| panic!("{name}: {runbook} leads nowhere"));
        assert!(section.contains(&format!("`{name}`")), "{runbook} does not mention {name}");
    }
    assert!(names.len() > 8, "only {names:?} were found");
    for name in page.split('`').filter(|word| word.starts_with("Idemgate") && !word.contains(' ')) {
        assert!(names.contains(name), "{PAGE} mentions {name}, which is no alert");
    }
}

#[test]
fn every_counter_of_the_admin_is_documented() {
    let page = read(&root().join("docs/operations.md"));
    let counters = read(&root().join("src/envoy/admin.rs"));
    let counters: Vec<&str> = counters.split('"').filter(|text| text.starts_with("idemgate.admin.")).collect();
    assert_eq!(counters.len(), 6, "{counters:?}");
    for name in counters {
        assert!(page.contains(&format!("`{name}`")), "docs/operations.md does not name {name}");
    }
    for name in words(&page, "idemgate.admin.") {
        assert!(read(&root().join("src/envoy/admin.rs")).contains(&format!("\"{name}\"")), "nothing counts {name}");
    }
}

#[test]
fn every_word_of_the_access_log_is_logged_and_explained() {
    let files =
        ["exchange/detached.rs", "exchange/problem.rs", "exchange/reply.rs", "admin/answer.rs", "admin/problem.rs"];
    let source = files.map(|file| read(&root().join("src").join(file))).concat();
    let logged: BTreeSet<&str> =
        source.split('"').filter(|text| text.starts_with("idemgate_") && !text.contains('{')).collect();
    let metrics = metrics();
    for page in pages() {
        for word in words(&read(&page), "idemgate_") {
            let is_of_postgres = word == "idemgate_shadow";
            let is_known = logged.contains(word.as_str()) || is_of_prometheus(&word, &metrics) || is_of_postgres;
            assert!(is_known, "{}: nothing logs {word}", page.display());
        }
    }
    let page = read(&root().join("docs/metrics.md"));
    for word in &logged {
        assert!(page.contains(&format!("`{word}`")), "docs/metrics.md does not explain {word}");
    }
    assert!(logged.len() > 12, "only {logged:?} were found");
}

#[test]
fn every_problem_is_documented_as_it_is() {
    let documented: BTreeMap<String, [String; 3]> = read(&root().join("docs/clients.md"))
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches('`')).collect();
            match cells.as_slice() {
                [name, status, word, _, retry_after, ..] if status.parse::<u16>().is_ok() => {
                    Some(((*name).to_owned(), [status, word, retry_after].map(|cell| (*cell).to_owned())))
                }
                _ => None,
            }
        })
        .collect();
    let problems: BTreeMap<String, [String; 3]> = problems()
        .iter()
        .map(|problem| {
            let retry_after = match problem {
                // In one of its two forms, which the page puts into words.
                Problem::OutcomeUnknown { .. } => "only if the API runs it anew then",
                _ if problem.reply(&Policy::default()).headers.get("retry-after").is_some() => "yes",
                _ => "no",
            };
            let cells = [&problem.http_status().to_string(), problem.status().as_str(), retry_after];
            (problem.name().to_owned(), cells.map(str::to_owned))
        })
        .collect();
    assert_eq!(documented, problems, "left: docs/clients.md, right: the filter");
}

#[test]
fn the_supported_envoys_are_the_same_everywhere() {
    let setup = read(&root().join("tools/setup-envoy"));
    let version = |name: &str| {
        let line = setup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("tools/setup-envoy has no {name}")).to_owned()
    };
    let minor = |version: &str| version.rsplit_once('.').unwrap().0.to_owned();
    let (oldest, newest) = (version("OLDEST"), version("NEWEST"));
    let table = read(&root().join("docs/deployment.md"));
    for (name, version) in [("oldest", &oldest), ("newest", &newest)] {
        let row = format!("| {name} supported | {} ({version}) |", minor(version));
        assert!(table.contains(&row), "docs/deployment.md has no row {row:?}");
    }

    let mut files = BTreeSet::new();
    for folder in ["deploy", "docs", "examples", "src"] {
        texts(&root().join(folder), &mut files);
    }
    files.extend(["README.md", "envoy.yaml"].map(|name| root().join(name)));
    let mut found = 0;
    for file in files {
        let text = read(&file);
        for (at, _) in text.match_indices(" or newer") {
            let Some((_, named)) = text[..at].rsplit_once("Envoy ") else { continue };
            if named.starts_with(|c: char| c.is_ascii_digit()) && !named.contains(char::is_whitespace) {
                assert_eq!(named, minor(&oldest), "{}: \"Envoy {named} or newer\"", file.display());
                found += 1;
            }
        }
    }
    assert!(found > 10, "only {found} places name the oldest Envoy");
}

#[test]
fn every_envoy_that_is_to_be_copied_makes_one_host_of_its_spellings() {
    let mut files = BTreeSet::new();
    texts(&root().join("examples"), &mut files);
    files.insert(root().join("envoy.yaml"));
    let mut found = 0;
    for file in files.iter().filter(|file| file.file_name().is_some_and(|name| name == "envoy.yaml")) {
        let text = read(file);
        for option in ["strip_any_host_port: true", "strip_trailing_host_dot: true"] {
            assert!(text.contains(option), "{} has no {option}", file.display());
        }
        found += 1;
    }
    assert!(found > 10, "only {found} files are to be copied");
}

/// `make attack` runs these by their names; a name that no test has would be an attack that is never tried.
#[test]
fn every_test_that_the_security_page_names_is_there() {
    let mut files = BTreeSet::new();
    for folder in ["src", "tests"] {
        texts(&root().join(folder), &mut files);
    }
    let page = read(&root().join("SECURITY.md"));
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(2));
    let names: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 40, "only {names:?}");
    for name in names {
        let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
        let is_there =
            files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")).any(|file| {
                let is_module = module.is_empty() || file.file_stem().is_some_and(|stem| stem == module);
                is_module && (test == "*" || read(file).contains(&format!("fn {test}(")))
            });
        assert!(is_there, "SECURITY.md names {name}, which no test is called");
    }
}

/// One of each kind. A new kind does not compile until it is listed.
fn problems() -> Vec<Problem> {
    let all = vec![
        Problem::CallerUnknown,
        Problem::ExpectationFailed,
        Problem::HostUnsupported,
        Problem::KeyInvalid(InvalidKey::Repeated),
        Problem::KeyMissing { header: "idempotency-key".to_owned(), pointer: None },
        Problem::KeyReused,
        Problem::OutcomeUnknown { retry_after: None },
        Problem::MemoryFull,
        Problem::Overloaded,
        Problem::OverShare(Scarce::Records),
        Problem::OverShare(Scarce::Calls),
        Problem::RequestInFlight { age: Duration::ZERO, lease_left: Duration::from_secs(9) },
        Problem::RequestTooLarge { limit: 1 },
        Problem::ResponseNotKept { status: 201 },
        Problem::StoreFull,
        Problem::StoreUnavailable,
        Problem::TooManyCalls,
        Problem::Unconfigured,
    ];
    for problem in &all {
        match problem {
            Problem::CallerUnknown
            | Problem::ExpectationFailed
            | Problem::HostUnsupported
            | Problem::KeyInvalid(_)
            | Problem::KeyMissing { .. }
            | Problem::KeyReused
            | Problem::OutcomeUnknown { .. }
            | Problem::MemoryFull
            | Problem::Overloaded
            | Problem::OverShare(_)
            | Problem::RequestInFlight { .. }
            | Problem::RequestTooLarge { .. }
            | Problem::ResponseNotKept { .. }
            | Problem::StoreFull
            | Problem::StoreUnavailable
            | Problem::TooManyCalls
            | Problem::Unconfigured => {}
        }
    }
    all
}

/// Every metric by its name, but for those of routes and shadow mode.
fn metrics() -> BTreeSet<String> {
    let counters = Counter::ALL.iter().map(|counter| counter.name().to_owned());
    let kinds = StoreError::KINDS.iter().map(|kind| format!("idemgate.store.errors.{kind}"));
    let source = read(&root().join("src/envoy/metrics.rs"));
    let is_name = |text: &&str| text.starts_with("idemgate.") && !text.ends_with('.') && !text.contains('{');
    let others: Vec<String> = source.split('"').filter(is_name).map(str::to_owned).collect();
    assert!(others.len() >= 5, "only {others:?} were found");
    counters.chain(kinds).chain(others).collect()
}

/// The metric that counts for all requests what this one counts in shadow mode or for one route.
fn of_the_whole(name: &str) -> String {
    let name = name.strip_prefix("idemgate.").unwrap_or(name);
    let name = name.strip_prefix("shadow.").unwrap_or(name);
    let name = name.strip_prefix("route.").and_then(|rest| Some(rest.split_once('.')?.1)).unwrap_or(name);
    format!("idemgate.{name}")
}

/// Whether it is what Prometheus calls one of these metrics, or the label by which it tells routes apart.
fn is_of_prometheus(word: &str, metrics: &BTreeSet<String>) -> bool {
    let has_tail = ["idemgate_route_", "idemgate_shadow_"].iter().any(|start| word.starts_with(start));
    let is = |metric: &String| {
        let name = metric.replace('.', "_");
        word == name || has_tail && word.ends_with(&name["idemgate".len()..])
    };
    word == "idemgate_route" || metrics.iter().any(is)
}

/// What stands under the heading with this anchor, up to the next one.
fn section(page: &str, anchor: &str) -> Option<String> {
    let is_heading = |line: &&str| line.starts_with('#');
    let mut lines = page.lines().skip_while(|line| !is_heading(line) || !anchors(line).contains(anchor));
    lines.next()?;
    Some(lines.take_while(|line| !is_heading(line)).collect::<Vec<_>>().join("\n"))
}

/// Every page that is written for people.
fn pages() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs"), root().join("docs/internals")];
    folders.into_iter().flat_map(markdown).collect()
}

fn markdown(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

/// The targets of all links of a page, without what stands in code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// Every word of the text that begins with `prefix`, made of lower-case letters, dots and underscores.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    let of_word = |c: char| c.is_ascii_lowercase() || c == '.' || c == '_';
    text.match_indices(prefix)
        .filter(|(start, _)| !text[..*start].ends_with(|c: char| c.is_alphanumeric() || c == '/' || c == '_'))
        .map(|(start, _)| text[start..].split(|c| !of_word(c)).next().unwrap_or_default())
        .map(|word| word.trim_end_matches('.').to_owned())
        .collect()
}

/// All files below `folder`.
fn texts(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, files);
        } else {
            files.insert(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
