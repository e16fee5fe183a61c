//! The rules of a record as Redis applies them: one script for each kind of call, each of one key.
//!
//! A script is atomic, its clock is Redis's own, and it needs one round trip. It is sent whole each time
//! (`EVAL`): Redis keeps it compiled, and no restart, failover or `SCRIPT FLUSH` can make it unknown.
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
