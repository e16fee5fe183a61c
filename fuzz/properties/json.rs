//! The canonical form of JSON, against another implementation of RFC 8785.

use idemgate::request::canonicalize;
use serde_json::{Map, Number, Value};

use super::{Seed, texts};

/// What has a canonical form has the one that the other implementation makes, and I-JSON has one.
pub fn check(text: &[u8]) {
    let form = canonicalize(text, &[]);
    // Both give up on deep texts, at different depths.
    if text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100 {
        return;
    }
    let Some(tree) = Tree::read(text) else {
        assert_eq!(form, None, "no I-JSON");
        return;
    };
    let Some(form) = form else {
        assert!(tree.has_hard_numbers, "I-JSON without a canonical form");
        return;
    };
    assert_eq!(printed(&form), printed(&canonical(&tree.value)));
    assert_eq!(canonicalize(&form, &[]).as_ref(), Some(&form), "a form is its own form");

    let ignore = [["a"].as_slice(), &["b", "0"], &["c", "d"]]
        .map(|pointer| pointer.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>());
    let mut value = tree.value;
    ignore.iter().for_each(|pointer| leave_out(&mut value, pointer));
    let without = canonicalize(text, &ignore).expect("there is a form of all of it");
    assert_eq!(printed(&without), printed(&canonical(&value)), "without {ignore:?}");
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("numbers", "[333333333.3333333,1E30,4.50,2e-3,0.000000000000000000000000001,-0,9007199254740993]"),
        ("order", r#"{"amount": 100, "currency": "eur", "a": {"d": [], "c": null}, "items": [{"b": 1, "a": true}]}"#),
        ("pointers", r#"{"a":1,"b":[{"a":1},2],"c":{"d":3,"e":4}}"#),
        ("repeated", r#"{"a":1,"\u0061":2}"#),
        ("strings", r#"["\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","\ud83d\ude00","\u2028"]"#),
        ("surrogates", r#"{"\ud83d\ude00":1,"\ufb33":"\ud800"}"#),
        ("utf_16", r#"{"\ufb33":2,"\ud83d\ude00":1,"\u20ac":3,"\r":4,"1":5}"#),
    ])
}

fn canonical(value: &Value) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("a tree has a canonical form")
}

fn printed(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

fn leave_out(value: &mut Value, pointer: &[String]) {
    match (value, pointer) {
        (Value::Object(members), [name]) => drop(members.remove(name)),
        (Value::Array(elements), [index]) => {
            if let Some(element) = index.parse::<usize>().ok().and_then(|index| elements.get_mut(index)) {
                *element = Value::Null;
            }
        }
        (Value::Object(members), [name, rest @ ..]) => {
            if let Some(member) = members.get_mut(name) {
                leave_out(member, rest);
            }
        }
        _ => {}
    }
}

/// A text that is JSON without repeated names, read naively: each number is the nearest double to what is written.
struct Tree {
    value: Value,
    /// Whether there is a number that a double may not hold.
    has_hard_numbers: bool,
}

impl Tree {
    fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Value>(text).ok()?;
        let mut reader = Reader { rest: std::str::from_utf8(text).ok()?, has_hard_numbers: false };
        let value = reader.value()?;
        Some(Self { value, has_hard_numbers: reader.has_hard_numbers })
    }
}

/// Reads a text that is known to be JSON; `None` if it repeats a name.
struct Reader<'a> {
    rest: &'a str,
    has_hard_numbers: bool,
}

impl Reader<'_> {
    fn value(&mut self) -> Option<Value> {
        match self.peek() {
            '{' => {
                let mut members = Map::new();
                while !self.ends(['{', ','], '}') {
                    let name = self.string();
                    self.skip();
                    let value = self.value()?;
                    if members.insert(name, value).is_some() {
                        return None;
                    }
                }
                Some(Value::Object(members))
            }
            '[' => {
                let mut elements = Vec::new();
                while !self.ends(['[', ','], ']') {
                    elements.push(self.value()?);
                }
                Some(Value::Array(elements))
            }
            '"' => Some(Value::String(self.string())),
            _ => Some(self.literal()),
        }
    }

    /// Whether `end` comes next; it is taken, as one of `before` is in front of it or of the next value.
    fn ends(&mut self, before: [char; 2], end: char) -> bool {
        if before.contains(&self.peek()) {
            self.skip();
        }
        let ends = self.peek() == end;
        if ends {
            self.skip();
        }
        ends
    }

    fn string(&mut self) -> String {
        self.peek();
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
        let text = values.next().expect("a string").expect("a good one");
        self.rest = &self.rest[values.byte_offset()..];
        text
    }

    fn literal(&mut self) -> Value {
        self.peek();
        let end = self.rest.find(|end: char| !end.is_ascii_alphanumeric() && !"+-.".contains(end));
        let (literal, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match literal {
            "null" => Value::Null,
            "false" => Value::Bool(false),
            "true" => Value::Bool(true),
            number => {
                self.has_hard_numbers |= number.len() > 15 || number.contains(['e', 'E']);
                Value::Number(Number::from_f64(number.parse().expect("a number")).expect("a finite one"))
            }
        }
    }

    fn peek(&mut self) -> char {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.chars().next().expect("the text is whole")
    }

    fn skip(&mut self) {
        let length = self.peek().len_utf8();
        self.rest = &self.rest[length..];
    }
}
