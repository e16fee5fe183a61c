//! DynamoDB, as far as the store sees it: a table in memory, and the conditions that the store itself sends.
//!
//! That real servers answer what the table does is a test of its own (`tests/dynamodb_store.rs`).

#[path = "../dynamodb/table.rs"]
pub(crate) mod table;

use idemgate::{record::Owner, store::remote::RemoteStore};
use serde_json::{Value, json};

use super::{
    law::{Deed, DeedKind, Entry, State},
    redis::Omissions,
};
use table::{Attribute, Table};

/// One call of the API.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Request {
    target: &'static str,
    body: Value,
    key: Vec<u8>,
    /// What the clock said by which its times were reckoned.
    written: u64,
}

impl Request {
    /// Reads what the store sends: with it, it keeps when it was written (`src/store/dynamodb/request.rs`).
    pub(crate) fn read(store: &dyn RemoteStore, question: &[u8]) -> Self {
        let (fields, body) = store.call(question);
        let (_, target) = fields.iter().find(|(name, _)| *name == "x-amz-target").expect("a target");
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let key = table::key_in(body.get("Item").unwrap_or(&body["Key"]));
        let written = std::str::from_utf8(&question[1..14]).unwrap().parse().unwrap();
        Self { target, body, key, written }
    }

    fn is_claim(&self) -> bool {
        self.target.ends_with(".PutItem")
    }

    fn is_look(&self) -> bool {
        self.target.ends_with(".GetItem")
    }

    pub(crate) fn deed(&self, now: u64) -> Option<Deed> {
        let values = self.body.get("ExpressionAttributeValues")?;
        let Attribute::Binary(owner) = Attribute::read(&values[":me"]) else { panic!("{values}") };
        let owner = Owner::new(u128::from_be_bytes(owner.as_slice().try_into().unwrap()));
        let kind = match values.get(":s") {
            _ if self.is_claim() => DeedKind::Claim,
            Some(state) if state["S"] == "r" => DeedKind::Release,
            Some(_) => DeedKind::Settle,
            None => DeedKind::Renew,
        };
        Some(Deed { owner, kind, now, ahead: self.written.saturating_sub(now) })
    }

    /// The record that it is about; a mark of a release is none.
    pub(crate) fn entry(&self, table: &Table) -> Option<Entry> {
        let item = table.items.get(&self.key)?;
        let number = |name: &str| match item[name] {
            Attribute::Number(number) => number,
            ref other => panic!("{name}: {other:?}"),
        };
        let bytes = |name: &str| match &item[name] {
            Attribute::Binary(bytes) => bytes.as_slice(),
            other => panic!("{name}: {other:?}"),
        };
        let Attribute::Text(state) = &item["s"] else { panic!("{item:?}") };
        let state = match state.as_str() {
            "i" => State::InFlight { lease_until: number("l") },
            "u" => State::Unknown { lease_until: number("l") },
            "c" => State::Completed,
            "n" => State::NotKept,
            "r" => return None,
            other => panic!("no state: {other}"),
        };
        Some(Entry {
            owner: bytes("o").try_into().unwrap(),
            fingerprint: bytes("f").try_into().unwrap(),
            state,
            expires: number("e") * 1000,
            ended: None,
        })
    }

    /// Carries it out in one step; the status and the body of the reply.
    pub(crate) fn carry_out(&self, table: &mut Table, omissions: Omissions) -> (u16, Vec<u8>) {
        let kind = self.deed(0).map(|deed| deed.kind);
        let (status, mut reply) = match kind {
            Some(kind) if omissions != Omissions::default() => {
                table.answer(self.target, &self.without(kind, omissions))
            }
            _ => table.answer(self.target, &self.body),
        };
        if omissions.marks && kind == Some(DeedKind::Release) && status == 200 {
            table.items.remove(&self.key);
        }
        if omissions.looks_of_marks && self.is_look() && reply["Item"]["s"]["S"] == "r" {
            // Nobody can read it.
            reply["Item"]["b"] = json!({"B": "AAAA"});
        }
        (status, reply.to_string().into_bytes())
    }

    /// The same without what is left out of its condition.
    fn without(&self, kind: DeedKind, omissions: Omissions) -> Value {
        let mut body = self.body.clone();
        let mut condition = body["ConditionExpression"].as_str().unwrap().to_owned();
        if omissions.absence && kind == DeedKind::Claim {
            condition = ALWAYS.to_owned();
        }
        if omissions.ownership && kind != DeedKind::Claim
            || omissions.ownership_of_releases && kind == DeedKind::Release
        {
            condition = condition.replace("o = :me", ALWAYS);
        }
        if omissions.judgement {
            condition = condition.replace("(o = :xo AND s = :xs AND l = :xl AND e = :xe)", ALWAYS);
        }
        let update = body["UpdateExpression"].as_str().unwrap_or_default();
        let used = table::tokens(&format!("{condition} {update}"));
        let values = body["ExpressionAttributeValues"].as_object_mut().unwrap();
        values.retain(|name, _| used.contains(name));
        body["ConditionExpression"] = json!(condition);
        body
    }
}

/// A condition that always holds.
const ALWAYS: &str = "attribute_not_exists(x)";

/// What it says if more is asked of it than it has capacity for.
pub(crate) const THROTTLED: &[u8] =
    br#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"The level of configured provisioned throughput for the table was exceeded."}"#;
