//! What an operator is told.

use super::{json::Object, problem::seconds_rounded_up};
use crate::{
    config::SharedDataConfig,
    record::{Standing, Verb, View},
    request::OperationId,
    store::{
        redis::RedisUsage,
        shared_data::{TableScan, Totals},
    },
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
        let mut body = Object::new()
            .text("operation", &operation.to_string())
            .text("state", view.standing.word())
            .number("age_seconds", view.age.as_secs());
        if let Some(reason) = view.standing.reason() {
            body = body.text("unknown_because", reason);
        }
        match view.standing {
            Standing::InFlight { .. } | Standing::Lapsed | Standing::Unknown { .. } => {
                body = body.number("lease_left_seconds", seconds_rounded_up(view.lease_left()));
            }
            Standing::Completed { status } | Standing::NotKept { status } => {
                body = body.number("original_status", u64::from(status));
            }
        }
        if let Standing::Completed { .. } = view.standing {
            body = body.number("response_bytes", view.response_bytes);
        }
        Self::json(body.text("expires", &String::from_utf8_lossy(&view.expires.to_rfc3339())))
    }

    /// What the table in shared data holds.
    #[must_use]
    pub fn counted(scan: &TableScan, totals: Totals, limits: &SharedDataConfig) -> Self {
        let records = Object::new()
            .number("in_flight", scan.in_flight)
            .number("completed", scan.completed)
            .number("not_kept", scan.not_kept)
            .number("unknown", scan.unknown);
        let body = Object::new()
            .text("store", "shared_data")
            .number("entries", totals.entries)
            .number("max_entries", u64::from(limits.max_entries))
            .number("bytes", totals.bytes)
            .number("max_bytes", limits.max_bytes)
            .object("records", records);
        Self::json(if scan.unreadable > 0 { body.number("unreadable_buckets", scan.unreadable) } else { body })
    }

    /// What Redis says of itself, and how its records are counted, which only a walk through all keys can do.
    #[must_use]
    pub fn of_redis(usage: Option<RedisUsage>, prefix: &str) -> Self {
        let mut body = Object::new().text("store", "redis").text("prefix", prefix);
        if let Some(usage) = usage {
            body = body
                .number("keys_in_database", usage.keys)
                .number("used_memory_bytes", usage.used_memory)
                .number("max_memory_bytes", usage.max_memory)
                .number("evicted_keys", usage.evicted_keys);
        }
        Self::json(body.text(
            "count_by_state",
            &format!(
                "redis-cli --scan --pattern '{prefix}[0-9a-f]*' | while read -r key; do redis-cli getrange \"$key\" 1 1; done | \
                 sort | uniq -c # i: in flight, or unknown if its lease is over, c: completed, n: not kept, u: unknown, \
                 r: given back"
            ),
        ))
    }

    /// What was changed.
    #[must_use]
    pub fn changed(change: &ChangeMade) -> Self {
        let (retry, status) = match change.verb {
            Verb::NotKept { status } => ("gets 409 response-not-kept", Some(status)),
            Verb::Purge | Verb::Release => ("runs the operation", None),
        };
        let mut body = Object::new()
            .text("operation", &change.operation.to_string())
            .text("done", change.verb.participle())
            .text("was", change.before.standing.word());
        if let Some(status) = status {
            body = body.number("original_status", u64::from(status));
        }
        Self::json(body.text("a_retry", retry))
    }

    fn json(body: Object) -> Self {
        Self {
            status: 200,
            content_type: "application/json",
            allow: None,
            details: "idemgate_admin_answer",
            body: body.finish().into_bytes(),
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
