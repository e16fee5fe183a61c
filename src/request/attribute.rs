//! Attributes of the host in one form, in whatever order their entries arrive.
//!
//! Envoy serialises an attribute without its type. A text is its bytes, a number its eight bytes, and a map a count,
//! the length of each key and value, and then each key and value, with a zero byte behind each. The value of an entry is
//! serialised in the same way. A list is a map with its elements as keys and with empty values. The order of a map's
//! entries changes from request to request.
//!
//! Only the order of entries changes here, so that two values have one form only if they are the same entries in
//! another order. What is not exactly such a map stays as it is: a text without zero bytes always does.

use std::borrow::Cow;

/// The same value with the entries of each map sorted by key, at every depth.
///
/// A map whose values are all empty cannot be told from a list, whose order counts: it stays as it is.
pub(super) fn canonical(value: &[u8]) -> Cow<'_, [u8]> {
    if Entries::read(value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    write(&mut out, value, DEEPEST);
    Cow::Owned(out)
}

/// Whether the value says nothing: an empty text, or a map or list without entries.
pub(super) fn is_empty(value: &[u8]) -> bool {
    matches!(value, [] | [0, 0, 0, 0])
}

/// Appends the canonical form of `value`, which is as long as `value` is.
fn write(out: &mut Vec<u8>, value: &[u8], levels: usize) {
    let entries = levels.checked_sub(1).and_then(|levels| Some((Entries::read(value)?, levels)));
    let Some((Entries(mut entries), levels)) = entries else {
        out.extend_from_slice(value);
        return;
    };
    let is_map = entries.iter().any(|(_, value)| !value.is_empty());
    if is_map {
        entries.sort_by_key(|(key, _)| *key);
    }
    write_number(out, entries.len());
    for (key, value) in &entries {
        write_number(out, key.len());
        write_number(out, value.len());
    }
    for (key, value) in &entries {
        if is_map {
            out.extend_from_slice(key);
        } else {
            write(out, key, levels);
        }
        out.push(0);
        write(out, value, levels);
        out.push(0);
    }
}

fn write_number(out: &mut Vec<u8>, number: usize) {
    // It was read from four bytes.
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// The keys and values of a map, or the elements of a list, in their order.
struct Entries<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Entries<'a> {
    /// Reads what is a serialised map, whole and with nothing behind it.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = number(bytes)?;
        let (lengths, mut contents) = rest.split_at_checked(count.checked_mul(LENGTHS)?)?;
        let mut entries = Vec::with_capacity(count);
        for lengths in lengths.chunks_exact(LENGTHS) {
            let (key_length, rest) = number(lengths)?;
            let (value_length, _) = number(rest)?;
            let (key, rest) = terminated(contents, key_length)?;
            let (value, rest) = terminated(rest, value_length)?;
            entries.push((key, value));
            contents = rest;
        }
        contents.is_empty().then_some(Self(entries))
    }
}

/// What the lengths of a key and its value take.
const LENGTHS: usize = 8;

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// The first `length` bytes and what comes behind the zero byte that ends them.
fn terminated(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((text, rest.strip_prefix(b"\0")?))
}

/// How many maps may be in one another; JSON in Envoy has a limit of 100. What is deeper stays as it is.
const DEEPEST: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An attribute as the host has it.
    #[derive(Clone, Debug, Eq, PartialEq)]
    enum Value {
        Text(String),
        List(Vec<Value>),
        /// In the order in which it is serialised.
        Map(Vec<(String, Value)>),
    }

    impl Value {
        fn serialised(&self) -> Vec<u8> {
            match self {
                Self::Text(text) => text.as_bytes().to_vec(),
                Self::List(elements) => {
                    pairs(&elements.iter().map(|element| (element.serialised(), Vec::new())).collect::<Vec<_>>())
                }
                Self::Map(entries) => {
                    let entries = entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.serialised()));
                    pairs(&entries.collect::<Vec<_>>())
                }
            }
        }

        /// The same value with every map in another order.
        fn reordered(&self) -> Self {
            match self {
                Self::Text(_) => self.clone(),
                Self::List(elements) => Self::List(elements.iter().map(Self::reordered).collect()),
                Self::Map(entries) => {
                    let entries = entries.iter().map(|(key, value)| (key.clone(), value.reordered()));
                    Self::Map(entries.rev().collect())
                }
            }
        }

        /// The same value with every map in the order of its keys.
        fn sorted(&self) -> Self {
            match self {
                Self::Text(_) => self.clone(),
                Self::List(elements) => Self::List(elements.iter().map(Self::sorted).collect()),
                Self::Map(entries) => {
                    let mut entries: Vec<_> =
                        entries.iter().map(|(key, value)| (key.clone(), value.sorted())).collect();
                    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
                    Self::Map(entries)
                }
            }
        }
    }

    fn pairs(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_number(&mut bytes, entries.len());
        for (key, value) in entries {
            write_number(&mut bytes, key.len());
            write_number(&mut bytes, value.len());
        }
        for (key, value) in entries {
            for part in [key, value] {
                bytes.extend_from_slice(part);
                bytes.push(0);
            }
        }
        bytes
    }

    /// Texts in maps are not empty, so that no map looks like a list.
    fn value() -> impl Strategy<Value = Value> {
        let text = || "[ab]{1,2}";
        text().prop_map(Value::Text).prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(text(), inner, 1..4)
                    .prop_map(|entries| entries.into_iter().collect())
                    .prop_map(Value::Map)
                    .prop_shuffle_entries(),
            ]
        })
    }

    trait Shuffled {
        fn prop_shuffle_entries(self) -> BoxedStrategy<Value>;
    }

    impl<S: Strategy<Value = Value> + 'static> Shuffled for S {
        fn prop_shuffle_entries(self) -> BoxedStrategy<Value> {
            self.prop_flat_map(|value| match value {
                Value::Map(entries) => Just(entries).prop_shuffle().prop_map(Value::Map).boxed(),
                other => Just(other).boxed(),
            })
            .boxed()
        }
    }

    #[test]
    fn a_map_is_the_same_in_any_order_at_every_depth() {
        let text = |text: &str| Value::Text(text.to_owned());
        let address = |turned: bool| {
            let mut entries = vec![("city".to_owned(), text("Bern")), ("zip".to_owned(), text("3011"))];
            if turned {
                entries.reverse();
            }
            Value::Map(entries)
        };
        let payload = |turned: bool| {
            let mut entries = vec![
                ("sub".to_owned(), text("ann")),
                ("aud".to_owned(), Value::List(vec![text("b"), text("a")])),
                ("addresses".to_owned(), Value::List(vec![address(turned), address(!turned)])),
            ];
            if turned {
                entries.swap(0, 2);
            }
            Value::Map(entries).serialised()
        };
        assert_ne!(payload(false), payload(true));
        assert_eq!(canonical(&payload(false)), canonical(&payload(true)));
    }

    #[test]
    fn the_order_of_a_list_counts() {
        let list = |elements: &[&str]| {
            Value::List(elements.iter().map(|element| Value::Text((*element).to_owned())).collect()).serialised()
        };
        assert_ne!(canonical(&list(&["tenant-1", "user-2"])), canonical(&list(&["user-2", "tenant-1"])));
    }

    #[test]
    fn a_map_or_a_list_without_entries_is_empty() {
        assert!(is_empty(&Value::Map(Vec::new()).serialised()) && is_empty(&Value::List(Vec::new()).serialised()));
        assert!(is_empty(b""));
        for value in [&b"0"[..], b"\0", b"\0\0\0\0\0", &0_u64.to_le_bytes(), &pairs(&[(Vec::new(), Vec::new())])] {
            assert!(!is_empty(value), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_text_stays_as_it_is() {
        for text in [&b""[..], b"ann", b"0", "\u{442}".as_bytes(), b"{\"sub\":\"ann\"}", &[b'a'; 4096]] {
            assert!(matches!(canonical(text), Cow::Borrowed(same) if same == text), "{}", text.escape_ascii());
        }
        // A number, a truth value, and what is no more than the beginning of a map.
        let map = pairs(&[(b"b".to_vec(), b"1".to_vec()), (b"a".to_vec(), b"2".to_vec())]);
        for bytes in [&42.5_f64.to_le_bytes()[..], &7_u64.to_le_bytes(), &[1], &map[..map.len() - 1], &map[1..]] {
            assert_eq!(canonical(bytes), bytes);
        }
        assert_eq!(canonical(&[map.as_slice(), b"\0"].concat()), [map.as_slice(), b"\0"].concat());
    }

    #[test]
    fn what_is_nested_too_deeply_stays_as_it_is() {
        let nested = |depth: usize| {
            let innermost = pairs(&[(b"b".to_vec(), b"1".to_vec()), (b"a".to_vec(), b"2".to_vec())]);
            (1..depth).fold(innermost, |inner, _| pairs(&[(b"k".to_vec(), inner)]))
        };
        assert_ne!(canonical(&nested(DEEPEST)), nested(DEEPEST));
        assert_eq!(canonical(&nested(DEEPEST + 1)), nested(DEEPEST + 1));
        // Far deeper than the stack allows.
        assert_eq!(canonical(&nested(2_000)).len(), nested(2_000).len());
    }

    #[test]
    fn a_count_that_nothing_bears_out_takes_no_memory() {
        assert_eq!(canonical(&[0xff; 64]), [0xff; 64].as_slice());
        assert_eq!(canonical(b"\xff\xff\xff\x1f\0\0\0\0"), b"\xff\xff\xff\x1f\0\0\0\0".as_slice());
    }

    proptest! {
        #[test]
        fn values_have_one_form_exactly_if_they_are_equal_but_for_the_order_of_maps(
            left in value(),
            right in value(),
        ) {
            let (one, other) = (left.serialised(), right.serialised());
            prop_assert_eq!(left.sorted() == right.sorted(), canonical(&one) == canonical(&other));
        }

        #[test]
        fn another_order_of_maps_is_the_same_value(value in value()) {
            let (one, other) = (value.serialised(), value.reordered().serialised());
            prop_assert_eq!(canonical(&one), canonical(&other));
        }

        #[test]
        fn any_bytes_have_a_form_that_is_its_own_form(
            bytes in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..80),
        ) {
            let form = canonical(&bytes).into_owned();
            prop_assert_eq!(canonical(&form), form.as_slice());
            let (mut before, mut after) = (bytes, form);
            before.sort_unstable();
            after.sort_unstable();
            prop_assert_eq!(before, after, "only the order changes");
        }
    }
}
