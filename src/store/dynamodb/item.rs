//! What DynamoDB keeps of one operation.
//!
//! ```text
//! k  B  the operation, which is the key of the table
//! s  S  how far it got: i, u, c, n, or r for the mark of what was given back
//! o  B  the owner
//! f  B  the fingerprint
//! l  N  the end of the lease, in milliseconds
//! e  N  when it expires, in seconds: the attribute for the TTL of the table
//! b  B  the seal, and the stored response; not with a mark
//! ```

use std::time::Duration;

use crate::{
    config::Node,
    store::{
        base64,
        seal::{Head, PhaseByte},
    },
    time::Timestamp,
};

/// An item, as far as its head goes unread.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Item {
    pub(super) state: u8,
    pub(super) owner: [u8; 16],
    pub(super) fingerprint: [u8; 32],
    /// Milliseconds.
    pub(super) lease_until: u64,
    /// Seconds.
    pub(super) expires: u64,
    /// What stands behind the head.
    pub(super) sealed: Vec<u8>,
}

impl Item {
    /// `None` if it is not one of ours.
    pub(super) fn read(item: &Node) -> Option<Self> {
        let text = |name: &str, kind: &str| item.get(name)?.get(kind)?.text();
        let number = |name: &str| text(name, "N")?.parse().ok();
        // It goes into a condition as it is.
        let [state] = text("s", "S")?.as_bytes() else { return None };
        if !state.is_ascii_lowercase() {
            return None;
        }
        let sealed = match text("b", "B") {
            Some(sealed) => base64::decode(sealed)?,
            None if item.get("b").is_none() && *state == PhaseByte::Released as u8 => Vec::new(),
            None => return None,
        };
        Some(Self {
            state: *state,
            owner: base64::decode(text("o", "B")?)?.try_into().ok()?,
            fingerprint: base64::decode(text("f", "B")?)?.try_into().ok()?,
            lease_until: number("l")?,
            expires: number("e")?,
            sealed,
        })
    }

    pub(super) fn head(&self) -> Head<'_> {
        Head { state: self.state, owner: &self.owner, fingerprint: &self.fingerprint }
    }

    /// What is left of the lease; nothing only from when on others may take the operation over.
    pub(super) fn lease_left(&self, clock: Timestamp) -> Duration {
        if self.lapses() <= clock {
            return Duration::ZERO;
        }
        // The clock has whole seconds, rounded down.
        let left = Timestamp::from_millis(self.lease_until).since(clock.after(Duration::from_secs(1)));
        left.max(Duration::from_millis(1))
    }

    /// From when on others may take the operation over.
    pub(super) fn lapses(&self) -> Timestamp {
        Timestamp::from_millis(self.lease_until).after(MARGIN)
    }

    /// How long it lives; no longer if it has expired.
    pub(super) fn lives(&self, clock: Timestamp) -> Option<Duration> {
        let left = Timestamp::from_millis(self.expires.saturating_mul(1000)).since(clock);
        (!left.is_zero()).then_some(left)
    }

    /// Whether it is a claim.
    pub(super) fn is_in_flight(&self) -> bool {
        self.state == PhaseByte::InFlight as u8
    }

    /// Whether it is the mark of what was given back.
    pub(super) fn is_mark(&self) -> bool {
        self.state == PhaseByte::Released as u8 && self.sealed.is_empty()
    }

    /// Whether it is a claim, or what is unknown of one.
    pub(super) fn is_unsettled(&self) -> bool {
        [PhaseByte::InFlight, PhaseByte::Unknown].iter().any(|phase| *phase as u8 == self.state)
    }
}

/// How much later a lease is over to others than to its owner, because their clocks may differ as long as no reply has
/// shown that one of them is wrong.
const MARGIN: Duration = Duration::from_secs(2);
