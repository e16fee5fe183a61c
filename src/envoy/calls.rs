//! Detached calls: made by the root context, so that they outlive the stream that asked for them.
//!
//! A stream cannot make such a call itself: the SDK files a call under the context that is active when it
//! is made, and drops the answer if that context is gone. So the stream leaves the job here and rings the
//! worker's own mailbox, and the host calls the root context at once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use proxy_wasm::types::Status;

use super::guest::Guest;
use crate::exchange::Job;

/// The calls of this worker, ordered and under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    ordered: RefCell<VecDeque<(Rc<Guest>, Job)>>,
    under_way: RefCell<BTreeMap<u64, Rc<Guest>>>,
}

impl Calls {
    /// Leaves a job for the root context.
    pub(super) fn order(&self, guest: &Rc<Guest>, job: Job) {
        self.ordered.borrow_mut().push_back((Rc::clone(guest), job));
    }

    pub(super) fn next_ordered(&self) -> Option<(Rc<Guest>, Job)> {
        self.ordered.borrow_mut().pop_front()
    }

    /// Makes a call; `false` if the host says at once that it cannot be made.
    ///
    /// To be called with the root context active.
    pub(super) fn make(&self, guest: Rc<Guest>, job: &Job, timeout: Duration) -> bool {
        let length = job.body.len().to_string();
        // All of it was UTF-8 when the job was made.
        let mut headers: Vec<(&str, &str)> = job
            .headers
            .iter()
            .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)))
            .collect();
        headers.push(("content-length", &length));
        let made: Result<u32, Status> =
            proxy_wasm::hostcalls::dispatch_http_call(&job.cluster, headers, Some(&job.body), Vec::new(), timeout);
        match made {
            Ok(token) => {
                self.under_way.borrow_mut().insert(u64::from(token), guest);
                true
            }
            Err(_) => false,
        }
    }

    /// Takes out the call that `token` answers.
    pub(super) fn answered(&self, token: u32) -> Option<Rc<Guest>> {
        self.under_way.borrow_mut().remove(&u64::from(token))
    }

    pub(super) fn are_over(&self) -> bool {
        self.ordered.borrow().is_empty() && self.under_way.borrow().is_empty()
    }
}
