//! What is good as it stands, and may yet not be what the operator wants.

use std::time::Duration;

use super::filter::Config;
use super::policy::{ExecutionMode, InFlight, Mode, OnUnknown, Policy};
use super::store::StoreConfig;

impl Config {
    /// What the operator is to be told of this configuration: one line each, with the place and what to do.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let routes = self.routes.iter().enumerate();
        let routes = routes.map(|(index, route)| (&route.policy, format!("routes[{index}].policy.")));
        let mut warnings = Vec::new();
        for (policy, place) in [(&self.policy, String::new())].into_iter().chain(routes) {
            warnings.extend(of_policy(policy, &place));
            if matches!(self.store, StoreConfig::DynamoDb(_)) {
                warnings.extend(of_lease(policy, &place));
            }
        }
        warnings
    }
}

/// Leases in DynamoDB are judged in whole seconds, by the `Date` of a reply.
fn of_lease(policy: &Policy, place: &str) -> Option<String> {
    (policy.outcome.on_unknown == OnUnknown::Retry && policy.lease < SHORT_LEASE).then(|| {
        format!(
            "{place}lease is short for {place}outcome.on_unknown \"retry\" with store.dynamodb: an owner whose renewals \
             are late by a few seconds is taken over while it runs; set it to 10s or more"
        )
    })
}

const SHORT_LEASE: Duration = Duration::from_secs(10);

fn of_policy(policy: &Policy, place: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if policy.mode != Mode::Shadow {
        return warnings;
    }
    let mut warn = |key: &str, instead: &str| {
        warnings.push(format!(
            "{place}{key} refuses nothing while {place}mode is \"shadow\": {instead}; set mode to \"enforce\" once that \
             figure is what you expect"
        ));
    };
    if policy.key.required {
        warn("key.required", "requests without a key pass, and are counted as idemgate.shadow.requests.key_missing");
    }
    if policy.caller.required {
        warn(
            "caller.required",
            "requests without a caller pass, and are counted as idemgate.shadow.requests.caller_unknown",
        );
    }
    warnings
}

impl Policy {
    /// The policy as it can be carried out: in shadow mode nothing is kept waiting and nothing runs apart.
    pub(super) fn in_effect(mut self) -> Self {
        if self.mode == Mode::Shadow {
            self.duplicates.in_flight = InFlight::Reject;
            self.execution.mode = ExecutionMode::Inline;
        }
        self
    }
}
