//! The store in Envoy's own shared data: common to all workers of one process, gone with it.
//!
//! The table is a fixed set of keys ([`slots`]): index buckets that hold a few small records each, and
//! one key per record for its response, so that a claim copies a few hundred bytes and never a body.
//! Every change is a compare-and-swap on one bucket, and the bucket is what counts: a response is
//! written before the bucket that points to it and emptied after the bucket that no longer does.
//!
//! What can go wrong between two steps, and what then holds:
//! - *A worker dies after taking room and before writing its record*: the totals stay too high by what
//!   it had taken ([`allowance`]); the bound still holds.
//! - *A worker dies after writing a response and before its bucket*: the response lies at a place that
//!   is still the claim's; it is overwritten by the next response there.
//! - *A worker dies before it has told what it added to its callers' counts*: the sweeper counts anew once that is found
//!   ([`shares`]).
//! - *The totals are damaged*: they are estimated, and counted anew by the sweeper ([`sweeper`]).
//! - *A late owner writes its response while a new owner does*: each has read the version of the
//!   response's key before it made sure of its claim, so the late one's write fails, or is overwritten.

mod allowance;
mod bucket;
mod horizon;
mod lease;
mod memory;
mod operator;
mod queue;
mod recent;
mod recount;
mod room;
mod shares;
mod slots;
mod store;
mod sweeper;
mod totals;

pub use horizon::Forgotten;
pub use lease::Lease;
pub use memory::{Cas, Change, SharedMemory, Written, update, update_hint};
pub use operator::TableScan;
// For test benches, which keep it from one callback to the next.
#[doc(hidden)]
pub use recent::Recent;
pub use store::{SharedDataStore, Tally};
pub use sweeper::Sweep;
pub use totals::Totals;

#[cfg(test)]
mod tests;
