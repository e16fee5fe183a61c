//! From what is written to what the request path uses: the settings laid over a base, and checked together.

use std::sync::Arc;

use super::document::{
    AuthorizationPart, BodyKind, CallerDocument, Document, DuplicatesDocument, DynamoDbDocument, ExecutionDocument,
    FingerprintDocument, IdentityDocument, KeyDocument, LimitsDocument, MatchDocument, OutcomeDocument,
    PostgresDocument, ProblemsDocument, RedisDocument, ReplayDocument, ResourcePart, RouteDocument,
    RoutePolicyDocument, SharedDataDocument, StoreDocument,
};
use super::error::{ConfigError, JsonPath};
use super::filter::{Config, DEFAULT_MEMORY};
use super::pointers::PointerTree;
use super::policy::{
    BodyFingerprint, CallerPolicy, Disposition, DuplicatesPolicy, ExecutionMode, ExecutionPolicy, FingerprintPolicy,
    IdentitySource, InFlight, KeyFormat, KeyPolicy, Limits, OutcomePolicy, Policy, ReplayPolicy, Resource,
    is_never_replayed,
};
use super::problems::{BodyTemplate, ProblemsPolicy, read_statuses};
use super::routes::{self, Criteria, Route};
use super::store::{
    DynamoDbConfig, ENTRY_BYTES, IntegrityConfig, PostgresConfig, RedisConfig, SharedDataConfig, StoreConfig, Unsigned,
};
use super::value::{
    Environment, HeaderPatterns, List, Number, Percentage, Period, Secret, Size, StatusEntry, Word, bytes_text,
};
use crate::headers::is_framing;

impl Document {
    /// The configuration that the document asks for.
    pub(super) fn compile(mut self, environment: Environment<'_>) -> Result<Config, ConfigError> {
        if self.role.is_some() {
            return Err(ConfigError::new("role", "a role other than the filter's", "no role, which is the filter"));
        }
        if self.guard.is_some() {
            return Err(without_effect("guard", "role", "admin"));
        }
        let limit_is_set = self.sets_response_limit();
        let memory = self.limits.as_ref().and_then(|limits| limits.memory.map(Size::get));
        let routes = self.routes.take().unwrap_or_default();
        let store = match self.store.take() {
            Some(StoreDocument::SharedData(document)) => StoreConfig::SharedData(document.compile()?),
            Some(StoreDocument::DynamoDb(document)) => StoreConfig::DynamoDb(document.compile(environment)?),
            Some(StoreDocument::Redis(document)) => StoreConfig::Redis(document.compile(environment)?),
            Some(StoreDocument::Postgres(document)) => StoreConfig::Postgres(document.compile(environment)?),
            None => StoreConfig::default(),
        };
        let policy = self.over(Policy::default())?;
        largest_response_fits(&policy.limits, limit_is_set, &store)?;
        let routes = compile_routes(routes, &policy, &store)?;
        let config =
            Config { policy: Arc::new(policy.in_effect()), routes, store, memory: memory.unwrap_or(DEFAULT_MEMORY) };
        largest_bodies_fit(&config)?;
        Ok(config)
    }

    fn sets_response_limit(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| limits.response_body.is_some())
    }

    /// The policy that is `base` except for what the document sets.
    fn over(self, base: Policy) -> Result<Policy, ConfigError> {
        let policy = Policy {
            mode: self.mode.map_or(base.mode, Word::get),
            key: self.key.unwrap_or_default().over(base.key)?,
            methods: self.methods.map_or(base.methods, List::into_values),
            caller: self.caller.unwrap_or_default().over(base.caller)?,
            resource: self.resource.map_or(base.resource, resource),
            fingerprint: self.fingerprint.unwrap_or_default().over(base.fingerprint)?,
            duplicates: self.duplicates.unwrap_or_default().over(base.duplicates)?,
            outcome: self.outcome.unwrap_or_default().over(base.outcome)?,
            ttl: self.ttl.map_or(base.ttl, Period::get),
            lease: self.lease.map_or(base.lease, Period::get),
            execution: self.execution.unwrap_or_default().over(base.execution)?,
            limits: self.limits.unwrap_or_default().over(base.limits),
            replay: self.replay.unwrap_or_default().over(base.replay)?,
            problems: self.problems.unwrap_or_default().over(base.problems)?,
            on_store_error: self.on_store_error.map_or(base.on_store_error, Word::get),
            status_header: self.status_header.unwrap_or(base.status_header),
            docs_uri: self.docs_uri.map(String::from).or(base.docs_uri),
        };
        keys_can_be_found(&policy)?;
        Ok(policy)
    }
}

/// Each route with its policy, which is `base` except for what the route sets.
fn compile_routes(
    documents: Vec<RouteDocument>,
    base: &Policy,
    store: &StoreConfig,
) -> Result<Vec<Route>, ConfigError> {
    let routes = documents.into_iter().enumerate().map(|(index, document)| {
        document.compile(base, store).map_err(|error| error.within(JsonPath::from("routes").entry(index)))
    });
    let routes = routes.collect::<Result<Vec<_>, _>>()?;
    routes::check(&routes)?;
    Ok(routes)
}

impl RouteDocument {
    fn compile(self, base: &Policy, store: &StoreConfig) -> Result<Route, ConfigError> {
        let RoutePolicyDocument(document) = self.policy;
        let limit_is_set = document.sets_response_limit();
        let policy = document
            .over(base.clone())
            .and_then(|policy| largest_response_fits(&policy.limits, limit_is_set, store).map(|()| policy))
            .map_err(|error| error.within("policy"))?;
        let MatchDocument { path, methods, authority, headers } = self.matches;
        let methods = methods.map(List::into_values);
        let headers = match &headers {
            Some(node) => HeaderPatterns::read(node).map_err(|error| error.within("match.headers"))?,
            None => HeaderPatterns::default(),
        };
        let criteria = Criteria { path, methods, authority, headers };
        Ok(Route { name: self.name.map(String::from), policy: Arc::new(policy.in_effect()), criteria })
    }
}

impl KeyDocument {
    fn over(self, base: KeyPolicy) -> Result<KeyPolicy, ConfigError> {
        if self.derive.is_some() && self.required == Some(true) {
            let found = "a key for requests that key.required refuses";
            return Err(ConfigError::new("key.derive", found, "only if key.required is false"));
        }
        // What a route says of one ends the other.
        let derived = base.derive.filter(|_| self.required != Some(true));
        let required = base.required && self.derive.is_none();
        let key = KeyPolicy {
            headers: self.headers.map_or(base.headers, List::into_values),
            syntax: self.syntax.map_or(base.syntax, Word::get),
            pointers: self.pointers.map_or(base.pointers, List::into_values),
            derive: self.derive.map(|derive| derive.window.get()).or(derived),
            required: self.required.unwrap_or(required),
            max_length: self.max_length.map_or(base.max_length, |length| length.get() as usize),
            format: self.format.map_or(base.format, Word::get),
        };
        if key.format == KeyFormat::Uuid && key.max_length < UUID_LENGTH {
            return Err(ConfigError::new(
                "key.max_length",
                format!("{}, too short for any key of format \"uuid\"", key.max_length),
                format!("{UUID_LENGTH} or more if key.format is \"uuid\""),
            ));
        }
        Ok(key)
    }
}

/// Refuses sources of keys that could never have one, or that would take different requests for one.
fn keys_can_be_found(policy: &Policy) -> Result<(), ConfigError> {
    let counts_no_body = policy.fingerprint.body == BodyFingerprint::None;
    if !policy.key.pointers.is_empty() && counts_no_body && policy.execution.mode == ExecutionMode::Inline {
        return Err(ConfigError::new(
            "key.pointers",
            "pointers into a body that is not held",
            "only if fingerprint.body is \"raw\" or \"json\", or execution.mode is \"detached\"",
        ));
    }
    if policy.key.derive.is_none() {
        return Ok(());
    }
    if counts_no_body {
        let found = "a key derived from the request, while its body does not count";
        return Err(ConfigError::new("key.derive", found, "only if fingerprint.body is \"raw\" or \"json\""));
    }
    if policy.caller.identity.is_empty() {
        let found = "a key derived from an identity, which no request has";
        return Err(ConfigError::new("key.derive", found, "only if caller.identity is not empty"));
    }
    Ok(())
}

impl CallerDocument {
    fn over(self, base: CallerPolicy) -> Result<CallerPolicy, ConfigError> {
        let identity = match self.identity {
            Some(sources) => {
                sources.into_values().into_iter().enumerate().map(identity_source).collect::<Result<_, _>>()?
            }
            None => base.identity,
        };
        let caller = CallerPolicy { identity, required: self.required.unwrap_or(base.required) };
        if caller.required && caller.identity.is_empty() {
            return Err(ConfigError::new(
                "caller.identity",
                "an empty list, with which caller.required would refuse every request",
                "a list that is not empty if caller.required is true",
            ));
        }
        let is_whole =
            |source: &IdentitySource| matches!(source, IdentitySource::Header(name) if name == "authorization");
        if caller.identity.contains(&IdentitySource::Credential) && caller.identity.iter().any(is_whole) {
            return Err(ConfigError::new(
                "caller.identity",
                "both the header authorization, which is another one in each attempt, and its credential",
                "one of them",
            ));
        }
        Ok(caller)
    }
}

fn identity_source((index, document): (usize, IdentityDocument)) -> Result<IdentitySource, ConfigError> {
    let path = JsonPath::from("caller.identity").entry(index);
    let IdentityDocument { header, property, authorization, verified } = document;
    let one_source = "exactly one of header, property, authorization";
    let source = match (header, property, authorization.map(Word::get)) {
        (Some(name), None, None) => IdentitySource::Header(name.into()),
        (None, Some(path), None) => IdentitySource::Property(path.into()),
        (None, None, Some(AuthorizationPart::Credential)) => IdentitySource::Credential,
        (None, None, None) => {
            return Err(ConfigError::new(path, "none of header, property, authorization", one_source));
        }
        _ => return Err(ConfigError::new(path, "more than one of header, property, authorization", one_source)),
    };
    match (source == IdentitySource::Credential, verified) {
        (true, Some(true)) | (false, None) => Ok(source),
        (true, _) => Err(ConfigError::new(
            path.key("verified"),
            "a credential that nothing verifies",
            "true beside authorization, if a filter in front refuses requests whose signature is not the credential's: \
             the credential is public",
        )),
        (false, _) => {
            Err(ConfigError::new(path.key("verified"), "a value that has no effect here", "only with authorization"))
        }
    }
}

fn resource(parts: List<Word<ResourcePart>>) -> Resource {
    let names = |part| parts.iter().any(|word| word.get() == part);
    Resource {
        authority: names(ResourcePart::Authority),
        method: names(ResourcePart::Method),
        path: names(ResourcePart::Path),
    }
}

impl FingerprintDocument {
    fn over(self, base: FingerprintPolicy) -> Result<FingerprintPolicy, ConfigError> {
        let (kind, ignore) = match base.body {
            BodyFingerprint::Json { ignore } => (BodyKind::Json, ignore),
            BodyFingerprint::None => (BodyKind::None, PointerTree::default()),
            BodyFingerprint::Raw => (BodyKind::Raw, PointerTree::default()),
        };
        let kind = self.body.map_or(kind, Word::get);
        if kind != BodyKind::Json && self.ignore.as_ref().is_some_and(|pointers| !pointers.is_empty()) {
            return Err(without_effect("fingerprint.ignore", "fingerprint.body", "json"));
        }
        let ignore = self.ignore.map_or(ignore, |pointers| PointerTree::new(&pointers.into_values::<Vec<_>>()));
        Ok(FingerprintPolicy {
            query: self.query.unwrap_or(base.query),
            body: match kind {
                BodyKind::Json => BodyFingerprint::Json { ignore },
                BodyKind::None => BodyFingerprint::None,
                BodyKind::Raw => BodyFingerprint::Raw,
            },
            headers: self.headers.map_or(base.headers, List::into_values),
        })
    }
}

impl DuplicatesDocument {
    fn over(self, base: DuplicatesPolicy) -> Result<DuplicatesPolicy, ConfigError> {
        let in_flight = self.in_flight.map_or(base.in_flight, Word::get);
        if in_flight != InFlight::Wait {
            if self.wait_timeout.is_some() {
                return Err(without_effect("duplicates.wait_timeout", "duplicates.in_flight", "wait"));
            }
            if self.max_waiting.is_some() {
                return Err(without_effect("duplicates.max_waiting", "duplicates.in_flight", "wait"));
            }
        }
        Ok(DuplicatesPolicy {
            in_flight,
            wait_timeout: self.wait_timeout.map_or(base.wait_timeout, Period::get),
            max_waiting: self.max_waiting.map_or(base.max_waiting, Number::get),
        })
    }
}

impl OutcomeDocument {
    /// Lays each entry over the base's: an entry takes its status from whichever list of the base names it, and all
    /// other entries stay.
    fn over(self, mut base: OutcomePolicy) -> Result<OutcomePolicy, ConfigError> {
        let lists = [
            ("store", Disposition::Store, &self.store),
            ("release", Disposition::Release, &self.release),
            ("unknown", Disposition::Unknown, &self.unknown),
        ];
        let mut named: Vec<(StatusEntry, String)> = Vec::new();
        for (list, disposition, entries) in lists {
            for (index, entry) in entries.iter().flat_map(List::iter).enumerate() {
                let path = JsonPath::from("outcome").key(list).entry(index);
                if let Some((_, other)) = named.iter().find(|(other, _)| other == entry) {
                    let found = format!("{entry}, which {other} names too");
                    return Err(ConfigError::new(path, found, "each code or class in one list"));
                }
                named.push((*entry, path.to_string()));
                base.set(*entry, disposition);
            }
        }
        base.on_unknown = self.on_unknown.map_or(base.on_unknown, Word::get);
        Ok(base)
    }
}

impl OutcomePolicy {
    fn set(&mut self, entry: StatusEntry, disposition: Disposition) {
        match entry {
            StatusEntry::Class(class) => {
                if let Some(known) = self.classes.get_mut(class) {
                    *known = Some(disposition);
                }
            }
            StatusEntry::Code(code) => {
                self.codes.retain(|(known, _)| *known != code);
                let place = self.codes.partition_point(|(known, _)| *known < code);
                self.codes.insert(place, (code, disposition));
            }
        }
    }
}

impl ExecutionDocument {
    fn over(self, base: ExecutionPolicy) -> Result<ExecutionPolicy, ConfigError> {
        let mode = self.mode.map_or(base.mode, Word::get);
        if mode != ExecutionMode::Detached {
            if self.timeout.is_some() {
                return Err(without_effect("execution.timeout", "execution.mode", "detached"));
            }
            if self.cluster.is_some() {
                return Err(without_effect("execution.cluster", "execution.mode", "detached"));
            }
            if self.max_calls.is_some() {
                return Err(without_effect("execution.max_calls", "execution.mode", "detached"));
            }
            if self.drop_headers.is_some() {
                return Err(without_effect("execution.drop_headers", "execution.mode", "detached"));
            }
        }
        let drop_headers: Vec<String> = self.drop_headers.map_or(base.drop_headers, List::into_values);
        if let Some((index, name)) = drop_headers
            .iter()
            .enumerate()
            .find(|(_, name)| is_framing(name.as_bytes()) || OF_REQUEST.contains(&name.as_str()))
        {
            return Err(ConfigError::new(
                JsonPath::from("execution.drop_headers").entry(index),
                format!("\"{name}\", without which the request would be another one"),
                "a header that neither frames the request nor says where it goes or what its body is",
            ));
        }
        Ok(ExecutionPolicy {
            mode,
            timeout: self.timeout.map_or(base.timeout, Period::get),
            cluster: self.cluster.map(String::from).or(base.cluster),
            max_calls: self.max_calls.map_or(base.max_calls, Number::get),
            drop_headers,
        })
    }
}

impl LimitsDocument {
    fn over(self, base: Limits) -> Limits {
        Limits {
            request_body: self.request_body.map_or(base.request_body, Size::get),
            response_body: self.response_body.map_or(base.response_body, Size::get),
            caller_share: self.caller_share.map_or(base.caller_share, Percentage::get),
        }
    }
}

impl ReplayDocument {
    fn over(self, base: ReplayPolicy) -> Result<ReplayPolicy, ConfigError> {
        let (drops, keeps): (Option<Vec<String>>, Option<Vec<String>>) =
            (self.drop_headers.map(List::into_values), self.keep_headers.map(List::into_values));
        for (index, name) in keeps.iter().flatten().enumerate() {
            let refuse = |found: String, allowed: &str| {
                Err(ConfigError::new(JsonPath::from("replay.keep_headers").entry(index), found, allowed))
            };
            if is_never_replayed(name.as_bytes()) {
                return refuse(format!("\"{name}\", which is never replayed"), "a header that a replay may have");
            }
            if drops.iter().flatten().any(|dropped| dropped == name) {
                return refuse(format!("\"{name}\", which replay.drop_headers names too"), "each header in one list");
            }
        }
        // What a route says of a header counts, whichever list of the settings outside of routes names it.
        let without = |mut names: Vec<String>, others: &Option<Vec<String>>| {
            names.retain(|name| !others.iter().flatten().any(|other| other == name));
            names
        };
        let replay = ReplayPolicy {
            header: self.header.map_or(base.header, String::from),
            drop_headers: drops.clone().unwrap_or_else(|| without(base.drop_headers, &keeps)),
            keep_headers: keeps.unwrap_or_else(|| without(base.keep_headers, &drops)),
        };
        if is_framing(replay.header.as_bytes()) || OF_RESPONSE.contains(&replay.header.as_str()) {
            return Err(ConfigError::new(
                "replay.header",
                format!("\"{}\", which means something else on a response", replay.header),
                "a header that only marks replays, such as \"idempotency-replayed\"",
            ));
        }
        Ok(replay)
    }
}

impl ProblemsDocument {
    /// Lays each status over the base's.
    fn over(self, base: ProblemsPolicy) -> Result<ProblemsPolicy, ConfigError> {
        let own = match &self.status {
            Some(node) => read_statuses(node).map_err(|error| error.within("problems.status"))?,
            None => Vec::new(),
        };
        let mut status = base.status;
        status.retain(|(name, _)| !own.iter().any(|(other, _)| other == name));
        status.extend(own);
        let body = match &self.body {
            Some(node) => BodyTemplate::read(node).map_err(|error| error.within("problems.body"))?,
            None => base.body,
        };
        if self.content_type.is_some() && body.is_none() {
            return Err(ConfigError::new(
                "problems.content_type",
                "a value that has no effect here",
                "only with problems.body",
            ));
        }
        Ok(ProblemsPolicy {
            retry_hints: self.retry_hints.unwrap_or(base.retry_hints),
            error_member: self.error_member.unwrap_or(base.error_member),
            status,
            body,
            content_type: self.content_type.map_or(base.content_type, String::from),
        })
    }
}

impl SharedDataDocument {
    fn compile(self) -> Result<SharedDataConfig, ConfigError> {
        let base = SharedDataConfig::default();
        let max_bytes = self.max_bytes.map_or(base.max_bytes, Size::get);
        let max_entries = self.max_entries.map_or(SharedDataConfig::entries_in(max_bytes), Number::get);
        let needed = u64::from(max_entries) * ENTRY_BYTES;
        if needed > max_bytes {
            let (needed, room) = (bytes_text(needed), bytes_text(max_bytes));
            return Err(ConfigError::new(
                "store.shared_data.max_entries",
                format!("{max_entries}, which take {needed} without any response, more than max_bytes, {room}"),
                format!(
                    "at most {} with this max_bytes, or max_bytes of at least {needed}; without max_entries, it follows \
                     from max_bytes",
                    max_bytes / ENTRY_BYTES
                ),
            ));
        }
        Ok(SharedDataConfig {
            max_entries,
            max_bytes,
            on_full: self.on_full.map_or(base.on_full, Word::get),
            keep_at_least: self.keep_at_least.map_or(base.keep_at_least, Period::get),
        })
    }
}

impl RedisDocument {
    fn compile(self, environment: Environment<'_>) -> Result<RedisConfig, ConfigError> {
        if self.username.is_some() && self.password.is_none() {
            return Err(ConfigError::new(
                "store.redis.username",
                "a user without a password",
                "only with store.redis.password",
            ));
        }
        let base = RedisConfig::new(self.cluster.into());
        let password = self.password.map(|password| password.reveal("store.redis.password".into(), environment));
        let password = password.transpose()?;
        Ok(RedisConfig {
            integrity: integrity("redis", self.integrity_key, self.unsigned_records, environment)?,
            prefix: self.prefix.map_or(base.prefix, String::from),
            timeout: self.timeout.map_or(base.timeout, Period::get),
            database: self.database.map_or(base.database, Number::get),
            username: self.username.map(String::from),
            password,
            connections: self.connections.map_or(base.connections, Number::get),
            max_record: self.max_record.map_or(base.max_record, Size::get),
            cluster: base.cluster,
        })
    }
}

impl PostgresDocument {
    fn compile(self, environment: Environment<'_>) -> Result<PostgresConfig, ConfigError> {
        let path = "store.postgres.password";
        let password = self.password.map(|password| password.reveal(path.into(), environment)).transpose()?;
        if password.as_ref().is_some_and(|password| !password.is_ascii()) {
            // What others are to be turned into before they are hashed takes tables of Unicode.
            let found = "a hidden value with characters that are not ASCII";
            return Err(ConfigError::new(path, found, "ASCII characters alone"));
        }
        let base = PostgresConfig::new(self.cluster.into(), self.database.into(), self.username.into());
        Ok(PostgresConfig {
            password,
            schema: self.schema.map_or(base.schema, String::from),
            connections: self.connections.map_or(base.connections, Number::get),
            timeout: self.timeout.map_or(base.timeout, Period::get),
            max_record: self.max_record.map_or(base.max_record, Size::get),
            sweep: self.sweep.unwrap_or(base.sweep),
            integrity: integrity("postgres", self.integrity_key, self.unsigned_records, environment)?,
            ..base
        })
    }
}

impl DynamoDbDocument {
    fn compile(self, environment: Environment<'_>) -> Result<DynamoDbConfig, ConfigError> {
        let base = DynamoDbConfig::new(self.cluster.into(), self.table.into());
        Ok(DynamoDbConfig {
            timeout: self.timeout.map_or(base.timeout, Period::get),
            max_record: self.max_record.map_or(base.max_record, Size::get),
            integrity: integrity("dynamodb", self.integrity_key, self.unsigned_records, environment)?,
            ..base
        })
    }
}

/// `integrity_key` and `unsigned_records` of a store.
fn integrity(
    store: &str,
    keys: Option<Secret>,
    unsigned: Option<Word<Unsigned>>,
    environment: Environment<'_>,
) -> Result<IntegrityConfig, ConfigError> {
    if unsigned.is_some() && keys.is_none() {
        return Err(ConfigError::new(
            format!("store.{store}.unsigned_records"),
            "a value that has no effect here",
            format!("only with store.{store}.integrity_key"),
        ));
    }
    let path = JsonPath::from(format!("store.{store}.integrity_key"));
    Ok(IntegrityConfig {
        keys: keys.map(|keys| integrity_keys(path, keys, environment)).transpose()?.unwrap_or_default(),
        unsigned: unsigned.map(Word::get).unwrap_or_default(),
    })
}

fn integrity_keys(path: JsonPath, secret: Secret, environment: Environment<'_>) -> Result<Vec<String>, ConfigError> {
    let entries = secret.entries(path.clone()).into_iter();
    let revealed = entries.map(|(place, secret)| Ok((place.clone(), secret.reveal(place, environment)?)));
    let mut keys = Vec::new();
    for (place, key) in revealed.collect::<Result<Vec<_>, ConfigError>>()? {
        if key.len() < SHORTEST_INTEGRITY_KEY {
            let allowed = format!(
                "{SHORTEST_INTEGRITY_KEY} characters or more, at random: what `openssl rand -base64 32` prints"
            );
            return Err(ConfigError::new(place, "a hidden value that can be guessed", allowed));
        }
        if let Some(first) = keys.iter().position(|other| *other == key) {
            let found = format!("the same entry at [{first}] and [{}]", keys.len());
            return Err(ConfigError::new(path, found, "each entry once"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(ConfigError::new(path, "an empty list", "a list that is not empty"));
    }
    Ok(keys)
}

/// In bytes. Random ones are written with a third more characters, so whatever is shorter was thought up.
const SHORTEST_INTEGRITY_KEY: usize = 32;

/// A response that the limit lets in but that the whole store cannot hold would be kept as a tombstone, against what
/// the limit says.
fn largest_response_fits(limits: &Limits, limit_is_set: bool, store: &StoreConfig) -> Result<(), ConfigError> {
    let StoreConfig::SharedData(store) = store else { return Ok(()) };
    if limits.response_body <= store.max_bytes {
        return Ok(());
    }
    let (limit, room) = (bytes_text(limits.response_body), bytes_text(store.max_bytes));
    Err(if limit_is_set {
        ConfigError::new(
            "limits.response_body",
            format!("{limit}, more than store.shared_data.max_bytes, {room}"),
            "at most store.shared_data.max_bytes",
        )
    } else {
        ConfigError::new(
            "store.shared_data.max_bytes",
            format!("{room}, less than limits.response_body, {limit} by default"),
            "at least limits.response_body",
        )
    })
}

/// A body that a limit lets in is in memory up to three times; a worker that could not hold one would refuse it each time.
fn largest_bodies_fit(config: &Config) -> Result<(), ConfigError> {
    let policies = config.routes.iter().map(|route| &route.policy).chain([&config.policy]);
    let limits = policies.flat_map(|policy| [policy.limits.request_body, policy.limits.response_body]);
    let needed = limits.max().unwrap_or_default().saturating_mul(4);
    if needed <= config.memory {
        return Ok(());
    }
    Err(ConfigError::new(
        "limits.memory",
        bytes_text(config.memory),
        format!("at least {}, four times the largest request_body or response_body", bytes_text(needed)),
    ))
}

/// The error for a setting that would be ignored because another one is not `word`.
fn without_effect(path: &str, other: &str, word: &str) -> ConfigError {
    ConfigError::new(path, "a value that has no effect here", format!("only if {other} is \"{word}\""))
}

/// RFC 9562, section 4.
const UUID_LENGTH: usize = 36;

/// Fields of a request that belong to its target or its body.
const OF_REQUEST: [&str; 4] = ["content-encoding", "content-type", "expect", "host"];

/// Fields of a response that belong to its body, or that the filter itself sets with another meaning.
const OF_RESPONSE: [&str; 6] = [
    "content-encoding",
    "content-type",
    "idempotency-expires",
    "idempotency-policy",
    "idempotency-status",
    "retry-after",
];
