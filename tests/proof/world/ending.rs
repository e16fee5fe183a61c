//! How it ends.

use std::sync::Arc;

use super::{Action, Client, Progress, World};
use crate::proof::{
    history::{AttemptId, Breach, Promise, Terms as _, breach},
    scenario::{Conduct, Faults, Place, millis},
};

impl World {
    /// Lets everything come to its end without further faults, and sees whether each request is answered
    /// and each key is free again when the contract says so.
    pub(crate) fn come_to_an_end(&self) -> Result<(), Breach> {
        let mut world = self.clone();
        world.faults = Faults::default();
        // What costs most: nobody compares the states on this way.
        Arc::make_mut(&mut world.scenario).tells_states_apart = false;
        world.come_to_rest()?;
        let operations: Vec<(usize, Place)> = world.operations_in_use();
        world.now += world.scenario.lease() + world.scenario.late() + 1;
        for (attempt, place) in &operations {
            let probe = world.probe(*attempt, *place)?;
            if world.attempts[probe].answer == Some("idemgate_request_in_flight") {
                return breach(Promise::ClaimEnds, format!("the key of attempt {attempt} is in flight for ever"));
            }
            let operation = world.operation(*attempt, *place);
            if world.attempts[probe].answer == Some("idemgate_outcome_unknown")
                && self.scenario.leaves_no_claim_behind()
                && !world.history.has_run_any(operation)
            {
                return breach(
                    Promise::ClaimEnds,
                    format!("the key of attempt {attempt} is unknown, and nobody ran it"),
                );
            }
        }
        world.now += world.scenario.lease() + world.scenario.ttl() + world.scenario.late() + 1;
        for (attempt, place) in &operations {
            let probe = world.probe(*attempt, *place)?;
            let is_full = matches!(world.attempts[probe].answer, Some("idemgate_store_full" | "idemgate_over_share"));
            if !world.history.has_run(probe) && !is_full {
                return breach(Promise::ClaimEnds, format!("the key of attempt {attempt} is never free again"));
            }
        }
        Ok(())
    }

    /// The first attempt for each operation that was asked for, and a worker to ask again.
    fn operations_in_use(&self) -> Vec<(AttemptId, Place)> {
        let mut seen = Vec::new();
        let mut found = Vec::new();
        for attempt in 0..self.attempts.len() {
            if let Some(place) = self.place_of(attempt) {
                let operation = self.operation(attempt, place);
                if !seen.contains(&operation) {
                    seen.push(operation);
                    found.push((attempt, place));
                }
            }
        }
        found
    }

    /// Asks once more what an attempt asked for.
    fn probe(&mut self, attempt: AttemptId, place: Place) -> Result<AttemptId, Breach> {
        let scenario = Arc::make_mut(&mut self.scenario);
        let probe = scenario.attempts.len();
        scenario.attempts.push(scenario.attempts[attempt].clone());
        self.attempts.push(Progress::default());
        self.try_to_take(Action::Begin(probe, place))?;
        self.come_to_rest()?;
        Ok(probe)
    }

    /// Goes on, with a network and a service that work, until nothing is left to do.
    fn come_to_rest(&mut self) -> Result<(), Breach> {
        let patience = 4 * (self.scenario.lease() + millis(self.scenario.policy.duplicates.wait_timeout) + 1000);
        let patience = patience + LATE_REST;
        let until = self.now + patience;
        let mut actions = Vec::new();
        while self.now < until {
            actions.clear();
            self.actions(&mut actions);
            actions.retain(|action| !matches!(action, Action::Begin(..) | Action::Cut(_)));
            let next = actions.iter().min_by_key(|action| match action {
                Action::Step(_) => 0,
                Action::Arrive(_) => 1,
                Action::Reply(_) => 2,
                Action::TimeOut(_) => 3,
                Action::Wake(_) => 4,
                Action::Answer(..) => 5,
                Action::Finish(_) => 6,
                _ => 7,
            });
            match next {
                Some(Action::Answer(attempt, _)) => self.answer(*attempt, Conduct::Answers)?,
                Some(action) => self.try_to_take(*action)?,
                None if self.is_at_rest() => return Ok(()),
                None if self.scenario.wakes_all() && self.attempts.iter().any(|it| it.client == Client::Waits) => {
                    return breach(Promise::Answer, format!("nobody wakes who waits: {:?}", self.attempts));
                }
                None => self.now += self.next_deadline().unwrap_or(POLL).clamp(1, POLL),
            }
        }
        breach(Promise::Answer, format!("there is no end to it: {:?}", self.attempts))
    }

    fn is_at_rest(&self) -> bool {
        self.attempts.iter().all(|progress| progress.client != Client::Waits)
            && self.seats().all(|(_, seat)| seat.worker.is_empty())
    }
}

/// How long the end of an execution rests that is recorded late (`inquiry.rs`), in milliseconds.
const LATE_REST: u64 = 10_000;

/// How far time is moved on when nothing else can happen, in milliseconds.
const POLL: u64 = 100;
