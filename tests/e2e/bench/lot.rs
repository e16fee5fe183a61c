//! Decisions at random that a seed repeats.

use std::env;

/// A source of decisions that a seed repeats (SplitMix64).
#[derive(Debug)]
pub(crate) struct Lot {
    state: u64,
}

impl Lot {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another source, for a task of its own.
    pub(crate) fn branch(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let state = self.state;
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Says how to repeat a run that has failed.
#[derive(Debug)]
pub(crate) struct AnnouncedSeed {
    pub(crate) seed: u64,
    pub(crate) test: &'static str,
}

impl Drop for AnnouncedSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: IDEMGATE_SEED={} cargo test --test e2e {}", self.seed, self.test);
        }
    }
}

/// The number that the environment variable `name` holds.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
        Err(_) => default,
    }
}
