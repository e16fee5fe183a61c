//! What can be found out about a table before it is needed: whether it is there, and as it has to be.

use serde_json::{Value, json};

use super::{DynamoDbError, DynamoDbStore};
use crate::store::{
    StoreError,
    remote::{Failure, Finding, Heard},
};

impl DynamoDbStore {
    /// What the reply to `DescribeTable` says that operators should know.
    pub(super) fn found(&self, heard: Heard<'_>) -> Vec<Finding> {
        let table = match self.described(heard) {
            Ok(Some(table)) => table,
            Ok(None) => return vec![SILENT],
            Err(error) => return vec![Finding::Failed(error)],
        };
        let mut findings = Vec::new();
        if !is_keyed_as_ours(&table) {
            findings.push(Finding::Failed(DynamoDbError::WrongKey.into()));
        }
        if table.get("Replicas").and_then(Value::as_array).is_some_and(|replicas| !replicas.is_empty()) {
            findings.push(Finding::Warning(
                "store.dynamodb.table is a global table: two regions may both grant a claim for the same operation; send \
                 the requests of one caller to one region, and see docs/dynamodb.md"
                    .to_owned(),
            ));
        }
        if let Heard::Reply { ahead: Some(ahead), .. } = heard
            && !USUAL_LAG.contains(&ahead)
        {
            findings.push(Finding::Warning(format!(
                "the clock of this machine differs from DynamoDB's by {} ms or so; each record is written twice until it \
                 is set right",
                ahead.unsigned_abs()
            )));
        }
        findings
    }

    /// What the same reply says of how much the table holds, as DynamoDB counts every six hours or so.
    pub(super) fn figures(&self, heard: Heard<'_>) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let Some(table) = self.described(heard)? else { return Ok(Vec::new()) };
        let number = |name: &str| table.get(name).and_then(Value::as_u64).unwrap_or_default();
        Ok(vec![("items", number("ItemCount")), ("table_bytes", number("TableSizeBytes"))])
    }

    /// The table; `None` if this caller may not be told of it.
    fn described(&self, heard: Heard<'_>) -> Result<Option<Value>, StoreError> {
        let reply = heard.reply(true, &*self.dialect).map_err(|failure| failure.error)?;
        let body = serde_json::from_slice::<Value>(reply.body).ok().filter(Value::is_object);
        match (reply.status, body) {
            (200, Some(mut body)) => Ok(Some(body.get_mut("Table").map(Value::take).ok_or(DynamoDbError::Malformed)?)),
            (200, None) => Err(DynamoDbError::Malformed.into()),
            (status, None) => Err(Failure::of_proxy(status, reply.body).error),
            (_, Some(body)) => match Failure::of_service(&body).error {
                StoreError::DynamoDb(DynamoDbError::Denied) => Ok(None),
                error => Err(error),
            },
        }
    }
}

fn is_keyed_as_ours(table: &Value) -> bool {
    let key = json!([{"AttributeName": "k", "KeyType": "HASH"}]);
    let attribute = json!({"AttributeName": "k", "AttributeType": "B"});
    let attributes = table.get("AttributeDefinitions").and_then(Value::as_array);
    table.get("KeySchema") == Some(&key) && attributes.is_some_and(|attributes| attributes.contains(&attribute))
}

/// How many milliseconds a `Date` is ahead if all clocks are right: it has whole seconds, and was some time under way.
const USUAL_LAG: std::ops::RangeInclusive<i64> = -2500..=1000;

/// A policy that does not allow `dynamodb:DescribeTable` is no reason for an alarm.
const SILENT: Finding = Finding::Note(
    "DynamoDB does not say how its table is made (dynamodb:DescribeTable is not allowed); see docs/dynamodb.md",
);
