//! What tells the records of this filter from forged ones, where somebody else can write to the store.
//!
//! Each record has a keyed hash of all of it behind it, bound to the operation and to the part of the store that it
//! belongs to. Without the key nobody can make one up, change one, or put one in the place of another. A writer
//! without it can still take records away, or put an older one of the same operation back.

use crate::{
    config::{IntegrityConfig, Unsigned},
    record::CodecError,
    request::OperationId,
};

/// The keys of one store.
pub struct Integrity {
    /// Which part of a store: the same operation may have records in several.
    scope: String,
    keys: Vec<[u8; blake3::KEY_LEN]>,
    unsigned: Unsigned,
}

impl std::fmt::Debug for Integrity {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Integrity")
            .field("scope", &self.scope)
            .field("keys", &self.keys.len())
            .field("unsigned", &self.unsigned)
            .finish()
    }
}

impl Integrity {
    /// The keys of what is stored under `scope`.
    #[must_use]
    pub fn new(config: &IntegrityConfig, scope: String) -> Self {
        let keys = config.keys.iter().map(|key| blake3::derive_key(CONTEXT, key.as_bytes())).collect();
        Self { scope, keys, unsigned: config.unsigned }
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The record with the hash behind it, if records are to have one.
    #[must_use]
    pub fn sign(&self, operation: &OperationId, mut record: Vec<u8>) -> Vec<u8> {
        if let (Some(key), Unsigned::Accept | Unsigned::Refuse) = (self.keys.first(), self.unsigned) {
            let hash = self.hash(key, operation, &record);
            record.extend_from_slice(hash.as_bytes());
        }
        record
    }

    /// The record without its hash.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] if it should have one, and has none of this operation by any of the keys.
    pub fn verify<'a>(&self, operation: &OperationId, signed: &'a [u8]) -> Result<&'a [u8], CodecError> {
        if !self.is_configured() {
            return Ok(signed);
        }
        if let Some((record, found)) = signed.split_last_chunk::<{ blake3::OUT_LEN }>()
            // The comparison of hashes takes the same time wherever they differ.
            && self.keys.iter().any(|key| self.hash(key, operation, record) == *found)
        {
            return Ok(record);
        }
        match self.unsigned {
            Unsigned::Accept | Unsigned::Write => Ok(signed),
            Unsigned::Refuse => Err(CodecError::Damaged),
        }
    }

    fn hash(&self, key: &[u8; blake3::KEY_LEN], operation: &OperationId, record: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&(self.scope.len() as u64).to_le_bytes());
        hasher.update(self.scope.as_bytes());
        hasher.update(operation.as_bytes());
        hasher.update(record);
        hasher.finalize()
    }
}

/// What the keys are for. Another meaning of the hash is another text.
const CONTEXT: &str = "idemgate 2026-11-30 integrity of stored records";

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: OperationId = OperationId::from_bytes([1; 32]);
    const OLD: &str = "an old key of thirty-two bytes at least";
    const NEW: &str = "a new key of thirty-two bytes at least.";

    fn integrity(keys: &[&str], unsigned: Unsigned) -> Integrity {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Integrity::new(&IntegrityConfig { keys, unsigned }, "idemgate:".to_owned())
    }

    fn signed(by: &Integrity) -> Vec<u8> {
        by.sign(&OPERATION, b"record".to_vec())
    }

    #[test]
    fn what_was_signed_is_read_and_nothing_else() {
        let ours = integrity(&[NEW], Unsigned::Refuse);
        let record = signed(&ours);
        assert_eq!(ours.verify(&OPERATION, &record), Ok(b"record".as_slice()));
        for length in 0..record.len() {
            assert_eq!(ours.verify(&OPERATION, &record[..length]), Err(CodecError::Damaged), "cut at {length}");
        }
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ours.verify(&OPERATION, &changed), Err(CodecError::Damaged), "bit {bit}");
        }
        assert_eq!(ours.verify(&OPERATION, b"record"), Err(CodecError::Damaged), "it is not signed");
    }

    #[test]
    fn a_record_is_good_for_its_operation_and_its_part_of_the_store_only() {
        let ours = integrity(&[NEW], Unsigned::Refuse);
        let other = OperationId::from_bytes([2; 32]);
        assert_eq!(ours.verify(&other, &signed(&ours)), Err(CodecError::Damaged));
        let config = IntegrityConfig { keys: vec![NEW.to_owned()], unsigned: Unsigned::Refuse };
        for scope in ["idemgate:shadow:", "idemgate", ""] {
            let elsewhere = Integrity::new(&config, scope.to_owned());
            assert_eq!(elsewhere.verify(&OPERATION, &signed(&ours)), Err(CodecError::Damaged), "{scope}");
        }
    }

    #[test]
    fn the_first_key_signs_and_all_are_accepted() {
        let [old, both, new] = [&[OLD][..], &[NEW, OLD], &[NEW]].map(|keys| integrity(keys, Unsigned::Refuse));
        assert!(both.verify(&OPERATION, &signed(&old)).is_ok());
        assert!(new.verify(&OPERATION, &signed(&both)).is_ok());
        assert_eq!(old.verify(&OPERATION, &signed(&both)), Err(CodecError::Damaged));
        assert_eq!(new.verify(&OPERATION, &signed(&old)), Err(CodecError::Damaged));
    }

    #[test]
    fn each_step_of_the_way_to_signed_records_reads_what_its_neighbours_write() {
        let none = integrity(&[], Unsigned::Refuse);
        let [write, accept, refuse] =
            [Unsigned::Write, Unsigned::Accept, Unsigned::Refuse].map(|word| integrity(&[NEW], word));
        assert_eq!(signed(&none), b"record");
        assert_eq!(signed(&write), b"record");
        for (reader, writer) in [
            (&none, &write),
            (&write, &none),
            (&write, &accept),
            (&accept, &write),
            (&accept, &refuse),
            (&refuse, &accept),
        ] {
            assert_eq!(reader.verify(&OPERATION, &signed(writer)), Ok(b"record".as_slice()), "{reader:?}, {writer:?}");
        }
        assert_eq!(refuse.verify(&OPERATION, &signed(&write)), Err(CodecError::Damaged));
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", integrity(&[NEW], Unsigned::Refuse)).contains("key of"));
    }
}
