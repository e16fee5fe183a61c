//! Why an operator's request is not done, as problem details of RFC 9457.

use std::borrow::Cow;

use serde_json::Value;

use super::{answer::AdminAnswer, guard::Refusal, json::object};
use crate::{record::Conflict, request::OperationId, store::StoreError, time::seconds_rounded_up};

/// Why a request is not done. Each says what to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AdminProblem {
    /// The rules for the record are against the change.
    Conflict(Conflict),
    /// The host does not hand over the body, or the client does not send it.
    NoBody,
    /// The body is not what the request needs.
    BadRequest(Cow<'static, str>),
    /// The body is too large.
    BodyTooLarge,
    /// The store cannot tell which operations have not come to their end.
    CannotList,
    /// The path takes other methods.
    MethodNotAllowed {
        /// Those it takes.
        allow: &'static str,
    },
    /// There is no such path.
    NoSuchPath,
    /// There is no record of the operation.
    NotFound(Option<OperationId>),
    /// Several operations begin with these digits.
    NotUnique(Vec<OperationId>),
    /// The body is not declared to be JSON.
    NotJson,
    /// The request may not be made here.
    Refused(Refusal),
    /// The store cannot say.
    StoreUnavailable {
        /// Why.
        error: StoreError,
        /// Whether what was to be changed may have been.
        may_have_changed: bool,
    },
    /// The store finds operations by their whole hashes only.
    WholeHashNeeded {
        /// How operators find it themselves.
        how_to_find: String,
    },
}

impl AdminProblem {
    /// The name of the problem: its type is `urn:idemgate:` and this.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "admin-bad-request",
            Self::BodyTooLarge => "admin-body-too-large",
            Self::CannotList => "operations-not-listed",
            Self::Conflict(Conflict::Alive { .. }) => "operation-alive",
            Self::Conflict(_) => "operation-executed",
            Self::MethodNotAllowed { .. } => "admin-method-not-allowed",
            Self::NoBody => "admin-no-body",
            Self::NoSuchPath => "admin-no-such-path",
            Self::NotFound(_) => "operation-not-found",
            Self::NotJson => "admin-not-json",
            Self::NotUnique(_) => "operation-not-unique",
            Self::Refused(_) => "admin-refused",
            Self::StoreUnavailable { .. } => "store-unavailable",
            Self::WholeHashNeeded { .. } => "operation-whole-hash-needed",
        }
    }

    /// The HTTP status code.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::CannotList | Self::WholeHashNeeded { .. } => 400,
            Self::Refused(_) => 403,
            Self::NoSuchPath | Self::NotFound(_) => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::NoBody => 408,
            Self::Conflict(_) | Self::NotUnique(_) => 409,
            Self::BodyTooLarge => 413,
            Self::NotJson => 415,
            Self::StoreUnavailable { .. } => 503,
        }
    }

    /// The answer.
    #[must_use]
    pub fn answer(&self) -> AdminAnswer {
        let (name, value) = match self {
            Self::Conflict(Conflict::Alive { lease_left }) => {
                ("lease_left_seconds", seconds_rounded_up(*lease_left).into())
            }
            Self::Conflict(Conflict::OtherStatus { status }) => ("original_status", (*status).into()),
            Self::NotFound(Some(operation)) => ("operation", operation.to_string().into()),
            Self::NotUnique(operations) => ("operations", operations.iter().map(OperationId::to_string).collect()),
            _ => ("", Value::Null),
        };
        AdminAnswer {
            status: self.http_status(),
            content_type: "application/problem+json",
            allow: match self {
                Self::MethodNotAllowed { allow } => Some(allow),
                _ => None,
            },
            details: match self {
                Self::Refused(_) => "idemgate_admin_refused",
                _ => "idemgate_admin_problem",
            },
            body: object(&[
                ("type", format!("urn:idemgate:{}", self.name()).into()),
                ("title", self.title().into()),
                ("status", self.http_status().into()),
                ("detail", self.detail().into()),
                (name, value),
            ]),
        }
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "The request cannot be understood",
            Self::BodyTooLarge => "The body is too large",
            Self::CannotList => "The store cannot list operations",
            Self::Conflict(Conflict::Alive { .. }) => "The operation may still be running",
            Self::Conflict(_) => "The operation was executed",
            Self::MethodNotAllowed { .. } => "There is no such method here",
            Self::NoBody => "The body did not come",
            Self::NoSuchPath => "There is no such path",
            Self::NotFound(_) => "There is no record of the operation",
            Self::NotJson => "The body is not JSON",
            Self::NotUnique(_) => "Several operations begin with these digits",
            Self::Refused(_) => "The admin is not to be used from here",
            Self::StoreUnavailable { .. } => "The store is not available",
            Self::WholeHashNeeded { .. } => "All 64 digits are needed",
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(detail) => detail.clone(),
            Self::BodyTooLarge => "Nothing was done. A body may have 64 KiB at most here.".into(),
            Self::CannotList => "Only store.postgres can list them. With other stores, the access log names the operations \
                 whose outcome is unknown (docs/operations.md)."
                .into(),
            Self::Conflict(Conflict::Alive { .. }) => {
                "Nothing was changed. The lease of this operation has not run out, so that it may be running now: after \
                 this change a retry could run it a second time. Ask again when lease_left_seconds are over; or send \
                 {\"force\": true} if you know that it is not running."
                    .into()
            }
            Self::Conflict(Conflict::AlreadyNotKept) => {
                "Nothing was changed: it is known to have run, and its response is not kept. To let a retry run it \
                 again, purge it."
                    .into()
            }
            Self::Conflict(Conflict::OtherStatus { .. }) => {
                "Nothing was changed: it is known to have run with the status in original_status. Send that status to \
                 drop its response alone; to let a retry run it again, purge it."
                    .into()
            }
            Self::Conflict(Conflict::Ran) => "Nothing was changed: it ran, and what ran is not released. If a retry is to \
                 run it a second time all the same, purge it."
                .into(),
            Self::MethodNotAllowed { allow } => format!("Nothing was done. This path takes the method {allow}.").into(),
            Self::NoBody => "Nothing was done. If the client has sent all of its body, then the host keeps it back: set \
                 allow_on_headers_stop_iteration: true in the config of the Wasm filter (Envoy 1.36 or newer)."
                .into(),
            Self::NoSuchPath => "There are GET /operations, GET /operations/unfinished, POST /operations/lookup, GET /operations/HASH, and \
                 POST /operations/HASH/release, /operations/HASH/not-kept and /operations/HASH/purge, where HASH are \
                 hexadecimal digits: all 64, or for GET the first 8 or more. None takes a query."
                .into(),
            Self::NotFound(_) => "The operation was never seen here, or its record has expired or was evicted, released \
                 or purged. If it should be there: this admin must have the same vm_id, store, caller.identity, resource \
                 and key settings as the filter, and a look-up the authority and path as the filter saw them."
                .into(),
            Self::NotJson => "Send the header content-type: application/json, also without a body.".into(),
            Self::NotUnique(_) => "Ask for one of the operations that are listed here, by all of its digits.".into(),
            Self::Refused(refusal) => refusal.to_string().into(),
            Self::StoreUnavailable { error, may_have_changed: false } => {
                format!("Nothing was changed: {error}.").into()
            }
            Self::StoreUnavailable { error, may_have_changed: true } => {
                format!("The change may have been made or not; look the operation up before you go on: {error}.").into()
            }
            Self::WholeHashNeeded { how_to_find } => how_to_find.clone().into(),
        }
    }
}
