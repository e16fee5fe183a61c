//! The name of an operation.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    caller::Caller,
    digest::{Digest, Short},
    fingerprint::Fingerprint,
    key::Key,
    target::Target,
};
use crate::config::Resource;

/// What may run at most once per retention period: a hash of the caller, the configured parts of the
/// target, and the key.
///
/// Stores and logs see this instead of the key and the caller.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct OperationId(#[serde(with = "super::fixed_bytes")] [u8; 32]);

impl OperationId {
    /// The operation that `caller` names with `key` at `target`.
    ///
    /// A part that `resource` leaves out is hashed as absent, so that a policy with fewer parts never
    /// meets an operation of a policy with more.
    #[must_use]
    pub fn new(caller: &Caller, resource: &Resource, target: &Target<'_>, key: &Key) -> Self {
        Self::with_key(without_key(caller, resource, target), key)
    }

    fn with_key(mut digest: Digest, key: &Key) -> Self {
        digest.part(key.as_bytes());
        Self(digest.blake3())
    }

    /// The operation whose hash a store kept.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits of the hash. Without the formatting of numbers, which takes 18,000 instructions for the key of
    /// a record.
    pub(crate) fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0) {
            *pair = [byte >> 4, byte & 15].map(|half| if half < 10 { b'0' + half } else { b'a' - 10 + half });
        }
        digits
    }

    /// The first twelve hexadecimal digits, for logs.
    #[must_use]
    pub fn short(&self) -> impl fmt::Display {
        Short(&self.0)
    }
}

/// What `caller` names at `target`, but for the key.
fn without_key(caller: &Caller, resource: &Resource, target: &Target<'_>) -> Digest {
    let mut digest = Digest::new("operation 3");
    digest.part(caller.as_bytes());
    digest.optional(resource.authority.then(|| target.normalized_authority()).as_deref());
    digest.optional(resource.method.then(|| target.normalized_method()).as_deref());
    digest.optional(resource.path.then(|| target.normalized_path()).as_deref());
    digest
}

/// An operation whose key is known only once the body is.
#[derive(Clone, Debug)]
pub struct UnnamedOperation {
    by_key: Digest,
    by_content: Digest,
}

impl UnnamedOperation {
    /// What `caller` asks for at `target`.
    #[must_use]
    pub fn new(caller: &Caller, resource: &Resource, target: &Target<'_>) -> Self {
        // Of a domain of its own, so that no key meets it; all of the target counts, whatever the resource is.
        let mut by_content = Digest::new("operation without a key 1");
        by_content.part(caller.as_bytes());
        by_content.part(&target.normalized_authority());
        by_content.part(&target.normalized_method());
        by_content.part(&target.normalized_path());
        by_content.optional(target.query);
        Self { by_key: without_key(caller, resource, target), by_content }
    }

    /// The operation that the caller names with `key`.
    #[must_use]
    pub fn with_key(self, key: &Key) -> OperationId {
        OperationId::with_key(self.by_key, key)
    }

    /// The operation that a request for this is, without a key: equal ones are one.
    #[must_use]
    pub fn with_content(self, fingerprint: &Fingerprint) -> OperationId {
        let mut digest = self.by_content;
        digest.part(fingerprint.as_bytes());
        OperationId(digest.blake3())
    }
}

/// All 64 hexadecimal digits.
impl fmt::Display for OperationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
    }
}

/// The first hexadecimal digits of an operation's hash, as a log line names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OperationPrefix {
    /// The digits, and zeros behind them.
    hash: [u8; 32],
    digits: usize,
}

impl OperationPrefix {
    /// The fewest digits that are taken for a name: what logs show.
    pub const FEWEST_DIGITS: usize = 8;

    /// Reads from [`FEWEST_DIGITS`](Self::FEWEST_DIGITS) to 64 hexadecimal digits, in any case, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if !(Self::FEWEST_DIGITS..=64).contains(&text.len()) {
            return None;
        }
        for (index, digit) in text.chars().enumerate() {
            let value = u8::try_from(digit.to_digit(16)?).ok()?;
            *hash.get_mut(index / 2)? |= if index % 2 == 0 { value << 4 } else { value };
        }
        Some(Self { hash, digits: text.len() })
    }

    /// The operation, if all digits of its hash are there.
    #[must_use]
    pub fn whole(&self) -> Option<OperationId> {
        (self.digits == 64).then_some(OperationId(self.hash))
    }

    /// Whether the hash of `operation` begins with these digits.
    #[must_use]
    pub fn matches(&self, operation: &OperationId) -> bool {
        let (whole, has_half) = (self.digits / 2, self.digits % 2 == 1);
        let half = |hash: &[u8; 32]| hash.get(whole).map(|byte| byte >> 4);
        self.hash.get(..whole) == operation.0.get(..whole) && (!has_half || half(&self.hash) == half(&operation.0))
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OperationId({})", self.short())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Resource = Resource { authority: true, method: true, path: true };

    const TARGET: Target<'static> =
        Target { method: b"POST", authority: b"api.example", path: b"/orders", query: Some(b"a=1") };

    fn caller(byte: u8) -> Caller {
        Caller::from_bytes([byte; 32])
    }

    fn id(resource: Resource, target: Target<'_>) -> OperationId {
        OperationId::new(&caller(1), &resource, &target, &Key::from_text("key"))
    }

    #[test]
    fn each_part_separates_operations() {
        let operation = id(WHOLE, TARGET);

        assert_ne!(operation, id(WHOLE, Target { authority: b"api.example:8443", ..TARGET }));
        assert_ne!(operation, id(WHOLE, Target { method: b"PATCH", ..TARGET }));
        assert_ne!(operation, id(WHOLE, Target { path: b"/orders/", ..TARGET }));
        assert_ne!(operation, OperationId::new(&caller(2), &WHOLE, &TARGET, &Key::from_text("key")));
        assert_ne!(operation, OperationId::new(&caller(1), &WHOLE, &TARGET, &Key::from_text("Key")));
    }

    #[test]
    fn a_key_that_is_known_late_names_the_same_operation() {
        for resource in [WHOLE, Resource { authority: false, method: false, path: false }] {
            let late = UnnamedOperation::new(&caller(1), &resource, &TARGET).with_key(&Key::from_text("key"));
            assert_eq!(late, id(resource, TARGET));
        }
    }

    #[test]
    fn without_a_key_all_that_is_asked_for_tells_operations_apart() {
        let of = |resource, caller: &Caller, target, fingerprint| {
            UnnamedOperation::new(caller, &resource, &target).with_content(&Fingerprint::from_bytes([fingerprint; 32]))
        };
        let operation = of(WHOLE, &caller(1), TARGET, 1);
        let narrow = Resource { authority: false, method: false, path: false };
        assert_eq!(operation, of(narrow, &caller(1), Target { method: b"post", ..TARGET }, 1));
        for other in [
            of(WHOLE, &caller(2), TARGET, 1),
            of(WHOLE, &caller(1), TARGET, 2),
            of(narrow, &caller(1), Target { path: b"/other", ..TARGET }, 1),
            of(narrow, &caller(1), Target { authority: b"other", ..TARGET }, 1),
            of(narrow, &caller(1), Target { method: b"PATCH", ..TARGET }, 1),
            of(narrow, &caller(1), Target { query: None, ..TARGET }, 1),
            of(narrow, &caller(1), Target { query: Some(b""), ..TARGET }, 1),
            // No key is made of the same bytes.
            id(WHOLE, TARGET),
        ] {
            assert_ne!(operation, other);
        }
    }

    #[test]
    fn the_query_does_not_separate_operations() {
        assert_eq!(id(WHOLE, TARGET), id(WHOLE, Target { query: None, ..TARGET }));
    }

    #[test]
    fn the_authority_is_case_insensitive() {
        assert_eq!(id(WHOLE, TARGET), id(WHOLE, Target { authority: b"API.Example", ..TARGET }));
    }

    #[test]
    fn methods_have_no_case_and_paths_no_needless_escapes() {
        assert_eq!(id(WHOLE, TARGET), id(WHOLE, Target { method: b"post", ..TARGET }));
        assert_eq!(id(WHOLE, TARGET), id(WHOLE, Target { path: b"/%6frders", ..TARGET }));
        assert_eq!(
            id(WHOLE, Target { path: b"/caf%c3%a9", ..TARGET }),
            id(WHOLE, Target { path: b"/caf%C3%A9", ..TARGET })
        );
        // To a service these may be others.
        for path in [b"/orders/".as_slice(), b"/orders;a=1", b"/Orders", b"/%2Forders", b"//orders", b"/./orders"] {
            assert_ne!(id(WHOLE, TARGET), id(WHOLE, Target { path, ..TARGET }), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn a_part_that_the_resource_leaves_out_does_not_count() {
        let without_path = Resource { path: false, ..WHOLE };
        assert_eq!(id(without_path, TARGET), id(without_path, Target { path: b"/other", ..TARGET }));
    }

    #[test]
    fn a_part_left_out_is_not_an_empty_one() {
        let without_path = Resource { path: false, ..WHOLE };
        let empty = Target { path: b"", ..TARGET };
        assert_ne!(id(WHOLE, empty), id(without_path, empty));
    }

    #[test]
    fn bytes_do_not_move_between_parts() {
        assert_ne!(
            id(WHOLE, Target { method: b"POST/", path: b"orders", ..TARGET }),
            id(WHOLE, Target { method: b"POST", path: b"/orders", ..TARGET }),
        );
        let only_method = Resource { authority: false, method: true, path: false };
        let only_path = Resource { authority: false, method: false, path: true };
        let same = Target { method: b"same", path: b"same", ..TARGET };
        assert_ne!(id(only_method, same), id(only_path, same));
    }

    #[test]
    fn the_encoding_is_the_one_that_stores_hold() {
        // A new release must find the operations of the one before it.
        let hex: String = id(WHOLE, TARGET).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b77684a068ccbd4b7aa1950e2b11db822891f3c70f926514a7c8bca4d4bff3d8");
    }

    #[test]
    fn a_prefix_is_eight_digits_or_more_and_matches_what_begins_with_them() {
        let operation = id(WHOLE, TARGET);
        let hex = operation.to_string();
        for digits in 8..=64 {
            let prefix = OperationPrefix::parse(hex.get(..digits).unwrap()).unwrap();
            assert!(prefix.matches(&operation), "{digits} digits");
            assert_eq!(prefix.whole(), (digits == 64).then_some(operation));
            // The last digit counts, and none behind it does.
            for index in 0..64 {
                let mut other = *operation.as_bytes();
                other[index / 2] ^= if index % 2 == 0 { 0x10 } else { 0x01 };
                assert_eq!(prefix.matches(&OperationId::from_bytes(other)), index >= digits, "{digits}, {index}");
            }
        }
        assert_eq!(OperationPrefix::parse(&hex.to_uppercase()), OperationPrefix::parse(&hex));
        for no_hash in ["", "0123456", "0123456g", "0x123456", "+1234567", "\u{661}\u{661}\u{661}\u{661}", &(hex + "0")]
        {
            assert_eq!(OperationPrefix::parse(no_hash), None, "{no_hash:?}");
        }
    }

    #[test]
    fn debug_shows_twelve_digits_only() {
        assert_eq!(format!("{:?}", OperationId::from_bytes([0xab; 32])), "OperationId(abababababab)");
    }

    #[test]
    fn bytes_survive_the_round_trip() {
        let operation = id(WHOLE, TARGET);
        assert_eq!(OperationId::from_bytes(*operation.as_bytes()), operation);
    }

    type Parts = (u8, (bool, bool, bool), Vec<u8>, Vec<u8>, Vec<u8>, String);

    /// Tuples whose parts are so short and alike that a split in the wrong place would show.
    fn parts() -> impl Strategy<Value = Parts> {
        let text = || prop::collection::vec(prop::sample::select(vec![0, 1, b'a']), 0..3);
        (0_u8..2, any::<(bool, bool, bool)>(), text(), text(), text(), "[ab]{1,2}")
    }

    /// The tuple with what its own resource leaves out blanked.
    fn counted((caller, resource, authority, method, path, key): Parts) -> impl PartialEq {
        let authority = resource.0.then_some(authority);
        let method = resource.1.then_some(method);
        let path = resource.2.then_some(path);
        (caller, authority, method, path, key)
    }

    fn of((caller_byte, resource, authority, method, path, key): &Parts) -> OperationId {
        let resource = Resource { authority: resource.0, method: resource.1, path: resource.2 };
        let target = Target { method, authority, path, query: None };
        OperationId::new(&caller(*caller_byte), &resource, &target, &Key::from_text(key))
    }

    proptest! {
        #[test]
        fn operations_are_equal_exactly_if_all_that_counts_is(left in parts(), right in parts()) {
            let same_operation = of(&left) == of(&right);
            prop_assert_eq!(same_operation, counted(left) == counted(right));
        }
    }
}
