//! The canonical form of JSON, against a naive reading of the text.

use std::{collections::BTreeMap, fmt::Write as _};

use idemgate::{config::PointerTree, request::canonicalize};
use serde::de::IgnoredAny;

use super::{Seed, texts};

/// What has a canonical form is I-JSON, and I-JSON has one; the form means what the text does; and all texts that mean it
/// have this form.
pub fn check(text: &[u8]) {
    let all = PointerTree::default();
    let form = canonicalize(text, &all);
    // Both give up on deep texts, at different depths.
    if text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100 {
        return;
    }
    let value = match Reader::read(text) {
        Ok(value) => value,
        Err(Unread::NotIJson) => return assert_eq!(form, None, "no I-JSON"),
        Err(Unread::TooLarge) => return,
    };
    let form = form.expect("I-JSON has a canonical form");
    assert_eq!(Reader::read(&form).ok().as_ref(), Some(&value), "{}", form.escape_ascii());
    let mut respelt = String::new();
    value.spell(&mut respelt);
    for other in [form.as_slice(), respelt.as_bytes()] {
        let other_form = canonicalize(other, &all).expect("it means the same");
        assert_eq!(printed(&other_form), printed(&form), "{}", other.escape_ascii());
    }

    let ignore = [["a"].as_slice(), &["b", "0"], &["c", "d"]]
        .map(|pointer| pointer.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>());
    let without = canonicalize(text, &PointerTree::new(&ignore)).expect("there is a form of all of it");
    let mut value = value;
    ignore.iter().for_each(|pointer| value.leave_out(pointer));
    assert_eq!(Reader::read(&without).ok(), Some(value), "without {ignore:?}: {}", printed(&without));
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("exponents", "[1e400,10E+399,-0.001e-2,100,1e2,0e99999999999999999999,1.50]"),
        ("numbers", "[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001,-0,9007199254740993]"),
        ("order", r#"{"amount": 100, "currency": "eur", "a": {"d": [], "c": null}, "items": [{"b": 1, "a": true}]}"#),
        ("pointers", r#"{"a":1,"b":[{"a":1},2],"c":{"d":3,"e":4}}"#),
        ("repeated", r#"{"a":1,"\u0061":2}"#),
        ("strings", r#"["\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","\ud83d\ude00","\u2028"]"#),
        ("surrogates", r#"{"\ud83d\ude00":1,"\ufb33":"\ud800"}"#),
        ("utf_16", r#"{"\ufb33":2,"\ud83d\ude00":1,"\u20ac":3,"\r":4,"1":5}"#),
    ])
}

fn printed(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// What a text means.
#[derive(Debug, Eq, PartialEq)]
enum Value {
    Literal(String),
    /// Without an exponent, and without zeros that say nothing.
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Spells it in an unusual way.
    fn spell(&self, text: &mut String) {
        match self {
            Self::Literal(literal) => text.push_str(literal),
            Self::Number(number) => write!(text, "{number}{}0e+00", if number.contains('.') { "" } else { "." })
                .expect("a String takes all"),
            Self::String(string) => spell_string(string, text),
            Self::Array(elements) => {
                text.push_str("[ ");
                for (index, element) in elements.iter().enumerate() {
                    text.push_str(if index > 0 { "\n, " } else { "" });
                    element.spell(text);
                }
                text.push_str("\t]");
            }
            Self::Object(members) => {
                text.push('{');
                for (index, (name, value)) in members.iter().rev().enumerate() {
                    text.push_str(if index > 0 { ", " } else { "" });
                    spell_string(name, text);
                    text.push_str(" :\r");
                    value.spell(text);
                }
                text.push('}');
            }
        }
    }

    fn leave_out(&mut self, pointer: &[String]) {
        match (self, pointer) {
            (Self::Object(members), [name]) => drop(members.remove(name)),
            (Self::Array(elements), [index]) => {
                if let Some(element) = index.parse::<usize>().ok().and_then(|index| elements.get_mut(index)) {
                    *element = Self::Literal("null".to_owned());
                }
            }
            (Self::Object(members), [name, rest @ ..]) => {
                if let Some(member) = members.get_mut(name) {
                    member.leave_out(rest);
                }
            }
            _ => {}
        }
    }
}

/// Each character as the escapes of its code units.
fn spell_string(string: &str, text: &mut String) {
    text.push('"');
    string.encode_utf16().for_each(|unit| write!(text, "\\u{unit:04X}").expect("a String takes all"));
    text.push('"');
}

/// Why a text is not read.
enum Unread {
    NotIJson,
    /// It names a number that is too long to be written out.
    TooLarge,
}

/// Reads a text that is known to be JSON.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn read(text: &[u8]) -> Result<Value, Unread> {
        serde_json::from_slice::<IgnoredAny>(text).map_err(|_| Unread::NotIJson)?;
        Reader { rest: std::str::from_utf8(text).map_err(|_| Unread::NotIJson)? }.value()
    }

    fn value(&mut self) -> Result<Value, Unread> {
        match self.peek() {
            '{' => {
                let mut members = BTreeMap::new();
                while !self.ends(['{', ','], '}') {
                    let name = self.string()?;
                    self.skip();
                    let value = self.value()?;
                    if members.insert(name, value).is_some() {
                        return Err(Unread::NotIJson);
                    }
                }
                Ok(Value::Object(members))
            }
            '[' => {
                let mut elements = Vec::new();
                while !self.ends(['[', ','], ']') {
                    elements.push(self.value()?);
                }
                Ok(Value::Array(elements))
            }
            '"' => self.string().map(Value::String),
            _ => self.literal(),
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

    fn string(&mut self) -> Result<String, Unread> {
        self.peek();
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
        // Only a lone surrogate is wrong in a string that passed for JSON.
        let text = values.next().expect("a string").map_err(|_| Unread::NotIJson)?;
        self.rest = &self.rest[values.byte_offset()..];
        Ok(text)
    }

    fn literal(&mut self) -> Result<Value, Unread> {
        self.peek();
        let end = self.rest.find(|end: char| !end.is_ascii_alphanumeric() && !"+-.".contains(end));
        let (literal, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match literal {
            "null" | "false" | "true" => Ok(Value::Literal(literal.to_owned())),
            number => written_out(number).map(Value::Number),
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

/// A number with all its digits and no exponent.
fn written_out(number: &str) -> Result<String, Unread> {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |number| ("-", number));
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    if digits.chars().all(|digit| digit == '0') {
        return Ok("0".to_owned());
    }
    let exponent: i32 =
        exponent.parse().ok().filter(|exponent| (-999..999).contains(exponent)).ok_or(Unread::TooLarge)?;
    let zeros = "0".repeat(999);
    let point = i32::try_from(zeros.len() + whole.len()).map_err(|_| Unread::TooLarge)? + exponent;
    let (whole, fraction) = (zeros.clone() + &digits + &zeros, usize::try_from(point).expect("within the zeros"));
    let (whole, fraction) = whole.split_at(fraction);
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(format!("{sign}{whole}{}{fraction}", if fraction.is_empty() { "" } else { "." }))
}
