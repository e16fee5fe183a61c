//! How much memory an exchange takes, in the filter and in Envoy because of it.
//!
//! It is a figure of the state alone: whatever ends a state gives back what it took, and nothing has to be counted on the
//! way. What a state is about to take more is held against the room that is left ([`Step::has_room`]).

use super::{Exchange, State, Step};

/// What a request takes that is held, besides its fields and its body: its stream in Envoy and in the filter. 10,000 that
/// wait took 12 KB each, over HTTP/2 (docs/guarantees.md).
pub const HELD_REQUEST: u64 = 16 << 10;

/// What is set aside for the answer to a detached call, besides the call itself. Of a larger one the rest is counted once
/// it is there: Envoy collects it, and does not say how far it is.
pub const CALL_ANSWER: u64 = 64 << 10;

impl Exchange {
    /// How many bytes it takes now.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        if let Some(shadow) = &self.shadow {
            // Nothing is held, and nothing is answered.
            return shadow.footprint() + self.captured();
        }
        self.captured()
            + match &self.state {
                State::AwaitBody(state) => state.footprint(),
                State::AwaitClaim(state) | State::AwaitMootClaim(state) => state.footprint(),
                State::AwaitTurn(state) => state.footprint(),
                State::AwaitCall(state) => state.footprint(),
                State::Settling(state) => state.footprint(),
                State::Replied(reply) => reply.footprint(),
                State::Idle
                | State::AwaitResponse(_)
                | State::AwaitEnd(_)
                | State::AwaitText(_)
                | State::Bypassed
                | State::Finished => 0,
            }
    }

    /// What has been copied of the response.
    fn captured(&self) -> u64 {
        match &self.state {
            State::AwaitEnd(state) => state.footprint(),
            State::AwaitText(state) => state.footprint(),
            _ => 0,
        }
    }

    /// Says how much more may be taken than is taken now; as much as there is, if nobody says.
    pub fn set_room(&mut self, room: u64) {
        self.room = room;
    }
}

impl Step<'_> {
    /// Whether the exchange may take so much more.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.room
    }
}
