//! The exchange as a whole: what the contract promises, state by state, and under random events.

mod detached;
mod harness;
mod laws;
mod memory;
mod naming;
mod outcomes;
mod replays;
mod settling;
mod shadow;
mod situations;
mod states;
mod waiting;
