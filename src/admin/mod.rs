//! The role `admin`: what an operator may ask of single operations, and how they are told.
//!
//! Like the exchange it knows no proxy: requests come in as fields and bytes, answers go out as such, and what is to be
//! asked of the store is a [`Task`]. Who may ask is decided first ([`guard`]), and a refusal says nothing of any record.
//! Keys and callers come in bodies, never in a path, because paths are logged; answers have neither, nor anything else
//! that a caller sent or got.

mod answer;
mod guard;
mod json;
mod problem;
mod request;

pub use answer::{AdminAnswer, ChangeMade};
pub use guard::{Origin, Refusal};
pub use problem::AdminProblem;
pub use request::{AdminRoute, LONGEST_BODY, Task};

#[cfg(test)]
mod tests;
