//! What every transition needs besides its state.

use std::sync::Arc;

use super::{
    effect::{Effect, Notice},
    outcome,
    outgoing::Outgoing,
    problem::Problem,
    reply::Reply,
    state::State,
    vocabulary::{Counter, EXPIRES_HEADER, POLICY_HEADER, STATUS_HEADER, Status},
};
use crate::{
    config::Policy,
    headers::Headers,
    store::{Scarce, StoreError},
    time::Now,
};

/// What a transition needs besides its state.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) policy: &'a Policy,
    pub(super) now: &'a Now,
    pub(super) room: u64,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    pub(super) fn refuse(&mut self, problem: &Problem) -> State {
        self.count(problem.counter());
        self.tell(problem.status());
        self.reply(problem.reply(self.policy))
    }

    /// Tells the operator that a caller has its share; the problem for its request.
    pub(super) fn over_share(&mut self, scarce: Scarce) -> Problem {
        self.effects.push(Effect::Notice(Notice::OverShare(scarce)));
        Problem::OverShare(scarce)
    }

    pub(super) fn reply(&mut self, reply: Reply) -> State {
        State::Replied(self.send(reply))
    }

    /// Answers the client; the reply as it is on its way.
    pub(super) fn send(&mut self, reply: Reply) -> Outgoing {
        let reply = Arc::new(reply);
        self.effects.push(Effect::Reply(Arc::clone(&reply)));
        Outgoing::new(reply)
    }

    /// Puts `status` on the upstream's response, and takes off what is meant for the filter alone, or only it may say.
    pub(super) fn mark(&mut self, status: Status, headers: &Headers) {
        self.tell(status);
        self.note_policy_word(headers);
        let replaced = self.policy.status_header.then_some(STATUS_HEADER);
        for name in [POLICY_HEADER, EXPIRES_HEADER, &self.policy.replay.header].into_iter().chain(replaced) {
            if headers.get(name).is_some() {
                self.effects.push(Effect::RemoveResponseHeader(name.to_owned()));
            }
        }
        if self.policy.status_header {
            self.effects.push(Effect::AddResponseHeader(STATUS_HEADER, status.as_str()));
        }
    }

    /// Tells of a word by which the upstream means to steer its response, and does not.
    pub(super) fn note_policy_word(&mut self, headers: &Headers) {
        if let Some(word) = outcome::unknown_policy_word(headers) {
            let word = String::from_utf8_lossy(word).chars().take(LONGEST_WORD_SHOWN).collect();
            self.count(Counter::OutcomesPolicyIgnored);
            self.effects.push(Effect::Notice(Notice::UnknownPolicyWord(word)));
        }
    }

    pub(super) fn warn(&mut self, error: StoreError) {
        self.count(Counter::StoreErrors);
        self.effects.push(Effect::WarnStore(error));
    }

    pub(super) fn tell(&mut self, status: Status) {
        self.effects.push(Effect::Tell(status));
    }

    pub(super) fn count(&mut self, counter: Counter) {
        self.effects.push(Effect::Count(counter));
    }

    /// Whether the exchange may take so much more.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.room
    }
}

/// How many characters of a word of the upstream's a log line has.
const LONGEST_WORD_SHOWN: usize = 40;
