//! What an operator asks for.

use std::borrow::Cow;

use super::problem::AdminProblem;
use crate::{
    config::{Config, IdentitySource, json::Node},
    headers::Headers,
    record::{Amendment, Verb},
    request::{Caller, Identified, Key, OperationId, OperationPrefix, Target},
};

/// The largest body, in bytes: a key and the longest of tokens fit in several times.
pub const LONGEST_BODY: usize = 64 << 10;

/// What a request line asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminRoute {
    /// `GET /operations`
    Count,
    /// `GET /operations/unfinished`
    List,
    /// `GET /operations/HASH`
    Look(OperationPrefix),
    /// `POST /operations/lookup`
    LookUp,
    /// `POST /operations/HASH/not-kept`
    NotKept(OperationId),
    /// `POST /operations/HASH/purge`
    Purge(OperationId),
    /// `POST /operations/HASH/release`
    Release(OperationId),
}

/// What is to be asked of the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// To change an operation's record.
    Amend(OperationId, Amendment),
    /// To count all records.
    Count,
    /// To list the operations that have not come to their end.
    List,
    /// To find the operation whose hash begins so.
    Find(OperationPrefix),
    /// To see an operation's record.
    Look(OperationId),
}

impl AdminRoute {
    /// What a request with these fields asks for.
    ///
    /// # Errors
    /// [`AdminProblem`] for a path, a method or a type of body that there is not.
    pub fn of(headers: &Headers) -> Result<Self, AdminProblem> {
        let (route, method) =
            Self::of_path(headers.get(":path").unwrap_or_default()).ok_or(AdminProblem::NoSuchPath)?;
        if headers.get(":method").unwrap_or_default() != method.as_bytes() {
            return Err(AdminProblem::MethodNotAllowed { allow: method });
        }
        // A web page can make a browser send any other type of body to this machine without asking first.
        if route.takes_body() && !is_json(headers.get("content-type").unwrap_or_default()) {
            return Err(AdminProblem::NotJson);
        }
        Ok(route)
    }

    /// Whether what it asks for is in the body.
    #[must_use]
    pub fn takes_body(self) -> bool {
        !matches!(self, Self::Count | Self::List | Self::Look(_))
    }

    /// What is to be asked of the store.
    ///
    /// # Errors
    /// [`AdminProblem`] for a body that does not say what is needed.
    pub fn task(self, body: &[u8], config: &Config) -> Result<Task, AdminProblem> {
        let amend =
            |operation, verb, body: &Arguments| Ok(Task::Amend(operation, Amendment { verb, force: body.force()? }));
        match self {
            Self::Count => Ok(Task::Count),
            Self::List => Ok(Task::List),
            Self::Look(prefix) => Ok(prefix.whole().map_or(Task::Find(prefix), Task::Look)),
            Self::LookUp => {
                look_up(&Arguments::read(body, &["key", "method", "authority", "path", "headers", "caller"])?, config)
            }
            Self::NotKept(operation) => {
                let body = Arguments::read(body, &["status", "force"])?;
                amend(operation, Verb::NotKept { status: body.status()? }, &body)
            }
            Self::Purge(operation) => amend(operation, Verb::Purge, &Arguments::read(body, &["force"])?),
            Self::Release(operation) => amend(operation, Verb::Release, &Arguments::read(body, &["force"])?),
        }
    }

    /// The route of a path, and its method. Nothing is normalized: each path has one spelling.
    fn of_path(path: &[u8]) -> Option<(Self, &'static str)> {
        let path = str::from_utf8(path).ok()?.strip_prefix("/operations")?;
        let mut parts = path.split('/');
        if parts.next() != Some("") {
            return None;
        }
        let (hash, verb, end) = (parts.next(), parts.next(), parts.next());
        if end.is_some() {
            return None;
        }
        let Some(hash) = hash else { return Some((Self::Count, "GET")) };
        if hash == "lookup" && verb.is_none() {
            return Some((Self::LookUp, "POST"));
        }
        if hash == "unfinished" && verb.is_none() {
            return Some((Self::List, "GET"));
        }
        let prefix = OperationPrefix::parse(hash)?;
        let Some(verb) = verb else { return Some((Self::Look(prefix), "GET")) };
        let operation = prefix.whole()?;
        let route = match verb {
            "not-kept" => Self::NotKept(operation),
            "purge" => Self::Purge(operation),
            "release" => Self::Release(operation),
            _ => return None,
        };
        Some((route, "POST"))
    }
}

/// The operation that a request would name, with this key by this caller: found as the filter finds it.
fn look_up(body: &Arguments, config: &Config) -> Result<Task, AdminProblem> {
    let [key, method, authority, path] =
        [body.text("key")?, body.text("method")?, body.text("authority")?, body.text("path")?];
    let line = Headers::from_iter([(":method", method), (":authority", authority), (":path", path)]);
    let target = Target::from_headers(&line);
    let policy = config.policy_for(target.method, target.authority, target.path, &body.headers()?);

    let header = policy.key.headers.first().map_or("idempotency-key", String::as_str);
    let key = match Key::find(&Headers::from_iter([(header, key)]), &policy.key) {
        Ok(Some(key)) => key,
        Ok(None) => return Err(bad_request("Nothing was looked up. key must not be empty.")),
        Err(reason) => return Err(AdminProblem::BadRequest(format!("Nothing was looked up. {reason}").into())),
    };

    let sources = &policy.caller.identity;
    let values = body.caller(sources)?;
    let mut fields = Headers::new();
    for (source, values) in sources.iter().zip(&values) {
        let name = match source {
            IdentitySource::Credential => "authorization",
            IdentitySource::Header(name) => name,
            IdentitySource::Property(_) => continue,
        };
        values.iter().for_each(|value| fields.push(name, value));
    }
    let property = |path: &[String]| {
        let is_it = |source: &IdentitySource| matches!(source, IdentitySource::Property(other) if other == path);
        let index = sources.iter().position(is_it)?;
        Some(values.get(index)?.first()?.as_bytes().to_vec())
    };
    let Identified { caller, .. } = Caller::identify(&policy.caller, &fields, property)
        .map_err(|_| bad_request("Nothing was looked up. caller names nobody, and caller.required is set."))?;
    Ok(Task::Look(OperationId::new(&caller, &policy.resource, &target, &key)))
}

/// The object in a body. What is wrong with it is told without a word of what it says.
struct Arguments(Vec<(String, Node)>);

impl Arguments {
    /// Reads an object of some of these `keys`; without any bytes it is one without any keys.
    fn read(bytes: &[u8], keys: &[&str]) -> Result<Self, AdminProblem> {
        let Ok(Node::Object(entries)) = Node::parse(bytes) else {
            return Err(bad_request("Nothing was done. The body must be one JSON object (RFC 8259)."));
        };
        for (index, (key, _)) in entries.iter().enumerate() {
            let is_repeated = entries.iter().take(index).any(|(before, _)| before == key);
            if is_repeated || !keys.contains(&key.as_str()) {
                let detail =
                    format!("Nothing was done. The object takes each of these keys once: {}.", keys.join(", "));
                return Err(AdminProblem::BadRequest(detail.into()));
            }
        }
        Ok(Self(entries))
    }

    fn value(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn text(&self, key: &str) -> Result<&str, AdminProblem> {
        let missing = || {
            let detail = format!(
                "Nothing was looked up. {key} must be a string. A look-up needs key, method, authority, path and caller, \
                 as the filter saw them."
            );
            AdminProblem::BadRequest(detail.into())
        };
        self.value(key).and_then(Node::text).ok_or_else(missing)
    }

    /// Those that routes look at.
    fn headers(&self) -> Result<Headers, AdminProblem> {
        let fields = match self.value("headers") {
            None => Some(Headers::new()),
            Some(Node::Object(fields)) => fields.iter().map(|(name, value)| Some((name, value.text()?))).collect(),
            Some(_) => None,
        };
        fields.ok_or_else(|| {
            bad_request(
                "Nothing was looked up. headers must be an object of names and strings: those that routes look at.",
            )
        })
    }

    fn force(&self) -> Result<bool, AdminProblem> {
        match self.value("force") {
            None => Ok(false),
            Some(Node::Bool(force)) => Ok(*force),
            Some(_) => Err(bad_request("Nothing was changed. force must be true or false.")),
        }
    }

    fn status(&self) -> Result<u16, AdminProblem> {
        let status = self.value("status").and_then(Node::unsigned).and_then(|status| u16::try_from(status).ok());
        status.filter(|status| (200..=599).contains(status)).ok_or_else(|| {
            bad_request(
                "Nothing was changed. status must be the status that the service answered with, a number from 200 to 599.",
            )
        })
    }

    /// What each source of the caller's identity had: nothing, one value, or the lines of a header.
    fn caller(&self, sources: &[IdentitySource]) -> Result<Vec<Vec<&str>>, AdminProblem> {
        let entries = match self.value("caller") {
            None if sources.is_empty() => &[],
            Some(Node::List(entries)) if entries.len() == sources.len() => entries.as_slice(),
            _ => return Err(wrong_caller(sources)),
        };
        let values = entries.iter().map(|entry| match entry {
            Node::Null => Some(Vec::new()),
            Node::Text(text) => Some(vec![text.as_str()]),
            Node::List(lines) => lines.iter().map(Node::text).collect(),
            _ => None,
        });
        values.collect::<Option<_>>().ok_or_else(|| wrong_caller(sources))
    }
}

fn wrong_caller(sources: &[IdentitySource]) -> AdminProblem {
    let names: Vec<Cow<'_, str>> = sources
        .iter()
        .map(|source| match source {
            IdentitySource::Credential => "header authorization, by its credential".into(),
            IdentitySource::Header(name) => format!("header {name}").into(),
            IdentitySource::Property(path) => format!("property {}", path.join(".")).into(),
        })
        .collect();
    let detail = format!(
        "Nothing was looked up. caller must be a list with an entry for each source of caller.identity, in its order \
         ({}): a string, null if the request has none, or the lines of a repeated header as a list.",
        names.join(", ")
    );
    AdminProblem::BadRequest(detail.into())
}

/// Whether a media type is `application/json`, whatever its parameters.
fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn bad_request(detail: &'static str) -> AdminProblem {
    AdminProblem::BadRequest(detail.into())
}
