//! The calls as commands of Redis, and its replies as answers.

use std::time::Duration;

use super::{
    entry,
    failure::RedisError,
    resp::{self, RespError, Value},
    script::{Script, Scripts},
};
use crate::{
    config::RedisConfig,
    record::Owner,
    request::{Fingerprint, OperationId},
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError,
        dialect::{
            Asked, Dialect, Failure, Login, LoginStep, Question, Reply, Said, Seen, Silence, Terms, Unwelcome, Wire,
            WireError,
        },
        integrity::Integrity,
        rule::{Ask, Rule},
        seal::{self, MARK_KEPT, PhaseByte},
    },
    time::{Timestamp, whole_millis},
};

/// What the commands of one configuration have in common.
#[derive(Debug)]
pub(super) struct RedisDialect {
    /// Whether connections are persistent, and have logged in before anything else is asked.
    is_persistent: bool,
    prefix: String,
    max_record: u64,
    scripts: Scripts,
    login: LoginCommands,
    integrity: Integrity,
}

/// What is sent ahead of each script.
struct LoginCommands {
    bytes: Vec<u8>,
    commands: usize,
}

impl std::fmt::Debug for LoginCommands {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginCommands").field("commands", &self.commands).finish_non_exhaustive()
    }
}

impl RedisDialect {
    pub(super) fn new(config: RedisConfig) -> Self {
        let mut login = LoginCommands { bytes: Vec::new(), commands: 0 };
        if let Some(password) = &config.password {
            let mut parts: Vec<&[u8]> = vec![b"AUTH"];
            parts.extend(config.username.as_deref().map(str::as_bytes));
            parts.push(password.as_bytes());
            login.push(&parts);
        }
        if config.database != 0 {
            login.push(&[b"SELECT", config.database.to_string().as_bytes()]);
        }
        if config.connections > 0 {
            // A server that asks for no login must answer, too.
            login.push(&[b"PING"]);
        }
        Self {
            is_persistent: config.connections > 0,
            integrity: Integrity::new(&config.integrity, config.prefix.clone()),
            prefix: config.prefix,
            max_record: config.max_record,
            scripts: Scripts::new(),
            login,
        }
    }

    /// What every key begins with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The largest response that is kept, in bytes.
    pub(super) fn max_record(&self) -> u64 {
        self.max_record
    }

    /// How a call is asked; or its answer, if it cannot be.
    pub(super) fn ask<'a>(&self, call: &'a Call, now: Timestamp) -> Result<Ask<'a>, Answer> {
        Ask::of(call, &self.integrity, self.max_record, now)
    }

    /// The bytes that call the script of a rule.
    pub(super) fn encode(&self, operation: &OperationId, rule: &Rule<'_>) -> Vec<u8> {
        match rule {
            Rule::Claim { claim, keep, sealed } => self.owned(
                &self.scripts.claim,
                operation,
                claim.owner,
                &[
                    claim.fingerprint.as_bytes(),
                    &millis(claim.lease),
                    &millis(*keep),
                    if claim.retry_unknown { b"1" } else { b"0" },
                    sealed,
                ],
            ),
            Rule::Renew { owner, lease, keep } => {
                self.owned(&self.scripts.renew, operation, *owner, &[&millis(*lease), &millis(*keep)])
            }
            Rule::Settle { owner, fingerprint, state, keep, sealed } => self.owned(
                &self.scripts.settle,
                operation,
                *owner,
                &[&[*state as u8], fingerprint.as_bytes(), &millis(*keep), sealed],
            ),
        }
    }

    /// What asks for all that Redis tells of itself.
    pub(super) fn info(&self) -> Vec<u8> {
        let mut bytes = self.ahead();
        resp::push_command(&mut bytes, &[b"INFO"]);
        bytes
    }

    /// What the last command was answered; the ones before it are those of the login.
    fn last_value(&self, reply: Reply<'_>) -> Result<Value, Failure> {
        match self.last_reply(reply)? {
            Value::Error(text) => Err(Failure::of_error_reply(&text)),
            value => Ok(value),
        }
    }

    /// The same, or the error that Redis says.
    pub(super) fn last_reply(&self, reply: Reply<'_>) -> Result<Value, Failure> {
        let Reply { status, body, .. } = reply;
        if status != 200 {
            return Err(Failure::of_local_reply(status, body));
        }
        let count = if self.is_persistent { 1 } else { self.login.commands + 1 };
        let mut replies = resp::decode_all(body, count).map_err(|error| match error {
            RespError::Cut => cut_off(body, count),
            RespError::Malformed | RespError::Trailing => Failure::doubtful(RedisError::Malformed),
        })?;
        let reply = replies.pop().ok_or_else(|| Failure::doubtful(RedisError::Malformed))?;
        let is_error = matches!(reply, Value::Error(_));
        if !is_error && replies.iter().any(|reply| *reply != Value::Simple(b"OK".to_vec())) {
            // The login failed, and the script ran all the same: as another user, or in another database.
            return Err(Failure::doubtful(RedisError::Authentication));
        }
        Ok(reply)
    }

    /// The bytes that call a script in an owner's name.
    fn owned(&self, script: &Script, operation: &OperationId, owner: Owner, rest: &[&[u8]]) -> Vec<u8> {
        self.call(script, operation, &[&owner.to_bytes()], rest)
    }

    /// The same for a script that not only owners use.
    fn call(&self, script: &Script, operation: &OperationId, first: &[&[u8]], rest: &[&[u8]]) -> Vec<u8> {
        let key = [self.prefix.as_bytes(), &operation.digits()].concat();
        let [name, script]: [&[u8]; 2] = match script.hash {
            Some(hash) if self.is_persistent => [b"EVALSHA", hash.as_bytes()],
            _ => [b"EVAL", script.text.as_bytes()],
        };
        let parts = [&[name, script, b"1", &key], first, rest].concat();
        let mut bytes = self.ahead();
        resp::push_command(&mut bytes, &parts);
        bytes
    }

    /// The whole script, if the server does not know the one that was called by its hash.
    fn in_full(&self, bytes: &[u8], reply: Reply<'_>) -> Option<Vec<u8>> {
        if !self.is_persistent || !reply.body.starts_with(b"-NOSCRIPT") {
            return None;
        }
        let values = resp::decode_all(bytes, 1).ok()?;
        let [Value::Array(Some(parts))] = values.as_slice() else { return None };
        let mut parts: Vec<&[u8]> = parts.iter().filter_map(Value::bytes).collect();
        let (name, script) = (parts.first()?, parts.get(1)?);
        let script = self.scripts.with_hash(script).filter(|_| *name == b"EVALSHA")?;
        parts.splice(..2, [b"EVAL".as_slice(), script.text.as_bytes()]);
        let mut bytes = Vec::new();
        resp::push_command(&mut bytes, &parts);
        Some(bytes)
    }

    /// What is sent ahead of each command.
    fn ahead(&self) -> Vec<u8> {
        if self.is_persistent { Vec::new() } else { self.login.bytes.clone() }
    }
}

impl Dialect for RedisDialect {
    fn silent(&self, silence: Silence) -> StoreError {
        match silence {
            Silence::NotMade => RedisError::Rejected.into(),
            Silence::Reset => RedisError::Reset.into(),
            Silence::TimedOut => RedisError::TimedOut.into(),
        }
    }

    fn answer(&self, asked: &Asked<'_>, reply: Reply<'_>, now: Timestamp) -> Result<Said, Failure> {
        if let Some(bytes) = self.in_full(asked.bytes, reply) {
            return Ok(Said::AskNext { bytes, may_have_worked: false });
        }
        Ok(Said::Answer(match (asked.question, self.last_value(reply)?) {
            (Question::Claim(..), Value::Integer(1)) => Answer::Claimed(Claimed::Granted),
            (Question::Claim(Terms { fingerprint, .. }), Value::Array(Some(found))) => {
                Answer::Claimed(claimed(&found, asked.operation, fingerprint, &self.integrity, now)?)
            }
            (Question::Renew, Value::Integer(1)) => Answer::Renewed(Renewed::Extended),
            (Question::Renew, Value::Integer(0)) => Answer::Renewed(Renewed::Fenced),
            (Question::Settle { settled }, Value::Integer(1)) => Answer::Settled((*settled).into()),
            (Question::Settle { .. }, Value::Integer(0)) => Answer::Settled(Settled::Fenced.into()),
            _ => return Err(Failure::doubtful(RedisError::Malformed)),
        }))
    }

    fn look(&self, operation: &OperationId) -> Vec<u8> {
        let last = entry::last_byte(&self.integrity).to_string();
        self.call(&self.scripts.look, operation, &[last.as_bytes()], &[])
    }

    /// Redis's clock, how long the record lives, its length, and its beginning.
    fn seen(&self, operation: &OperationId, reply: Reply<'_>, now: Timestamp) -> Result<Option<Seen>, Failure> {
        let found = match self.last_value(reply)? {
            Value::Integer(0) => return Ok(None),
            Value::Array(Some(found)) => found,
            _ => return Err(Failure::doubtful(RedisError::Malformed)),
        };
        let [Value::Integer(clock), Value::Integer(lives), Value::Integer(length), Value::Bulk(Some(beginning))] =
            found.as_slice()
        else {
            return Err(Failure::doubtful(RedisError::Malformed));
        };
        let number = |number: i64| u64::try_from(number).map_err(|_| Failure::certain(RedisError::Foreign));
        let Some((lease_until, summary)) = entry::summary(beginning, number(*length)?, operation, &self.integrity)?
        else {
            return Ok(None);
        };
        // Without an expiry (-1) it was not written by a script of ours.
        let (clock, lives) = (Timestamp::from_millis(number(*clock)?), Duration::from_millis(number(*lives)?));
        let view = summary.view(lease_until.since(clock), clock.since(lease_until), lives, now);
        Ok(Some(Seen { view, owner: summary.owner, fingerprint: summary.fingerprint, lease_until, clock }))
    }

    fn amend(
        &self,
        operation: &OperationId,
        seen: &Seen,
        ending: &Ending,
        force: bool,
        now: Timestamp,
    ) -> Result<Vec<u8>, StoreError> {
        let (state, sealed, _) = seal::ended(operation, &seen.fingerprint, seen.owner, ending, u64::MAX, now)?;
        Ok(self.owned(
            &self.scripts.amend,
            operation,
            seen.owner,
            &[
                &[PhaseByte::of(seen.view.standing) as u8],
                &[state as u8],
                if force { b"1" } else { b"0" },
                &millis(MARK_KEPT),
                &state.signed(operation, sealed, &self.integrity),
            ],
        ))
    }

    fn amended(&self, reply: Reply<'_>) -> Result<bool, Failure> {
        match self.last_value(reply)? {
            Value::Integer(1) => Ok(true),
            Value::Integer(0) => Ok(false),
            _ => Err(Failure::doubtful(RedisError::Malformed)),
        }
    }
}

impl LoginCommands {
    fn push(&mut self, command: &[&[u8]]) {
        resp::push_command(&mut self.bytes, command);
        self.commands += 1;
    }
}

/// What a claim has met: what is left of the lease, how long the record lives, and its value.
fn claimed(
    found: &[Value],
    operation: &OperationId,
    fingerprint: &Fingerprint,
    integrity: &Integrity,
    now: Timestamp,
) -> Result<Claimed, Failure> {
    let [Value::Integer(lease_left), Value::Integer(lives), Value::Bulk(Some(value))] = found else {
        return Err(Failure::doubtful(RedisError::Malformed));
    };
    let record = entry::record(value, operation, integrity)?;
    let lease_left = Duration::from_millis(u64::try_from(*lease_left).unwrap_or_default());
    // Without an expiry (-1) it was not written by a script of ours; it is kept for ever.
    let lives = u64::try_from(*lives).map_err(|_| Failure::certain(RedisError::Foreign))?;
    Ok(record.answer(fingerprint, lease_left, Duration::from_millis(lives), now))
}

/// What a reply says that ends early. A server that takes no commands from this connection says why once, however
/// many were sent, and closes it.
fn cut_off(body: &[u8], replies: usize) -> Failure {
    match resp::decode_all(body, 1).as_deref() {
        Ok([Value::Error(text)]) if replies > 1 => Failure::of_error_reply(text),
        _ => Failure::doubtful(RedisError::Cut),
    }
}

impl Wire for RedisDialect {
    fn login(&self, _: u128) -> (Vec<u8>, Box<dyn Login>) {
        (self.login.bytes.clone(), Box::new(RedisLogin { commands: self.login.commands }))
    }

    fn reply_length(&self, bytes: &[u8]) -> Result<usize, WireError> {
        reply_length(bytes)
    }

    /// What a replica, and a server that is going, says: after a failover the cluster leads to another.
    fn is_farewell(&self, reply: &[u8]) -> bool {
        let error = reply.strip_prefix(b"-").map(|text| Failure::of_error_reply(text).error);
        matches!(
            error,
            Some(StoreError::Redis(RedisError::ReadOnly | RedisError::Loading | RedisError::Authentication))
        )
    }

    fn unreachable(&self, text: &[u8]) -> StoreError {
        Failure::of_local_reply(503, text).error
    }
}

/// The login, and a question that any server answers, as far as they are not answered.
#[derive(Clone, Debug)]
struct RedisLogin {
    commands: usize,
}

impl Login for RedisLogin {
    fn hear(&mut self, bytes: &[u8]) -> Result<(usize, LoginStep), Unwelcome> {
        let mut length = 0;
        while self.commands > 0 {
            let rest = bytes.get(length..).unwrap_or_default();
            let reply = match reply_length(rest) {
                Ok(length) => rest.get(..length).unwrap_or_default(),
                Err(WireError::Incomplete) => return Ok((length, LoginStep::Listen)),
                Err(WireError::Failed(error)) => return Err(error.into()),
            };
            if let Some(text) = reply.strip_prefix(b"-") {
                return Err(match Failure::of_error_reply(text.trim_ascii_end()).error {
                    // A password where none is wanted, or no such database.
                    StoreError::Redis(RedisError::Script) => StoreError::from(RedisError::Authentication).into(),
                    error => error.into(),
                });
            }
            if !reply.starts_with(b"+") {
                return Err(StoreError::from(RedisError::Malformed).into());
            }
            length += reply.len();
            self.commands -= 1;
        }
        Ok((length, LoginStep::Welcome))
    }

    fn boxed(&self) -> Box<dyn Login> {
        Box::new(self.clone())
    }
}

fn reply_length(bytes: &[u8]) -> Result<usize, WireError> {
    resp::first_length(bytes).map_err(|error| match error {
        RespError::Cut if bytes.len() <= LONGEST_REPLY => WireError::Incomplete,
        _ => WireError::Failed(RedisError::Malformed.into()),
    })
}

/// As the scripts take times.
fn millis(time: Duration) -> Vec<u8> {
    itoa::Buffer::new().format(whole_millis(time)).as_bytes().to_vec()
}

/// No record is as large, with what Redis puts around it.
const LONGEST_REPLY: usize = 32 << 20;
