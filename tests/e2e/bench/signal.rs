//! Signals to the processes that tests start.

use std::process::{Child, Command};

/// Sends SIG`name`.
pub(super) fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send SIG{name} to process {}", child.id());
}
