//! Redis, as far as the store's three scripts see it: keys with an expiry, a clock, and one step at a time.
//!
//! It takes the bytes that the store sends and answers in the bytes that Redis answers with, so that the
//! store's encoders and decoders are part of what is proven. That it says what the scripts say on a real
//! server is a test of its own (`tests/redis_store.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use idemgate::{
    record::Owner,
    store::redis::resp::{Value, decode_all},
};

use super::{
    law::{Deed, DeedKind, Entry, State},
    postgres,
};

/// A server.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Redis {
    values: BTreeMap<Vec<u8>, Kept>,
    /// The scripts that it knows by their hashes.
    known: BTreeSet<Script>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Kept {
    value: Arc<[u8]>,
    until: u64,
}

/// A rule that the scripts have, and that is left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Omissions {
    /// A claim is written whatever is there.
    pub(crate) absence: bool,
    /// Renewals and settlements are anybody's.
    pub(crate) ownership: bool,
    /// Releases are anybody's.
    pub(crate) ownership_of_releases: bool,
    /// A release leaves nothing behind by which a late claim of the same owner is known.
    pub(crate) marks: bool,
    /// DynamoDB: what was judged need not be what a write takes the place of.
    pub(crate) judgement: bool,
    /// DynamoDB: the mark of a release is shown to who looks for it as if it were a record.
    pub(crate) looks_of_marks: bool,
}

/// One call of a script.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Command {
    pub(crate) script: Script,
    pub(crate) key: Vec<u8>,
    pub(crate) owner: [u8; 16],
    /// Whether the script is called by its hash.
    is_hashed: bool,
    /// Whether it was a statement of PostgreSQL's, and is answered as such.
    is_statement: bool,
    arguments: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Script {
    Claim,
    Renew,
    Settle,
}

impl Command {
    /// Reads what the store sends: one `EVAL` or `EVALSHA` of one key, or a statement.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"P") {
            return postgres::read(bytes);
        }
        let values = decode_all(bytes, 1);
        let Ok([Value::Array(Some(parts))]) = values.as_deref() else { panic!("no command: {bytes:?}") };
        let mut parts = parts.iter().map(|part| match part {
            Value::Bulk(Some(bytes)) => bytes.clone(),
            other => panic!("{other:?} in a command"),
        });
        let mut next = || parts.next().unwrap();
        let name = next();
        assert!(name == b"EVAL" || name == b"EVALSHA");
        // The script itself: they are told apart by what they take.
        let _ = next();
        assert_eq!(next(), b"1");
        let (key, owner) = (next(), next().try_into().unwrap());
        let arguments: Vec<Vec<u8>> = parts.collect();
        let script = match arguments.len() {
            5 => Script::Claim,
            2 => Script::Renew,
            4 => Script::Settle,
            other => panic!("no script has {other} arguments"),
        };
        Self { script, key, owner, is_hashed: name == b"EVALSHA", is_statement: false, arguments }
    }

    pub(crate) fn of_statement(script: Script, key: Vec<u8>, owner: [u8; 16], arguments: Vec<Vec<u8>>) -> Self {
        Self { script, key, owner, is_hashed: false, is_statement: true, arguments }
    }

    /// In whose name it is sent, and to what end.
    pub(crate) fn deed(&self, now: u64) -> Deed {
        let kind = match self.script {
            Script::Claim => DeedKind::Claim,
            Script::Renew => DeedKind::Renew,
            Script::Settle if self.arguments[0] == b"r" => DeedKind::Release,
            Script::Settle => DeedKind::Settle,
        };
        Deed { owner: Owner::new(u128::from_be_bytes(self.owner)), kind, now, ahead: 0 }
    }

    fn number(&self, index: usize) -> u64 {
        std::str::from_utf8(&self.arguments[index]).unwrap().parse().unwrap()
    }
}

impl Redis {
    /// What is under a key, and until when.
    pub(crate) fn value(&self, key: &[u8], now: u64) -> Option<(&[u8], u64)> {
        self.values.get(key).filter(|kept| kept.until > now).map(|kept| (&*kept.value, kept.until))
    }

    /// The record under a key; a mark of a release is none.
    pub(crate) fn entry(&self, key: &[u8], now: u64) -> Option<Entry> {
        let (value, expires) = self.value(key, now)?;
        let lease_until = std::str::from_utf8(&value[50..63]).unwrap().parse().unwrap();
        let state = match value[1] {
            b'i' => State::InFlight { lease_until },
            b'u' => State::Unknown { lease_until },
            b'c' => State::Completed,
            b'n' => State::NotKept,
            b'r' => return None,
            other => panic!("no state: {other}"),
        };
        Some(Entry {
            owner: value[2..18].try_into().unwrap(),
            fingerprint: value[18..50].try_into().unwrap(),
            state,
            expires,
            ended: None,
        })
    }

    /// Lets the lease of a record run out.
    pub(crate) fn lapse(&mut self, key: &[u8]) {
        if let Some(kept) = self.values.get_mut(key) {
            let mut value = kept.value.to_vec();
            value[50..63].copy_from_slice(digits(1).as_bytes());
            kept.value = value.into();
        }
    }

    /// Loses all data.
    pub(crate) fn flush(&mut self) {
        self.values.clear();
        self.known.clear();
    }

    /// Carries out a command in one step; the bytes of the reply.
    pub(crate) fn eval(&mut self, command: &Command, now: u64, omissions: Omissions) -> Vec<u8> {
        if command.is_hashed && !self.known.contains(&command.script) {
            return b"-NOSCRIPT No matching script. Please use EVAL.\r\n".to_vec();
        }
        self.known.insert(command.script);
        let reply = match command.script {
            Script::Claim => self.claim(command, now, omissions),
            Script::Renew => self.renew(command, now, omissions),
            Script::Settle => self.settle(command, now, omissions),
        };
        if command.is_statement { postgres::reply(command.script, &reply) } else { reply }
    }

    /// `claim.lua`.
    fn claim(&mut self, command: &Command, now: u64, omissions: Omissions) -> Vec<u8> {
        let [fingerprint, _, _, retry, tail] = &command.arguments[..] else { panic!("{command:?}") };
        if let Some((value, until)) = self.value(&command.key, now).filter(|_| !omissions.absence) {
            let digits = value.get(50..63).filter(|digits| digits.iter().all(u8::is_ascii_digit));
            let lease = digits.map_or(now, |digits| std::str::from_utf8(digits).unwrap().parse().unwrap());
            let (state, owner) = (value.get(1), value.get(2..18));
            let is_mine = owner == Some(&command.owner);
            let mine = state == Some(&b'i') && is_mine;
            let free = state == Some(&b'r') && value.len() == 63 && !is_mine;
            let retries = retry == b"1"
                && lease <= now
                && !is_mine
                && matches!(state, Some(b'i' | b'u'))
                && value.get(18..50) == Some(fingerprint);
            let known = value.first() == Some(&b'1') && digits.is_some();
            if !(known && (mine || free || retries)) {
                let (left, lives) = (lease.saturating_sub(now), until - now);
                let mut reply = format!("*3\r\n:{left}\r\n:{lives}\r\n${}\r\n", value.len()).into_bytes();
                reply.extend_from_slice(value);
                reply.extend_from_slice(b"\r\n");
                return reply;
            }
        }
        let (lease, keep) = (now + command.number(1), now + command.number(2));
        self.set(command, b'i', fingerprint, lease, tail, keep);
        b":1\r\n".to_vec()
    }

    /// `renew.lua`.
    fn renew(&mut self, command: &Command, now: u64, omissions: Omissions) -> Vec<u8> {
        let Some(value) = self.value(&command.key, now).map(|(value, _)| value.to_vec()) else {
            return b":0\r\n".to_vec();
        };
        let is_owner = value.get(2..18) == Some(&command.owner) || omissions.ownership;
        if value.get(..2) != Some(b"1i") || !is_owner {
            return b":0\r\n".to_vec();
        }
        let mut value = value;
        value[50..63].copy_from_slice(digits(now + command.number(0)).as_bytes());
        self.values.insert(command.key.clone(), Kept { value: value.into(), until: now + command.number(1) });
        b":1\r\n".to_vec()
    }

    /// `settle.lua`.
    fn settle(&mut self, command: &Command, now: u64, omissions: Omissions) -> Vec<u8> {
        let [state, fingerprint, _, tail] = &command.arguments[..] else { panic!("{command:?}") };
        let mut lease = now;
        if let Some((value, _)) = self.value(&command.key, now) {
            let is_anybodys = omissions.ownership || omissions.ownership_of_releases && state == b"r";
            let is_owner = value.get(2..18) == Some(&command.owner) || is_anybodys;
            if value.first() != Some(&b'1') || !is_owner {
                return b":0\r\n".to_vec();
            }
            if value.get(1) == state.first() {
                return b":1\r\n".to_vec();
            }
            if value.get(1) != Some(&b'i') {
                return b":0\r\n".to_vec();
            }
            lease = std::str::from_utf8(&value[50..63]).unwrap().parse().unwrap();
        }
        if omissions.marks && state == b"r" {
            self.values.remove(&command.key);
            return b":1\r\n".to_vec();
        }
        let mut until = now + command.number(2);
        if state == b"u" {
            until = until.max(lease);
        }
        self.set(command, state[0], fingerprint, lease, tail, until);
        b":1\r\n".to_vec()
    }

    fn set(&mut self, command: &Command, state: u8, fingerprint: &[u8], lease: u64, tail: &[u8], until: u64) {
        let lease = digits(lease);
        let value = [b"1", &[state][..], &command.owner, fingerprint, lease.as_bytes(), tail].concat();
        self.values.insert(command.key.clone(), Kept { value: value.into(), until });
    }
}

/// What it says if it cannot.
pub(crate) const LOADING: &[u8] = b"-LOADING Redis is loading the dataset in memory\r\n";

fn digits(number: u64) -> String {
    format!("{number:013}")
}
