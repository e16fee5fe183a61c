//! What one policy says, validated and compiled: every type here is ready to be used on the request path.
//!
//! The meaning and the default of each field are the contract's (see `docs/configuration.md`).

use std::time::Duration;

use super::pointers::PointerTree;
use super::problems::ProblemsPolicy;
use super::share::Share;
use crate::headers::is_framing;

/// How requests of one route are guarded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Whether the filter acts, only decides, or does nothing.
    pub mode: Mode,
    /// Where the key is and what a good one looks like.
    pub key: KeyPolicy,
    /// The methods that are guarded, in upper case.
    pub methods: Vec<String>,
    /// Whom a key belongs to.
    pub caller: CallerPolicy,
    /// What separates equal keys of one caller.
    pub resource: Resource,
    /// What a retry must have in common with the first request.
    pub fingerprint: FingerprintPolicy,
    /// What a duplicate gets while the first request runs.
    pub duplicates: DuplicatesPolicy,
    /// What the upstream's answer means for the operation.
    pub outcome: OutcomePolicy,
    /// How long a record is kept, from completion.
    pub ttl: Duration,
    /// How long a claim outlives a dead owner.
    pub lease: Duration,
    /// Where the operation runs.
    pub execution: ExecutionPolicy,
    /// The largest bodies that are held or kept.
    pub limits: Limits,
    /// What a replay says and leaves out.
    pub replay: ReplayPolicy,
    /// What happens when the store fails.
    pub on_store_error: OnStoreError,
    /// What the filter's own answers look like.
    pub problems: ProblemsPolicy,
    /// Whether responses carry `idempotency-status`.
    pub status_header: bool,
    /// Target of the `describedby` link of each problem.
    pub docs_uri: Option<String>,
}

impl Policy {
    /// The methods whose requests it has to do with, in upper case: none if it leaves all alone.
    #[must_use]
    pub fn guarded_methods(&self) -> &[String] {
        if self.mode == Mode::Off { &[] } else { &self.methods }
    }

    /// Whether it has to do with requests of this method, which counts in any case.
    #[must_use]
    pub fn guards_method(&self, method: &[u8]) -> bool {
        self.guarded_methods().iter().any(|guarded| method.eq_ignore_ascii_case(guarded.as_bytes()))
    }
}

/// `mode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Decide and act.
    Enforce,
    /// Decide and count, change nothing on the wire.
    Shadow,
    /// Leave every request alone.
    Off,
}

/// `key`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPolicy {
    /// Field names in lower case; the first one present is the key.
    pub headers: Vec<String>,
    /// Where the body has the key if no such header is there, each pointer as its unescaped reference tokens.
    pub pointers: Vec<Vec<String>>,
    /// How long what a request without any key asks for is one operation, if it is.
    pub derive: Option<Duration>,
    /// How such a header is read.
    pub syntax: KeySyntax,
    /// Whether a guarded method without a key is refused.
    pub required: bool,
    /// Longest key in bytes, after unquoting.
    pub max_length: usize,
    /// Which keys are accepted.
    pub format: KeyFormat,
}

/// `key.syntax`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeySyntax {
    /// Bare, or a Structured Field String.
    Field,
    /// The whole value is the key.
    Opaque,
}

/// `key.format`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyFormat {
    /// Visible ASCII.
    Any,
    /// The 8-4-4-4-12 hexadecimal form of RFC 9562, section 4.
    Uuid,
}

/// `caller`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallerPolicy {
    /// All sources that are present identify the caller, in order.
    pub identity: Vec<IdentitySource>,
    /// Whether a request without any identity is refused.
    pub required: bool,
}

/// One entry of `caller.identity`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IdentitySource {
    /// The part of `Authorization` that names the caller and stays the same from one attempt to the next.
    Credential,
    /// Every value of a request header (name in lower case).
    Header(String),
    /// An Envoy attribute, by path.
    Property(Vec<String>),
}

/// `resource`: which parts of the target separate equal keys of one caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resource {
    /// `:authority`.
    pub authority: bool,
    /// `:method`.
    pub method: bool,
    /// `:path` without its query.
    pub path: bool,
}

/// `fingerprint`. Method, authority and path are always part of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FingerprintPolicy {
    /// Whether the query counts.
    pub query: bool,
    /// How the body counts.
    pub body: BodyFingerprint,
    /// The headers that count, names in lower case.
    pub headers: Vec<String>,
}

/// `fingerprint.body` with `fingerprint.ignore`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BodyFingerprint {
    /// The body's bytes.
    Raw,
    /// What it says as JSON, however it is spelt, without what `ignore` points to.
    Json {
        /// What does not count.
        ignore: PointerTree,
    },
    /// The body does not count and is not held.
    None,
}

/// `duplicates`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DuplicatesPolicy {
    /// What a duplicate in flight gets.
    pub in_flight: InFlight,
    /// How long it waits at most.
    pub wait_timeout: Duration,
    /// How many wait at most in one worker.
    pub max_waiting: u32,
}

/// `duplicates.in_flight`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InFlight {
    /// 409 at once.
    Reject,
    /// Held until the first completes.
    Wait,
}

/// `outcome`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutcomePolicy {
    /// Entries for single codes; they win over classes.
    pub codes: Vec<(u16, Disposition)>,
    /// Entries for classes, `1xx` to `5xx` in order; `None` is a class that no list names.
    pub classes: [Option<Disposition>; 5],
    /// What a retry of an unknown operation gets.
    pub on_unknown: OnUnknown,
}

impl OutcomePolicy {
    /// What an upstream's answer with `status` means; a status that no list names is stored.
    #[must_use]
    pub fn disposition(&self, status: u16) -> Disposition {
        let code = self.codes.iter().find(|(code, _)| *code == status).map(|(_, disposition)| *disposition);
        let class = || usize::from(status / 100).checked_sub(1).and_then(|class| *self.classes.get(class)?);
        code.or_else(class).unwrap_or(Disposition::Store)
    }
}

/// What the filter does with an operation whose upstream answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Disposition {
    /// The response is kept and replayed.
    Store,
    /// The operation did not run: a retry runs it.
    Release,
    /// The operation may have run.
    Unknown,
}

/// `outcome.on_unknown`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OnUnknown {
    /// 409 until the record's end.
    Block,
    /// A new execution once the lease has run out.
    Retry,
}

/// `execution`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecutionPolicy {
    /// In the client's stream or outside of it.
    pub mode: ExecutionMode,
    /// How long a detached call may take.
    pub timeout: Duration,
    /// The cluster of detached calls; the route's own if absent.
    pub cluster: Option<String>,
    /// How many detached calls one worker has under way at most.
    pub max_calls: u32,
    /// Fields of the request that detached calls do not have, in lower case.
    pub drop_headers: Vec<String>,
}

/// `execution.mode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExecutionMode {
    /// The request goes down the filter chain.
    Inline,
    /// The filter calls the upstream itself, so that the client may hang up.
    Detached,
}

/// `limits`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// A larger guarded request is refused where its body is held, in bytes.
    pub request_body: u64,
    /// A larger response is delivered whole and kept as a tombstone, in bytes.
    pub response_body: u64,
    /// What one caller may have of what all use.
    pub caller_share: Share,
}

/// `replay`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplayPolicy {
    /// The field that marks a replay, in lower case.
    pub header: String,
    /// Fields that are not replayed besides the fixed ones, in lower case.
    pub drop_headers: Vec<String>,
    /// Fields that are replayed although they belong to one client or one message, in lower case. None of them is among
    /// those above.
    pub keep_headers: Vec<String>,
}

impl ReplayPolicy {
    /// Whether a replay may have the first response's field of this name, apart from those that `connection` names.
    #[must_use]
    pub fn allows(&self, name: &[u8]) -> bool {
        let names = |list: &[String]| list.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
        !is_never_replayed(name)
            && !name.eq_ignore_ascii_case(self.header.as_bytes())
            && !names(&self.drop_headers)
            && (!is_of_one_client(name) || names(&self.keep_headers))
    }
}

/// Fields that frame a message, that belong to one message, or that the host or the filter sets anew on each.
pub(super) fn is_never_replayed(name: &[u8]) -> bool {
    const NAMES: [&str; 6] =
        ["date", "idempotency-expires", "idempotency-policy", "idempotency-status", "server", "www-authenticate"];
    is_framing(name) || is_among(&NAMES, name) || has_prefix(name, b"proxy-") || has_prefix(name, b"x-envoy-")
}

/// Fields that set up a session, or that answer one message of one: the client may retry in another session.
fn is_of_one_client(name: &[u8]) -> bool {
    const NAMES: [&str; 7] = [
        "authentication-info",
        "clear-site-data",
        "dpop-nonce",
        "mcp-session-id",
        "replay-nonce",
        "set-cookie",
        "set-cookie2",
    ];
    is_among(&NAMES, name) || has_prefix(name, b"sec-session-")
}

fn is_among(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// `on_store_error`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnStoreError {
    /// 503 with `Retry-After`.
    Reject,
    /// Execute unprotected, and say so.
    Bypass,
}
