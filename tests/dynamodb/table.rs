//! A table of DynamoDB in memory, as far as the store uses it: four calls of its API, and the expressions in them.
//!
//! It takes what is sent and answers what DynamoDB answers, so that the store's conditions are part of what is proven.
//! That real servers answer the same is a test of its own (`tests/dynamodb_store.rs`).

use std::{collections::BTreeMap, iter::Peekable, vec::IntoIter};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The table.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Table {
    pub(crate) items: BTreeMap<Vec<u8>, Item>,
    /// Whether a refusal leaves out the item that is in the way, as old servers do.
    pub(crate) hides_items: bool,
}

pub(crate) type Item = BTreeMap<String, Attribute>;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Attribute {
    Binary(Vec<u8>),
    Number(u64),
    Text(String),
}

impl Attribute {
    pub(crate) fn read(value: &Value) -> Self {
        let (kind, value) = value.as_object().and_then(|object| object.iter().next()).expect("an attribute");
        let text = value.as_str().expect("its value as text");
        match kind.as_str() {
            "B" => Self::Binary(STANDARD.decode(text).expect("base64")),
            "N" => Self::Number(text.parse().expect("a number")),
            "S" => Self::Text(text.to_owned()),
            other => panic!("an attribute of type {other}"),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Binary(bytes) => json!({"B": STANDARD.encode(bytes)}),
            Self::Number(number) => json!({"N": number.to_string()}),
            Self::Text(text) => json!({"S": text}),
        }
    }
}

impl Table {
    /// Carries out a call in one step; the status and the body of the reply.
    pub(crate) fn call(&mut self, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let (status, reply) = self.answer(target, &serde_json::from_slice(body).expect("JSON"));
        (status, reply.to_string().into_bytes())
    }

    /// The same, with what is between the bytes.
    pub(crate) fn answer(&mut self, target: &str, body: &Value) -> (u16, Value) {
        match target {
            "DynamoDB_20120810.DescribeTable" => (200, self.describe()),
            "DynamoDB_20120810.GetItem" => (200, self.get(body)),
            "DynamoDB_20120810.PutItem" => self.put(body),
            "DynamoDB_20120810.UpdateItem" => self.update(body),
            other => panic!("{other} is not a call of the store's"),
        }
    }

    fn describe(&self) -> Value {
        json!({"Table": {
            "TableName": "idemgate",
            "TableStatus": "ACTIVE",
            "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "B"}],
            "ItemCount": self.items.len(),
            "TableSizeBytes": 0,
        }})
    }

    fn get(&self, body: &Value) -> Value {
        assert_eq!(body["ConsistentRead"], json!(true));
        match self.items.get(&key_in(&body["Key"])) {
            Some(item) => json!({"Item": to_json(item)}),
            None => json!({}),
        }
    }

    fn put(&mut self, body: &Value) -> (u16, Value) {
        let key = key_in(&body["Item"]);
        if let Err(refused) = self.check(&key, body) {
            return (400, refused);
        }
        let attributes = body["Item"].as_object().expect("an item").iter();
        self.items.insert(key, attributes.map(|(name, value)| (name.clone(), Attribute::read(value))).collect());
        (200, json!({}))
    }

    fn update(&mut self, body: &Value) -> (u16, Value) {
        let key = key_in(&body["Key"]);
        if let Err(refused) = self.check(&key, body) {
            return (400, refused);
        }
        let values = values_in(body);
        let item =
            self.items.entry(key.clone()).or_insert_with(|| Item::from([("k".to_owned(), Attribute::Binary(key))]));
        let mut words = tokens(body["UpdateExpression"].as_str().expect("an update")).into_iter().peekable();
        let mut clause = String::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "SET" | "REMOVE" => clause = word,
                "," => {}
                name if clause == "REMOVE" => drop(item.remove(name)),
                name => {
                    assert_eq!(words.next().as_deref(), Some("="));
                    let mut value = words.next().expect("a value");
                    let keeps = value == "if_not_exists";
                    if keeps {
                        let rest: Vec<String> = words.by_ref().take(5).collect();
                        assert_eq!((&*rest[0], &*rest[1], &*rest[2], &*rest[4]), ("(", name, ",", ")"));
                        value.clone_from(&rest[3]);
                    }
                    if !(keeps && item.contains_key(name)) {
                        item.insert(name.to_owned(), values[&value].clone());
                    }
                }
            }
        }
        (200, json!({}))
    }

    /// Whether the condition holds.
    fn check(&self, key: &[u8], body: &Value) -> Result<(), Value> {
        let condition = body["ConditionExpression"].as_str().expect("a condition");
        let values = values_in(body);
        let expressions = format!("{condition} {}", body["UpdateExpression"].as_str().unwrap_or_default());
        let used = tokens(&expressions);
        for value in values.keys() {
            assert!(used.contains(value), "{value} is not used, which DynamoDB refuses: {body}");
        }
        let item = self.items.get(key);
        let mut words = tokens(condition).into_iter().peekable();
        let holds = either(&mut words, item, &values);
        assert_eq!(words.next(), None, "{condition}");
        if holds {
            return Ok(());
        }
        let name = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        let mut refused = json!({"__type": name, "message": "The conditional request failed"});
        if let Some(item) = item.filter(|_| !self.hides_items)
            && body["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
        {
            refused["Item"] = to_json(item);
        }
        Err(refused)
    }
}

pub(crate) fn key_in(value: &Value) -> Vec<u8> {
    let Attribute::Binary(key) = Attribute::read(&value["k"]) else { panic!("{value}") };
    key
}

fn values_in(body: &Value) -> BTreeMap<String, Attribute> {
    let values = body["ExpressionAttributeValues"].as_object().expect("values");
    values.iter().map(|(name, value)| (name.clone(), Attribute::read(value))).collect()
}

fn to_json(item: &Item) -> Value {
    Value::Object(item.iter().map(|(name, value)| (name.clone(), value.to_json())).collect::<Map<_, _>>())
}

pub(crate) fn tokens(expression: &str) -> Vec<String> {
    let spaced =
        ["(", ")", ","].iter().fold(expression.to_owned(), |text, sign| text.replace(sign, &format!(" {sign} ")));
    spaced.split_whitespace().map(str::to_owned).collect()
}

type Words = Peekable<IntoIter<String>>;
type Values = BTreeMap<String, Attribute>;

/// Conditions, and `OR` between them; what stands right of it is read in any case.
fn either(words: &mut Words, item: Option<&Item>, values: &Values) -> bool {
    let mut holds = both(words, item, values);
    while words.next_if_eq("OR").is_some() {
        holds |= both(words, item, values);
    }
    holds
}

fn both(words: &mut Words, item: Option<&Item>, values: &Values) -> bool {
    let mut holds = one(words, item, values);
    while words.next_if_eq("AND").is_some() {
        holds &= one(words, item, values);
    }
    holds
}

fn one(words: &mut Words, item: Option<&Item>, values: &Values) -> bool {
    let word = words.next().expect("a condition");
    match word.as_str() {
        "(" => {
            let holds = either(words, item, values);
            assert_eq!(words.next().as_deref(), Some(")"));
            holds
        }
        "attribute_not_exists" => {
            let [_, name, _] = [(); 3].map(|()| words.next().expect("a name in parentheses"));
            item.is_none_or(|item| !item.contains_key(&name))
        }
        name => {
            let (comparison, value) = (words.next().expect("a comparison"), words.next().expect("a value"));
            let found = item.and_then(|item| item.get(name));
            match comparison.as_str() {
                "=" => found == Some(&values[&value]),
                // What is not there is unlike anything.
                "<>" => found != Some(&values[&value]),
                "<=" => match (found, &values[&value]) {
                    (Some(Attribute::Number(found)), Attribute::Number(most)) => found <= most,
                    _ => false,
                },
                other => panic!("the comparison {other}"),
            }
        }
    }
}
