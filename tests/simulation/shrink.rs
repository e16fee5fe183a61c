//! The shortest way to the same breach that can be found in reasonable time.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    proof::{
        history::{Promise, Terms as _},
        world::{Action, World},
    },
    walk::Walk,
};

/// How many ways are tried.
const PATIENCE: usize = 3_000;

/// Leaves out steps, many at once and then one by one, as long as the same promise is broken.
pub(crate) fn shrink(walk: Walk) -> Walk {
    let Some(promise) = walk.breach.as_ref().map(|breach| breach.promise) else { return walk };
    let mut best = walk;
    let mut tries = 0;
    let mut length = best.actions.len().div_ceil(2).max(1);
    loop {
        let mut has_shrunk = false;
        let mut start = 0;
        while start < best.actions.len() && tries < PATIENCE {
            tries += 1;
            let end = (start + length).min(best.actions.len());
            let rest: Vec<Action> = [&best.actions[..start], &best.actions[end..]].concat();
            match attempt(&best, &rest, promise) {
                Some(shorter) => {
                    best = shorter;
                    has_shrunk = true;
                }
                None => start = end,
            }
        }
        if length == 1 && !has_shrunk || tries >= PATIENCE {
            return best;
        }
        length = if has_shrunk { length } else { length.div_ceil(2) };
        length = length.min(best.actions.len().max(1));
    }
}

fn attempt(best: &Walk, actions: &[Action], promise: Promise) -> Option<Walk> {
    let walk = Walk::again(&best.scenario, actions);
    let is_same = walk.breach.as_ref().is_some_and(|breach| breach.promise == promise);
    (is_same && walk.actions.len() < best.actions.len()).then_some(walk)
}

/// What happened, for a reader.
pub(crate) fn story(walk: &Walk) -> String {
    let mut story = String::new();
    let scenario = &walk.scenario;
    let _ = write!(story, "{} Envoys with {} workers, {:?}", scenario.envoys, scenario.workers, scenario.store);
    let _ = if scenario.is_remote() { writeln!(story, ", {:?}", scenario.server) } else { writeln!(story) };
    let _ = writeln!(
        story,
        "lease {} ms, ttl {} ms, on_unknown {:?}, {:?}, {:?}, on_store_error {:?}, clocks ahead {:?}, mutation {:?}",
        scenario.lease(),
        scenario.ttl(),
        scenario.policy.outcome.on_unknown,
        scenario.policy.execution.mode,
        scenario.policy.duplicates,
        scenario.policy.on_store_error,
        scenario.skews,
        scenario.mutation,
    );
    let mut world = World::new(Arc::clone(scenario));
    for action in &walk.actions {
        if let Action::Begin(attempt, _) = action {
            let request = &scenario.attempts[*attempt];
            let _ = writeln!(
                story,
                "           attempt {attempt}: client {}, caller {}, key {}, body {}",
                request.client, request.caller, request.key, request.body
            );
        }
        world.take(*action);
        let _ = writeln!(story, "{:>8} ms {action:?}", world.age());
    }
    let _ = match &walk.breach {
        Some(breach) => writeln!(story, "{:?} is broken: {}", breach.promise, breach.how),
        None => writeln!(story, "every promise is kept"),
    };
    story
}
