//! Which worlds are the same.

use std::{
    collections::hash_map::DefaultHasher,
    fmt,
    hash::{Hash, Hasher},
};

use super::World;
use crate::proof::{memory::Said, scenario::Mutation};

/// What can make a difference, and nothing else.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.now, &self.server, &self.messages, &self.attempts, self.faults).hash(hasher);
        (&self.history, &self.breach).hash(hasher);
        for envoy in &self.envoys {
            envoy.shared_data.hash_values(hasher);
            for seat in &envoy.workers {
                (&seat.worker, &seat.mailbox).hash(hasher);
                let mut tape: &[Said] = &[];
                if let Some(callback) = &seat.callback {
                    (&callback.occasion, callback.began).hash(hasher);
                    tape = &callback.tape;
                }
                envoy.shared_data.hash_tape(tape, hasher);
                match seat.worker.remembers() {
                    Some((_, held)) if self.scenario.mutation == Some(Mutation::StaleReplay) => held.hash(hasher),
                    Some(remembered) => envoy.shared_data.hash_remembered(remembered, tape, hasher),
                    None => {}
                }
                seat.callback.is_some().hash(hasher);
            }
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl World {
    /// Names the state.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Debug for World {
    /// Enough to follow a counterexample.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("age", &self.age())
            .field("attempts", &self.attempts)
            .field("breach", &self.breach)
            .finish_non_exhaustive()
    }
}
