//! Each SDK, what it needs, and what its user sees in each case.

use serde_json::Value;

use crate::cases::{Case, play, repeated};
use crate::page::{read, section};
use crate::player::{Language, Player};

/// Whose keys there are in the cases where the SDK may make one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    /// The user's: the SDK makes none, or another one for each attempt, or leaves retries to its user.
    Given,
    /// The SDK's.
    Own,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sdk {
    /// The package and its version, as `docs/clients.md` has it.
    pub(crate) name: &'static str,
    pub(crate) language: Language,
    /// As the script calls it.
    pub(crate) client: &'static str,
    pub(crate) keys: Keys,
    /// JSON: what the filter needs besides the recommended settings.
    pub(crate) needs: &'static str,
    /// What the service answers with; `#` is the number of the execution.
    pub(crate) answer: (u16, &'static str, &'static str),
    /// Case by case.
    pub(crate) sees: &'static [(Case, &'static str)],
    /// After which statuses of the service it calls again by itself.
    pub(crate) repeats: &'static [u16],
}

/// The key of users who give one.
pub(crate) const KEY: &str = "2f5b7e0a-1c43-4d0e-9a1b-5d1c0f6a7e21";

impl Sdk {
    /// None is the SDK's own.
    pub(crate) fn given_key(&self) -> Option<&'static str> {
        (self.keys == Keys::Given).then_some(KEY)
    }

    pub(crate) fn settings(&self) -> Value {
        serde_json::from_str(self.needs).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

async fn check(name: &str) {
    let sdk = SDKS.iter().find(|sdk| sdk.name == name).unwrap_or_else(|| panic!("{name} is not in the table"));
    let mut player = Player::start(sdk.language);
    assert_eq!(repeated(sdk, &mut player).await, sdk.repeats, "{name}");
    let mut seen = Vec::new();
    for &(case, _) in sdk.sees {
        seen.push((case, play(sdk, &mut player, case).await));
    }
    let seen: Vec<(Case, &str)> = seen.iter().map(|(case, saw)| (*case, saw.as_str())).collect();
    assert_eq!(seen, sdk.sees, "{name}");
}

// What the SDKs of one API need in both languages.
const GOCARDLESS: &str = r#"{"problems": {"body": {"error": {"type": "invalid_state", "code": "${status}", "message": "${detail}", "errors": [{"reason": "${name}", "message": "${detail}"}]}}}}"#;
const STRIPE: &str = r#"{"problems": {"status": {"key-reused": 400}}}"#;
const WORKOS: &str = r#"{"problems": {"body": {"message": "${detail}", "code": "${name}"}}}"#;

const SDKS: &[Sdk] = &[
    Sdk {
        name: "botocore==1.44.8",
        language: Language::Python,
        client: "botocore",
        keys: Keys::Own,
        needs: r#"{"key": {"headers": ["amz-sdk-invocation-id"]}, "fingerprint": {"headers": ["content-type", "x-amz-target"]}, "caller": {"identity": [{"authorization": "credential", "verified": true}]}, "problems": {"body": {"__type": "${name}", "message": "${detail}"}}}"#,
        answer: (200, "application/json", r##"{"ARN": "a", "Name": "tea", "VersionId": "version-#"}"##),
        sees: &[
            (Case::Lost, "returned version-1"),
            (Case::Fails, "returned version-2"),
            (Case::Slow, "returned version-1"),
            (Case::Unknown, "raised ClientError: outcome-unknown"),
        ],
        repeats: &[429, 500, 502, 503, 504],
    },
    Sdk {
        name: "botocore==1.44.8, ClientRequestToken",
        language: Language::Python,
        client: "botocore",
        keys: Keys::Given,
        needs: r#"{"key": {"pointers": ["/ClientRequestToken"]}, "fingerprint": {"headers": ["content-type", "x-amz-target"]}, "caller": {"identity": [{"authorization": "credential", "verified": true}]}, "problems": {"body": {"__type": "${name}", "message": "${detail}"}}}"#,
        answer: (200, "application/json", r##"{"ARN": "a", "Name": "tea", "VersionId": "version-#"}"##),
        sees: &[
            (Case::Lost, "returned version-1"),
            (Case::Fails, "returned version-2"),
            (Case::Slow, "returned version-1"),
            (Case::InFlight, "raised ClientError: request-in-flight"),
            (Case::Unknown, "raised ClientError: outcome-unknown, then raised ClientError: outcome-unknown"),
            (Case::Reused, "raised ClientError: key-reused"),
        ],
        repeats: &[429, 500, 502, 503, 504],
    },
    Sdk {
        name: "gocardless-pro==3.22.0",
        language: Language::Python,
        client: "gocardless",
        keys: Keys::Given,
        needs: GOCARDLESS,
        answer: (201, "application/json", r##"{"payments": {"id": "PM#"}}"##),
        sees: &[
            (Case::Lost, "returned PM1"),
            (Case::Fails, "raised GoCardlessInternalError, then returned PM2"),
            (Case::Slow, "returned PM1"),
            (Case::InFlight, "raised InvalidStateError: request-in-flight"),
            (
                Case::Unknown,
                "raised InvalidStateError: outcome-unknown, then raised InvalidStateError: outcome-unknown",
            ),
            (Case::Reused, "raised InvalidStateError: key-reused"),
        ],
        repeats: &[],
    },
    Sdk {
        name: "gocardless-nodejs@10.1.2",
        language: Language::Node,
        client: "gocardless",
        keys: Keys::Given,
        needs: GOCARDLESS,
        answer: (201, "application/json", r##"{"payments": {"id": "PM#"}}"##),
        sees: &[
            (Case::Lost, "raised RequestError, then returned PM1"),
            (Case::Fails, "raised GoCardlessInternalError, then returned PM2"),
            (Case::InFlight, "raised InvalidStateError: request-in-flight"),
            (Case::Unknown, "raised GoCardlessInternalError, then raised InvalidStateError: outcome-unknown"),
            (Case::Reused, "raised InvalidStateError: key-reused"),
        ],
        repeats: &[],
    },
    Sdk {
        name: "inngest==0.5.19",
        language: Language::Python,
        client: "inngest",
        keys: Keys::Own,
        needs: r#"{"key": {"headers": ["x-inngest-event-id-seed"], "syntax": "opaque"}, "problems": {"body": {"error": "${detail}", "status": "${status}"}}}"#,
        answer: (200, "application/json", r##"{"ids": ["event-#"], "status": 200}"##),
        sees: &[
            (Case::Lost, "returned [\"event-1\"]"),
            (Case::Fails, "returned [\"event-2\"]"),
            (Case::Slow, "returned [\"event-1\"]"),
            (Case::Unknown, "raised SendEventsError: outcome-unknown"),
        ],
        repeats: &[500, 502, 503, 504],
    },
    Sdk {
        name: "modern-treasury==1.80.0",
        language: Language::Python,
        client: "modern_treasury",
        keys: Keys::Own,
        needs: r#"{}"#,
        answer: (200, "application/json", r##"{"id": "cp-#"}"##),
        sees: &[
            (Case::Lost, "returned cp-1"),
            (Case::Fails, "returned cp-2"),
            (Case::Slow, "returned cp-1"),
            (Case::InFlight, "returned cp-1"),
            (Case::Unknown, "raised ConflictError: outcome-unknown"),
            (Case::Reused, "raised UnprocessableEntityError: key-reused"),
        ],
        repeats: &[408, 409, 429, 500, 502, 503, 504],
    },
    Sdk {
        name: "modern-treasury==1.80.0, upload",
        language: Language::Python,
        client: "modern_treasury_upload",
        keys: Keys::Own,
        needs: r#"{}"#,
        answer: (200, "application/json", r##"{"id": "doc-#"}"##),
        sees: &[
            (Case::Lost, "returned doc-1"),
            (Case::Fails, "returned doc-2"),
            (Case::Slow, "returned doc-1"),
            (Case::InFlight, "returned doc-1"),
            (Case::Unknown, "raised ConflictError: outcome-unknown"),
            (Case::Reused, "raised UnprocessableEntityError: key-reused"),
        ],
        repeats: &[408, 409, 429, 500, 502, 503, 504],
    },
    Sdk {
        name: "mollie-api-py==1.10.20",
        language: Language::Python,
        client: "mollie",
        keys: Keys::Given,
        needs: r#"{}"#,
        answer: (
            201,
            "application/hal+json",
            r##"{"resource": "customer", "id": "cst_#", "mode": "test", "name": "tea", "email": null, "locale": null, "metadata": null, "createdAt": "2026-01-01T00:00:00+00:00", "_links": {"self": {"href": "https://x.example", "type": "application/hal+json"}, "dashboard": {"href": "https://x.example", "type": "text/html"}, "documentation": {"href": "https://x.example", "type": "text/html"}}}"##,
        ),
        sees: &[
            (Case::Lost, "returned cst_1"),
            (Case::Fails, "returned cst_2"),
            (Case::Slow, "returned cst_1"),
            (Case::InFlight, "raised APIError: request-in-flight"),
            (Case::Unknown, "raised APIError: outcome-unknown, then raised APIError: outcome-unknown"),
            (Case::Reused, "raised APIError: key-reused"),
        ],
        repeats: &[429, 500, 502, 503, 504],
    },
    Sdk {
        name: "openai==3.57.0",
        language: Language::Python,
        client: "openai",
        keys: Keys::Given,
        needs: r#"{}"#,
        answer: (
            200,
            "application/json",
            r##"{"id": "chatcmpl-#", "object": "chat.completion", "created": 1, "model": "x", "choices": []}"##,
        ),
        sees: &[
            (Case::Lost, "returned chatcmpl-1"),
            (Case::Fails, "returned chatcmpl-2"),
            (Case::Slow, "returned chatcmpl-1"),
            (Case::InFlight, "returned chatcmpl-1"),
            (Case::Unknown, "raised ConflictError: outcome-unknown, then raised ConflictError: outcome-unknown"),
            (Case::Reused, "raised UnprocessableEntityError: key-reused"),
        ],
        repeats: &[408, 409, 429, 500, 502, 503, 504],
    },
    Sdk {
        name: "openai==3.57.0, without a key",
        language: Language::Python,
        client: "openai",
        keys: Keys::Own,
        needs: r#"{"key": {"derive": {"window": "10s"}}}"#,
        answer: (
            200,
            "application/json",
            r##"{"id": "chatcmpl-#", "object": "chat.completion", "created": 1, "model": "x", "choices": []}"##,
        ),
        sees: &[
            (Case::Lost, "returned chatcmpl-1"),
            (Case::Fails, "returned chatcmpl-2"),
            (Case::Slow, "returned chatcmpl-1"),
            (Case::Unknown, "raised ConflictError: outcome-unknown"),
        ],
        repeats: &[408, 409, 429, 500, 502, 503, 504],
    },
    Sdk {
        name: "@restatedev/restate-sdk-clients@1.17.2",
        language: Language::Node,
        client: "restate",
        keys: Keys::Given,
        needs: r#"{}"#,
        answer: (200, "application/json", r##""order #""##),
        sees: &[
            (Case::Lost, "returned order 1"),
            (Case::Fails, "returned order 2"),
            (Case::Slow, "returned order 1"),
            (Case::InFlight, "raised HttpCallError: request-in-flight"),
            (Case::Unknown, "raised HttpCallError: outcome-unknown, then raised HttpCallError: outcome-unknown"),
            (Case::Reused, "raised HttpCallError: key-reused"),
        ],
        repeats: &[408, 425, 429, 500, 502, 503, 504],
    },
    Sdk {
        name: "squareup==46.0.0.20260916",
        language: Language::Python,
        client: "square",
        keys: Keys::Given,
        needs: r#"{"key": {"pointers": ["/idempotency_key"]}}"#,
        answer: (200, "application/json", r##"{"payment": {"id": "pay-#"}}"##),
        sees: &[
            (Case::Lost, "raised ReadError, then returned pay-1"),
            (Case::Fails, "returned pay-2"),
            (Case::Slow, "raised ReadTimeout, then returned pay-1"),
            (Case::InFlight, "returned pay-1"),
            (Case::Unknown, "raised ApiError: outcome-unknown, then raised ApiError: outcome-unknown"),
            (Case::Reused, "raised ApiError: key-reused"),
        ],
        repeats: &[408, 409, 429, 500, 502, 503, 504],
    },
    Sdk {
        name: "stripe==16.1.0",
        language: Language::Python,
        client: "stripe",
        keys: Keys::Own,
        needs: STRIPE,
        answer: (200, "application/json", r##"{"id": "cus_#", "object": "customer"}"##),
        sees: &[
            (Case::Lost, "returned cus_1"),
            (Case::Fails, "returned cus_2"),
            (Case::Slow, "returned cus_1"),
            (Case::InFlight, "returned cus_1"),
            (Case::Unknown, "raised APIError: outcome-unknown"),
            (Case::Reused, "raised IdempotencyError: key-reused"),
        ],
        repeats: &[409, 500, 502, 503, 504],
    },
    Sdk {
        name: "stripe@23.1.0",
        language: Language::Node,
        client: "stripe",
        keys: Keys::Own,
        needs: STRIPE,
        answer: (200, "application/json", r##"{"id": "cus_#", "object": "customer"}"##),
        sees: &[
            (Case::Lost, "returned cus_1"),
            (Case::Fails, "returned cus_2"),
            (Case::Slow, "returned cus_1"),
            (Case::InFlight, "returned cus_1"),
            (Case::Unknown, "raised StripeAPIError: outcome-unknown"),
            (Case::Reused, "raised StripeIdempotencyError: key-reused"),
        ],
        repeats: &[409, 500, 502, 503, 504],
    },
    Sdk {
        name: "svix==2.9.1",
        language: Language::Python,
        client: "svix",
        keys: Keys::Own,
        needs: r#"{"problems": {"status": {"key-reused": 409}}}"#,
        answer: (
            202,
            "application/json",
            r##"{"id": "msg_#", "eventType": "order.placed", "payload": {}, "timestamp": "2026-01-01T00:00:00Z"}"##,
        ),
        sees: &[
            (Case::Lost, "returned msg_1"),
            (Case::Fails, "returned msg_2"),
            (Case::Slow, "returned msg_1"),
            (Case::InFlight, "raised HttpError: request-in-flight"),
            (Case::Unknown, "raised HttpError: outcome-unknown"),
            (Case::Reused, "raised HttpError: key-reused"),
        ],
        repeats: &[423, 500, 502, 503, 504],
    },
    Sdk {
        name: "workos==10.8.0",
        language: Language::Python,
        client: "workos",
        keys: Keys::Own,
        needs: WORKOS,
        answer: (
            201,
            "application/json",
            r##"{"id": "org_#", "object": "organization", "name": "tea", "domains": [], "metadata": {}, "external_id": null, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}"##,
        ),
        sees: &[
            (Case::Lost, "returned org_1"),
            (Case::Fails, "returned org_2"),
            (Case::Slow, "returned org_1"),
            (Case::InFlight, "raised ConflictError: request-in-flight"),
            (Case::Unknown, "raised ConflictError: outcome-unknown"),
            (Case::Reused, "raised UnprocessableEntityError: key-reused"),
        ],
        repeats: &[429, 500, 502, 503, 504],
    },
    Sdk {
        name: "@workos-inc/node@8.13.0",
        language: Language::Node,
        client: "workos",
        keys: Keys::Given,
        needs: WORKOS,
        answer: (201, "application/json", r##"{"success": true}"##),
        sees: &[
            (Case::Lost, "returned done"),
            (Case::Fails, "returned done"),
            (Case::Slow, "returned done"),
            (Case::InFlight, "raised ConflictException: request-in-flight"),
            (Case::Unknown, "raised Error, then raised ConflictException: outcome-unknown"),
            (Case::Reused, "raised UnprocessableEntityException: key-reused"),
        ],
        repeats: &[408, 500, 502, 504],
    },
];

#[test]
fn the_page_has_a_row_for_each_sdk_with_the_version_and_the_settings_that_are_played() {
    let section = section("SDKs");
    let rows: Vec<Vec<String>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| row.split(" |").map(|cell| cell.trim_matches(['|', ' ']).replace('`', "")).collect())
        .collect();
    let documented: Vec<(&str, &str)> = rows.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
    let played: Vec<(&str, &str)> =
        SDKS.iter().map(|sdk| (sdk.name, if sdk.needs == "{}" { "" } else { sdk.needs })).collect();
    assert_eq!(documented, played, "left: docs/clients.md, right: the table");
    for (sdk, row) in SDKS.iter().zip(&rows) {
        let statuses = row[3].replace("5xx", "500, 502, 503, 504");
        let statuses: Vec<u16> = statuses
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .filter(|n| *n >= 400)
            .collect();
        assert_eq!(statuses, sdk.repeats, "{}: left: docs/clients.md", sdk.name);
        let package = sdk.name.split(',').next().unwrap_or_default();
        let is_locked = match sdk.language {
            Language::Node => {
                let (name, version) = package.rsplit_once('@').expect("a name and a version");
                read("tests/clients/package.json").contains(&format!("\"{name}\": \"{version}\""))
            }
            Language::Python => read("tests/clients/requirements.txt").contains(&format!("\n{package} ")),
        };
        assert!(is_locked, "{package} is not what tools/setup-clients installs");
    }
}

macro_rules! tests {
    ($($test:ident: $name:literal,)*) => {$(
        #[tokio::test]
        async fn $test() {
            check($name).await;
        }
    )*};
}

tests! {
    botocore: "botocore==1.44.8",
    botocore_with_its_token: "botocore==1.44.8, ClientRequestToken",
    gocardless_python: "gocardless-pro==3.22.0",
    gocardless_node: "gocardless-nodejs@10.1.2",
    inngest_python: "inngest==0.5.19",
    modern_treasury: "modern-treasury==1.80.0",
    modern_treasury_upload: "modern-treasury==1.80.0, upload",
    mollie_python: "mollie-api-py==1.10.20",
    openai: "openai==3.57.0",
    openai_without_a_key: "openai==3.57.0, without a key",
    restate: "@restatedev/restate-sdk-clients@1.17.2",
    square: "squareup==46.0.0.20260916",
    stripe_python: "stripe==16.1.0",
    stripe_node: "stripe@23.1.0",
    svix: "svix==2.9.1",
    workos_python: "workos==10.8.0",
    workos_node: "@workos-inc/node@8.13.0",
}
