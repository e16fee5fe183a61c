//! The record of one operation: what is in it, its rules, its bytes.

mod codec;
mod operator;
mod owner;
mod response;
mod rules;

pub use codec::{CodecError, FORMAT_VERSION};
pub(crate) use codec::{decode_head, encode_into};
// For the stores, and for the fuzzers; nobody else has a use for them.
#[doc(hidden)]
pub use codec::{decode, encode};
pub use operator::{Amended, Amendment, Conflict, Verb, View};
pub use owner::Owner;
pub use response::StoredResponse;
pub(crate) use rules::RENEWALS_PER_LEASE;
pub use rules::{Claim, Decision, Ending, Fenced, KeptResponse, Mailbox, Phase, Record, Standing};

#[cfg(test)]
mod tests;
