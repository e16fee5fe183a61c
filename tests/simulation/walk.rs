//! One way through a world: each step is chosen by the seed.

use std::sync::Arc;

use crate::{
    plan::{Plan, Wish},
    proof::{
        history::{Breach, Terms as _},
        scenario::{Conduct, Scenario},
        world::{Action, World},
    },
    random::Random,
};

/// What happened.
pub(crate) struct Walk {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) actions: Vec<Action>,
    pub(crate) world: World,
    /// The promise that was broken on the way or at the end.
    pub(crate) breach: Option<Breach>,
}

impl Walk {
    /// The world of a seed.
    pub(crate) fn of_seed(seed: u64, wish: Wish) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random, wish);
        let scenario = Arc::new(plan.scenario);
        let mut world = World::new(Arc::clone(&scenario));
        let mut actions = Vec::new();
        for _ in 0..plan.steps {
            let Some(action) = choose(&world, plan.misfortune, &mut random) else { break };
            world.take(action);
            actions.push(action);
        }
        Self::ended(scenario, actions, world)
    }

    /// The same steps, without those that cannot be taken.
    pub(crate) fn again(scenario: &Arc<Scenario>, actions: &[Action]) -> Self {
        let mut world = World::new(Arc::clone(scenario));
        let mut taken = Vec::new();
        for action in actions.iter().copied() {
            if world.can(action) {
                world.take(action);
                taken.push(action);
            }
        }
        Self::ended(Arc::clone(scenario), taken, world)
    }

    fn ended(scenario: Arc<Scenario>, actions: Vec<Action>, world: World) -> Self {
        let breach = world.breach().cloned();
        let at_the_end = || world.come_to_an_end().err().filter(|_| scenario.is_to_end_well());
        let breach = breach.or_else(at_the_end);
        Self { scenario, actions, world, breach }
    }
}

/// The next step, if there is one.
fn choose(world: &World, misfortune: u64, random: &mut Random) -> Option<Action> {
    let mut actions = Vec::new();
    world.actions(&mut actions);
    let (faults, mut others): (Vec<_>, Vec<_>) =
        actions.into_iter().map(|action| (action, weight(action))).partition(|(action, _)| is_a_fault(*action));
    if !faults.is_empty() && random.chance(misfortune) {
        return random.weighted(&faults);
    }
    let time = passing(world, random);
    if world.may_advance(time) {
        others.push((Action::Advance(time), 20));
    }
    random.weighted(&others)
}

/// How much time may pass now: a moment, the time until a reply is given up on, or part of a lease.
fn passing(world: &World, random: &mut Random) -> u64 {
    let lease = world.scenario.lease();
    match random.below(10) {
        0 => world.next_deadline().unwrap_or(lease).max(1),
        1 => lease / 3 + random.below(lease),
        2 => world.scenario.ttl() / 2,
        3..6 => 50 + random.below(50),
        _ => 1 + random.below(10),
    }
}

fn is_a_fault(action: Action) -> bool {
    match action {
        Action::StepAndDie(_)
        | Action::Die(_)
        | Action::Restart(_)
        | Action::Sweep(_)
        | Action::Cut(_)
        | Action::HangUp(_)
        | Action::Lose(_)
        | Action::Reset(_)
        | Action::Refuse(_)
        | Action::Decline(_)
        | Action::Flush => true,
        Action::Begin(..)
        | Action::Step(_)
        | Action::Tick(_)
        | Action::Wake(_)
        | Action::Answer(..)
        | Action::Finish(_)
        | Action::Arrive(_)
        | Action::Reply(_)
        | Action::TimeOut(_)
        | Action::Advance(_) => false,
    }
}

fn weight(action: Action) -> u64 {
    match action {
        Action::Begin(..) => 4,
        Action::Step(_) => 30,
        Action::Answer(_, Conduct::Answers) | Action::Finish(_) => 8,
        Action::Answer(..) => 2,
        _ => 10,
    }
}
