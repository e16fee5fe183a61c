//! The rules of a record as Redis applies them: one script for each kind of call, each of one key.
//!
//! A script is atomic, its clock is Redis's own, and it needs one round trip. Over a connection of its own each call sends
//! it whole (`EVAL`). Over a persistent one it is called by its hash (`EVALSHA`); a server that does not know it, since
//! it was restarted or has taken over, says so, has done nothing, and is sent it whole, which makes it known.
//! Scripts that read the clock and then write need Redis 5 or newer, or Valkey.

/// The scripts, ready to be sent.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) claim: String,
    pub(super) renew: String,
    pub(super) settle: String,
    // For operators.
    pub(super) look: String,
    pub(super) amend: String,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            claim: without_comments(include_str!("claim.lua")),
            renew: without_comments(include_str!("renew.lua")),
            settle: without_comments(include_str!("settle.lua")),
            look: without_comments(include_str!("look.lua")),
            amend: without_comments(include_str!("amend.lua")),
        }
    }
}

impl Scripts {
    /// The hash by which Redis knows a script of an owner's.
    pub(super) fn hash_of(&self, script: &str) -> Option<&'static str> {
        self.hashed().into_iter().find_map(|(own, hash)| (own == script).then_some(hash))
    }

    /// The script with this hash.
    pub(super) fn with_hash(&self, hash: &[u8]) -> Option<&str> {
        self.hashed().into_iter().find_map(|(own, known)| (known.as_bytes() == hash).then_some(own))
    }

    /// What `SCRIPT LOAD` answers for each, which a test asks it (tests/redis_store.rs).
    fn hashed(&self) -> [(&str, &'static str); 3] {
        [(&self.claim, CLAIM), (&self.renew, RENEW), (&self.settle, SETTLE)]
    }

    /// Whether `script` is one of them.
    pub(super) fn have(&self, script: &[u8]) -> bool {
        let Self { claim, renew, settle, look, amend } = self;
        [claim, renew, settle, look, amend].iter().any(|own| own.as_bytes() == script)
    }
}

/// What is only for readers goes over the wire with each call; it need not.
fn without_comments(script: &str) -> String {
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.starts_with("--")).collect();
    lines.join("\n")
}

const CLAIM: &str = "fad9cca226f5aba98cd97530306201669e1bc640";
const RENEW: &str = "848118d7c1a047b1bdd03cae0e7564ef3bee84d3";
const SETTLE: &str = "bf7f4f51355b7f5cd739e61abd7df72e4ca584b8";
