//! The contexts of one worker's VM, by the numbers that the host has for them.
//!
//! Like the dispatcher of the Rust SDK, with two differences. An unknown context id is ignored rather than a panic, which
//! would end the VM. And a context ends with `proxy_on_done`: `proxy_on_delete` is not exported, because each callback
//! costs every request something, and nothing follows it.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    context::{Action, HttpContext},
    root::Root,
};

/// All contexts that the host has told of and not ended.
pub(super) struct Contexts {
    roots: RefCell<BTreeMap<u32, Root>>,
    streams: RefCell<BTreeMap<u32, Stream>>,
}

struct Stream {
    context: Box<dyn HttpContext>,
    /// Its last word has been said.
    is_logged: bool,
}

impl Contexts {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { roots: RefCell::new(BTreeMap::new()), streams: RefCell::new(BTreeMap::new()) }
    }

    /// Begins a context: of a stream that belongs to `parent`, or a root context if that is 0.
    pub(super) fn create(&self, id: u32, parent: u32) {
        if parent == 0 {
            self.roots.borrow_mut().insert(id, Root::new(id));
        } else if let Some(root) = self.roots.borrow().get(&parent) {
            let context = root.create_stream(id);
            self.streams.borrow_mut().insert(id, Stream { context, is_logged: false });
        }
    }

    /// Lets a root context work; what it says, or nothing if there is none.
    pub(super) fn with_root<R>(&self, id: u32, work: impl FnOnce(&mut Root) -> R) -> Option<R> {
        let mut roots = self.roots.borrow_mut();
        let root = roots.get_mut(&id)?;
        let result = work(root);
        if root.is_over() {
            roots.remove(&id);
        }
        Some(result)
    }

    /// Hands a part of a message to its stream. A stream that nobody knows, which Envoy never showed, is held: to let
    /// its request pass would be to run it unguarded.
    pub(super) fn with_stream(&self, id: u32, hear: impl FnOnce(&mut dyn HttpContext) -> Action) -> Action {
        match self.streams.borrow_mut().get_mut(&id) {
            Some(stream) => hear(&mut *stream.context),
            None => Action::Pause,
        }
    }

    /// Lets a stream say its last word.
    pub(super) fn log(&self, id: u32) {
        if let Some(stream) = self.streams.borrow_mut().get_mut(&id) {
            stream.log();
        }
    }

    /// Ends a context; `false` if it has calls under way, and will say itself when it needs no more time.
    ///
    /// Envoy has logged a stream before; the text of the ABI has it the other way round.
    pub(super) fn end(&self, id: u32) -> bool {
        if let Some(mut stream) = self.streams.borrow_mut().remove(&id) {
            stream.log();
            return true;
        }
        self.with_root(id, Root::on_done).unwrap_or(true)
    }
}

impl Stream {
    fn log(&mut self) {
        if !std::mem::replace(&mut self.is_logged, true) {
            self.context.on_log();
        }
    }
}
