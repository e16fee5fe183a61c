//! The process in which SDKs of one language are played.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use crate::bench::patiently;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Language {
    Node,
    Python,
}

/// One call of an SDK by its user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) client: &'a str,
    pub(crate) item: &'a str,
    /// None is the SDK's own.
    pub(crate) key: Option<&'a str>,
    /// In seconds.
    pub(crate) timeout: Option<u32>,
}

/// What the user of an SDK saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Saw {
    Raised { class: String, text: String },
    Returned(String),
}

/// A process that plays calls, ended when dropped.
#[derive(Debug)]
pub(crate) struct Player {
    /// Ended when dropped.
    _process: Child,
    input: ChildStdin,
    called: u64,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Saw>>>>;

impl Player {
    pub(crate) fn start(language: Language) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let packages = root.join(".tools/clients");
        assert!(packages.join("complete").exists(), "no SDKs in {}: run tools/setup-clients", packages.display());
        let scripts = root.join("tests/clients");
        let mut command = match language {
            Language::Node => Command::new("node"),
            Language::Python => Command::new("python3"),
        };
        match language {
            Language::Node => command.arg(scripts.join("play.mjs")).env("CLIENTS", &packages),
            Language::Python => {
                command.arg("-B").arg(scripts.join("play.py")).env("PYTHONPATH", packages.join("python"))
            }
        };
        // Nothing of this machine may stand between an SDK and Envoy.
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let input = process.stdin.take().expect("it is piped");
        let output = process.stdout.take().expect("it is piped");
        let waiting = Waiting::default();
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no answer: {line}"));
                let id = answer["id"].as_u64().unwrap_or_else(|| panic!("no id: {line}"));
                if let Some(caller) = answered.lock().expect("nobody panics with it").remove(&id) {
                    // Whoever asked may have gone.
                    let _ = caller.send(Saw::read(&answer));
                }
            }
        });
        Self { _process: process, input, called: 0, waiting }
    }

    /// Begins a call; what its user sees comes later.
    pub(crate) async fn call(&mut self, to: SocketAddr, call: Call<'_>) -> impl Future<Output = Saw> + use<> {
        let (sender, receiver) = oneshot::channel();
        self.called += 1;
        self.waiting.lock().expect("nobody panics with it").insert(self.called, sender);
        let Call { client, item, key, timeout } = call;
        let line = json!({
            "id": self.called, "client": client, "url": format!("http://{to}"),
            "item": item, "key": key, "timeout": timeout,
        });
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("the player has ended");
        let what = format!("what the user of {client} sees");
        async move { patiently(&what, receiver).await.expect("the player has ended") }
    }
}

impl Saw {
    fn read(answer: &Value) -> Self {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match answer.get("returned") {
            Some(returned) => Self::Returned(text(returned)),
            None => Self::Raised { class: text(&answer["raised"]), text: text(&answer["text"]) },
        }
    }

    /// `returned X`, or `raised CLASS`, with the problem that its text tells of, if it does.
    pub(crate) fn in_words(&self) -> String {
        /// Of each detail what tells it from others.
        const DETAILS: [(&str, &str); 4] = [
            ("key-reused", "Use a new key for a new operation"),
            ("outcome-unknown", "may or may not have been"),
            ("request-in-flight", "still running"),
            ("response-not-kept", "Look up the resource to see the result"),
        ];

        match self {
            Self::Returned(returned) => format!("returned {returned}"),
            Self::Raised { class, text } => {
                let problem = DETAILS.iter().find(|(name, detail)| text.contains(name) || text.contains(detail));
                problem.map_or_else(|| format!("raised {class}"), |(name, _)| format!("raised {class}: {name}"))
            }
        }
    }
}
