//! What is to be sent, and what was sent and is not answered yet.
//!
//! Streams cannot make calls themselves: the host files a call under the context that is in effect when it is made, and
//! drops the answer if that context is gone. So a stream leaves here what is to be sent, and the root context sends it.

use std::collections::{BTreeMap, VecDeque};

/// A queue of what is to be sent, and for each call under way, by the host's token, who gets the answer.
#[derive(Clone, Debug)]
pub struct Outbox<Q, T> {
    /// What is to be sent.
    pub queue: Q,
    under_way: BTreeMap<u32, T>,
}

impl<Q: Default, T> Default for Outbox<Q, T> {
    fn default() -> Self {
        Self::new(Q::default())
    }
}

impl<Q, T> Outbox<Q, T> {
    /// Nothing is under way yet.
    pub const fn new(queue: Q) -> Self {
        Self { queue, under_way: BTreeMap::new() }
    }

    /// Notes that a call is under way.
    pub fn sent(&mut self, token: u32, to: T) {
        self.under_way.insert(token, to);
    }

    /// Whether the call with this token is one of these.
    #[must_use]
    pub fn awaits(&self, token: u32) -> bool {
        self.under_way.contains_key(&token)
    }

    /// Takes out who gets the answer with this token.
    pub fn answered(&mut self, token: u32) -> Option<T> {
        self.under_way.remove(&token)
    }

    /// Those that are under way, by their tokens.
    pub fn under_way(&self) -> impl ExactSizeIterator<Item = (&u32, &T)> {
        self.under_way.iter()
    }
}

impl<J, T> Outbox<VecDeque<J>, T> {
    /// Whether nothing is to be sent or under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_empty()
    }
}
