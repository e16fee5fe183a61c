//! How much memory an exchange takes, in the filter and in Envoy because of it.
//!
//! It is a figure of the state alone: whatever ends a state gives back what it took, and nothing has to be counted on the
//! way. What a state is about to take more is held against the room that is left (`Step::has_room`).

use super::state::{Answering, Client, GuardedRequest, Name, State};
use crate::config::{BodyFingerprint, Policy};

/// What a request takes that is held, besides its fields and its body: its stream in Envoy and in the filter. 10,000 that
/// wait took 12 KB each, over HTTP/2 (docs/guarantees.md).
pub const HELD_REQUEST: u64 = 16 << 10;

/// What is set aside for the answer to a detached call, besides the call itself. Of a larger one the rest is counted once
/// it is there: Envoy collects it, and does not say how far it is.
pub const CALL_ANSWER: u64 = 64 << 10;

impl State {
    /// How many bytes it takes.
    pub(super) fn footprint(&self) -> u64 {
        match self {
            Self::AwaitBody(state) => state.request.reserve() + state.request.body.saturating_mul(state.copies),
            Self::AwaitClaim(state) | Self::AwaitAbandonedClaim(state) => state.request.footprint(),
            // Of those who wait for their turn, most never make a call.
            Self::AwaitTurn(state) => state.request.held + state.request.footprint_of_body(),
            Self::AwaitCall(state) => {
                // The call has a copy of the body, and as long as the client waits, Envoy holds it as well.
                let copies = if state.client == Client::Waits { 2 } else { 1 };
                state.held + CALL_ANSWER + state.body.saturating_mul(copies)
            }
            Self::Settling(state) => match &state.answer {
                Answering::Owed(reply) => HELD_REQUEST + reply.footprint(),
                Answering::Sent(reply) => reply.footprint(),
                Answering::Passing | Answering::Held | Answering::Done => 0,
            },
            Self::Replied(reply) => reply.footprint(),
            Self::AwaitEnd(_) | Self::AwaitText(_) => self.captured(),
            Self::Idle | Self::AwaitResponse(_) | Self::Bypassed | Self::Finished => 0,
        }
    }

    /// What has been copied of the response.
    pub(super) fn captured(&self) -> u64 {
        match self {
            Self::AwaitEnd(state) => state.capture.footprint() + state.headers.byte_len() as u64,
            Self::AwaitText(state) => (state.text.capacity() + state.headers.byte_len()) as u64,
            _ => 0,
        }
    }
}

impl<N> GuardedRequest<N> {
    /// What it takes in any case, as long as it is held.
    pub(super) fn reserve(&self) -> u64 {
        self.held + if self.call.is_some() { CALL_ANSWER } else { 0 }
    }
}

impl GuardedRequest<Name> {
    /// How often its body is in memory: Envoy holds it, a call has one of its own, and so has what reads JSON, and what
    /// looks for a key in it if no call has it.
    pub(super) fn copies(&self, policy: &Policy) -> u64 {
        let is_json = matches!(policy.fingerprint.body, BodyFingerprint::Json { .. });
        1 + u64::from(self.call.is_some()) + u64::from(is_json) + u64::from(self.keeps_text(policy))
    }

    /// Whether the body is kept for the key that may be in it.
    pub(super) fn keeps_text(&self, policy: &Policy) -> bool {
        matches!(self.name, Name::Open(_)) && self.call.is_none() && !policy.key.pointers.is_empty()
    }
}

impl GuardedRequest {
    /// What it takes as long as it is not known whether it runs.
    pub(super) fn footprint(&self) -> u64 {
        self.reserve() + self.footprint_of_body()
    }

    /// It is read by now.
    fn footprint_of_body(&self) -> u64 {
        self.body.saturating_mul(if self.call.is_some() { 2 } else { 1 })
    }
}
