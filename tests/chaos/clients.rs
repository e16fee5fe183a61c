//! Clients: they ask for what many others ask for at the same time, and ask again until they know.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    bench::{Lot, PATIENCE},
    plan::{Deployment, StoreKind},
    proof::history::Asked,
    record::Fact,
    service::Intent,
    stage::{Attempt, Stage, is_final},
};

/// How many act at the same time: of a busy dynalite, which does one thing after the other, no more than it can answer.
fn number_of_clients(deployment: Deployment) -> usize {
    if matches!(deployment.store, StoreKind::DynamoDb { .. }) { 6 } else { 14 }
}

/// How many keys are in use at a time, and how long the first of them is.
const KEYS_AT_A_TIME: u64 = 8;
const KEY_LIFE: Duration = Duration::from_millis(70);

/// Lets all of them loose; each ends by itself once the play is over.
pub(crate) fn let_loose(stage: &Arc<Stage>, deployment: Deployment, seed: u64) -> Vec<JoinHandle<()>> {
    let mut lot = Lot::new(seed);
    let beginning = Instant::now();
    (0..number_of_clients(deployment))
        .map(|_| tokio::spawn(act(Arc::clone(stage), deployment, lot.branch(), beginning)))
        .collect()
}

async fn act(stage: Arc<Stage>, deployment: Deployment, mut lot: Lot, beginning: Instant) {
    while !stage.is_over() {
        let asked = draw(beginning, &mut lot);
        // Some ask once; others go on until they know, also when that takes a lease.
        for _ in 0..lot.of(&[1, 2, 5, 40]) {
            let attempt = Attempt::draw(asked, deployment.envoys, &mut lot).or_leaves(&mut lot);
            let (_, told) = stage.make(attempt).await;
            if told.as_ref().is_some_and(|told| is_final(told, deployment.retries_unknown)) || stage.is_over() {
                break;
            }
            // Whose connection broke gives the Envoy some time.
            let pause = if told.is_some() { 10 + lot.below(140) } else { 100 + lot.below(300) };
            sleep(Duration::from_millis(pause)).await;
        }
        sleep(Duration::from_millis(lot.below(40))).await;
    }
}

/// One of the keys of the moment, now and then an earlier one, rarely that of another caller or for something else.
pub(crate) fn draw(beginning: Instant, lot: &mut Lot) -> Asked {
    let first = beginning.elapsed().as_millis() / KEY_LIFE.as_millis();
    let key = if lot.chance(15) { lot.below(first as u64 + 1) } else { first as u64 + lot.below(KEYS_AT_A_TIME) };
    let (caller, body) = (u8::from(lot.chance(15)), u8::from(lot.chance(8)));
    Asked { caller, key: (key % 256) as u8, body }
}

/// Asks once more for everything that was asked for, at each Envoy, until the answer is final.
///
/// Nothing fails any more, and nobody else asks.
pub(crate) async fn ask_again(stage: &Arc<Stage>, deployment: Deployment) {
    let mut asked: Vec<Asked> = Vec::new();
    for entry in stage.record.entries() {
        if let Fact::Began { asked: other, .. } = entry.fact
            && !asked.contains(&other)
        {
            asked.push(other);
        }
    }
    // Equal keys one after the other: which of two bodies is first is not the question.
    asked.sort_by_key(|asked| (asked.caller, asked.key, asked.body));
    let groups: Vec<Vec<Asked>> = asked
        .chunk_by(|one, other| (one.caller, one.key) == (other.caller, other.key))
        .map(<[Asked]>::to_vec)
        .collect();
    let mut lanes: Vec<Vec<Asked>> = vec![Vec::new(); number_of_clients(deployment)];
    let number_of_lanes = lanes.len();
    for (number, group) in groups.into_iter().enumerate() {
        lanes[number % number_of_lanes].extend(group);
    }
    let lanes: Vec<_> = lanes
        .into_iter()
        .map(|lane| {
            let stage = Arc::clone(stage);
            tokio::spawn(async move {
                for asked in lane {
                    for envoy in 0..deployment.envoys {
                        ask_until_final(&stage, asked, envoy, deployment.retries_unknown).await;
                    }
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

async fn ask_until_final(stage: &Stage, asked: Asked, envoy: usize, retries_unknown: bool) {
    let protocol = crate::bench::Protocol::BOTH[envoy];
    let attempt = Attempt { asked, envoy, protocol, intent: Intent::AT_ONCE, departure: None, crash: None };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (number, told) = stage.make(attempt).await;
        if told.is_some_and(|told| is_final(&told, retries_unknown)) {
            return;
        }
        if Instant::now() >= deadline {
            stage.record.note(Fact::Stuck(number));
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
