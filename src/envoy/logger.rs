//! Where log lines and panics go: to the host's log.

use std::panic;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::host::{self, Severity};

/// Opens the log, at a level that hides nothing an operator may look for before the host has said its own.
pub(super) fn open() {
    // It fails if there is a logger already, which is then this one.
    let _ = log::set_logger(&HostLog);
    log::set_max_level(LevelFilter::Debug);
    // A panic ends the VM; without this line nobody would know why.
    panic::set_hook(Box::new(|info| host::log(Severity::Critical, &info.to_string())));
}

/// Lets through to the host what it would log. It says so now and then only, as the level may change at any time.
pub(super) fn follow_host_level() {
    log::set_max_level(host::log_level());
}

struct HostLog;

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let severity = match record.level() {
                Level::Trace => Severity::Trace,
                Level::Debug => Severity::Debug,
                Level::Info => Severity::Info,
                Level::Warn => Severity::Warn,
                Level::Error => Severity::Error,
            };
            host::log(severity, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
