//! The calls as conditional writes of DynamoDB, and its replies as answers.

use std::time::Duration;

use super::{
    clock::by_clock,
    failure::DynamoDbError,
    item::Item,
    request::{Action, Request},
};
use crate::{
    config::{DynamoDbConfig, Node},
    record::CodecError,
    request::OperationId,
    store::{
        Answer, Call, Claimed, Ending, Renewed, Settled, StoreError, base64,
        dialect::{Asked, Dialect, Failure, Question, Reply, Said, Seen, Silence, Terms},
        integrity::Integrity,
        rule::{Ask, Rule},
        seal::{self, MARK_KEPT, PhaseByte, SealedRecord, SealedSummary},
    },
    time::Timestamp,
};

/// What the calls of one configuration have in common.
#[derive(Debug)]
pub(super) struct DynamoDbDialect {
    table: String,
    /// What stands before the hash in keys.
    prefix: &'static [u8],
    max_record: u64,
    integrity: Integrity,
}

impl DynamoDbDialect {
    pub(super) fn new(config: DynamoDbConfig) -> Self {
        let prefix: &[u8] = if config.is_shadow { b"shadow:" } else { b"" };
        let scope = format!("{}{}", String::from_utf8_lossy(prefix), config.table);
        let integrity = Integrity::new(&config.integrity, scope);
        Self { table: config.table, prefix, max_record: config.max_record, integrity }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The largest response that is kept, in bytes.
    pub(super) fn max_record(&self) -> u64 {
        self.max_record
    }

    /// How a call is asked; or its answer, if it cannot be.
    pub(super) fn ask<'a>(&self, call: &'a Call, now: Timestamp) -> Result<Ask<'a>, Answer> {
        Ask::of(call, &self.integrity, self.max_record, now)
    }

    /// The conditional write of a rule.
    pub(super) fn encode(&self, call: &Call, rule: &Rule<'_>, now: Timestamp) -> Vec<u8> {
        let operation = call.operation();
        let (action, body) = match rule {
            Rule::Claim { claim, keep, sealed } => {
                let (key, table) = (self.key(operation), &self.table);
                let (owner, fingerprint) =
                    (base64::encode(&claim.owner.to_bytes()), base64::encode(claim.fingerprint.as_bytes()));
                let (lease, expires) = times(now, claim.lease, *keep);
                let sealed = base64::encode(sealed);
                // Asked again by the owner whose first reply got lost, unless it has renewed since; or another owner gave it
                // back: nothing stands behind such a mark, as it does behind any record.
                let body = format!(
                    r#"{{"TableName":"{table}","Item":{{"k":{{"B":"{key}"}},"s":{{"S":"i"}},"o":{{"B":"{owner}"}},"f":{{"B":"{fingerprint}"}},"l":{{"N":"{lease}"}},"e":{{"N":"{expires}"}},"b":{{"B":"{sealed}"}}}},"ConditionExpression":"attribute_not_exists(k) OR (s = :i AND o = :me AND l <= :m) OR (s = :r AND attribute_not_exists(b) AND o <> :me)","ExpressionAttributeValues":{{":i":{{"S":"i"}},":r":{{"S":"r"}},":me":{{"B":"{owner}"}},":m":{{"N":"{lease}"}}}}{SHOWS_ITEM}}}"#
                );
                (Action::Put, body)
            }
            Rule::Renew { owner, lease, keep } => {
                let (lease, expires) = times(now, *lease, *keep);
                let values = [
                    text(":i", "i"),
                    binary(":me", &owner.to_bytes()),
                    number(":l", lease),
                    number(":e", expires),
                    number(":m", lease),
                ];
                let condition = "o = :me AND s = :i AND l <= :m";
                (Action::Update, self.update(operation, "SET l = :l, e = :e", condition, &values, SHOWS_ITEM))
            }
            Rule::Settle { owner, fingerprint, state, keep, sealed } => {
                let keep = match state {
                    // The claim said the same for as long as this.
                    PhaseByte::Unknown => keep.saturating_add(call.lease()),
                    _ => *keep,
                };
                let (at, expires) = times(now, Duration::ZERO, keep);
                let (lease, _) = times(now, call.lease(), keep);
                // A record that is gone was lost, or never made: whatever the owner says is better than nothing. The same
                // state was said before, and the reply got lost.
                let mut values = vec![
                    text(":i", "i"),
                    text(":s", &letter(*state)),
                    binary(":me", &owner.to_bytes()),
                    binary(":f", fingerprint.as_bytes()),
                    number(":n", at),
                    number(":e", expires),
                    number(":m", lease),
                ];
                let sealing = sealing(*state, sealed, &mut values);
                let body = self.update(
                    operation,
                    &format!("SET s = :s, o = :me, f = :f, e = :e, l = if_not_exists(l, :n){sealing}"),
                    &format!(
                        "attribute_not_exists(k) OR (o = :me AND l <= :m AND (s = :i OR (s = :s AND {})))",
                        sealed_so(*state)
                    ),
                    &values,
                    SHOWS_ITEM,
                );
                (Action::Update, body)
            }
        };
        Request::new(action, now, &body).to_bytes()
    }

    /// The key of an operation, as JSON has it.
    fn key(&self, operation: &OperationId) -> String {
        base64::encode(&[self.prefix, operation.as_bytes()].concat())
    }

    fn update(&self, operation: &OperationId, update: &str, condition: &str, values: &[String], more: &str) -> String {
        let (table, key, values) = (&self.table, self.key(operation), values.join(","));
        format!(
            r#"{{"TableName":"{table}","Key":{{"k":{{"B":"{key}"}}}},"UpdateExpression":"{update}","ConditionExpression":"{condition}","ExpressionAttributeValues":{{{values}}}{more}}}"#
        )
    }

    fn get(&self, operation: &OperationId) -> String {
        let (table, key) = (&self.table, self.key(operation));
        format!(r#"{{"TableName":"{table}","Key":{{"k":{{"B":"{key}"}}}},"ConsistentRead":true}}"#)
    }

    /// What a write that was refused has met.
    fn met(
        &self,
        asked: &Asked<'_>,
        write: Request<'_>,
        found: &Node,
        clock: Timestamp,
        now: Timestamp,
    ) -> Result<Said, Failure> {
        let item = Item::read(found).ok_or(Failure::certain(DynamoDbError::Foreign))?;
        // By a clock that is right, it would be no earlier than the last word of its own owner.
        let is_its_own = item.is_in_flight() && write.owner() == Some(item.owner);
        if matches!(asked.question, Question::Renew) && !is_its_own {
            return Ok(Said::Answer(Answer::Renewed(Renewed::Fenced)));
        }
        let lives = item.lives(clock);
        let counts_as_gone = lives.is_none()
            // A late copy of a claim does not begin anew what its own execution left unknown.
            || matches!(asked.question, Question::Claim(Terms { retry_unknown: true, fingerprint, .. })
                if item.is_unsettled()
                    && item.lapses() <= clock
                    && item.fingerprint == *fingerprint.as_bytes()
                    && write.owner().is_some_and(|owner| owner != item.owner));
        if is_its_own || counts_as_gone {
            let bytes = if write.has_rounds() { write.in_place_of(&item, clock) } else { None };
            let bytes = bytes.ok_or(Failure::certain(StoreError::Contended))?;
            return Ok(Said::AskNext { bytes, may_have_worked: false });
        }
        let fingerprint = match asked.question {
            // It was given back between the refusal and the look at what was in the way.
            Question::Claim(_) if item.is_mark() && write.has_rounds() && write.owner() != Some(item.owner) => {
                return Ok(Said::AskNext { bytes: write.again(), may_have_worked: false });
            }
            Question::Claim(Terms { fingerprint, .. }) => fingerprint,
            // Said before, in whatever words.
            Question::Settle { settled } if write.settles(&item) => {
                return Ok(Said::Answer(Answer::Settled((*settled).into())));
            }
            Question::Settle { .. } | Question::Renew => {
                return Ok(Said::Answer(Answer::Settled(Settled::Fenced.into())));
            }
        };
        let record =
            SealedRecord::open(&item.head(), &item.sealed, asked.operation, &self.integrity).map_err(unreadable)?;
        let lease_left = item.lease_left(clock);
        Ok(Said::Answer(Answer::Claimed(record.answer(fingerprint, lease_left, lives.unwrap_or_default(), now))))
    }

    /// What is to be known of a write that was made; or that it is to be made again, because its times were wrong.
    fn made(asked: &Asked<'_>, write: Request<'_>, reply: Reply<'_>, now: Timestamp) -> Result<Said, Failure> {
        let clock = by_clock(reply.ahead, now);
        let is_claim = matches!(asked.question, Question::Claim(_));
        let tolerance = (asked.lease / LEASE_TOLERANCE).max(SHORTEST_TOLERANCE);
        let difference = clock.since(write.written).max(write.written.since(clock));
        if reply.ahead.is_some() && difference > tolerance {
            if write.has_rounds()
                && let Some(bytes) = write.written_at(clock)
            {
                return Ok(Said::AskNext { bytes, may_have_worked: true });
            }
            if is_claim {
                return Err(Failure::doubtful(StoreError::Contended));
            }
        }
        Ok(Said::Answer(match asked.question {
            Question::Claim(_) => Answer::Claimed(Claimed::Granted),
            Question::Renew => Answer::Renewed(Renewed::Extended),
            Question::Settle { settled } => Answer::Settled((*settled).into()),
        }))
    }
}

impl Dialect for DynamoDbDialect {
    fn silent(&self, silence: Silence) -> StoreError {
        match silence {
            Silence::NotMade => DynamoDbError::Rejected.into(),
            Silence::Reset => DynamoDbError::Reset.into(),
            Silence::TimedOut => DynamoDbError::TimedOut.into(),
        }
    }

    fn answer(&self, asked: &Asked<'_>, reply: Reply<'_>, now: Timestamp) -> Result<Said, Failure> {
        let sent = Request::read(asked.bytes).ok_or(Failure::certain(StoreError::Contended))?;
        let clock = by_clock(reply.ahead, now);
        let outcome = Outcome::of(reply)?;
        if let Some(refused) = sent.refused {
            let write = Request::read(refused).ok_or(Failure::certain(StoreError::Contended))?;
            let Outcome::Done(found) = outcome else { return Err(Failure::doubtful(DynamoDbError::Malformed)) };
            return match found.get("Item") {
                Some(item) => self.met(asked, write, item, clock, now),
                None if matches!(asked.question, Question::Renew) => Ok(Said::Answer(Answer::Renewed(Renewed::Fenced))),
                // It has gone meanwhile.
                None if write.has_rounds() => Ok(Said::AskNext { bytes: write.again(), may_have_worked: false }),
                None => Err(Failure::certain(StoreError::Contended)),
            };
        }
        match (asked.question, outcome) {
            (_, Outcome::Done(reply_body)) if is_receipt(&reply_body) => Self::made(asked, sent, reply, now),
            (_, Outcome::Done(_)) => Err(Failure::doubtful(DynamoDbError::Malformed)),
            (_, Outcome::Refused(Some(item))) => self.met(asked, sent, &item, clock, now),
            (_, Outcome::Refused(None)) => {
                let body = self.get(asked.operation);
                let look = Request::new(Action::Get, now, &body).instead_of(asked.bytes);
                Ok(Said::AskNext { bytes: look.to_bytes(), may_have_worked: false })
            }
        }
    }

    fn look(&self, operation: &OperationId) -> Vec<u8> {
        Request::new(Action::Get, Timestamp::default(), &self.get(operation)).to_bytes()
    }

    fn seen(&self, operation: &OperationId, reply: Reply<'_>, now: Timestamp) -> Result<Option<Seen>, Failure> {
        let Outcome::Done(found) = Outcome::of(reply)? else {
            return Err(Failure::doubtful(DynamoDbError::Malformed));
        };
        let Some(found) = found.get("Item") else {
            return if is_receipt(&found) { Ok(None) } else { Err(Failure::doubtful(DynamoDbError::Malformed)) };
        };
        let (item, clock) =
            (Item::read(found).ok_or(Failure::certain(DynamoDbError::Foreign))?, by_clock(reply.ahead, now));
        let Some(lives) = item.lives(clock) else { return Ok(None) };
        let (length, lease_until) = (item.sealed.len() as u64, Timestamp::from_millis(item.lease_until));
        let summary = SealedSummary::read(&item.head(), &item.sealed, length, operation, &self.integrity);
        Ok(summary.map_err(unreadable)?.map(|summary| Seen {
            view: summary.view(item.lease_left(clock), clock.since(lease_until), lives, now),
            owner: summary.owner,
            fingerprint: summary.fingerprint,
            lease_until,
            clock,
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
        let (phase, sealed, _) = seal::ended(operation, &seen.fingerprint, seen.owner, ending, u64::MAX, now)?;
        let judged = PhaseByte::of(seen.view.standing);
        let mut values =
            vec![text(":was", &letter(judged)), text(":s", &letter(phase)), binary(":me", &seen.owner.to_bytes())];
        let mut judged_so = "s = :was".to_owned();
        if judged == PhaseByte::InFlight && !force {
            // With another lease its owner has come back to life since.
            judged_so.push_str(" AND l = :l");
            values.push(number(":l", seen.lease_until.as_millis()));
        }
        let mut expiry = "";
        if phase == PhaseByte::Released {
            // The mark fences the owner, however late it comes back.
            let keep = MARK_KEPT.max(seen.view.expires.since(now));
            values.push(number(":e", times(seen.clock, Duration::ZERO, keep).1));
            expiry = ", e = :e";
        }
        let sealing = sealing(phase, &phase.signed(operation, sealed, &self.integrity), &mut values);
        let body = self.update(
            operation,
            &format!("SET s = :s{expiry}{sealing}"),
            &format!("o = :me AND (({judged_so}) OR (s = :s AND {}))", sealed_so(phase)),
            &values,
            "",
        );
        Ok(Request::new(Action::Update, now, &body).to_bytes())
    }

    fn amended(&self, reply: Reply<'_>) -> Result<bool, Failure> {
        match Outcome::of(reply)? {
            Outcome::Done(body) if is_receipt(&body) => Ok(true),
            Outcome::Done(_) => Err(Failure::doubtful(DynamoDbError::Malformed)),
            Outcome::Refused(_) => Ok(false),
        }
    }
}

/// What DynamoDB says, if it is no error.
enum Outcome {
    Done(Node),
    /// The condition does not hold, because of this item if it is shown.
    Refused(Option<Node>),
}

impl Outcome {
    fn of(reply: Reply<'_>) -> Result<Self, Failure> {
        match (reply.status, object(reply.body)) {
            (200, Some(body)) => Ok(Self::Done(body)),
            (200, None) => Err(Failure::doubtful(DynamoDbError::Malformed)),
            (status, None) => Err(Failure::of_proxy(status, reply.body)),
            (_, Some(body)) => match DynamoDbError::name(&body) {
                "ConditionalCheckFailedException" => Ok(Self::Refused(body.get("Item").cloned())),
                _ => Err(Failure::of_service(&body)),
            },
        }
    }
}

/// The JSON object that a reply is.
pub(super) fn object(body: &[u8]) -> Option<Node> {
    let body = serde_json::from_str(std::str::from_utf8(body).ok()?).ok()?;
    matches!(body, Node::Object(_)).then_some(body)
}

/// Whether this is all that the reply to a write says, or to a look where nothing is.
fn is_receipt(body: &Node) -> bool {
    body.keys().all(|key| key == "ConsumedCapacity")
}

fn unreadable(error: CodecError) -> Failure {
    Failure::certain(DynamoDbError::Unreadable(error))
}

fn letter(phase: PhaseByte) -> String {
    char::from(phase as u8).to_string()
}

/// The end of a lease in milliseconds, and in seconds when what is kept so long expires.
fn times(now: Timestamp, lease: Duration, keep: Duration) -> (u64, u64) {
    (now.after(lease).as_millis(), now.after(keep).as_millis().div_ceil(1000))
}

fn binary(name: &str, bytes: &[u8]) -> String {
    format!(r#""{name}":{{"B":"{}"}}"#, base64::encode(bytes))
}

fn number(name: &str, number: u64) -> String {
    format!(r#""{name}":{{"N":"{number}"}}"#)
}

fn text(name: &str, text: &str) -> String {
    format!(r#""{name}":{{"S":"{text}"}}"#)
}

/// The part of an update that writes what stands behind the head. Behind the mark of a release nothing does.
fn sealing(phase: PhaseByte, sealed: &[u8], values: &mut Vec<String>) -> &'static str {
    if phase == PhaseByte::Released {
        return " REMOVE b";
    }
    values.push(binary(":b", sealed));
    ", b = :b"
}

/// The condition that what a write puts behind the head stands there already: it was made before, and its reply got lost.
const fn sealed_so(phase: PhaseByte) -> &'static str {
    match phase {
        PhaseByte::Released => "attribute_not_exists(b)",
        _ => "b = :b",
    }
}

/// Has the refusal of a write show what is in its way.
const SHOWS_ITEM: &str = r#","ReturnValuesOnConditionCheckFailure":"ALL_OLD""#;

/// By which part of a lease the times of a write may be wrong, for as long as it has waited and been under way.
const LEASE_TOLERANCE: u32 = 6;

/// By how much they may be wrong however short the lease is: a `Date` has whole seconds.
const SHORTEST_TOLERANCE: Duration = Duration::from_secs(2);
