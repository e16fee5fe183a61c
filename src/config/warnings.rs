//! What is good as it stands, and may yet not be what the operator wants.

use super::Config;
use super::policy::{ExecutionMode, InFlight, Mode, Policy};

impl Config {
    /// What the operator is to be told of this configuration: one line each, with the place and what to do.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = of_policy(&self.policy, "");
        for (index, route) in self.routes.iter().enumerate() {
            warnings.extend(of_policy(&route.policy, &format!("routes[{index}].policy.")));
        }
        warnings
    }
}

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
