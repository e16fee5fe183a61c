//! One line about a configuration that is put to work, for all workers together.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::store::HostMemory;
use crate::{store::shared_data::update_hint, time::Timestamp};

/// The configurations that were put to work lately, in shared data: a hash of each, and when it was told of.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Told(Vec<(u64, Timestamp)>);

/// Tells the operator that `configuration` is in use, unless another worker of this Envoy has just said so.
///
/// `summary` says what is on. Where shared data fail, each worker says it: a line too many is better than none.
pub(super) fn announce(configuration: &[u8], summary: &str, now: Timestamp) {
    let mut hasher = DefaultHasher::new();
    configuration.hash(&mut hasher);
    if is_first(hasher.finish(), now) {
        log::info!("idemgate {} is on: {summary}", env!("CARGO_PKG_VERSION"));
    }
}

fn is_first(configuration: u64, now: Timestamp) -> bool {
    let updated = update_hint(&HostMemory::ENFORCED, KEY, |Told(mut told)| {
        told.retain(|(_, at)| now.since(*at) < PERIOD);
        let is_known = told.iter().any(|(known, _)| *known == configuration);
        told.push((configuration, now));
        (!is_known).then_some(Told(told))
    });
    updated != Ok(false)
}

const KEY: &str = "idemgate/v1/told";

/// The workers take up a configuration within a moment of each other. One that comes back later is told of anew.
const PERIOD: Duration = Duration::from_secs(10);
