//! What the guest costs its host: how often it asks for memory, and which calls it makes.
//!
//! The counting allocator is this whole binary's. It counts for one thread while that thread is in guest code, which
//! `vm.rs` and `imports.rs` tell it: from a callback to its end, without what the host does in between for itself. What
//! the host hands over in memory of the guest counts, as it does in wasm.

#![expect(unsafe_code, reason = "an allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

/// What was counted of a guest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cost {
    /// How often it asked for memory, or for more of it.
    pub(crate) allocations: usize,
    /// How often for at least [`LARGE`] bytes at once: as often as a large body was copied, and room made for it.
    pub(crate) large: usize,
    /// How many host calls of each name it made.
    pub(crate) calls: BTreeMap<&'static str, usize>,
}

/// From how many bytes on memory holds more than fields, keys and small records.
pub(crate) const LARGE: usize = 8 << 10;

/// Which side of the ABI runs on this thread; the other one again once it is dropped.
#[must_use]
pub(crate) struct Side {
    was_guest: bool,
}

/// The guest's code begins.
pub(crate) fn guest() -> Side {
    Side { was_guest: IN_GUEST.replace(true) }
}

/// The guest calls its host.
pub(crate) fn host_call(name: &'static str) -> Side {
    let side = host();
    if side.was_guest {
        CALLS.with_borrow_mut(|calls| *calls.entry(name).or_default() += 1);
    }
    side
}

/// Takes what was counted on this thread so far; the counters begin anew.
pub(crate) fn take() -> Cost {
    Cost { allocations: ALLOCATIONS.take(), large: LARGE_ALLOCATIONS.take(), calls: CALLS.take() }
}

fn host() -> Side {
    Side { was_guest: IN_GUEST.replace(false) }
}

impl Drop for Side {
    fn drop(&mut self) {
        IN_GUEST.set(self.was_guest);
    }
}

thread_local! {
    // Plain cells, without a destructor: the allocator reads them at any time in the life of a thread.
    static IN_GUEST: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LARGE_ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static CALLS: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(size: usize) {
    if IN_GUEST.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LARGE_ALLOCATIONS.set(LARGE_ALLOCATIONS.get() + usize::from(size >= LARGE));
    }
}

// SAFETY: the system's allocator, with a number kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}
