//! The rules of a record as Redis applies them: one script for each kind of call, each of one key.
//!
//! A script is atomic, its clock is Redis's own, and it needs one round trip. Over a connection of its own each call sends
//! it whole (`EVAL`). Over a persistent one it is called by its hash (`EVALSHA`); a server that does not know it, since
//! it was restarted or has taken over, says so, has done nothing, and is sent it whole, which makes it known.
//! Scripts that read the clock and then write need Redis 5 or newer, or Valkey.

/// The scripts, ready to be sent.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) renew: Script,
    pub(super) settle: Script,
    // For operators.
    pub(super) look: Script,
    pub(super) amend: Script,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    /// By which Redis knows it: what `SCRIPT LOAD` answers, which a test asks it (tests/redis_store.rs). Those of operators
    /// are sent whole.
    pub(super) hash: Option<&'static str>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            claim: Script::new(include_str!("claim.lua"), Some("fad9cca226f5aba98cd97530306201669e1bc640")),
            renew: Script::new(include_str!("renew.lua"), Some("848118d7c1a047b1bdd03cae0e7564ef3bee84d3")),
            settle: Script::new(include_str!("settle.lua"), Some("bf7f4f51355b7f5cd739e61abd7df72e4ca584b8")),
            look: Script::new(include_str!("look.lua"), None),
            amend: Script::new(include_str!("amend.lua"), None),
        }
    }

    /// The script with this hash.
    pub(super) fn with_hash(&self, hash: &[u8]) -> Option<&Script> {
        let mut hashed = [&self.claim, &self.renew, &self.settle].into_iter();
        hashed.find(|script| script.hash.is_some_and(|known| known.as_bytes() == hash))
    }
}

impl Script {
    fn new(text: &str, hash: Option<&'static str>) -> Self {
        Self { text: without_comments(text), hash }
    }
}

/// What is only for readers goes over the wire with each call; it need not.
fn without_comments(script: &str) -> String {
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.starts_with("--")).collect();
    lines.join("\n")
}
