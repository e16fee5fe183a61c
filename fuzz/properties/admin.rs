//! What an operator asks of the admin.

use std::sync::LazyLock;

use idemgate::{
    admin::{AdminProblem, AdminRoute, Task},
    config::Config,
    headers::Headers,
};
use serde_json::Value;

use super::{Seed, input::Input, texts};

/// A line with the method, one with the path, and a body: each leads to one task, or to a problem that is told in JSON.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let [method, path] = [input.line(), input.line()];
    let headers =
        Headers::from_iter([(":method", method), (":path", path), ("content-type", b"application/json".as_slice())]);
    let route = match AdminRoute::of(&headers) {
        Ok(route) => route,
        Err(problem) => return check_problem(&problem),
    };
    let body = input.rest();
    for config in CONFIGS.iter() {
        match route.task(body, config) {
            Ok(task) => {
                assert!(is_spelt(path, &task), "{} led to {task:?}", path.escape_ascii());
                assert_eq!(route.task(&respelt(body), config), Ok(task), "another task for the same body");
            }
            Err(problem) => check_problem(&problem),
        }
    }
}

pub fn seeds() -> Vec<Seed> {
    let hash = "8e03978e40d543e8bc936894a57f9324".repeat(2);
    let on = |verb: &str, body: &str| format!("POST\n/operations/{hash}/{verb}\n{body}").into_bytes();
    let mut seeds = texts([
        ("count", "GET\n/operations\n"),
        ("look", "GET\n/operations/8E03978e4\n"),
        (
            "look_up",
            "POST\n/operations/lookup\n{\"key\":\"\\\"a b\\\"\",\"method\":\"POST\",\"authority\":\"api.example\",\
             \"path\":\"/orders?x=1\",\"caller\":[\"Bearer t\"]}",
        ),
        (
            "look_up_lines",
            "POST\n/operations/lookup\n{\"key\":\"8e03978e-40d5-43e8-bc93-6894a57f9324\",\"method\":\"POST\",\
             \"authority\":\"api\",\"path\":\"/\",\"caller\":[[\"a\",\"b\"],null]}",
        ),
    ]);
    seeds.extend([
        ("not_kept", on("not-kept", "{\"status\":201,\"force\":true}")),
        ("purge", on("purge", "{}")),
        ("release", on("release", "")),
    ]);
    seeds
}

static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
    let second = br#"{
        "key": {"format": "uuid"}, "resource": ["path"],
        "caller": {"identity": [{"header": "x-sub"}, {"property": ["connection", "id"]}], "required": true}
    }"#;
    [Config::default(), Config::parse(second).expect("a good configuration")]
});

/// Whether the path contains the operation that is to be changed; nothing else can name it.
fn is_spelt(path: &[u8], task: &Task) -> bool {
    let contains = |hash: String| path.to_ascii_lowercase().windows(64).any(|part| part == hash.as_bytes());
    match task {
        Task::Amend(operation, _) => contains(operation.to_string()),
        Task::Look(operation) => path == b"/operations/lookup" || contains(operation.to_string()),
        Task::Count | Task::Find(_) | Task::List => true,
    }
}

/// The same object with its keys in another order and other white space.
fn respelt(body: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => format!("{value:#}").into_bytes(),
        Err(_) => body.to_vec(),
    }
}

fn check_problem(problem: &AdminProblem) {
    let answer = problem.answer();
    let body: Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
    assert_eq!(body["status"], answer.status);
    for member in ["type", "title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{body:#}");
    }
}
