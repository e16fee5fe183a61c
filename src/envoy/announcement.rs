//! One line about a configuration that is put to work, for all workers together.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::store::HostMemory;
use crate::{
    record::{decode, encode},
    store::shared_data::{Cas, SharedMemory as _, Written},
    time::Timestamp,
};

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
    for _ in 0..ATTEMPTS {
        let found = HostMemory::ENFORCED.get(KEY).ok().flatten();
        let (mut told, cas) = match found {
            Some((bytes, cas)) => (decode::<Told>(&bytes).unwrap_or_default(), cas),
            None => (Told::default(), Cas::NEVER_ISSUED),
        };
        told.0.retain(|(_, at)| now.since(*at) < PERIOD);
        if told.0.iter().any(|(known, _)| *known == configuration) {
            return false;
        }
        told.0.push((configuration, now));
        let bytes = encode(&told).unwrap_or_default();
        if HostMemory::ENFORCED.set(KEY, &bytes, cas).is_ok_and(|written| written == Written::Done) {
            return true;
        }
    }
    true
}

const KEY: &str = "idemgate/v1/told";

/// The workers take up a configuration within a moment of each other. One that comes back later is told of anew.
const PERIOD: Duration = Duration::from_secs(10);

/// How often a write is tried that other workers' writes come in the way of.
const ATTEMPTS: usize = 16;
