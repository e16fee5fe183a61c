//! The table under test: one worker, several interleaved call by call, several on real threads.

mod allowance;
mod bounds;
mod calls;
mod damage;
mod effort;
mod fixture;
mod horizon;
mod memory;
mod model;
mod operator;
mod properties;
mod queue;
mod races;
mod recent;
mod room;
mod shares;
mod sweeping;
mod threads;
mod watching;
