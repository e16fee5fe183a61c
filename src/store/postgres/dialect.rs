//! The calls as functions of PostgreSQL, and its rows as answers. What the functions do is in `schema.sql`.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    failure::{self, PostgresError},
    login::PostgresLogin,
    message::{self, Message, MessageError, Row, Value},
    scram::Credentials,
};
use crate::{
    config::PostgresConfig,
    record::CodecError,
    request::OperationId,
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError,
        dialect::{
            Asked, Dialect, Failure, Heard, Login, Question, Reply, Said, Seen, Silence, Terms, Wire, WireError,
        },
        integrity::Integrity,
        rule::{Ask, Rule},
        seal::{self, Head, MARK_KEPT, PhaseByte, SealedRecord, SealedSummary},
    },
    time::{Timestamp, whole_millis},
};

/// What the statements of one configuration have in common.
pub(super) struct PostgresDialect {
    schema: String,
    username: String,
    database: String,
    credentials: Option<Arc<Credentials>>,
    max_record: u64,
    integrity: Integrity,
}

impl fmt::Debug for PostgresDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDialect").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PostgresDialect {
    pub(super) fn new(config: PostgresConfig) -> Self {
        Self {
            integrity: Integrity::new(&config.integrity, config.schema.clone()),
            schema: config.schema,
            username: config.username,
            database: config.database,
            credentials: config.password.map(|password| Arc::new(Credentials::new(password))),
            max_record: config.max_record,
        }
    }

    /// Where the table and the functions are.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The largest response that is kept, in bytes.
    pub(super) fn max_record(&self) -> u64 {
        self.max_record
    }

    /// How a call is asked; or its answer, if it cannot be.
    pub(super) fn ask<'a>(&self, call: &'a Call, now: Timestamp) -> Result<Ask<'a>, Answer> {
        Ask::of(call, &self.integrity, self.max_record, now)
    }

    /// The bytes that call the function of a rule.
    pub(super) fn encode(&self, operation: &OperationId, rule: &Rule<'_>) -> Vec<u8> {
        let operation = Value::Bytes(operation.as_bytes());
        match rule {
            Rule::Claim { claim, keep, sealed } => self.call(
                "claim_v1",
                &[
                    operation,
                    Value::Uuid(&claim.owner.to_bytes()),
                    Value::Bytes(claim.fingerprint.as_bytes()),
                    millis(claim.lease),
                    millis(*keep),
                    Value::Flag(claim.retry_unknown),
                    Value::Bytes(sealed),
                ],
            ),
            Rule::Renew { owner, lease, keep } => {
                self.call("renew_v1", &[operation, Value::Uuid(&owner.to_bytes()), millis(*lease), millis(*keep)])
            }
            Rule::Settle { owner, fingerprint, state, keep, sealed } => self.call(
                "settle_v1",
                &[
                    operation,
                    Value::Uuid(&owner.to_bytes()),
                    Value::Bytes(fingerprint.as_bytes()),
                    Value::Char(*state as u8),
                    millis(*keep),
                    Value::Bytes(sealed),
                ],
            ),
        }
    }

    /// The bytes that call a function.
    pub(super) fn call(&self, function: &str, values: &[Value<'_>]) -> Vec<u8> {
        let mut sql = format!("SELECT * FROM \"{}\".{function}(", self.schema);
        for place in 1..=values.len() {
            sql.push_str(if place == 1 { "$" } else { ",$" });
            sql.push_str(&place.to_string());
        }
        sql.push(')');
        message::statement(&sql, values)
    }

    /// The rows that a function gives that is no rule.
    pub(super) fn rows_heard<'a>(&self, heard: Heard<'a>) -> Result<Vec<Row<'a>>, StoreError> {
        let reply = heard.reply(true, self).map_err(|failure| failure.error)?;
        message::rows(reply.body).map_err(|reason| Failure::from(reason).error)
    }

    fn claimed(
        &self,
        terms: &Terms,
        operation: &OperationId,
        row: &[Option<&[u8]>],
        now: Timestamp,
    ) -> Result<Claimed, Failure> {
        let [granted, found @ ..] = row else { return Err(malformed()) };
        let [state, owner, fingerprint, lease_left, lives, sealed] = found else { return Err(malformed()) };
        match granted.map(flag) {
            // Others were faster, three times.
            None => return Err(Failure::certain(StoreError::Contended)),
            Some(granted) if granted? => return Ok(Claimed::Granted),
            Some(_) => {}
        }
        let head = head(*state, *owner, *fingerprint)?;
        let (lease_left, lives) = (since(number(*lease_left)?), since(number(*lives)?));
        let sealed = sealed.ok_or_else(malformed)?;
        let record = SealedRecord::open(&head, sealed, operation, &self.integrity).map_err(unreadable)?;
        Ok(record.answer(&terms.fingerprint, lease_left, lives, now))
    }
}

impl Dialect for PostgresDialect {
    fn silent(&self, silence: Silence) -> StoreError {
        match silence {
            Silence::NotMade => PostgresError::Rejected.into(),
            Silence::Reset => PostgresError::Reset.into(),
            Silence::TimedOut => PostgresError::TimedOut.into(),
        }
    }

    fn answer(&self, asked: &Asked<'_>, reply: Reply<'_>, now: Timestamp) -> Result<Said, Failure> {
        let rows = message::rows(reply.body)?;
        let [row] = rows.as_slice() else { return Err(malformed()) };
        Ok(Said::Answer(match (asked.question, row.as_slice()) {
            (Question::Claim(terms), row) => Answer::Claimed(self.claimed(terms, asked.operation, row, now)?),
            (Question::Renew, [Some(done)]) => {
                Answer::Renewed(if flag(done)? { Renewed::Extended } else { Renewed::Fenced })
            }
            (Question::Settle { settled }, [Some(done)]) => {
                Answer::Settled(if flag(done)? { *settled } else { Settled::Fenced }.into())
            }
            _ => return Err(malformed()),
        }))
    }

    fn look(&self, operation: &OperationId) -> Vec<u8> {
        let length = SealedSummary::length(&self.integrity).and_then(|length| i32::try_from(length).ok());
        let values = [Value::Bytes(operation.as_bytes()), Value::Integer(length.unwrap_or(i32::MAX))];
        self.call("look_v1", &values)
    }

    fn seen(&self, operation: &OperationId, reply: Reply<'_>, now: Timestamp) -> Result<Option<Seen>, Failure> {
        let rows = message::rows(reply.body)?;
        let row = match rows.as_slice() {
            [] => return Ok(None),
            [row] => row.as_slice(),
            _ => return Err(malformed()),
        };
        let [state, owner, fingerprint, lease_left, lives, bytes, beginning] = row else { return Err(malformed()) };
        let head = head(*state, *owner, *fingerprint)?;
        let (lease_left, lives, bytes) = (number(*lease_left)?, number(*lives)?, number(*bytes)?);
        let beginning = beginning.ok_or_else(malformed)?;
        let summary = SealedSummary::read(&head, beginning, bytes.unsigned_abs(), operation, &self.integrity);
        Ok(summary.map_err(unreadable)?.map(|summary| Seen {
            view: summary.view(since(lease_left), since(lease_left.saturating_neg()), since(lives), now),
            owner: summary.owner,
            fingerprint: summary.fingerprint,
            lease_until: now.after(since(lease_left)),
            clock: now,
        }))
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
        Ok(self.call(
            "amend_v1",
            &[
                Value::Bytes(operation.as_bytes()),
                Value::Uuid(&seen.owner.to_bytes()),
                Value::Char(PhaseByte::of(seen.view.standing) as u8),
                Value::Char(state as u8),
                Value::Flag(force),
                millis(MARK_KEPT),
                Value::Bytes(&state.signed(operation, sealed, &self.integrity)),
            ],
        ))
    }

    fn amended(&self, reply: Reply<'_>) -> Result<bool, Failure> {
        match message::rows(reply.body)?.as_slice() {
            [row] => match row.as_slice() {
                [Some(done)] => flag(done),
                _ => Err(malformed()),
            },
            _ => Err(malformed()),
        }
    }
}

impl Wire for PostgresDialect {
    fn login(&self, random: u128) -> (Vec<u8>, Box<dyn Login>) {
        let login = PostgresLogin::new(self.credentials.clone(), random);
        (message::startup(&self.username, &self.database), Box::new(login))
    }

    fn reply_length(&self, bytes: &[u8]) -> Result<usize, WireError> {
        message::reply_length(bytes).map_err(|error| match error {
            MessageError::Cut if bytes.len() <= LONGEST_REPLY => WireError::Incomplete,
            _ => WireError::Failed(PostgresError::Malformed.into()),
        })
    }

    /// What a standby says: after a failover the cluster leads to another.
    fn is_farewell(&self, reply: &[u8]) -> bool {
        let first = |bytes| Message::split(bytes).ok();
        let messages = std::iter::successors(first(reply), |(_, rest)| first(rest));
        messages.filter_map(|(message, _)| message.error()).any(|error| error.is_fatal || error.is_read_only())
    }

    fn unreachable(&self, text: &[u8]) -> StoreError {
        failure::unreachable(text).into()
    }
}

pub(super) fn malformed() -> Failure {
    Failure::doubtful(PostgresError::Malformed)
}

fn unreadable(error: CodecError) -> Failure {
    Failure::certain(StoreError::Unreadable(error))
}

fn head<'a>(
    state: Option<&'a [u8]>,
    owner: Option<&'a [u8]>,
    fingerprint: Option<&'a [u8]>,
) -> Result<Head<'a>, Failure> {
    let (Some([state]), Some(owner), Some(fingerprint)) = (state, owner, fingerprint) else { return Err(malformed()) };
    let (Ok(owner), Ok(fingerprint)) = (owner.try_into(), fingerprint.try_into()) else { return Err(malformed()) };
    Ok(Head { state: *state, owner, fingerprint })
}

pub(super) fn flag(value: &[u8]) -> Result<bool, Failure> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(malformed()),
    }
}

/// Of eight bytes.
pub(super) fn number(value: Option<&[u8]>) -> Result<i64, Failure> {
    value.and_then(|value| value.try_into().ok()).map(i64::from_be_bytes).ok_or_else(malformed)
}

/// Of four bytes.
pub(super) fn integer(value: Option<&[u8]>) -> Result<i32, Failure> {
    value.and_then(|value| value.try_into().ok()).map(i32::from_be_bytes).ok_or_else(malformed)
}

/// So many milliseconds; none if they are fewer.
pub(super) fn since(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

fn millis(time: Duration) -> Value<'static> {
    Value::Number(i64::try_from(whole_millis(time)).unwrap_or(i64::MAX))
}

/// No record is as large, with what is around it.
const LONGEST_REPLY: usize = 32 << 20;

#[cfg(test)]
mod tests;
