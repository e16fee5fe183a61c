//! A world as Stateright sees it: states, and the steps from each to the next.

use std::{fmt::Write as _, sync::Arc};

use stateright::{Checker as _, Model, Property};

use crate::proof::{
    history::Promise,
    scenario::{Place, Scenario},
    world::{Action, World},
};

/// Every world that a scenario can become.
pub(crate) struct Worlds {
    scenario: Arc<Scenario>,
    /// By which time passes, in milliseconds.
    step: u64,
    /// How often it does.
    steps: u64,
}

/// The worker with this number in the first Envoy.
pub(crate) fn worker(worker: u8) -> Option<Place> {
    Some(Place { envoy: 0, worker })
}

/// The first worker of the Envoy with this number.
pub(crate) fn envoy(envoy: u8) -> Option<Place> {
    Some(Place { envoy, worker: 0 })
}

impl Worlds {
    /// The worlds of a scenario in which time passes at most `steps` times, by `step` milliseconds each.
    pub(crate) fn new(scenario: Scenario, steps: u64, step: u64) -> Self {
        let scenario = Scenario { tells_states_apart: true, ..scenario };
        Self { scenario: Arc::new(scenario), step, steps }
    }

    /// Goes through all of them; fails with the shortest way to a promise that is not kept. There are at
    /// least `expected` states, or else the scenario is not what its test says.
    #[track_caller]
    pub(crate) fn keep_every_promise(self, expected: usize) {
        let checker = self.checker().spawn_bfs().join();
        let states = checker.unique_state_count();
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        println!("{name}: {states} states, {} steps, depth {}", checker.state_count(), checker.max_depth());
        if let Some(path) = checker.discoveries().into_values().next() {
            panic!("{}", story(&path.into_vec()));
        }
        assert!(states >= expected, "only {states} states");
    }

    /// Goes through them until each of these promises is broken; fails if one is kept in all of them.
    #[track_caller]
    pub(crate) fn break_one_of(self, promises: &[Promise]) {
        let checker = self.checker().finish_when(stateright::HasDiscoveries::Any).spawn_bfs().join();
        let Some((promise, path)) = checker.discoveries().into_iter().next() else {
            panic!("nothing was found in {} states", checker.unique_state_count());
        };
        let path = path.into_vec();
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        println!("{name}: {promise}, after {} states, in {} steps", checker.unique_state_count(), path.len());
        assert!(promises.iter().any(|expected| *promise == *name_of(*expected)), "{}", story(&path));
    }

    /// Whether it is time to see how the world ends.
    fn is_at_its_end(&self, world: &World) -> bool {
        self.scenario.is_to_end_well() && world.age() >= self.steps * self.step && !world.is_at_work()
    }
}

impl Model for Worlds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(Arc::clone(&self.scenario))]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(actions);
        if world.may_advance(self.step) && world.age() < self.steps * self.step {
            actions.push(Action::Advance(self.step));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.take(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(name_of(Promise::AtMostOnce), |_, world| keeps(world, Promise::AtMostOnce)),
            Property::always(name_of(Promise::Replay), |_, world| keeps(world, Promise::Replay)),
            Property::always(name_of(Promise::Record), |_, world| keeps(world, Promise::Record)),
            Property::always(name_of(Promise::Answer), |_, world| keeps(world, Promise::Answer)),
            Property::always(name_of(Promise::ClaimEnds), |worlds: &Self, world: &World| {
                keeps(world, Promise::ClaimEnds) && (!worlds.is_at_its_end(world) || world.come_to_an_end().is_ok())
            }),
        ]
    }
}

fn keeps(world: &World, promise: Promise) -> bool {
    world.breach().is_none_or(|breach| breach.promise != promise)
}

fn name_of(promise: Promise) -> &'static str {
    match promise {
        Promise::AtMostOnce => "an operation runs at most once",
        Promise::Replay => "a replay is the first response, to the same request",
        Promise::Record => "who lost a claim changes nothing",
        Promise::Answer => "a request is answered once",
        Promise::ClaimEnds => "every claim ends, and every request is answered",
    }
}

/// The steps, and what came of them.
fn story(path: &[(World, Option<Action>)]) -> String {
    let mut story = String::new();
    for (world, action) in path {
        if let Some(action) = action {
            let _ = writeln!(story, "{:>6} ms  {action:?}", world.age());
        }
    }
    if let Some((world, _)) = path.last() {
        let _ = writeln!(story, "{:?}", world.breach().cloned().ok_or_else(|| world.come_to_an_end()));
        let _ = writeln!(story, "{world:#?}");
    }
    story
}
