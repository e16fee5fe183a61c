//! SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding: either side proves that it knows the password, and neither
//! says it.
//!
//! What is slow about it, on purpose, is to derive the keys from the password; they are kept for as long as the server
//! asks for them with the same salt and number of rounds. A worker would be blocked for milliseconds at each login.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

use crate::store::base64;

/// The password, and the keys that were derived from it last.
pub(super) struct Credentials {
    password: String,
    derived: Mutex<Option<Derived>>,
}

#[derive(Clone)]
struct Derived {
    salt: Vec<u8>,
    rounds: u32,
    salted: Hash,
}

type Hash = [u8; 32];

/// A proof under way.
#[derive(Clone)]
pub(super) struct Scram {
    credentials: Arc<Credentials>,
    /// What it has said first, without what only concerns channel binding.
    said: String,
    nonce: String,
    /// The proof that the server knows the password.
    expected: Option<Hash>,
}

/// Why the proof fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ScramError {
    /// It does not speak this language, or it asks for more rounds than a worker can spend.
    Malformed,
    /// The server does not know the password, or is another one.
    Impostor,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram")
    }
}

impl Credentials {
    pub(super) fn new(password: String) -> Self {
        Self { password, derived: Mutex::new(None) }
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// RFC 5802, section 3: `Hi`.
    fn salted(&self, salt: &[u8], rounds: u32) -> Hash {
        let mut kept = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(derived) = kept.as_ref().filter(|derived| derived.salt == salt && derived.rounds == rounds) {
            return derived.salted;
        }
        let key = Hmac::new(self.password.as_bytes());
        let mut round = key.hash(&[salt, &1_u32.to_be_bytes()]);
        let mut salted = round;
        for _ in 1..rounds {
            round = key.hash(&[&round]);
            salted = xor(&salted, &round);
        }
        *kept = Some(Derived { salt: salt.to_vec(), rounds, salted });
        salted
    }
}

impl Scram {
    /// Begins; `nonce` is one that nobody can guess, and that is never used twice.
    pub(super) fn new(credentials: Arc<Credentials>, nonce: &[u8]) -> Self {
        let nonce = base64::encode(nonce);
        // The server takes the name of the role that the connection begins with.
        Self { credentials, said: format!("n=,r={nonce}"), nonce, expected: None }
    }

    /// What it says first.
    pub(super) fn first(&self) -> String {
        format!("{CHANNEL_BINDING}{}", self.said)
    }

    /// Its proof, by what the server has said to that.
    pub(super) fn prove(&mut self, says: &[u8]) -> Result<String, ScramError> {
        let text = str::from_utf8(says).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed);
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        let salt = base64::decode(salt).ok_or(ScramError::Malformed)?;
        let rounds = rounds.parse().ok().filter(|rounds| (1..=MOST_ROUNDS).contains(rounds));
        let rounds = rounds.ok_or(ScramError::Malformed)?;
        // The server has to add its own, so that neither can have the other say what was said before.
        if nonce.strip_prefix(&self.nonce).is_none_or(str::is_empty) {
            return Err(ScramError::Impostor);
        }
        let without_proof = format!("c={},r={nonce}", base64::encode(CHANNEL_BINDING.as_bytes()));
        let said = format!("{},{text},{without_proof}", self.said);
        let key = Hmac::new(&self.credentials.salted(&salt, rounds));
        let client = key.hash(&[b"Client Key"]);
        let signature = Hmac::new(&Sha256::digest(client)).hash(&[said.as_bytes()]);
        self.expected = Some(Hmac::new(&key.hash(&[b"Server Key"])).hash(&[said.as_bytes()]));
        Ok(format!("{without_proof},p={}", base64::encode(&xor(&client, &signature))))
    }

    /// Whether the server has proven itself by this.
    pub(super) fn verify(&mut self, says: &[u8]) -> Result<(), ScramError> {
        let signature = str::from_utf8(says).ok().and_then(|text| text.strip_prefix("v=")).and_then(base64::decode);
        // The comparison need not take the same time wherever they differ: each is made for its own nonce.
        match (self.expected.take(), signature) {
            (Some(expected), Some(signature)) if signature == expected => Ok(()),
            _ => Err(ScramError::Impostor),
        }
    }
}

/// HMAC-SHA-256 (RFC 2104) with a key that is used many times: the first half of either hash is made once.
struct Hmac {
    inner: Sha256,
    outer: Sha256,
}

impl Hmac {
    fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        if key.len() > BLOCK {
            block.iter_mut().zip(Sha256::digest(key)).for_each(|(byte, hashed)| *byte = hashed);
        } else {
            block.iter_mut().zip(key).for_each(|(byte, own)| *byte = *own);
        }
        let padded = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut inner = self.inner.clone();
        parts.iter().for_each(|part| inner.update(part));
        let mut outer = self.outer.clone();
        outer.update(inner.finalize());
        outer.finalize().into()
    }
}

fn xor(one: &Hash, other: &Hash) -> Hash {
    std::array::from_fn(|place| one.get(place).unwrap_or(&0) ^ other.get(place).unwrap_or(&0))
}

/// There is none, and none is asked for: what is below this filter, TLS, belongs to the host.
const CHANNEL_BINDING: &str = "n,,";

/// A server asks for 4096 unless it is told otherwise. These take most of a second, once.
const MOST_ROUNDS: u32 = 1_000_000;

/// Of SHA-256, in bytes.
const BLOCK: usize = 64;

#[cfg(test)]
mod tests;
