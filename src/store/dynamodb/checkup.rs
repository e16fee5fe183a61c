//! What can be found out about a table before it is needed: whether it is there, and as it has to be.

use super::{DynamoDbError, DynamoDbStore, dialect::object};
use crate::{
    config::Node,
    store::{
        StoreError,
        dialect::{Failure, Heard},
        remote::Finding,
    },
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
        if matches!(table.get("Replicas"), Some(Node::List(replicas)) if !replicas.is_empty()) {
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
        let number = |name: &str| table.get(name).and_then(Node::unsigned).unwrap_or_default();
        Ok(vec![("items", number("ItemCount")), ("table_bytes", number("TableSizeBytes"))])
    }

    /// The table; `None` if this caller may not be told of it.
    fn described(&self, heard: Heard<'_>) -> Result<Option<Node>, StoreError> {
        let reply = heard.reply(true, &*self.dialect).map_err(|failure| failure.error)?;
        match (reply.status, object(reply.body)) {
            (200, Some(body)) => Ok(Some(body.get("Table").cloned().ok_or(DynamoDbError::Malformed)?)),
            (200, None) => Err(DynamoDbError::Malformed.into()),
            (status, None) => Err(Failure::of_proxy(status, reply.body).error),
            (_, Some(body)) => match Failure::of_service(&body).error {
                StoreError::DynamoDb(DynamoDbError::Denied) => Ok(None),
                error => Err(error),
            },
        }
    }
}

fn is_keyed_as_ours(table: &Node) -> bool {
    let list = |name: &str| if let Some(Node::List(list)) = table.get(name) { list.as_slice() } else { &[] };
    let says = |node: &Node, name: &str, text: &str| node.get(name).and_then(Node::text) == Some(text);
    let is_k = |node: &Node| says(node, "AttributeName", "k");
    let is_binary = list("AttributeDefinitions").iter().any(|node| is_k(node) && says(node, "AttributeType", "B"));
    matches!(list("KeySchema"), [key] if is_k(key)) && is_binary
}

/// How many milliseconds a `Date` is ahead if all clocks are right: it has whole seconds, and was some time under way.
const USUAL_LAG: std::ops::RangeInclusive<i64> = -2500..=1000;

/// A policy that does not allow `dynamodb:DescribeTable` is no reason for an alarm.
const SILENT: Finding = Finding::Note(
    "DynamoDB does not say how its table is made (dynamodb:DescribeTable is not allowed); see docs/dynamodb.md",
);
