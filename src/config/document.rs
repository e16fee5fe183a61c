//! The configuration as it is written: one struct per object, every key optional, each value checked by its type.
//!
//! The JSON Schema is made of these types and of their documentation, so the comments here speak to operators.
//! What the values mean together is [`super::compile`]'s to decide.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};

use super::error::ConfigError;
use super::json::Node;
use super::policy::{ExecutionMode, InFlight, KeyFormat, KeySyntax, Mode, OnStoreError, OnUnknown};
use super::store::{MOST_ENTRIES, OnFull, Unsigned};
use super::value::{
    AuthorityPattern, FieldName, LinkTarget, List, MediaType, Method, Number, PathPattern, Percentage, Period, Pointer,
    PropertyPath, RouteName, SchemaName, Secret, Size, StatusEntry, TableName, Text, Word, Words,
};

/// Configuration of Idemgate, an Envoy filter that makes HTTP services safe to retry by Idempotency-Key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct Document {
    /// Which part the module plays in this listener; without it, it is the filter. "store_stream" stands alone in
    /// the cluster of a store and lets the filter keep connections to it. "admin" lets operators look up and
    /// change single operations; beside its guard it has the filter's own settings.
    pub(super) role: Option<Word<Role>>,
    /// What keeps others away from an admin: the addresses of each connection ("loopback"), or the operator's own
    /// filters, which the metadata of the listener must vouch for ("filters"). Only if role is "admin", and then it must
    /// be given.
    pub(super) guard: Option<Word<Guard>>,
    /// Whether the filter acts ("enforce"), only decides, records and counts, and changes nothing ("shadow"), or leaves
    /// every request alone ("off").
    pub(super) mode: Option<Word<Mode>>,
    /// Where the idempotency key is and what a good one looks like.
    pub(super) key: Option<KeyDocument>,
    /// The methods that are guarded, in any case. GET, HEAD, OPTIONS, TRACE, CONNECT and QUERY never are.
    pub(super) methods: Option<List<Method, 1>>,
    /// Whom a key belongs to.
    pub(super) caller: Option<CallerDocument>,
    /// What separates equal keys of one caller. The path is without its query.
    pub(super) resource: Option<List<Word<ResourcePart>>>,
    /// What a retry must have in common with the first request. Method, authority and path always count.
    pub(super) fingerprint: Option<FingerprintDocument>,
    /// What a duplicate gets while the first request runs.
    pub(super) duplicates: Option<DuplicatesDocument>,
    /// What the upstream's answer means for the operation, by status. The entries are laid over the defaults one by
    /// one; a code wins over its class; a status that no list names is stored.
    pub(super) outcome: Option<OutcomeDocument>,
    /// How long a completed operation is kept, from its completion; a replay does not extend it.
    pub(super) ttl: Option<Period<SECOND, TEN_YEARS>>,
    /// How long a claim outlives an owner that died; it is renewed while its owner lives.
    pub(super) lease: Option<Period<SECOND, DAY>>,
    /// Where the operation runs.
    pub(super) execution: Option<ExecutionDocument>,
    /// The largest bodies that are held or kept, and how much is held in all.
    pub(super) limits: Option<LimitsDocument>,
    /// What a replay says and leaves out.
    pub(super) replay: Option<ReplayDocument>,
    /// What the filter's own answers look like, to clients that do not know problem details.
    pub(super) problems: Option<ProblemsDocument>,
    /// Where the records are.
    pub(super) store: Option<StoreDocument>,
    /// What happens when the store fails: 503 ("reject"), or the request runs unprotected ("bypass").
    pub(super) on_store_error: Option<Word<OnStoreError>>,
    /// Whether responses to guarded requests carry idempotency-status.
    pub(super) status_header: Option<bool>,
    /// A URI, or an absolute path, sent as a Link with rel="describedby" with every problem.
    pub(super) docs_uri: Option<LinkTarget>,
    /// Other settings for some requests; the first match wins.
    pub(super) routes: Option<Vec<RouteDocument>>,
}

impl Document {
    /// Reads JSON text.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        Node::parse(text)?.read()
    }
}

/// What `{"role": …}` makes of the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Admin,
    StoreStream,
}

/// What keeps others away from an admin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// The operator's own filters, as the metadata of the listener says.
    Filters,
    /// The addresses of each connection.
    Loopback,
}

impl Words for Role {
    const WORDS: &'static [(&'static str, Self)] = &[("store_stream", Self::StoreStream), ("admin", Self::Admin)];
}

impl Words for Guard {
    const WORDS: &'static [(&'static str, Self)] = &[("loopback", Self::Loopback), ("filters", Self::Filters)];
}

impl Words for Mode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

/// How a value is written.
pub(super) fn word_of<T: Words + PartialEq>(value: T) -> &'static str {
    T::WORDS.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct KeyDocument {
    /// Names of headers, in any case; the first one present is the key.
    pub(super) headers: Option<List<FieldName, 1>>,
    /// How such a header is read: bare or as a Structured Field String ("field"), or its whole value, as it is, as the key
    /// ("opaque"), in which spaces, commas and quotes count.
    pub(super) syntax: Option<Word<KeySyntax>>,
    /// JSON Pointers (RFC 6901) into the body, looked at in order if no such header is there: a string or a whole number is
    /// the key. Only where the body is held: unless fingerprint.body is "none" and execution.mode "inline".
    pub(super) pointers: Option<List<Pointer>>,
    /// A key for guarded requests that have none and an identity: what they ask for, for a window only. Excludes required.
    pub(super) derive: Option<DeriveDocument>,
    /// Whether a guarded method without a key gets 400.
    pub(super) required: Option<bool>,
    /// The longest key in bytes, after unquoting; 36 at least if format is "uuid".
    pub(super) max_length: Option<Number<1, 4096>>,
    /// Which keys are good: visible ASCII ("any"), or the textual form of a UUID ("uuid").
    pub(super) format: Option<Word<KeyFormat>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct DeriveDocument {
    /// For how long equal requests without a key are one, from the end of the first.
    pub(super) window: Period<SECOND, HOUR>,
}

impl Words for KeySyntax {
    const WORDS: &'static [(&'static str, Self)] = &[("field", Self::Field), ("opaque", Self::Opaque)];
}

impl Words for KeyFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("any", Self::Any), ("uuid", Self::Uuid)];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct CallerDocument {
    /// What identifies the caller: all that are present are hashed in, in order.
    pub(super) identity: Option<List<IdentityDocument>>,
    /// Whether a request without any identity gets 403; otherwise all such requests are one caller.
    pub(super) required: Option<bool>,
}

/// Exactly one of header, property and authorization.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, expecting = "an object with exactly one of header, property, authorization")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(
    not(target_arch = "wasm32"),
    schemars(extend("oneOf" = [
        {"required": ["header"], "maxProperties": 1},
        {"required": ["property"], "maxProperties": 1},
        {"required": ["authorization", "verified"], "maxProperties": 2, "properties": {"verified": {"const": true}}},
    ]))
)]
pub(super) struct IdentityDocument {
    /// The name of a request header; every value of it counts. The scheme of authorization counts without case.
    pub(super) header: Option<FieldName>,
    /// The path of an Envoy attribute, such as the verified sub that jwt_authn wrote to dynamic metadata. The order of
    /// entries in a map does not count.
    pub(super) property: Option<PropertyPath>,
    /// Which part of the Authorization header: "credential" is what stays the same from one attempt to the next in a
    /// scheme that signs each of them (AWS4-HMAC-SHA256, AWS4-ECDSA-P256-SHA256, OAuth 1, Digest). Of other schemes
    /// the whole header counts.
    pub(super) authorization: Option<Word<AuthorizationPart>>,
    /// That a filter in front verifies the credential, whose parts are public: must be true with authorization.
    pub(super) verified: Option<bool>,
}

/// `caller.identity[].authorization`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AuthorizationPart {
    Credential,
}

impl Words for AuthorizationPart {
    const WORDS: &'static [(&'static str, Self)] = &[("credential", Self::Credential)];
}

/// One entry of `resource`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResourcePart {
    Authority,
    Method,
    Path,
}

impl Words for ResourcePart {
    const WORDS: &'static [(&'static str, Self)] =
        &[("authority", Self::Authority), ("method", Self::Method), ("path", Self::Path)];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct FingerprintDocument {
    /// Whether the query counts.
    pub(super) query: Option<bool>,
    /// How the body counts: its bytes ("raw"), what its JSON means ("json"; numbers by their exact value; a body that is
    /// not JSON counts raw), or not at all ("none").
    pub(super) body: Option<Word<BodyKind>>,
    /// JSON Pointers (RFC 6901) to parts of the body that do not count; only if body is "json".
    pub(super) ignore: Option<List<Pointer>>,
    /// Names of the headers that count, in any case.
    pub(super) headers: Option<List<FieldName>>,
}

/// `fingerprint.body`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BodyKind {
    Json,
    None,
    Raw,
}

impl Words for BodyKind {
    const WORDS: &'static [(&'static str, Self)] = &[("raw", Self::Raw), ("json", Self::Json), ("none", Self::None)];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct DuplicatesDocument {
    /// 409 at once ("reject"), or held until the first request completes ("wait").
    pub(super) in_flight: Option<Word<InFlight>>,
    /// How long a duplicate is held before it gets 409; only if in_flight is "wait".
    pub(super) wait_timeout: Option<Period<TEN_MILLIS, TEN_MINUTES>>,
    /// How many duplicates one worker holds; past it 409; only if in_flight is "wait".
    pub(super) max_waiting: Option<Number<1, 65_536>>,
}

impl Words for InFlight {
    const WORDS: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("wait", Self::Wait)];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct OutcomeDocument {
    /// Statuses whose response is kept and replayed.
    pub(super) store: Option<List<StatusEntry>>,
    /// Statuses that say that nothing was done: a retry runs.
    pub(super) release: Option<List<StatusEntry>>,
    /// Statuses that leave open whether something was done: a retry gets what on_unknown says.
    pub(super) unknown: Option<List<StatusEntry>>,
    /// What a retry of an unknown operation gets: 409 until ttl ("block"), or a new execution once the lease has run
    /// out ("retry").
    pub(super) on_unknown: Option<Word<OnUnknown>>,
}

impl Words for OnUnknown {
    const WORDS: &'static [(&'static str, Self)] = &[("block", Self::Block), ("retry", Self::Retry)];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct ExecutionDocument {
    /// Down the filter chain ("inline"), or outside the client's stream ("detached").
    pub(super) mode: Option<Word<ExecutionMode>>,
    /// How long a detached call may take; only if mode is "detached".
    pub(super) timeout: Option<Period<TEN_MILLIS, HOUR>>,
    /// The Envoy cluster that executes, instead of the route's own; only if mode is "detached".
    pub(super) cluster: Option<Text>,
    /// How many detached calls one worker has under way; past it 503; only if mode is "detached".
    pub(super) max_calls: Option<Number<1, 65_536>>,
    /// Names of request headers that a detached call does not take to the service: those that the route or a filter
    /// behind would remove or overwrite. Only if mode is "detached".
    pub(super) drop_headers: Option<List<FieldName>>,
}

impl Words for ExecutionMode {
    const WORDS: &'static [(&'static str, Self)] = &[("inline", Self::Inline), ("detached", Self::Detached)];
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct LimitsDocument {
    /// A larger guarded request gets 413, where its body is held: unless fingerprint.body is "none" and execution.mode
    /// "inline".
    pub(super) request_body: Option<Size<1, { 64 * MIB }>>,
    /// A larger response is delivered whole and kept as a tombstone; not above store.shared_data.max_bytes.
    pub(super) response_body: Option<Size<0, { 64 * MIB }>>,
    /// What one caller may have of the entries of store.shared_data, of duplicates.max_waiting and of
    /// execution.max_calls, once half is taken; a caller with more is refused alone, and its oldest completed operations
    /// go first. "100%" binds nobody.
    pub(super) caller_share: Option<Percentage>,
    /// How much memory one worker takes, besides the records of store.shared_data, for requests that are held, responses
    /// that are copied, detached calls, and answers that a remote store has yet to take; past it a request gets 503, and
    /// a response is kept as a tombstone. At least four times request_body and response_body. Not in the policy of a route.
    pub(super) memory: Option<Size<MIB, { 64 * GIB }>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct ReplayDocument {
    /// The header that is set to "true" on every replay.
    pub(super) header: Option<FieldName>,
    /// Names of headers that are not replayed, on top of set-cookie, set-cookie2, mcp-session-id, authentication-info,
    /// clear-site-data, dpop-nonce, replay-nonce and sec-session-*, which only keep_headers brings back, and of
    /// hop-by-hop ones, www-authenticate, proxy-*, date, server and x-envoy-*, which never are.
    pub(super) drop_headers: Option<List<FieldName>>,
    /// Names of headers that are replayed although they belong to one client or one message, such as set-cookie.
    pub(super) keep_headers: Option<List<FieldName>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct ProblemsDocument {
    /// Whether each answer of the filter's own has x-should-retry and stripe-should-retry: "false" where the same request,
    /// sent again, can get no other answer, "true" where it can.
    pub(super) retry_hints: Option<bool>,
    /// Whether a problem has the member "error" ({"type": "idempotency_error", "code": NAME, "message": DETAIL}), by which
    /// some SDKs know a failure.
    pub(super) error_member: Option<bool>,
    /// Other statuses, by the name of the problem.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<super::schema::Statuses>"))]
    pub(super) status: Option<Node>,
    /// A template for the whole body instead of problem details, as JSON or as text that is JSON once it is filled:
    /// ${name}, ${title} and ${detail} within its strings, and ${status}, which alone in a string is a number. null for
    /// problem details.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<super::schema::AnyJson>"))]
    pub(super) body: Option<Node>,
    /// The media type of such a body; only with body.
    pub(super) content_type: Option<MediaType>,
}

impl Words for OnStoreError {
    const WORDS: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("bypass", Self::Bypass)];
}

/// `store`.
#[derive(Debug)]
pub(super) enum StoreDocument {
    DynamoDb(DynamoDbDocument),
    Postgres(PostgresDocument),
    Redis(RedisDocument),
    SharedData(SharedDataDocument),
}

impl<'de> Deserialize<'de> for StoreDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StoresDocument { shared_data, redis, postgres, dynamodb } = StoresDocument::deserialize(deserializer)?;
        let stores = [
            ("shared_data", shared_data.map(Self::SharedData)),
            ("redis", redis.map(Self::Redis)),
            ("postgres", postgres.map(Self::Postgres)),
            ("dynamodb", dynamodb.map(Self::DynamoDb)),
        ];
        let (names, mut found): (Vec<_>, Vec<_>) =
            stores.into_iter().filter_map(|(name, store)| Some((name, store?))).unzip();
        match (found.pop(), found.as_slice()) {
            (Some(store), []) => Ok(store),
            _ => {
                let found = if names.is_empty() { "none of them".to_owned() } else { names.join(" and ") };
                Err(D::Error::invalid_value(Unexpected::Other(&found), &ONE_STORE))
            }
        }
    }
}

const ONE_STORE: &str = "exactly one of shared_data, redis, postgres, dynamodb";

/// Exactly one of shared_data, redis, postgres and dynamodb.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with exactly one of shared_data, redis, postgres, dynamodb")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
pub(super) struct StoresDocument {
    /// The memory of this Envoy process, common to its workers.
    shared_data: Option<SharedDataDocument>,
    /// Redis or Valkey, for any number of Envoys.
    redis: Option<RedisDocument>,
    /// PostgreSQL 13 or newer, for any number of Envoys.
    postgres: Option<PostgresDocument>,
    /// A table in DynamoDB, for any number of Envoys.
    dynamodb: Option<DynamoDbDocument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct SharedDataDocument {
    /// How many operations are kept at most: as many as max_bytes allows, at 640 bytes each, unless set. Not more than
    /// it can hold, at 384 bytes each.
    pub(super) max_entries: Option<Number<1, MOST_ENTRIES>>,
    /// How much memory the records may take.
    pub(super) max_bytes: Option<Size<{ 64 * KIB }, { 64 * GIB }>>,
    /// What a new operation does to a full store: the oldest completed one that is older than keep_at_least goes
    /// ("evict_oldest"), or it gets 503 ("reject"). A claim in flight or an unknown outcome is never evicted.
    pub(super) on_full: Option<Word<OnFull>>,
    /// How long a completed operation is kept in any case, also in a full store; ttl, if that is shorter.
    pub(super) keep_at_least: Option<Period<0, TEN_YEARS>>,
}

impl Words for OnFull {
    const WORDS: &'static [(&'static str, Self)] = &[("evict_oldest", Self::EvictOldest), ("reject", Self::Reject)];
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct RedisDocument {
    /// The Envoy cluster of the Redis servers.
    pub(super) cluster: Text,
    /// What every Redis key starts with.
    pub(super) prefix: Option<Text>,
    /// How long a request waits for an answer of the store at most.
    pub(super) timeout: Option<Period<10, MINUTE>>,
    /// The number of the Redis database. Redis Cluster has only 0.
    pub(super) database: Option<Number<0, 65_535>>,
    /// The name of a Redis user (ACL); needs a password.
    pub(super) username: Option<Text>,
    /// The password, never shown, or the environment variable that holds it: {"env": NAME}.
    pub(super) password: Option<Secret>,
    /// How many persistent connections each worker keeps to Redis at most; they need the role store_stream in the cluster.
    /// 0 opens a connection for each call.
    pub(super) connections: Option<Number<0, 16>>,
    /// The largest response, as it is stored; of a larger one only the fact that there was one is kept. Over 32 KiB only
    /// with persistent connections: without, Redis cuts long replies.
    pub(super) max_record: Option<Size<KIB, { 16 * MIB }>>,
    /// A secret text, or the environment variable that holds it, or several of these with the newest first: each record is
    /// signed with the first, and one that is signed with none of them is damaged. The same for all Envoys. Never shown.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<super::schema::IntegrityKeys>"))]
    pub(super) integrity_key: Option<Secret>,
    /// What happens to records that are not signed, for the time in which a fleet is given its first integrity_key: they
    /// are damaged ("refuse"), are read ("accept"), or are still written, too ("write"). Only with integrity_key.
    pub(super) unsigned_records: Option<Word<Unsigned>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct PostgresDocument {
    /// The Envoy cluster of the PostgreSQL servers, or of PgBouncer; it needs the role store_stream.
    pub(super) cluster: Text,
    /// The name of the database.
    pub(super) database: Text,
    /// The role that logs in.
    pub(super) username: Text,
    /// Its password, of ASCII characters, never shown, or the environment variable that holds it: {"env": NAME}.
    pub(super) password: Option<Secret>,
    /// The schema that schema.sql was applied to. Routes in shadow mode use another one, with _shadow at the end of its name.
    pub(super) schema: Option<SchemaName>,
    /// How many connections each worker keeps at most.
    pub(super) connections: Option<Number<1, 16>>,
    /// How long a request waits for an answer of the store at most.
    pub(super) timeout: Option<Period<10, MINUTE>>,
    /// The largest response, as it is stored; of a larger one only the fact that there was one is kept.
    pub(super) max_record: Option<Size<KIB, { 16 * MIB }>>,
    /// Whether expired records are removed; false if the database has a job that calls sweep_v1.
    pub(super) sweep: Option<bool>,
    /// As that of redis: what each record is signed with.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<super::schema::IntegrityKeys>"))]
    pub(super) integrity_key: Option<Secret>,
    /// As that of redis: what happens to records that are not signed. Only with integrity_key.
    pub(super) unsigned_records: Option<Word<Unsigned>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct DynamoDbDocument {
    /// The Envoy cluster of DynamoDB, with the upstream filter aws_request_signing.
    pub(super) cluster: Text,
    /// The name of the table, or its ARN.
    pub(super) table: TableName,
    /// How long a request waits for an answer of the store at most.
    pub(super) timeout: Option<Period<10, MINUTE>>,
    /// The largest response, as it is stored; of a larger one only the fact that there was one is kept. An item has 400 KB
    /// at most.
    pub(super) max_record: Option<Size<KIB, { 395 * KIB }>>,
    /// As in store.redis.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<super::schema::IntegrityKeys>"))]
    pub(super) integrity_key: Option<Secret>,
    /// As in store.redis.
    pub(super) unsigned_records: Option<Word<Unsigned>>,
}

impl Words for Unsigned {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("accept", Self::Accept), ("write", Self::Write)];
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct RouteDocument {
    /// A name of its own, by which metrics tell the route from others.
    pub(super) name: Option<RouteName>,
    /// Which requests; what is left out matches any.
    #[serde(rename = "match")]
    pub(super) matches: MatchDocument,
    /// The settings that differ.
    pub(super) policy: RoutePolicyDocument,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(super) struct MatchDocument {
    /// A pattern over the path without its query: * matches within a segment, ** across; "/orders/**" is /orders and
    /// everything below it.
    pub(super) path: Option<PathPattern>,
    /// Methods, in any case.
    pub(super) methods: Option<List<Method, 1>>,
    /// A pattern over the authority, in any case: * matches within a label, ** across. Without a port it matches any.
    pub(super) authority: Option<AuthorityPattern>,
    /// Patterns over the values of headers, by name; each must be there. * matches any characters. A header with several
    /// lines counts as one, joined by commas.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<super::schema::HeaderPatterns>"))]
    pub(super) headers: Option<Node>,
}

/// What a route may change: every setting except `store`, `routes`, `role`, `guard`, `prefix` and `limits.memory`.
#[derive(Debug)]
pub(super) struct RoutePolicyDocument(pub(super) Box<Document>);

impl<'de> Deserialize<'de> for RoutePolicyDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        let found = match &document {
            Document { store: Some(_), .. } => "store",
            Document { routes: Some(_), .. } => "routes",
            Document { role: Some(_), .. } => "role",
            Document { guard: Some(_), .. } => "guard",
            Document { limits: Some(LimitsDocument { memory: Some(_), .. }), .. } => "limits.memory",
            _ => return Ok(Self(Box::new(document))),
        };
        let allowed = "any setting except store, routes, role, guard and limits.memory";
        Err(D::Error::invalid_value(Unexpected::Other(found), &allowed))
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

// In milliseconds.
const TEN_MILLIS: u64 = 10;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const TEN_MINUTES: u64 = 10 * MINUTE;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const TEN_YEARS: u64 = 3_650 * DAY;
