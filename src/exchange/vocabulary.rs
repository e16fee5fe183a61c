//! The words by which users, operators and logs know what happened, and the fields that say them.

/// Says on every response to a guarded request what was done.
pub const STATUS_HEADER: &str = "idempotency-status";
/// Says on a replay until when there will be one.
pub const EXPIRES_HEADER: &str = "idempotency-expires";
/// By which an upstream steers what is done with one response; never leaves the proxy.
pub const POLICY_HEADER: &str = "idempotency-policy";

/// The value of `idempotency-status`, and of the filter state `wasm.idemgate.status`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// The store failed and the policy lets requests through unprotected.
    Bypassed,
    /// This request ran the operation; the response is the upstream's.
    Executed,
    /// Another request is running the operation.
    InFlight,
    /// The key belongs to a different request.
    KeyReused,
    /// The operation ran, its response is not kept.
    NotKept,
    /// Nothing ran.
    Rejected,
    /// The response is the first one's.
    Replayed,
    /// The operation may have run.
    Unknown,
}

impl Status {
    const ALL: [Self; 8] = [
        Self::Bypassed,
        Self::Executed,
        Self::InFlight,
        Self::KeyReused,
        Self::NotKept,
        Self::Rejected,
        Self::Replayed,
        Self::Unknown,
    ];

    /// The status with this word.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().as_bytes() == word)
    }

    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypassed => "bypassed",
            Self::Executed => "executed",
            Self::InFlight => "in-flight",
            Self::KeyReused => "key-reused",
            Self::NotKept => "not-kept",
            Self::Rejected => "rejected",
            Self::Replayed => "replayed",
            Self::Unknown => "unknown",
        }
    }
}

/// What is counted. Each variant is one counter of the contract, named by [`name`](Self::name).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Counter {
    /// Let through unprotected because the store failed.
    RequestsBypassed,
    /// Guarded without any caller identity: all such callers are one.
    RequestsCallerAbsent,
    /// Refused: no caller identity where one is required.
    RequestsCallerUnknown,
    /// Let through to the upstream under a claim.
    RequestsExecuted,
    /// Refused: its client waits for a 100 before it sends the body.
    RequestsExpectationFailed,
    /// Refused: the host withholds the body that the fingerprint needs.
    RequestsHostUnsupported,
    /// Answered 409: the operation is running.
    RequestsInFlight,
    /// Refused: the key is malformed.
    RequestsKeyInvalid,
    /// Refused: no key where one is required.
    RequestsKeyMissing,
    /// Refused: the key belongs to a different request.
    RequestsKeyReused,
    /// Of a method that is not guarded, with a key: passed on untouched.
    RequestsKeyUnguarded,
    /// Answered 409: the operation ran, the response is not kept.
    RequestsNotKept,
    /// Refused: the worker has no memory left for it.
    RequestsMemoryFull,
    /// Refused, or answered 409 at once instead of waiting: its caller has its share of what all use.
    RequestsOverShare,
    /// Answered from the stored response.
    RequestsReplayed,
    /// Refused: the body is over the limit.
    RequestsTooLarge,
    /// Refused: as many detached calls are under way as may be.
    RequestsTooManyCalls,
    /// Of a guarded method, without a key: passed on untouched.
    RequestsUnguarded,
    /// Answered 409: the operation may have run.
    RequestsUnknown,
    /// Answered 409 after waiting as long as the policy allows; counted as in flight, too.
    RequestsWaitTimeouts,
    /// A late owner's write was refused.
    OutcomesFenced,
    /// The upstream's `idempotency-policy` was a word that nobody knows, and was ignored.
    OutcomesPolicyIgnored,
    /// The operation counts as never run.
    OutcomesReleased,
    /// The response was kept.
    OutcomesStored,
    /// The execution is recorded without its response.
    OutcomesTombstoned,
    /// The operation counts as perhaps run.
    OutcomesUnknown,
    /// How the operation ended could not be recorded, and was given up.
    OutcomesUnrecorded,
    /// A response was given up before its time; a tombstone stays.
    StoreDroppedResponses,
    /// The store could not do what it was asked.
    StoreErrors,
    /// A record was given up before its time: a key is forgotten.
    StoreEvicted,
    /// A record was reclaimed after its time.
    StoreExpired,
    /// A claim was refused for want of room.
    StoreFull,
    /// The store did not answer in time.
    StoreTimeouts,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 33] = [
        Self::RequestsBypassed,
        Self::RequestsCallerAbsent,
        Self::RequestsCallerUnknown,
        Self::RequestsExecuted,
        Self::RequestsExpectationFailed,
        Self::RequestsHostUnsupported,
        Self::RequestsInFlight,
        Self::RequestsKeyInvalid,
        Self::RequestsKeyMissing,
        Self::RequestsKeyReused,
        Self::RequestsKeyUnguarded,
        Self::RequestsNotKept,
        Self::RequestsMemoryFull,
        Self::RequestsOverShare,
        Self::RequestsReplayed,
        Self::RequestsTooLarge,
        Self::RequestsTooManyCalls,
        Self::RequestsUnguarded,
        Self::RequestsUnknown,
        Self::RequestsWaitTimeouts,
        Self::OutcomesFenced,
        Self::OutcomesPolicyIgnored,
        Self::OutcomesReleased,
        Self::OutcomesStored,
        Self::OutcomesTombstoned,
        Self::OutcomesUnknown,
        Self::OutcomesUnrecorded,
        Self::StoreDroppedResponses,
        Self::StoreErrors,
        Self::StoreEvicted,
        Self::StoreExpired,
        Self::StoreFull,
        Self::StoreTimeouts,
    ];

    /// What it says of one request, for the log.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::RequestsBypassed => "runs unprotected, because the store failed",
            Self::RequestsCallerAbsent => "has no caller identity, and is one caller with all others that have none",
            Self::RequestsCallerUnknown => "refused: it has no caller identity",
            Self::RequestsExecuted => "runs",
            Self::RequestsExpectationFailed => "refused: its client waits for a 100 before it sends the body",
            Self::RequestsHostUnsupported => "refused: the host withholds its body",
            Self::RequestsInFlight => "answered 409: another request is running it",
            Self::RequestsKeyInvalid => "refused: its key is malformed",
            Self::RequestsKeyMissing => "refused: it has no key",
            Self::RequestsKeyReused => "refused: its key belongs to a different request",
            Self::RequestsKeyUnguarded => "passed on: its method is not guarded, though it has a key",
            Self::RequestsNotKept => "answered 409: it ran, and the response is not kept",
            Self::RequestsMemoryFull => "refused: the worker holds as much as limits.memory allows",
            Self::RequestsOverShare => "its caller has its share",
            Self::RequestsReplayed => "answered with the stored response",
            Self::RequestsTooLarge => "refused: its body is over the limit",
            Self::RequestsTooManyCalls => "refused: too many detached calls are under way",
            Self::RequestsUnguarded => "passed on: it has no key",
            Self::RequestsUnknown => "answered 409: it may have run",
            Self::RequestsWaitTimeouts => "waited in vain for the one that is running it",
            Self::OutcomesFenced => "a late owner's word was refused: another has its claim",
            Self::OutcomesPolicyIgnored => "answered with an idempotency-policy that is not known, and is ignored",
            Self::OutcomesReleased => "counts as never run",
            Self::OutcomesStored => "ran; its response is kept",
            Self::OutcomesTombstoned => "ran; its response is not kept",
            Self::OutcomesUnknown => "may have run: no conclusive answer was seen",
            Self::OutcomesUnrecorded => "how it ended could not be recorded: a retry finds it unknown",
            Self::StoreDroppedResponses => "its response was given up before its time",
            Self::StoreErrors => "the store failed",
            Self::StoreEvicted => "given up before its time",
            Self::StoreExpired => "reclaimed after its time",
            Self::StoreFull => "refused: the store has no room",
            Self::StoreTimeouts => "the store did not answer in time",
        }
    }

    /// Whether it is about a request and not about the store.
    #[must_use]
    pub const fn is_of_request(self) -> bool {
        !matches!(
            self,
            Self::StoreDroppedResponses
                | Self::StoreErrors
                | Self::StoreEvicted
                | Self::StoreExpired
                | Self::StoreFull
                | Self::StoreTimeouts
        )
    }

    /// Whether an operator wants to know of each single one.
    #[must_use]
    pub const fn is_notable(self) -> bool {
        matches!(
            self,
            Self::OutcomesFenced
                | Self::OutcomesUnknown
                | Self::OutcomesUnrecorded
                | Self::RequestsBypassed
                | Self::RequestsKeyReused
        )
    }

    /// The name of the counter, without the host's prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsBypassed => "idemgate.requests.bypassed",
            Self::RequestsCallerAbsent => "idemgate.requests.caller_absent",
            Self::RequestsCallerUnknown => "idemgate.requests.caller_unknown",
            Self::RequestsExecuted => "idemgate.requests.executed",
            Self::RequestsExpectationFailed => "idemgate.requests.expectation_failed",
            Self::RequestsHostUnsupported => "idemgate.requests.host_unsupported",
            Self::RequestsInFlight => "idemgate.requests.in_flight",
            Self::RequestsKeyInvalid => "idemgate.requests.key_invalid",
            Self::RequestsKeyMissing => "idemgate.requests.key_missing",
            Self::RequestsKeyReused => "idemgate.requests.key_reused",
            Self::RequestsKeyUnguarded => "idemgate.requests.key_unguarded",
            Self::RequestsNotKept => "idemgate.requests.not_kept",
            Self::RequestsMemoryFull => "idemgate.requests.memory_full",
            Self::RequestsOverShare => "idemgate.requests.over_share",
            Self::RequestsReplayed => "idemgate.requests.replayed",
            Self::RequestsTooLarge => "idemgate.requests.too_large",
            Self::RequestsTooManyCalls => "idemgate.requests.too_many_calls",
            Self::RequestsUnguarded => "idemgate.requests.unguarded",
            Self::RequestsUnknown => "idemgate.requests.unknown",
            Self::RequestsWaitTimeouts => "idemgate.requests.wait_timeouts",
            Self::OutcomesFenced => "idemgate.outcomes.fenced",
            Self::OutcomesPolicyIgnored => "idemgate.outcomes.policy_ignored",
            Self::OutcomesReleased => "idemgate.outcomes.released",
            Self::OutcomesStored => "idemgate.outcomes.stored",
            Self::OutcomesTombstoned => "idemgate.outcomes.tombstoned",
            Self::OutcomesUnknown => "idemgate.outcomes.unknown",
            Self::OutcomesUnrecorded => "idemgate.outcomes.unrecorded",
            Self::StoreDroppedResponses => "idemgate.store.dropped_responses",
            Self::StoreErrors => "idemgate.store.errors",
            Self::StoreEvicted => "idemgate.store.evicted",
            Self::StoreExpired => "idemgate.store.expired",
            Self::StoreFull => "idemgate.store.full",
            Self::StoreTimeouts => "idemgate.store.timeouts",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counters of the contract (section 7), `host_unsupported` and `expectation_failed` for their situations in
    /// section 4, and what was added.
    const CONTRACT: [(&str, &[&str]); 3] = [
        (
            "requests",
            &[
                "executed",
                "replayed",
                "in_flight",
                "key_reused",
                "unknown",
                "not_kept",
                "key_missing",
                "key_invalid",
                "caller_unknown",
                "caller_absent",
                "too_large",
                "bypassed",
                "unguarded",
                "host_unsupported",
                "expectation_failed",
                "wait_timeouts",
                "key_unguarded",
                "memory_full",
                "over_share",
                "too_many_calls",
            ],
        ),
        ("outcomes", &["stored", "tombstoned", "released", "unknown", "fenced", "policy_ignored", "unrecorded"]),
        ("store", &["errors", "timeouts", "full", "evicted", "expired", "dropped_responses"]),
    ];

    #[test]
    fn each_counter_stands_at_the_index_that_it_is() {
        // The host layer keeps the ids of its metrics in this order.
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index, "{counter:?}");
        }
    }

    #[test]
    fn all_counters_are_counted() {
        // Add a variant after the last one, and this match does not compile until it is named here.
        let last = |counter| match counter {
            Counter::RequestsBypassed
            | Counter::RequestsCallerAbsent
            | Counter::RequestsCallerUnknown
            | Counter::RequestsExecuted
            | Counter::RequestsExpectationFailed
            | Counter::RequestsHostUnsupported
            | Counter::RequestsInFlight
            | Counter::RequestsKeyInvalid
            | Counter::RequestsKeyMissing
            | Counter::RequestsKeyReused
            | Counter::RequestsKeyUnguarded
            | Counter::RequestsNotKept
            | Counter::RequestsMemoryFull
            | Counter::RequestsOverShare
            | Counter::RequestsReplayed
            | Counter::RequestsTooLarge
            | Counter::RequestsTooManyCalls
            | Counter::RequestsUnguarded
            | Counter::RequestsUnknown
            | Counter::RequestsWaitTimeouts
            | Counter::OutcomesFenced
            | Counter::OutcomesPolicyIgnored
            | Counter::OutcomesReleased
            | Counter::OutcomesStored
            | Counter::OutcomesTombstoned
            | Counter::OutcomesUnknown
            | Counter::OutcomesUnrecorded
            | Counter::StoreErrors
            | Counter::StoreDroppedResponses
            | Counter::StoreEvicted
            | Counter::StoreExpired
            | Counter::StoreFull => false,
            Counter::StoreTimeouts => true,
        };
        assert_eq!(Counter::ALL.into_iter().filter(|counter| last(*counter)).count(), 1);
        assert!(Counter::ALL.last().copied().is_some_and(last));
    }

    #[test]
    fn the_names_are_those_of_the_contract() {
        let mut expected: Vec<String> = CONTRACT
            .iter()
            .flat_map(|(group, names)| names.iter().map(move |name| format!("idemgate.{group}.{name}")))
            .collect();
        let mut found: Vec<String> = Counter::ALL.map(|counter| counter.name().to_owned()).to_vec();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_counter_is_of_the_store_or_of_a_request_by_its_name() {
        for counter in Counter::ALL {
            assert_eq!(counter.is_of_request(), !counter.name().starts_with("idemgate.store."), "{counter:?}");
        }
    }

    #[test]
    fn the_words_of_the_status_are_those_of_the_contract() {
        let words = [
            (Status::Executed, "executed"),
            (Status::Replayed, "replayed"),
            (Status::InFlight, "in-flight"),
            (Status::KeyReused, "key-reused"),
            (Status::Unknown, "unknown"),
            (Status::NotKept, "not-kept"),
            (Status::Rejected, "rejected"),
            (Status::Bypassed, "bypassed"),
        ];
        for (status, word) in words {
            assert_eq!(status.as_str(), word);
            assert_eq!(Status::from_word(word.as_bytes()), Some(status));
        }
    }
}
