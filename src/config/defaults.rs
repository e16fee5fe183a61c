//! What the contract sets where the operator sets nothing.

use std::time::Duration;

use super::policy::{
    BodyFingerprint, CallerPolicy, Disposition, DuplicatesPolicy, ExecutionMode, ExecutionPolicy, FingerprintPolicy,
    IdentitySource, InFlight, KeyFormat, KeyPolicy, KeySyntax, Limits, Mode, OnStoreError, OnUnknown, OutcomePolicy,
    Policy, ReplayPolicy, Resource,
};
use super::problems::ProblemsPolicy;
use super::share::Share;

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            key: KeyPolicy::default(),
            methods: vec!["POST".to_owned(), "PATCH".to_owned()],
            caller: CallerPolicy::default(),
            resource: Resource::default(),
            fingerprint: FingerprintPolicy::default(),
            duplicates: DuplicatesPolicy::default(),
            outcome: OutcomePolicy::default(),
            ttl: Duration::from_secs(24 * 60 * 60),
            lease: Duration::from_secs(30),
            execution: ExecutionPolicy::default(),
            limits: Limits::default(),
            replay: ReplayPolicy::default(),
            problems: ProblemsPolicy::default(),
            on_store_error: OnStoreError::Reject,
            status_header: true,
            docs_uri: None,
        }
    }
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self {
            headers: vec!["idempotency-key".to_owned()],
            pointers: Vec::new(),
            derive: None,
            syntax: KeySyntax::Field,
            required: false,
            max_length: 255,
            format: KeyFormat::Any,
        }
    }
}

impl Default for CallerPolicy {
    fn default() -> Self {
        Self { identity: vec![IdentitySource::Header("authorization".to_owned())], required: false }
    }
}

impl Default for Resource {
    fn default() -> Self {
        Self { authority: true, method: true, path: true }
    }
}

impl Default for FingerprintPolicy {
    fn default() -> Self {
        Self { query: true, body: BodyFingerprint::Raw, headers: vec!["content-type".to_owned()] }
    }
}

impl Default for DuplicatesPolicy {
    fn default() -> Self {
        Self { in_flight: InFlight::Reject, wait_timeout: Duration::from_secs(10), max_waiting: 1024 }
    }
}

impl Default for OutcomePolicy {
    fn default() -> Self {
        use Disposition::{Release, Store, Unknown};
        Self {
            codes: vec![
                (401, Release),
                (403, Release),
                (408, Release),
                (425, Release),
                (429, Release),
                (502, Unknown),
                (504, Unknown),
            ],
            classes: [None, Some(Store), Some(Store), Some(Store), Some(Release)],
            on_unknown: OnUnknown::Block,
        }
    }
}

impl Default for ExecutionPolicy {
    fn default() -> Self {
        Self {
            mode: ExecutionMode::Inline,
            timeout: Duration::from_secs(60),
            cluster: None,
            max_calls: 512,
            // By these Envoy tells services whom it trusts.
            drop_headers: vec!["x-envoy-external-address".to_owned(), "x-envoy-internal".to_owned()],
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_body: 1 << 20, response_body: 1 << 20, caller_share: Share::percent(25) }
    }
}

impl Default for ReplayPolicy {
    fn default() -> Self {
        Self {
            header: "idempotency-replayed".to_owned(),
            drop_headers: vec!["set-cookie".to_owned()],
            keep_headers: Vec::new(),
        }
    }
}

impl Default for ProblemsPolicy {
    fn default() -> Self {
        Self {
            retry_hints: true,
            error_member: true,
            status: Vec::new(),
            body: None,
            content_type: "application/json".to_owned(),
        }
    }
}
