//! What one worker does with the exchanges under one configuration: it hands them events, carries out what they ask for,
//! lets them wait for each other, asks the store and calls upstreams for them, and looks after them as time passes.
//!
//! It knows no proxy: what it needs of one is a [`Host`]. Its state is plain data, so that a test may copy a worker, or
//! compare two. In Envoy the host is `crate::envoy`; in `tests/proof/` a simulated network, clock and store are.

mod active;
mod answers;
mod body_watch;
mod drive;
mod host;
mod inquiries;
mod memory;
mod outbox;
mod root;
mod state;
mod streams;
mod turns;
mod waiting_room;

pub use self::{
    active::ActiveExchange,
    answers::CallAnswer,
    drive::{Actions, Passage},
    host::{About, ExchangeId, Host, Report, StoreReply},
    inquiries::PendingInquiry,
    outbox::Outbox,
    state::{Worker, WorkerLimits},
    streams::Opening,
    turns::Turns,
    waiting_room::POLL,
};
