//! The policy of some requests at work: where they are recorded, and what counts them.

use std::{rc::Rc, sync::Arc};

use super::{host::Refused, metrics::RouteMetrics, realm::Realm};
use crate::{
    config::{Mode, Policy},
    exchange::Counter,
};

/// An entry of `routes`, or what all other requests fall under.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) policy: Arc<Policy>,
    pub(super) realm: Rc<Realm>,
    /// Only of a route that has a name.
    metrics: Option<RouteMetrics>,
}

impl Route {
    pub(super) fn new(policy: Arc<Policy>, name: Option<&str>, realm: &Rc<Realm>) -> Result<Self, Refused> {
        let namespace = if policy.mode == Mode::Shadow { "shadow." } else { "" };
        let metrics = name.map(|name| RouteMetrics::define(&format!("{namespace}route.{name}."))).transpose()?;
        Ok(Self { policy, realm: Rc::clone(realm), metrics })
    }

    /// Counts for the route and for the whole.
    pub(super) fn count(&self, counter: Counter) {
        self.realm.metrics.count(counter, 1);
        if let Some(metrics) = &self.metrics {
            metrics.count(counter);
        }
    }

    /// Whether a request of this method may be guarded.
    pub(super) fn guards(&self, method: &[u8]) -> bool {
        self.policy.guards_method(method)
    }
}
