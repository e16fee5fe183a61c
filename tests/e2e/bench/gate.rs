//! What holds an upstream's answer back until the test says so, instead of a sleep that hopes to be long enough.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Closed when made; everything that waits for it goes on once it is open, and so does whatever comes later.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Never has a permit: closing it is what wakes the waiting.
    semaphore: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { semaphore: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn open(&self) {
        self.semaphore.close();
    }

    pub(crate) async fn passed(&self) {
        // The error says that the semaphore is closed, which is what this waits for.
        let _ = self.semaphore.acquire().await;
    }
}
