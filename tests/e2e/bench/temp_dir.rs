//! A directory that goes away with the test that made it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A new, empty directory; removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct TempDir {
    path: PathBuf,
    is_kept: bool,
}

impl TempDir {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);

        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("idemgate-e2e-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self { path, is_kept: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It stays when it is dropped, for somebody to look into it.
    pub(crate) fn keep(&mut self) -> &Path {
        self.is_kept = true;
        &self.path
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // What cannot be removed is left to the system: it must not turn a passed test into a failed one.
        let _ = fs::remove_dir_all(&self.path);
    }
}
