//! What an operator is told.

use serde_json::{Value, json};

use super::json::object;
use crate::{
    config::SharedDataConfig,
    record::{Standing, Verb, View},
    request::OperationId,
    store::{
        remote::{Holdings, Listed},
        shared_data::{TableScan, Totals},
    },
    time::{Timestamp, seconds_rounded_up},
};

/// A whole response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminAnswer {
    /// The status code.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The methods that the path takes, if it was another one.
    pub allow: Option<&'static str>,
    /// What access logs show as the response code's details.
    pub details: &'static str,
    /// JSON.
    pub body: Vec<u8>,
}

/// A change that was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChangeMade {
    /// What was changed.
    pub operation: OperationId,
    /// What it was before.
    pub before: View,
    /// What it was to become.
    pub verb: Verb,
}

impl AdminAnswer {
    /// What is known of one operation.
    #[must_use]
    pub fn seen(operation: &OperationId, view: &View) -> Self {
        let (lease_left, original_status) = match view.standing {
            Standing::InFlight { .. } | Standing::Lapsed | Standing::Unknown { .. } => {
                (Some(seconds_rounded_up(view.lease_left())), None)
            }
            Standing::Completed { status } | Standing::NotKept { status } => (None, Some(status)),
        };
        let is_kept = matches!(view.standing, Standing::Completed { .. });
        Self::json(&[
            ("operation", operation.to_string().into()),
            ("state", view.standing.word().into()),
            ("age_seconds", view.age.as_secs().into()),
            ("unknown_because", view.standing.reason().into()),
            ("lease_left_seconds", lease_left.into()),
            ("original_status", original_status.into()),
            ("response_bytes", is_kept.then_some(view.response_bytes).into()),
            ("expires", view.expires.to_rfc3339().into()),
        ])
    }

    /// What the table in shared data holds.
    #[must_use]
    pub fn counted(scan: &TableScan, totals: Totals, limits: &SharedDataConfig) -> Self {
        let records = json!({
            "in_flight": scan.in_flight,
            "completed": scan.completed,
            "not_kept": scan.not_kept,
            "unknown": scan.unknown,
        });
        Self::json(&[
            ("store", "shared_data".into()),
            ("entries", totals.entries.into()),
            ("max_entries", limits.max_entries.into()),
            ("bytes", totals.bytes.into()),
            ("max_bytes", limits.max_bytes.into()),
            ("records", records),
            ("unreadable_buckets", (scan.unreadable > 0).then_some(scan.unreadable).into()),
        ])
    }

    /// What a remote store says of itself, and how its records are counted, which only a walk through all keys can do.
    #[must_use]
    pub fn held(holdings: Holdings) -> Self {
        let Holdings { store, place: (name, place), figures, count_by_state } = holdings;
        let figures = figures.into_iter().map(|(name, figure)| (name, figure.into()));
        let members = [("store", store.into()), (name, place.into())].into_iter().chain(figures);
        Self::json(&members.chain([("count_by_state", count_by_state.into())]).collect::<Vec<_>>())
    }

    /// How many operations are listed at most.
    pub const MOST_LISTED: u16 = 100;

    /// The operations that have not come to their end.
    #[must_use]
    pub fn listed(listed: &[Listed], now: Timestamp) -> Self {
        let told = |listed: &Listed| {
            json!({
                "operation": listed.operation.to_string(),
                "state": if listed.is_running { "in_flight" } else { "unknown" },
                "lease_left_seconds": seconds_rounded_up(listed.lease_left),
                "expires": now.after(listed.lives).to_rfc3339(),
            })
        };
        let may_be_more = listed.len() >= usize::from(Self::MOST_LISTED);
        Self::json(&[
            ("unfinished", listed.iter().map(told).collect()),
            ("there_may_be_more", may_be_more.then_some(true).into()),
        ])
    }

    /// What was changed.
    #[must_use]
    pub fn changed(change: &ChangeMade) -> Self {
        let (retry, status) = match change.verb {
            Verb::NotKept { status } => ("gets 409 response-not-kept", Some(status)),
            Verb::Purge | Verb::Release => ("runs the operation", None),
        };
        Self::json(&[
            ("operation", change.operation.to_string().into()),
            ("done", change.verb.participle().into()),
            ("was", change.before.standing.word().into()),
            ("original_status", status.into()),
            ("a_retry", retry.into()),
        ])
    }

    fn json(members: &[(&str, Value)]) -> Self {
        Self {
            status: 200,
            content_type: "application/json",
            allow: None,
            details: "idemgate_admin_answer",
            body: object(members),
        }
    }
}

impl Standing {
    /// The word for it, in answers and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::InFlight { .. } => "in_flight",
            Self::Lapsed | Self::Unknown { .. } => "unknown",
            Self::NotKept { .. } => "not_kept",
        }
    }

    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Lapsed => Some("its lease expired before an outcome was recorded"),
            Self::Unknown { .. } => Some("no conclusive response was seen"),
            Self::Completed { .. } | Self::InFlight { .. } | Self::NotKept { .. } => None,
        }
    }
}

impl Verb {
    /// What was done, in answers, logs and metrics.
    #[must_use]
    pub const fn participle(self) -> &'static str {
        match self {
            Self::NotKept { .. } => "not_kept",
            Self::Purge => "purged",
            Self::Release => "released",
        }
    }
}
